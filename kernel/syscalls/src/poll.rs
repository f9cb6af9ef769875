//! Waiting for many files at once: poll(2), select(2), ppoll(2), pselect(2).
//!
//! `poll` and `select` look once without a future and without the heap. Only when nothing is there and they may wait do
//! the waiting halves hold on to the files, take a place in each one's wait queue, and look again at every wake-up.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use abi::Errno;
use abi::files::PollDescriptor;
use abi::raw::general as raw;
use abi::signal::SignalSet;
use abi::time::{Timespec, Timeval};
use process::signal::mask;
use process::{Call, Failure, Interrupted, Resume, Thread};
use smallvec::SmallVec;
use sync::Listener;
use vfs::{OpenFile, OpenFiles, PollEvents, Stop};
use zerocopy::IntoBytes;

use crate::argument::{Address, In, InOut};
use crate::open::descriptor_limit;
use crate::select::Selection;
use crate::signal::check_size;
use crate::user;

/// How many elements of poll(2)'s array are looked at together.
const CHUNK: usize = 32;

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// What a file has to report of what is asked for. A descriptor that is not open is an event, too.
fn look_at(file: Option<&OpenFile>, wanted: PollEvents) -> PollEvents {
    match file.map(OpenFile::usable) {
        Some(Ok(file)) => file.poll() & (wanted | PollEvents::ALWAYS),
        _ => PollEvents::INVALID,
    }
}

/// Fills in what is ready of a piece of the array; returns how many elements have something.
fn look_at_all(files: OpenFiles<'_>, chunk: &mut [PollDescriptor]) -> usize {
    let mut found = 0;
    for entry in chunk {
        entry.ready = 0;
        if entry.descriptor >= 0 {
            entry.ready = look_at(files.get(entry.descriptor), PollEvents::from_bits_retain(entry.events)).bits();
            found += usize::from(entry.ready != 0);
        }
    }
    found
}

/// poll(2), as far as it needs no waiting.
pub(crate) fn poll(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    timeout: i32,
) -> Result<usize, Stop> {
    let found = poll_once(thread, array, count)?;
    if found > 0 || timeout == 0 { Ok(found) } else { Err(Stop::WouldBlock) }
}

fn poll_once(thread: &Arc<Thread>, array: InOut<PollDescriptor>, count: u32) -> Result<usize, Stop> {
    if u64::from(count) > descriptor_limit(thread) {
        return Err(Errno::EINVAL.into());
    }
    let (files, count) = (thread.files(), count as usize);
    let mut room = [PollDescriptor::default(); CHUNK];
    let mut found = 0;
    for first in (0..count).step_by(CHUNK) {
        let chunk = room.get_mut(..(count - first).min(CHUNK)).unwrap_or_default();
        let address = array.element(first).0;
        user::read_bytes(thread, address, chunk.as_mut_bytes())?;
        found += files.look(|files| look_at_all(files, chunk));
        user::write(thread, address, chunk.as_bytes())?;
    }
    Ok(found)
}

/// poll(2) when nothing is ready.
pub(crate) async fn poll_waiting(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    timeout: i32,
) -> Result<usize, Failure> {
    let length = u64::try_from(timeout).ok().map(|milliseconds| milliseconds * NANOSECONDS_PER_MILLISECOND);
    poll_again(thread, array, count, length.map(|length| machine::time::now().saturating_add(length))).await
}

async fn poll_again(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    deadline: Option<u64>,
) -> Result<usize, Failure> {
    match poll_until(thread, array, count, deadline).await? {
        Ok(found) => Ok(found),
        Err(_) => {
            let call = Call { number: raw::__NR_poll as usize, arguments: [array.0, count as usize, 0, 0, 0, 0] };
            Err(Interrupted::RestartBlock(Resume { call, deadline }).into())
        }
    }
}

/// poll(2) that was interrupted goes on until the deadline it had.
pub(crate) async fn resume_poll(thread: &Arc<Thread>, resume: Resume) -> Result<usize, Failure> {
    let [array, count, ..] = resume.call.arguments;
    poll_again(thread, InOut::at(array), count as u32, resume.deadline).await
}

/// Waits until one of the files has something to report, or `deadline`. The array is written in any case.
async fn poll_until(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    deadline: Option<u64>,
) -> Result<Result<usize, Interrupted>, Failure> {
    let space = thread.space();
    let mut entries = space.read_array::<PollDescriptor>(array.0, count as usize).await?;
    let files = thread.files();
    let held: Vec<Option<Arc<OpenFile>>> = entries.iter().map(|entry| files.get(entry.descriptor).ok()).collect();
    let watched = entries
        .iter()
        .zip(&held)
        .filter_map(|(entry, file)| Some((file.as_deref()?, PollEvents::from_bits_retain(entry.events))));
    let listeners = listen(watched);
    let look = || {
        let mut found = 0;
        for (entry, file) in entries.iter_mut().zip(&held) {
            let wanted = PollEvents::from_bits_retain(entry.events);
            entry.ready = if entry.descriptor < 0 { 0 } else { look_at(file.as_deref(), wanted).bits() };
            found += usize::from(entry.ready != 0);
        }
        (found > 0).then_some(found)
    };
    let found = match wait_for_any(thread, listeners, deadline, look).await {
        Ok(found) => found.unwrap_or(0),
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    space.copy_out(array.0, entries.as_slice().as_bytes()).await?;
    Ok(Ok(found))
}

/// ppoll(2)
pub(crate) async fn ppoll(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    timeout: InOut<Timespec>,
    mask: In<SignalSet>,
    size: usize,
) -> Result<usize, Failure> {
    let length = timeout.input().fetch_optional(thread).await?.map(Timespec::to_nanoseconds).transpose()?;
    let deadline = length.map(|length| machine::time::now().saturating_add(length));
    with_mask(thread, mask, size).await?;
    let result = ppoll_until(thread, array, count, deadline).await;
    if let (Some(deadline), Some(1..)) = (deadline, length) {
        let left = Timespec::from_nanoseconds(deadline.saturating_sub(machine::time::now()));
        // A program that passed a constant is not to fail for it.
        let _ = timeout.output().store(thread, &left).await;
    }
    finish_with_mask(thread, mask, result)
}

async fn ppoll_until(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    deadline: Option<u64>,
) -> Result<Result<usize, Interrupted>, Failure> {
    loop {
        match poll_once(thread, array, count) {
            Ok(0) if deadline.is_none_or(|deadline| deadline > machine::time::now()) => {
                return poll_until(thread, array, count, deadline).await;
            }
            Ok(found) => return Ok(Ok(found)),
            Err(stop) => settle(thread, stop).await?,
        }
    }
}

/// Makes the page of a fault present; any other reason to stop is the end.
async fn settle(thread: &Arc<Thread>, stop: Stop) -> Result<(), Errno> {
    match stop {
        Stop::Fault(fault) => user::fetch(thread, fault).await,
        Stop::Error(errno) => Err(errno),
        Stop::WouldBlock | Stop::Signalled => Err(Errno::EAGAIN),
    }
}

/// Puts the signal mask of a call in place, if it has one.
async fn with_mask(thread: &Arc<Thread>, mask: In<SignalSet>, size: usize) -> Result<(), Errno> {
    if !mask.is_null() {
        check_size(size)?;
        mask::set_for_call(thread, mask.fetch(thread).await?);
    }
    Ok(())
}

/// The result of a call with a mask of its own. If it was interrupted the mask stays until the handler is set up.
fn finish_with_mask(
    thread: &Arc<Thread>,
    mask: In<SignalSet>,
    result: Result<Result<usize, Interrupted>, Failure>,
) -> Result<usize, Failure> {
    if let Ok(Err(_)) = result {
        return Err(Interrupted::RestartUnlessHandled.into());
    }
    if !mask.is_null() {
        mask::restore(thread);
    }
    match result? {
        Ok(found) => Ok(found),
        Err(interrupted) => Err(interrupted.into()),
    }
}

/// select(2), as far as it needs no waiting.
pub(crate) fn select(
    thread: &Arc<Thread>,
    count: i32,
    read: Address,
    write: Address,
    except: Address,
    timeout: InOut<Timeval>,
) -> Result<usize, Stop> {
    let length = timeout.input().read_optional(thread)?.map(select_timeout).transpose()?;
    select_now(thread, count, [read, write, except], length)
}

/// One look at what select(2) and pselect(2) ask for.
fn select_now(thread: &Arc<Thread>, count: i32, sets: [Address; 3], length: Option<u64>) -> Result<usize, Stop> {
    let files = thread.files();
    let mut selection = Selection::new(count, files.capacity(), sets)?;
    selection.read(|address, bytes| user::read_bytes(thread, address, bytes))?;
    let found = files.look(|files| selection.look(|descriptor| files.get(descriptor)))?;
    if found == 0 && length != Some(0) {
        return Err(Stop::WouldBlock);
    }
    selection.write(|address, bytes| user::write(thread, address, bytes))?;
    Ok(found)
}

/// The timeout of select(2) in nanoseconds. Unlike elsewhere, microseconds may be more than a second.
fn select_timeout(time: Timeval) -> Result<u64, Errno> {
    let seconds = u64::try_from(time.seconds).map_err(|_| Errno::EINVAL)?;
    let microseconds = u64::try_from(time.microseconds).map_err(|_| Errno::EINVAL)?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(microseconds.saturating_mul(1000)))
}

/// select(2) when nothing is ready.
pub(crate) async fn select_waiting(
    thread: &Arc<Thread>,
    count: i32,
    read: Address,
    write: Address,
    except: Address,
    timeout: InOut<Timeval>,
) -> Result<usize, Failure> {
    let length = timeout.input().fetch_optional(thread).await?.map(select_timeout).transpose()?;
    let deadline = length.map(|length| machine::time::now().saturating_add(length));
    let result = select_until(thread, count, [read, write, except], deadline).await?;
    if let Some(deadline) = deadline {
        let left = Timeval::from_nanoseconds(deadline.saturating_sub(machine::time::now()));
        let stored = timeout.output().store(thread, &left).await;
        if result.is_err() && stored.is_err() {
            // It can't be restarted for the rest of the time.
            return Err(Interrupted::Eintr.into());
        }
    }
    result.map_err(|_| Interrupted::RestartUnlessHandled.into())
}

/// pselect(2) without a mask, which is what the C library makes of select(2). The last argument points at a pointer to the
/// mask and its size.
pub(crate) fn pselect6(
    thread: &Arc<Thread>,
    count: i32,
    read: Address,
    write: Address,
    except: Address,
    timeout: InOut<Timespec>,
    mask: In<[usize; 2]>,
) -> Result<usize, Stop> {
    let [mask, _] = mask.read_optional(thread)?.unwrap_or_default();
    let length = timeout.input().read_optional(thread)?.map(Timespec::to_nanoseconds).transpose()?;
    // With a mask a signal may be let in, and the time that is left is told: the future does that.
    if mask != 0 || length.is_some_and(|length| length > 0) {
        return Err(Stop::WouldBlock);
    }
    select_now(thread, count, [read, write, except], length)
}

/// pselect(2) with a mask, or when nothing is ready.
pub(crate) async fn pselect6_waiting(
    thread: &Arc<Thread>,
    count: i32,
    read: Address,
    write: Address,
    except: Address,
    timeout: InOut<Timespec>,
    mask: In<[usize; 2]>,
) -> Result<usize, Failure> {
    let [mask, size] = mask.fetch_optional(thread).await?.unwrap_or_default();
    let length = timeout.input().fetch_optional(thread).await?.map(Timespec::to_nanoseconds).transpose()?;
    let deadline = length.map(|length| machine::time::now().saturating_add(length));
    let mask = In::at(mask);
    with_mask(thread, mask, size).await?;
    let result = select_until(thread, count, [read, write, except], deadline).await;
    if let (Some(deadline), Some(1..)) = (deadline, length) {
        let left = Timespec::from_nanoseconds(deadline.saturating_sub(machine::time::now()));
        let _ = timeout.output().store(thread, &left).await;
    }
    finish_with_mask(thread, mask, result)
}

async fn select_until(
    thread: &Arc<Thread>,
    count: i32,
    sets: [Address; 3],
    deadline: Option<u64>,
) -> Result<Result<usize, Interrupted>, Failure> {
    let files = thread.files();
    let mut selection = Box::new(Selection::new(count, files.capacity(), sets)?);
    while let Err(stop) = selection.read(|address, bytes| user::read_bytes(thread, address, bytes)) {
        settle(thread, stop).await?;
    }
    let held = selection.hold(|descriptor| files.get(descriptor).ok())?;
    let listeners = listen(held.iter().map(|(_, file, events)| (&**file, *events)));
    let look = || {
        let file_of = |wanted: i32| {
            let index = held.binary_search_by_key(&wanted, |&(descriptor, ..)| descriptor).ok()?;
            held.get(index).map(|(_, file, _)| file.clone())
        };
        selection.look(file_of).ok().filter(|&found| found > 0)
    };
    let found = match wait_for_any(thread, listeners, deadline, look).await {
        Ok(found) => found.unwrap_or(0),
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    while let Err(stop) = selection.write(|address, bytes| user::write(thread, address, bytes)) {
        settle(thread, stop).await?;
    }
    Ok(Ok(found))
}

/// Places in wait queues, few of them in place.
type Listeners<'a> = SmallVec<[Listener<'a>; 2]>;

/// A place, not yet taken, in the queue of each file that has one.
fn listen<'a>(watched: impl Iterator<Item = (&'a OpenFile, PollEvents)>) -> Listeners<'a> {
    watched.filter_map(|(file, events)| Some(file.file().wait_queue(events | PollEvents::ALWAYS)?.listen())).collect()
}

/// Looks, and waits at the queues until looking finds something, or until `deadline`: then it is `None`.
async fn wait_for_any<T>(
    thread: &Arc<Thread>,
    mut listeners: Listeners<'_>,
    deadline: Option<u64>,
    mut look: impl FnMut() -> Option<T>,
) -> Result<Option<T>, Interrupted> {
    let ready = poll_fn(|context| {
        // First take every place, then look: what comes about in between wakes us.
        for listener in &mut listeners {
            listener.register_with(context.waker());
        }
        look().map_or(Poll::Pending, Poll::Ready)
    });
    thread.interruptible(pin!(thread.kernel().executor().timeout(deadline, ready))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_of_select_may_exceed_a_second() {
        assert_eq!(select_timeout(Timeval { seconds: 1, microseconds: 2_000_000 }), Ok(3_000_000_000));
        assert_eq!(select_timeout(Timeval { seconds: -1, microseconds: 0 }), Err(Errno::EINVAL));
        assert_eq!(select_timeout(Timeval { seconds: 0, microseconds: -1 }), Err(Errno::EINVAL));
    }
}
