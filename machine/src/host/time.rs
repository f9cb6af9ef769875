//! Time of the host machine: the process's monotonic clock.

use super::machine::current;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A machine's clock.
pub struct Clock {
    /// When the machine started.
    start: Instant,
    /// Nanoseconds since 1970 at that moment.
    wall: AtomicU64,
}

impl Default for Clock {
    fn default() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), wall: AtomicU64::new(wall.as_nanos() as u64) }
    }
}

/// Nanoseconds since the machine started, never going back.
pub fn now() -> u64 {
    current().clock.start.elapsed().as_nanos() as u64
}

/// Nanoseconds since 1970.
pub fn wall_clock() -> u64 {
    current().clock.wall.load(Ordering::Relaxed).wrapping_add(now())
}

/// Sets what [`wall_clock`] shows.
pub fn set_wall_clock(nanoseconds: u64) {
    current().clock.wall.store(nanoseconds.wrapping_sub(now()), Ordering::Relaxed);
}

/// Sets this CPU's alarm to `deadline`, in nanoseconds of [`now`], or takes it back.
pub fn set_alarm(deadline: Option<u64>) {
    super::cpu::set_alarm(deadline);
}
