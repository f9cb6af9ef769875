//! Signals: the rt_sig family, kill(2) and its kin, alarm(2) and setitimer(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, SignalInfo, SignalSet, SignalStack};
use abi::time::{IntervalTimer, Timespec};
use process::signal::{MaskChange, Target};
use process::{Failure, Interrupted, Outcome, Thread, signal, timers};
use vfs::Stop;

use crate::argument::{In, Out, SignalNumber};

/// The size of `sigset_t` as the kernel has it, which every call states.
const SET_SIZE: usize = size_of::<SignalSet>();

/// Checks the size a call states.
fn check_size(size: usize) -> Result<(), Errno> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

/// rt_sigaction(2)
pub(crate) fn rt_sigaction(
    thread: &Arc<Thread>, number: SignalNumber, new: In<SignalAction>, old: Out<SignalAction>, size: usize,
) -> Result<(), Stop> {
    check_size(size)?;
    let new = new.read_optional(thread)?;
    let number = Signal::new(number.0)?;
    if new.is_some() && SignalSet::UNBLOCKABLE.contains(number) {
        return Err(Errno::EINVAL.into());
    }
    let process = thread.process();
    old.write_optional(thread, &process.signal_action(number))?;
    if let Some(new) = new {
        process.set_signal_action(number, new);
    }
    Ok(())
}

/// rt_sigprocmask(2)
pub(crate) fn rt_sigprocmask(
    thread: &Arc<Thread>, how: i32, new: In<SignalSet>, old: Out<SignalSet>, size: usize,
) -> Result<(), Stop> {
    check_size(size)?;
    let new = new.read_optional(thread)?;
    let before = thread.signal_mask();
    let after = match (new, how as u32) {
        (None, _) => before,
        (Some(set), raw::SIG_BLOCK) => before.union(set),
        (Some(set), raw::SIG_UNBLOCK) => before.without(set),
        (Some(set), raw::SIG_SETMASK) => set,
        _ => return Err(Errno::EINVAL.into()),
    };
    old.write_optional(thread, &before)?;
    if after != before {
        thread.set_signal_mask(after);
    }
    Ok(())
}

/// rt_sigreturn(2): the frame on the stack says what the registers were.
pub(crate) async fn rt_sigreturn(thread: &Arc<Thread>) -> Outcome {
    signal::return_from_handler(thread).await;
    Outcome::Registers
}

/// rt_sigpending(2). A size below that of a set gets as many bytes.
pub(crate) fn rt_sigpending(thread: &Arc<Thread>, set: Out<SignalSet>, size: usize) -> Result<(), Stop> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let pending = thread.pending_signals().intersection(thread.signal_mask());
    let bytes = pending.0.to_le_bytes();
    crate::user::write(thread, set.0, bytes.get(..size).unwrap_or_default())
}
