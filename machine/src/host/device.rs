//! Devices of the host machine: none but entropy. The types exist so that drivers compile.

use crate::device::SerialPort;
use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;

/// A window of I/O ports; the host machine has none.
#[derive(Debug)]
pub struct PortWindow(Infallible);

impl PortWindow {
    /// Reads the byte at `offset`.
    pub fn read_u8(&self, _offset: u16) -> u8 {
        match self.0 {}
    }

    /// Writes the byte at `offset`.
    pub fn write_u8(&self, _offset: u16, _value: u8) {
        match self.0 {}
    }
}

/// An interrupt line; the host machine has none.
#[derive(Debug)]
pub struct InterruptLine(Infallible);

impl InterruptLine {
    /// Calls `handler` at each interrupt from now on.
    pub fn connect(&self, _handler: Arc<dyn Fn() + Send + Sync>) {
        match self.0 {}
    }
}

/// The serial ports: none.
pub fn serial_ports() -> Vec<SerialPort> {
    Vec::new()
}

/// 32 bytes nobody can guess.
pub fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed)).is_err() {
        // Without /dev there is still the randomness of the process's hash keys.
        use std::hash::{BuildHasher, RandomState};
        seed.chunks_mut(8).for_each(|part| part.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes()));
    }
    seed
}

/// The kernel's options: none.
pub fn command_line() -> String {
    String::new()
}

/// The archive with the first files.
#[derive(Debug)]
pub struct InitramfsImage(Infallible);

impl InitramfsImage {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self.0 {}
    }

    /// Gives its frames back.
    pub fn release(self) {
        match self.0 {}
    }
}

/// The initramfs: none.
pub fn initramfs() -> Option<InitramfsImage> {
    None
}
