//! The reader of `code.s` in Rust, load by load: compared with it by tests here, and tried in all orders by kernel/models.

use super::Numbers;
use super::atomic::{Ordering, fence};
use clocks::scale;

/// How one round of the reader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Nanoseconds.
    Time(u64),
    /// The TSC does not tell: the kernel is asked.
    AskKernel,
    /// The numbers change, or have changed: it begins again.
    Again,
}

/// One round: the wall clock's time if `wall`, else the monotonic clock's. x86 does loads in order, so each is at least an acquiring one.
pub fn round(numbers: &Numbers, wall: bool, ticks: impl FnOnce() -> u64) -> Round {
    let before = numbers.sequence.load(Ordering::Acquire);
    let multiplier = numbers.multiplier.load(Ordering::Acquire);
    if before & 1 != 0 {
        return Round::Again;
    }
    if multiplier == 0 {
        return Round::AskKernel;
    }
    let ticks = ticks();
    // LFENCE before RDTSC, and loads after it.
    fence(Ordering::Acquire);
    let since_base = ticks.saturating_sub(numbers.base_ticks.load(Ordering::Acquire));
    let monotonic = numbers.base_nanoseconds.load(Ordering::Acquire).wrapping_add(scale(since_base, multiplier));
    let mask = if wall { u64::MAX } else { 0 };
    let time = monotonic.wrapping_add(numbers.epoch.load(Ordering::Acquire) & mask);
    if numbers.sequence.load(Ordering::Acquire) == before { Round::Time(time) } else { Round::Again }
}
