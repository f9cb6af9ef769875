//! The machine as an ordinary Linux process, with no KVM and no root: a sandbox, and what kernel rooms are tested on.
//!
//! | file | what it does |
//! | --- | --- |
//! | `machine` | [`run`]: a machine from its start to its end; which machine a thread works for |
//! | `frames` | guest memory: one sparse memfd a machine, shown to the kernel in one range of addresses |
//! | `heap` | the kernel's heap, charged to the machine's memory |
//! | `paging` | a space of the crate [`stubs`] on this machine: which frame each page shows. What the processes of programs map is a cache of it |
//! | `stub` | the processes programs run in: how they are made, emptied, locked up, told what to map |
//! | `user` | a program's registers; entering it |
//! | `account` | the host's accounts of processor time |
//! | `cpu` | CPUs are threads; kicks, alarms, interrupts of devices |
//! | `confine` | what the machine's threads give up |
//! | `bpf` | the instructions of filters of system calls |
//! | `transfer` | contents of the host's files, to and from frames |
//! | `time`, `device`, `power`, `debug`, `copy` | the rest of the boundary |
//! | `under_miri` | what stands in for assembler there |
//!
//! The threat model stands in docs/src/host-machine.md.

mod account;
mod bpf;
mod confine;
pub mod copy;
pub mod cpu;
pub mod debug;
pub mod device;
pub mod frames;
pub mod heap;
mod machine;
pub mod paging;
pub mod power;
mod stub;
pub mod time;
mod transfer;
mod under_miri;
pub mod user;

#[cfg(test)]
mod tests;

pub use device::{Console, Devices, StandardStream, Terminal};
pub use heap::HostHeap;
pub use machine::{Configuration, Engine, StartError, run};
