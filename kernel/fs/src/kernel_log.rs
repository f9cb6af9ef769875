//! `/dev/kmsg`: the kernel's log, to read and to add to, dev-kmsg(ABI).
//!
//! A reader keeps the number of the record it reads next, and is told with `EPIPE` when records it has not read were
//! lost.

use alloc::string::String;
use alloc::sync::Arc;

use abi::{Errno, Result};
use drivers::KernelLog;
use drivers::kernel_log::LONGEST;
use memory::{Destination, Source};
use sync::{SpinLock, WaitQueue};
use vfs::{Device, DeviceNumber, File, FileTraits, NotReady, OpenRequest, PollEvents};

/// `/dev/kmsg`.
pub struct KernelLogDevice(pub Arc<KernelLog>);

impl Device for KernelLogDevice {
    fn open(&self, _: DeviceNumber, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let (next, ..) = self.0.bounds();
        Ok(Arc::new(Reader { log: self.0.clone(), next: SpinLock::new(next) }))
    }
}

struct Reader {
    log: Arc<KernelLog>,
    /// The number of the record to be read next.
    next: SpinLock<u64>,
}

impl File for Reader {
    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    /// One record a time, as a whole.
    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let mut next = self.next.lock();
        let record = self.log.record(*next).ok_or(NotReady::WouldBlock)?;
        if record.sequence != *next {
            *next = record.sequence;
            return Err(Errno::EPIPE.into());
        }
        let line = record.kmsg_line();
        if line.len() > destination.remaining() {
            return Err(Errno::EINVAL.into());
        }
        let moved = destination.write(line.as_bytes())?;
        *next += 1;
        Ok(moved)
    }

    /// A record from a program: `<14>text`, or without a level at notice of the user facility.
    #[expect(clippy::disallowed_methods, reason = "a record at most")]
    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let mut buffer = [0; LONGEST];
        let length = source.remaining();
        let Some(bytes) = buffer.get_mut(..length) else { return Err(Errno::EINVAL.into()) };
        source.peek(bytes)?;
        let text = String::from_utf8_lossy(bytes);
        let tagged = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (level, text) = match tagged.and_then(|(level, rest)| Some((level.parse::<u8>().ok()?, rest))) {
            Some((level, rest)) if level < 8 => (level | 8, rest),
            Some((level, rest)) => (level, rest),
            None => (12, &*text),
        };
        self.log.append(level, text);
        source.advance(length);
        Ok(length)
    }

    fn poll(&self) -> PollEvents {
        let next = *self.next.lock();
        let (oldest, _, coming) = self.log.bounds();
        let mut events = PollEvents::WRITABLE;
        events.set(PollEvents::READABLE, next < coming);
        events.set(PollEvents::ERROR, next < oldest);
        events
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(self.log.arrived())
    }
}
