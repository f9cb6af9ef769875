//! The watchdog: who kept a CPU in the kernel for too long, and what the longest such times were.

use alloc::sync::Arc;

use machine::{cpu, time};
use sync::{RwSpinLock, SpinLock};

use crate::clock::WATCHDOG_LIMIT;
use crate::longest::Longest;
use crate::{Executor, Task};

/// At most one report of a long poll in this many nanoseconds, unless a later one is this many times as long.
pub(crate) const REPORT_INTERVAL: u64 = 1_000_000_000;
pub(crate) const FAR_LONGER: u64 = 8;

/// What is told of a task that kept its CPU in the kernel for too long, and for how many nanoseconds.
pub type WatchdogHook = Arc<dyn Fn(&Task, u64) + Send + Sync>;

/// What the watchdog told last: when, and how long the poll was.
#[derive(Default)]
pub(crate) struct Report {
    pub time: u64,
    pub nanoseconds: u64,
}

/// What the executor knows of polls that took long.
#[derive(Default)]
pub(crate) struct Watchdog {
    hook: RwSpinLock<Option<WatchdogHook>>,
    pub last_report: SpinLock<Report>,
    longest: Longest,
}

impl Executor {
    /// Who is told of polls that are too long, from now on. What was longest before is forgotten.
    pub fn set_watchdog(&self, hook: WatchdogHook) {
        self.watchdog.longest.forget();
        *self.watchdog.hook.write() = Some(hook);
    }

    /// A task kept this CPU in the kernel for `stretch` nanoseconds until now, which is more than [`crate::NOTED`]. Owners of tasks
    /// that enter user mode call it with what `TaskClock::enter_user` measured.
    #[cold]
    pub fn note(&self, task: &Task, stretch: u64) {
        let own = self.cpus.get(cpu::current()).map_or(stretch, |here| here.reading.own_part(stretch));
        self.watchdog.longest.note(task.clock.activity(), own);
        if stretch > WATCHDOG_LIMIT {
            self.report(task, stretch);
        }
    }

    /// Tells the longest stretch of each activity that had one above [`NOTED`], in nanoseconds.
    pub fn longest_polls(&self, each: impl FnMut(u32, u64)) {
        self.watchdog.longest.tell(each);
    }

    /// Tells the watchdog's hook that a task kept its CPU in the kernel for `nanoseconds`, but not too often.
    pub(crate) fn report(&self, task: &Task, nanoseconds: u64) {
        {
            let now = time::now();
            let mut last = self.watchdog.last_report.lock();
            let fresh = last.nanoseconds > 0 && now < last.time + REPORT_INTERVAL;
            if fresh && nanoseconds < last.nanoseconds.saturating_mul(FAR_LONGER) {
                return;
            }
            *last = Report { time: now, nanoseconds };
        }
        let hook = self.watchdog.hook.read().clone();
        if let Some(hook) = hook {
            hook(task, nanoseconds);
        }
    }
}
