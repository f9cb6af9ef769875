//! Times as programs pass them: clock_gettime(2), gettimeofday(2), setitimer(2), times(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Errno, Result};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// `struct timespec`: seconds and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    /// `tv_sec`
    pub seconds: i64,
    /// `tv_nsec`
    pub nanoseconds: i64,
}

/// `struct timeval`: seconds and microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    /// `tv_sec`
    pub seconds: i64,
    /// `tv_usec`
    pub microseconds: i64,
}

/// `struct itimerval`, see setitimer(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IntervalTimer {
    /// `it_interval`: the period, 0 for a timer that fires once
    pub interval: Timeval,
    /// `it_value`: time until it fires next, 0 for a timer that is off
    pub value: Timeval,
}

/// `struct timezone` of gettimeofday(2), long obsolete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimeZone {
    /// `tz_minuteswest`
    pub minutes_west: i32,
    /// `tz_dsttime`
    pub daylight: i32,
}

/// `struct tms` of times(2), in clock ticks of 1/100 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessTimes {
    /// `tms_utime`: the process in user mode
    pub user: i64,
    /// `tms_stime`: the process in the kernel
    pub system: i64,
    /// `tms_cutime`: its waited-for children in user mode
    pub children_user: i64,
    /// `tms_cstime`: its waited-for children in the kernel
    pub children_system: i64,
}

impl Timespec {
    /// From a count of nanoseconds.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Timespec {
        Timespec {
            seconds: (nanoseconds / NANOSECONDS_PER_SECOND) as i64,
            nanoseconds: (nanoseconds % NANOSECONDS_PER_SECOND) as i64,
        }
    }

    /// The time in nanoseconds; what is too long for a `u64` is as good as for ever, and becomes `u64::MAX`.
    ///
    /// # Errors
    /// `EINVAL` for negative seconds, or nanoseconds that are not below a second.
    pub const fn to_nanoseconds(self) -> Result<u64> {
        if self.seconds < 0 || self.nanoseconds < 0 || self.nanoseconds as u64 >= NANOSECONDS_PER_SECOND {
            return Err(Errno::EINVAL);
        }
        let whole = (self.seconds as u64).saturating_mul(NANOSECONDS_PER_SECOND);
        Ok(whole.saturating_add(self.nanoseconds as u64))
    }
}

impl Timeval {
    /// From a count of nanoseconds, rounded down.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Timeval {
        Timeval {
            seconds: (nanoseconds / NANOSECONDS_PER_SECOND) as i64,
            microseconds: (nanoseconds % NANOSECONDS_PER_SECOND / 1000) as i64,
        }
    }

    /// The time in nanoseconds; what is too long for a `u64` becomes `u64::MAX`.
    ///
    /// # Errors
    /// `EINVAL` for negative seconds, or microseconds that are not below a second.
    pub const fn to_nanoseconds(self) -> Result<u64> {
        if self.seconds < 0 || self.microseconds < 0 || self.microseconds as u64 >= MICROSECONDS_PER_SECOND {
            return Err(Errno::EINVAL);
        }
        let whole = (self.seconds as u64).saturating_mul(NANOSECONDS_PER_SECOND);
        Ok(whole.saturating_add(self.microseconds as u64 * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_converted() {
        assert_eq!(Timespec { seconds: 1, nanoseconds: 5 }.to_nanoseconds(), Ok(1_000_000_005));
        assert_eq!(Timespec { seconds: -1, nanoseconds: 0 }.to_nanoseconds(), Err(Errno::EINVAL));
        assert_eq!(Timespec { seconds: 0, nanoseconds: 1_000_000_000 }.to_nanoseconds(), Err(Errno::EINVAL));
        assert_eq!(Timespec { seconds: i64::MAX, nanoseconds: 0 }.to_nanoseconds(), Ok(u64::MAX));
        assert_eq!(Timespec::from_nanoseconds(2_000_000_007), Timespec { seconds: 2, nanoseconds: 7 });
        let timeval = |seconds, microseconds| Timeval { seconds, microseconds }.to_nanoseconds();
        assert_eq!((timeval(0, 0), timeval(1, 999_999)), (Ok(0), Ok(1_999_999_000)));
        assert_eq!(timeval(i64::MAX, 5), Ok(u64::MAX));
        for (seconds, microseconds) in [(0, 1_000_000), (0, -1), (-1, 0)] {
            assert_eq!(timeval(seconds, microseconds), Err(Errno::EINVAL));
        }
        assert_eq!(Timeval::from_nanoseconds(1_999_999_999), Timeval { seconds: 1, microseconds: 999_999 });
        assert_eq!((size_of::<Timespec>(), size_of::<IntervalTimer>(), size_of::<ProcessTimes>()), (16, 32, 32));
    }
}
