//! The frame a signal handler runs on: Linux's `rt_sigframe` of x86-64, byte for byte, and what it does to the registers.
//!
//! ```text
//!     interrupted stack pointer
//!     128 bytes the program may be using (red zone)
//!     extended state (XSAVE image), aligned to 64; its mark at byte 464; END_MAGIC behind
//!     struct rt_sigframe: return address, ucontext, siginfo       <- rsp + 8 aligned to 16
//! ```

use machine::user::General;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::SA_RESTORER;
use crate::arch::{Handling, LastTrap};
use crate::signal::{SignalAction, SignalInfo, SignalSet, SignalStack};

/// Bytes below the stack pointer that belong to the program (System V ABI).
const RED_ZONE: usize = 128;

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`
const CONTEXT_FLAGS: u64 = 1 | 2 | 4;

/// User code and stack segments.
const USER_CODE: u16 = 0x33;
const USER_STACK: u16 = 0x2b;

/// Flags a program may set for itself: AC, OF, DF, TF, SF, ZF, AF, PF, CF, RF.
const USER_FLAGS: usize = 0x5_0dd5;
/// Flags a handler starts without: DF, RF, TF.
const CLEARED_FLAGS: usize = 0x1_0500;

/// Bytes between the stack pointer of a handler, or of one that has returned, and the frame.
const RETURN_ADDRESS: usize = size_of::<usize>();

/// `struct sigcontext_64`: the registers in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct SignalContext {
    pub r8: usize,
    pub r9: usize,
    pub r10: usize,
    pub r11: usize,
    pub r12: usize,
    pub r13: usize,
    pub r14: usize,
    pub r15: usize,
    pub rdi: usize,
    pub rsi: usize,
    pub rbp: usize,
    pub rbx: usize,
    pub rdx: usize,
    pub rax: usize,
    pub rcx: usize,
    pub rsp: usize,
    pub rip: usize,
    pub rflags: usize,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub error: usize,
    pub trap: usize,
    pub old_mask: u64,
    pub cr2: usize,
    /// Address of the extended state, 0 if there is none.
    pub extended_state: usize,
    pub reserved: [u64; 8],
}

/// `struct ucontext`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserContext {
    /// `uc_flags`
    pub flags: u64,
    /// `uc_link`: always 0
    pub link: usize,
    /// `uc_stack`: the alternate stack as it was
    pub stack: SignalStack,
    /// `uc_mcontext`
    pub registers: SignalContext,
    /// `uc_sigmask`: what was blocked
    pub mask: SignalSet,
}

/// `struct rt_sigframe`: what lies at the stack pointer when a handler starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalFrame {
    /// Where the handler returns to.
    pub restorer: usize,
    /// The handler's third argument.
    pub context: UserContext,
    /// The handler's second argument.
    pub info: SignalInfo,
}

impl SignalContext {
    /// The registers as a frame has them.
    #[inline]
    fn of(general: &General) -> SignalContext {
        SignalContext {
            r8: general.r8,
            r9: general.r9,
            r10: general.r10,
            r11: general.r11,
            r12: general.r12,
            r13: general.r13,
            r14: general.r14,
            r15: general.r15,
            rdi: general.rdi,
            rsi: general.rsi,
            rbp: general.rbp,
            rbx: general.rbx,
            rdx: general.rdx,
            rax: general.rax,
            rcx: general.rcx,
            rsp: general.rsp,
            rip: general.rip,
            rflags: general.rflags,
            cs: USER_CODE,
            ss: USER_STACK,
            ..SignalContext::default()
        }
    }

    /// Takes the registers from a frame. The machine makes flags and addresses safe when it enters user mode.
    #[inline]
    fn restore(&self, general: &mut General) {
        *general = General {
            r15: self.r15,
            r14: self.r14,
            r13: self.r13,
            r12: self.r12,
            rbp: self.rbp,
            rbx: self.rbx,
            r11: self.r11,
            r10: self.r10,
            r9: self.r9,
            r8: self.r8,
            rax: self.rax,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            // No system call is to be restarted from here.
            orig_rax: usize::MAX,
            rip: self.rip,
            rflags: general.rflags & !USER_FLAGS | self.rflags & USER_FLAGS,
            rsp: self.rsp,
        };
    }
}

impl UserContext {
    /// What a frame says of a program with these registers, whose extended state lies at `state`. A handler may ask for the exception, and
    /// for the lowest 64 signals that were blocked.
    #[inline]
    pub fn new(general: &General, state: usize, trap: &LastTrap, stack: SignalStack, mask: SignalSet) -> UserContext {
        let registers = SignalContext {
            trap: trap.number as usize,
            error: trap.error as usize,
            cr2: trap.address,
            old_mask: mask.0,
            extended_state: state,
            ..SignalContext::of(general)
        };
        UserContext { flags: CONTEXT_FLAGS, link: 0, stack, registers, mask }
    }

    /// The program's stack pointer.
    #[inline]
    pub const fn stack_pointer(&self) -> usize {
        self.registers.rsp
    }

    /// Takes the registers from a frame.
    #[inline]
    pub fn restore(&self, general: &mut General) {
        self.registers.restore(general);
    }
}

impl SignalFrame {
    /// Where a handler returns to. The program says it, or there is no way back, as on Linux.
    #[inline]
    pub fn way_back(action: &SignalAction, _vdso: impl FnOnce() -> Option<usize>) -> Option<usize> {
        action.has(SA_RESTORER).then_some(action.restorer)
    }

    /// The frame of a handler.
    #[inline]
    pub const fn new(handling: &Handling, context: UserContext, info: SignalInfo) -> SignalFrame {
        SignalFrame { restorer: handling.way_back, context, info }
    }

    /// The highest address a frame may reach to, on the stack that `general` is on.
    #[inline]
    pub const fn top(general: &General) -> usize {
        general.rsp.wrapping_sub(RED_ZONE)
    }

    /// Where the extended state of so many bytes, and below it the frame, begin on a stack that ends at `top`.
    #[inline]
    pub const fn place(top: usize, state: usize) -> (usize, usize) {
        let state = top.wrapping_sub(state + size_of::<u32>()) & !63;
        (state, (state.wrapping_sub(size_of::<SignalFrame>()) & !15).wrapping_sub(RETURN_ADDRESS))
    }

    /// Where the frame is when its handler has returned, by the registers then.
    #[inline]
    pub const fn returned_from(general: &General) -> usize {
        general.rsp.wrapping_sub(RETURN_ADDRESS)
    }

    /// Lets the program go on in the handler, on the frame at `address`.
    #[inline]
    pub fn enter(general: &mut General, address: usize, handling: &Handling) {
        general.rsp = address;
        general.rip = handling.handler;
        general.rdi = handling.signal.number().into();
        general.rsi = address + core::mem::offset_of!(SignalFrame, info);
        general.rdx = address + core::mem::offset_of!(SignalFrame, context);
        general.rax = 0;
        general.rflags &= !CLEARED_FLAGS;
    }

    /// The most a frame can take with an extended state of so many bytes: `AT_MINSIGSTKSZ`.
    pub const fn largest(state: usize) -> usize {
        let marked = state + size_of::<u32>();
        (size_of::<SignalFrame>() + marked.next_multiple_of(16) + 63 + 15 + 8).next_multiple_of(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<SignalContext>(), size_of::<UserContext>()), (256, 304));
        assert_eq!(size_of::<SignalFrame>(), 440);
        assert_eq!(core::mem::offset_of!(SignalContext, rip), 128);
        assert_eq!(core::mem::offset_of!(SignalContext, extended_state), 184);
    }

    #[test]
    fn a_frame_can_not_forge_what_is_not_the_program_s() {
        let interrupts_on = 0x202;
        let mut general = General { rflags: interrupts_on, ..General::default() };
        SignalContext { rflags: usize::MAX, ..SignalContext::new_zeroed() }.restore(&mut general);
        assert_eq!(general.rflags, interrupts_on | USER_FLAGS);
        // Neither the privilege level, nor nested tasks, nor virtual interrupts; and interrupts stay on.
        assert_eq!(general.rflags & (0x3000 | 0x4000 | 0x2_0000 | 0x8_0000 | 0x10_0000), 0);
        SignalContext { rflags: 0, rip: 7, rsp: 9, ..SignalContext::new_zeroed() }.restore(&mut general);
        assert_eq!((general.rflags, general.rip, general.rsp), (interrupts_on, 7, 9));
        assert_eq!(general.orig_rax, usize::MAX);
    }

    #[test]
    fn a_frame_has_room_for_its_state_its_mark_and_all_alignments() {
        for state in [512, 832, 2696] {
            let least = size_of::<SignalFrame>() + state + 4;
            assert!(
                SignalFrame::largest(state) >= least + 63 + 15 + 8
                    && SignalFrame::largest(state) < least + 63 + 15 + 8 + 32
            );
            assert_eq!(SignalFrame::largest(state) % 16, 0);
        }
    }

    #[test]
    fn each_register_has_its_place_in_a_context() {
        let number = |index: usize| 0x1000 + index;
        let general = General {
            r8: number(0),
            r9: number(1),
            r10: number(2),
            r11: number(3),
            r12: number(4),
            r13: number(5),
            r14: number(6),
            r15: number(7),
            rdi: number(8),
            rsi: number(9),
            rbp: number(10),
            rbx: number(11),
            rdx: number(12),
            rax: number(13),
            rcx: number(14),
            rsp: number(15),
            rip: number(16),
            rflags: 0x202,
            orig_rax: usize::MAX,
        };
        let context = SignalContext::of(&general);
        // The order of `gregs` in ucontext.h.
        let words: Vec<usize> =
            context.as_bytes().chunks_exact(8).map(|word| usize::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words[..17], core::array::from_fn::<usize, 17, _>(number));
        assert_eq!((words[17], context.cs, context.ss), (0x202, 0x33, 0x2b));
        let mut back = General { rflags: 0x202, ..General::default() };
        context.restore(&mut back);
        assert_eq!(SignalContext::of(&back).as_bytes(), context.as_bytes());
    }
}
