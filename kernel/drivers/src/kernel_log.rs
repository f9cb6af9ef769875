//! The kernel's own messages: a ring of the newest, and the console they are shown on.
//!
//! Every message goes into the ring, where `dmesg` finds it through syslog(2) or /dev/kmsg; one that is important enough
//! (its level is below the console's, see klogctl(3)) is also shown at once. Printing never sleeps: the console takes
//! what it can.

#![expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a record is a line, and so many are kept")]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::fmt::Write;
use core::sync::atomic::{AtomicU8, Ordering};

use sync::{RwSpinLock, SpinLock, WaitQueue};

/// How much text the ring holds, as Linux's `LOG_BUF_LEN`.
const CAPACITY: usize = 128 * 1024;

/// What a message costs beside its text.
const RECORD_OVERHEAD: usize = 32;

/// The longest text of one message; the rest is cut.
pub const LONGEST: usize = 1024;

/// How important a message is, by syslog(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The system cannot go on.
    Emergency = 0,
    /// Somebody must act.
    Alert = 1,
    /// Something essential failed.
    Critical = 2,
    /// Something failed.
    Error = 3,
    /// Something is not as it should be.
    Warning = 4,
    /// Worth knowing.
    Notice = 5,
    /// What happens in a normal run.
    Information = 6,
    /// For whoever looks for a fault.
    Debug = 7,
}

/// Messages below this level reach the console unless told otherwise (Linux's `console_loglevel`).
pub const DEFAULT_CONSOLE_LEVEL: u8 = 7;

/// The console's level that shows everything.
pub const ALL_CONSOLE_LEVEL: u8 = 8;

/// The console's level after the boot option `quiet`.
pub const QUIET_CONSOLE_LEVEL: u8 = 4;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number; they count up without gaps.
    pub sequence: u64,
    /// How important it is, 0 to 7, plus eight times the facility it comes from (0: the kernel), as syslog(3) has it.
    pub priority: u8,
    /// When it was printed, nanoseconds since boot.
    pub time: u64,
    /// Its text, without a newline at the end.
    pub text: Arc<str>,
}

impl Record {
    /// The line syslog(2) and the console show: `<6>[    0.012345] text`, the first part only if `with_level`.
    pub fn line(&self, with_level: bool) -> String {
        let (seconds, microseconds) = (self.time / 1_000_000_000, self.time / 1_000 % 1_000_000);
        let level = if with_level { format!("<{}>", self.priority) } else { String::new() };
        format!("{level}[{seconds:5}.{microseconds:06}] {}\n", self.text)
    }

    /// What one read of /dev/kmsg gives: `6,12,12345,-;text`, with what could confuse a reader escaped.
    pub fn kmsg_line(&self) -> String {
        let mut line = format!("{},{},{},-;", self.priority, self.sequence, self.time / 1000);
        for character in self.text.chars() {
            match character {
                '\\' => line.push_str("\\x5c"),
                control if control.is_control() => {
                    let _ = write!(line, "\\x{:02x}", u32::from(control));
                }
                other => line.push(other),
            }
        }
        line.push('\n');
        line
    }
}

/// Shows one line; must not sleep.
pub type Console = Box<dyn Fn(&str) + Send + Sync>;

/// The log of one kernel.
pub struct KernelLog {
    ring: SpinLock<Ring>,
    console: RwSpinLock<Option<Console>>,
    console_level: AtomicU8,
    /// Woken by each new message.
    arrived: WaitQueue,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    /// Bytes the records take, overhead included.
    used: usize,
    next_sequence: u64,
    /// What `SYSLOG_ACTION_READ` takes next, and how much of that record's line it took already.
    read: (u64, usize),
    /// Where `SYSLOG_ACTION_READ_ALL` begins, after `SYSLOG_ACTION_CLEAR`.
    cleared: u64,
}

impl Ring {
    fn push(&mut self, priority: u8, time: u64, text: Arc<str>) -> Record {
        let record = Record { sequence: self.next_sequence, priority, time, text };
        self.next_sequence += 1;
        self.used += record.text.len() + RECORD_OVERHEAD;
        self.records.push_back(record.clone());
        while self.used > CAPACITY {
            let Some(oldest) = self.records.pop_front() else { break };
            self.used -= oldest.text.len() + RECORD_OVERHEAD;
        }
        record
    }

    /// The oldest record at or after `sequence`.
    fn at_or_after(&self, sequence: u64) -> Option<&Record> {
        let first = self.records.front()?.sequence;
        self.records.get(usize::try_from(sequence.saturating_sub(first)).ok()?)
    }

    /// The next line to be read, and how much of it was read before.
    fn next_line(&self) -> Option<(u64, String, usize)> {
        let (sequence, taken) = self.read;
        let record = self.at_or_after(sequence)?;
        let taken = if record.sequence == sequence { taken } else { 0 };
        Some((record.sequence, record.line(true), taken))
    }
}

impl Default for KernelLog {
    fn default() -> Self {
        KernelLog {
            ring: SpinLock::default(),
            console: RwSpinLock::new(None),
            console_level: AtomicU8::new(DEFAULT_CONSOLE_LEVEL),
            arrived: WaitQueue::new(),
        }
    }
}

impl KernelLog {
    /// Where important messages are shown from now on. What was printed before is not repeated.
    pub fn set_console(&self, console: Console) {
        *self.console.write() = Some(console);
    }

    /// Messages with a level below `level` are shown: `SYSLOG_ACTION_CONSOLE_LEVEL`. Values beyond 1 to 8 are moved there.
    pub fn set_console_level(&self, level: u8) {
        self.console_level.store(level.clamp(1, 8), Ordering::Relaxed);
    }

    /// The level now.
    pub fn console_level(&self) -> u8 {
        self.console_level.load(Ordering::Relaxed)
    }

    /// Prints a message. May be called wherever the kernel may allocate.
    pub fn print(&self, level: Level, message: fmt::Arguments<'_>) {
        self.append(level as u8, &alloc::fmt::format(message));
    }

    /// Adds a message that has a facility, as a program writes them to /dev/kmsg.
    pub fn append(&self, priority: u8, text: &str) {
        let end = text.floor_char_boundary(LONGEST);
        let text: Arc<str> = Arc::from(text.get(..end).unwrap_or_default().trim_end_matches('\n'));
        let record = self.ring.lock().push(priority, machine::time::now(), text);
        if priority & 7 < self.console_level()
            && let Some(console) = &*self.console.read()
        {
            console(&record.line(false));
        }
        self.arrived.wake_all();
    }

    /// `SYSLOG_ACTION_READ`: takes unread lines, oldest first, and returns how many bytes; 0 if nothing is unread.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        let mut ring = self.ring.lock();
        let mut filled = 0;
        while let Some((sequence, line, taken)) = ring.next_line() {
            let rest = line.as_bytes().get(taken..).unwrap_or_default();
            let room = buffer.get_mut(filled..).unwrap_or_default();
            let count = rest.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            filled += count;
            if count < rest.len() {
                ring.read = (sequence, taken + count);
                break;
            }
            ring.read = (sequence + 1, 0);
        }
        filled
    }

    /// `SYSLOG_ACTION_READ_ALL`: the newest whole lines since the last clear that fit into `limit` bytes.
    pub fn read_all(&self, limit: usize) -> String {
        let ring = self.ring.lock();
        let mut lines = VecDeque::new();
        let mut length = 0;
        for record in ring.records.iter().rev().take_while(|record| record.sequence >= ring.cleared) {
            let line = record.line(true);
            length += line.len();
            if length > limit {
                break;
            }
            lines.push_front(line);
        }
        lines.into_iter().collect()
    }

    /// `SYSLOG_ACTION_CLEAR`: `read_all` begins after what is here now.
    pub fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.cleared = ring.next_sequence;
    }

    /// `SYSLOG_ACTION_SIZE_UNREAD`: bytes `read` would give.
    pub fn unread(&self) -> usize {
        let ring = self.ring.lock();
        let Some((first, line, taken)) = ring.next_line() else { return 0 };
        let later = ring.records.iter().filter(|record| record.sequence > first);
        line.len().saturating_sub(taken) + later.map(|record| record.line(true).len()).sum::<usize>()
    }

    /// `SYSLOG_ACTION_SIZE_BUFFER`.
    pub fn size(&self) -> usize {
        CAPACITY
    }

    /// The oldest record with this number or a later one: how /dev/kmsg goes on.
    pub fn record(&self, sequence: u64) -> Option<Record> {
        self.ring.lock().at_or_after(sequence).cloned()
    }

    /// The number of the oldest record there is, of the first one after the last clear, and of the one that comes next.
    pub fn bounds(&self) -> (u64, u64, u64) {
        let ring = self.ring.lock();
        let oldest = ring.records.front().map_or(ring.next_sequence, |record| record.sequence);
        (oldest, ring.cleared.max(oldest), ring.next_sequence)
    }

    /// Woken by each new message.
    pub fn arrived(&self) -> &WaitQueue {
        &self.arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_lines_once_and_in_pieces() {
        let log = KernelLog::default();
        log.print(Level::Information, format_args!("one\n"));
        log.print(Level::Error, format_args!("two"));
        let unread = log.unread();
        let mut text = Vec::new();
        let mut piece = [0; 7];
        loop {
            let count = log.read(&mut piece);
            if count == 0 {
                break;
            }
            text.extend_from_slice(&piece[..count]);
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.len(), unread);
        assert!(text.starts_with("<6>[") && text.contains("] one\n<3>[") && text.ends_with("] two\n"), "{text}");
        assert_eq!(log.unread(), 0);
        assert!(log.read_all(usize::MAX).contains("one"), "reading does not clear");
        log.clear();
        assert_eq!(log.read_all(usize::MAX), "");
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_stays_bounded() {
        let log = KernelLog::default();
        let long = "x".repeat(1000);
        (0..1000).for_each(|number| log.print(Level::Debug, format_args!("{number} {long}")));
        let (oldest, _, next) = log.bounds();
        assert_eq!(next, 1000);
        assert!(oldest > 800 && log.record(0).unwrap().sequence == oldest);
        assert!(log.record(next).is_none());
        assert!(log.read_all(5000).len() <= 5000 && log.read_all(5000).contains("999 x"));
    }

    #[test]
    fn only_what_matters_reaches_the_console() {
        let log = KernelLog::default();
        let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let copy = shown.clone();
        log.set_console(Box::new(move |line| copy.lock().unwrap().push_str(line)));
        log.set_console_level(QUIET_CONSOLE_LEVEL);
        log.print(Level::Warning, format_args!("whisper"));
        log.print(Level::Error, format_args!("shout"));
        let shown = shown.lock().unwrap();
        assert!(shown.contains("shout") && !shown.contains("whisper"));
    }

    #[test]
    fn what_is_half_read_and_then_forgotten_leaves_the_next_line_whole() {
        let log = KernelLog::default();
        log.print(Level::Error, format_args!("first"));
        log.print(Level::Error, format_args!("second"));
        let whole = log.unread();
        assert_eq!((log.read(&mut [0; 9]), log.unread()), (9, whole - 9));
        (0..1000).for_each(|number| log.print(Level::Debug, format_args!("{number} {}", "x".repeat(1000))));
        let mut start = [0; 4];
        log.read(&mut start);
        assert_eq!(&start, b"<7>[");
    }

    #[test]
    fn all_that_fits_is_read_to_the_byte() {
        let log = KernelLog::default();
        log.print(Level::Error, format_args!("first"));
        log.print(Level::Error, format_args!("second"));
        let all = log.read_all(usize::MAX);
        assert_eq!(log.read_all(all.len()), all);
        assert!(!log.read_all(all.len() - 1).contains("first") && log.read_all(all.len() - 1).contains("second"));
    }

    #[test]
    fn who_waits_for_a_message_is_woken() {
        let log = KernelLog::default();
        let mut listener = log.arrived().listen();
        listener.register_with(core::task::Waker::noop()).unwrap();
        assert!(listener.poll_woken(core::task::Waker::noop()).is_pending());
        log.append(6, "news");
        assert!(listener.poll_woken(core::task::Waker::noop()).is_ready());
    }
}
