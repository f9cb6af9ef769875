//! Devices: none. What is random is the same in each run.

use crate::device::{ByteStream, Program, SerialPort, StandardStream, StandardStreams};
use crate::folder::SharedFolder;
use alloc::vec::Vec;
pub use simulator::{InitramfsImage, InterruptLine, PortWindow, command_line, initramfs, random_seed};

pub fn serial_ports() -> Vec<SerialPort> {
    Vec::new()
}

pub fn standard_streams() -> StandardStreams {
    StandardStreams { streams: Vec::new(), descriptors: [StandardStream::Nothing; 3] }
}

pub fn terminal() -> Option<ByteStream> {
    None
}

pub fn program() -> Option<Program> {
    None
}

pub fn folders() -> Vec<SharedFolder> {
    Vec::new()
}
