//! Devices as safe windows: a driver is handed exactly the ports and the interrupt line of its device.
//!
//! What was found is asked for once, at boot: [`serial_ports`] gives each port away to its driver.

use crate::platform;
use alloc::string::String;
use alloc::vec::Vec;

pub use folders::SharedFolder;
pub use platform::device::{InitramfsImage, InterruptLine, PortWindow};
pub use setup::Program;
pub use streams::{ByteStream, Readiness, StandardStream, StandardStreams, StreamStop, WindowSize};

/// A 16550-like serial port.
pub struct SerialPort {
    /// Its eight registers.
    pub ports: PortWindow,
    /// Its interrupt.
    pub line: InterruptLine,
}

/// The serial ports that answer, the console's first. Empty on a second call: each has one driver.
pub fn serial_ports() -> Vec<SerialPort> {
    platform::device::serial_ports()
}

/// The standard streams, where the machine was given some.
pub fn standard_streams() -> StandardStreams {
    platform::device::standard_streams()
}

/// The terminal the machine is used from, where that is no serial port.
pub fn terminal() -> Option<ByteStream> {
    platform::device::terminal()
}

/// What the machine was started to run, if it was started for one program.
pub fn program() -> Option<Program> {
    platform::device::program()
}

/// Folders of the host to be shown to the guest, in the order they were given.
pub fn folders() -> Vec<SharedFolder> {
    platform::device::folders()
}

/// 32 bytes nobody can foretell, as far as the machine has such: different on every call.
pub fn random_seed() -> [u8; 32] {
    platform::device::random_seed()
}

/// The kernel command line. Bytes that are not UTF-8 are replaced.
pub fn command_line() -> String {
    platform::device::command_line()
}

/// The initial file archive, if the machine was started with one. None on a second call.
pub fn initramfs() -> Option<InitramfsImage> {
    platform::device::initramfs()
}
