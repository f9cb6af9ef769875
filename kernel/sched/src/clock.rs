//! What a task has used: nanoseconds in user mode and in the kernel.
//!
//! Time is split at borders: the start and end of a poll, and every way into and out of user mode. Only the CPU that
//! polls the task moves the borders; others read, and add what has passed since the last border, so that a program that
//! never enters the kernel is seen running all the same.
//!
//! What passes on the clock is not always what a CPU got: on the host machine the host may run others meanwhile. There what passed is
//! kept aside, and counts when the machine has said how much of it was worked ([`time::worked`]): at the end of a poll, and on the way back from
//! user mode when it has become more than [`ASIDE`].

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use machine::time;

use crate::longest::ACTIVITIES;

/// The times of one task. All loads and stores are relaxed: there is one writer.
#[derive(Debug, Default)]
pub struct TaskClock {
    border: AtomicU64,
    user: AtomicU64,
    kernel: AtomicU64,
    in_user: AtomicBool,
    running: AtomicBool,
    /// The CPU that polls it.
    cpu: AtomicUsize,
    /// What has passed up to the border and is not counted yet.
    passed_in_user: AtomicU64,
    passed_in_kernel: AtomicU64,
    /// Times it gave up the CPU because it had to wait.
    waits: AtomicU64,
    /// Times it was put back in the queue though it could have gone on.
    preemptions: AtomicU64,
    /// What its owner says it is doing.
    activity: AtomicU32,
}

/// A kernel stretch longer than this is reported.
pub const WATCHDOG_LIMIT: u64 = 10_000_000;

/// Nanoseconds that may pass before they are counted: what the clock of a program that looks at it may be ahead.
const ASIDE: u64 = 1_000_000;

impl TaskClock {
    pub(crate) fn new() -> TaskClock {
        let clock = TaskClock::default();
        clock.set_activity(ACTIVITIES as u32 - 1);
        clock
    }

    /// The task goes to user mode now. Returns how long it has been in the kernel.
    #[inline]
    pub fn enter_user(&self) -> u64 {
        let now = time::now();
        let stretch = now.saturating_sub(self.border.load(Ordering::Relaxed));
        self.pass(0, stretch);
        self.border.store(now, Ordering::Relaxed);
        self.in_user.store(true, Ordering::Relaxed);
        stretch
    }

    /// Says what the task is doing from now on, for [`crate::Executor::longest_polls`]: a number below [`crate::ACTIVITIES`].
    #[inline]
    pub fn set_activity(&self, activity: u32) {
        self.activity.store(activity, Ordering::Relaxed);
    }

    /// As [`TaskClock::set_activity`] said.
    #[inline]
    pub fn activity(&self) -> u32 {
        self.activity.load(Ordering::Relaxed)
    }

    /// The task came back from user mode. Returns when.
    #[inline]
    pub fn leave_user(&self) -> u64 {
        let now = time::now();
        self.in_user.store(false, Ordering::Relaxed);
        self.pass(now.saturating_sub(self.border.load(Ordering::Relaxed)), 0);
        self.border.store(now, Ordering::Relaxed);
        if time::MAY_BE_TAKEN && self.passed_in_user.load(Ordering::Relaxed) > ASIDE {
            self.count();
        }
        now
    }

    /// A poll begins.
    #[inline]
    pub(crate) fn begin(&self, now: u64) {
        self.border.store(now, Ordering::Relaxed);
        if time::MAY_BE_TAKEN {
            self.cpu.store(machine::cpu::current(), Ordering::Relaxed);
        }
        self.running.store(true, Ordering::Relaxed);
    }

    /// A poll ended. Returns the length of its last kernel stretch.
    #[inline]
    pub(crate) fn end(&self, now: u64) -> u64 {
        let stretch = now.saturating_sub(self.border.load(Ordering::Relaxed));
        self.pass(0, stretch);
        self.border.store(now, Ordering::Relaxed);
        self.running.store(false, Ordering::Relaxed);
        if time::MAY_BE_TAKEN {
            self.count();
        }
        stretch
    }

    /// Time has passed.
    #[inline]
    fn pass(&self, user: u64, kernel: u64) {
        if time::MAY_BE_TAKEN {
            add(&self.passed_in_user, user);
            add(&self.passed_in_kernel, kernel);
        } else {
            add(&self.user, user);
            add(&self.kernel, kernel);
        }
    }

    /// Counts what was worked of the time that has passed up to the border.
    fn count(&self) {
        let passed = (self.passed_in_user.load(Ordering::Relaxed), self.passed_in_kernel.load(Ordering::Relaxed));
        let (user, kernel) = time::worked(passed.0, passed.1);
        self.passed_in_user.store(0, Ordering::Relaxed);
        self.passed_in_kernel.store(0, Ordering::Relaxed);
        add(&self.user, user);
        add(&self.kernel, kernel);
    }

    /// What is not counted yet, for who looks from outside: in user mode and in the kernel.
    fn uncounted(&self) -> (u64, u64) {
        let mut user = self.passed_in_user.load(Ordering::Relaxed);
        let mut kernel = self.passed_in_kernel.load(Ordering::Relaxed);
        if !self.running.load(Ordering::Relaxed) {
            return (user, kernel);
        }
        match self.in_user.load(Ordering::Relaxed) {
            true => user += self.since_border(),
            false => kernel += self.since_border(),
        }
        time::working(self.cpu.load(Ordering::Relaxed), user, kernel)
    }

    #[inline]
    pub(crate) fn count_wait(&self) {
        add(&self.waits, 1);
    }

    #[inline]
    pub(crate) fn count_preemption(&self) {
        add(&self.preemptions, 1);
    }

    /// User and kernel time up to the end of the last poll.
    #[inline]
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.user.load(Ordering::Relaxed), self.kernel.load(Ordering::Relaxed))
    }

    /// Nanoseconds in user mode until now.
    pub fn user_time(&self) -> u64 {
        self.user.load(Ordering::Relaxed) + self.uncounted().0
    }

    /// Nanoseconds in the kernel until now.
    pub fn kernel_time(&self) -> u64 {
        self.kernel.load(Ordering::Relaxed) + self.uncounted().1
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

    /// Works so long, by the thread's own time.
    fn work(nanoseconds: u64) {
        let start = time::own().unwrap();
        while time::own().unwrap() < start + nanoseconds {}
    }

    #[test]
    fn what_was_worked_is_counted_when_a_poll_ends() {
        let clock = TaskClock::new();
        assert_eq!(clock.activity(), ACTIVITIES as u32 - 1);
        clock.set_activity(7);
        assert_eq!(clock.activity(), 7);
        clock.begin(time::now());
        work(3_000_000);
        assert_eq!((clock.so_far(), clock.user_time()), ((0, 0), 0), "nothing is counted before the border");
        assert!(clock.kernel_time() >= 2_000_000, "but who looks sees it");
        assert!(clock.enter_user() >= 3_000_000);
        clock.leave_user();
        clock.end(time::now());
        assert_eq!(clock.so_far(), (clock.user_time(), clock.kernel_time()));
        assert_eq!(clock.uncounted(), (0, 0));
        assert!(clock.kernel_time() >= 2_000_000);
    }

    #[test]
    fn long_computing_counts_on_the_way_back_and_a_short_one_when_the_poll_ends() {
        let clock = TaskClock::new();
        clock.begin(time::now());
        clock.enter_user();
        work(2 * ASIDE);
        clock.leave_user();
        assert!(clock.so_far().0 >= ASIDE, "{:?}", clock.so_far());
        // One of many is short, however busy the host is.
        let short = (0..1000).any(|_| {
            let clock = TaskClock::new();
            clock.begin(time::now());
            clock.enter_user();
            clock.leave_user();
            (1..ASIDE).contains(&clock.passed_in_user.load(Ordering::Relaxed)) && clock.so_far() == (0, 0)
        });
        assert!(short);
    }

    #[test]
    fn switches_are_counted_by_their_kind() {
        let clock = TaskClock::new();
        clock.count_wait();
        clock.count_wait();
        clock.count_preemption();
        assert_eq!((clock.voluntary_switches(), clock.involuntary_switches()), (2, 1));
    }
}
