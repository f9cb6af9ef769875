//! The boundary: everything the kernel knows of hardware, and the only crate with `unsafe`.
//!
//! | part | what it gives |
//! | --- | --- |
//! | [`cpu`] | which CPUs there are, per-CPU slots, kick another, wait for an interrupt, run the kernel's main on each |
//! | [`time`] | a monotonic clock, the wall clock, one alarm per CPU |
//! | [`memory`] | [`memory::Frame`]: counted pages of untyped RAM; [`memory::Space`]: user address spaces, copies to and from them |
//! | [`user`] | [`user::Registers`] of a program, [`user::enter`] to run it until it traps |
//! | [`vdso`] | the two pages by which programs read the clock without a system call |
//! | [`rcu`] | pointers that are read without a lock |
//! | [`device`] | what was found: serial ports, interrupt lines, boot files; entropy |
//! | [`folder`] | folders of the host shown to the guest |
//! | [`power`], [`debug`] | stop and reset; the emergency console, backtraces |
//!
//! Three machines give exactly this, chosen by the target (build.rs): `pc` on `arch/x86_64` (bare metal: a platform and an architecture, with
//! `bare` for what all such machines share), `host` (a Linux process) and `sim` (any target: it has memory and time, and no CPU for programs
//! yet). The files next to this one are the boundary and what both share; each function hands over to `platform`. Beside `src` stand crates that
//! forbid `unsafe`, with what needs none; where memory safety rests on what they say, it is checked here.
//!
//! The rule everything rests on: **interrupts are off whenever the kernel runs.** They are taken in three places: in user
//! mode (then [`user::enter`] returns), while a CPU waits ([`cpu::wait_for_interrupt`]) and in the window the
//! executor opens ([`cpu::take_interrupts`]). A safe function here cannot break memory safety whatever it is given.

#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(all(test, machine = "sim"), allow(dead_code, reason = "some is there for tests of page tables"))]

extern crate alloc;

pub mod cpu;
pub mod debug;
pub mod device;
pub mod memory;
pub mod power;
pub mod rcu;
pub mod time;
pub mod user;
#[cfg(not(machine = "sim"))]
pub mod vdso;
#[cfg(machine = "sim")]
#[path = "sim/vdso.rs"]
pub mod vdso;

mod heap;
mod lock;
mod per_cpu;
#[cfg(any(test, machine = "pc"))]
mod symbols;

pub use folders as folder;

#[cfg(machine = "pc")]
#[path = "arch/x86_64/mod.rs"]
mod arch;

#[cfg(machine = "pc")]
mod bare;

#[cfg(machine = "pc")]
#[path = "pc/mod.rs"]
mod platform;

/// Parts of the architecture that are logic, over ordinary memory.
#[cfg(test)]
#[cfg(machine = "host")]
#[path = "arch/x86_64/tests/mod.rs"]
mod arch_tests;

#[cfg(machine = "host")]
#[path = "host/mod.rs"]
mod platform;

#[cfg(machine = "sim")]
#[path = "sim/mod.rs"]
mod platform;

/// What starts a machine in this process.
#[cfg(machine = "host")]
pub mod host {
    pub use crate::platform::{
        Configuration, Console, Devices, Engine, HostHeap, StandardStream, StartError, Terminal, run,
    };
}
