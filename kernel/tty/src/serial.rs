//! Terminals on serial lines: the terminal uses the driver, the driver feeds the terminal.

use alloc::sync::{Arc, Weak};

use abi::raw::general as raw;
use abi::terminal::Termios;
use drivers::{LineSettings, Parity, Received, Registers, SerialUser, Uart};
use vfs::DeviceNumber;

use crate::{Alarms, JobControl, Line, Terminal};

/// The major number of serial lines; `ttyS0` is minor 64.
const SERIAL_MAJOR: u32 = 4;
const FIRST_SERIAL_MINOR: u32 = 64;

/// Makes `ttyS{index}` of a serial port and begins to receive. The port's interrupt is to be connected to
/// [`Uart::interrupt`] beforehand.
#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a short name")]
pub fn serial_terminal<R: Registers + 'static>(
    index: u32,
    uart: &Arc<Uart<R>>,
    job_control: Arc<dyn JobControl>,
    alarms: Arc<dyn Alarms>,
) -> Arc<Terminal> {
    let number = DeviceNumber { major: SERIAL_MAJOR, minor: FIRST_SERIAL_MINOR.saturating_add(index) };
    let name = alloc::format!("ttyS{index}");
    let termios = settings_at_boot();
    let terminal = Terminal::new(number, &name, termios, uart.clone(), job_control, alarms);
    uart.configure(line_settings(&termios));
    let user: Weak<Terminal> = Arc::downgrade(&terminal);
    uart.attach(user);
    terminal
}

impl<R: Registers> Line for Uart<R> {
    fn output_ready(&self) {
        self.start();
    }

    fn output_ready_quietly(&self) {
        self.start_quietly();
    }

    fn input_room(&self) {
        self.resume();
    }

    fn configure(&self, termios: &Termios) {
        Uart::configure(self, line_settings(termios));
    }

    fn set_break(&self, on: bool) {
        Uart::set_break(self, on);
    }
}

impl SerialUser for Terminal {
    fn room(&self) -> usize {
        self.input_room()
    }

    fn receive(&self, received: &[Received]) {
        Terminal::receive(self, received);
    }

    fn fetch(&self, buffer: &mut [u8]) -> usize {
        self.fetch_output(buffer)
    }

    fn fetched(&self) {
        self.output_fetched();
    }
}

/// Linux's settings of a serial line nobody has said anything about: 9600 bits a second, and no modem to listen to.
fn settings_at_boot() -> Termios {
    let termios = Termios::default();
    Termios { c_cflag: (termios.c_cflag & !raw::CBAUD) | raw::B9600 | raw::CLOCAL, ..termios }
}

/// What `c_cflag` says about the line. A speed without a name leaves it as it is.
fn line_settings(termios: &Termios) -> LineSettings {
    let flags = termios.c_cflag;
    LineSettings {
        speed: termios.named_speed().unwrap_or_default(),
        data_bits: match flags & raw::CSIZE {
            raw::CS5 => 5,
            raw::CS6 => 6,
            raw::CS7 => 7,
            _ => 8,
        },
        two_stop_bits: flags & raw::CSTOPB != 0,
        parity: match (flags & raw::PARENB != 0, flags & raw::PARODD != 0) {
            (false, _) => Parity::None,
            (true, true) => Parity::Odd,
            (true, false) => Parity::Even,
        },
    }
}
