//! Clocks and sleeping: clock_gettime(2), clock_nanosleep(2), gettimeofday(2).

use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::raw::general as raw;
use abi::time::{TimeZone, Timespec, Timeval};
use process::credentials::Capability;
use process::{Call, Failure, Interrupted, Resume, Thread};
use vfs::NotReady;

use crate::argument::{Flags, In, Out};
use crate::flags::ClockFlags;

/// The wall clock runs a tick of 4 ms behind in its coarse variant on Linux; here both are exact.
const RESOLUTION: Timespec = Timespec { seconds: 0, nanoseconds: 1 };
/// What clock_getres(2) says of coarse clocks: a tick.
const COARSE_RESOLUTION: Timespec = Timespec { seconds: 0, nanoseconds: 4_000_000 };

/// The clocks there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    Real,
    Monotonic,
    ProcessCpu,
    ThreadCpu,
}

impl Clock {
    /// The clock a program names.
    fn new(clock: i32) -> Result<Clock, Errno> {
        match u32::try_from(clock).map_err(|_| Errno::EINVAL)? {
            raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_REALTIME_ALARM | raw::CLOCK_TAI => {
                Ok(Clock::Real)
            }
            raw::CLOCK_MONOTONIC
            | raw::CLOCK_MONOTONIC_RAW
            | raw::CLOCK_MONOTONIC_COARSE
            | raw::CLOCK_BOOTTIME
            | raw::CLOCK_BOOTTIME_ALARM => Ok(Clock::Monotonic),
            raw::CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::ProcessCpu),
            raw::CLOCK_THREAD_CPUTIME_ID => Ok(Clock::ThreadCpu),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What it shows, in nanoseconds.
    fn now(self, thread: &Thread) -> u64 {
        match self {
            Clock::Real => machine::time::wall_clock(),
            Clock::Monotonic => machine::time::now(),
            Clock::ProcessCpu => thread.process().cpu_time(),
            Clock::ThreadCpu => thread.cpu_time(),
        }
    }
}

/// clock_gettime(2)
pub(crate) fn clock_gettime(thread: &Arc<Thread>, clock: i32, time: Out<Timespec>) -> Result<(), NotReady> {
    let now = Clock::new(clock)?.now(thread);
    time.write(thread, &Timespec::from_nanoseconds(now))
}

/// clock_getres(2)
pub(crate) fn clock_getres(thread: &Arc<Thread>, clock: i32, resolution: Out<Timespec>) -> Result<(), NotReady> {
    Clock::new(clock)?;
    let coarse = matches!(clock as u32, raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE);
    resolution.write_optional(thread, if coarse { &COARSE_RESOLUTION } else { &RESOLUTION })
}

/// clock_settime(2). The wall clock is the only one that can be set.
pub(crate) fn clock_settime(thread: &Arc<Thread>, clock: i32, time: In<Timespec>) -> Result<(), NotReady> {
    if clock as u32 != raw::CLOCK_REALTIME {
        return Err(Errno::EINVAL.into());
    }
    let time = time.read(thread)?.to_nanoseconds()?;
    set_wall_clock(thread, time)
}

/// gettimeofday(2)
pub(crate) fn gettimeofday(thread: &Arc<Thread>, time: Out<Timeval>, zone: Out<TimeZone>) -> Result<(), NotReady> {
    time.write_optional(thread, &Timeval::from_nanoseconds(machine::time::wall_clock()))?;
    zone.write_optional(thread, &TimeZone::default())
}

/// settimeofday(2). The zone is taken and forgotten: nothing on a modern system looks at it.
pub(crate) fn settimeofday(thread: &Arc<Thread>, time: In<Timeval>, zone: In<TimeZone>) -> Result<(), NotReady> {
    let time = time.read_optional(thread)?.map(Timeval::to_nanoseconds).transpose()?;
    if let Some(zone) = zone.read_optional(thread)?
        && !(-15 * 60..=15 * 60).contains(&zone.minutes_west)
    {
        return Err(Errno::EINVAL.into());
    }
    match time {
        Some(time) => set_wall_clock(thread, time),
        None => Ok(()),
    }
}

/// time(2)
pub(crate) fn time(thread: &Arc<Thread>, time: Out<i64>) -> Result<usize, NotReady> {
    let seconds = Timespec::from_nanoseconds(machine::time::wall_clock()).seconds;
    time.write_optional(thread, &seconds)?;
    Ok(seconds as usize)
}

/// nanosleep(2)
pub(crate) async fn nanosleep(
    thread: &Arc<Thread>,
    request: In<Timespec>,
    remaining: Out<Timespec>,
) -> Result<usize, Failure> {
    let length = request.fetch(thread).await?.to_nanoseconds()?;
    sleep(thread, machine::time::now().saturating_add(length), remaining, raw::__NR_nanosleep).await
}

/// clock_nanosleep(2)
pub(crate) async fn clock_nanosleep(
    thread: &Arc<Thread>,
    clock: i32,
    flags: Flags<ClockFlags>,
    request: In<Timespec>,
    remaining: Out<Timespec>,
) -> Result<usize, Failure> {
    let clock = sleeping_clock(clock)?;
    let time = request.fetch(thread).await?.to_nanoseconds()?;
    if !flags.has(raw::TIMER_ABSTIME) {
        let deadline = machine::time::now().saturating_add(time);
        return sleep(thread, deadline, remaining, raw::__NR_clock_nanosleep).await;
    }
    // A sleep until a time of day is one of the same length on the clock that never jumps.
    let deadline = time.saturating_sub(clock.now(thread)).saturating_add(machine::time::now());
    let slept = thread.interruptible(pin!(thread.kernel().executor().sleep_until(deadline))).await;
    slept.map(|()| 0).map_err(|_| Interrupted::RestartUnlessHandled.into())
}

/// The clocks that can be slept on: neither the raw and coarse ones, nor those that count CPU time.
fn sleeping_clock(clock: i32) -> Result<Clock, Errno> {
    match clock as u32 {
        raw::CLOCK_REALTIME
        | raw::CLOCK_MONOTONIC
        | raw::CLOCK_BOOTTIME
        | raw::CLOCK_TAI
        | raw::CLOCK_REALTIME_ALARM
        | raw::CLOCK_BOOTTIME_ALARM => Clock::new(clock),
        raw::CLOCK_THREAD_CPUTIME_ID => Err(Errno::EINVAL),
        _ => Clock::new(clock).and(Err(Errno::EOPNOTSUPP)),
    }
}

/// Sleeps until `deadline` of the monotonic clock. Interrupted, it tells how much is left, and goes on by
/// restart_syscall(2) if no handler ran.
async fn sleep(thread: &Arc<Thread>, deadline: u64, remaining: Out<Timespec>, number: u32) -> Result<usize, Failure> {
    if thread.interruptible(pin!(thread.kernel().executor().sleep_until(deadline))).await.is_ok() {
        return Ok(0);
    }
    let left = Timespec::from_nanoseconds(deadline.saturating_sub(machine::time::now()));
    remaining.store_optional(thread, &left).await?;
    // What is left is told again if it is interrupted again: that argument is all restart_syscall(2) needs.
    let call = Call { number: number as usize, arguments: [remaining.0, 0, 0, 0, 0, 0] };
    Err(Interrupted::RestartBlock(Resume { call, deadline: Some(deadline) }).into())
}

/// A sleep that was interrupted goes on until the deadline it had.
pub(crate) async fn resume_sleep(thread: &Arc<Thread>, resume: Resume) -> Result<usize, Failure> {
    let [remaining, ..] = resume.call.arguments;
    sleep(thread, resume.deadline.unwrap_or(u64::MAX), Out::at(remaining), resume.call.number as u32).await
}

/// Sets the clock that `CLOCK_REALTIME` shows.
fn set_wall_clock(thread: &Arc<Thread>, time: u64) -> Result<(), NotReady> {
    thread.credentials().require(Capability::SysTime)?;
    machine::time::set_wall_clock(time);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_those_linux_has() {
        let clock = |number: u32| Clock::new(number as i32);
        assert_eq!(clock(raw::CLOCK_REALTIME_COARSE), Ok(Clock::Real));
        assert_eq!(clock(raw::CLOCK_BOOTTIME), Ok(Clock::Monotonic));
        assert_eq!(clock(raw::CLOCK_SGI_CYCLE), Err(Errno::EINVAL));
        assert_eq!(clock(99), Err(Errno::EINVAL));
        assert_eq!(Clock::new(-1), Err(Errno::EINVAL));
    }
}
