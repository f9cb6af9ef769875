//! Time of the host machine: the process's monotonic clock.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When the machine started, by the monotonic clock and in nanoseconds since 1970.
static START: LazyLock<(Instant, AtomicU64)> = LazyLock::new(|| {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), AtomicU64::new(wall.as_nanos() as u64))
});

/// Nanoseconds since the machine started, never going back.
pub fn now() -> u64 {
    START.0.elapsed().as_nanos() as u64
}

/// Nanoseconds since 1970.
pub fn wall_clock() -> u64 {
    START.1.load(Ordering::Relaxed).wrapping_add(now())
}

/// Sets what [`wall_clock`] shows.
pub fn set_wall_clock(nanoseconds: u64) {
    START.1.store(nanoseconds.wrapping_sub(now()), Ordering::Relaxed);
}

/// Sets this CPU's alarm to `deadline`, in nanoseconds of [`now`], or takes it back.
pub fn set_alarm(deadline: Option<u64>) {
    super::cpu::set_alarm(deadline);
}
