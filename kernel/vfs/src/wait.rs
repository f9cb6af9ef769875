//! The loop that makes "try" into "wait": read(2), write(2) and all their kin end here.
//!
//! Long ones go in pieces of [`PIECE`], with a budget: between two pieces others run, and who waits for the operation may
//! drop it. No file sees more at a time.
//!
//! Each operation is tried first, by a plain function ([`try_read`], [`try_write`]) that builds no future; a system
//! call that can be served at once ends there. Only what could not be finished is awaited ([`read`], [`write()`]): that registers
//! with the file's wait queue, tries, and sleeps. Faults in the program's memory are resolved on the way.
//!
//! A cursor is made for one operation: how far it moved is what was read or written. Everything is cancel-safe: a
//! signal drops the future, and what was moved until then stands in the cursor, which the caller still has: if its
//! `progress()` is not 0, that is what the call returns instead of `EINTR`.

use alloc::boxed::Box;

use abi::fallible::try_zeroed;
use abi::{Errno, Result};
use memory::{Destination, FileIdentity, PAGE_SIZE, PagerError, Source};
use sync::{Budget, Kind, Listener, Mutex, MutexGuard, WaitQueue, yield_now};

use crate::Access;
use crate::caller::Caller;
use crate::contents::{before_write, new_permissions};
use crate::file::{FileTraits, NotReady, Operation, PollEvents};
use crate::inode::SetAttributes;
use crate::open::OpenFlags;
use crate::open_file::OpenFile;
use crate::truncate::{exclude, try_exclude};

/// Bytes a file is asked to move at a time. What is longer is left to [`finish_read`] and [`finish_write`], from its first
/// byte on.
pub const PIECE: usize = 64 * 1024;

/// Where in the file an operation happens, as the caller says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At the file's own position, which moves on.
    Position,
    /// There, and the file's own stays: pread(2), pwrite(2).
    Offset(i64),
}

/// Where in the file an operation happens.
enum Position<'a> {
    /// At the file's own position, which is moved on. Held until the operation ends.
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

/// Reads as far as that can be done now: the fast path of read(2) and pread(2). No `PIECE` is exceeded: what is longer is left to
/// [`read`] from its first byte on.
///
/// # Errors
/// Why [`read`] has to go on. If the cursor moved all the same, what lacks is a page of the program's for the rest. [`NotReady::Error`] as
/// [`read`].
#[inline]
pub fn try_read(
    open: &OpenFile,
    at: At,
    destination: &mut Destination<'_>,
    caller: &dyn Caller,
) -> Result<usize, NotReady> {
    let mut position = try_begin(open, at, Operation::Read, destination.remaining(), caller)?;
    let position = position.get();
    loop {
        let before = destination.progress();
        let result = open.file().read(*position, destination);
        let moved = destination.progress();
        *position = position.saturating_add((moved - before) as u64);
        match result {
            Ok(_) => return Ok(moved),
            Err(NotReady::Fault(fault)) if destination.fault_in_now(fault) == Ok(true) => {}
            Err(stop @ NotReady::Fault(_)) => return Err(stop),
            // What is there is delivered at once.
            Err(_) if moved > 0 => return Ok(moved),
            Err(NotReady::WouldBlock) if open.flags().contains(OpenFlags::NON_BLOCK) => {
                return Err(Errno::EAGAIN.into());
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Reads, waiting for the first bytes: read(2), pread(2), and their kin with vectors.
///
/// # Errors
/// `EBADF`, `EAGAIN` with `O_NONBLOCK`, `EFAULT`, and the file's own. At an offset also `ESPIPE`, and `EINVAL` if it is below 0.
#[expect(clippy::manual_async_fn, reason = "the future of an async fn holds its arguments twice")]
pub fn read(
    open: &OpenFile,
    at: At,
    destination: &mut Destination<'_>,
    caller: &dyn Caller,
) -> impl Future<Output = Result<usize>> {
    async move {
        let offset = check(open, at, Operation::Read)?;
        if open.traits().contains(FileTraits::ADMITS) {
            // Only terminals: not worth room in every future.
            Box::pin(admit(open, Operation::Read, caller)).await?;
        }
        let mut position = lock_position(open, at, offset).await;
        let mut waiter = Waiter::default();
        if destination.remaining() > 0 && blocks(open, PollEvents::READABLE) {
            // It was tried before: so the next try is the last before it sleeps.
            pause(open, NotReady::WouldBlock, PollEvents::READABLE, &mut waiter, false).await?;
        }
        let mut budget = Budget::new();
        loop {
            let moved = destination.progress();
            let hidden = destination.hide(PIECE);
            let result = open.file().read(*position.get(), destination);
            let whole = destination.remaining() == 0;
            destination.show(hidden);
            let now = destination.progress();
            *position.get() = position.get().saturating_add((now - moved) as u64);
            let outcome = match result {
                Ok(_) if hidden == 0 || !whole => {
                    waiter.consume();
                    return Ok(now);
                }
                Ok(_) => {
                    waiter.consume();
                    Ok(())
                }
                Err(NotReady::Fault(fault)) => destination.fault_in(fault).await,
                // What is there is delivered at once.
                Err(NotReady::WouldBlock) if now > 0 || destination.remaining() == 0 => return Ok(now),
                Err(NotReady::Elsewhere) => match Box::pin(deliver(open, position.get(), destination)).await {
                    Ok(true) => return Ok(destination.progress()),
                    fetched => fetched.map(drop),
                },
                Err(stop) => pause(open, stop, PollEvents::READABLE, &mut waiter, true).await,
            };
            if let Err(errno) = outcome {
                let moved = destination.progress();
                return if moved > 0 { Ok(moved) } else { Err(errno) };
            }
            budget.pace((destination.progress() - moved) / PAGE_SIZE).await;
        }
    }
}

/// Writes as far as that can be done now, at the end of the file with `O_APPEND`: the fast path of write(2) and pwrite(2). What is longer than
/// a `PIECE` is left to [`write()`] from its first byte on.
///
/// # Errors
/// Why [`write()`] has to go on, behind what the cursor says. [`NotReady::Error`] as [`write()`].
#[inline]
pub fn try_write(open: &OpenFile, at: At, source: &mut Source<'_>, caller: &dyn Caller) -> Result<usize, NotReady> {
    let mut position = try_begin(open, at, Operation::Write, source.remaining(), caller)?;
    let _exclusion = try_exclude(write_lock(open)).ok_or(NotReady::Yield)?;
    let errno = match write_once(open, position.get(), source, caller) {
        Err(NotReady::WouldBlock) if open.flags().contains(OpenFlags::NON_BLOCK) => Errno::EAGAIN,
        Err(NotReady::Error(errno)) => errno,
        result => return result,
    };
    ended(errno, source.progress(), caller).map_err(NotReady::Error)
}

/// Writes everything, waiting if need be, at the end of the file with `O_APPEND`: write(2), pwrite(2), and their kin with vectors. At an offset
/// Linux appends all the same.
///
/// # Errors
/// `EBADF`, `EAGAIN` with `O_NONBLOCK`, `EFAULT`, `EPIPE` (the caller was told), and the file's own. At an offset also `ESPIPE`, and `EINVAL` if it
/// is below 0.
#[expect(clippy::manual_async_fn, reason = "the future of an async fn holds its arguments twice")]
pub fn write(
    open: &OpenFile,
    at: At,
    source: &mut Source<'_>,
    caller: &dyn Caller,
) -> impl Future<Output = Result<usize>> {
    async move {
        let offset = check(open, at, Operation::Write)?;
        if open.traits().contains(FileTraits::ADMITS) {
            // Only terminals: not worth room in every future.
            Box::pin(admit(open, Operation::Write, caller)).await?;
        }
        let mut position = lock_position(open, at, offset).await;
        let _exclusion = exclude(write_lock(open)).await;
        let mut waiter = Waiter::default();
        if source.remaining() > 0 && blocks(open, PollEvents::WRITABLE) {
            // It was tried before: so the next try is the last before it sleeps.
            pause(open, NotReady::WouldBlock, PollEvents::WRITABLE, &mut waiter, false).await?;
        }
        let mut budget = Budget::new();
        loop {
            let moved = source.progress();
            let outcome = match write_once(open, position.get(), source, caller) {
                Ok(written) => {
                    waiter.consume();
                    if source.remaining() == 0 || written < PIECE {
                        return Ok(source.progress());
                    }
                    Ok(())
                }
                Err(NotReady::Fault(fault)) => source.fault_in(fault).await,
                Err(NotReady::WouldBlock) if source.remaining() == 0 => return Ok(source.progress()),
                Err(NotReady::Elsewhere) => Box::pin(carry(open, position.get(), source, caller)).await,
                Err(stop) => pause(open, stop, PollEvents::WRITABLE, &mut waiter, true).await,
            };
            if let Err(errno) = outcome {
                return ended(errno, source.progress(), caller);
            }
            budget.pace((source.progress() - moved) / PAGE_SIZE).await;
        }
    }
}

/// A write that failed behind `moved` bytes: those count, and the error is for the next.
fn ended(errno: Errno, moved: usize, caller: &dyn Caller) -> Result<usize> {
    if errno == Errno::EPIPE {
        caller.broken_pipe();
    }
    if moved > 0 { Ok(moved) } else { Err(errno) }
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
        let position = if appends { open.file().size() } else { *position };
        match before_write(open.inode(), position, source, caller) {
            // Who may set which bits on what is elsewhere is seen to there.
            Err(Errno::ERESTART) => return Err(NotReady::Elsewhere),
            result => result?,
        }
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

/// Checks an operation and finds where it happens, if nobody has to be waited for: [`NotReady::Yield`].
#[inline]
fn try_begin<'a>(
    open: &'a OpenFile,
    at: At,
    operation: Operation,
    length: usize,
    caller: &dyn Caller,
) -> Result<Position<'a>, NotReady> {
    let offset = check(open, at, operation)?;
    if length > PIECE || (open.traits().contains(FileTraits::ADMITS) && open.file().admit(operation, caller).is_err()) {
        return Err(NotReady::Yield);
    }
    match at {
        At::Position if open.has_position() => open.position.try_lock().map(Position::Own).ok_or(NotReady::Yield),
        _ => Ok(Position::At(offset)),
    }
}

/// The position for an operation at `offset`, once nobody else is at the file's own.
async fn lock_position(open: &OpenFile, at: At, offset: u64) -> Position<'_> {
    match at {
        At::Position if open.has_position() => Position::Own(open.position.lock().await),
        _ => Position::At(offset),
    }
}

/// Whether the file may be read or written there. The offset, or 0.
#[inline]
fn check(open: &OpenFile, at: At, operation: Operation) -> Result<u64> {
    let offset = match at {
        At::Position => 0,
        At::Offset(offset) => {
            let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
            open.usable()?;
            if !open.traits().contains(FileTraits::SEEKABLE) {
                return Err(Errno::ESPIPE);
            }
            offset
        }
    };
    open.check(if operation == Operation::Read { Access::READ } else { Access::WRITE })?;
    Ok(offset)
}

/// The file's write lock, if it has one. Only some files are asked.
#[inline]
fn write_lock(open: &OpenFile) -> Option<&Mutex<()>> {
    if open.traits().contains(FileTraits::WRITE_LOCK) { open.inode().write_lock() } else { None }
}

/// Whether somebody who reads or writes it is to wait for it.
fn blocks(open: &OpenFile, events: PollEvents) -> bool {
    !open.flags().contains(OpenFlags::NON_BLOCK) && open.file().wait_queue(events).is_some()
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

/// Carries the next bytes to where the file lies, and waits until they are there.
async fn carry(open: &OpenFile, position: &mut u64, source: &mut Source<'_>, caller: &dyn Caller) -> Result<()> {
    if let Some(permissions) = new_permissions(open.inode(), caller) {
        let changes = SetAttributes { permissions: Some(permissions), ..Default::default() };
        open.inode().clone().set_attributes_elsewhere(changes).await?;
    }
    let mut bytes = try_zeroed(source.remaining().min(PIECE))?;
    let ready = loop {
        match source.peek(&mut bytes) {
            Ok(ready) => break ready,
            Err(fault) if fault.copied > 0 => break fault.copied,
            Err(fault) => source.fault_in(fault).await?,
        }
    };
    bytes.truncate(ready);
    let appends = open.has_position() && open.flags().contains(OpenFlags::APPEND);
    let place = if appends { None } else { Some(*position) };
    let (written, end) = open.file().write_elsewhere(place, bytes).await?;
    source.advance(written);
    *position = end;
    Ok(())
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
        // Only reading, writing and synchronising, which wait for it themselves.
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
