//! Waiting for many files at once: poll(2), select(2), ppoll(2), pselect(2).
//!
//! `poll` and `select` look once without a future and without the heap. Only when nothing is there and they may wait do
//! the waiting halves hold on to the files, take a place in each one's wait queue, and look again at every wake-up.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::{Pin, pin};

use abi::Errno;
use abi::fallible::TryVec;
use abi::files::PollDescriptor;
use abi::raw::general as raw;
use abi::signal::SignalSet;
use abi::time::{Timespec, Timeval};
use machine::memory::fallible;
use process::signal::mask;
use process::{Call, Failure, Interrupted, Resume, Thread};
use sync::Budget;
use vfs::poll::{self, Watch};
use vfs::{NotReady, OpenFile, OpenFiles, PollEvents};
use zerocopy::IntoBytes;

use crate::argument::{Address, In, InOut};
use crate::descriptors::descriptor_limit;
use crate::select::{Held, Selection};
use crate::signal::check_size;
use crate::user;

/// How many elements of poll(2)'s array are looked at together.
const CHUNK: usize = 32;

/// More elements than that are looked at with a budget.
const MANY: usize = 4096;

/// The same in words of select(2)'s sets.
const MANY_WORDS: usize = MANY / u64::BITS as usize;

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// Fills in what is ready of a piece of the array; returns how many elements have something.
fn look_at_all(files: OpenFiles<'_>, chunk: &mut [PollDescriptor]) -> usize {
    let mut found = 0;
    for entry in chunk {
        entry.ready = 0;
        if entry.descriptor >= 0 {
            let wanted = PollEvents::from_bits_retain(entry.events);
            entry.ready = poll::look(files.get(entry.descriptor), wanted).bits();
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
) -> Result<usize, NotReady> {
    let found = poll_once(thread, array, count)?;
    if found > 0 || timeout == 0 { Ok(found) } else { Err(NotReady::WouldBlock) }
}

fn poll_once(thread: &Arc<Thread>, array: InOut<PollDescriptor>, count: u32) -> Result<usize, NotReady> {
    if u64::from(count) > descriptor_limit(thread) {
        return Err(Errno::EINVAL.into());
    }
    if count as usize > MANY {
        return Err(NotReady::WouldBlock);
    }
    let mut found = 0;
    for first in (0..count as usize).step_by(CHUNK) {
        found += poll_chunk(thread, array, first, count as usize)?;
    }
    Ok(found)
}

/// Looks at the elements from `first` on that are looked at together.
fn poll_chunk(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    first: usize,
    count: usize,
) -> Result<usize, NotReady> {
    let mut room = [PollDescriptor::default(); CHUNK];
    let chunk = room.get_mut(..(count - first).min(CHUNK)).unwrap_or_default();
    let address = array.element(first).0;
    user::read_bytes(thread, address, chunk.as_mut_bytes())?;
    let found = thread.files().look(|files| look_at_all(files, chunk));
    user::write(thread, address, chunk.as_bytes())?;
    Ok(found)
}

/// As [`poll_once`], of any number.
async fn poll_once_slowly(thread: &Arc<Thread>, array: InOut<PollDescriptor>, count: u32) -> Result<usize, Failure> {
    if u64::from(count) > descriptor_limit(thread) {
        return Err(Errno::EINVAL.into());
    }
    let mut budget = Budget::new();
    let (mut first, mut found) = (0, 0);
    while first < count as usize {
        match poll_chunk(thread, array, first, count as usize) {
            Ok(some) => {
                found += some;
                first += CHUNK;
            }
            Err(stop) => wait_for(thread, stop).await?,
        }
        budget.pace(CHUNK / 4).await;
    }
    Ok(found)
}

/// poll(2) when nothing is ready.
#[cfg(old_calls)]
pub(crate) async fn poll_waiting(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: u32,
    timeout: i32,
) -> Result<usize, Failure> {
    let length = u64::try_from(timeout).ok().map(|milliseconds| milliseconds * NANOSECONDS_PER_MILLISECOND);
    if count as usize > MANY {
        let found = poll_once_slowly(thread, array, count).await?;
        if found > 0 || timeout == 0 {
            return Ok(found);
        }
    }
    poll_again(thread, array, count, length.map(|length| machine::time::now().saturating_add(length))).await
}

#[cfg(old_calls)]
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
#[cfg(old_calls)]
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
    let mut held = Vec::new();
    let result = poll_files(thread, array, count as usize, deadline, &mut held).await;
    let_go(held).await;
    result
}

/// As [`poll_until`]. The files are in `held` afterwards.
async fn poll_files(
    thread: &Arc<Thread>,
    array: InOut<PollDescriptor>,
    count: usize,
    deadline: Option<u64>,
    held: &mut Vec<Option<Arc<OpenFile>>>,
) -> Result<Result<usize, Interrupted>, Failure> {
    let (space, files) = (thread.space(), thread.files());
    let mut budget = Budget::new();
    let mut entries = Vec::new();
    fallible(|| entries.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
    fallible(|| held.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
    while entries.len() < count {
        let first = entries.len();
        entries.try_resize(count.min(first + CHUNK), PollDescriptor::default())?;
        let chunk = entries.get_mut(first..).unwrap_or_default();
        space.copy_in(array.element(first).0, chunk.as_mut_bytes()).await?;
        for entry in chunk {
            held.try_push(files.get(entry.descriptor).ok())?;
        }
        budget.pace(CHUNK / 4).await;
    }
    let mut watch = Watch::new(core::iter::empty())?;
    for (entry, file) in entries.iter().zip(&*held) {
        if let Some(file) = file {
            watch.add(file, PollEvents::from_bits_retain(entry.events))?;
        }
        budget.pace(1).await;
    }
    let looking = watch.until(count.div_ceil(CHUNK), |part| {
        let entries = entries.iter_mut().zip(&*held).skip(part * CHUNK).take(CHUNK);
        entries.fold(0, |found, (entry, file)| {
            let wanted = PollEvents::from_bits_retain(entry.events);
            entry.ready = if entry.descriptor < 0 { 0 } else { poll::look(file.as_deref(), wanted).bits() };
            found + usize::from(entry.ready != 0)
        })
    });
    let result = wait_for_any(thread, deadline, pin!(looking)).await;
    watch.leave().await;
    let found = match result {
        Ok(found) => found.transpose()?.unwrap_or(0),
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    space.copy_out(array.0, entries.as_slice().as_bytes()).await?;
    Ok(Ok(found))
}

/// Drops what may be many, and takes long.
async fn let_go<T>(mut many: Vec<T>) {
    let mut budget = Budget::new();
    while let Some(one) = many.pop() {
        drop(one);
        budget.pace(1).await;
    }
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
        let looked = match count as usize > MANY {
            true => Ok(poll_once_slowly(thread, array, count).await?),
            false => poll_once(thread, array, count),
        };
        match looked {
            Ok(0) if deadline.is_none_or(|deadline| deadline > machine::time::now()) => {
                return poll_until(thread, array, count, deadline).await;
            }
            Ok(found) => return Ok(Ok(found)),
            Err(stop) => wait_for(thread, stop).await?,
        }
    }
}

/// Makes the page of a fault present; any other reason to stop is the end.
async fn wait_for(thread: &Arc<Thread>, stop: NotReady) -> Result<(), Errno> {
    match stop {
        NotReady::Fault(fault) => user::fetch(thread, fault).await,
        NotReady::Error(errno) => Err(errno),
        NotReady::WouldBlock | NotReady::Page(_) | NotReady::Elsewhere | NotReady::Signalled | NotReady::Yield => {
            Err(Errno::EAGAIN)
        }
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
) -> Result<usize, NotReady> {
    let length = timeout.input().read_optional(thread)?.map(select_timeout).transpose()?;
    select_now(thread, count, [read, write, except], length)
}

/// One look at what select(2) and pselect(2) ask for.
fn select_now(thread: &Arc<Thread>, count: i32, sets: [Address; 3], length: Option<u64>) -> Result<usize, NotReady> {
    let files = thread.files();
    let mut selection = Selection::new(count, files.capacity(), sets)?;
    if selection.words() > MANY_WORDS {
        return Err(NotReady::WouldBlock);
    }
    selection.read(|address, bytes| user::read_bytes(thread, address, bytes))?;
    let look = |files: OpenFiles<'_>| {
        (0..selection.words())
            .try_fold(0, |found, word| Ok::<_, Errno>(found + selection.look(word, |file| files.get(file))?))
    };
    let found = files.look(look)?;
    if found == 0 && length != Some(0) {
        return Err(NotReady::WouldBlock);
    }
    if let Err(stop) = selection.write(|address, bytes| user::write(thread, address, bytes)) {
        // The call will be run again, and is to find the questions where some answers are already.
        selection.ask_again(|address, bytes| user::write(thread, address, bytes));
        return Err(stop);
    }
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
) -> Result<usize, NotReady> {
    let [mask, _] = mask.read_optional(thread)?.unwrap_or_default();
    let length = timeout.input().read_optional(thread)?.map(Timespec::to_nanoseconds).transpose()?;
    // With a mask a signal may be let in, and the time that is left is told: the future does that.
    if mask != 0 || length.is_some_and(|length| length > 0) {
        return Err(NotReady::WouldBlock);
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
        wait_for(thread, stop).await?;
    }
    let mut budget = Budget::new();
    let mut found = 0;
    if selection.words() > MANY_WORDS {
        for word in 0..selection.words() {
            found += files.look(|files| selection.look(word, |descriptor| files.get(descriptor)))?;
            budget.pace(CHUNK / 2).await;
        }
    }
    if found == 0 {
        let mut held = Vec::new();
        let result = select_files(thread, &mut selection, deadline, &mut held).await;
        let_go(held).await;
        if let Err(interrupted) = result? {
            return Ok(Err(interrupted));
        }
        found = selection.found();
    }
    while let Err(stop) = selection.write(|address, bytes| user::write(thread, address, bytes)) {
        wait_for(thread, stop).await?;
    }
    Ok(Ok(found))
}

/// Waits until one of the files has something to report, or `deadline`. They are in `held` afterwards.
async fn select_files(
    thread: &Arc<Thread>,
    selection: &mut Selection,
    deadline: Option<u64>,
    held: &mut Vec<Held>,
) -> Result<Result<(), Interrupted>, Failure> {
    let files = thread.files();
    let mut budget = Budget::new();
    for word in 0..selection.words() {
        selection.hold(word, held, |descriptor| files.get(descriptor).ok())?;
        budget.pace(CHUNK / 2).await;
    }
    let mut watch = Watch::new(core::iter::empty())?;
    for (_, file, events) in &*held {
        watch.add(file, *events)?;
        budget.pace(1).await;
    }
    let looking = watch.until(selection.words(), |word| {
        let file_of = |wanted: i32| {
            let index = held.binary_search_by_key(&wanted, |&(descriptor, ..)| descriptor).ok()?;
            held.get(index).map(|(_, file, _)| file.clone())
        };
        selection.look(word, file_of).unwrap_or(0)
    });
    let result = wait_for_any(thread, deadline, pin!(looking)).await;
    watch.leave().await;
    match result {
        Ok(found) => {
            found.transpose()?;
            Ok(Ok(()))
        }
        Err(interrupted) => Ok(Err(interrupted)),
    }
}

/// Waits until looking finds something, or until `deadline`: then it is `None`.
async fn wait_for_any<T, F: Future<Output = Result<T, Errno>>>(
    thread: &Arc<Thread>,
    deadline: Option<u64>,
    looking: Pin<&mut F>,
) -> Result<Option<Result<T, Errno>>, Interrupted> {
    thread.interruptible(pin!(thread.kernel().executor().timeout(deadline, looking))).await
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
