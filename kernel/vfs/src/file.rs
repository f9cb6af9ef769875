//! Open files as their makers see them: the operations behind a descriptor.
//!
//! **Try, then wait.** No operation sleeps. It does what can be done now, or says in a [`NotReady`] why nothing can. The
//! loop in [`crate::wait`] turns that into blocking, `O_NONBLOCK` and retries after page faults.
//!
//! **The cursor is the truth.** `read` and `write` move bytes through a [`Destination`] or [`Source`], and have
//! consumed exactly as many bytes as the cursor moved, whatever they return: after a fault in the middle the loop
//! resolves it and calls again for the rest, from a position advanced by as much. So nothing is consumed before it is
//! delivered.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::ready;
use core::ops::Range;

use abi::raw::general as raw;
use abi::{Errno, Pid, Result};
use bitflags::bitflags;
use memory::{CacheError, Destination, Pager, Search, Source, UserFault};
use sync::WaitQueue;

use crate::caller::Caller;
use crate::directory::DirectorySink;
use crate::pipe::Pipe;
use crate::signal_io::DefaultOwner;
use crate::waiting::Pending;

/// Why an operation did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Nothing can be done now; the file's wait queue is woken when that changes.
    WouldBlock,
    /// A page of the program is missing. Resolve it and call again.
    Fault(UserFault),
    /// This page of the file is on its way, or there is no room for it yet: wait for it with its pager, and call again. `O_NONBLOCK`
    /// changes nothing about that.
    Page(u64),
    /// What it needs lies elsewhere: have it fetched ([`File::fetch`], [`File::fetch_entries`]), or done there ([`File::write_elsewhere`],
    /// [`File::synchronise_elsewhere`]). `O_NONBLOCK` changes nothing about that.
    Elsewhere,
    /// The caller was sent a signal instead (`SIGTTIN`): let it be delivered, then call again.
    Signalled,
    /// It has taken long, and is not done: let others run, then call again.
    Yield,
    /// It failed.
    Error(Errno),
}

impl From<Errno> for NotReady {
    #[inline]
    fn from(errno: Errno) -> NotReady {
        match errno {
            // A path that takes long ([`crate::PausedWalks`]).
            Errno::ERESTART => NotReady::Yield,
            errno => NotReady::Error(errno),
        }
    }
}

impl From<UserFault> for NotReady {
    fn from(fault: UserFault) -> NotReady {
        NotReady::Fault(fault)
    }
}

impl From<CacheError> for NotReady {
    fn from(error: CacheError) -> NotReady {
        match error {
            CacheError::Fault(fault) => fault.into(),
            CacheError::NoSpace => Errno::ENOSPC.into(),
            CacheError::OutOfMemory => Errno::ENOMEM.into(),
            CacheError::Io => Errno::EIO.into(),
            CacheError::Wait(index) => NotReady::Page(index),
        }
    }
}

bitflags! {
    /// Readiness, with the values of poll(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PollEvents: u16 {
        /// Reading would not block.
        const IN = raw::POLLIN as u16;
        /// Urgent data.
        const PRIORITY = raw::POLLPRI as u16;
        /// Writing would not block.
        const OUT = raw::POLLOUT as u16;
        /// An error is pending. Always reported.
        const ERROR = raw::POLLERR as u16;
        /// The other side hung up. Always reported.
        const HANG_UP = raw::POLLHUP as u16;
        /// The descriptor is not open. Always reported.
        const INVALID = raw::POLLNVAL as u16;
        /// `IN`, for normal data.
        const READ_NORMAL = raw::POLLRDNORM as u16;
        /// Urgent data, of a band.
        const READ_BAND = raw::POLLRDBAND as u16;
        /// `OUT`, for normal data.
        const WRITE_NORMAL = raw::POLLWRNORM as u16;
        /// Urgent data may be written.
        const WRITE_BAND = raw::POLLWRBAND as u16;
        /// The other side will write no more.
        const READ_HANG_UP = 0x2000;
    }

    /// What vfs must know about a file before each operation; asked once, when it is opened.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FileTraits: u8 {
        /// Has positions: lseek(2), pread(2) and pwrite(2) work.
        const SEEKABLE = 1 << 0;
        /// Wants [`File::admit`] called before reads, writes and ioctls: terminals.
        const ADMITS = 1 << 1;
        /// [`File::closed`] wants to be called.
        const TELL_CLOSED = 1 << 2;
        /// Reading and writing take no position and need no lock for it, though it can be "sought" (`/dev/null`).
        const STREAM = 1 << 3;
        /// One write at a time: [`Inode::write_lock`](crate::Inode::write_lock) is held over each.
        const WRITE_LOCK = 1 << 4;
        /// Can tell by signals that it became ready: `O_ASYNC`.
        const SIGNALS = 1 << 5;
        /// Lies elsewhere: its pager writes it back, and notes what could not be written.
        const BACKED = 1 << 6;
    }
}

impl PollEvents {
    /// What is reported though nobody asked.
    pub const ALWAYS: PollEvents = PollEvents::ERROR.union(PollEvents::HANG_UP).union(PollEvents::INVALID);
    /// Readable, in all its spellings.
    pub const READABLE: PollEvents = PollEvents::IN.union(PollEvents::READ_NORMAL);
    /// Writable, in all its spellings.
    pub const WRITABLE: PollEvents = PollEvents::OUT.union(PollEvents::WRITE_NORMAL);

    /// What is to be waited for in the file's queue to hear of these.
    pub fn to_wait_for(self) -> sync::Events {
        let input = PollEvents::READABLE | PollEvents::PRIORITY | PollEvents::READ_BAND | PollEvents::READ_HANG_UP;
        let output = PollEvents::WRITABLE | PollEvents::WRITE_BAND;
        let either = |set, events| if self.intersects(set) { events } else { sync::Events::NONE };
        either(input, sync::Events::INPUT).union(either(output, sync::Events::OUTPUT))
    }
}

/// What is about to be done, for [`File::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// read(2) and its kin
    Read,
    /// write(2) and its kin
    Write,
}

/// From where lseek(2) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// `SEEK_SET`
    Start,
    /// `SEEK_CUR`
    Current,
    /// `SEEK_END`
    End,
    /// `SEEK_DATA`: the next byte that is no hole
    Data,
    /// `SEEK_HOLE`: the next hole, of which there is one at the end
    Hole,
}

impl Whence {
    /// From the argument of lseek(2).
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn new(whence: u32) -> Result<Whence> {
        Ok(match whence {
            raw::SEEK_SET => Whence::Start,
            raw::SEEK_CUR => Whence::Current,
            raw::SEEK_END => Whence::End,
            raw::SEEK_DATA => Whence::Data,
            raw::SEEK_HOLE => Whence::Hole,
            _ => return Err(Errno::EINVAL),
        })
    }
}

bitflags! {
    /// The modes of fallocate(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AllocateMode: u32 {
        /// Leave the length as it is.
        const KEEP_SIZE = raw::FALLOC_FL_KEEP_SIZE;
        /// Make a hole; only with `KEEP_SIZE`.
        const PUNCH_HOLE = raw::FALLOC_FL_PUNCH_HOLE;
        /// Make it read as zeros.
        const ZERO_RANGE = raw::FALLOC_FL_ZERO_RANGE;
    }
}

/// The operations of an open file. All are plain functions that never sleep; see the module's page for the two rules.
pub trait File: Send + Sync {
    /// What vfs must know beforehand.
    fn traits(&self) -> FileTraits;

    /// Moves bytes from `position` on into `destination`; returns how many this call moved, 0 at the end.
    ///
    /// # Errors
    /// [`NotReady::WouldBlock`] when there is nothing yet; `EISDIR`, `EIO`, `EINVAL` when it can't be read.
    fn read(&self, position: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let _ = (position, destination);
        Err(Errno::EINVAL.into())
    }

    /// The bytes from `position` on that [`File::read`] had not at hand ([`NotReady::Elsewhere`]): at most `length`, and fewer only at the end
    /// of the file. Dropped, it is not waited for.
    fn fetch(&self, position: u64, length: usize) -> Pending<Vec<u8>> {
        let _ = (position, length);
        Box::pin(ready(Err(Errno::EIO)))
    }

    /// Moves bytes from `source` to `position`; returns how many this call moved.
    ///
    /// # Errors
    /// [`NotReady::WouldBlock`] when there is no room yet; `EPIPE`, `ENOSPC`, `EFBIG`, `EINVAL` when it can't be written.
    fn write(&self, position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let _ = (position, source);
        Err(Errno::EINVAL.into())
    }

    /// Writes what [`File::write`] or [`File::append`] could not ([`NotReady::Elsewhere`]), at `position`, or at the end if there is none. Returns
    /// how many bytes, at least 1 of any, and the position behind them. Dropped, it may be written all the same.
    fn write_elsewhere(&self, position: Option<u64>, bytes: Vec<u8>) -> Pending<(usize, u64)> {
        let _ = (position, bytes);
        Box::pin(ready(Err(Errno::EIO)))
    }

    /// Writes at the end of the file, wherever that is at this moment: `O_APPEND`, for files with positions. Returns
    /// how many bytes this call moved, and the position behind them.
    ///
    /// # Errors
    /// As [`File::write`].
    fn append(&self, source: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        let end = self.size();
        let moved = self.write(end, source)?;
        Ok((moved, end.saturating_add(moved as u64)))
    }

    /// What would not block now.
    fn poll(&self) -> PollEvents {
        PollEvents::READABLE | PollEvents::WRITABLE
    }

    /// The queue that is woken whenever one of `interest` may have come about. `None`: it never changes.
    fn wait_queue(&self, interest: PollEvents) -> Option<&WaitQueue> {
        let _ = interest;
        None
    }

    /// Whether `caller` may do this now; asked once before each read and write when [`FileTraits::ADMITS`] is set. A
    /// terminal sends `SIGTTIN` to a background group here and returns [`NotReady::Signalled`].
    ///
    /// # Errors
    /// [`NotReady::Signalled`], `EIO`.
    fn admit(&self, operation: Operation, caller: &dyn Caller) -> Result<(), NotReady> {
        let _ = (operation, caller);
        Ok(())
    }

    /// Device-specific requests: ioctl(2). It must not change anything before its last access to user memory succeeded.
    /// May return [`NotReady::WouldBlock`] after arranging for its [`wait_queue`](File::wait_queue) to be woken (`TCSBRK`,
    /// `TCSETSW`).
    ///
    /// # Errors
    /// `ENOTTY` for requests it doesn't know.
    fn ioctl(&self, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        let _ = (request, argument, caller);
        Err(Errno::ENOTTY.into())
    }

    /// Hands the entries after cookie `*position` to `sink` until it is full, moving `*position` behind the last taken.
    /// `.` and `..` are written by vfs at the cookies 0 and 1; a file system's own cookies begin at 2.
    ///
    /// # Errors
    /// `ENOTDIR`; [`NotReady::Elsewhere`].
    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<(), NotReady> {
        let _ = (position, sink);
        Err(Errno::ENOTDIR.into())
    }

    /// Has the entries after cookie `position` fetched that [`File::read_directory`] had not at hand ([`NotReady::Elsewhere`]).
    fn fetch_entries(&self, position: u64) -> Pending<()> {
        let _ = position;
        Box::pin(ready(Err(Errno::EIO)))
    }

    /// Where the pages come from when it is mapped: `None` gives `ENODEV`.
    fn pager(&self) -> Option<Arc<dyn Pager>> {
        None
    }

    /// Those of its pages that are here, if it has [`FileTraits::BACKED`]: they may have to be written back, or could not be. `None` if
    /// there are none.
    fn cached_pages(&self) -> Option<Arc<dyn Pager>> {
        self.pager()
    }

    /// The pipe behind it, if it is one: for `F_SETPIPE_SZ` and splice(2).
    fn pipe(&self) -> Option<&Arc<Pipe>> {
        None
    }

    /// The length, for `SEEK_END` and `O_APPEND`.
    fn size(&self) -> u64 {
        0
    }

    /// The next data or hole at or after `position`, below the length, which vfs has checked; or a part of the search. Without holes,
    /// all is data.
    ///
    /// # Errors
    /// `ENXIO`; `ERESTART` if that has to be waited for ([`File::seek_elsewhere`]).
    fn seek_hole_or_data(&self, position: u64, whence: Whence) -> Result<Search> {
        Ok(Search::Found(if whence == Whence::Hole { self.size() } else { position }))
    }

    /// The same, where it has to be waited for.
    fn seek_elsewhere(&self, position: u64, whence: Whence) -> Pending<u64> {
        let _ = (position, whence);
        Box::pin(ready(Err(Errno::ENXIO)))
    }

    /// fallocate(2), for a part of `range` from its start on. Returns where to go on, or `None` when all is done.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENOSPC`, `EFBIG`; `ERESTART` if that has to be waited for ([`File::allocate_elsewhere`]).
    fn allocate(&self, mode: AllocateMode, range: Range<u64>) -> Result<Option<u64>> {
        let _ = (mode, range);
        Err(Errno::EOPNOTSUPP)
    }

    /// The same for all of `range`, where it has to be waited for.
    fn allocate_elsewhere(&self, mode: AllocateMode, range: Range<u64>) -> Pending<()> {
        let _ = (mode, range);
        Box::pin(ready(Err(Errno::EOPNOTSUPP)))
    }

    /// Everything written is safe on its device: fsync(2), or fdatasync(2) when `data_only`. Of a file with [`FileTraits::BACKED`] its
    /// pages have been written back before.
    ///
    /// # Errors
    /// `EINVAL` for what can't be synchronised, `EIO`; [`NotReady::WouldBlock`] while it goes on; [`NotReady::Elsewhere`].
    fn synchronise(&self, data_only: bool) -> Result<(), NotReady> {
        let _ = data_only;
        Err(Errno::EINVAL.into())
    }

    /// The same where it has to be waited for ([`NotReady::Elsewhere`]). Dropped, it is not waited for.
    fn synchronise_elsewhere(&self, data_only: bool) -> Pending<()> {
        let _ = data_only;
        Box::pin(ready(Err(Errno::EIO)))
    }

    /// Who gets its signals unless somebody was named.
    fn default_owner(&self) -> DefaultOwner {
        DefaultOwner::Nobody
    }

    /// The flags of the description changed: fcntl(F_SETFL).
    fn flags_changed(&self, flags: crate::OpenFlags) {
        let _ = flags;
    }

    /// A descriptor of it was closed by `process`, perhaps not the last; only with [`FileTraits::TELL_CLOSED`].
    fn closed(&self, process: Pid) {
        let _ = process;
    }
}
