//! The machine as software only, for every target: what the kernel's rooms are built for and tested on where there is neither a bare x86-64
//! nor a Linux on it. The seed of the deterministic simulator.
//!
//! | file | what it does |
//! | --- | --- |
//! | `frames`, `copy` | memory: a static array, and copying it |
//! | `paging` | a space: a map from 64-bit page numbers to frames |
//! | `cpu`, `time` | CPUs that are one thread or a test's; time that nobody else drives |
//! | `user` | a program's registers. There is no CPU of software yet: who enters a program is told that it is lost, or a test plays it |
//! | `vdso` | none: programs would ask the kernel |
//! | `heap` | none of its own: the kernel's objects are the target's to allocate, and are not counted |
//! | `device`, `power`, `debug` | no devices; the end; words to standard error, where there is one |
//!
//! What needs no `unsafe` is the crate `simulator`. There is one such machine in a process.

pub mod copy;
pub mod device;
pub mod frames;
pub mod heap;
pub mod paging;
pub mod user;

pub use simulator::{debug, power, time};

/// CPUs. The simulator is not believed that the number it says has a slot.
pub mod cpu {
    use crate::cpu::MAX_CPUS;
    pub use simulator::cpu::*;

    /// Slots of a [`crate::cpu::PerCpu`], and how many CPUs may be reading ([`crate::rcu`]).
    pub fn slots() -> usize {
        MAX_CPUS
    }

    pub use slots as readers;

    /// This CPU's number: below [`slots`].
    pub fn current() -> usize {
        simulator::cpu::current().min(MAX_CPUS - 1)
    }
}
