//! Emergency output goes to standard error.

use rustix::termios::{OutputModes, tcgetattr};
use std::fmt;
use std::io::{self, Write};

/// Prints at once, whatever state the kernel is in. Nobody may be there to read it.
pub fn emergency_print(arguments: fmt::Arguments<'_>) {
    let mut text = arguments.to_string();
    // On a terminal in raw mode a line would begin where the last one ended.
    let is_raw = |settings: rustix::termios::Termios| !settings.output_modes.contains(OutputModes::OPOST);
    // Miri knows no terminals.
    if !cfg!(miri) && tcgetattr(io::stderr()).is_ok_and(is_raw) {
        text = text.replace('\n', "\r\n");
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes the call stack.
pub fn backtrace(out: &mut dyn fmt::Write) {
    let text = super::heap::apart(|| std::backtrace::Backtrace::force_capture().to_string());
    let _ = out.write_str(&text);
}

/// Sets what describes the thread of a CPU that panicked; the first call counts.
pub fn describe_context(describe: crate::debug::Describe) {
    let _ = super::machine::current().describe.set(describe);
}
