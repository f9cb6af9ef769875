//! The frame a signal handler runs on: Linux's `rt_sigframe` of riscv64, byte for byte, and what it does to the registers.
//!
//! ```text
//!     interrupted stack pointer
//!     struct rt_sigframe: siginfo, ucontext; at its end the floating-point registers     <- sp, aligned to 16
//! ```

use riscv::{General, UserRegisters};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::extended_state::ExtendedState;
use crate::arch::{Handling, LastTrap};
use crate::signal::{SignalAction, SignalInfo, SignalSet, SignalStack};

/// `struct sigcontext`: the registers in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalContext {
    /// `sc_regs`
    pub user: UserRegisters,
    /// `sc_fpregs` and `sc_extdesc`
    pub extended: ExtendedState,
}

/// `struct ucontext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserContext {
    /// `uc_flags`: always 0
    pub flags: u64,
    /// `uc_link`: always 0
    pub link: usize,
    /// `uc_stack`: the alternate stack as it was
    pub stack: SignalStack,
    /// `uc_sigmask`: what was blocked
    pub mask: SignalSet,
    /// Room for 1024 signals, and what aligns the registers to 16.
    pub unused: [u64; 16],
    /// `uc_mcontext`
    pub registers: SignalContext,
}

/// `struct rt_sigframe`: what lies at the stack pointer when a handler starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalFrame {
    /// The handler's second argument.
    pub info: SignalInfo,
    /// The handler's third argument.
    pub context: UserContext,
}

impl UserContext {
    /// What a frame says of a program with these registers. The extended state is written into it afterwards, and of the last trap it has nothing.
    #[inline]
    pub fn new(general: &General, _state: usize, _: &LastTrap, stack: SignalStack, mask: SignalSet) -> UserContext {
        let registers = SignalContext { user: general.user, extended: ExtendedState::initial() };
        UserContext { flags: 0, link: 0, stack, mask, unused: [0; 16], registers }
    }

    /// The program's stack pointer.
    #[inline]
    pub const fn stack_pointer(&self) -> usize {
        self.registers.user.sp
    }

    /// Takes the registers from a frame. None of them can do more than the program may.
    #[inline]
    pub fn restore(&self, general: &mut General) {
        general.user = self.registers.user;
    }
}

impl SignalFrame {
    /// Where a handler returns to: into the vDSO, or there is no way back.
    #[inline]
    pub fn way_back(_: &SignalAction, vdso: impl FnOnce() -> Option<usize>) -> Option<usize> {
        vdso().map(|start| start.wrapping_add(riscv::SIGNAL_RETURN_AT))
    }

    /// The frame of a handler. Where that returns to is in a register.
    #[inline]
    pub const fn new(_: &Handling, context: UserContext, info: SignalInfo) -> SignalFrame {
        SignalFrame { info, context }
    }

    /// The highest address a frame may reach to, on the stack that `general` is on.
    #[inline]
    pub const fn top(general: &General) -> usize {
        general.user.sp
    }

    /// Where the extended state, and where the frame that has it begin on a stack that ends at `top`.
    #[inline]
    pub const fn place(top: usize, _state: usize) -> (usize, usize) {
        let frame = top.wrapping_sub(size_of::<SignalFrame>()) & !15;
        (frame.wrapping_add(core::mem::offset_of!(SignalFrame, context.registers.extended)), frame)
    }

    /// Where the frame is when its handler has returned, by the registers then.
    #[inline]
    pub const fn returned_from(general: &General) -> usize {
        general.user.sp
    }

    /// Lets the program go on in the handler, on the frame at `address`.
    #[inline]
    pub fn enter(general: &mut General, address: usize, handling: &Handling) {
        let user = &mut general.user;
        user.ra = handling.way_back;
        user.pc = handling.handler;
        user.sp = address;
        user.a0 = handling.signal.number().into();
        user.a1 = address + core::mem::offset_of!(SignalFrame, info);
        user.a2 = address + core::mem::offset_of!(SignalFrame, context);
    }

    /// The most a frame can take: `AT_MINSIGSTKSZ`.
    pub const fn largest(_state: usize) -> usize {
        size_of::<SignalFrame>().next_multiple_of(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;
    use core::mem::offset_of;
    use zerocopy::FromZeros;

    /// asm/sigcontext.h, asm/ucontext.h, and struct rt_sigframe of arch/riscv/kernel/signal.c.
    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<SignalContext>(), size_of::<UserContext>(), size_of::<SignalFrame>()), (784, 960, 1088));
        assert_eq!((offset_of!(UserContext, stack), offset_of!(UserContext, mask)), (16, 40));
        // A sigcontext is aligned to 16 bytes.
        assert_eq!((offset_of!(UserContext, unused), offset_of!(UserContext, registers)), (48, 176));
        assert_eq!((offset_of!(SignalFrame, context), offset_of!(SignalContext, extended)), (128, 256));
    }

    #[test]
    fn a_handler_starts_on_its_frame_and_finds_it_again() {
        let mut general = General::initial(0x1000, 0x7fff_0008);
        (general.user.ra, general.user.a0, general.user.s1) = (0x1234, 5, 6);
        let before = general;
        let handling = Handling { signal: Signal::INT, handler: 0x2000, way_back: 0x3000 };
        let (state, frame) = SignalFrame::place(SignalFrame::top(&general), 264);
        assert_eq!((frame % 16, state - frame), (0, 128 + 176 + 256));
        assert!(
            frame + size_of::<SignalFrame>() <= 0x7fff_0008 && frame + SignalFrame::largest(264) + 16 > 0x7fff_0008
        );
        let stack = SignalStack::default();
        let context = UserContext::new(&general, state, &LastTrap::default(), stack, SignalSet::of(&[Signal::HUP]));
        SignalFrame::enter(&mut general, frame, &handling);
        let user = general.user;
        assert_eq!((user.pc, user.ra, user.sp, user.s1), (0x2000, 0x3000, frame, 6));
        assert_eq!((user.a0, user.a1, user.a2), (2, frame, frame + 128));
        assert_eq!(SignalFrame::returned_from(&general), frame);
        let frame = SignalFrame::new(&handling, context, SignalInfo::new_zeroed());
        frame.context.restore(&mut general);
        assert_eq!((general.user, frame.context.mask.0), (before.user, 1));
    }
}
