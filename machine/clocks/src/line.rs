//! [`Line`]: how the time-stamp counter becomes time.

/// `value * factor / 2^32`.
#[inline]
pub fn scale(value: u64, factor: u64) -> u64 {
    ((u128::from(value) * u128::from(factor)) >> 32) as u64
}

/// What a clock shows at every moment, as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds a tick, in 2^-32. 0: the TSC does not tell the time, ask the kernel.
    pub multiplier: u64,
    /// The TSC at some moment,
    pub base_ticks: u64,
    /// and what the monotonic clock showed then.
    pub base_nanoseconds: u64,
    /// What the wall clock shows more than the monotonic one, modulo 2^64.
    pub epoch: u64,
}

impl Line {
    /// What the monotonic clock shows at a reading of the TSC. Another CPU's may be a little older than the base.
    #[inline]
    pub fn at(&self, ticks: u64) -> u64 {
        self.base_nanoseconds.wrapping_add(scale(ticks.saturating_sub(self.base_ticks), self.multiplier))
    }
}
