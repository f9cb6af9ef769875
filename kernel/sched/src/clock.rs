//! What a task has used: nanoseconds in user mode and in the kernel.
//!
//! Time is split at borders: the start and end of a poll, and every way into and out of user mode. Only the CPU that
//! polls the task moves the borders; others read, and add what has passed since the last border, so that a program that
//! never enters the kernel is seen running all the same.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use machine::time;

/// The times of one task. All loads and stores are relaxed: there is one writer.
#[derive(Debug, Default)]
pub struct TaskClock {
    border: AtomicU64,
    user: AtomicU64,
    kernel: AtomicU64,
    in_user: AtomicBool,
    running: AtomicBool,
    /// Times it gave up the CPU because it had to wait.
    waits: AtomicU64,
    /// Times it was put back in the queue though it could have gone on.
    preemptions: AtomicU64,
}

/// A kernel stretch longer than this is reported.
pub const WATCHDOG_LIMIT: u64 = 10_000_000;

impl TaskClock {
    /// The task goes to user mode now. Returns how long it has been in the kernel.
    #[inline]
    pub fn enter_user(&self) -> u64 {
        let now = time::now();
        let stretch = now.saturating_sub(self.border.load(Ordering::Relaxed));
        add(&self.kernel, stretch);
        self.border.store(now, Ordering::Relaxed);
        self.in_user.store(true, Ordering::Relaxed);
        stretch
    }

    /// The task came back from user mode.
    #[inline]
    pub fn leave_user(&self) {
        let now = time::now();
        self.in_user.store(false, Ordering::Relaxed);
        add(&self.user, now.saturating_sub(self.border.load(Ordering::Relaxed)));
        self.border.store(now, Ordering::Relaxed);
    }

    /// A poll begins.
    #[inline]
    pub(crate) fn begin(&self, now: u64) {
        self.border.store(now, Ordering::Relaxed);
        self.running.store(true, Ordering::Relaxed);
    }

    /// A poll ended. Returns the length of its last kernel stretch.
    #[inline]
    pub(crate) fn end(&self, now: u64) -> u64 {
        let stretch = now.saturating_sub(self.border.load(Ordering::Relaxed));
        add(&self.kernel, stretch);
        self.border.store(now, Ordering::Relaxed);
        self.running.store(false, Ordering::Relaxed);
        stretch
    }

    #[inline]
    pub(crate) fn count_wait(&self) {
        add(&self.waits, 1);
    }

    #[inline]
    pub(crate) fn count_preemption(&self) {
        add(&self.preemptions, 1);
    }

    /// User time up to the last border.
    #[inline]
    pub(crate) fn user_so_far(&self) -> u64 {
        self.user.load(Ordering::Relaxed)
    }

    /// Nanoseconds in user mode until now.
    pub fn user_time(&self) -> u64 {
        let passing = self.in_user.load(Ordering::Relaxed) && self.running.load(Ordering::Relaxed);
        self.user.load(Ordering::Relaxed) + if passing { self.since_border() } else { 0 }
    }

    /// Nanoseconds in the kernel until now.
    pub fn kernel_time(&self) -> u64 {
        let passing = !self.in_user.load(Ordering::Relaxed) && self.running.load(Ordering::Relaxed);
        self.kernel.load(Ordering::Relaxed) + if passing { self.since_border() } else { 0 }
    }

    /// Voluntary context switches, `ru_nvcsw`.
    pub fn voluntary_switches(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Involuntary context switches, `ru_nivcsw`.
    pub fn involuntary_switches(&self) -> u64 {
        self.preemptions.load(Ordering::Relaxed)
    }

    fn since_border(&self) -> u64 {
        time::now().saturating_sub(self.border.load(Ordering::Relaxed))
    }
}

/// Adds where there is only one writer: no locked instruction.
#[inline]
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_to_the_side_of_the_border_where_it_passed() {
        let clock = TaskClock::default();
        let start = time::now();
        clock.begin(start);
        clock.enter_user();
        while time::now() < start + 2_000_000 {}
        assert!(clock.user_time() >= 1_000_000, "a reader sees the time that passes");
        clock.leave_user();
        let kernel = clock.end(time::now());
        assert!(clock.user_time() >= 1_000_000);
        assert!(kernel <= clock.kernel_time());
        let total = clock.user_time() + clock.kernel_time();
        assert!(total <= time::now() - start);
        assert_eq!(total, clock.user_time() + clock.kernel_time(), "nothing passes between polls");
    }
}
