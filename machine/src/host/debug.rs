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

/// Sets what describes the thread of a CPU that panicked; the first call counts.
pub fn describe_context(describe: crate::debug::Describe) {
    let _ = super::machine::current().describe.set(describe);
}
