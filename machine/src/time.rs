//! Time: a monotonic clock, the wall clock, and one alarm per CPU. Nanoseconds everywhere; there is no tick. Programs read the
//! same clocks by themselves: see [`crate::vdso`].

use crate::platform;

/// Nanoseconds since boot. Never goes back, not even from one CPU to another.
#[inline]
pub fn now() -> u64 {
    platform::time::now()
}

/// Nanoseconds since the epoch (1970-01-01 UTC): the machine's own clock as it was at boot, or what
/// [`set_wall_clock`] made of it, carried on by [`now`].
#[inline]
pub fn wall_clock() -> u64 {
    platform::time::wall_clock()
}

/// Sets the wall clock: clock_settime(2). The clock of the hardware stays as it is.
pub fn set_wall_clock(nanoseconds: u64) {
    platform::time::set_wall_clock(nanoseconds);
}

/// Sets this CPU's alarm to go off once, as soon as [`now`] reaches `deadline`, or clears it. A deadline in the past
/// goes off at once. [`crate::cpu::Handler::alarm`] is called, never before the deadline.
#[inline]
pub fn set_alarm(deadline: Option<u64>) {
    platform::time::set_alarm(deadline);
}
