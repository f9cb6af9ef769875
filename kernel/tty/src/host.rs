//! The terminal of a machine that is a process, carried by the terminal of the host it was started from: `hvc0`, as the
//! consoles of hypervisors are called on Linux.

use alloc::sync::{Arc, Weak};

use abi::terminal::{Termios, WindowSize};
use drivers::{ConsoleUser, HostConsole, HostTerminal};
use machine::device;
use vfs::DeviceNumber;

use crate::{Alarms, JobControl, Line, Terminal};

/// The number Linux gives `hvc0`.
const NUMBER: DeviceNumber = DeviceNumber { major: 229, minor: 0 };

/// Makes `hvc0` of the host's terminal and begins to receive. The terminal's interrupt is to be connected to
/// [`HostConsole::interrupt`] beforehand.
pub fn host_terminal<T: HostTerminal + 'static>(
    console: &Arc<HostConsole<T>>,
    job_control: Arc<dyn JobControl>,
    alarms: Arc<dyn Alarms>,
) -> Arc<Terminal> {
    let terminal = Terminal::new(NUMBER, "hvc0", Termios::default(), console.clone(), job_control, alarms);
    let user: Weak<Terminal> = Arc::downgrade(&terminal);
    console.attach(user);
    terminal
}

/// Speed, format and breaks mean nothing here.
impl<T: HostTerminal> Line for HostConsole<T> {
    fn output_ready(&self) {
        self.start();
    }

    fn output_ready_quietly(&self) {
        self.start_quietly();
    }

    fn input_room(&self) {
        self.resume();
    }
}

impl ConsoleUser for Terminal {
    fn resize(&self, size: device::WindowSize) {
        let device::WindowSize { rows, columns, width, height } = size;
        self.set_window_size(WindowSize { rows, columns, pixels_wide: width, pixels_high: height });
    }

    fn hang_up(&self) {
        Terminal::hang_up(self);
    }
}
