//! A terminal: line discipline, line driver, window and session in one object.

use alloc::sync::Arc;

use abi::terminal::WindowSize;

use crate::{JobControl, ProcessId};

/// Major and minor number of a device file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// The kind: 4 for serial lines and virtual consoles, 5 for `/dev/tty` and `/dev/console`, 136 for `/dev/pts`.
    pub major: u32,
    /// Which one of its kind: `ttyS0` is 64.
    pub minor: u32,
}

/// What carries a terminal's bytes: a serial line, or the master side of a pseudoterminal. Called with no lock of the
/// terminal held.
pub trait Line: Send + Sync {
    /// There is output in the terminal; fetch it with [`Terminal::fetch_output`] as the line can take it.
    fn output_ready(&self);
    /// There is room for input again after [`Terminal::receive`] had taken less than it was given.
    fn input_room(&self);
}

/// One terminal: `/dev/ttyS0`, `/dev/console` or a `/dev/pts/N`.
pub struct Terminal {
    number: DeviceNumber,
    job_control: Arc<dyn JobControl>,
    line: Arc<dyn Line>,
}

impl Terminal {
    /// A terminal with Linux's default settings, an unknown window size and no session.
    pub fn new(number: DeviceNumber, line: Arc<dyn Line>, job_control: Arc<dyn JobControl>) -> Arc<Terminal> {
        Arc::new(Terminal { number, job_control, line })
    }
}
