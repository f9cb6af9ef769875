//! The longest polls: what kept a CPU in the kernel for longest, by what its task was doing.
//!
//! A stretch is what passes between two borders of a task's [`TaskClock`](crate::TaskClock): the time in which nobody else
//! could run. On a real CPU it is measured by the clock. (Under `-icount shift=0` QEMU's clock counts a nanosecond for each
//! instruction.) Where a CPU is a thread of a host, what the host took away is not the kernel's fault: there it is measured
//! by what the thread itself ran.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::time;

/// What is not longer is not looked at more closely.
pub const NOTED: u64 = 1_000_000;

/// From one reading of the thread's own time to the next at least: it is dear.
const READ_AFTER: u64 = 500_000;

/// Things a task can do, by its owner's numbers. The last stands for all that have none.
pub const ACTIVITIES: usize = 512;

/// The longest stretch of each activity, in nanoseconds.
pub(crate) struct Longest([AtomicU64; ACTIVITIES]);

impl Default for Longest {
    fn default() -> Longest {
        Longest([const { AtomicU64::new(0) }; ACTIVITIES])
    }
}

impl Longest {
    pub fn note(&self, activity: u32, nanoseconds: u64) {
        if let Some(longest) = self.0.get(activity as usize).or(self.0.last()) {
            longest.fetch_max(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Begins anew.
    pub fn forget(&self) {
        self.0.iter().for_each(|longest| longest.store(0, Ordering::Relaxed));
    }

    /// Tells the longest stretch of each activity that was noted.
    pub fn tell(&self, mut each: impl FnMut(u32, u64)) {
        for (activity, longest) in (0..).zip(&self.0) {
            let longest = longest.load(Ordering::Relaxed);
            if longest > 0 {
                each(activity, longest);
            }
        }
    }
}

/// A reading of a CPU's own time, not long before a stretch. One writer: the CPU.
#[derive(Default)]
pub(crate) struct Reading {
    at: AtomicU64,
    own: AtomicU64,
}

impl Reading {
    /// A stretch begins now.
    #[inline]
    pub fn renew(&self, now: u64) {
        if machine::cpu::ARE_THREADS && now > self.at.load(Ordering::Relaxed) + READ_AFTER {
            self.read(now);
        }
    }

    #[cold]
    fn read(&self, now: u64) {
        self.own.store(time::own().unwrap_or_default(), Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }

    /// How much of a stretch that ended just now the CPU ran itself; at most `READ_AFTER` too much.
    pub fn own_part(&self, stretch: u64) -> u64 {
        let since = time::own().map(|own| own.saturating_sub(self.own.load(Ordering::Relaxed)));
        since.map_or(stretch, |since| since.min(stretch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_each_is_kept() {
        let longest = Longest::default();
        for (activity, nanoseconds) in [(3, 5), (3, 9), (3, 7), (100_000, 2)] {
            longest.note(activity, nanoseconds);
        }
        let all = |longest: &Longest| {
            let mut all = Vec::new();
            longest.tell(|activity, nanoseconds| all.push((activity, nanoseconds)));
            all
        };
        assert_eq!(all(&longest), [(3, 9), (ACTIVITIES as u32 - 1, 2)]);
        longest.forget();
        assert_eq!(all(&longest), []);
    }

    #[test]
    fn what_a_thread_sleeps_is_not_its_own() {
        let reading = Reading::default();
        reading.renew(READ_AFTER + 1);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(reading.own_part(50_000_000) < 40_000_000, "it slept");
        let start = time::own().unwrap();
        while time::own().unwrap() < start + 3_000_000 {}
        assert!(reading.own_part(60_000_000) >= 3_000_000);
        assert_eq!(reading.own_part(1_000), 1_000);
    }

    #[test]
    fn the_own_time_is_read_now_and_then() {
        let reading = Reading::default();
        let read_at = |reading: &Reading| reading.at.load(Ordering::Relaxed);
        reading.renew(READ_AFTER);
        assert_eq!(read_at(&reading), 0, "too early");
        let start = time::own().unwrap();
        while time::own().unwrap() < start + 50_000_000 {}
        reading.renew(READ_AFTER + 1);
        assert!(reading.own_part(u64::MAX) < 50_000_000, "what was before does not count");
        reading.renew(2 * READ_AFTER + 1);
        assert_eq!(read_at(&reading), READ_AFTER + 1);
        reading.renew(2 * READ_AFTER + 2);
        assert_eq!(read_at(&reading), 2 * READ_AFTER + 2);
    }
}
