//! The machine as an ordinary Linux process, with no KVM and no root: a sandbox, and what kernel rooms are tested on.
//!
//! | file | what it does |
//! | --- | --- |
//! | `machine` | [`run`]: a machine from its start to its end; which machine a thread works for |
//! | `frames` | guest memory: one sparse memfd a machine, shown to the kernel in one range of addresses |
//! | `paging` | a space: which frame each page shows. What the processes of programs map is a cache of it |
//! | `stub` | the processes programs run in: how they are made, emptied, locked up, told what to map |
//! | `user`, `access` | a program's registers; entering it; what an instruction that faulted tried |
//! | `core` | on which of the host's cores a CPU's thread and its program run |
//! | `cpu` | CPUs are threads; kicks, alarms, interrupts of devices |
//! | `confine` | what the machine's threads give up |
//! | `time`, `device`, `power`, `debug`, `copy` | the rest of the boundary |
//!
//! The threat model stands in docs/src/host-machine.md.

mod access;
mod confine;
pub mod copy;
mod core;
pub mod cpu;
pub mod debug;
pub mod device;
pub mod folder;
pub mod frames;
mod machine;
pub mod paging;
pub mod power;
mod stub;
pub mod time;
pub mod user;

#[cfg(test)]
mod tests;

pub use device::{Console, Devices, StandardStream, Terminal};
pub use machine::{Configuration, Engine, StartError, run};
