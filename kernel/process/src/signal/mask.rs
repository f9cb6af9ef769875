//! Blocking signals and waiting for them.

use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::Poll;

use abi::raw::general as raw;
use abi::signal::{SignalSet, SignalStack};
use abi::{Errno, Result};

use super::{Information, attention, send};
use crate::{Failure, Interrupted, Thread};

/// The smallest alternate stack.
const MINIMUM_STACK: usize = raw::MINSIGSTKSZ as usize;

/// The mask, which only the thread itself changes.
pub fn get(thread: &Thread) -> SignalSet {
    thread.signals().lock().mask
}

/// Changes the mask.
pub fn set(thread: &Thread, mask: SignalSet) {
    thread.set_mask(mask);
}

/// What rt_sigprocmask(2) makes of a mask.
///
/// # Errors
/// `EINVAL` for an unknown `how`.
pub fn changed(old: SignalSet, how: u32, set: SignalSet) -> Result<SignalSet> {
    match how {
        raw::SIG_BLOCK => Ok(old.union(set)),
        raw::SIG_UNBLOCK => Ok(old.without(set)),
        raw::SIG_SETMASK => Ok(set),
        _ => Err(Errno::EINVAL),
    }
}

/// rt_sigpending(2): what is pending and blocked.
pub fn pending(thread: &Thread) -> SignalSet {
    let shared = thread.process().shared_pending();
    let own = thread.signals().lock();
    own.pending.set().union(shared).intersection(own.mask)
}

/// Puts a mask in place for the time of one call: ppoll(2), pselect(2), sigsuspend(2). The mask that was is put back on the
/// way to user mode, after the handler of a signal that the new mask let through has been set up; or with
/// [`restore`], before the call returns normally.
pub fn set_for_call(thread: &Thread, mask: SignalSet) {
    {
        let mut own = thread.signals().lock();
        own.saved_mask = Some(own.mask);
    }
    thread.raise_attention(attention::RESTORE_MASK);
    thread.set_mask(mask);
}

/// Puts back the mask from before [`set_for_call`].
pub fn restore(thread: &Thread) {
    thread.lower_attention(attention::RESTORE_MASK);
    let saved = thread.signals().lock().saved_mask.take();
    if let Some(mask) = saved {
        thread.set_mask(mask);
    }
}

/// rt_sigsuspend(2). Never succeeds.
pub async fn suspend(thread: &Thread, mask: SignalSet) -> Failure {
    set_for_call(thread, mask);
    pause(thread).await
}

/// pause(2). Never succeeds.
pub async fn pause(thread: &Thread) -> Failure {
    let _ = thread.interruptible(core::future::pending::<()>()).await;
    Failure::Interrupted(Interrupted::RestartUnlessHandled)
}

/// rt_sigtimedwait(2): takes the next pending signal of `set`, waiting for it until `deadline`.
///
/// # Errors
/// `EAGAIN` when the time is up, `EINTR`.
pub async fn timed_wait(thread: &Arc<Thread>, set: SignalSet, deadline: Option<u64>) -> Result<Information, Failure> {
    let set = set.without(SignalSet::UNBLOCKABLE);
    if let Some(information) = take(thread, set) {
        return Ok(information);
    }
    if deadline.is_some_and(|deadline| deadline <= machine::time::now()) {
        return Err(Errno::EAGAIN.into());
    }
    thread.signals().lock().awaited = set;
    let waiting = Awaiting { thread, set };
    let executor = thread.kernel().executor();
    let mut sleep = deadline.map(|deadline| executor.sleep_until(deadline));
    let result = core::future::poll_fn(|context| {
        if let Some(information) = take(thread, set) {
            return Poll::Ready(Ok(information));
        }
        if thread.has_attention(attention::SIGNAL | attention::STOP | attention::EXIT) {
            return Poll::Ready(Err(Interrupted::Eintr.into()));
        }
        if let Some(sleep) = &mut sleep
            && Pin::new(sleep).poll(context).is_ready()
        {
            return Poll::Ready(Err(Errno::EAGAIN.into()));
        }
        Poll::Pending
    })
    .await;
    // Nobody else was told of what came in the last moment.
    waiting.stop();
    result.or_else(|failure| take(thread, set).ok_or(failure))
}

/// Ends the waiting however it ends, and leaves to others what came and was not taken.
struct Awaiting<'a> {
    thread: &'a Thread,
    set: SignalSet,
}

impl Awaiting<'_> {
    /// Nothing more is awaited.
    fn stop(&self) {
        self.thread.signals().lock().awaited = SignalSet::EMPTY;
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.stop();
        send::retarget(self.thread, self.set);
    }
}

/// Takes a pending signal of `set`, the thread's own first.
fn take(thread: &Thread, set: SignalSet) -> Option<Information> {
    let process = thread.process();
    let mut signals = process.signals().lock();
    let own = thread.signals().lock().pending.take(set);
    let taken = own.or_else(|| signals.pending.take(set));
    process.publish_pending(&signals);
    drop(signals);
    thread.review_attention();
    taken
}

/// The alternate stack as sigaltstack(2) tells it. Only the thread itself changes it.
pub fn alternate_stack(thread: &Thread) -> SignalStack {
    let pointer = thread.with_registers(|registers| registers.general.stack_pointer());
    let mut stack = thread.signals().lock().stack;
    stack.flags = state_flags(&stack, pointer) | stack.flags & raw::SS_AUTODISARM;
    stack
}

/// What sigaltstack(2) makes of the stack a program gives.
///
/// # Errors
/// `EPERM` while the thread runs on the old one, `EINVAL` for unknown flags, `ENOMEM` if it is too small.
pub fn checked_stack(thread: &Thread, new: SignalStack) -> Result<SignalStack> {
    let pointer = thread.with_registers(|registers| registers.general.stack_pointer());
    if is_on(&thread.signals().lock().stack, pointer) {
        return Err(Errno::EPERM);
    }
    match new.flags & !raw::SS_AUTODISARM {
        raw::SS_DISABLE => Ok(SignalStack { flags: new.flags, ..SignalStack::default() }),
        0 | raw::SS_ONSTACK if new.size < MINIMUM_STACK => Err(Errno::ENOMEM),
        0 | raw::SS_ONSTACK => Ok(SignalStack { flags: new.flags & raw::SS_AUTODISARM, ..new }),
        _ => Err(Errno::EINVAL),
    }
}

/// Puts another alternate stack in place.
pub fn set_alternate_stack(thread: &Thread, checked: SignalStack) {
    thread.signals().lock().stack = checked;
}

/// Whether `pointer` lies on the alternate stack and the thread thus runs on it.
pub(super) const fn is_on(stack: &SignalStack, pointer: usize) -> bool {
    stack.flags & raw::SS_AUTODISARM == 0 && pointer > stack.base && pointer - stack.base <= stack.size
}

/// `SS_DISABLE`, `SS_ONSTACK` or nothing, as sigaltstack(2) reports it.
pub(super) const fn state_flags(stack: &SignalStack, pointer: usize) -> u32 {
    if stack.size == 0 {
        raw::SS_DISABLE
    } else if is_on(stack, pointer) {
        raw::SS_ONSTACK
    } else {
        0
    }
}
