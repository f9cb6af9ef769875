//! The registers of x86-64's programs, and what of them must be looked at before a CPU gets them.

use super::Registers;
pub use x86::general::General;

/// The flags a program may set: the arithmetic ones, trap, direction, nested task, resume, alignment check, identification.
#[cfg(not(machine = "sim"))]
pub(crate) const USER_FLAGS: usize = 0x25_4dd5;
/// Interrupts on, and the bit that is always set.
#[cfg(not(machine = "sim"))]
pub(crate) const FIXED_FLAGS: usize = 0x202;

/// Whether a CPU can go on with these registers. If not, it would find out in the kernel; Linux's programs get a general protection fault, too.
#[cfg(not(machine = "sim"))]
#[inline]
pub(crate) fn has_canonical_rip(general: &General) -> bool {
    let rip = general.rip as u64;
    (rip << 16) as i64 >> 16 == rip as i64
}

/// Takes away the flags that are not a program's.
#[cfg(not(machine = "sim"))]
#[inline]
pub(crate) fn make_flags_user_s(general: &mut General) {
    general.rflags = general.rflags & USER_FLAGS | FIXED_FLAGS;
}

impl Registers {
    /// Sets what a thread finds its own variables by: the base of FS. An address outside user space is taken as 0.
    pub fn set_thread_pointer(&mut self, address: usize) {
        self.set_fs_base(address);
    }

    /// Makes the program trap (debug exception) after each instruction, or no longer.
    pub fn set_single_step(&mut self, on: bool) {
        self.general.set_single_step(on);
    }
}
