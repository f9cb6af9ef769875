//! [`Line`]: how the time-stamp counter becomes time.

/// `value * factor / 2^32`.
#[inline]
pub fn scale(value: u64, factor: u64) -> u64 {
    ((u128::from(value) * u128::from(factor)) >> 32) as u64
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// The factor for [`scale`] that turns units of which `per_second` go by in a second into nanoseconds.
pub fn to_nanoseconds(per_second: u64) -> u64 {
    ((u128::from(SECOND) << 32) / u128::from(per_second.max(1))) as u64
}

/// And the way back: the factor that turns nanoseconds into units of which `per_second` go by in a second.
pub fn from_nanoseconds(per_second: u64) -> u64 {
    ((u128::from(per_second) << 32) / u128::from(SECOND)) as u64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_lead_there_and_back() {
        for per_second in [1_193_182, 3_579_545, SECOND, 2_400_000_000, 5_000_000_001] {
            let there = scale(per_second, to_nanoseconds(per_second));
            let back = scale(SECOND, from_nanoseconds(per_second));
            assert!(there.abs_diff(SECOND) <= 2 && back.abs_diff(per_second) <= 2, "{per_second}: {there}, {back}");
        }
        assert_eq!(to_nanoseconds(SECOND), 1 << 32);
        let _ = to_nanoseconds(0);
    }
}
