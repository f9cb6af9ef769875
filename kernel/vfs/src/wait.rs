//! The loop that makes "try" into "wait": read(2), write(2) and all their kin end here.
//!
//! Long ones go in pieces of [`PIECE`], with a budget: between two pieces others run, and who waits for the operation may
//! drop it. No file sees more at a time.
//!
//! Each operation is tried first, by a plain function ([`try_read`], [`try_write`]) that builds no future; a system
//! call that can be served at once ends there. Only what could not be finished is awaited ([`finish_read`],
//! [`finish_write`]): then it registers with the file's wait queue, tries again, and sleeps. Faults in the program's
//! memory are resolved on the way.
//!
//! A cursor is made for one operation: how far it moved is what was read or written. Everything is cancel-safe: a
//! signal drops the future, and what was moved until then stands in the cursor, which the caller still has: if its
//! `progress()` is not 0, that is what the call returns instead of `EINTR`.

use alloc::boxed::Box;

use abi::{Errno, Result};
use memory::{Destination, FileIdentity, PAGE_SIZE, PagerError, Source};
use sync::{Budget, Kind, Listener, Mutex, MutexGuard, WaitQueue, yield_now};

use crate::Access;
use crate::caller::Caller;
use crate::contents::before_write;
use crate::file::{FileTraits, NotReady, Operation, PollEvents};
use crate::open::OpenFlags;
use crate::open_file::OpenFile;
use crate::truncate::{exclude, try_exclude};

/// Bytes a file is asked to move at a time. What is longer is left to [`finish_read`] and [`finish_write`], from its first
/// byte on.
pub const PIECE: usize = 64 * 1024;

/// A read or write that could not be finished in one try.
pub struct Unfinished<'a> {
    reached: Reached<'a>,
}

/// How far the try came.
enum Reached<'a> {
    /// The file did not admit the caller yet.
    Nothing,
    /// Somebody else is reading or writing at the file's position.
    Admitted,
    /// Nothing yet, and it is to happen here.
    At(u64),
    /// The file stopped.
    Stopped { stop: NotReady, position: Position<'a> },
}

/// Where in the file an operation happens.
enum Position<'a> {
    /// At the file's own position, which is moved on. Held from the first try to the last.
    Own(MutexGuard<'a, u64>),
    /// Here, and the file's own stays. 0 for what has none.
    At(u64),
}

impl Position<'_> {
    fn get(&mut self) -> &mut u64 {
        match self {
            Position::Own(guard) => guard,
            Position::At(position) => position,
        }
    }
}

impl<'a> Unfinished<'a> {
    /// Whether a page of the program has to be fetched, and nothing else is in the way.
    pub fn lacks_page(&self) -> bool {
        matches!(self.reached, Reached::Stopped { stop: NotReady::Fault(_), .. })
    }

    fn stopped(stop: impl Into<NotReady>, position: Position<'a>) -> Unfinished<'a> {
        Unfinished { reached: Reached::Stopped { stop: stop.into(), position } }
    }
}

impl From<Errno> for Unfinished<'_> {
    fn from(errno: Errno) -> Self {
        Unfinished::stopped(errno, Position::At(0))
    }
}

/// Reads at the file's position as far as that can be done now: the fast path of read(2). What is left, errors
/// included, goes to [`finish_read`].
#[inline]
pub fn try_read<'a>(
    open: &'a OpenFile,
    destination: &mut Destination<'_>,
    caller: &dyn Caller,
) -> Result<usize, Unfinished<'a>> {
    open.check(Access::READ)?;
    if destination.remaining() > PIECE {
        return Err(Unfinished { reached: Reached::Nothing });
    }
    if open.traits().contains(FileTraits::ADMITS) && open.file().admit(Operation::Read, caller).is_err() {
        return Err(Unfinished { reached: Reached::Nothing });
    }
    if !open.has_position() {
        return read_once(open, &mut 0, destination).map_err(|stop| Unfinished::stopped(stop, Position::At(0)));
    }
    let Some(mut position) = open.position.try_lock() else { return Err(Unfinished { reached: Reached::Admitted }) };
    match read_once(open, &mut position, destination) {
        Ok(moved) => Ok(moved),
        Err(stop) => Err(Unfinished::stopped(stop, Position::Own(position))),
    }
}

/// Waits for what a read lacked, and goes on with it.
///
/// # Errors
/// As [`read`].
#[expect(clippy::manual_async_fn, reason = "the future of an async fn holds its arguments twice")]
pub fn finish_read<'a>(
    open: &'a OpenFile,
    destination: &mut Destination<'_>,
    caller: &dyn Caller,
    unfinished: Unfinished<'a>,
) -> impl Future<Output = Result<usize>> {
    async move {
        if matches!(unfinished.reached, Reached::Nothing) {
            admit(open, Operation::Read, caller).await?;
        }
        let (mut position, mut stop) = match unfinished.reached {
            Reached::Stopped { stop, position } => (position, Some(stop)),
            Reached::At(position) => (Position::At(position), None),
            Reached::Nothing | Reached::Admitted => (lock_position(open).await, None),
        };
        let mut waiter = Waiter::default();
        let mut budget = Budget::new();
        loop {
            let moved = destination.progress();
            let outcome = match stop {
                None => Ok(()),
                Some(NotReady::Fault(fault)) => destination.fault_in(fault).await,
                // What is there is delivered at once.
                Some(NotReady::WouldBlock) if moved > 0 || destination.remaining() == 0 => return Ok(moved),
                Some(NotReady::Elsewhere) => match Box::pin(deliver(open, position.get(), destination)).await {
                    Ok(true) => return Ok(destination.progress()),
                    fetched => fetched.map(drop),
                },
                Some(stop) => pause(open, stop, PollEvents::READABLE, &mut waiter, true).await,
            };
            if let Err(errno) = outcome {
                return if moved > 0 { Ok(moved) } else { Err(errno) };
            }
            let hidden = destination.hide(PIECE);
            let result = read_once(open, position.get(), destination);
            let whole = destination.remaining() == 0;
            destination.show(hidden);
            stop = result.err();
            if stop.is_none() {
                waiter.consume();
                if hidden == 0 || !whole {
                    return Ok(destination.progress());
                }
            }
            budget.pace((destination.progress() - moved) / PAGE_SIZE).await;
        }
    }
}

/// Reads at the file's position: read(2), readv(2).
///
/// # Errors
/// `EBADF`, `EAGAIN` with `O_NONBLOCK`, `EFAULT`, and the file's own.
pub async fn read(open: &OpenFile, destination: &mut Destination<'_>, caller: &dyn Caller) -> Result<usize> {
    match try_read(open, destination, caller) {
        Ok(moved) => Ok(moved),
        Err(unfinished) => finish_read(open, destination, caller, unfinished).await,
    }
}

/// Reads at `position`, leaving the file's own alone, as far as that can be done now: the fast path of pread(2).
#[inline]
pub fn try_read_at<'a>(
    open: &'a OpenFile,
    position: i64,
    destination: &mut Destination<'_>,
) -> Result<usize, Unfinished<'a>> {
    let mut position = check_position(open, position)?;
    open.check(Access::READ)?;
    if destination.remaining() > PIECE {
        return Err(Unfinished { reached: Reached::At(position) });
    }
    match read_once(open, &mut position, destination) {
        Ok(moved) => Ok(moved),
        Err(stop) => Err(Unfinished::stopped(stop, Position::At(position))),
    }
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
    match try_read_at(open, position, destination) {
        Ok(moved) => Ok(moved),
        Err(unfinished) => finish_read(open, destination, caller, unfinished).await,
    }
}

/// Writes at the file's position, or at its end with `O_APPEND`, as far as that can be done now: the fast path of
/// write(2). What is left, errors included, goes to [`finish_write`].
#[inline]
pub fn try_write<'a>(
    open: &'a OpenFile,
    source: &mut Source<'_>,
    caller: &dyn Caller,
) -> Result<usize, Unfinished<'a>> {
    open.check(Access::WRITE)?;
    if source.remaining() > PIECE {
        return Err(Unfinished { reached: Reached::Nothing });
    }
    if open.traits().contains(FileTraits::ADMITS) && open.file().admit(Operation::Write, caller).is_err() {
        return Err(Unfinished { reached: Reached::Nothing });
    }
    if !open.has_position() {
        return write_once(open, &mut 0, source, caller).map_err(|stop| Unfinished::stopped(stop, Position::At(0)));
    }
    let Some(mut position) = open.position.try_lock() else { return Err(Unfinished { reached: Reached::Admitted }) };
    let Some(_exclusion) = try_exclude(write_lock(open)) else { return Err(Unfinished { reached: Reached::Admitted }) };
    match write_once(open, &mut position, source, caller) {
        Ok(moved) => Ok(moved),
        Err(stop) => Err(Unfinished::stopped(stop, Position::Own(position))),
    }
}

/// Waits for what a write lacked, and goes on until everything is written.
///
/// # Errors
/// As [`write()`].
#[expect(clippy::manual_async_fn, reason = "the future of an async fn holds its arguments twice")]
pub fn finish_write<'a>(
    open: &'a OpenFile,
    source: &mut Source<'_>,
    caller: &dyn Caller,
    unfinished: Unfinished<'a>,
) -> impl Future<Output = Result<usize>> {
    async move {
        if matches!(unfinished.reached, Reached::Nothing) {
            admit(open, Operation::Write, caller).await?;
        }
        let (mut position, mut stop) = match unfinished.reached {
            Reached::Stopped { stop, position } => (position, Some(stop)),
            Reached::At(position) => (Position::At(position), None),
            Reached::Nothing | Reached::Admitted => (lock_position(open).await, None),
        };
        let _exclusion = exclude(write_lock(open)).await;
        let mut waiter = Waiter::default();
        let mut budget = Budget::new();
        loop {
            let moved = source.progress();
            let outcome = match stop {
                None => Ok(()),
                Some(NotReady::Fault(fault)) => source.fault_in(fault).await,
                Some(NotReady::WouldBlock) if source.remaining() == 0 => return Ok(moved),
                Some(stop) => pause(open, stop, PollEvents::WRITABLE, &mut waiter, true).await,
            };
            if let Err(errno) = outcome {
                if errno == Errno::EPIPE {
                    caller.broken_pipe();
                }
                return if moved > 0 { Ok(moved) } else { Err(errno) };
            }
            match write_once(open, position.get(), source, caller) {
                Ok(written) => {
                    waiter.consume();
                    if source.remaining() == 0 || written < PIECE {
                        return Ok(source.progress());
                    }
                    stop = None;
                }
                Err(next) => stop = Some(next),
            }
            budget.pace((source.progress() - moved) / PAGE_SIZE).await;
        }
    }
}

/// Writes at the file's position, or at its end with `O_APPEND`: write(2), writev(2).
///
/// # Errors
/// `EBADF`, `EAGAIN` with `O_NONBLOCK`, `EFAULT`, `EPIPE` (the caller was told), and the file's own.
pub async fn write(open: &OpenFile, source: &mut Source<'_>, caller: &dyn Caller) -> Result<usize> {
    match try_write(open, source, caller) {
        Ok(moved) => Ok(moved),
        Err(unfinished) => finish_write(open, source, caller, unfinished).await,
    }
}

/// Writes at `position`, leaving the file's own alone, as far as that can be done now: the fast path of pwrite(2).
#[inline]
pub fn try_write_at<'a>(
    open: &'a OpenFile,
    position: i64,
    source: &mut Source<'_>,
    caller: &dyn Caller,
) -> Result<usize, Unfinished<'a>> {
    let mut position = check_position(open, position)?;
    open.check(Access::WRITE)?;
    let exclusion = if source.remaining() > PIECE { None } else { try_exclude(write_lock(open)) };
    let Some(_exclusion) = exclusion else { return Err(Unfinished { reached: Reached::At(position) }) };
    match write_once(open, &mut position, source, caller) {
        Ok(moved) => Ok(moved),
        Err(stop) => Err(Unfinished::stopped(stop, Position::At(position))),
    }
}

/// Writes at `position`, leaving the file's own alone: pwrite(2), pwritev(2). With `O_APPEND` Linux appends all the
/// same.
///
/// # Errors
/// As [`write()`]; `ESPIPE`, and `EINVAL` for a position below 0.
pub async fn write_at(open: &OpenFile, position: i64, source: &mut Source<'_>, caller: &dyn Caller) -> Result<usize> {
    match try_write_at(open, position, source, caller) {
        Ok(moved) => Ok(moved),
        Err(unfinished) => finish_write(open, source, caller, unfinished).await,
    }
}

/// One try, from `position` on, which moves by as much as the cursor. Faults that need no waiting are no end of it.
#[inline]
fn read_once(open: &OpenFile, position: &mut u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
    let start = destination.progress();
    loop {
        let before = destination.progress();
        let result = open.file().read(*position, destination);
        *position = position.saturating_add((destination.progress() - before) as u64);
        match result {
            Ok(_) => return Ok(destination.progress() - start),
            Err(NotReady::Fault(fault)) if destination.fault_in_now(fault) == Ok(true) => {}
            Err(stop) => return Err(stop),
        }
    }
}

/// One try for the next piece, at `position` or the end of the file; `position` is then behind what was written. Faults
/// that need no waiting are no end of it.
#[inline]
fn write_once(
    open: &OpenFile,
    position: &mut u64,
    source: &mut Source<'_>,
    caller: &dyn Caller,
) -> Result<usize, NotReady> {
    if open.has_position() {
        let appends = open.flags().contains(OpenFlags::APPEND);
        before_write(open.inode(), if appends { open.file().size() } else { *position }, source, caller)?;
    }
    let start = source.progress();
    let hidden = source.hide(PIECE);
    let result = loop {
        match write_until_fault(open, position, source) {
            Ok(_) => break Ok(source.progress() - start),
            Err(NotReady::Fault(fault)) if source.fault_in_now(fault) == Ok(true) => {}
            Err(stop) => break Err(stop),
        }
    };
    source.show(hidden);
    result
}

#[inline]
fn write_until_fault(open: &OpenFile, position: &mut u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
    if open.has_position() && open.flags().contains(OpenFlags::APPEND) {
        let (moved, end) = open.file().append(source)?;
        *position = end;
        return Ok(moved);
    }
    let before = source.progress();
    let result = open.file().write(*position, source);
    *position = position.saturating_add((source.progress() - before) as u64);
    result
}

/// ioctl(2), repeated while the file wants to wait or a page of the argument is missing.
///
/// # Errors
/// `EBADF` with `O_PATH`, `ENOTTY`, `EFAULT`, and the file's own.
pub async fn ioctl(open: &OpenFile, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize> {
    let file = open.usable()?;
    let mut waiter = Waiter::default();
    loop {
        match file.ioctl(request, argument, caller) {
            Ok(value) => return Ok(value),
            Err(NotReady::Fault(fault)) => caller.fault_in(fault).await?,
            Err(stop) => pause(open, stop, PollEvents::all(), &mut waiter, false).await?,
        }
    }
}

/// fsync(2), fdatasync(2).
///
/// # Errors
/// `EBADF`, `EINVAL` for what can't be synchronised; `EIO`, `ENOSPC` if something could not be written that this open file has not
/// been told of.
pub async fn synchronise(open: &OpenFile, data_only: bool) -> Result<()> {
    let file = open.usable()?;
    let pager = if open.traits().contains(FileTraits::BACKED) { file.cached_pages() } else { None };
    if let Some(pager) = &pager {
        pager.write_back(0..u64::MAX).await.map_err(PagerError::errno)?;
    }
    let mut waiter = Waiter::default();
    while let Err(stop) = file.synchronise(data_only) {
        if stop == NotReady::Elsewhere {
            file.synchronise_elsewhere(data_only).await?;
            break;
        }
        pause(open, stop, PollEvents::all(), &mut waiter, false).await?;
    }
    pager.map_or(Ok(()), |pager| open.check_written(&*pager)).map_err(PagerError::errno)
}

fn check_position(open: &OpenFile, position: i64) -> Result<u64> {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    if open.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    if open.traits().contains(FileTraits::SEEKABLE) { Ok(position) } else { Err(Errno::ESPIPE) }
}

/// The position for a read or write, once nobody else is at it.
async fn lock_position(open: &OpenFile) -> Position<'_> {
    if open.has_position() { Position::Own(open.position.lock().await) } else { Position::At(0) }
}

/// The file's write lock, if it has one. Only some files are asked.
#[inline]
fn write_lock(open: &OpenFile) -> Option<&Mutex<()>> {
    if open.traits().contains(FileTraits::WRITE_LOCK) { open.inode().write_lock() } else { None }
}

async fn admit(open: &OpenFile, operation: Operation, caller: &dyn Caller) -> Result<()> {
    let mut waiter = Waiter::default();
    while let Err(stop) = open.file().admit(operation, caller) {
        pause(open, stop, PollEvents::all(), &mut waiter, false).await?;
    }
    Ok(())
}

/// A place in a file's wait queue, kept from the first failed try to the end.
///
/// Between two tries it either registers, because what is waited for may have come about since the last try, or sleeps.
/// A wake-up stays noted in the listener until the operation succeeds: if it fails instead, or is dropped, the wake-up
/// is handed on.
#[derive(Default)]
struct Waiter<'a> {
    listener: Option<Listener<&'a WaitQueue>>,
    /// Registered since it was last woken, and tried since.
    armed: bool,
}

impl Waiter<'_> {
    /// The operation got what it waited for, by the wake-up that came before it was tried. One that came while it was tried
    /// may be for what it left over, and is handed on.
    fn consume(&mut self) {
        if !self.armed {
            self.listener.iter_mut().for_each(Listener::consume);
        }
    }
}

/// Waits for bytes that lie elsewhere, and delivers them. True if they were the last of the file.
async fn deliver(open: &OpenFile, position: &mut u64, destination: &mut Destination<'_>) -> Result<bool> {
    let wanted = destination.remaining().min(PIECE);
    let fetched = open.file().fetch(*position, wanted).await?;
    let (start, from) = (destination.progress(), *position);
    loop {
        let done = destination.progress() - start;
        let result = destination.write(fetched.get(done..).unwrap_or_default());
        *position = from.saturating_add((destination.progress() - start) as u64);
        match result {
            Ok(_) => return Ok(fetched.len() < wanted),
            Err(fault) => destination.fault_in(fault).await?,
        }
    }
}

/// Waits for a page of the file.
async fn until_page(open: &OpenFile, index: u64) -> Result<()> {
    let pager = open.file().pager().ok_or(Errno::EIO)?;
    pager.ready(index).await.map_err(PagerError::errno)
}

/// Waits until it is worth trying again after `stop`.
async fn pause<'a>(
    open: &'a OpenFile,
    stop: NotReady,
    events: PollEvents,
    waiter: &mut Waiter<'a>,
    may_refuse: bool,
) -> Result<()> {
    match stop {
        NotReady::Error(errno) => return Err(errno),
        NotReady::Fault(_) => return Err(Errno::EFAULT),
        // Only reading and synchronising, which wait for it themselves.
        NotReady::Elsewhere => return Err(Errno::EIO),
        NotReady::Signalled | NotReady::Yield => yield_now().await,
        // Large in a future that every transfer holds.
        NotReady::Page(index) => Box::pin(until_page(open, index)).await?,
        NotReady::WouldBlock if may_refuse && open.flags().contains(OpenFlags::NON_BLOCK) => return Err(Errno::EAGAIN),
        NotReady::WouldBlock => match &mut waiter.listener {
            Some(listener) if waiter.armed => {
                listener.woken().await;
                waiter.armed = false;
            }
            Some(listener) => {
                listener.register().await;
                waiter.armed = true;
            }
            None => {
                let queue = open.file().wait_queue(events).ok_or(Errno::EAGAIN)?;
                let listener = Listener::new(queue, Kind::Exclusive, events.to_wait_for());
                waiter.listener.insert(listener).register().await;
                waiter.armed = true;
            }
        },
    }
    Ok(())
}
