//! Bytes to and from files: read(2), write(2) and their kin, sendfile(2), lseek(2), truncate(2), fsync(2).
//!
//! The calls programs make most have two halves. The plain one moves what can be moved now, and is all that most need; the
//! `_waiting` one goes on behind what was moved.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::pin::{Pin, pin};

use abi::Errno;
use abi::raw::general as raw;
use machine::memory::fallible;
use memory::{AddressSpace, Destination, Source, UserSlice, check_range};
use process::{Attempt, Failure, Interrupted, Thread};
use smallvec::SmallVec;
use sync::Budget;
use vfs::transfer::End;
use vfs::wait::{self, At};
use vfs::{FileKind, FileTraits, Lookup, NotReady, OpenFile, PollEvents, Truncation, Whence, transfer};

use crate::argument::{CString, Descriptor, Flags, In, InBuffer, InOut, OutBuffer};
use crate::flags::TransferFlags;
use crate::place::{HERE, resolve};
use crate::user::{self, PathBuffer};

/// `MAX_RW_COUNT`: the most bytes one call moves.
const MOST: usize = 0x7fff_f000;

/// `struct iovec`: address and length.
pub(crate) type IoVector = [usize; 2];

/// What a plain read or write came to, which has moved so many bytes: one that stopped goes on behind them.
fn finish(result: Result<usize, NotReady>, progress: usize) -> Result<usize, Attempt> {
    result.map_err(|stop| if progress > 0 { Attempt::Wait(progress) } else { stop.into() })
}

fn try_read_vectors(thread: &Arc<Thread>, file: &OpenFile, slices: &Slices) -> Result<usize, Attempt> {
    let mut destination = Destination::vector(thread.space(), slices);
    finish(wait::try_read(file, At::Position, &mut destination, &**thread), destination.progress())
}

fn try_write_vectors(thread: &Arc<Thread>, file: &OpenFile, slices: &Slices) -> Result<usize, Attempt> {
    let mut source = Source::vector(thread.space(), slices);
    finish(wait::try_write(file, At::Position, &mut source, &**thread), source.progress())
}

/// Turns the end of a wait into what the call returns: what was moved before an interruption or error is delivered.
fn total(result: Result<Result<usize, Errno>, Interrupted>, progress: usize, before: usize) -> Result<usize, Failure> {
    let failure = match result {
        Ok(Ok(moved)) => return Ok(before + moved),
        Ok(Err(errno)) => Failure::from(errno),
        Err(interrupted) => Failure::from(interrupted),
    };
    match before + progress {
        0 => Err(failure),
        moved => Ok(moved),
    }
}

/// Where an operation goes on that has moved `before` bytes.
fn behind(at: At, before: usize) -> At {
    match at {
        At::Position => At::Position,
        At::Offset(offset) => At::Offset(offset.saturating_add(before as i64)),
    }
}

/// Reads, behind `before` bytes that the plain half has read.
async fn read_into(
    thread: &Arc<Thread>,
    file: &OpenFile,
    destination: &mut Destination<'_>,
    at: At,
    before: usize,
) -> Result<usize, Failure> {
    let reading = wait::read(file, behind(at, before), destination, &**thread);
    let result = unless_ended(thread, file, pin!(reading)).await;
    total(result, destination.progress(), before)
}

/// Writes, behind `before` bytes that the plain half has written.
async fn write_from(
    thread: &Arc<Thread>,
    file: &OpenFile,
    source: &mut Source<'_>,
    at: At,
    before: usize,
) -> Result<usize, Failure> {
    let writing = wait::write(file, behind(at, before), source, &**thread);
    let result = unless_ended(thread, file, pin!(writing)).await;
    total(result, source.progress(), before)
}

/// What a transfer gives, unless a signal ends it. One of a regular file, which is never waited for, ends by itself: only
/// the thread's own end comes before that.
async fn unless_ended<F: Future>(
    thread: &Thread,
    file: &OpenFile,
    transfer: Pin<&mut F>,
) -> Result<F::Output, Interrupted> {
    let blocks = || file.file().wait_queue(PollEvents::all()).is_some();
    if file.kind() == Some(FileKind::Regular) && !blocks() {
        thread.killable(transfer).await
    } else {
        thread.interruptible(transfer).await
    }
}

/// The open file, once the buffer is seen to be in user space: which Linux looks at after the mode.
fn readable(thread: &Thread, file: Descriptor, address: usize, count: usize) -> Result<Arc<OpenFile>, Errno> {
    let file = thread.files().get(file.0)?;
    if check_range(address, count).is_err() {
        return Err(if file.flags().readable() { Errno::EFAULT } else { Errno::EBADF });
    }
    Ok(file)
}

/// As [`readable`], for writing.
fn writable(thread: &Thread, file: Descriptor, address: usize, count: usize) -> Result<Arc<OpenFile>, Errno> {
    let file = thread.files().get(file.0)?;
    if check_range(address, count).is_err() {
        return Err(if file.flags().writable() { Errno::EFAULT } else { Errno::EBADF });
    }
    Ok(file)
}

/// read(2)
pub(crate) fn read(
    thread: &Arc<Thread>,
    file: Descriptor,
    buffer: OutBuffer<2>,
    count: usize,
) -> Result<usize, Attempt> {
    let file = readable(thread, file, buffer.0, count)?;
    let mut destination = Destination::user(thread.space(), buffer.0, count.min(MOST));
    finish(wait::try_read(&file, At::Position, &mut destination, &**thread), destination.progress())
}

/// read(2) that has to wait.
pub(crate) async fn read_waiting(
    thread: &Arc<Thread>,
    moved: usize,
    file: Descriptor,
    buffer: OutBuffer<2>,
    count: usize,
) -> Result<usize, Failure> {
    let file = readable(thread, file, buffer.0, count)?;
    let mut destination = Destination::user(thread.space(), buffer.0 + moved, count.min(MOST) - moved);
    read_into(thread, &file, &mut destination, At::Position, moved).await
}

/// write(2)
pub(crate) fn write(
    thread: &Arc<Thread>,
    file: Descriptor,
    buffer: InBuffer<2>,
    count: usize,
) -> Result<usize, Attempt> {
    let file = writable(thread, file, buffer.0, count)?;
    let mut source = Source::user(thread.space(), buffer.0, count.min(MOST));
    finish(wait::try_write(&file, At::Position, &mut source, &**thread), source.progress())
}

/// write(2) that has to wait.
pub(crate) async fn write_waiting(
    thread: &Arc<Thread>,
    moved: usize,
    file: Descriptor,
    buffer: InBuffer<2>,
    count: usize,
) -> Result<usize, Failure> {
    let file = writable(thread, file, buffer.0, count)?;
    let mut source = Source::user(thread.space(), buffer.0 + moved, count.min(MOST) - moved);
    write_from(thread, &file, &mut source, At::Position, moved).await
}

/// pread(2)
pub(crate) fn pread64(
    thread: &Arc<Thread>,
    file: Descriptor,
    buffer: OutBuffer<2>,
    count: usize,
    offset: i64,
) -> Result<usize, Attempt> {
    check_offset(offset)?;
    let file = readable(thread, file, buffer.0, count)?;
    check_seekable(&file)?;
    let mut destination = Destination::user(thread.space(), buffer.0, count.min(MOST));
    finish(wait::try_read(&file, At::Offset(offset), &mut destination, &**thread), destination.progress())
}

/// pread(2) that has to wait.
pub(crate) async fn pread64_waiting(
    thread: &Arc<Thread>,
    moved: usize,
    file: Descriptor,
    buffer: OutBuffer<2>,
    count: usize,
    offset: i64,
) -> Result<usize, Failure> {
    let file = readable(thread, file, buffer.0, count)?;
    let mut destination = Destination::user(thread.space(), buffer.0 + moved, count.min(MOST) - moved);
    read_into(thread, &file, &mut destination, At::Offset(offset), moved).await
}

/// pwrite(2)
pub(crate) fn pwrite64(
    thread: &Arc<Thread>,
    file: Descriptor,
    buffer: InBuffer<2>,
    count: usize,
    offset: i64,
) -> Result<usize, Attempt> {
    check_offset(offset)?;
    let file = writable(thread, file, buffer.0, count)?;
    check_seekable(&file)?;
    let mut source = Source::user(thread.space(), buffer.0, count.min(MOST));
    finish(wait::try_write(&file, At::Offset(offset), &mut source, &**thread), source.progress())
}

/// pwrite(2) that has to wait.
pub(crate) async fn pwrite64_waiting(
    thread: &Arc<Thread>,
    moved: usize,
    file: Descriptor,
    buffer: InBuffer<2>,
    count: usize,
    offset: i64,
) -> Result<usize, Failure> {
    let file = writable(thread, file, buffer.0, count)?;
    let mut source = Source::user(thread.space(), buffer.0 + moved, count.min(MOST) - moved);
    write_from(thread, &file, &mut source, At::Offset(offset), moved).await
}

fn check_offset(offset: i64) -> Result<(), Errno> {
    if offset < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn check_seekable(file: &OpenFile) -> Result<(), Errno> {
    file.usable()?;
    if file.traits().contains(FileTraits::SEEKABLE) { Ok(()) } else { Err(Errno::ESPIPE) }
}

/// The pieces of memory an array of vectors names; few fit without the heap.
type Slices = SmallVec<[UserSlice; 8]>;

/// An array of vectors is being read and checked; the total is cut to what one call may move.
struct Gathering {
    slices: Slices,
    room: usize,
}

impl Gathering {
    fn new(count: usize) -> Result<Gathering, Errno> {
        if count > raw::UIO_MAXIOV as usize {
            return Err(Errno::EINVAL);
        }
        let mut slices = Slices::new();
        fallible(|| slices.try_reserve(count)).map_err(|_| Errno::ENOMEM)?;
        Ok(Gathering { slices, room: MOST })
    }

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn add(&mut self, [address, length]: IoVector) -> Result<(), Errno> {
        if length > isize::MAX as usize {
            return Err(Errno::EINVAL);
        }
        check_range(address, length)?;
        let length = length.min(self.room);
        self.room -= length;
        self.slices.push(UserSlice { address, length });
        Ok(())
    }
}

/// The pieces, if the array can be read without waiting.
fn gather_now(thread: &Arc<Thread>, vectors: In<IoVector>, count: usize) -> Result<Slices, Attempt> {
    let mut gathering = Gathering::new(count)?;
    for index in 0..count {
        match user::read(thread, vectors.element(index).0) {
            Ok(vector) => gathering.add(vector)?,
            Err(NotReady::Error(errno)) => return Err(errno.into()),
            Err(_) => return Err(Attempt::Wait(0)),
        }
    }
    Ok(gathering.slices)
}

/// The pieces behind the first `moved` bytes.
async fn gather(space: &AddressSpace, vectors: In<IoVector>, count: usize, mut moved: usize) -> Result<Slices, Errno> {
    let mut gathering = Gathering::new(count)?;
    for index in 0..count {
        gathering.add(space.read_value(vectors.element(index).0).await?)?;
    }
    for slice in &mut gathering.slices {
        let skipped = moved.min(slice.length);
        slice.address += skipped;
        slice.length -= skipped;
        moved -= skipped;
    }
    Ok(gathering.slices)
}

async fn read_vectors(
    thread: &Arc<Thread>,
    file: &OpenFile,
    vectors: In<IoVector>,
    count: usize,
    at: At,
    moved: usize,
) -> Result<usize, Failure> {
    if !file.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    let space = thread.space();
    let slices = gather(space, vectors, count, moved).await?;
    read_into(thread, file, &mut Destination::vector(space, &slices), at, moved).await
}

async fn write_vectors(
    thread: &Arc<Thread>,
    file: &OpenFile,
    vectors: In<IoVector>,
    count: usize,
    at: At,
    moved: usize,
) -> Result<usize, Failure> {
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    let space = thread.space();
    let slices = gather(space, vectors, count, moved).await?;
    write_from(thread, file, &mut Source::vector(space, &slices), at, moved).await
}

/// readv(2)
pub(crate) fn readv(
    thread: &Arc<Thread>,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
) -> Result<usize, Attempt> {
    let file = thread.files().get(file.0)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    let slices = gather_now(thread, vectors, count)?;
    try_read_vectors(thread, &file, &slices)
}

/// readv(2) that has to wait.
pub(crate) async fn readv_waiting(
    thread: &Arc<Thread>,
    moved: usize,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
) -> Result<usize, Failure> {
    let file = thread.files().get(file.0)?;
    read_vectors(thread, &file, vectors, count, At::Position, moved).await
}

/// writev(2)
pub(crate) fn writev(
    thread: &Arc<Thread>,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
) -> Result<usize, Attempt> {
    let file = thread.files().get(file.0)?;
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    let slices = gather_now(thread, vectors, count)?;
    try_write_vectors(thread, &file, &slices)
}

/// writev(2) that has to wait.
pub(crate) async fn writev_waiting(
    thread: &Arc<Thread>,
    moved: usize,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
) -> Result<usize, Failure> {
    let file = thread.files().get(file.0)?;
    write_vectors(thread, &file, vectors, count, At::Position, moved).await
}

/// preadv(2). The offset comes in two registers for the sake of 32-bit machines; here the first holds it all.
pub(crate) async fn preadv(
    thread: &Arc<Thread>,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
    low: i64,
    _high: usize,
) -> Result<usize, Failure> {
    check_offset(low)?;
    let file = thread.files().get(file.0)?;
    check_seekable(&file)?;
    read_vectors(thread, &file, vectors, count, At::Offset(low), 0).await
}

/// pwritev(2)
pub(crate) async fn pwritev(
    thread: &Arc<Thread>,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
    low: i64,
    _high: usize,
) -> Result<usize, Failure> {
    check_offset(low)?;
    let file = thread.files().get(file.0)?;
    check_seekable(&file)?;
    write_vectors(thread, &file, vectors, count, At::Offset(low), 0).await
}

/// preadv2(2)
pub(crate) async fn preadv2(
    thread: &Arc<Thread>,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
    low: i64,
    high: usize,
    flags: Flags<TransferFlags>,
) -> Result<usize, Failure> {
    flags.known().map_err(|_| Errno::EOPNOTSUPP)?;
    if low == -1 {
        readv_waiting(thread, 0, file, vectors, count).await
    } else {
        preadv(thread, file, vectors, count, low, high).await
    }
}

/// pwritev2(2)
pub(crate) async fn pwritev2(
    thread: &Arc<Thread>,
    file: Descriptor,
    vectors: In<IoVector>,
    count: usize,
    low: i64,
    high: usize,
    flags: Flags<TransferFlags>,
) -> Result<usize, Failure> {
    let flags = flags.known().map_err(|_| Errno::EOPNOTSUPP)?;
    let written = if low == -1 {
        writev_waiting(thread, 0, file, vectors, count).await?
    } else {
        pwritev(thread, file, vectors, count, low, high).await?
    };
    if flags.has(raw::RWF_SYNC) {
        fsync(thread, file).await?;
    } else if flags.has(raw::RWF_DSYNC) {
        fdatasync(thread, file).await?;
    }
    Ok(written)
}

/// lseek(2)
pub(crate) fn lseek(thread: &Arc<Thread>, file: Descriptor, offset: i64, whence: u32) -> Result<usize, NotReady> {
    let file = thread.files().get(file.0)?;
    let whence = Whence::new(whence)?;
    Ok(file.try_seek(offset, whence).ok_or(NotReady::WouldBlock)?? as usize)
}

/// lseek(2) of a file that somebody else is reading or writing.
pub(crate) async fn lseek_waiting(
    thread: &Arc<Thread>,
    file: Descriptor,
    offset: i64,
    whence: u32,
) -> Result<usize, Failure> {
    let file = thread.files().get(file.0)?;
    let whence = Whence::new(whence)?;
    Ok(file.seek(offset, whence).await? as usize)
}

/// sendfile(2)
pub(crate) async fn sendfile(
    thread: &Arc<Thread>,
    to: Descriptor,
    from: Descriptor,
    offset: InOut<i64>,
    count: usize,
) -> Result<usize, Failure> {
    let at = offset.input().fetch_optional(thread).await?;
    let input = thread.files().get(from.0)?;
    let output = thread.files().get(to.0)?;
    if at.is_some_and(|at| at < 0) {
        return Err(Errno::EINVAL.into());
    }
    let mut from = thread.interruptible(End::new(&input, at)).await??;
    let mut to = thread.interruptible(End::new(&output, None)).await??;
    let mut sent = 0;
    let sending = transfer::sendfile(&mut to, &mut from, count.min(MOST), &mut sent, &**thread);
    let result = thread.interruptible(pin!(sending)).await;
    if sent > 0 {
        // If both are one position, the input's end stands, as on Linux.
        to.finish().await;
        from.finish().await;
    }
    if let Some(at) = at.and(from.reached()) {
        offset.output().store(thread, &at).await?;
    }
    total(result.map(|result| result.map(|()| sent)), sent, 0)
}

/// copy_file_range(2)
pub(crate) async fn copy_file_range(
    thread: &Arc<Thread>,
    from: Descriptor,
    from_offset: InOut<i64>,
    to: Descriptor,
    to_offset: InOut<i64>,
    count: usize,
    flags: u32,
) -> Result<usize, Failure> {
    let input = thread.files().get(from.0)?;
    let output = thread.files().get(to.0)?;
    let from_at = from_offset.input().fetch_optional(thread).await?;
    let to_at = to_offset.input().fetch_optional(thread).await?;
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut input = thread.interruptible(End::new(&input, from_at)).await??;
    let mut output = thread.interruptible(End::new(&output, to_at)).await??;
    let mut copied = 0;
    let copying = transfer::copy_file_range(&mut input, &mut output, count.min(MOST), &mut copied, &**thread);
    let result = thread.interruptible(pin!(copying)).await;
    if copied > 0 {
        for (end, offset, given) in [(&input, from_offset, from_at), (&output, to_offset, to_at)] {
            end.finish().await;
            if let Some(reached) = given.and(end.reached()) {
                offset.output().store(thread, &reached).await?;
            }
        }
    }
    total(result.map(|result| result.map(|()| copied)), copied, 0)
}

/// truncate(2)
pub(crate) fn truncate(thread: &Arc<Thread>, path: CString, length: i64) -> Result<(), NotReady> {
    Ok(truncation(thread, path, length)?.try_now().ok_or(NotReady::WouldBlock)??)
}

/// truncate(2) of a file that somebody writes.
pub(crate) async fn truncate_waiting(thread: &Arc<Thread>, path: CString, length: i64) -> Result<(), Failure> {
    let truncation = user::fetching(thread, || truncation(thread, path, length)).await?;
    Ok(thread.killable(truncation.begin()).await??.finish().await?)
}

fn truncation(thread: &Arc<Thread>, path: CString, length: i64) -> Result<Truncation, NotReady> {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    Ok(resolve(thread, HERE, path, |context, start| {
        context.truncate(&context.lookup(start, path, Lookup::FOLLOW)?, length)
    })?)
}

/// ftruncate(2)
pub(crate) fn ftruncate(thread: &Arc<Thread>, file: Descriptor, length: i64) -> Result<(), NotReady> {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let truncation = thread.files().get(file.0)?.truncate(length, &**thread)?;
    Ok(truncation.try_now().ok_or(NotReady::WouldBlock)??)
}

/// ftruncate(2) of a file that somebody writes.
pub(crate) async fn ftruncate_waiting(thread: &Arc<Thread>, file: Descriptor, length: i64) -> Result<(), Failure> {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let truncation = thread.files().get(file.0)?.truncate(length, &**thread)?;
    Ok(thread.killable(truncation.begin()).await??.finish().await?)
}

/// fallocate(2)
pub(crate) async fn fallocate(
    thread: &Arc<Thread>,
    file: Descriptor,
    mode: u32,
    offset: i64,
    length: i64,
) -> Result<(), Failure> {
    let file = thread.files().get(file.0)?;
    // Rare, and large: not worth room in every future.
    let allocating = Box::pin(file.allocate(mode, offset, length, &**thread));
    // As Linux's tmpfs: no restart.
    Ok(thread.interruptible(allocating).await.map_err(|_| Interrupted::Eintr)??)
}

/// posix_fadvise(2). Advice is checked and otherwise free to be ignored.
pub(crate) fn fadvise64(
    thread: &Arc<Thread>,
    file: Descriptor,
    _offset: i64,
    length: i64,
    advice: i32,
) -> Result<(), Errno> {
    let file = thread.files().get(file.0)?;
    file.usable()?;
    if file.kind() == Some(FileKind::Fifo) {
        return Err(Errno::ESPIPE);
    }
    let known = u32::try_from(advice).is_ok_and(|advice| advice <= raw::POSIX_FADV_NOREUSE);
    if length < 0 || !known { Err(Errno::EINVAL) } else { Ok(()) }
}

/// readahead(2): everything is in memory already.
pub(crate) fn readahead(thread: &Arc<Thread>, file: Descriptor, _offset: i64, _count: usize) -> Result<(), Errno> {
    let file = thread.files().get(file.0)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    match file.kind() {
        Some(FileKind::Regular | FileKind::BlockDevice) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// fsync(2)
pub(crate) async fn fsync(thread: &Arc<Thread>, file: Descriptor) -> Result<(), Failure> {
    let file = thread.files().get(file.0)?;
    Ok(wait::synchronise(&file, false).await?)
}

/// fdatasync(2)
pub(crate) async fn fdatasync(thread: &Arc<Thread>, file: Descriptor) -> Result<(), Failure> {
    let file = thread.files().get(file.0)?;
    Ok(wait::synchronise(&file, true).await?)
}

/// sync(2)
pub(crate) async fn sync(thread: &Arc<Thread>) -> Result<(), Failure> {
    let mut budget = Budget::new();
    for super_block in thread.kernel().vfs().super_blocks() {
        // sync(2) can't fail; who wants to know calls fsync(2).
        let _ = vfs::synchronise(&**super_block.filesystem()).await;
        budget.pace(1).await;
    }
    Ok(())
}

/// syncfs(2)
pub(crate) async fn syncfs(thread: &Arc<Thread>, file: Descriptor) -> Result<(), Failure> {
    let file = thread.files().get(file.0)?;
    file.usable()?;
    match file.named_path() {
        Some(path) => Ok(vfs::synchronise(&**path.mount.super_block().filesystem()).await?),
        None => Ok(()),
    }
}
