//! The machine that is nothing but software, as far as it needs no `unsafe`: `machine/src/sim` puts it together. It is the same on every
//! target, and does the same each time it is run.
//!
//! | file | what it has |
//! | --- | --- |
//! | `space` | [`Space`]: a map of [`pages`] under a lock, by addresses |
//! | `program` | [`ProgramState`]: what a program has beside its general registers |
//! | `arena` | [`Arena`]: frames for who comes before the kernel's own allocator |
//! | `clock` | [`Clock`]: time that passes when somebody looks, or waits; alarms and kicks |
//! | `cpus` | [`Cpus`]: what interrupts a CPU, and how it waits |
//! | [`cpu`], [`time`], [`power`], [`debug`] | those parts of the boundary, for the one machine of a process |
//! | `devices` | what a driver would be given, of which there is nothing; a seed for random numbers |
//!
//! There is no CPU of software yet: programs can't run here, and who enters one is told that it is lost.
//!
//! **Who calls.** `machine`. A wrong answer shows a program the wrong page, or the kernel a wrong time, and breaks no memory: frames are
//! handed around as the owned references they are, and the numbers of an arena are checked by `machine` as those of any allocator.
//! **Who synchronises.** [`Clock`] is atomic numbers; the others are locked by who has them.

#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod arena;
mod clock;
pub mod cpu;
mod cpus;
pub mod debug;
mod devices;
pub mod power;
mod program;
mod space;
pub mod time;

pub use arena::Arena;
pub use clock::{Clock, Due};
pub use cpus::{Cpus, relax};
pub use devices::{InitramfsImage, InterruptLine, PortWindow, command_line, initramfs, random_seed};
pub use program::{ProgramState, extended_features};
pub use space::{Space, USER_TOP};
