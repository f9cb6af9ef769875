//! The host's cores, as a machine's CPUs use them: where their threads run, and how much of the time that passed the host gave.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `home` | [`Seat`], [`settle`]: on which core a CPU's thread and its program run |
//! | `account` | [`Account`]: what the host gave of the time that passed |
//! | `experience` | [`Experience`]: whether waiting awake for each other has been worth it |
//!
//! **Who calls.** The host machine's CPUs and stubs. A wrong answer costs time, or counts it wrongly, and breaks no memory.

#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod account;
mod experience;
mod home;

pub use account::{Account, ProcessorTime};
pub use experience::Experience;
pub use home::{Seat, leave, settle};

/// A process or a thread of the host.
pub type Number = i32;
