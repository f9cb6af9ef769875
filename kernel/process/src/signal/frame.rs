//! Calling a handler, on a frame of the program's stack, and the way back: rt_sigreturn(2). What a frame looks like is the architecture's
//! ([`abi::arch::SignalFrame`]).

use alloc::sync::Arc;

use abi::arch::{Handling, SignalFrame, StateOwner, UserContext, extended_state};
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, SignalStack, action_flags};
use abi::{Errno, Result};
use machine::user::Registers;
use memory::{Access, AddressSpace, MemoryFault};
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
    let Some(way_back) = SignalFrame::way_back(action, || thread.space().vdso()) else { return Err(Errno::EFAULT) };
    let signal = information.signal;
    let handling = Handling { signal, handler: action.handler, way_back };
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
    let mut old_stack = stack;
    old_stack.flags = state_flags(&stack, general.stack_pointer()) | stack.flags;
    let context = UserContext::new(&general, state_address, &trap, old_stack, mask);
    let frame = SignalFrame::new(&handling, context, information.to_program());
    let space = thread.space();
    // Where the state lies within the frame, it is written over what the frame has there.
    space.copy_out(frame_address, frame.as_bytes()).await?;
    write_state(thread, space, state_address).await?;
    thread.with_registers(|registers| SignalFrame::enter(&mut registers.general, frame_address, &handling));
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

/// Writes the extended state.
async fn write_state(thread: &Thread, space: &AddressSpace, address: usize) -> Result<()> {
    let write = |registers: &mut Registers| {
        extended_state::write(registers, address, |address, bytes| space.space().write(address, bytes))
    };
    while let Err(fault) = thread.with_registers(write) {
        space.fault_in(fault).await?;
    }
    Ok(())
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
    if !thread.read(context_at, context.as_mut_bytes())? {
        return Ok(refuse(thread));
    }
    if !extended_state::take(&**thread, &context)? {
        return Ok(refuse(thread));
    }
    thread.with_registers(|registers| context.restore(&mut registers.general));
    {
        // As sigaltstack(2), with errors ignored: the frame is the program's to write.
        let mut own = thread.signals().lock();
        let stack = context.stack;
        if stack.flags & raw::SS_DISABLE != 0 {
            own.stack = SignalStack::default();
        } else if !is_on(&own.stack, context.stack_pointer()) && stack.size >= raw::MINSIGSTKSZ as usize {
            own.stack = SignalStack { flags: stack.flags & raw::SS_AUTODISARM, ..stack };
        }
    }
    thread.set_mask(context.mask);
    Ok(Outcome::Registers)
}

impl StateOwner for Thread {
    type Stop = NotReady;

    fn read(&self, address: usize, bytes: &mut [u8]) -> Result<bool, NotReady> {
        let space = self.space();
        let Err(fault) = space.space().read(address, bytes) else { return Ok(true) };
        match space.resolve(fault.address.into(), Access::READ) {
            Ok(_) | Err(MemoryFault::Wait(_) | MemoryFault::Busy) => Err(NotReady::Fault(fault)),
            Err(_) => Ok(false),
        }
    }

    #[inline]
    fn change_registers<R>(&self, change: impl FnOnce(&mut Registers) -> R) -> R {
        self.with_registers(change)
    }
}

fn refuse(thread: &Arc<Thread>) -> Outcome {
    send::force(thread, Information::kernel(Signal::SEGV));
    Outcome::Registers
}
