//! Calling a handler, on a frame of the program's stack, and the way back: rt_sigreturn(2). What a frame looks like is the architecture's
//! ([`abi::arch::SignalFrame`]).

use alloc::sync::Arc;

use abi::arch::extended_state::{LEGACY_STATE, MAXIMUM_STATE, USUAL_STATE, marked_size, reset_state, set_legacy_state};
use abi::arch::{ExtendedStateMark, SignalContext, SignalFrame, UserContext};
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, SignalStack, action_flags};
use abi::{Errno, Result};
use machine::user::Registers;
use memory::{Access, AddressSpace, MemoryFault, UserFault};
use vfs::NotReady;
use zerocopy::{FromZeros, IntoBytes};

use super::mask::{is_on, state_flags};
use super::{Information, attention, send};
use crate::{Outcome, Thread};

/// Makes the thread run the handler when it goes on.
///
/// # Errors
/// `EFAULT`: the stack can't take the frame.
pub(super) async fn call_handler(thread: &Arc<Thread>, information: &Information, action: &SignalAction) -> Result<()> {
    if !action.has(action_flags::RESTORER) {
        // Linux has no other way back.
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
    let on_stack = is_on(&stack, general.stack_pointer());
    let uses_stack = action.has(action_flags::ON_STACK) && stack.size > 0 && !on_stack;
    let top = if uses_stack { stack.base.wrapping_add(stack.size) } else { SignalFrame::top(&general) };
    let state_size = thread.with_registers(|registers| registers.extended_state().len());
    let (state_address, frame_address) = SignalFrame::place(top, state_size);
    // Its lowest byte is no place on the stack for Linux's `__on_sig_stack` either.
    if (uses_stack || on_stack) && frame_address <= stack.base {
        return Err(Errno::EFAULT);
    }
    let mut registers = SignalContext::of(&general);
    registers.set_trap(trap.vector, trap.error, trap.address, mask);
    registers.extended_state = state_address;
    let mut old_stack = stack;
    old_stack.flags = state_flags(&stack, general.stack_pointer()) | stack.flags;
    let context = UserContext::new(registers, old_stack, mask);
    let frame = SignalFrame { restorer: action.restorer, context, info: information.to_program() };
    let space = thread.space();
    write_state(thread, space, state_address).await?;
    space.copy_out(frame_address, frame.as_bytes()).await?;
    thread.with_registers(|registers| {
        SignalFrame::enter(&mut registers.general, frame_address, action.handler, signal);
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
    let mark = ExtendedStateMark::of(size);
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
    let address = thread.with_registers(|registers| SignalFrame::returned_from(&registers.general));
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
    thread.with_registers(|registers| context.registers.restore(&mut registers.general));
    {
        // As sigaltstack(2), with errors ignored: the frame is the program's to write.
        let mut own = thread.signals().lock();
        let stack = context.stack;
        if stack.flags & raw::SS_DISABLE != 0 {
            own.stack = SignalStack::default();
        } else if !is_on(&own.stack, context.registers.stack_pointer()) && stack.size >= raw::MINSIGSTKSZ as usize {
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
    match space.resolve(fault.address.into(), Access::READ) {
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
