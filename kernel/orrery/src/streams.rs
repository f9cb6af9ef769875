//! Standard streams that are no terminal: files, pipes and sockets of the machine's host, as pipes for programs.
//!
//! To a program such a stream is one end of a pipe whose other end is outside the machine: the same fstat(2), `poll`, end of
//! file, `EPIPE` and `SIGPIPE`. There is no buffer here: reading asks the host for as many bytes as the program wants, writing
//! fills the stream's own buffer, which the machine delivers before it stops.
//!
//! **Who synchronises.** The machine's stream locks itself. One wait queue hears its interrupt.

#![expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::try_format;
use abi::raw::ioctl;
use abi::{Errno, Result};
use machine::device::{ByteStream, Readiness, StreamStop};
use memory::{Destination, PAGE_SIZE, Source};
use sync::{SpinLock, WaitQueue};
use vfs::{
    Attributes, Caller, File, FileKind, FileTraits, Inode, NotReady, OpenFile, OpenFlags, OpenRequest, Origin,
    Permissions, PollEvents, SetAttributes, Time,
};

/// What stat(2) says of the streams' device: a number nothing else has.
const DEVICE: u64 = 0xf_ff0d;

/// Bytes moved at once into the host's buffer; as many stay together, as pipe(7) promises.
const PIPE_BUF: usize = 4096;

/// A stream of the host.
struct HostStream {
    stream: ByteStream,
    changed: WaitQueue,
    number: u64,
    status: SpinLock<Status>,
}

#[derive(Clone, Copy)]
struct Status {
    permissions: Permissions,
    changed: Time,
}

/// A stream, opened.
struct HostStreamFile(Arc<HostStream>);

/// Opens each of the machine's streams, as it is open on the host.
pub fn open(streams: Vec<ByteStream>) -> Vec<Arc<OpenFile>> {
    (1..).zip(streams).map(|(number, stream)| HostStream::new(number, stream).opened()).collect()
}

impl HostStream {
    fn new(number: u64, stream: ByteStream) -> Arc<HostStream> {
        let permissions = Permissions { mode: FileKind::Fifo.mode() | 0o600, user: 0, group: 0 };
        let status = SpinLock::new(Status { permissions, changed: Time::now() });
        let stream = Arc::new(HostStream { stream, changed: WaitQueue::new(), number, status });
        let waits = Arc::downgrade(&stream);
        stream.stream.connect(Arc::new(move || {
            if let Some(stream) = waits.upgrade() {
                stream.changed.wake_all();
            }
        }));
        stream
    }

    fn opened(self: Arc<Self>) -> Arc<OpenFile> {
        let flags = match (self.stream.is_readable(), self.stream.is_writable()) {
            (true, true) => OpenFlags::READ_WRITE,
            (false, true) => OpenFlags::WRITE_ONLY,
            _ => OpenFlags::empty(),
        };
        OpenFile::new(Arc::new(HostStreamFile(self.clone())), Origin::Anonymous(self), flags)
    }
}

impl Inode for HostStream {
    fn attributes(&self) -> Attributes {
        let Status { permissions: Permissions { mode, user, group }, changed } = *self.status.lock();
        Attributes {
            device: DEVICE,
            number: self.number,
            mode,
            links: 1,
            user,
            group,
            block_size: PAGE_SIZE as u32,
            accessed: changed,
            modified: changed,
            changed,
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
        status.changed = Time::now();
        Ok(())
    }

    /// `/dev/stdout` and its like. The host has opened the stream for certain directions only.
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let flags = request.flags;
        if flags.readable() && !self.stream.is_readable() || flags.writable() && !self.stream.is_writable() {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(HostStreamFile(self)))
    }

    fn anonymous_name(&self) -> Result<String> {
        try_format(format_args!("pipe:[host-{}]", self.number))
    }
}

impl File for HostStreamFile {
    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let wanted = destination.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let mut fault = None;
        let moved = self.0.stream.read(wanted, |there| {
            let before = destination.progress();
            let piece = there.get(..wanted).unwrap_or(there);
            fault = destination.write(piece).err();
            destination.progress() - before
        });
        match (moved, fault) {
            (Ok(_), Some(fault)) => Err(fault.into()),
            (Ok(moved), None) => Ok(moved),
            (Err(stop), _) => Err(stop_of(stop)),
        }
    }

    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let before = source.progress();
        while source.remaining() > 0 {
            let mut chunk = [0; PIPE_BUF];
            // A chunk is taken whole or not at all, so that small writes stay together.
            let length = source.peek(&mut chunk)?;
            let taken = self.0.stream.write(chunk.get(..length).unwrap_or_default()).map_err(stop_of)?;
            source.advance(taken);
        }
        Ok(source.progress() - before)
    }

    fn poll(&self) -> PollEvents {
        let ready = self.0.stream.readiness();
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, ready.contains(Readiness::INPUT));
        events.set(PollEvents::HANG_UP, ready.contains(Readiness::INPUT_ENDED));
        events.set(PollEvents::WRITABLE, ready.contains(Readiness::OUTPUT));
        events.set(PollEvents::ERROR, ready.contains(Readiness::OUTPUT_CLOSED));
        events
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn ioctl(&self, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        match request {
            ioctl::FIONREAD => {
                let waiting = i32::try_from(self.0.stream.waiting()).unwrap_or(i32::MAX);
                caller.write_value(argument, &waiting).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}

fn stop_of(stop: StreamStop) -> NotReady {
    match stop {
        StreamStop::WouldBlock => NotReady::WouldBlock,
        StreamStop::Closed => Errno::EPIPE.into(),
        StreamStop::Failed(number) => {
            let value = usize::try_from(number).unwrap_or_default().wrapping_neg();
            Errno::of_return_value(value).unwrap_or(Errno::EIO).into()
        }
    }
}
