//! Words of a kernel in trouble: to standard error, where the target has one, else to nobody.

use core::fmt;

/// Prints at once.
pub fn emergency_print(text: fmt::Arguments<'_>) {
    #[cfg(not(target_os = "none"))]
    std::eprint!("{text}");
    #[cfg(target_os = "none")]
    let _ = text;
}

/// Calls are the target's to tell: a panic does.
pub fn backtrace(_out: &mut dyn fmt::Write) {}

/// No page is printed that would show it.
pub fn describe_context<Describe>(_describe: Describe) {}
