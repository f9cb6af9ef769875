//! x86-64: see [`crate::arch`].

mod control;
pub mod exceptions;
pub mod extended_state;
mod frame;

pub use control::{Answer, arch_prctl};
pub use extended_state::ExtendedStateMark;
pub use frame::{SignalContext, SignalFrame, UserContext};

/// `MAP_32BIT` of mmap(2).
pub const MAP_32BIT: u32 = linux_raw_sys::general::MAP_32BIT;

/// `machine` of uname(2).
pub const MACHINE: &str = "x86_64";
/// `AT_PLATFORM` of getauxval(3), with its final zero.
pub const PLATFORM: &[u8] = b"x86_64\0";
/// `e_machine` of elf(5): `EM_X86_64`.
pub const ELF_MACHINE: u16 = 62;

/// `AT_HWCAP`: the features CPUID tells in EDX of leaf 1.
pub fn hardware() -> usize {
    raw_cpuid::cpuid!(1).edx as usize
}

/// `AT_HWCAP2`: bit 1 tells that programs may use the FSGSBASE instructions.
pub fn more_hardware() -> usize {
    const HIGHEST: u32 = 7;
    let has_leaf = raw_cpuid::cpuid!(0).eax >= HIGHEST;
    if has_leaf && raw_cpuid::cpuid!(HIGHEST).ebx & 1 != 0 { 1 << 1 } else { 0 }
}
