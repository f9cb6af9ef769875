//! Blocking signals and waiting for them.

use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::Poll;

use abi::raw::general as raw;
use abi::signal::{SignalSet, SignalStack};
use abi::{Errno, Result};

use super::{Information, attention};
use crate::{Failure, Interrupted, Thread};

/// The smallest alternate stack.
const MINIMUM_STACK: usize = raw::MINSIGSTKSZ as usize;

/// rt_sigprocmask(2): returns the old mask, and changes it if there is a `change` (how, set).
///
/// # Errors
/// `EINVAL` for an unknown `how`.
pub fn change(thread: &Thread, change: Option<(u32, SignalSet)>) -> Result<SignalSet> {
    let old = thread.signals().lock().mask;
    if let Some((how, set)) = change {
        let new = match how {
            raw::SIG_BLOCK => old.union(set),
            raw::SIG_UNBLOCK => old.without(set),
            raw::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        thread.set_mask(new);
    }
    Ok(old)
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
    let _forget = Awaiting(thread);
    let executor = thread.kernel().executor();
    let mut sleep = deadline.map(|deadline| executor.sleep_until(deadline));
    core::future::poll_fn(|context| {
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
    .await
}

/// Ends the waiting however it ends.
struct Awaiting<'a>(&'a Thread);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.signals().lock().awaited = SignalSet::EMPTY;
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

/// sigaltstack(2): returns the old stack, and sets a new one if there is one.
///
/// # Errors
/// `EPERM` while the thread runs on it, `EINVAL` for unknown flags, `ENOMEM` if it is too small.
pub fn alternate_stack(thread: &Thread, new: Option<SignalStack>) -> Result<SignalStack> {
    let pointer = thread.with_registers(|registers| registers.general.rsp);
    let mut own = thread.signals().lock();
    let mut old = own.stack;
    old.flags = state_flags(&old, pointer) | old.flags & raw::SS_AUTODISARM;
    let Some(new) = new else { return Ok(old) };
    if is_on(&own.stack, pointer) {
        return Err(Errno::EPERM);
    }
    match new.flags & !raw::SS_AUTODISARM {
        raw::SS_DISABLE => own.stack = SignalStack { flags: new.flags, ..SignalStack::default() },
        0 | raw::SS_ONSTACK => {
            if new.size < MINIMUM_STACK {
                return Err(Errno::ENOMEM);
            }
            own.stack = SignalStack { flags: new.flags & raw::SS_AUTODISARM, ..new };
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(old)
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
