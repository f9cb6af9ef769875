//! x86-64: see [`crate::arch`].

mod control;
pub mod exceptions;
pub mod extended_state;
mod frame;
mod stat;

pub use control::{Answer, arch_prctl};
pub use extended_state::ExtendedStateMark;
pub use frame::{SignalContext, SignalFrame, UserContext};
pub use stat::Stat;

/// `MAP_32BIT` of mmap(2).
pub const MAP_32BIT: u32 = linux_raw_sys::general::MAP_32BIT;

/// `sa_restorer` of sigaction(2): where a handler returns to.
pub type Restorer = usize;
/// Of an action that has none.
pub const NO_RESTORER: Restorer = 0;
/// The flag of an action that has one.
pub const SA_RESTORER: u64 = linux_raw_sys::general::SA_RESTORER as u64;

/// Whether clone(2) takes the thread's pointer before the place of the child's number.
pub const CLONE_BACKWARDS: bool = false;

/// `machine` of uname(2).
pub const MACHINE: &str = "x86_64";
/// `AT_PLATFORM` of getauxval(3), with its final zero.
pub const PLATFORM: Option<&[u8]> = Some(b"x86_64\0");
/// `e_machine` of elf(5): `EM_X86_64`.
pub const ELF_MACHINE: u16 = 62;

/// `AT_HWCAP`: the features CPUID tells in EDX of leaf 1.
pub fn hardware() -> usize {
    raw_cpuid::cpuid!(1).edx as usize
}

/// `AT_HWCAP2`: bit 1 tells that programs may use the FSGSBASE instructions.
pub fn more_hardware() -> Option<usize> {
    const HIGHEST: u32 = 7;
    let has_leaf = raw_cpuid::cpuid!(0).eax >= HIGHEST;
    Some(if has_leaf && raw_cpuid::cpuid!(HIGHEST).ebx & 1 != 0 { 1 << 1 } else { 0 })
}
