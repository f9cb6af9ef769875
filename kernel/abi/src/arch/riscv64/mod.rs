//! riscv64: see [`crate::arch`].

pub mod exceptions;
pub mod extended_state;
mod frame;
mod stat;

pub use frame::{SignalContext, SignalFrame, UserContext};
pub use stat::Stat;

/// `MAP_32BIT` of mmap(2), which only x86 has: no bit, as on Linux.
pub const MAP_32BIT: u32 = 0;

/// `sa_restorer` of sigaction(2), which this architecture has not: handlers return to the vDSO.
pub type Restorer = [usize; 0];
/// The same.
pub const NO_RESTORER: Restorer = [];
/// The flag of an action that has one: no bit.
pub const SA_RESTORER: u64 = 0;

/// Whether clone(2) takes the thread's pointer before the place of the child's number.
pub const CLONE_BACKWARDS: bool = true;

/// `machine` of uname(2).
pub const MACHINE: &str = "riscv64";
/// `AT_PLATFORM` of getauxval(3): Linux tells none.
pub const PLATFORM: Option<&[u8]> = None;
/// `e_machine` of elf(5): `EM_RISCV`.
pub const ELF_MACHINE: u16 = 243;

/// `AT_HWCAP`: a bit for each letter of the extensions, the first for A. All that the registers of [`machine::user`] have: IMAFD, and C.
pub fn hardware() -> usize {
    b"IMAFDC".iter().fold(0, |bits, letter| bits | 1 << (letter - b'A'))
}

/// `AT_HWCAP2`: Linux tells none.
pub fn more_hardware() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_their_letters() {
        // COMPAT_HWCAP_ISA_A, _C, _D, _F, _I and _M of asm/hwcap.h.
        assert_eq!(hardware(), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 12);
    }
}
