//! For a kernel in trouble: a console that needs nothing, and where the code is.

use crate::platform;
use alloc::sync::Arc;
use core::fmt;

/// Writes a line about the thread that runs on this CPU.
pub type Describe = Arc<dyn Fn(&mut dyn fmt::Write) + Send + Sync>;

/// Prints at once, waiting for the device: for a kernel in trouble, and the lines before there is a console driver.
pub fn emergency_print(text: fmt::Arguments<'_>) {
    platform::debug::emergency_print(text);
}

/// Writes the calls that lead to this one, innermost first, a line each, with symbols where the image has them.
pub fn backtrace(out: &mut dyn fmt::Write) {
    platform::debug::backtrace(out);
}

/// Sets what describes the current thread on the page a kernel fault prints. It must not lock or allocate. The first
/// call counts; later ones are ignored.
pub fn describe_context(describe: Describe) {
    platform::debug::describe_context(describe);
}
