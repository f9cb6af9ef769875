//! The frame a handler runs on, byte for byte Linux's `rt_sigframe`, and the way back: rt_sigreturn(2).
//!
//! ```text
//!     interrupted stack pointer
//!     128 bytes the program may be using (red zone)
//!     extended state (XSAVE image), aligned to 64; its mark at byte 464; END_MAGIC behind
//!     struct rt_sigframe: return address, ucontext, siginfo       <- rsp + 8 aligned to 16
//! ```

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::signal::{
    ExtendedStateMark, Signal, SignalAction, SignalContext, SignalFrame, SignalStack, UserContext, action_flags,
};
use abi::{Errno, Result};
use machine::user::{General, Registers};
use memory::{Access, AddressSpace, MemoryFault, UserFault};
use vfs::NotReady;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::mask::{is_on, state_flags};
use super::{Information, attention, send};
use crate::{Outcome, Thread};

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

/// The largest extended state taken back from a program: more than that of AVX-512.
const MAXIMUM_STATE: usize = 4096;

/// An extended state up to AVX fits in this.
const USUAL_STATE: usize = 1024;

/// Bytes of the legacy part of an extended state.
const LEGACY_STATE: usize = 512;

/// The most a frame can take with an extended state of so many bytes: `AT_MINSIGSTKSZ`.
pub const fn largest(state: usize) -> usize {
    let marked = state + size_of::<u32>();
    (size_of::<SignalFrame>() + marked.next_multiple_of(16) + 63 + 15 + 8).next_multiple_of(16)
}

/// Makes the thread run the handler when it goes on.
///
/// # Errors
/// `EFAULT`: the stack can't take the frame.
pub(super) async fn call_handler(thread: &Arc<Thread>, information: &Information, action: &SignalAction) -> Result<()> {
    if !action.has(action_flags::RESTORER) {
        // Linux for x86-64 has no other way back.
        return Err(Errno::EFAULT);
    }
    let signal = information.signal;
    let general = thread.with_registers(|registers| registers.general);
    let trap = thread.last_trap();
    // The mask the program has now, which may be that of one call, and the one it had before it.
    let (stack, now, mask) = {
        let mut own = thread.signals().lock();
        thread.lower_attention(attention::RESTORE_MASK);
        (own.stack, own.mask, own.saved_mask.take().unwrap_or(own.mask))
    };
    let on_stack = is_on(&stack, general.rsp);
    let uses_stack = action.has(action_flags::ON_STACK) && stack.size > 0 && !on_stack;
    let top = if uses_stack { stack.base.wrapping_add(stack.size) } else { general.rsp.wrapping_sub(RED_ZONE) };
    let state_address = thread.with_registers(|registers| {
        let length = registers.extended_state().len() + size_of::<u32>();
        top.wrapping_sub(length) & !63
    });
    let frame_address = (state_address.wrapping_sub(size_of::<SignalFrame>()) & !15).wrapping_sub(8);
    // Its lowest byte is no place on the stack for Linux's `__on_sig_stack` either.
    if (uses_stack || on_stack) && frame_address <= stack.base {
        return Err(Errno::EFAULT);
    }
    let mut registers = context_of(&general);
    registers.error = trap.error as usize;
    registers.trap = trap.vector as usize;
    registers.cr2 = trap.address;
    registers.old_mask = mask.0;
    registers.extended_state = state_address;
    let mut old_stack = stack;
    old_stack.flags = state_flags(&stack, general.rsp) | stack.flags;
    let context = UserContext { flags: CONTEXT_FLAGS, link: 0, stack: old_stack, registers, mask };
    let frame = SignalFrame { restorer: action.restorer, context, info: information.to_program() };
    let space = thread.space();
    write_state(thread, space, state_address).await?;
    space.copy_out(frame_address, frame.as_bytes()).await?;
    thread.with_registers(|registers| {
        let general = &mut registers.general;
        general.rsp = frame_address;
        general.rip = action.handler;
        general.rdi = signal.number().into();
        general.rsi = frame_address + core::mem::offset_of!(SignalFrame, info);
        general.rdx = frame_address + core::mem::offset_of!(SignalFrame, context);
        general.rax = 0;
        general.rflags &= !CLEARED_FLAGS;
    });
    let mut blocked = now.union(action.mask);
    if !action.has(action_flags::NO_DEFER) {
        blocked.insert(signal);
    }
    if stack.flags & raw::SS_AUTODISARM != 0 {
        thread.signals().lock().stack = SignalStack::default();
    }
    thread.set_mask(blocked);
    Ok(())
}

fn context_of(general: &General) -> SignalContext {
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

/// Writes the extended state with its marks.
async fn write_state(thread: &Thread, space: &AddressSpace, address: usize) -> Result<()> {
    while let Err(fault) = thread.with_registers(|registers| try_write_state(registers, space, address)) {
        space.fault_in(fault).await?;
    }
    Ok(())
}

fn try_write_state(registers: &mut Registers, space: &AddressSpace, address: usize) -> Result<(), UserFault> {
    let state = registers.extended_state();
    let size = state.len();
    let mark = ExtendedStateMark {
        magic: ExtendedStateMark::MAGIC,
        extended_size: (size + size_of::<u32>()) as u32,
        features: machine::user::extended_features(),
        size: size as u32,
        padding: [0; 7],
    };
    let space = space.space();
    space.write(address, state)?;
    space.write(address.wrapping_add(ExtendedStateMark::OFFSET), mark.as_bytes())?;
    space.write(address.wrapping_add(size), ExtendedStateMark::END_MAGIC.as_bytes())
}

/// rt_sigreturn(2): takes registers, mask and alternate stack from the frame at the stack pointer. A frame that can't be
/// read or makes no sense is answered with `SIGSEGV`.
///
/// # Errors
/// [`NotReady::Fault`]: a page of the frame is missing; fetch it and call again.
pub fn return_from_handler(thread: &Arc<Thread>) -> Result<Outcome, NotReady> {
    let address = thread.with_registers(|registers| registers.general.rsp).wrapping_sub(8);
    let mut context = UserContext::new_zeroed();
    let context_at = address.wrapping_add(core::mem::offset_of!(SignalFrame, context));
    if !read(thread, context_at, context.as_mut_bytes())? {
        return Ok(refuse(thread));
    }
    let taken = match context.registers.extended_state {
        0 => thread.with_registers(reset_state),
        state => take_state(thread, state)?,
    };
    if !taken {
        return Ok(refuse(thread));
    }
    thread.with_registers(|registers| restore(&mut registers.general, &context.registers));
    {
        // As sigaltstack(2), with errors ignored: the frame is the program's to write.
        let mut own = thread.signals().lock();
        let stack = context.stack;
        if stack.flags & raw::SS_DISABLE != 0 {
            own.stack = SignalStack::default();
        } else if !is_on(&own.stack, context.registers.rsp) && stack.size >= raw::MINSIGSTKSZ as usize {
            own.stack = SignalStack { flags: stack.flags & raw::SS_AUTODISARM, ..stack };
        }
    }
    thread.set_mask(context.mask);
    Ok(Outcome::Registers)
}

/// Reads from the program's memory; false if there is nothing to be read.
fn read(thread: &Thread, address: usize, bytes: &mut [u8]) -> Result<bool, NotReady> {
    let space = thread.space();
    let Err(fault) = space.space().read(address, bytes) else { return Ok(true) };
    match space.resolve(fault.address, Access::READ) {
        Ok(_) | Err(MemoryFault::Wait(_) | MemoryFault::Busy) => Err(NotReady::Fault(fault)),
        Err(_) => Ok(false),
    }
}

/// Takes the extended state from a frame. False if it can't be read or makes no sense.
fn take_state(thread: &Thread, address: usize) -> Result<bool, NotReady> {
    let mut legacy = [0; LEGACY_STATE];
    if !read(thread, address, &mut legacy)? {
        return Ok(false);
    }
    match marked_size(&legacy) {
        LEGACY_STATE => Ok(thread.with_registers(|registers| set_legacy_state(registers, &legacy))),
        // Two sizes of buffer: clearing the large one costs more than all the rest.
        size if size <= USUAL_STATE => take_whole_state::<{ USUAL_STATE + 4 }>(thread, address, size, &legacy),
        size => take_whole_state::<{ MAXIMUM_STATE + 4 }>(thread, address, size, &legacy),
    }
}

fn take_whole_state<const ROOM: usize>(
    thread: &Thread,
    address: usize,
    size: usize,
    legacy: &[u8; LEGACY_STATE],
) -> Result<bool, NotReady> {
    let mut state = [0; ROOM];
    let Some((first, rest)) = state.split_at_mut_checked(LEGACY_STATE) else { return Ok(false) };
    first.copy_from_slice(legacy);
    let Some(rest) = rest.get_mut(..size + size_of::<u32>() - LEGACY_STATE) else { return Ok(false) };
    if !read(thread, address.wrapping_add(LEGACY_STATE), rest)? {
        return Ok(false);
    }
    let complete = state.get(size..size + size_of::<u32>()) == Some(ExtendedStateMark::END_MAGIC.as_bytes());
    Ok(thread.with_registers(|registers| match state.get(..size) {
        Some(state) if complete => registers.set_extended_state(state),
        // Only the legacy part is there: Linux takes that and resets the rest.
        _ => set_legacy_state(registers, legacy),
    }))
}

fn refuse(thread: &Arc<Thread>) -> Outcome {
    send::force(thread, Information::kernel(Signal::SEGV));
    Outcome::Registers
}

/// How long the state is by its mark; [`LEGACY_STATE`] if the mark makes no sense.
fn marked_size(legacy: &[u8]) -> usize {
    let mark = legacy
        .get(ExtendedStateMark::OFFSET..ExtendedStateMark::OFFSET + size_of::<ExtendedStateMark>())
        .and_then(|bytes| ExtendedStateMark::read_from_bytes(bytes).ok());
    match mark {
        Some(mark)
            if mark.magic == ExtendedStateMark::MAGIC
                && (LEGACY_STATE..=MAXIMUM_STATE).contains(&(mark.size as usize))
                && mark.extended_size as usize >= mark.size as usize + size_of::<u32>() =>
        {
            mark.size as usize
        }
        _ => LEGACY_STATE,
    }
}

/// Puts every part of the extended state back to what a program starts with.
fn reset_state(registers: &mut Registers) -> bool {
    set_legacy_state(registers, &[])
}

/// Replaces x87 and SSE state by a legacy image (none: their initial state), with everything else as at the start.
fn set_legacy_state(registers: &mut Registers, legacy: &[u8]) -> bool {
    let size = registers.extended_state().len().min(MAXIMUM_STATE);
    let mut image = [0; MAXIMUM_STATE];
    let Some(image) = image.get_mut(..size) else { return false };
    let kept = ExtendedStateMark::OFFSET.min(legacy.len());
    if let (Some(to), Some(from)) = (image.get_mut(..kept), legacy.get(..kept)) {
        to.copy_from_slice(from);
    }
    if legacy.is_empty() {
        // The initial control words; the rest of the initial state is zero.
        for (at, byte) in [(0, 0x7f), (1, 0x03), (24, 0x80), (25, 0x1f)] {
            if let Some(place) = image.get_mut(at) {
                *place = byte;
            }
        }
    }
    // Which parts the image has: x87 and SSE.
    if let Some(features) = image.get_mut(LEGACY_STATE) {
        *features = 3;
    }
    registers.set_extended_state(image)
}

/// Takes the general registers from a frame. The machine makes flags and addresses safe when it enters user mode.
fn restore(general: &mut General, context: &SignalContext) {
    *general = General {
        r15: context.r15,
        r14: context.r14,
        r13: context.r13,
        r12: context.r12,
        rbp: context.rbp,
        rbx: context.rbx,
        r11: context.r11,
        r10: context.r10,
        r9: context.r9,
        r8: context.r8,
        rax: context.rax,
        rcx: context.rcx,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        // No system call is to be restarted from here.
        orig_rax: usize::MAX,
        rip: context.rip,
        rflags: general.rflags & !USER_FLAGS | context.rflags & USER_FLAGS,
        rsp: context.rsp,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn a_frame_can_not_forge_what_is_not_the_program_s() {
        let interrupts_on = 0x202;
        let mut general = General { rflags: interrupts_on, ..General::default() };
        restore(&mut general, &SignalContext { rflags: usize::MAX, ..SignalContext::new_zeroed() });
        assert_eq!(general.rflags, interrupts_on | USER_FLAGS);
        // Neither the privilege level, nor nested tasks, nor virtual interrupts; and interrupts stay on.
        assert_eq!(general.rflags & (0x3000 | 0x4000 | 0x2_0000 | 0x8_0000 | 0x10_0000), 0);
        restore(&mut general, &SignalContext { rflags: 0, rip: 7, rsp: 9, ..SignalContext::new_zeroed() });
        assert_eq!((general.rflags, general.rip, general.rsp), (interrupts_on, 7, 9));
        assert_eq!(general.orig_rax, usize::MAX);
    }

    /// A legacy state whose mark says so.
    fn marked(magic: u32, size: u32, extended: u32) -> [u8; LEGACY_STATE] {
        let mark = ExtendedStateMark { magic, extended_size: extended, features: 7, size, padding: [0; 7] };
        let mut legacy = [0; LEGACY_STATE];
        let at = ExtendedStateMark::OFFSET;
        legacy[at..at + size_of::<ExtendedStateMark>()].copy_from_slice(mark.as_bytes());
        legacy
    }

    #[test]
    fn a_mark_that_makes_no_sense_is_that_of_a_legacy_state() {
        let magic = ExtendedStateMark::MAGIC;
        for (mark, size) in [
            (marked(magic, 832, 836), 832),
            (marked(magic, 832, 835), 512),
            (marked(magic, 4096, 4100), 4096),
            (marked(magic, 4097, 4101), 512),
            (marked(magic, 512, 516), 512),
            (marked(magic, 511, 516), 512),
            (marked(magic + 1, 832, 836), 512),
        ] {
            assert_eq!(marked_size(&mark), size);
        }
        assert_eq!(marked_size(&[0; 10]), 512);
    }

    #[test]
    fn a_legacy_state_replaces_the_first_part_and_resets_the_rest() {
        let mut registers = Registers::new(0, 0).unwrap();
        let mut legacy = [0; LEGACY_STATE];
        legacy[..2].copy_from_slice(&0x027f_u16.to_le_bytes());
        legacy[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        // XMM0
        legacy[160..176].fill(0xab);
        assert!(set_legacy_state(&mut registers, &legacy));
        let state = registers.extended_state();
        assert!(state[..2] == legacy[..2] && state[160..176] == [0xab; 16] && state[176..416] == [0; 240]);
        assert!(reset_state(&mut registers));
        let state = registers.extended_state();
        assert_eq!((&state[..2], &state[24..28]), (&[0x7f, 3][..], &[0x80, 0x1f, 0, 0][..]));
        assert_eq!(state[160..176], [0; 16]);
    }

    #[test]
    fn a_frame_has_room_for_its_state_its_mark_and_all_alignments() {
        for state in [512, 832, 2696] {
            let least = size_of::<SignalFrame>() + state + 4;
            assert!(largest(state) >= least + 63 + 15 + 8 && largest(state) < least + 63 + 15 + 8 + 32);
            assert_eq!(largest(state) % 16, 0);
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
        let context = context_of(&general);
        // The order of `gregs` in ucontext.h.
        let words: Vec<usize> =
            context.as_bytes().chunks_exact(8).map(|word| usize::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words[..17], core::array::from_fn::<usize, 17, _>(number));
        assert_eq!((words[17], context.cs, context.ss), (0x202, 0x33, 0x2b));
        let mut back = General { rflags: 0x202, ..General::default() };
        restore(&mut back, &context);
        assert_eq!(context_of(&back).as_bytes(), context.as_bytes());
    }
}
