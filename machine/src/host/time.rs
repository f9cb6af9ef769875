//! Time of the host machine: the host's monotonic clock, and as soon as that is known to be right, the time-stamp counter.
//!
//! A machine starts without knowing how fast the TSC counts, and does not wait to find out: at first it asks the host's clock,
//! and programs make system calls. The first look at the clock after [`FIRST_CHECK`] compares the two and sets the line that
//! the kernel and the vDSO read from then on. Later looks, at growing distances, compare again and correct the slope ([`Keeper`]).
//! No thread and no timer is needed for that: whoever looks at the clock when it is time does it, and an idle machine sleeps.
//!
//! The TSC is used only where the host itself does ([`is_trusted`]), and given up for good as soon as it and the host's
//! clock disagree (a laptop that slept, a virtual machine that was moved).

use super::machine::current;
use crate::vdso::{self, ticks};
use clocks::{Advice, Keeper, Line, Sample};
use std::arch::x86_64::__cpuid;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
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

/// A machine's clock.
pub struct Clock {
    shared: vdso::Clock,
    /// When the machine started.
    start: Instant,
    /// How far the machine is ahead of the host's clock, because the TSC was when it was given up.
    ahead: AtomicU64,
    /// When the TSC is to be compared with the host's clock, in nanoseconds of the machine.
    check_at: AtomicU64,
    keeper: Mutex<Keeper>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(*TRUSTED)
    }
}

impl Clock {
    fn new(use_tsc: bool) -> Clock {
        let start = Instant::now();
        let first = if use_tsc { ticks() } else { 0 };
        let keeper = Keeper::new(Sample { ticks: first, host: start.elapsed().as_nanos() as u64 });
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = Clock {
            shared: vdso::Clock::new(),
            start,
            ahead: AtomicU64::new(0),
            check_at: AtomicU64::new(if use_tsc { FIRST_CHECK } else { NEVER }),
            keeper: Mutex::new(keeper),
        };
        clock.set_wall_clock(wall.as_nanos() as u64);
        clock
    }

    /// Time by the host's clock.
    fn by_host(&self) -> u64 {
        (self.start.elapsed().as_nanos() as u64).wrapping_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Time by the line, or by the host's clock while there is none.
    #[inline]
    fn by(&self, line: &Line) -> u64 {
        if line.multiplier == 0 { self.by_host() } else { line.at(ticks()) }
    }

    #[inline]
    fn now(&self) -> u64 {
        let now = self.shared.read(|line| self.by(line));
        if now >= self.check_at.load(Ordering::Relaxed) {
            self.check();
        }
        now
    }

    #[inline]
    fn wall_clock(&self) -> u64 {
        self.shared.read(|line| line.epoch.wrapping_add(self.by(line)))
    }

    fn set_wall_clock(&self, nanoseconds: u64) {
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
                    let base_ticks = ticks();
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
            let before = ticks();
            let host = self.by_host();
            let length = ticks().wrapping_sub(before);
            (length, Sample { ticks: before.wrapping_add(length / 2), host })
        };
        let (length, sample) = (0..3).map(read).min_by_key(|(length, _)| *length)?;
        (length < DISTURBED).then_some(sample)
    }
}

/// Whether the TSC counts evenly on all CPUs: it says so, and the host keeps its own time by it.
static TRUSTED: LazyLock<bool> = LazyLock::new(is_trusted);

fn is_trusted() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    const POWER: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    if cfg!(miri) {
        return false; // it has no such instruction
    }
    let invariant = __cpuid(0x8000_0000).eax >= POWER && __cpuid(POWER).edx & INVARIANT_TSC != 0;
    invariant && std::fs::read_to_string(SOURCE).is_ok_and(|source| matches!(source.trim(), "tsc" | "kvm-clock"))
}

/// The clock programs read too.
pub fn clock() -> &'static vdso::Clock {
    &current().clock.shared
}

pub fn own() -> Option<u64> {
    let own = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Some(own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64)
}

/// Nanoseconds since the machine started, never going back.
#[inline]
pub fn now() -> u64 {
    current().clock.now()
}

/// Nanoseconds since 1970.
pub fn wall_clock() -> u64 {
    current().clock.wall_clock()
}

/// Sets what [`wall_clock`] shows.
pub fn set_wall_clock(nanoseconds: u64) {
    current().clock.set_wall_clock(nanoseconds);
}

/// See [`crate::time::MAY_BE_TAKEN`].
pub const MAY_BE_TAKEN: bool = true;

/// See [`crate::time::worked`]. A machine that runs no programs has no CPUs of its own: tests' threads play them.
pub fn worked(user: u64, kernel: u64) -> (u64, u64) {
    let machine = current();
    let account = machine.cpus.account(super::cpu::current()).filter(|_| machine.stubs.is_some());
    account.map_or((user, kernel), |account| account.worked(user, kernel))
}

/// See [`crate::time::working`].
pub fn working(cpu: usize, user: u64, kernel: u64) -> (u64, u64) {
    let machine = current();
    let account = machine.cpus.account(cpu).filter(|_| machine.stubs.is_some());
    account.map_or((user, kernel), |account| account.working(user, kernel))
}

/// Sets this CPU's alarm to `deadline`, in nanoseconds of [`now`], or takes it back.
pub fn set_alarm(deadline: Option<u64>) {
    super::cpu::set_alarm(deadline);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::Duration;

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
        let clock = Clock::new(true);
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
        assert_eq!(uses_tsc(&clock), *TRUSTED || clock.check_at.load(Ordering::Relaxed) != NEVER);
        assert_eq!(over, 0, "too far from the host's clock");
    }

    /// On several CPUs, from before the TSC takes over and through comparisons one after the other.
    #[test]
    fn nobody_sees_it_go_back_while_it_is_corrected() {
        let clock = Clock::new(true);
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
        let clock = Clock::new(false);
        sleep(Duration::from_millis(15));
        assert!(difference(&clock) == 0 && !uses_tsc(&clock));
    }

    #[test]
    fn a_tsc_that_went_wrong_is_given_up_and_time_goes_on() {
        let clock = Clock::new(true);
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
        let clock = Clock::new(true);
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(clock.wall_clock().abs_diff(host) < 1_000_000_000);
        clock.set_wall_clock(5);
        assert!(clock.wall_clock() >= 5 && clock.wall_clock() < 1_000_000_000);
    }
}
