//! Open files and directories of a shared folder.
//!
//! Bytes go straight between the host's page cache and kernel slices or frames. A frame's bytes may be changed by
//! programs at any moment, so [`Page`] hands them to the host by address, never as references.

use super::descriptors::Permit;
use super::node::Node;
use crate::{Change, FolderEntry, HostError, Result, Status};
use rustix::fs::{FallocateFlags, RawDir, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Frames moved by one call at most.
const MOST_FRAMES: usize = 64;

/// Bytes of entries fetched at once.
const ENTRIES: usize = 32 << 10;

/// A page of memory that the host fills and reads in place. Its bytes may be changed by others at any moment, so the calls
/// belong to who owns the memory.
pub trait Page: Sized {
    /// preadv(2) into whole pages: returns how many bytes were read.
    ///
    /// # Errors
    /// What the host says, `EINTR` too.
    fn read(file: BorrowedFd<'_>, offset: u64, to: &[Self]) -> std::io::Result<usize>;

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
        OpenNode { node, descriptor, readable, writable, reading: Mutex::new(()), _permit: permit }
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
        let mut done = 0;
        loop {
            let rest = to.get_mut(done..).unwrap_or_default();
            match rustix::io::pread(&self.descriptor, rest, offset.saturating_add(done as u64)) {
                Ok(0) => return Ok(done),
                Ok(length) => done += length,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Fills frames from `offset` on; returns how many bytes, fewer than they hold at the end of the file or when there
    /// are more than 64 of them. What is not filled stays as it is.
    ///
    /// # Errors
    /// As [`OpenNode::read`].
    pub fn read_frames<P: Page>(&self, offset: u64, to: &[P]) -> Result<usize> {
        let to = to.get(..MOST_FRAMES).unwrap_or(to);
        Ok(rustix::io::retry_on_intr(|| P::read(self.descriptor.as_fd(), offset, to).map_err(errno_of))?)
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
        let mode = FallocateFlags::from_bits(mode).ok_or(HostError(Errno::OPNOTSUPP.raw_os_error() as u16))?;
        Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.descriptor, mode, offset, length))?)
    }

    /// The next byte at or after `offset` that lies in data, or in a hole.
    ///
    /// # Errors
    /// `ENXIO` beyond the end.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        let to = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        Ok(rustix::fs::seek(&self.descriptor, to)?)
    }

    /// Everything written is safe on the host's disk; with `data_only`, times may not be.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`, `EINVAL` where the host can't.
    pub fn synchronise(&self, data_only: bool) -> Result<()> {
        let call = || match data_only {
            true => rustix::fs::fdatasync(&self.descriptor),
            false => rustix::fs::fsync(&self.descriptor),
        };
        Ok(rustix::io::retry_on_intr(call)?)
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
        if from_the_beginning {
            rustix::fs::seek(&self.descriptor, SeekFrom::Start(0))?;
        }
        let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
        let mut found = Vec::new();
        // A buffer full of `.` and `..` alone is not the end.
        while found.is_empty() {
            let mut directory = RawDir::new(&self.descriptor, &mut buffer);
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

    fn check_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(HostError(Errno::BADF.raw_os_error() as u16)) }
    }
}

/// What the host said by way of the standard library.
fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
