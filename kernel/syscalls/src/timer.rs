//! Timers that send signals: alarm(2), setitimer(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::time::{IntervalTimer, Timeval};
use process::Thread;
use process::timers::{self, Setting};
use vfs::NotReady;

use crate::argument::{In, Out};

fn to_program(setting: Setting) -> IntervalTimer {
    IntervalTimer {
        interval: Timeval::from_nanoseconds(setting.interval),
        value: Timeval::from_nanoseconds(setting.value),
    }
}

fn from_program(timer: IntervalTimer) -> Result<Setting, Errno> {
    Ok(Setting { value: timer.value.to_nanoseconds()?, interval: timer.interval.to_nanoseconds()? })
}

/// alarm(2)
pub(crate) fn alarm(thread: &Arc<Thread>, seconds: u32) -> usize {
    timers::alarm(thread, seconds) as usize
}

/// getitimer(2). The two kinds that count CPU time are not done.
pub(crate) fn getitimer(thread: &Arc<Thread>, which: i32, value: Out<IntervalTimer>) -> Result<(), NotReady> {
    let now = timers::get(thread, which)?;
    value.write(thread, &to_program(now))
}

/// setitimer(2). No new value is the same as one of zeros, which turns the timer off.
pub(crate) fn setitimer(
    thread: &Arc<Thread>,
    which: i32,
    new: In<IntervalTimer>,
    old: Out<IntervalTimer>,
) -> Result<(), NotReady> {
    let new = new.read_optional(thread)?.map(from_program).transpose()?.unwrap_or_default();
    old.make_present(thread)?;
    let before = timers::set(thread, which, new)?;
    old.write_optional(thread, &to_program(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_converted_both_ways() {
        let timer = IntervalTimer {
            interval: Timeval { seconds: 1, microseconds: 5 },
            value: Timeval { seconds: 0, microseconds: 999_999 },
        };
        assert_eq!(from_program(timer).map(to_program), Ok(timer));
        let bad = IntervalTimer { value: Timeval { seconds: 0, microseconds: 1_000_000 }, ..timer };
        assert_eq!(from_program(bad), Err(Errno::EINVAL));
    }
}
