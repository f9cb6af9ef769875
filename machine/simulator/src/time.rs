//! Its time: [`crate::Clock`].

use crate::cpu::{self, CPUS};

/// Nanoseconds since the start.
pub fn now() -> u64 {
    CPUS.clock.now()
}

/// Nobody takes a CPU away.
pub fn own() -> Option<u64> {
    None
}

/// Nanoseconds since 1970.
pub fn wall_clock() -> u64 {
    CPUS.clock.wall_clock()
}

/// Sets what `wall_clock` shows.
pub fn set_wall_clock(nanoseconds: u64) {
    CPUS.clock.set_wall_clock(nanoseconds);
}

/// Sets this CPU's alarm.
pub fn set_alarm(deadline: Option<u64>) {
    CPUS.clock.set_alarm(cpu::current(), deadline);
}

/// See the boundary.
pub const MAY_BE_TAKEN: bool = false;

/// See the boundary.
pub fn worked(user: u64, kernel: u64) -> (u64, u64) {
    (user, kernel)
}

/// See the boundary.
pub fn working(_cpu: usize, user: u64, kernel: u64) -> (u64, u64) {
    (user, kernel)
}
