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

pub use platform::user::{Registers, extended_features};

#[cfg(guest = "riscv64")]
mod riscv64;
#[cfg(guest = "x86_64")]
mod x86_64;
#[cfg(guest = "riscv64")]
pub use riscv64::General;
#[cfg(guest = "x86_64")]
pub use x86_64::General;
#[cfg(machine = "pc")]
pub(crate) use x86_64::{FIXED_FLAGS, USER_FLAGS};
#[cfg(not(machine = "sim"))]
pub(crate) use x86_64::{has_canonical_rip, make_flags_user_s};

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
        general.begin_call();
    }
    trap
}

/// What is the same on all machines.
impl Registers {
    /// The number of the system call that trapped.
    #[inline]
    pub fn syscall_number(&self) -> usize {
        self.general.call_number()
    }

    /// Its arguments.
    #[inline]
    pub fn arguments(&self) -> [usize; 6] {
        self.general.arguments()
    }

    /// Sets the program's stack pointer.
    #[inline]
    pub fn set_stack_pointer(&mut self, address: usize) {
        self.general.set_stack_pointer(address);
    }

    /// What the system call returns.
    #[inline]
    pub fn set_result(&mut self, result: usize) {
        self.general.set_result(result);
    }

    /// Makes the program execute its system call again when it goes on.
    pub fn restart_call(&mut self) {
        self.general.restart_call();
    }

    /// After [`restart_call`](Self::restart_call): it is this call that is executed.
    pub fn replace_call(&mut self, number: usize) {
        self.general.replace_call(number);
    }
}
