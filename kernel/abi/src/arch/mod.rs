//! What of Linux's interface depends on the architecture, under names that don't.
//!
//! | name | what it is |
//! | --- | --- |
//! | [`MACHINE`], [`PLATFORM`], [`ELF_MACHINE`] | the architecture's name, as uname(2), `AT_PLATFORM` and a program's header have it |
//! | [`hardware`], [`more_hardware`] | what the CPU can do: `AT_HWCAP`, `AT_HWCAP2` |
//! | [`SignalFrame`], [`UserContext`], [`SignalContext`], [`extended_state`] | the frame a signal handler runs on, and the registers in it |
//! | [`exceptions`] | which signal an exception of the CPU stands for |
//! | [`MAP_32BIT`] | a flag of mmap(2) that one architecture has |
//! | [`arch_prctl`] | the call of that name |
//!
//! The name of a register, and the number of an exception, stand below this folder and in `machine`; `./x check` looks that no other room of the
//! kernel has one. Numbers of system calls come from Linux's headers for the architecture ([`crate::raw`]).

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::{
    Answer, ELF_MACHINE, ExtendedStateMark, MACHINE, MAP_32BIT, PLATFORM, SignalContext, SignalFrame, UserContext,
    arch_prctl, exceptions, extended_state, hardware, more_hardware,
};

/// `MAP_32BIT` of mmap(2), which only x86 has; elsewhere no bit, as on Linux.
#[cfg(not(target_arch = "x86_64"))]
pub const MAP_32BIT: u32 = 0;
