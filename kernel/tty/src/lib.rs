//! Terminals: the line discipline, job control, and the devices that lead to them. See termios(3), ioctl_tty(2), tty(4).
//!
//! ```text
//!   read, write, ioctl, poll            keys and echo
//!        |                                   |
//!   TerminalFile  ----->  Terminal  <----->  Line: a UART
//!    (job control)      (Discipline, window,      (or a pseudoterminal's master)
//!                        session, wait queues)
//! ```
//!
//! | file | what it holds |
//! | --- | --- |
//! | `discipline` | [`Discipline`]: Linux's `N_TTY` as a pure state machine |
//! | `terminal` | [`Terminal`]: discipline, [`Line`], window and session under one lock |
//! | `job_control` | [`JobControl`]: what a terminal asks of processes; the process room implements it |
//! | `file`, `ioctl` | an open terminal: who may read and write, ioctl_tty(2) |
//! | `device` | `/dev/ttyS0`, `/dev/console`, `/dev/tty` |
//! | `serial` | terminals on serial lines |
//! | `host` | the terminal a machine was started from that is a process |
//! | `pty`, `devpts` | terminals whose line is a file: `/dev/ptmx` and `/dev/pts` |
//!
//! **Who calls.** vfs calls the files and devices; the process room calls [`Terminal::leave_session`] when the leader of a
//! session exits; drivers call in from interrupts. Interrupts are only taken where the kernel holds nothing, and the
//! discipline neither sleeps nor allocates: so it runs right in the handler, and keys send their signals though
//! nobody reads.
//!
//! **Who synchronises.** Each terminal has one spin lock; see [`Terminal`]. Lines, processes and wakers are called
//! without it.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod device;
mod devpts;
mod discipline;
mod file;
mod host;
mod ioctl;
mod job_control;
mod pty;
mod serial;
mod terminal;
#[cfg(test)]
mod tests;

pub use device::{ConsoleDevice, ControllingTerminalDevice, TerminalDevice};
pub use devpts::{DevPts, DevPtsType};
pub use discipline::{Availability, Discipline, Effects, Front};
pub use drivers::Received;
pub use file::TerminalFile;
pub use host::host_terminal;
pub use job_control::{JobControl, Member, TerminalSignal};
pub use pty::{PTMX, Pseudoterminals, register_slaves};
pub use serial::serial_terminal;
pub use terminal::{Alarms, Line, Terminal};
