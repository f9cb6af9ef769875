//! Running programs.

use super::block;
use super::extended::State;
use super::features;
use super::traps::{self, Return, SYSCALL, vector};
use crate::memory::{OutOfMemory, Space, UserAddress};
use crate::user::{Exception, FIXED_FLAGS, General, PageFault, Trap, USER_FLAGS, has_canonical_rip, make_flags_user_s};
use alloc::sync::Arc;
use core::arch::asm;
use x86::exceptions::Attempt;
use x86::general::NO_CALL;
use x86_64::registers::control::Cr2;

/// Interrupts are on.
const INTERRUPT_FLAG: usize = 0x200;
/// Of these flags `sysret` may return with only [`INTERRUPT_FLAG`]: it would not act on trap and resume, and the others are not
/// a program's.
const IRET_FLAGS: usize = !(USER_FLAGS | FIXED_FLAGS) | INTERRUPT_FLAG | 0x1_0100;

/// Bits of a page fault's error code.
mod error {
    pub const PRESENT: u64 = 1;
    pub const USER: u64 = 4;
}

/// The whole state of a program on the CPU.
pub struct Registers {
    /// The general registers.
    pub general: General,
    state: State,
}

/// The components the extended state of programs has, as in XCR0.
pub fn extended_features() -> u64 {
    super::extended::components()
}

impl Registers {
    /// A program about to start at `entry`. Fails if memory is out.
    pub fn new(entry: usize, stack: usize) -> Result<Registers, OutOfMemory> {
        Ok(Registers { general: General::initial(entry, stack), state: State::new()? })
    }

    /// As `new`, in place: the program is replaced by another (execve).
    pub fn reset(&mut self, entry: usize, stack: usize) {
        self.general = General::initial(entry, stack);
        self.state.reset();
    }

    /// A copy for a fork. Fails if memory is out.
    pub fn duplicate(&mut self) -> Result<Registers, OutOfMemory> {
        Ok(Registers { general: self.general, state: self.state.duplicate()? })
    }

    /// Saves what is in this CPU only: to be called when the thread is suspended.
    #[inline]
    pub fn park(&mut self) {
        self.state.park();
    }

    /// The base of FS.
    pub fn fs_base(&mut self) -> usize {
        self.state.fs_base()
    }

    /// Sets the base of FS. An address outside the lower half is taken as 0.
    pub fn set_fs_base(&mut self, base: usize) {
        self.state.set_fs_base(base);
    }

    /// The base of GS.
    pub fn gs_base(&mut self) -> usize {
        self.state.gs_base()
    }

    /// Sets the base of GS. An address outside the lower half is taken as 0.
    pub fn set_gs_base(&mut self, base: usize) {
        self.state.set_gs_base(base);
    }

    /// The extended state (x87, SSE, AVX...) in XSAVE's standard format, for a signal frame.
    pub fn extended_state(&mut self) -> &[u8] {
        self.state.image()
    }

    /// Replaces the extended state by an image a program made up: of the size [`extended_state`](Self::extended_state) has, or just the
    /// 512 bytes of `fxsave`. False, and nothing changes, if no CPU could have made it.
    pub fn set_extended_state(&mut self, image: &[u8]) -> bool {
        self.state.replace(image)
    }
}

/// Runs the program until it traps. Other CPUs' requests to forget translations are answered on the way.
#[inline]
pub fn enter(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    let block = block::current();
    loop {
        space.0.activate();
        registers.state.bring(block);
        let general = &mut registers.general;
        let after_call = general.rcx == general.rip && general.r11 == general.rflags;
        let returned = if after_call && general.rip >> 47 == 0 && general.rflags & IRET_FLAGS == INTERRUPT_FLAG {
            // SAFETY: rip is in the lower half and the flags are a program's.
            unsafe { traps::return_to(general) }
        } else {
            match run_slowly(general) {
                Ok(returned) => returned,
                Err(trap) => return trap,
            }
        };
        if returned.vector == SYSCALL {
            return Trap::Syscall;
        }
        forbid_user_memory();
        if returned.vector != u64::from(vector::SHOOTDOWN) {
            return trapped(general, &returned);
        }
        traps::interrupt(vector::SHOOTDOWN);
    }
}

/// A program may set AC, which would lift SMAP; only the system call clears it by itself.
fn forbid_user_memory() {
    if features::get().smap {
        // SAFETY: user memory is not accessible by default.
        unsafe { asm!("clac", options(nomem, nostack)) };
    }
}

/// For all but a return from a system call: first start, return from a page fault or an interrupt, signal frames.
fn run_slowly(general: &mut General) -> Result<Return, Trap> {
    if !has_canonical_rip(general) {
        // The CPU would find out in the kernel. Linux's programs get a general protection fault, too.
        return Err(Trap::Exception(Exception { vector: vector::PROTECTION, error: 0, address: general.rip }));
    }
    make_flags_user_s(general);
    // SAFETY: rip is canonical, and the flags are a program's.
    Ok(unsafe { traps::start(general) })
}

/// What the trap was. Interrupts are served.
fn trapped(general: &mut General, returned: &Return) -> Trap {
    general.orig_rax = NO_CALL;
    match returned.vector as u8 {
        vector::PAGE_FAULT if returned.error & error::USER != 0 => {
            let access = Attempt::of_fault(returned.error).into();
            let address = UserAddress::new(Cr2::read_raw());
            Trap::PageFault(PageFault { address, access, present: returned.error & error::PRESENT != 0 })
        }
        // An access by the CPU in the kernel's name, say of a segment's descriptor: no page of the program would help.
        vector::PAGE_FAULT => Trap::Exception(Exception { vector: vector::PROTECTION, error: 0, address: general.rip }),
        vector @ 32.. => {
            traps::interrupt(vector);
            Trap::Interrupted
        }
        vector => Trap::Exception(Exception { vector, error: returned.error, address: general.rip }),
    }
}
