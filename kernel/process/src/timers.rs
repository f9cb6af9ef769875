//! Interval timers: alarm(2), setitimer(2).
//!
//! `ITIMER_REAL` is one timer of the executor whose waker posts `SIGALRM` from the alarm's handler and sets the next one.

use alloc::sync::{Arc, Weak};
use alloc::task::Wake;

use abi::raw::general as raw;
use abi::signal::Signal;
use abi::{Errno, Result};
use machine::time;
use sched::Timer;

use crate::signal::{Information, send};
use crate::{Process, Thread};

/// The timers of a process.
#[derive(Default)]
pub struct IntervalTimers {
    real: Option<Armed>,
}

struct Armed {
    timer: Timer,
    /// Nanoseconds to the next time, 0 for never.
    interval: u64,
    alarm: Arc<Alarm>,
}

/// Called when the time is up.
struct Alarm(Weak<Process>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let Some(process) = self.0.upgrade() else { return };
        let spent = {
            let mut timers = process.interval_timers().lock();
            timers.real.take_if(|armed| Arc::ptr_eq(&armed.alarm, &self)).map(|armed| {
                timers.real = again(&process, &armed);
                armed
            })
        };
        // A timer that was changed in this instant is not the one that went off.
        if spent.is_some() {
            let _ = send::post(&process, Information::kernel(Signal::ALRM));
        }
    }
}

/// The timer that follows a periodic one. Periods that have passed unnoticed are left out.
fn again(process: &Arc<Process>, armed: &Armed) -> Option<Armed> {
    let interval = armed.interval;
    let missed = time::now().saturating_sub(armed.timer.deadline()).checked_div(interval)?;
    let next = armed.timer.deadline().saturating_add((missed + 1).saturating_mul(interval));
    arm(process, next, interval)
}

fn arm(process: &Arc<Process>, deadline: u64, interval: u64) -> Option<Armed> {
    let alarm = Arc::new(Alarm(Arc::downgrade(process)));
    let timer = process.kernel().executor().timer(deadline, alarm.clone().into()).ok()?;
    Some(Armed { timer, interval, alarm })
}

/// What is left of a timer, and its period, in nanoseconds; zeros for one that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until it goes off.
    pub value: u64,
    /// From then on.
    pub interval: u64,
}

/// getitimer(2).
///
/// # Errors
/// `EINVAL` for timers that aren't done (`ITIMER_VIRTUAL`, `ITIMER_PROF`).
pub fn get(thread: &Thread, which: i32) -> Result<Setting> {
    check(which)?;
    Ok(setting(&thread.process().interval_timers().lock()))
}

/// setitimer(2): sets a timer and returns what it was.
///
/// # Errors
/// As [`get`]; `ENOMEM`.
pub fn set(thread: &Thread, which: i32, new: Setting) -> Result<Setting> {
    check(which)?;
    let process = thread.process();
    let armed = match new.value {
        0 => None,
        value => Some(arm(process, time::now().saturating_add(value), new.interval).ok_or(Errno::ENOMEM)?),
    };
    let mut timers = process.interval_timers().lock();
    let old = setting(&timers);
    let replaced = core::mem::replace(&mut timers.real, armed);
    drop(timers);
    drop(replaced);
    Ok(old)
}

/// alarm(2): returns the seconds an earlier one had left, rounded to the nearest, but never down to 0.
pub fn alarm(thread: &Thread, seconds: u32) -> u32 {
    const SECOND: u64 = 1_000_000_000;
    let new = Setting { value: u64::from(seconds) * SECOND, interval: 0 };
    match set(thread, raw::ITIMER_REAL as i32, new).unwrap_or_default().value {
        0 => 0,
        left => ((left + SECOND / 2) / SECOND).max(1) as u32,
    }
}

fn check(which: i32) -> Result<()> {
    if which == raw::ITIMER_REAL as i32 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn setting(timers: &IntervalTimers) -> Setting {
    timers.real.as_ref().map_or(Setting::default(), |armed| Setting {
        // One that is about to go off still has something left.
        value: armed.timer.deadline().saturating_sub(time::now()).max(1000),
        interval: armed.interval,
    })
}

impl Process {
    /// At the end.
    pub(crate) fn cancel_timers(&self) {
        let timers = core::mem::take(&mut *self.interval_timers().lock());
        drop(timers);
    }
}
