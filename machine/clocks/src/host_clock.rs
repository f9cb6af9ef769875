//! The clock of a machine on a host: the host's monotonic clock, and as soon as that is known to be right, the time-stamp counter.
//!
//! A machine starts without knowing how fast the TSC counts, and does not wait to find out: at first it asks the host's clock,
//! and programs make system calls. The first look at the clock after [`FIRST_CHECK`] compares the two and sets the line that
//! the kernel and the vDSO read from then on. Later looks, at growing distances, compare again and correct the slope ([`Keeper`]).
//! No thread and no timer is needed for that: whoever looks at the clock when it is time does it, and an idle machine sleeps.
//!
//! The TSC is used only where the host itself does (the machine asks it), and given up for good as soon as it and the host's
//! clock disagree (a laptop that slept, a virtual machine that was moved).

use crate::{Advice, Keeper, Line, Sample};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds from the start of the machine to the first comparison, and from one to the next at least. A reading of both clocks
/// is right within some 50 ns: five millionths of this.
const FIRST_CHECK: u64 = 10_000_000;
/// From one comparison to the next at most.
const LAST_CHECK: u64 = 1_000_000_000;
/// `check_at` when there will be no comparison.
const NEVER: u64 = u64::MAX;
/// A reading of both clocks that took more ticks than this was interrupted.
const DISTURBED: u64 = 20_000;

/// A line that many read while one changes it, and the counter it is for.
pub trait SharedLine {
    /// The time-stamp counter, after all that was before in the program.
    fn ticks() -> u64;

    /// Gives `look` the numbers; what it reads besides, the counter above all, belongs to the same moment. It may be called more than
    /// once.
    fn read<R>(&self, look: impl Fn(&Line) -> R) -> R;

    /// Changes the numbers. Nobody reads the old ones any more when `change` is called, nor the new before it is done.
    fn change(&self, change: impl FnOnce(&mut Line));
}

/// A machine's clock.
pub struct HostClock<L: SharedLine> {
    shared: L,
    /// When the machine started.
    start: Instant,
    /// How far the machine is ahead of the host's clock, because the TSC was when it was given up.
    ahead: AtomicU64,
    /// When the TSC is to be compared with the host's clock, in nanoseconds of the machine.
    check_at: AtomicU64,
    keeper: Mutex<Keeper>,
}

impl<L: SharedLine> HostClock<L> {
    /// A clock that starts now. With `use_tsc` false it never asks the counter.
    pub fn new(shared: L, use_tsc: bool) -> HostClock<L> {
        let start = Instant::now();
        let first = if use_tsc { L::ticks() } else { 0 };
        let keeper = Keeper::new(Sample { ticks: first, host: start.elapsed().as_nanos() as u64 });
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = HostClock {
            shared,
            start,
            ahead: AtomicU64::new(0),
            check_at: AtomicU64::new(if use_tsc { FIRST_CHECK } else { NEVER }),
            keeper: Mutex::new(keeper),
        };
        clock.set_wall_clock(wall.as_nanos() as u64);
        clock
    }

    /// The line, which programs may read too.
    pub fn shared(&self) -> &L {
        &self.shared
    }

    /// Time by the host's clock.
    fn by_host(&self) -> u64 {
        (self.start.elapsed().as_nanos() as u64).wrapping_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Time by the line, or by the host's clock while there is none.
    #[inline]
    fn by(&self, line: &Line) -> u64 {
        if line.multiplier == 0 { self.by_host() } else { line.at(L::ticks()) }
    }

    /// Nanoseconds since it started, never going back.
    #[inline]
    pub fn now(&self) -> u64 {
        let now = self.shared.read(|line| self.by(line));
        if now >= self.check_at.load(Ordering::Relaxed) {
            self.check();
        }
        now
    }

    /// Nanoseconds since 1970.
    #[inline]
    pub fn wall_clock(&self) -> u64 {
        self.shared.read(|line| line.epoch.wrapping_add(self.by(line)))
    }

    /// Sets what [`HostClock::wall_clock`] shows.
    pub fn set_wall_clock(&self, nanoseconds: u64) {
        self.shared.change(|line| line.epoch = nanoseconds.wrapping_sub(self.by(line)));
    }

    /// Compares the TSC with the host's clock and does what follows from it. One thread does; others go on meanwhile.
    #[cold]
    fn check(&self) {
        let Ok(mut keeper) = self.keeper.try_lock() else { return };
        let Some(sample) = self.sample() else { return };
        let shown = self.shared.read(|line| (line.multiplier != 0).then(|| line.at(sample.ticks)));
        let next = match keeper.advise(sample, shown) {
            Advice::Follow { multiplier } => {
                self.shared.change(|line| {
                    // The TSC first: the line begins no earlier than what anybody has seen of the host's clock.
                    let base_ticks = L::ticks();
                    let base_nanoseconds = if line.multiplier == 0 { self.by_host() } else { line.at(base_ticks) };
                    *line = Line { multiplier, base_ticks, base_nanoseconds, epoch: line.epoch };
                });
                sample.host + keeper.window().clamp(FIRST_CHECK, LAST_CHECK)
            }
            Advice::GiveUp => {
                self.shared.change(|line| {
                    let ahead = self.by(line).saturating_sub(self.by_host());
                    self.ahead.fetch_add(ahead, Ordering::Relaxed);
                    line.multiplier = 0;
                });
                NEVER
            }
        };
        self.check_at.store(next, Ordering::Relaxed);
    }

    /// Reads both clocks at once; none if the host was busy with something else in between.
    fn sample(&self) -> Option<Sample> {
        let read = |_| {
            let before = L::ticks();
            let host = self.by_host();
            let length = L::ticks().wrapping_sub(before);
            (length, Sample { ticks: before.wrapping_add(length / 2), host })
        };
        let (length, sample) = (0..3).map(read).min_by_key(|(length, _)| *length)?;
        (length < DISTURBED).then_some(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::RwLock;
    use std::thread::sleep;
    use std::time::Duration;

    /// A line under a lock, and a counter that is the host's clock, faster and from another beginning.
    #[derive(Default)]
    struct Shared(RwLock<Line>);

    impl SharedLine for Shared {
        fn ticks() -> u64 {
            static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
            7_000_000_000 + START.elapsed().as_nanos() as u64 * 5 / 2
        }

        fn read<R>(&self, look: impl Fn(&Line) -> R) -> R {
            look(&self.0.read().unwrap())
        }

        fn change(&self, change: impl FnOnce(&mut Line)) {
            change(&mut self.0.write().unwrap());
        }
    }

    type Clock = HostClock<Shared>;

    fn clock(use_tsc: bool) -> Clock {
        HostClock::new(Shared::default(), use_tsc)
    }

    /// How far the clock is from the host's, in nanoseconds. The host's is read before and after: the difference is at least that.
    fn difference(clock: &Clock) -> u64 {
        let before = clock.by_host();
        let now = clock.now();
        let after = clock.by_host();
        if now < before { before - now } else { now.saturating_sub(after) }
    }

    fn uses_tsc(clock: &Clock) -> bool {
        clock.shared.read(|line| line.multiplier != 0)
    }

    #[test]
    fn the_tsc_takes_over_and_stays_with_the_host() {
        let clock = clock(true);
        assert!(!uses_tsc(&clock) && difference(&clock) == 0);
        let mut last = 0;
        let mut over = 0;
        for turn in 0..2_000 {
            let now = clock.now();
            assert!(now >= last, "{} ns back", last - now);
            last = now;
            if difference(&clock) > 50_000 {
                over += 1;
            }
            if turn % 100 == 0 {
                sleep(Duration::from_millis(2));
            }
        }
        assert_eq!(uses_tsc(&clock), clock.check_at.load(Ordering::Relaxed) != NEVER);
        assert_eq!(over, 0, "too far from the host's clock");
    }

    /// On several CPUs, from before the TSC takes over and through comparisons one after the other.
    #[test]
    fn nobody_sees_it_go_back_while_it_is_corrected() {
        let clock = clock(true);
        let latest = AtomicU64::new(0);
        let look = || {
            while clock.now() < 2 * FIRST_CHECK {
                let before = latest.load(Ordering::SeqCst);
                let now = clock.now();
                assert!(now >= before, "{} ns back", before - now);
                latest.fetch_max(now, Ordering::SeqCst);
                if now > FIRST_CHECK + FIRST_CHECK / 2 && now.is_multiple_of(8) {
                    clock.check_at.store(now.saturating_sub(1), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(look))));
    }

    #[test]
    fn a_tsc_that_is_not_trusted_is_not_used() {
        let clock = clock(false);
        sleep(Duration::from_millis(15));
        assert!(difference(&clock) == 0 && !uses_tsc(&clock));
    }

    #[test]
    fn a_tsc_that_went_wrong_is_given_up_and_time_goes_on() {
        let clock = clock(true);
        sleep(Duration::from_millis(12));
        clock.now();
        if !uses_tsc(&clock) {
            return; // this host's TSC went wrong by itself
        }
        // As if the TSC had gone on through three minutes of sleep.
        let jump = 180_000_000_000;
        clock.shared.change(|line| line.base_nanoseconds += jump);
        let before = clock.shared.read(|line| clock.by(line));
        clock.check_at.store(0, Ordering::Relaxed);
        clock.now();
        assert!(!uses_tsc(&clock));
        let now = clock.now();
        assert!(now >= before && now < before + 1_000_000_000);
        sleep(Duration::from_millis(12));
        assert!(clock.now() >= now + 12_000_000 && !uses_tsc(&clock));
    }

    #[test]
    fn the_wall_clock_goes_with_it() {
        let clock = clock(true);
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(clock.wall_clock().abs_diff(host) < 1_000_000_000);
        clock.set_wall_clock(5);
        assert!(clock.wall_clock() >= 5 && clock.wall_clock() < 1_000_000_000);
    }
}
