//! Programs: their registers, and running them.
//!
//! A thread's [`Registers`] hold the whole state of the program on the CPU. [`enter`] runs it until it traps and *returns*
//! why: to the kernel, running a program is a function call. The floating-point state, FS and GS stay in the
//! CPU while the kernel runs; [`Registers::park`] saves them, and must be called before the thread may move to another CPU
//! (in practice: whenever its future is suspended). Forgetting that loses the program's floating-point state, nothing else.

use crate::memory::{Access, Space};
use crate::platform;
use alloc::sync::Arc;
use x86::exceptions::Attempt;

#[cfg(all(not(target_os = "none"), any(test, feature = "test-hooks")))]
pub use platform::user::Script;
pub use platform::user::{Registers, extended_features};

/// The general registers, as at the entry into the kernel.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct General {
    pub r15: usize,
    pub r14: usize,
    pub r13: usize,
    pub r12: usize,
    pub rbp: usize,
    pub rbx: usize,
    pub r11: usize,
    pub r10: usize,
    pub r9: usize,
    pub r8: usize,
    pub rax: usize,
    pub rcx: usize,
    pub rdx: usize,
    pub rsi: usize,
    pub rdi: usize,
    /// The number of the system call while it is served: `rax` as it was, for a restart.
    pub orig_rax: usize,
    pub rip: usize,
    pub rflags: usize,
    pub rsp: usize,
}

/// The flags a program may set: the arithmetic ones, trap, direction, nested task, resume, alignment check, identification.
pub(crate) const USER_FLAGS: usize = 0x25_4dd5;
/// Interrupts on, and the bit that is always set.
pub(crate) const FIXED_FLAGS: usize = 0x202;
/// `orig_rax` when the program is not in a system call.
pub(crate) const NO_CALL: usize = usize::MAX;

impl General {
    /// The program's stack pointer.
    #[inline]
    pub const fn stack_pointer(&self) -> usize {
        self.rsp
    }

    /// Those of a program about to start.
    pub(crate) fn initial(entry: usize, stack: usize) -> General {
        General { rip: entry, rsp: stack, rflags: FIXED_FLAGS, orig_rax: NO_CALL, ..General::default() }
    }

    /// Whether a CPU can go on there. If not, it would find out in the kernel; Linux's programs get a general protection fault, too.
    pub(crate) fn has_canonical_rip(&self) -> bool {
        (self.rip << 16) as isize >> 16 == self.rip as isize
    }

    /// Takes away the flags that are not a program's.
    pub(crate) fn make_flags_user_s(&mut self) {
        self.rflags = self.rflags & USER_FLAGS | FIXED_FLAGS;
    }
}

/// Why a program is back in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// It executed `syscall`; `rip` is after it, `orig_rax` has the number, and `rax` is `-ENOSYS`.
    Syscall,
    /// It touched memory it has no access to now.
    PageFault(PageFault),
    /// Any other exception of the CPU.
    Exception(Exception),
    /// An interrupt arrived; its handlers have run.
    Interrupted,
    /// The machine has lost the program: it can't go on. On `host`, its process was killed, or there is none to be had.
    Lost,
}

/// A memory access of a program that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The address (Linux's `si_addr`); may be anywhere, also outside user space.
    pub address: usize,
    /// What was tried.
    pub access: Access,
    /// There was a page, but without that access.
    pub present: bool,
}

impl From<Attempt> for Access {
    #[inline]
    fn from(attempt: Attempt) -> Access {
        match attempt {
            Attempt::Read => Access::READ,
            Attempt::Write => Access::WRITE,
            Attempt::Fetch => Access::EXECUTE,
        }
    }
}

/// An exception other than a page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Its number by the architecture: 0 divide error, 1 debug, 3 breakpoint, 6 invalid opcode, 13 general protection...
    pub vector: u8,
    /// The error code, 0 where the exception has none.
    pub error: u64,
    /// Where: `rip` at the exception.
    pub address: usize,
}

/// Runs the program until it traps. Whatever `registers` hold, the kernel stays safe: flags and segments are made user's,
/// and an impossible `rip` comes back as a general protection exception.
#[inline]
pub fn enter(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    platform::user::enter(registers, space)
}

/// The flag that makes the CPU trap after each instruction.
const TRAP_FLAG: usize = 0x100;

/// What is the same on both machines.
impl Registers {
    /// The number of the system call that trapped.
    #[inline]
    pub fn syscall_number(&self) -> usize {
        self.general.orig_rax
    }

    /// Its arguments.
    #[inline]
    pub fn arguments(&self) -> [usize; 6] {
        let general = &self.general;
        [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9]
    }

    /// Sets the program's stack pointer.
    #[inline]
    pub fn set_stack_pointer(&mut self, address: usize) {
        self.general.rsp = address;
    }

    /// Sets what a thread finds its own variables by: the base of FS. An address outside user space is taken as 0.
    pub fn set_thread_pointer(&mut self, address: usize) {
        self.set_fs_base(address);
    }

    /// What the system call returns.
    #[inline]
    pub fn set_result(&mut self, result: usize) {
        self.general.rax = result;
    }

    /// Makes the program execute its system call again when it goes on.
    pub fn restart_call(&mut self) {
        self.general.rax = self.general.orig_rax;
        self.general.rip = self.general.rip.wrapping_sub(2);
    }

    /// After [`restart_call`](Self::restart_call): it is this call that is executed.
    pub fn replace_call(&mut self, number: usize) {
        self.general.rax = number;
    }

    /// Makes the program trap (debug exception) after each instruction, or no longer.
    pub fn set_single_step(&mut self, on: bool) {
        self.general.rflags = self.general.rflags & !TRAP_FLAG | if on { TRAP_FLAG } else { 0 };
    }
}
