//! Keeping the TSC's line with the host's clock: pure arithmetic.
//!
//! The slope is what was measured over a long window, up to a minute. On top comes a small part that takes the line back to the
//! host's clock: as much as would take it there in [`HORIZON`], never more than [`STEEPEST`]. So the clock never jumps, and
//! since the correction is small against what it corrects, nothing bad happens if the next comparison comes late.

/// Both clocks at one moment: ticks of the TSC, and nanoseconds of the machine by the host's clock.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Ticks of the TSC.
    pub ticks: u64,
    /// Nanoseconds by the host's clock.
    pub host: u64,
}

/// What follows from a comparison.
#[derive(Debug, PartialEq, Eq)]
pub enum Advice {
    /// Go on from here with so many nanoseconds a tick, in 2^-32.
    Follow {
        /// The slope.
        multiplier: u64,
    },
    /// The TSC can't be trusted.
    GiveUp,
}

/// In this time a difference is made up for.
const HORIZON: u64 = 16_000_000_000;
/// The most that is done about a difference, in millionths.
const STEEPEST: i128 = 500;
/// The slope is measured over one to two of these.
const WINDOW: u64 = 30_000_000_000;
/// A difference that grew by more can't be explained: this much, and a thousandth of the time since the last comparison.
const TOLERANCE: u64 = 1_000_000;

/// What is remembered of earlier comparisons.
#[derive(Debug)]
pub struct Keeper {
    /// The window begins here,
    first: Sample,
    /// and will begin here when it has grown too long.
    middle: Sample,
    last: Sample,
    /// By how much the host's clock was ahead of the line then.
    difference: i128,
}

impl Keeper {
    /// A keeper that has seen both clocks once.
    pub fn new(first: Sample) -> Keeper {
        Keeper { first, middle: first, last: first, difference: 0 }
    }

    /// Nanoseconds the slope is known from.
    pub fn window(&self) -> u64 {
        self.last.host - self.first.host
    }

    /// What to do after a comparison. The line, if it is in use, showed `shown` at that moment.
    pub fn advise(&mut self, sample: Sample, shown: Option<u64>) -> Advice {
        let since = sample.host.saturating_sub(self.last.host);
        if sample.ticks <= self.last.ticks || since == 0 {
            return Advice::GiveUp;
        }
        self.last = sample;
        let ticks = u128::from(sample.ticks - self.first.ticks);
        let measured = ((u128::from(sample.host - self.first.host) << 32) / ticks) as u64;
        if sample.host - self.middle.host >= WINDOW {
            self.first = core::mem::replace(&mut self.middle, sample);
        }
        let Some(shown) = shown else { return Advice::Follow { multiplier: measured } };
        let difference = i128::from(sample.host) - i128::from(shown);
        let growth = difference - core::mem::replace(&mut self.difference, difference);
        if growth.unsigned_abs() > u128::from(TOLERANCE + since / 1000) {
            return Advice::GiveUp;
        }
        let whole = i128::from(measured);
        let most = whole * STEEPEST / 1_000_000;
        let correction = (whole * difference / i128::from(HORIZON.max(since))).clamp(-most, most);
        Advice::Follow { multiplier: (whole + correction) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;

    const SECOND: u64 = 1_000_000_000;

    /// A host whose TSC makes `per_second` ticks, and whose readings of both clocks are off by up to `noise` ns.
    struct Host {
        per_second: u64,
        noise: u64,
        seed: u64,
    }

    impl Host {
        fn ticks(&self, at: u64) -> u64 {
            7_000_000_000 + (u128::from(at) * u128::from(self.per_second) / u128::from(SECOND)) as u64
        }

        fn sample(&mut self, at: u64) -> Sample {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let late = (self.seed >> 33) % (self.noise + 1);
            Sample { ticks: self.ticks(at), host: at + late }
        }
    }

    /// Compares at the given moments and returns the line after each, with its difference from the host's clock there.
    fn follow(host: &mut Host, moments: impl Iterator<Item = u64>) -> Vec<(Line, i64)> {
        let mut keeper = Keeper::new(host.sample(0));
        let mut line: Option<Line> = None;
        let mut lines = Vec::new();
        for at in moments {
            let sample = host.sample(at);
            let shown = line.map(|line| line.at(sample.ticks));
            let Advice::Follow { multiplier } = keeper.advise(sample, shown) else { panic!("given up at {at}") };
            let base_nanoseconds = shown.unwrap_or(sample.host);
            line = Some(Line { multiplier, base_ticks: sample.ticks, base_nanoseconds, epoch: 0 });
            lines.push((line.unwrap(), base_nanoseconds as i64 - at as i64));
        }
        lines
    }

    #[test]
    fn the_line_stays_with_the_host() {
        let mut host = Host { per_second: 2_596_147_888, noise: 60, seed: 1 };
        let early = (1..7).map(|power| 10_000_000 << power);
        for (_, difference) in follow(&mut host, early.chain((1..1000).map(|second| second * SECOND))) {
            assert!(difference.abs() < 1_000, "{difference} ns");
        }
    }

    #[test]
    fn a_slope_seen_for_a_moment_is_good_for_an_hour() {
        let mut host = Host { per_second: 1_000_000_000, noise: 60, seed: 5 };
        let hour = 3600 * SECOND;
        let moments =
            [10_000_000, hour, hour + SECOND].into_iter().chain((2..120).map(|second| hour + second * SECOND));
        let lines = follow(&mut host, moments);
        assert!(lines[1].1.abs() < 30_000_000, "{} ns after an hour", lines[1].1);
        let left = lines.last().unwrap().1;
        assert!(left.abs() < lines[1].1.abs() / 100 + 1000, "{left} ns after two minutes more");
    }

    #[test]
    fn a_difference_is_made_up_for_gently() {
        let first = Sample { ticks: 0, host: 0 };
        let mut keeper = Keeper::new(first);
        let exact = 1 << 32;
        assert_eq!(keeper.advise(Sample { ticks: SECOND, host: SECOND }, None), Advice::Follow { multiplier: exact });
        let sample = Sample { ticks: 2 * SECOND, host: 2 * SECOND };
        let Advice::Follow { multiplier } = keeper.advise(sample, Some(2 * SECOND - 16_000)) else { panic!() };
        assert_eq!(multiplier - exact, exact / 1_000_000, "16 us in 16 s");
        let sample = Sample { ticks: 12 * SECOND, host: 12 * SECOND };
        let Advice::Follow { multiplier } = keeper.advise(sample, Some(12 * SECOND + 10_500_000)) else { panic!() };
        assert_eq!(exact - multiplier, exact * 500 / 1_000_000, "never more than 500 millionths");
    }

    /// A rate that changes, as the host's own clock is slewed, is soon the rate of the line.
    #[test]
    fn the_slope_is_of_the_last_minute() {
        let mut keeper = Keeper::new(Sample { ticks: 0, host: 0 });
        for second in 1..1000 {
            let sample = Sample { ticks: second * SECOND, host: second * SECOND };
            assert_ne!(keeper.advise(sample, Some(sample.host)), Advice::GiveUp);
            assert!(keeper.window() <= 2 * WINDOW && (keeper.window() >= WINDOW || second < WINDOW / SECOND));
        }
    }

    #[test]
    fn a_counter_that_jumps_is_given_up() {
        let keeper = || {
            let mut keeper = Keeper::new(Sample { ticks: 500, host: 0 });
            assert_ne!(keeper.advise(Sample { ticks: SECOND + 500, host: SECOND }, None), Advice::GiveUp);
            keeper
        };
        assert_eq!(keeper().advise(Sample { ticks: 3, host: 2 * SECOND }, Some(SECOND)), Advice::GiveUp);
        let same = Sample { ticks: SECOND + 500, host: 2 * SECOND };
        assert_eq!(keeper().advise(same, Some(SECOND)), Advice::GiveUp, "it does not count");
        let late = Sample { ticks: 9 * SECOND, host: 2 * SECOND };
        assert_eq!(keeper().advise(late, Some(9 * SECOND)), Advice::GiveUp);
        let stopped = Sample { ticks: SECOND + 501, host: 100 * SECOND };
        assert_eq!(keeper().advise(stopped, Some(SECOND)), Advice::GiveUp);
    }
}
