//! Pipes: pipe(7), and what is behind a FIFO.
//!
//! A ring of segments, each a part of a frame: bytes go from the writer's memory into a frame and from there into the
//! reader's. A small write is added to the last frame if it fits whole; the frame that was read empty last is kept for
//! the next write, so a steady exchange allocates nothing.
//!
//! **Atomic writes.** A write of up to `PIPE_BUF` bytes always lies within one frame, and is published only when all of
//! it could be copied. **Who waits.** Readers, writers and pollers stand in one queue. Who reads or writes is exclusive: of
//! them one is woken when an empty pipe gets bytes or a full one room, and whoever leaves something over wakes the next.
//! Pollers share: all are woken, and take no wake-up from a reader.
//!
//! **Locks.** One spin lock for the ring and the counts. User memory is copied under it, which is safe since a copy
//! never waits: it stops at a missing page.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use abi::fallible::try_format;
use abi::raw::ioctl;
use abi::{Errno, Result};
use memory::{Destination, PAGE_SIZE, Source};
use sync::{Events, SpinLock, WaitQueue};

use crate::caller::Caller;
use crate::credentials::{Capabilities, Credentials};
use crate::file::{File, FileTraits, NotReady, PollEvents};
use crate::inode::{Attributes, FileKind, Inode, OpenRequest, Permissions, SetAttributes, Time};
use crate::open::OpenFlags;
use crate::open_file::{OpenFile, Origin};

mod ring;

use ring::Ring;

/// How many pages a pipe holds unless told otherwise.
const DEFAULT_PAGES: usize = 16;
/// The most a pipe may hold without privilege: /proc/sys/fs/pipe-max-size.
const MAX_SIZE: usize = 1 << 20;
/// The most a pipe may hold at all.
const HARD_LIMIT: usize = 1 << 30;

/// A pipe, whoever holds its ends.
pub struct Pipe {
    ring: SpinLock<Ring>,
    /// Readers wait for input, writers for output.
    queue: WaitQueue,
    /// Those who wait in open(2) for the other side of a FIFO.
    pub(crate) openers: WaitQueue,
    number: u64,
    status: SpinLock<Status>,
}

/// Who has the pipe open.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ends {
    pub readers: usize,
    pub writers: usize,
    /// How often it was opened for reading, ever.
    pub reader_opens: u64,
    /// How often it was opened for writing, ever.
    pub writer_opens: u64,
}

#[derive(Clone, Copy)]
struct Status {
    permissions: Permissions,
    created: Time,
}

/// Makes a pipe and opens both its ends: pipe2(2). `flags` may hold `O_NONBLOCK`, `O_CLOEXEC`; `O_DIRECT` packets are
/// not done.
///
/// # Errors
/// `EINVAL` for other flags, `ENOMEM`.
pub fn pipe(
    flags: OpenFlags,
    credentials: &Credentials,
    caller: &dyn Caller,
) -> Result<(Arc<OpenFile>, Arc<OpenFile>)> {
    if !(OpenFlags::NON_BLOCK | OpenFlags::CLOSE_ON_EXEC).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let permissions =
        Permissions { mode: FileKind::Fifo.mode() | 0o600, user: credentials.user, group: credentials.group };
    let pipe = Pipe::new(caller.vfs().new_anonymous_number(), permissions);
    let flags = flags - OpenFlags::CLOSE_ON_EXEC;
    let end = |flags: OpenFlags| {
        let file = PipeEnd::new(&pipe, flags, false);
        OpenFile::new(Arc::new(file), Origin::Anonymous(pipe.clone()), flags)
    };
    Ok((end(flags), end(flags | OpenFlags::WRITE_ONLY)))
}

impl Pipe {
    /// An empty pipe nobody has open. A FIFO makes one when it is first opened; `number` and `permissions` are for
    /// those without a name.
    pub fn new(number: u64, permissions: Permissions) -> Arc<Pipe> {
        let ring = Ring { segments: VecDeque::new(), spare: None, capacity: DEFAULT_PAGES, ends: Ends::default() };
        Arc::new(Pipe {
            ring: SpinLock::new(ring),
            queue: WaitQueue::new(),
            openers: WaitQueue::new(),
            number,
            status: SpinLock::new(Status { permissions, created: Time::now() }),
        })
    }

    /// How many bytes lie in it: ioctl(FIONREAD).
    pub fn length(&self) -> usize {
        self.ring.lock().segments.iter().map(|segment| segment.length).sum()
    }

    /// How many bytes it can hold: fcntl(F_GETPIPE_SZ).
    pub fn capacity(&self) -> usize {
        self.ring.lock().capacity * PAGE_SIZE
    }

    /// Changes how many bytes it can hold and returns what became of it: fcntl(F_SETPIPE_SZ).
    ///
    /// # Errors
    /// `EBUSY` when more is in it, `EPERM` beyond /proc/sys/fs/pipe-max-size, `EINVAL`.
    pub fn set_capacity(&self, size: usize, credentials: &Credentials) -> Result<usize> {
        if size > HARD_LIMIT {
            return Err(Errno::EINVAL);
        }
        let size = size.max(PAGE_SIZE).next_power_of_two();
        let mut ring = self.ring.lock();
        let grows = size / PAGE_SIZE > ring.capacity;
        if grows && size > MAX_SIZE && !credentials.has(Capabilities::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if ring.segments.len() > size / PAGE_SIZE {
            return Err(Errno::EBUSY);
        }
        ring.capacity = size / PAGE_SIZE;
        drop(ring);
        if grows {
            self.queue.wake_all_for(Events::OUTPUT);
        }
        Ok(size)
    }

    /// There is more of `events`. Unless there was some before, others wait for it than those who want to hear each time.
    fn tell(&self, events: Events, is_first: bool) {
        if is_first {
            self.queue.wake_one_for(events);
        } else {
            self.queue.wake_standing_for(events);
        }
    }

    /// What is ready for an end with these abilities. A reader that came before any writer is not told that they hung
    /// up.
    pub(crate) fn poll(&self, reads: bool, writes: bool, writers_seen: u64) -> PollEvents {
        let ring = self.ring.lock();
        let mut events = PollEvents::empty();
        if reads {
            events.set(PollEvents::READABLE, !ring.segments.is_empty());
            events.set(PollEvents::HANG_UP, ring.ends.writers == 0 && ring.ends.writer_opens != writers_seen);
        }
        if writes {
            events.set(PollEvents::WRITABLE, !ring.is_full());
            events.set(PollEvents::ERROR, ring.ends.readers == 0);
        }
        events
    }

    /// The queue where changes are told.
    pub(crate) const fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Who has it open.
    pub(crate) fn ends(&self) -> Ends {
        self.ring.lock().ends
    }

    /// Counts one more end, and returns the counts with it.
    pub(crate) fn add_end(&self, reads: bool, writes: bool) -> Ends {
        let mut ring = self.ring.lock();
        let ends = &mut ring.ends;
        ends.readers += usize::from(reads);
        ends.writers += usize::from(writes);
        ends.reader_opens += u64::from(reads);
        ends.writer_opens += u64::from(writes);
        let ends = *ends;
        drop(ring);
        // Nothing becomes ready by it for those who have the pipe open.
        self.openers.wake_all();
        ends
    }

    /// Counts one end less. When the last goes, so does what is in the pipe.
    pub(crate) fn remove_end(&self, reads: bool, writes: bool) {
        let mut ring = self.ring.lock();
        let ends = &mut ring.ends;
        ends.readers = ends.readers.saturating_sub(usize::from(reads));
        ends.writers = ends.writers.saturating_sub(usize::from(writes));
        let (no_readers, no_writers) = (ends.readers == 0, ends.writers == 0);
        let gone = (no_readers && no_writers).then(|| (core::mem::take(&mut ring.segments), ring.spare.take()));
        drop(ring);
        drop(gone);
        if no_readers != no_writers {
            self.queue.wake_all();
        }
    }

    /// The ioctls of a pipe.
    pub(crate) fn ioctl(&self, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        match request {
            ioctl::FIONREAD => {
                let length = i32::try_from(self.length()).unwrap_or(i32::MAX);
                caller.write_value(argument, &length).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}

/// One open end of a pipe, or both in one. The pipe counts it for as long as it exists.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// How often the FIFO had been opened for writing when this end came: until that changes nobody has hung up.
    writers_seen: u64,
    /// The counts right after this end came.
    pub(crate) ends: Ends,
}

impl PipeEnd {
    pub(crate) fn new(pipe: &Arc<Pipe>, flags: OpenFlags, named: bool) -> PipeEnd {
        let (reads, writes) = (flags.readable(), flags.writable());
        let ends = pipe.add_end(reads, writes);
        // Without a name, the other end was there from the beginning.
        let nobody_wrote_yet = named && !writes && ends.writers == 0;
        let writers_seen = if nobody_wrote_yet { ends.writer_opens } else { u64::MAX };
        PipeEnd { pipe: pipe.clone(), reads, writes, writers_seen, ends }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.pipe.remove_end(self.reads, self.writes);
    }
}

impl File for PipeEnd {
    fn traits(&self) -> FileTraits {
        FileTraits::SIGNALS
    }

    /// Moves bytes out. 0 when it is empty and nobody writes.
    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let pipe = &*self.pipe;
        let before = destination.progress();
        if destination.remaining() == 0 {
            return Ok(0);
        }
        let mut ring = pipe.ring.lock();
        let was_full = ring.is_full();
        let result = ring.take(destination);
        let moved = destination.progress() - before;
        let left = !ring.segments.is_empty();
        let writers = ring.ends.writers;
        let freed = was_full && !ring.is_full();
        drop(ring);
        if moved > 0 && !pipe.queue.nobody_waits() {
            pipe.tell(Events::OUTPUT, freed);
            if left {
                pipe.queue.pass_on(Events::INPUT);
            }
        }
        match result {
            Err(fault) => Err(fault.into()),
            Ok(()) if moved > 0 || writers == 0 => Ok(moved),
            Ok(()) => Err(NotReady::WouldBlock),
        }
    }

    /// Moves bytes in. [`NotReady::WouldBlock`] when they don't all fit, after moving those that do.
    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let pipe = &*self.pipe;
        let before = source.progress();
        if source.remaining() == 0 {
            return Ok(0);
        }
        let mut ring = pipe.ring.lock();
        if ring.ends.readers == 0 {
            return Err(Errno::EPIPE.into());
        }
        let was_empty = ring.segments.is_empty();
        let result = ring.put(source);
        let moved = source.progress() - before;
        let room = !ring.is_full();
        drop(ring);
        if moved > 0 && !pipe.queue.nobody_waits() {
            pipe.tell(Events::INPUT, was_empty);
            if room {
                pipe.queue.pass_on(Events::OUTPUT);
            }
        }
        result.map(|()| moved)
    }

    fn poll(&self) -> PollEvents {
        self.pipe.poll(self.reads, self.writes, self.writers_seen)
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(self.pipe.queue())
    }

    fn ioctl(&self, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        self.pipe.ioctl(request, argument, caller)
    }

    fn pipe(&self) -> Option<&Arc<Pipe>> {
        Some(&self.pipe)
    }
}

/// fstat(2) and `/proc/PID/fd` see a pipe without a name as an inode.
impl Inode for Pipe {
    fn attributes(&self) -> Attributes {
        let Status { permissions: Permissions { mode, user, group }, created } = *self.status.lock();
        Attributes {
            device: PIPE_DEVICE,
            number: self.number,
            mode,
            links: 1,
            user,
            group,
            block_size: PAGE_SIZE as u32,
            accessed: created,
            modified: created,
            changed: created,
            ..Attributes::default()
        }
    }

    fn permissions(&self) -> Permissions {
        self.status.lock().permissions
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        if changes.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut status = self.status.lock();
        status.permissions.change(changes);
        Ok(())
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(Arc::new(PipeEnd::new(&self, request.flags, false)))
    }

    fn fifo(self: Arc<Self>) -> Result<Arc<Pipe>> {
        Ok(self)
    }

    fn anonymous_name(&self) -> Result<String> {
        try_format(format_args!("pipe:[{}]", self.number))
    }
}

/// The device number Linux's pipefs usually has: nothing else has it here.
const PIPE_DEVICE: u64 = 0xf_ff0c;
