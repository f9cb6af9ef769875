//! [`Configuration`]: what a machine is made of. [`StartError`]: why it could not be.

use crate::Devices;
use std::{fmt, io, thread};

/// What to do when the host makes no more threads or processes.
pub const MORE_PROCESSES: &str = "raise the limit on processes (ulimit -u)";

/// Where all that a machine needs is listed.
const NEEDED: &str = "see \"What the host must allow\" in docs/src/host-machine.md";

/// How programs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// The CPU's thread traces the program's process and is handed each system call and fault by ptrace(2): simple, and always
    /// there. The reference for the other.
    Ptrace,
    /// The program's thread is its own master, and hands over by memory shared with the CPU's thread: faster, where the host
    /// has a core to spare much faster. Where the host's CPUs lack what it needs, `Ptrace` takes its place.
    #[default]
    SharedMemory,
}

/// What a machine is made of.
pub struct Configuration {
    /// How many CPUs: each is a thread. The machine has one at least, and as many as the kernel knows at most.
    pub cpus: usize,
    /// Bytes of memory. They cost nothing before they are touched.
    pub memory: usize,
    /// How programs run.
    pub engine: Engine,
    /// What the machine is given.
    pub devices: Devices,
}

impl Default for Configuration {
    fn default() -> Configuration {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Configuration { cpus, memory: 1 << 30, engine: Engine::default(), devices: Devices::default() }
    }
}

/// Why a machine could not be started: what was asked of the host, and what it said.
#[derive(Debug)]
pub struct StartError {
    /// What was tried, in words.
    pub step: &'static str,
    /// What can be done about it.
    pub advice: &'static str,
    /// The host's answer.
    pub reason: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host does not let us {}: {}; {}; {NEEDED}", self.step, self.reason, self.advice)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}
