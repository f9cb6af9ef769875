//! Devices as safe windows: a driver is handed exactly the ports and the interrupt line of its device.
//!
//! What was found is asked for once, at boot: [`serial_ports`] gives each port away to its driver.

use crate::platform;
use alloc::string::String;
use alloc::vec::Vec;

pub use platform::device::{InitramfsImage, InterruptLine, PortWindow};

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
