//! Time: a monotonic clock, the wall clock, and one alarm per CPU. Nanoseconds everywhere; there is no tick. Programs read the
//! same clocks by themselves: see [`crate::vdso`].

use crate::platform;

/// Nanoseconds since boot. Never goes back, not even from one CPU to another.
#[inline]
pub fn now() -> u64 {
    platform::time::now()
}

/// Nanoseconds that this CPU has run, where it is a thread of a host: what the host took away is not counted. `None` where it
/// is a CPU. Dear: a call of the host.
pub fn own() -> Option<u64> {
    platform::time::own()
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

/// Whether whoever runs this machine may take a CPU away while time goes on. Where not, all that passes is worked.
pub const MAY_BE_TAKEN: bool = platform::time::MAY_BE_TAKEN;

/// Of `user` and `kernel` nanoseconds that passed on this CPU since its last call: how much it was given to work. To be called with all that
/// passes. On the host machine times below 0.2 ms are believed at once and settled by a later call.
#[inline]
pub fn worked(user: u64, kernel: u64) -> (u64, u64) {
    platform::time::worked(user, kernel)
}

/// The same for who looks at what passes on `cpu`: the next [`worked`] there gives no less.
#[inline]
pub fn working(cpu: usize, user: u64, kernel: u64) -> (u64, u64) {
    platform::time::working(cpu, user, kernel)
}
