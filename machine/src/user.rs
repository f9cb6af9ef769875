//! Programs: their registers, and running them.
//!
//! A thread's [`Registers`] hold the whole state of the program on the CPU. [`enter`] runs it until it traps and *returns*
//! why: to the kernel, running a program is a function call. The floating-point state, FS and GS stay in the
//! CPU while the kernel runs; [`Registers::park`] saves them, and must be called before the thread may move to another CPU
//! (in practice: whenever its future is suspended). Forgetting that loses the program's floating-point state, nothing else.

use crate::memory::Space;
use crate::platform;
use alloc::sync::Arc;
pub use boundary::{Exception, PageFault, Trap};
pub use x86::general::General;

pub use platform::user::{Registers, extended_features};

/// The flags a program may set: the arithmetic ones, trap, direction, nested task, resume, alignment check, identification.
pub(crate) const USER_FLAGS: usize = 0x25_4dd5;
/// Interrupts on, and the bit that is always set.
pub(crate) const FIXED_FLAGS: usize = 0x202;

/// Whether a CPU can go on with these registers. If not, it would find out in the kernel; Linux's programs get a general protection fault, too.
#[inline]
pub(crate) fn has_canonical_rip(general: &General) -> bool {
    let rip = general.rip as u64;
    (rip << 16) as i64 >> 16 == rip as i64
}

/// Takes away the flags that are not a program's.
#[inline]
pub(crate) fn make_flags_user_s(general: &mut General) {
    general.rflags = general.rflags & USER_FLAGS | FIXED_FLAGS;
}

/// Runs the program until it traps. Whatever `registers` hold, the kernel stays safe: flags and segments are made user's,
/// and an impossible `rip` comes back as a general protection exception.
#[inline]
pub fn enter(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    platform::user::enter(registers, space)
}

/// Plays a program: looks at and changes its registers and memory, and says how it trapped. What it must remember
/// it keeps in the registers, as programs do; so it survives a fork.
#[cfg(all(not(machine = "pc"), any(test, feature = "test-hooks")))]
pub type Script = Arc<dyn Fn(&mut General, &Space) -> Trap + Send + Sync>;

/// One step of a script.
#[cfg(all(not(machine = "pc"), any(test, feature = "test-hooks")))]
pub(crate) fn play(script: &Script, general: &mut General, space: &Space) -> Trap {
    let trap = script(general, space);
    if trap == Trap::Interrupted {
        platform::cpu::take_interrupts();
    }
    if trap == Trap::Syscall {
        general.orig_rax = general.rax;
        general.rax = x86::general::NO_ANSWER;
    }
    trap
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
