//! Open files and directories of a shared folder.
//!
//! Bytes go straight between the host's page cache and kernel slices or frames. A frame's bytes may be changed by
//! programs at any moment, so [`Page`] hands them to the host by address, never as references.

use super::descriptors::Permit;
use super::node::Node;
use super::requests::Task;
use crate::{Answer, Change, FolderEntry, HostError, ReadNow, Request, Result, Status, Ticket};
use rustix::fs::{FallocateFlags, RawDir, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use std::fmt;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Frames moved by one call at most.
const MOST_FRAMES: usize = 64;

/// Bytes of a frame.
const PAGE: usize = 4096;

/// Bytes of entries fetched at once.
const ENTRIES: usize = 32 << 10;

/// A page of memory that the host fills and reads in place. Its bytes may be changed by others at any moment, so the calls
/// belong to who owns the memory.
pub trait Page: Sized {
    /// preadv2(2) into whole pages: returns how many bytes were read; `now`: only what the host has in its memory.
    ///
    /// # Errors
    /// What the host says, `EINTR` too.
    fn read(file: BorrowedFd<'_>, offset: u64, to: &[Self], now: bool) -> std::io::Result<usize>;

    /// pwritev(2) of the first `length` bytes of pages, or of them all: returns how many bytes were written.
    ///
    /// # Errors
    /// What the host says, `EINTR` too.
    fn write(file: BorrowedFd<'_>, offset: u64, from: &[Self], length: usize) -> std::io::Result<usize>;
}

/// A regular file or directory of a shared folder, in use.
pub struct OpenNode {
    node: Node,
    descriptor: Arc<OwnedFd>,
    readable: bool,
    writable: bool,
    /// Held while entries are read: the descriptor's position says which come next.
    reading: Mutex<()>,
    /// The host tells whether a read would have to wait.
    can_try: AtomicBool,
    _permit: Permit,
}

impl fmt::Debug for OpenNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "open {:?}", self.node)
    }
}

impl OpenNode {
    pub(super) fn new(
        node: Node,
        descriptor: Arc<OwnedFd>,
        readable: bool,
        writable: bool,
        permit: Permit,
    ) -> OpenNode {
        let (reading, can_try) = (Mutex::new(()), AtomicBool::new(true));
        OpenNode { node, descriptor, readable, writable, reading, can_try, _permit: permit }
    }

    /// The file.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether it was opened for reading.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Everything about it, now.
    ///
    /// # Errors
    /// `EIO`.
    pub fn status(&self) -> Result<Status> {
        self.node.status()
    }

    /// Reads from `offset` on; returns how many bytes, fewer than asked only at the end of the file.
    ///
    /// # Errors
    /// `EBADF`, `EISDIR`, `EIO`.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        read(&self.descriptor, offset, to)
    }

    /// Reads what the host has in its memory, from `offset` on.
    ///
    /// # Errors
    /// As [`OpenNode::read`].
    pub fn read_now(&self, offset: u64, to: &mut [u8]) -> Result<ReadNow> {
        let mut bytes = 0;
        while self.can_try.load(Ordering::Relaxed) && bytes < to.len() {
            let mut rest = [IoSliceMut::new(to.get_mut(bytes..).unwrap_or_default())];
            match rustix::io::preadv2(&self.descriptor, &mut rest, position(offset, bytes)?, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Ok(ReadNow { bytes, waits: false }),
                Ok(length) => bytes += length,
                Err(Errno::AGAIN) => return Ok(ReadNow { bytes, waits: true }),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.can_try.store(false, Ordering::Relaxed),
                Err(_) if bytes > 0 => return Ok(ReadNow { bytes, waits: false }),
                Err(errno) => return Err(errno.into()),
            }
        }
        let rest = to.get_mut(bytes..).unwrap_or_default();
        // A file system that doesn't tell.
        match rest.is_empty() || !self.node.is_near() {
            true => Ok(ReadNow { bytes, waits: !rest.is_empty() }),
            false => self
                .read(offset.saturating_add(bytes as u64), rest)
                .map(|length| ReadNow { bytes: bytes + length, waits: false }),
        }
    }

    /// Has a helper make a call that may take long; the answer will be found by [`SharedFolder::take_answer`](crate::SharedFolder::take_answer)
    /// under `ticket`. False if there is no helper.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn ask(&self, ticket: Ticket, request: &Request) -> Result<bool> {
        self.node.helpers().ask(ticket, || {
            let own = rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0).map_err(|_| super::ENFILE)?;
            Ok(Task::Open(own, request.clone()))
        })
    }

    /// Makes the call that a helper was not there for.
    ///
    /// # Errors
    /// Those of the host.
    pub fn answer(&self, request: &Request) -> Result<Answer> {
        answer(&self.descriptor, request)
    }

    /// Fills frames from `offset` on; returns how many bytes, fewer than they hold at the end of the file or when there
    /// are more than 64 of them. What is not filled stays as it is. `None`: the host doesn't have all of them in its memory.
    ///
    /// # Errors
    /// As [`OpenNode::read`].
    pub fn read_frames<P: Page>(&self, offset: u64, to: &[P]) -> Result<Option<usize>> {
        let to = to.get(..MOST_FRAMES).unwrap_or(to);
        let call =
            |now| rustix::io::retry_on_intr(|| P::read(self.descriptor.as_fd(), offset, to, now).map_err(errno_of));
        let found = if self.can_try.load(Ordering::Relaxed) { call(true) } else { Err(Errno::OPNOTSUPP) };
        match found {
            // The end of the file, or of what is at hand? Of what is far, a helper finds out.
            Ok(length) if length < to.len() * PAGE && !self.node.is_near() => Ok(None),
            Ok(length) if length < to.len() * PAGE && self.status()?.size > offset.saturating_add(length as u64) => {
                Ok(None)
            }
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.can_try.store(false, Ordering::Relaxed);
                if self.node.is_near() { Ok(Some(call(false)?)) } else { Ok(None) }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes at `offset`; returns how many bytes, at least 1 unless `from` is empty.
    ///
    /// # Errors
    /// `EBADF`, `ENOSPC`, `EFBIG`, `EDQUOT`, `EIO`.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<usize> {
        self.check_writable()?;
        Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.descriptor, from, offset))?)
    }

    /// Writes the first `length` bytes of frames at `offset`; returns how many, fewer if there are more than 64 frames.
    ///
    /// # Errors
    /// As [`OpenNode::write`].
    pub fn write_frames<P: Page>(&self, offset: u64, from: &[P], length: usize) -> Result<usize> {
        self.check_writable()?;
        let from = from.get(..MOST_FRAMES).unwrap_or(from);
        Ok(rustix::io::retry_on_intr(|| P::write(self.descriptor.as_fd(), offset, from, length).map_err(errno_of))?)
    }

    /// Writes at the end of the file, wherever that is at this moment. Returns how many bytes, and where they end.
    ///
    /// # Errors
    /// As [`OpenNode::write`].
    pub fn append(&self, from: &[u8]) -> Result<(usize, u64)> {
        self.check_writable()?;
        let parts = [std::io::IoSlice::new(from)];
        let call = || rustix::io::pwritev2(&self.descriptor, &parts, 0, ReadWriteFlags::APPEND);
        let length = rustix::io::retry_on_intr(call)?;
        Ok((length, self.status()?.size))
    }

    /// Changes attributes. The length needs no permission beyond that this is open for writing.
    ///
    /// # Errors
    /// As [`Node::change`].
    pub fn change(&self, change: &Change) -> Result<()> {
        self.node.check_writable()?;
        if let Some(size) = change.size {
            self.check_writable()?;
            rustix::fs::ftruncate(&self.descriptor, size)?;
        }
        self.node.change_by(&self.descriptor, change)
    }

    /// fallocate(2), with its mode.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENOSPC`, `EFBIG`, `EBADF`.
    pub fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        self.check_writable()?;
        allocate(&self.descriptor, mode, offset, length)
    }

    /// The next byte at or after `offset` that lies in data, or in a hole.
    ///
    /// # Errors
    /// `ENXIO` beyond the end.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        search(&self.descriptor, offset, hole)
    }

    /// Everything written is safe on the host's disk; with `data_only`, times may not be.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`, `EINVAL` where the host can't.
    pub fn synchronise(&self, data_only: bool) -> Result<()> {
        synchronise(&self.descriptor, data_only)
    }

    /// The whole file system it lies in is safe on the host's disk.
    ///
    /// # Errors
    /// `EIO`.
    pub fn synchronise_all(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(&self.descriptor)?)
    }

    /// The next entries of a directory, or the first ones; none at its end.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT` when it was removed, `EIO`.
    pub fn entries(&self, from_the_beginning: bool) -> Result<Vec<FolderEntry>> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        entries(&self.descriptor, from_the_beginning)
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(HostError(Errno::BADF.raw_os_error() as u16)) }
    }
}

impl Drop for OpenNode {
    /// Closing tells a file system that is elsewhere, which may take long.
    fn drop(&mut self) {
        if !self.node.is_near() {
            let file = std::mem::replace(&mut self.descriptor, self.node.0.share.descriptors.clone());
            Arc::into_inner(file).into_iter().for_each(|file| self.node.helpers().close(file));
        }
    }
}

/// Does what a helper is asked for.
pub(super) fn answer(file: &OwnedFd, request: &Request) -> Result<Answer> {
    match request {
        Request::Read { offset, length } => {
            let mut bytes = vec![0; *length];
            let found = read(file, *offset, &mut bytes)?;
            bytes.truncate(found);
            Ok(Answer::Bytes(bytes))
        }
        Request::Write { offset, bytes } => write(file, *offset, bytes, false),
        Request::WriteWithin { offset, bytes } => {
            let rest = (rustix::fs::fstat(file)?.st_size as u64).saturating_sub(*offset);
            let rest = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
            write(file, Some(*offset), bytes.get(..rest).unwrap_or_default(), true)
        }
        Request::Resize(size) => Ok(rustix::fs::ftruncate(file, *size).map(|()| Answer::Done)?),
        Request::Allocate { mode, offset, length } => allocate(file, *mode, *offset, *length).map(|()| Answer::Done),
        Request::Search { offset, hole } => search(file, *offset, *hole).map(Answer::Offset),
        Request::Synchronise { data_only } => synchronise(file, *data_only).map(|()| Answer::Done),
        Request::Entries { from_the_beginning } => entries(file, *from_the_beginning).map(Answer::Entries),
    }
}

fn allocate(file: &OwnedFd, mode: u32, offset: u64, length: u64) -> Result<()> {
    let mode = FallocateFlags::from_bits(mode).ok_or(HostError(Errno::OPNOTSUPP.raw_os_error() as u16))?;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, mode, offset, length))?)
}

fn search(file: &OwnedFd, offset: u64, hole: bool) -> Result<u64> {
    let to = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
    Ok(rustix::fs::seek(file, to)?)
}

/// Writes all of it, at `offset` or at the end. What was written before an error counts, unless it is the `whole` that counts.
fn write(file: &OwnedFd, offset: Option<u64>, bytes: &[u8], whole: bool) -> Result<Answer> {
    let (mut done, mut end) = (0, offset.unwrap_or(0));
    while done < bytes.len() {
        let rest = [std::io::IoSlice::new(bytes.get(done..).unwrap_or_default())];
        let written = match offset {
            Some(_) => rustix::io::pwritev2(file, &rest, position(end, 0)?, ReadWriteFlags::empty()),
            None => rustix::io::pwritev2(file, &rest, 0, ReadWriteFlags::APPEND),
        };
        match written {
            Ok(0) => break,
            Ok(length) => {
                done += length;
                end = if offset.is_some() { end + length as u64 } else { rustix::fs::fstat(file)?.st_size as u64 };
            }
            Err(Errno::INTR) => {}
            Err(_) if done > 0 && !whole => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Answer::Written { bytes: done, end })
}

/// See [`OpenNode::entries`]. The descriptor's position says which come next.
fn entries(file: &OwnedFd, from_the_beginning: bool) -> Result<Vec<FolderEntry>> {
    if from_the_beginning {
        rustix::fs::seek(file, SeekFrom::Start(0))?;
    }
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
    let mut found = Vec::new();
    // A buffer full of `.` and `..` alone is not the end.
    while found.is_empty() {
        let mut directory = RawDir::new(file, &mut buffer);
        let mut any = false;
        while let Some(entry) = directory.next() {
            let entry = entry?;
            any = true;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let entry_type = (entry.file_type().as_raw_mode() >> 12) as u8;
                found.push(FolderEntry { name: name.to_vec(), number: entry.ino(), entry_type });
            }
            if directory.is_buffer_empty() {
                break;
            }
        }
        if !any {
            break;
        }
    }
    Ok(found)
}

fn read(file: &OwnedFd, offset: u64, to: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < to.len() {
        let rest = to.get_mut(done..).unwrap_or_default();
        match rustix::io::pread(file, rest, position(offset, done)?) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

fn synchronise(file: &OwnedFd, data_only: bool) -> Result<()> {
    let call = || if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) };
    Ok(rustix::io::retry_on_intr(call)?)
}

/// A position behind `offset`. Those that are none are refused: the host takes -1 for the descriptor's own.
fn position(offset: u64, done: usize) -> Result<u64> {
    let position = offset.saturating_add(done as u64);
    if position <= i64::MAX as u64 { Ok(position) } else { Err(super::EINVAL) }
}

/// What the host said by way of the standard library.
fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
