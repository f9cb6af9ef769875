//! x86-64 as logic, for every machine that runs its programs: nothing here changes a CPU. What asks the CPU exists where there is one.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `backtrace` | calls, by the chain of frame pointers |
//! | `exceptions` | the exceptions by their numbers |
//! | `extended` | extended states as bytes: which a CPU could have made |
//! | `general` | a program's general registers |
//! | `host_registers` | the registers as ptrace of a Linux host has them |
//! | `instruction` | what an instruction does to memory |
//! | `features` | what a CPU can do, by its own word |
//! | `frequency` | the frequency of the time-stamp counter, from who knows it |
//! | `mitigations` | what a CPU offers against speculation across borders, and what to do with that |
//! | `signals` | what signals of a Linux host say of an exception |
//!
//! **Who calls.** `machine`, which checks what it gives to a CPU: a wrong answer of this room may end a program or the machine, and
//! breaks no memory.

#![cfg_attr(not(target_os = "linux"), no_std)]
#![forbid(unsafe_code)]

pub mod backtrace;
pub mod exceptions;
pub mod extended;
#[cfg(target_arch = "x86_64")]
pub mod features;
#[cfg(target_arch = "x86_64")]
pub mod frequency;
pub mod general;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod host_registers;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod instruction;
#[cfg(target_arch = "x86_64")]
pub mod mitigations;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod signals;
