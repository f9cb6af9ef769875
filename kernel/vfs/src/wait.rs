//! The loop that makes "try" into "wait": read(2), write(2) and all their kin end here.
//!
//! Each function tries first; only when that can't be finished does it register with the file's wait queue, try again, and
//! sleep. Faults in the program's memory are resolved on the way. Everything is cancel-safe: a signal drops the future, and what was
//! moved until then stands in the cursor, which the caller still has: if its `progress()` is not 0, that is what
//! the call returns instead of `EINTR`.

use core::future::poll_fn;
use core::task::Poll;

use abi::{Errno, Result};
use memory::{Destination, Source};
use sync::Listener;

use crate::caller::Caller;
use crate::file::{FileTraits, Operation, PollEvents, Stop};
use crate::open::OpenFlags;
use crate::open_file::OpenFile;
use crate::{Access, poll};

/// Reads at the file's position: read(2), readv(2).
///
/// # Errors
/// `EBADF`, `EAGAIN` with `O_NONBLOCK`, `EFAULT`, and the file's own.
pub async fn read(open: &OpenFile, destination: &mut Destination<'_>, caller: &dyn Caller) -> Result<usize> {
    open.check(Access::READ)?;
    if open.traits().contains(FileTraits::ADMITS) {
        admit(open, Operation::Read, caller).await?;
    }
    if !open.has_position() {
        return read_on(open, &mut 0, destination).await;
    }
    let mut position = match open.position.try_lock() {
        Some(position) => position,
        None => open.position.lock().await,
    };
    read_on(open, &mut position, destination).await
}

/// Reads at `position`, leaving the file's own alone: pread(2), preadv(2).
///
/// # Errors
/// As [`read`]; `ESPIPE`, and `EINVAL` for a position below 0.
pub async fn read_at(
    open: &OpenFile,
    position: i64,
    destination: &mut Destination<'_>,
    caller: &dyn Caller,
) -> Result<usize> {
    let mut position = check_position(open, position)?;
    open.check(Access::READ)?;
    if open.traits().contains(FileTraits::ADMITS) {
        admit(open, Operation::Read, caller).await?;
    }
    read_on(open, &mut position, destination).await
}

/// Writes at the file's position, or at its end with `O_APPEND`: write(2), writev(2).
///
/// # Errors
/// `EBADF`, `EAGAIN` with `O_NONBLOCK`, `EFAULT`, `EPIPE` (the caller was told), and the file's own.
pub async fn write(open: &OpenFile, source: &mut Source<'_>, caller: &dyn Caller) -> Result<usize> {
    open.check(Access::WRITE)?;
    if open.traits().contains(FileTraits::ADMITS) {
        admit(open, Operation::Write, caller).await?;
    }
    if !open.has_position() {
        return write_on(open, &mut 0, source, caller).await;
    }
    let mut position = match open.position.try_lock() {
        Some(position) => position,
        None => open.position.lock().await,
    };
    write_on(open, &mut position, source, caller).await
}

/// Writes at `position`, leaving the file's own alone: pwrite(2), pwritev(2). With `O_APPEND` Linux appends all the same.
///
/// # Errors
/// As [`write`]; `ESPIPE`, and `EINVAL` for a position below 0.
pub async fn write_at(open: &OpenFile, position: i64, source: &mut Source<'_>, caller: &dyn Caller) -> Result<usize> {
    let mut position = check_position(open, position)?;
    open.check(Access::WRITE)?;
    if open.traits().contains(FileTraits::ADMITS) {
        admit(open, Operation::Write, caller).await?;
    }
    write_on(open, &mut position, source, caller).await
}

/// ioctl(2), repeated while the file wants to wait or a page of the argument is missing.
///
/// # Errors
/// `EBADF` with `O_PATH`, `ENOTTY`, `EFAULT`, and the file's own.
pub async fn ioctl(open: &OpenFile, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize> {
    let file = open.usable()?;
    let mut place = Place::default();
    loop {
        match file.ioctl(request, argument, caller) {
            Ok(value) => return Ok(value),
            Err(Stop::Fault(fault)) => caller.settle(fault).await?,
            Err(stop) => pause(open, stop, PollEvents::all(), &mut place, false).await?,
        }
    }
}

/// fsync(2), fdatasync(2).
///
/// # Errors
/// `EBADF`, `EINVAL` for what can't be synchronised, `EIO`.
pub async fn synchronise(open: &OpenFile, data_only: bool) -> Result<()> {
    let file = open.usable()?;
    let mut place = Place::default();
    loop {
        match file.synchronise(data_only) {
            Ok(()) => return Ok(()),
            Err(stop) => pause(open, stop, PollEvents::all(), &mut place, false).await?,
        }
    }
}

/// Waits until one of `events`, an error or a hang-up is there, and returns what is.
pub async fn wait_for(open: &OpenFile, events: PollEvents) -> PollEvents {
    let mut entry = [poll::Interest::new(Some(open), events)];
    poll::poll(&mut entry, core::future::pending()).await;
    entry.first().map_or(PollEvents::empty(), |entry| entry.ready)
}

fn check_position(open: &OpenFile, position: i64) -> Result<u64> {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    if open.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    if open.traits().contains(FileTraits::SEEKABLE) { Ok(position) } else { Err(Errno::ESPIPE) }
}

async fn admit(open: &OpenFile, operation: Operation, caller: &dyn Caller) -> Result<()> {
    let mut place = Place::default();
    while let Err(stop) = open.file().admit(operation, caller) {
        pause(open, stop, PollEvents::all(), &mut place, false).await?;
    }
    Ok(())
}

/// The fast path: one try that does it all.
#[inline]
async fn read_on(open: &OpenFile, position: &mut u64, destination: &mut Destination<'_>) -> Result<usize> {
    let before = destination.progress();
    match try_read(open, position, destination) {
        Ok(moved) => Ok(moved),
        Err(stop) => read_slowly(open, position, destination, before, stop).await,
    }
}

#[inline]
fn try_read(open: &OpenFile, position: &mut u64, destination: &mut Destination<'_>) -> Result<usize, Stop> {
    let before = destination.progress();
    let result = open.file().read(*position, destination);
    *position = position.saturating_add((destination.progress() - before) as u64);
    result
}

/// Waits for what the first try lacked, and tries again.
#[cold]
async fn read_slowly(
    open: &OpenFile,
    position: &mut u64,
    destination: &mut Destination<'_>,
    start: usize,
    mut stop: Stop,
) -> Result<usize> {
    let mut place = Place::default();
    loop {
        let moved = destination.progress() - start;
        let outcome = match stop {
            Stop::Fault(fault) => destination.settle(fault).await,
            // What is there is delivered at once.
            Stop::WouldBlock if moved > 0 || destination.remaining() == 0 => return Ok(moved),
            stop => pause(open, stop, PollEvents::READABLE, &mut place, true).await,
        };
        if let Err(errno) = outcome {
            return if moved > 0 { Ok(moved) } else { Err(errno) };
        }
        match try_read(open, position, destination) {
            Ok(_) => {
                place.consume();
                return Ok(destination.progress() - start);
            }
            Err(next) => stop = next,
        }
    }
}

/// The fast path: one try that does it all.
#[inline]
async fn write_on(open: &OpenFile, position: &mut u64, source: &mut Source<'_>, caller: &dyn Caller) -> Result<usize> {
    let before = source.progress();
    match try_write(open, position, source) {
        Ok(moved) => Ok(moved),
        Err(stop) => write_slowly(open, position, source, caller, before, stop).await,
    }
}

#[inline]
fn try_write(open: &OpenFile, position: &mut u64, source: &mut Source<'_>) -> Result<usize, Stop> {
    if open.flags().contains(OpenFlags::APPEND) {
        let (moved, end) = open.file().append(source)?;
        *position = end;
        return Ok(moved);
    }
    let before = source.progress();
    let result = open.file().write(*position, source);
    *position = position.saturating_add((source.progress() - before) as u64);
    result
}

/// Waits for what the first try lacked, and tries again, until everything is written.
#[cold]
async fn write_slowly(
    open: &OpenFile,
    position: &mut u64,
    source: &mut Source<'_>,
    caller: &dyn Caller,
    start: usize,
    mut stop: Stop,
) -> Result<usize> {
    let mut place = Place::default();
    loop {
        let moved = source.progress() - start;
        let outcome = match stop {
            Stop::Fault(fault) => source.settle(fault).await,
            Stop::WouldBlock if source.remaining() == 0 => return Ok(moved),
            stop => pause(open, stop, PollEvents::WRITABLE, &mut place, true).await,
        };
        if let Err(errno) = outcome {
            if errno == Errno::EPIPE {
                caller.broken_pipe();
            }
            return if moved > 0 { Ok(moved) } else { Err(errno) };
        }
        match try_write(open, position, source) {
            Ok(_) => {
                place.consume();
                return Ok(source.progress() - start);
            }
            Err(next) => stop = next,
        }
    }
}

/// A place in a file's wait queue, kept from the first failed try to the end.
///
/// Between two tries it either registers, because what is waited for may have come about since the last try, or sleeps. A
/// wake-up stays noted in the listener until the operation succeeds: if it fails instead, or is dropped, the wake-up is handed on.
#[derive(Default)]
struct Place<'a> {
    listener: Option<Listener<'a>>,
    /// Registered since it was last woken, and tried since.
    armed: bool,
}

impl Place<'_> {
    /// The operation got what it waited for.
    fn consume(&mut self) {
        self.listener.iter_mut().for_each(Listener::consume);
    }
}

/// Waits until it is worth trying again after `stop`.
async fn pause<'a>(
    open: &'a OpenFile,
    stop: Stop,
    events: PollEvents,
    place: &mut Place<'a>,
    may_refuse: bool,
) -> Result<()> {
    match stop {
        Stop::Error(errno) => return Err(errno),
        Stop::Fault(_) => return Err(Errno::EFAULT),
        Stop::Signalled => yield_once().await,
        Stop::WouldBlock if may_refuse && open.flags().contains(OpenFlags::NON_BLOCK) => return Err(Errno::EAGAIN),
        Stop::WouldBlock => match &mut place.listener {
            Some(listener) if place.armed => {
                listener.woken().await;
                place.armed = false;
            }
            Some(listener) => {
                listener.register().await;
                place.armed = true;
            }
            None => {
                let queue = open.file().wait_queue(events).ok_or(Errno::EAGAIN)?;
                place.listener.insert(queue.listen()).register().await;
                place.armed = true;
            }
        },
    }
    Ok(())
}

/// Returns to the executor once, so that a signal can be delivered.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
