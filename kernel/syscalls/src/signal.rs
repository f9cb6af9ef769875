//! Signals: the rt_sig family, kill(2) and its kin, sigaltstack(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, SignalInfo, SignalSet, SignalStack};
use abi::time::Timespec;
use process::signal::{action, frame, mask, send};
use process::{Failure, Interrupted, Outcome, Thread};
use vfs::NotReady;

use crate::argument::{In, Out, SignalNumber};
use crate::{futex, poll, time, user};

/// The size of `sigset_t` as the kernel has it, which every call states.
const SET_SIZE: usize = size_of::<SignalSet>();

/// Checks the size of a set that a call states.
pub(crate) fn check_size(size: usize) -> Result<(), Errno> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Sends a signal with `send`. Linux looks for the target before it looks at the number: so for 0 and for numbers no signal
/// has, `send` is only asked whether there is one.
fn send_number(number: SignalNumber, send: impl FnOnce(Option<Signal>) -> Result<(), Errno>) -> Result<(), Errno> {
    if number.0 == 0 {
        return send(None);
    }
    match Signal::new(number.0) {
        Ok(signal) => send(Some(signal)),
        Err(invalid) => match send(None) {
            Err(Errno::ESRCH) => Err(Errno::ESRCH),
            _ => Err(invalid),
        },
    }
}

/// rt_sigaction(2)
pub(crate) fn rt_sigaction(
    thread: &Arc<Thread>,
    number: SignalNumber,
    new: In<SignalAction>,
    old: Out<SignalAction>,
    size: usize,
) -> Result<(), NotReady> {
    check_size(size)?;
    let new = new.read_optional(thread)?;
    old.make_present(thread)?;
    let before = action::set(thread, Signal::new(number.0)?, new)?;
    // As on Linux a bad address for the old action is found when the new one holds already.
    old.write_optional(thread, &before)
}

/// rt_sigprocmask(2)
pub(crate) fn rt_sigprocmask(
    thread: &Arc<Thread>,
    how: i32,
    new: In<SignalSet>,
    old: Out<SignalSet>,
    size: usize,
) -> Result<(), NotReady> {
    check_size(size)?;
    let before = mask::get(thread);
    let after = new.read_optional(thread)?.map(|set| mask::changed(before, how as u32, set)).transpose()?;
    old.tell_and(thread, &before, || after.into_iter().for_each(|after| mask::set(thread, after)))
}

/// rt_sigreturn(2): the frame on the stack says what the registers were.
pub(crate) fn rt_sigreturn(thread: &Arc<Thread>) -> Result<Outcome, NotReady> {
    frame::return_from_handler(thread)
}

/// restart_syscall(2): the kernel makes programs call it to go on with a call that has a relative timeout.
pub(crate) async fn restart_syscall(thread: &Arc<Thread>) -> Result<usize, Failure> {
    let resume = thread.take_resume().ok_or(Interrupted::Eintr)?;
    match resume.call.number as u32 {
        #[cfg(old_calls)]
        raw::__NR_poll => poll::resume_poll(thread, resume).await,
        raw::__NR_futex => futex::resume_wait(thread, resume).await,
        raw::__NR_nanosleep | raw::__NR_clock_nanosleep => time::resume_sleep(thread, resume).await,
        _ => Err(Interrupted::Eintr.into()),
    }
}

/// rt_sigpending(2). A size below that of a set gets as many bytes.
pub(crate) fn rt_sigpending(thread: &Arc<Thread>, set: Out<SignalSet>, size: usize) -> Result<(), NotReady> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let bytes = mask::pending(thread).0.to_le_bytes();
    user::write(thread, set.0, bytes.get(..size).unwrap_or_default())
}

/// rt_sigtimedwait(2)
pub(crate) async fn rt_sigtimedwait(
    thread: &Arc<Thread>,
    set: In<SignalSet>,
    information: Out<SignalInfo>,
    timeout: In<Timespec>,
    size: usize,
) -> Result<usize, Failure> {
    check_size(size)?;
    let set = set.fetch(thread).await?;
    let timeout = timeout.fetch_optional(thread).await?.map(Timespec::to_nanoseconds).transpose()?;
    let deadline = timeout.map(|timeout| machine::time::now().saturating_add(timeout));
    let taken = mask::timed_wait(thread, set, deadline).await?;
    information.store_optional(thread, &taken.to_program()).await?;
    Ok(usize::from(taken.signal.number()))
}

/// rt_sigqueueinfo(2)
pub(crate) fn rt_sigqueueinfo(
    thread: &Arc<Thread>,
    pid: i32,
    signal: SignalNumber,
    information: In<SignalInfo>,
) -> Result<(), NotReady> {
    let given = information.read(thread)?;
    Ok(send_number(signal, |signal| send::queue_information(thread, pid, None, signal, &given))?)
}

/// rt_tgsigqueueinfo(2)
pub(crate) fn rt_tgsigqueueinfo(
    thread: &Arc<Thread>,
    tgid: i32,
    tid: i32,
    signal: SignalNumber,
    information: In<SignalInfo>,
) -> Result<(), NotReady> {
    let given = information.read(thread)?;
    Ok(send_number(signal, |signal| send::queue_information(thread, tgid, Some(tid), signal, &given))?)
}

/// rt_sigsuspend(2)
pub(crate) async fn rt_sigsuspend(thread: &Arc<Thread>, mask: In<SignalSet>, size: usize) -> Result<usize, Failure> {
    check_size(size)?;
    let set = mask.fetch(thread).await?;
    Err(mask::suspend(thread, set).await)
}

/// pause(2)
pub(crate) async fn pause(thread: &Arc<Thread>) -> Result<usize, Failure> {
    Err(mask::pause(thread).await)
}

/// sigaltstack(2)
pub(crate) fn sigaltstack(thread: &Arc<Thread>, new: In<SignalStack>, old: Out<SignalStack>) -> Result<(), NotReady> {
    let new = new.read_optional(thread)?.map(|new| mask::checked_stack(thread, new)).transpose()?;
    let before = mask::alternate_stack(thread);
    old.tell_and(thread, &before, || new.into_iter().for_each(|new| mask::set_alternate_stack(thread, new)))
}

/// kill(2), unless it may be of many.
pub(crate) fn kill(thread: &Arc<Thread>, pid: i32, signal: SignalNumber) -> Result<(), NotReady> {
    match pid {
        1.. => Ok(send_number(signal, |signal| send::kill(thread, pid, signal))?),
        _ => Err(NotReady::WouldBlock),
    }
}

/// kill(2) of many.
pub(crate) async fn kill_waiting(thread: &Arc<Thread>, pid: i32, signal: SignalNumber) -> Result<(), Failure> {
    let (known, invalid) = match signal.0 {
        0 => (None, None),
        number => Signal::new(number).map_or_else(|errno| (None, Some(errno)), |signal| (Some(signal), None)),
    };
    match (send::kill_many(thread, pid, known).await, invalid) {
        (Err(Errno::ESRCH), _) => Err(Errno::ESRCH.into()),
        (_, Some(invalid)) => Err(invalid.into()),
        (result, None) => Ok(result?),
    }
}

/// tkill(2)
pub(crate) fn tkill(thread: &Arc<Thread>, tid: i32, signal: SignalNumber) -> Result<(), Errno> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    send_number(signal, |signal| send::tgkill(thread, None, tid, signal))
}

/// tgkill(2)
pub(crate) fn tgkill(thread: &Arc<Thread>, tgid: i32, tid: i32, signal: SignalNumber) -> Result<(), Errno> {
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    send_number(signal, |signal| send::tgkill(thread, Some(tgid), tid, signal))
}
