//! Interval timers: alarm(2), setitimer(2); and the limit of processor time.
//!
//! `ITIMER_REAL` is one timer of the executor whose waker posts `SIGALRM` from the alarm's handler and sets the next one.
//!
//! `ITIMER_VIRTUAL`, `ITIMER_PROF` and `RLIMIT_CPU` measure processor time, which cannot pass faster than real time (times
//! the number of threads). So a timer of the executor looks when the earliest of them can be due at the soonest, and again,
//! until it is. When the process sleeps at that moment nobody looks any more: its threads carry a bit of
//! attention, and the first one that runs again starts the watch anew.

use alloc::sync::{Arc, Weak};
use alloc::task::Wake;

use abi::raw::general as raw;
use abi::signal::Signal;
use abi::{Errno, Result};
use machine::time;
use sched::Timer;

use crate::limits::Resource;
use crate::signal::{Information, attention, send};
use crate::{Process, Thread};

/// The timers of a process.
#[derive(Default)]
pub struct IntervalTimers {
    real: Option<Armed>,
    /// `ITIMER_VIRTUAL`, by time in user mode.
    user: Option<ProcessorTimer>,
    /// `ITIMER_PROF`, by all its time.
    all: Option<ProcessorTimer>,
    /// Who looks at these two and the limit.
    watch: Option<Timer>,
}

/// A timer of processor time.
#[derive(Clone, Copy)]
struct ProcessorTimer {
    /// Goes off when the process has run for so long.
    expiry: u64,
    interval: u64,
}

/// The shortest time between two looks.
const LOOK: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

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
            let spent = timers.real.take_if(|armed| Arc::ptr_eq(&armed.alarm, &self));
            if let Some(armed) = &spent {
                timers.real = again(&process, armed);
            }
            spent
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

/// Which timer: the first argument of setitimer(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Real,
    User,
    All,
}

impl Which {
    fn new(which: i32) -> Result<Which> {
        match which as u32 {
            raw::ITIMER_REAL => Ok(Which::Real),
            raw::ITIMER_VIRTUAL => Ok(Which::User),
            raw::ITIMER_PROF => Ok(Which::All),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// getitimer(2).
///
/// # Errors
/// `EINVAL` for a timer there isn't.
pub fn get(thread: &Thread, which: i32) -> Result<Setting> {
    let which = Which::new(which)?;
    let times = thread.process().processor_times();
    Ok(setting(&thread.process().interval_timers().lock(), which, times))
}

/// setitimer(2): sets a timer and returns what it was.
///
/// # Errors
/// As [`get`]; `ENOMEM`.
pub fn set(thread: &Thread, which: i32, new: Setting) -> Result<Setting> {
    let which = Which::new(which)?;
    let process = thread.process();
    let times = process.processor_times();
    let on = new.value != 0;
    let armed = if which == Which::Real && on {
        Some(arm(process, time::now().saturating_add(new.value), new.interval).ok_or(Errno::ENOMEM)?)
    } else {
        None
    };
    let timer =
        |passed: u64| on.then(|| ProcessorTimer { expiry: passed.saturating_add(new.value), interval: new.interval });
    let mut timers = process.interval_timers().lock();
    let old = setting(&timers, which, times);
    let mut replaced = None;
    match which {
        Which::Real => replaced = core::mem::replace(&mut timers.real, armed),
        Which::User => timers.user = timer(times.0),
        Which::All => timers.all = timer(times.0 + times.1),
    }
    drop(timers);
    drop(replaced);
    if which != Which::Real {
        process.begin_watching_processor_time();
    }
    Ok(old)
}

/// alarm(2): returns the seconds an earlier one had left, rounded to the nearest, but never down to 0.
pub fn alarm(thread: &Thread, seconds: u32) -> u32 {
    let new = Setting { value: u64::from(seconds) * SECOND, interval: 0 };
    match set(thread, raw::ITIMER_REAL as i32, new).unwrap_or_default().value {
        0 => 0,
        left => ((left + SECOND / 2) / SECOND).max(1) as u32,
    }
}

fn setting(timers: &IntervalTimers, which: Which, times: (u64, u64)) -> Setting {
    // One that is about to go off still has something left.
    let left = |value: u64, interval| Setting { value: value.max(1000), interval };
    let processor = |timer: &Option<ProcessorTimer>, passed: u64| {
        timer.map_or(Setting::default(), |timer| left(timer.expiry.saturating_sub(passed), timer.interval))
    };
    match which {
        Which::Real => timers.real.as_ref().map_or(Setting::default(), |armed| {
            left(armed.timer.deadline().saturating_sub(time::now()), armed.interval)
        }),
        Which::User => processor(&timers.user, times.0),
        Which::All => processor(&timers.all, times.0 + times.1),
    }
}

/// Called when it is time to look at processor time.
struct Watch(Weak<Process>);

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        if let Some(process) = self.0.upgrade() {
            process.watch_processor_time();
        }
    }
}

impl ProcessorTimer {
    /// Whether it is due; then it is set for the next time, or off.
    fn expire(timer: &mut Option<ProcessorTimer>, passed: u64) -> bool {
        let Some(due) = timer.filter(|timer| timer.expiry <= passed) else { return false };
        *timer = (due.interval > 0).then(|| {
            let missed = (passed - due.expiry) / due.interval;
            let expiry = due.expiry.saturating_add((missed + 1).saturating_mul(due.interval));
            ProcessorTimer { expiry, ..due }
        });
        true
    }
}

impl Process {
    /// Whether anything measures processor time.
    pub(crate) fn watches_processor_time(&self) -> bool {
        let timers = self.interval_timers().lock();
        timers.user.is_some() || timers.all.is_some() || self.limits().soft(Resource::Cpu) != u64::MAX
    }

    /// Something begins to: whichever thread goes to user mode next starts the watch.
    pub(crate) fn begin_watching_processor_time(&self) {
        self.each_thread(|thread| thread.raise_attention(attention::PROCESSOR_TIMERS));
    }

    /// Looks at what is due, and sees to it that somebody looks again.
    pub(crate) fn watch_processor_time(self: &Arc<Self>) {
        let (user, system) = self.processor_times();
        let all = user + system;
        let mut timers = self.interval_timers().lock();
        let rings = [
            (ProcessorTimer::expire(&mut timers.user, user), Signal::VTALRM),
            (ProcessorTimer::expire(&mut timers.all, all), Signal::PROF),
        ];
        let next = [timers.user.map(|timer| timer.expiry - user), timers.all.map(|timer| timer.expiry - all)];
        drop(timers);
        for (_, signal) in rings.into_iter().filter(|(due, _)| *due) {
            let _ = send::post(self, Information::kernel(signal));
        }
        let next = next.into_iter().flatten().chain(self.check_processor_limit(all)).min();
        if let Some(next) = next.filter(|_| !self.is_dead()) {
            self.look_again(next);
        }
    }

    /// `RLIMIT_CPU`: a warning each second from the soft limit on, the end at the hard one. Returns how much is left.
    fn check_processor_limit(self: &Arc<Self>, all: u64) -> Option<u64> {
        let mut limits = self.lock_limits();
        let limit = limits.get(Resource::Cpu);
        let signal = if all / SECOND >= limit.hard {
            Some(Signal::KILL)
        } else if all / SECOND >= limit.soft {
            limits.extend_processor_time();
            Some(Signal::XCPU)
        } else {
            None
        };
        let soft = limits.soft(Resource::Cpu).min(limit.hard);
        drop(limits);
        if let Some(signal) = signal {
            let _ = send::post(self, Information::kernel(signal));
        }
        (soft != u64::MAX).then(|| soft.saturating_mul(SECOND).saturating_sub(all))
    }

    /// Sets the next look for when `left` can have passed at the soonest, if somebody runs now.
    fn look_again(self: &Arc<Self>, left: u64) {
        let (mut threads, mut running) = (0, false);
        self.each_thread(|thread| {
            threads += 1;
            running |= thread.task().is_runnable();
        });
        let watch = Arc::new(Watch(Arc::downgrade(self)));
        let deadline = time::now().saturating_add(soonest(left, threads));
        let timer = if running { self.kernel().executor().timer(deadline, watch.into()).ok() } else { None };
        if timer.is_none() {
            self.begin_watching_processor_time();
        }
        let old = core::mem::replace(&mut self.interval_timers().lock().watch, timer);
        drop(old);
    }

    /// At the end.
    pub(crate) fn cancel_timers(&self) {
        let timers = core::mem::take(&mut *self.interval_timers().lock());
        drop(timers);
    }
}

/// How long it takes so many threads at least to use up `left`, each on a processor of its own.
fn soonest(left: u64, threads: u64) -> u64 {
    (left / threads.max(1)).max(LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_threads_the_sooner_is_looked_again() {
        assert_eq!([0, 1, 2, 3].map(|threads| soonest(6 * SECOND, threads)), [6, 6, 3, 2].map(|count| count * SECOND));
        assert_eq!((soonest(5, 1), soonest(6 * LOOK, 100)), (LOOK, LOOK));
    }

    /// What is set after so much time, and whether it rang.
    fn after(passed: u64, interval: u64) -> (bool, Option<u64>) {
        let mut timer = Some(ProcessorTimer { expiry: 100, interval });
        let rang = ProcessorTimer::expire(&mut timer, passed);
        (rang, timer.map(|timer| timer.expiry))
    }

    #[test]
    fn a_timer_of_processor_time_rings_once_for_all_periods_that_passed() {
        assert_eq!((after(99, 0), after(100, 0)), ((false, Some(100)), (true, None)));
        for (passed, next) in [(100, 110), (109, 110), (110, 120), (125, 130)] {
            assert_eq!(after(passed, 10), (true, Some(next)), "{passed}");
        }
        let mut off = None;
        assert!(!ProcessorTimer::expire(&mut off, u64::MAX));
    }

    #[test]
    fn what_is_left_is_told_by_its_own_clock_and_is_never_nothing() {
        let timer = |expiry, interval| Some(ProcessorTimer { expiry, interval });
        let timers = IntervalTimers { user: timer(10_000, 5), all: timer(30_000, 6), ..IntervalTimers::default() };
        let times = (4_000, 2_000);
        assert_eq!(setting(&timers, Which::User, times), Setting { value: 6_000, interval: 5 });
        assert_eq!(setting(&timers, Which::All, times), Setting { value: 24_000, interval: 6 });
        assert_eq!(setting(&timers, Which::Real, times), Setting::default());
        assert_eq!(setting(&timers, Which::User, (20_000, 0)), Setting { value: 1_000, interval: 5 });
    }
}
