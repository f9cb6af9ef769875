//! x86-64 as logic, for every machine that runs its programs: nothing here touches a CPU.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `extended` | extended states as bytes: which a CPU could have made |
//! | `instruction` | what an instruction does to memory |
//! | `mitigations` | what a CPU offers against speculation across borders, and what to do with that |
//!
//! **Who calls.** `machine`, which checks what it gives to a CPU: a wrong answer of this room may end a program or the machine, and
//! breaks no memory.

#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod extended;
#[cfg(not(target_os = "none"))]
pub mod instruction;
pub mod mitigations;
