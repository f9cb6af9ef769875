//! What the kernel has to say: the ring behind `/dev/kmsg` and syslog(2).
//!
//! Records are numbered for ever; when the ring is full the oldest go. A reader of `/dev/kmsg` keeps the number of the record it reads
//! next, as its position, and is told with `EPIPE` when records it has not read were lost.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::{Errno, Result};
use memory::{Destination, Source};
use sync::{SpinLock, WaitQueue};
use vfs::{Device, DeviceNumber, File, FileTraits, OpenRequest, PollEvents, Stop};

/// How many bytes of text are kept.
const CAPACITY: usize = 128 * 1024;
/// The longest text of one record.
const LONGEST: usize = 1024;

/// The log.
#[derive(Default)]
pub struct KernelLog {
    ring: SpinLock<Ring>,
    queue: WaitQueue,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    /// The number of the first record in the ring.
    first: u64,
    bytes: usize,
    /// Records before this one were cleared: syslog(SYSLOG_ACTION_CLEAR).
    cleared: u64,
}

struct Record {
    /// Facility and level, as syslog(3) combines them.
    priority: u8,
    /// Nanoseconds since boot.
    time: u64,
    text: String,
}

impl KernelLog {
    /// An empty log.
    pub fn new() -> Arc<KernelLog> {
        Arc::new(KernelLog::default())
    }

    /// Adds a record. `level` is 0 (emergency) to 7 (debug), plus eight times the facility.
    pub fn append(&self, level: u8, text: &str) {
        let end = text.floor_char_boundary(LONGEST);
        let text = String::from(text.get(..end).unwrap_or_default().trim_end_matches('\n'));
        let mut ring = self.ring.lock();
        ring.bytes += text.len();
        ring.records.push_back(Record { priority: level, time: machine::time::now(), text });
        while ring.bytes > CAPACITY
            && let Some(oldest) = ring.records.pop_front()
        {
            ring.bytes -= oldest.text.len();
            ring.first += 1;
        }
        drop(ring);
        self.queue.wake_all();
    }

    /// The newest records as dmesg(1) shows them, at most `limit` bytes, and cleared afterwards if `clear`:
    /// syslog(SYSLOG_ACTION_READ_ALL).
    pub fn text(&self, limit: usize, clear: bool) -> String {
        let mut ring = self.ring.lock();
        let skipped = ring.cleared.saturating_sub(ring.first) as usize;
        let mut lines: Vec<String> = Vec::new();
        let mut length = 0;
        for record in ring.records.iter().skip(skipped).rev() {
            let (seconds, micros) = (record.time / 1_000_000_000, record.time / 1000 % 1_000_000);
            let line = alloc::format!("<{}>[{seconds:5}.{micros:06}] {}\n", record.priority, record.text);
            length += line.len();
            if length > limit {
                break;
            }
            lines.push(line);
        }
        if clear {
            ring.cleared = ring.first + ring.records.len() as u64;
        }
        drop(ring);
        lines.iter().rev().map(String::as_str).collect()
    }

    /// Forgets, for [`KernelLog::text`], what there is: syslog(SYSLOG_ACTION_CLEAR).
    pub fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.cleared = ring.first + ring.records.len() as u64;
    }

    /// How many bytes of text are kept at most: syslog(SYSLOG_ACTION_SIZE_BUFFER).
    pub fn capacity(&self) -> usize {
        CAPACITY
    }
}

/// `/dev/kmsg`.
pub struct KernelLogDevice(pub Arc<KernelLog>);

impl Device for KernelLogDevice {
    fn open(&self, _: DeviceNumber, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let next = self.0.ring.lock().first;
        Ok(Arc::new(Reader { log: self.0.clone(), next: SpinLock::new(next) }))
    }
}

struct Reader {
    log: Arc<KernelLog>,
    /// The number of the record to be read next.
    next: SpinLock<u64>,
}

impl Ring {
    /// Record `number` as /dev/kmsg shows it, `None` when it has yet to come.
    fn line(&self, number: u64) -> Result<Option<String>> {
        let index = number.checked_sub(self.first).ok_or(Errno::EPIPE)?;
        let Some(record) = self.records.get(index as usize) else { return Ok(None) };
        let mut line = alloc::format!("{},{number},{},-;", record.priority, record.time / 1000);
        for character in record.text.chars() {
            match character {
                '\\' => line.push_str("\\x5c"),
                control if control.is_control() => {
                    let _ = write!(line, "\\x{:02x}", u32::from(control));
                }
                other => line.push(other),
            }
        }
        line.push('\n');
        Ok(Some(line))
    }
}

impl File for Reader {
    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    /// One record a time, as a whole.
    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, Stop> {
        let mut next = self.next.lock();
        let ring = self.log.ring.lock();
        let line = match ring.line(*next) {
            Ok(line) => line.ok_or(Stop::WouldBlock)?,
            Err(errno) => {
                *next = ring.first;
                return Err(errno.into());
            }
        };
        drop(ring);
        if line.len() > destination.remaining() {
            return Err(Errno::EINVAL.into());
        }
        let moved = destination.write(line.as_bytes())?;
        *next += 1;
        Ok(moved)
    }

    /// A record from a program: `<14>text`, or without a level at notice of the user facility.
    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, Stop> {
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

    fn append(&self, source: &mut Source<'_>) -> Result<(usize, u64), Stop> {
        self.write(0, source).map(|moved| (moved, 0))
    }

    fn poll(&self) -> PollEvents {
        let next = *self.next.lock();
        let ring = self.log.ring.lock();
        let mut events = PollEvents::WRITABLE;
        events.set(PollEvents::READABLE, next < ring.first + ring.records.len() as u64);
        events.set(PollEvents::ERROR, next < ring.first);
        events
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(&self.log.queue)
    }

}
