//! [`Clock`]: the machine's time, which nobody else's clock drives.
//!
//! It stands still while the kernel works, but for a moment at each look, so that who waits for a time by looking sees it come. When a CPU
//! has nothing to do it goes on to the CPU's alarm at once. So a run takes no longer than its work, and the next run sees the same times.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// Nanoseconds a look takes.
const LOOK: u64 = 100;
/// The alarm of a CPU that has none.
const NEVER: u64 = u64::MAX;

/// What a CPU is interrupted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// Another CPU kicked it.
    pub kicked: bool,
    /// Its alarm went off.
    pub alarm: bool,
}

/// Time, and what it brings to each of `CPUS` CPUs.
pub struct Clock<const CPUS: usize> {
    now: AtomicU64,
    /// Nanoseconds since 1970 when `now` was 0.
    epoch: AtomicU64,
    alarms: [AtomicU64; CPUS],
    kicks: [AtomicBool; CPUS],
    /// CPUs there are.
    count: AtomicUsize,
}

impl<const CPUS: usize> Clock<CPUS> {
    /// The start of a machine with one CPU, at the start of 2000.
    pub const fn new() -> Clock<CPUS> {
        Clock {
            now: AtomicU64::new(0),
            epoch: AtomicU64::new(946_684_800_000_000_000),
            alarms: [const { AtomicU64::new(NEVER) }; CPUS],
            kicks: [const { AtomicBool::new(false) }; CPUS],
            count: AtomicUsize::new(1),
        }
    }

    /// How many CPUs there are.
    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Sets how many there are: 1 to `CPUS`.
    pub fn set_count(&self, count: usize) {
        self.count.store(count.clamp(1, CPUS), SeqCst);
    }

    /// Nanoseconds since the machine started.
    pub fn now(&self) -> u64 {
        self.now.fetch_add(LOOK, SeqCst)
    }

    /// Nanoseconds since 1970.
    pub fn wall_clock(&self) -> u64 {
        self.epoch.load(SeqCst).wrapping_add(self.now())
    }

    /// Sets what [`wall_clock`](Self::wall_clock) shows.
    pub fn set_wall_clock(&self, nanoseconds: u64) {
        self.epoch.store(nanoseconds.wrapping_sub(self.now()), SeqCst);
    }

    /// Sets the alarm of `cpu`, or takes it back.
    pub fn set_alarm(&self, cpu: usize, deadline: Option<u64>) {
        if let Some(alarm) = self.alarms.get(cpu) {
            alarm.store(deadline.unwrap_or(NEVER), SeqCst);
        }
    }

    /// Interrupts `cpu`, if there is such a CPU.
    pub fn kick(&self, cpu: usize) {
        if let Some(kick) = self.kicks.get(cpu).filter(|_| cpu < self.count()) {
            kick.store(true, SeqCst);
        }
    }

    /// What is pending for `cpu`, which is then no longer.
    pub fn take(&self, cpu: usize) -> Due {
        let kicked = self.kicks.get(cpu).is_some_and(|kick| kick.swap(false, SeqCst));
        let now = self.now();
        let is_due = |alarm: &AtomicU64| alarm.fetch_update(SeqCst, SeqCst, |at| (at <= now).then_some(NEVER)).is_ok();
        Due { kicked, alarm: self.alarms.get(cpu).is_some_and(is_due) }
    }

    /// `cpu` has nothing to do: time goes on to its alarm, unless it is kicked already. False if neither is there to wait for.
    pub fn wait(&self, cpu: usize) -> bool {
        if self.kicks.get(cpu).is_some_and(|kick| kick.load(SeqCst)) {
            return true;
        }
        let alarm = self.alarms.get(cpu).map_or(NEVER, |alarm| alarm.load(SeqCst));
        if alarm != NEVER {
            self.now.fetch_max(alarm, SeqCst);
        }
        alarm != NEVER
    }
}

impl<const CPUS: usize> Default for Clock<CPUS> {
    fn default() -> Clock<CPUS> {
        Clock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_for_who_looks_and_who_waits() {
        let clock = Clock::<2>::new();
        assert!(clock.now() < clock.now());
        assert!(!clock.wait(0), "nothing to wait for");
        clock.set_alarm(0, Some(1_000_000_000));
        assert_eq!(clock.take(0), Due::default());
        assert!(clock.wait(0) && clock.now() >= 1_000_000_000);
        assert_eq!((clock.take(0).alarm, clock.take(0).alarm), (true, false));
        clock.set_alarm(0, Some(5_000_000_000));
        clock.set_alarm(0, None);
        assert!(!clock.wait(0) && clock.now() < 5_000_000_000);
        clock.set_wall_clock(7);
        assert!((7..10_000).contains(&clock.wall_clock()));
    }

    #[test]
    fn a_kick_before_the_wait_is_not_lost() {
        let clock = Clock::<2>::new();
        clock.kick(1);
        assert!(!clock.wait(1), "there is no such CPU");
        clock.set_count(9);
        assert_eq!(clock.count(), 2);
        clock.kick(1);
        clock.set_alarm(1, Some(1_000_000_000));
        assert!(clock.wait(1) && clock.now() < 1_000_000_000);
        assert_eq!((clock.take(1), clock.take(1)), (Due { kicked: true, alarm: false }, Due::default()));
        clock.kick(usize::MAX);
    }
}
