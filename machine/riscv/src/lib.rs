//! What a program has in a CPU of riscv64: [`General`], and the floating-point registers of its extended state ([`float`]). What `machine`'s own
//! registers of x86-64 are on one architecture, these are on the other, by the same names.
//!
//! Nothing here has a right a program may not have: there is no status register among them, and an impossible `pc` faults when it is fetched from.
//!
//! **Who calls.** `machine`, whose registers these are where it runs programs for riscv64; `abi`, which puts them into signal frames.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod float;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `ecall` takes so many bytes.
const CALL_LENGTH: usize = 4;

/// `a0` at a system call before anybody has answered: -ENOSYS.
pub const NO_ANSWER: usize = -38_isize as usize;

/// What a signal handler returns to, in the vDSO: `li a7, __NR_rt_sigreturn` and `ecall`.
pub const SIGNAL_RETURN: [u8; 8] = [0x93, 0x08, 0xb0, 0x08, 0x73, 0, 0, 0];
/// Where in the vDSO it is.
pub const SIGNAL_RETURN_AT: usize = 0x800;

/// `struct user_regs_struct`: `pc`, and `x1` to `x31` by the names of the calling convention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct UserRegisters {
    pub pc: usize,
    pub ra: usize,
    pub sp: usize,
    pub gp: usize,
    pub tp: usize,
    pub t0: usize,
    pub t1: usize,
    pub t2: usize,
    pub s0: usize,
    pub s1: usize,
    pub a0: usize,
    pub a1: usize,
    pub a2: usize,
    pub a3: usize,
    pub a4: usize,
    pub a5: usize,
    pub a6: usize,
    pub a7: usize,
    pub s2: usize,
    pub s3: usize,
    pub s4: usize,
    pub s5: usize,
    pub s6: usize,
    pub s7: usize,
    pub s8: usize,
    pub s9: usize,
    pub s10: usize,
    pub s11: usize,
    pub t3: usize,
    pub t4: usize,
    pub t5: usize,
    pub t6: usize,
}

/// The general registers, as at the entry into the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct General {
    /// Those the program sees.
    pub user: UserRegisters,
    /// The first argument of the system call that is served, for a restart: its result takes the register.
    pub first_argument: usize,
}

impl General {
    /// Those of a program about to start.
    pub fn initial(entry: usize, stack: usize) -> General {
        General { user: UserRegisters { pc: entry, sp: stack, ..UserRegisters::default() }, first_argument: 0 }
    }

    /// The program's stack pointer.
    #[inline]
    pub const fn stack_pointer(&self) -> usize {
        self.user.sp
    }

    /// Sets the program's stack pointer.
    #[inline]
    pub const fn set_stack_pointer(&mut self, address: usize) {
        self.user.sp = address;
    }

    /// Sets what a thread finds its own variables by.
    #[inline]
    pub const fn set_thread_pointer(&mut self, address: usize) {
        self.user.tp = address;
    }

    /// The program has executed `ecall`, and nobody has answered yet. The CPU has left it there; when it goes on, it is behind.
    #[inline]
    pub const fn begin_call(&mut self) {
        self.user.pc = self.user.pc.wrapping_add(CALL_LENGTH);
        self.first_argument = self.user.a0;
        self.user.a0 = NO_ANSWER;
    }

    /// The number of the system call.
    #[inline]
    pub const fn call_number(&self) -> usize {
        self.user.a7
    }

    /// Its arguments.
    #[inline]
    pub const fn arguments(&self) -> [usize; 6] {
        let user = &self.user;
        [self.first_argument, user.a1, user.a2, user.a3, user.a4, user.a5]
    }

    /// What the system call returns.
    #[inline]
    pub const fn set_result(&mut self, result: usize) {
        self.user.a0 = result;
    }

    /// Makes the program execute its system call again when it goes on.
    pub const fn restart_call(&mut self) {
        self.user.a0 = self.first_argument;
        self.user.pc = self.user.pc.wrapping_sub(CALL_LENGTH);
    }

    /// After [`restart_call`](Self::restart_call): it is this call that is executed.
    pub const fn replace_call(&mut self, number: usize) {
        self.user.a7 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    /// asm/ptrace.h of riscv.
    #[test]
    fn registers_lie_as_linux_has_them() {
        assert_eq!(size_of::<UserRegisters>(), 32 * size_of::<usize>());
        let word = size_of::<usize>();
        // Register x2 is the second after pc, and so on.
        let numbers = [
            (offset_of!(UserRegisters, sp), 2),
            (offset_of!(UserRegisters, tp), 4),
            (offset_of!(UserRegisters, s0), 8),
            (offset_of!(UserRegisters, a0), 10),
            (offset_of!(UserRegisters, a7), 17),
            (offset_of!(UserRegisters, s2), 18),
            (offset_of!(UserRegisters, t6), 31),
        ];
        for (offset, number) in numbers {
            assert_eq!(offset, number * word, "x{number}");
        }
    }

    /// The form of `addi` (The RISC-V Instruction Set Manual, 2.4), with `a7` and the number of the call.
    #[test]
    fn a_handler_s_return_is_the_call() {
        let [load, call] = [0, 4].map(|at| u32::from_le_bytes(SIGNAL_RETURN[at..at + 4].try_into().unwrap()));
        const RT_SIGRETURN: u32 = 139;
        assert_eq!(load, RT_SIGRETURN << 20 | 17 << 7 | 0b001_0011);
        assert_eq!(call, 0b111_0011);
    }

    #[test]
    fn a_call_that_is_restarted_has_its_first_argument_again() {
        let mut general = General::initial(0x1000, 0x8000);
        (general.user.a0, general.user.a1, general.user.a7) = (7, 8, 63);
        let before = general;
        general.begin_call();
        assert_eq!((general.call_number(), general.arguments()), (63, [7, 8, 0, 0, 0, 0]));
        assert_eq!((general.user.pc, general.user.a0), (0x1004, NO_ANSWER));
        general.set_result(3);
        assert_eq!(general.arguments()[0], 7);
        general.restart_call();
        assert_eq!(general.user, before.user);
        general.replace_call(128);
        assert_eq!((general.user.a7, general.user.a0), (128, 7));
    }
}
