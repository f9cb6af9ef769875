//! Devices as safe windows: a driver is handed exactly the ports and the interrupt line of its device.
//!
//! What was found is asked for once, at boot: [`serial_ports`] gives each port away to its driver.

use crate::platform;
use alloc::string::String;
use alloc::vec::Vec;
use bitflags::bitflags;

pub use crate::folder::SharedFolder;
pub use platform::device::{ByteStream, InitramfsImage, InterruptLine, PortWindow};

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

/// Why a [`ByteStream`] moved no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStop {
    /// There is nothing yet, or no room; the stream's handler is called when that changes.
    WouldBlock,
    /// Nobody reads what is written any more.
    Closed,
    /// It failed, with this number of errno(3).
    Failed(i32),
}

bitflags! {
    /// What could be done with a [`ByteStream`] at once.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Readiness: u8 {
        /// There is something to read.
        const INPUT = 1 << 0;
        /// Nobody writes to the other end any more.
        const INPUT_ENDED = 1 << 1;
        /// There is room to write.
        const OUTPUT = 1 << 2;
        /// Nobody reads at the other end any more.
        const OUTPUT_CLOSED = 1 << 3;
    }
}

/// The size of a terminal's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Pixels from left to right, if known.
    pub width: u16,
    /// Pixels from top to bottom, if known.
    pub height: u16,
}

/// What one of the first program's standard descriptors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandardStream {
    /// Nothing is there.
    Nothing,
    /// The [`terminal`].
    Terminal,
    /// One of [`StandardStreams::streams`], without a terminal in between.
    Stream(usize),
}

/// What the first program's descriptors 0, 1 and 2 are.
pub struct StandardStreams {
    /// The streams that are no terminals, each once.
    pub streams: Vec<ByteStream>,
    /// Which descriptor is which.
    pub descriptors: [StandardStream; 3],
}

/// The standard streams, where the machine was given some.
pub fn standard_streams() -> StandardStreams {
    platform::device::standard_streams()
}

/// The terminal the machine is used from, where that is no serial port.
pub fn terminal() -> Option<ByteStream> {
    platform::device::terminal()
}

/// A program to be run on its own, instead of an init.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Where it is, for the guest.
    pub path: Vec<u8>,
    /// Its arguments, beginning with its name.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment, `NAME=VALUE`.
    pub environment: Vec<Vec<u8>>,
    /// Where it is started; empty for `/`.
    pub working_directory: Vec<u8>,
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
