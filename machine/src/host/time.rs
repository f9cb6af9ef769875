//! Time of the host machine: the process's monotonic clock.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), wall.as_nanos() as u64)
});

/// Nanoseconds since the machine started, never going back.
pub fn now() -> u64 {
    START.0.elapsed().as_nanos() as u64
}

/// Nanoseconds since 1970.
pub fn wall_clock() -> u64 {
    START.1 + now()
}

/// Sets this CPU's alarm to `deadline`, in nanoseconds of [`now`], or takes it back.
pub fn set_alarm(deadline: Option<u64>) {
    super::cpu::set_alarm(deadline);
}
