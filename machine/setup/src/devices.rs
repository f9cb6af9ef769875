//! Devices of a machine that is a process: what it was given when it was started, and entropy.
//!
//! Whoever starts the machine hands over open descriptors ([`Devices`]); nothing is opened by name later. When the machine is
//! off, [`Installed::finish`] delivers what was written and closes them.

use crate::Program;
use folders::{Lent, SharedFolder};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use streams::host::{Console, Streams};
use streams::{ByteStream, StandardStreams};

/// What a machine is given: nothing by default.
#[derive(Default)]
pub struct Devices {
    /// The kernel's options.
    pub command_line: String,
    /// The first files: a cpio archive, plain or compressed by gzip.
    pub initramfs: Option<Vec<u8>>,
    /// The first program, instead of an init.
    pub program: Option<Program>,
    /// The standard streams, and the terminal.
    pub console: Console,
    /// Folders to be shown to the guest.
    pub folders: Vec<SharedFolder>,
}

/// The devices of a machine.
pub struct Installed {
    command_line: String,
    program: Option<Program>,
    initramfs: Mutex<Option<Vec<u8>>>,
    streams: Streams,
    folders: Vec<SharedFolder>,
}

impl Installed {
    /// What was given, and what it needs of the machine.
    pub fn new(devices: Devices, lent: Lent) -> Installed {
        Installed {
            command_line: devices.command_line,
            program: devices.program,
            initramfs: Mutex::new(devices.initramfs),
            streams: Streams::new(devices.console, lent.connect),
            folders: devices.folders.into_iter().inspect(|folder| folder.lend(lent)).collect(),
        }
    }

    /// Whether the guest is shown folders of the host.
    pub fn has_folders(&self) -> bool {
        !self.folders.is_empty()
    }

    /// The kernel's options.
    pub fn command_line(&self) -> String {
        self.command_line.clone()
    }

    /// What the machine was started to run.
    pub fn program(&self) -> Option<Program> {
        self.program.clone()
    }

    /// Folders of the host shown to the guest.
    pub fn folders(&self) -> Vec<SharedFolder> {
        self.folders.clone()
    }

    /// The standard streams.
    pub fn standard_streams(&self) -> StandardStreams {
        self.streams.standard()
    }

    /// The terminal.
    pub fn terminal(&self) -> Option<ByteStream> {
        self.streams.terminal()
    }

    /// The archive with the first files, once.
    pub fn initramfs(&self) -> Option<InitramfsImage> {
        self.initramfs.lock().unwrap_or_else(PoisonError::into_inner).take().map(InitramfsImage)
    }

    /// The machine is off: delivers what was written, for as long as somebody reads it, and lets go of the host's files.
    pub fn finish(&self) {
        self.streams.finish();
        self.folders.iter().for_each(SharedFolder::end);
    }
}

/// The archive with the first files.
#[derive(Debug)]
pub struct InitramfsImage(Vec<u8>);

impl InitramfsImage {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives its memory back.
    pub fn release(self) {}
}

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

/// 32 bytes nobody can guess.
pub fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let filled = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(seed.len()) {
        // A host that forbids the call still gave the process random hash keys.
        use std::hash::{BuildHasher, RandomState};
        seed.chunks_mut(8).for_each(|part| part.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes()));
    }
    seed
}
