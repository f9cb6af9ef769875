//! Terminals: the line discipline, job control and pseudoterminals. See termios(3), ioctl_tty(2), tty(4), pty(7).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod job_control;
mod terminal;

pub use job_control::{JobControl, Member, ProcessId, TerminalSignal};
pub use terminal::{DeviceNumber, Line, Terminal};
