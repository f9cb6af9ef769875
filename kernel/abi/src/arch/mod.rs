//! What of Linux's interface depends on the architecture of programs, under names that don't.
//!
//! | name | what it is |
//! | --- | --- |
//! | [`MACHINE`], [`PLATFORM`], [`ELF_MACHINE`] | the architecture's name, as uname(2), `AT_PLATFORM` and a program's header have it |
//! | [`hardware`], [`more_hardware`] | what the CPU can do: `AT_HWCAP`, `AT_HWCAP2` |
//! | [`SignalFrame`], [`UserContext`], [`extended_state`] | the frame a signal handler runs on, and the registers in it |
//! | [`Restorer`], [`SA_RESTORER`] | how a program says where its handlers return to |
//! | [`exceptions`] | which signal an exception of the CPU stands for |
//! | [`Stat`] | the structure of stat(2) |
//! | [`CLONE_BACKWARDS`] | the order of clone(2)'s arguments |
//! | [`MAP_32BIT`] | a flag of mmap(2) that one architecture has |
//! | `arch_prctl` | the call of that name, where there is one |
//!
//! The name of a register, and the number of an exception, stand below this folder and in `machine`; `./x check` looks that no other room of the
//! kernel has one. Numbers of system calls come from Linux's headers for the architecture ([`crate::raw`]). Which architecture it is says
//! `cfg(guest)` (`machine/build.rs`). Tests have `riscv64` beside the other one, with the registers of the crate `riscv`.

use machine::user::Registers;

use crate::signal::Signal;

#[cfg(any(guest = "riscv64", test))]
#[cfg_attr(
    not(guest = "riscv64"),
    allow(dead_code, unused_imports, reason = "tests look at layouts, which are the same everywhere")
)]
mod riscv64;
#[cfg(guest = "x86_64")]
mod x86_64;

#[cfg(guest = "riscv64")]
pub use riscv64::{
    CLONE_BACKWARDS, ELF_MACHINE, MACHINE, MAP_32BIT, NO_RESTORER, PLATFORM, Restorer, SA_RESTORER, SignalContext,
    SignalFrame, Stat, UserContext, exceptions, extended_state, hardware, more_hardware,
};
#[cfg(guest = "x86_64")]
pub use x86_64::{
    Answer, CLONE_BACKWARDS, ELF_MACHINE, ExtendedStateMark, MACHINE, MAP_32BIT, NO_RESTORER, PLATFORM, Restorer,
    SA_RESTORER, SignalContext, SignalFrame, Stat, UserContext, arch_prctl, exceptions, extended_state, hardware,
    more_hardware,
};

/// The last exception of a program, which a handler may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastTrap {
    /// The exception's number.
    pub number: u64,
    /// What it said about itself.
    pub error: u64,
    /// The address of a page fault.
    pub address: usize,
}

/// How a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// For which signal.
    pub signal: Signal,
    /// Its address.
    pub handler: usize,
    /// Where it returns to.
    pub way_back: usize,
}

/// The program whose extended state is taken from a frame.
pub trait StateOwner {
    /// Why something can't be read now.
    type Stop;

    /// Reads from the program's memory; false if there is nothing to be read.
    ///
    /// # Errors
    /// What has to be waited for.
    fn read(&self, address: usize, bytes: &mut [u8]) -> Result<bool, Self::Stop>;

    /// Changes its registers.
    fn change_registers<R>(&self, change: impl FnOnce(&mut Registers) -> R) -> R;
}

/// The signal an exception stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Which.
    pub signal: Signal,
    /// Its `si_code` and `si_addr`; none where Linux only says `SI_KERNEL`.
    pub place: Option<(i32, usize)>,
}
