//! Emergency output goes to standard error.

use std::fmt;

/// Prints at once, whatever state the kernel is in.
pub fn emergency_print(arguments: fmt::Arguments<'_>) {
    eprint!("{arguments}");
}

/// Writes the call stack.
pub fn backtrace(out: &mut dyn fmt::Write) {
    let _ = write!(out, "{}", std::backtrace::Backtrace::force_capture());
}

/// A test that panics says itself where: nothing to describe.
pub fn describe_context(_describe: crate::debug::Describe) {}
