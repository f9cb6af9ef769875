//! Time of the host machine: [`HostClock`], over the line that programs read too.

use super::machine::current;
use crate::vdso::{self, ticks};
use clocks::{HostClock, Line, SharedLine};
use std::arch::x86_64::__cpuid;
use std::sync::LazyLock;

/// A machine's clock.
pub type Clock = HostClock<vdso::Clock>;

/// A clock that starts now.
pub fn new() -> Clock {
    HostClock::new(vdso::Clock::new(), *TRUSTED)
}

impl SharedLine for vdso::Clock {
    #[inline]
    fn ticks() -> u64 {
        ticks()
    }

    #[inline]
    fn read<R>(&self, look: impl Fn(&Line) -> R) -> R {
        clocks::Clock::read(self, look)
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        vdso::Clock::change(self, change);
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
    current().clock.shared()
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
    use std::sync::atomic::{AtomicU64, Ordering};

    /// With the counter of this host, on several CPUs, from before it takes over.
    #[test]
    fn nobody_sees_it_go_back_and_it_stays_with_the_host() {
        let (clock, start) = (new(), std::time::Instant::now());
        let latest = AtomicU64::new(0);
        let look = || {
            while clock.now() < 40_000_000 {
                let before = latest.load(Ordering::SeqCst);
                let now = clock.now();
                assert!(now >= before, "{} ns back", before - now);
                latest.fetch_max(now, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(look))));
        let host = start.elapsed().as_nanos() as u64;
        assert!(clock.now() + 50_000 >= host, "{} ns behind", host - clock.now());
    }
}
