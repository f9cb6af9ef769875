//! Whether the TSCs of all CPUs show the same (Linux: `check_tsc_warp`).
//!
//! All CPUs read their TSC in turn, under a lock. If one shows less than what another has shown before, time would go back
//! for who changes from one to the other.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use spin::mutex::SpinMutex;

/// Ticks for which the CPUs look: a few thousand turns.
const DURATION: u64 = 500_000;
/// Ticks for which they wait for one another.
const PATIENCE: u64 = 1_000_000_000;
/// Turns of a pause that lets another CPU take the lock.
const PAUSE: usize = 16;

/// A comparison of the TSCs of some CPUs.
pub struct Comparison {
    arrived: AtomicUsize,
    finished: AtomicUsize,
    last: SpinMutex<u64>,
    worst: AtomicU64,
}

impl Default for Comparison {
    fn default() -> Comparison {
        Comparison::new()
    }
}

impl Comparison {
    /// Before any CPU takes part.
    pub const fn new() -> Comparison {
        Comparison {
            arrived: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            last: SpinMutex::new(0),
            worst: AtomicU64::new(0),
        }
    }

    /// Takes part, as one of `cpus`. Returns after all have, or when one does not come for long.
    pub fn take_part(&self, cpus: usize, ticks: impl Fn() -> u64) {
        self.wait_for_all(&self.arrived, cpus, &ticks);
        let start = ticks();
        while ticks().wrapping_sub(start) < DURATION {
            self.look(&ticks);
            (0..PAUSE).for_each(|_| spin_loop());
        }
        self.wait_for_all(&self.finished, cpus, &ticks);
    }

    fn look(&self, ticks: &impl Fn() -> u64) {
        let mut last = self.last.lock();
        let now = ticks();
        self.worst.fetch_max(last.saturating_sub(now), Ordering::Relaxed);
        *last = now;
    }

    fn wait_for_all(&self, count: &AtomicUsize, cpus: usize, ticks: &impl Fn() -> u64) {
        count.fetch_add(1, Ordering::AcqRel);
        let start = ticks();
        while count.load(Ordering::Acquire) < cpus && ticks().wrapping_sub(start) < PATIENCE {
            spin_loop();
        }
    }

    /// The most ticks by which a TSC was seen to be behind another.
    pub fn worst(&self) -> u64 {
        self.worst.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares CPUs whose TSCs are a common one and an offset each.
    fn compare(offsets: &[u64]) -> u64 {
        let (common, comparison) = (AtomicU64::new(1 << 40), Comparison::new());
        std::thread::scope(|scope| {
            for offset in offsets {
                let ticks = || common.fetch_add(100, Ordering::SeqCst).wrapping_add(*offset);
                let comparison = &comparison;
                scope.spawn(move || comparison.take_part(offsets.len(), ticks));
            }
        });
        comparison.worst()
    }

    #[test]
    fn equal_clocks_are_not_suspected() {
        assert_eq!(compare(&[0, 0, 0]), 0);
    }

    #[test]
    fn a_clock_that_is_behind_is_found() {
        let is_found = |offsets: &[u64]| (0..100).any(|_| compare(offsets) > 0); // threads may run one after the other
        assert!(is_found(&[0, 50_000_000]) && is_found(&[50_000_000, 0, 0]));
        assert!(compare(&[7; 2]) == 0, "equal again");
    }

    #[test]
    fn one_clock_is_read_at_a_time() {
        let comparison = Comparison::new();
        comparison.look(&|| {
            assert!(comparison.last.is_locked(), "another may read a later one, and say so first");
            1
        });
    }

    #[test]
    fn who_does_not_come_is_not_waited_for_for_ever() {
        let (ticks, comparison) = (AtomicU64::new(0), Comparison::new());
        comparison.take_part(2, || ticks.fetch_add(100_000, Ordering::Relaxed));
        assert_eq!(comparison.worst(), 0);
    }
}
