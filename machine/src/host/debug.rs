//! Emergency output goes to standard error.

use std::fmt;

/// Prints at once, whatever state the kernel is in.
pub fn emergency_print(arguments: fmt::Arguments<'_>) {
    eprint!("{arguments}");
}

/// Prints the call stack.
pub fn backtrace() {
    eprintln!("{}", std::backtrace::Backtrace::force_capture());
}
