//! Load averages: how many tasks ran or wanted to, averaged over 1, 5 and 15 minutes. See proc(5), `/proc/loadavg`.
//!
//! Linux's fixed-point arithmetic, without its tick: a sample is due every five seconds, but it is taken when somebody
//! comes by, and the samples that were missed meanwhile are made up for in one step.

use core::sync::atomic::{AtomicU64, Ordering};

use sync::SpinLock;

/// 1.0 as the averages count it.
pub const FIXED_ONE: u64 = 1 << SHIFT;
const SHIFT: u32 = 11;

/// Nanoseconds from one sample to the next: five seconds and one tick of 100 Hz, as on Linux.
pub(crate) const INTERVAL: u64 = 5_010_000_000;

/// 1/exp(5s/1min), 1/exp(5s/5min), 1/exp(5s/15min) in fixed point.
const DECAY: [u64; 3] = [1884, 2014, 2037];

/// The three averages and when they are due.
pub(crate) struct LoadAverages {
    due: AtomicU64,
    values: SpinLock<[u64; 3]>,
}

impl Default for LoadAverages {
    fn default() -> Self {
        LoadAverages { due: AtomicU64::new(INTERVAL), values: SpinLock::new([0; 3]) }
    }
}

impl LoadAverages {
    /// Whether a sample is due: what the executor's loop asks.
    #[inline]
    pub fn is_due(&self, now: u64) -> bool {
        now >= self.due.load(Ordering::Relaxed)
    }

    /// Takes the samples that are due, all with the number of tasks that `active` tells: it is given the time when the
    /// first of them was due.
    pub fn sample(&self, now: u64, active: impl FnOnce(u64) -> u64) {
        let mut values = self.values.lock();
        let due = self.due.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let active = active(due);
        let samples = 1 + (now - due) / INTERVAL;
        self.due.store(due + samples * INTERVAL, Ordering::Relaxed);
        for (value, decay) in values.iter_mut().zip(DECAY) {
            *value = decayed(*value, decay, active * FIXED_ONE, samples);
        }
    }

    /// The averages as of the last sample.
    pub fn get(&self) -> [u64; 3] {
        *self.values.lock()
    }
}

/// One average after `samples` samples of `active`: `load * decay^n + active * (1 - decay^n)`, rounded up when rising.
fn decayed(load: u64, decay: u64, active: u64, samples: u64) -> u64 {
    let decay = power(decay, samples);
    let sum = load * decay + active * (FIXED_ONE - decay);
    (sum + if active >= load { FIXED_ONE - 1 } else { 0 }) / FIXED_ONE
}

/// `base^exponent` in fixed point.
fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = FIXED_ONE;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = (result * base + (FIXED_ONE >> 1)) >> SHIFT;
        }
        base = (base * base + (FIXED_ONE >> 1)) >> SHIFT;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_busy_task_for_a_minute_is_the_known_curve() {
        let load = LoadAverages::default();
        for step in 1..=12 {
            load.sample(step * INTERVAL, |_| 1);
        }
        let [one, five, fifteen] = load.get().map(|value| value * 100 / FIXED_ONE);
        assert!((62..=65).contains(&one), "1 - 1/e: {one}");
        assert!((17..=20).contains(&five), "{five}");
        assert!((6..=8).contains(&fifteen), "{fifteen}");
    }

    #[test]
    fn missed_samples_are_made_up_for() {
        let (steps, leap) = (LoadAverages::default(), LoadAverages::default());
        for load in [&steps, &leap] {
            load.sample(INTERVAL, |_| 4);
        }
        (2..=40).for_each(|step| steps.sample(step * INTERVAL, |_| 0));
        leap.sample(40 * INTERVAL, |due| due - 2 * INTERVAL);
        for (steps, leap) in steps.get().iter().zip(leap.get()) {
            assert!(steps.abs_diff(leap) <= FIXED_ONE / 50, "{steps} {leap}");
        }
        assert!(!leap.is_due(41 * INTERVAL - 1) && leap.is_due(41 * INTERVAL));
    }

    /// The numbers of Linux's `calc_load` and `calc_load_n` (kernel/sched/loadavg.c).
    #[test]
    fn averages_are_rounded_as_on_linux() {
        let load = LoadAverages::default();
        assert!(!load.is_due(INTERVAL - 1) && load.is_due(INTERVAL));
        load.sample(INTERVAL - 1, |_| 100);
        assert_eq!(load.get(), [0; 3], "not due");
        load.sample(INTERVAL, |_| 1);
        assert_eq!(load.get(), [164, 34, 11]);
        load.sample(2 * INTERVAL, |_| 1);
        assert_eq!(load.get(), [315, 68, 22]);
        load.sample(3 * INTERVAL, |_| 0);
        assert_eq!(load.get(), [289, 66, 21]);
        assert_eq!([0, 1, 2, 3, 4].map(|exponent| power(1884, exponent)), [2048, 1884, 1733, 1594, 1466]);
        // In balance it stays where it is.
        assert_eq!(decayed(FIXED_ONE, 1884, FIXED_ONE, 1), FIXED_ONE);
    }
}
