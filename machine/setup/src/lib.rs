//! What a machine that is a process is started with, and whether it is on.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `configuration` | [`Configuration`]: CPUs, memory, how programs run; [`StartError`]: why it could not be started |
//! | `devices` | [`Devices`]: what it is given; [`Installed`]: what it has |
//! | `host` | what the host says of this process |
//! | `program` | [`Program`]: the program it is to run |
//! | `power` | [`Power`]: whether it is on, and its status when it is off |
//! | `calls` | [`allowed`]: the system calls its threads keep |
//!
//! **Who calls.** Whoever starts a machine, by `machine::host`, and the machine itself. A wrong answer ends a machine early or late, or
//! leaves its threads more or fewer of the host's calls than they need, whose refusal `machine` survives; it breaks no memory.
//! **Who synchronises.** The values lock inside, for single steps.

#![cfg_attr(not(target_os = "linux"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(target_os = "linux")]
pub mod calls;
#[cfg(target_os = "linux")]
mod configuration;
#[cfg(target_os = "linux")]
mod devices;
#[cfg(target_os = "linux")]
pub mod host;
#[cfg(target_os = "linux")]
mod power;
mod program;

#[cfg(target_os = "linux")]
pub use calls::allowed;
#[cfg(target_os = "linux")]
pub use configuration::{Configuration, Engine, MORE_PROCESSES, StartError};
#[cfg(target_os = "linux")]
pub use devices::{Devices, InitramfsImage, Installed, InterruptLine, PortWindow, random_seed};
#[cfg(target_os = "linux")]
pub use power::Power;
pub use program::Program;
