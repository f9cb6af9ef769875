//! What /proc/stat and /proc/loadavg tell of the CPUs.

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use machine::{cpu, time};

use crate::Executor;
use crate::per_cpu::{Cpu, CpuTimes, Statistics};

/// A sample of the load that is taken so many nanoseconds after it was due is late: longer than any slice.
pub(crate) const LATE_SAMPLE: u64 = 50_000_000;

impl Executor {
    /// Tasks that run or want to, now.
    pub fn running(&self) -> usize {
        let count =
            |cpu: &Cpu| cpu.waiting.load(Ordering::Relaxed) + usize::from(cpu.times.polling.load(Ordering::Relaxed));
        self.cpus.iter().map(count).sum()
    }

    /// Totals for `/proc/stat`.
    #[expect(clippy::disallowed_methods, reason = "as many as there are CPUs")]
    pub fn statistics(&self) -> Statistics {
        let now = time::now();
        let online = cpu::count().min(self.cpus.len());
        let cpus = self.cpus.iter().take(online).map(|cpu| {
            let times = &cpu.times;
            let passing = now.saturating_sub(times.since.load(Ordering::Relaxed));
            let passing_if = |flag: &AtomicBool| if flag.load(Ordering::Relaxed) { passing } else { 0 };
            CpuTimes {
                // A poll in progress is most likely a program computing.
                user: times.user.load(Ordering::Relaxed) + passing_if(&times.polling),
                system: times.system.load(Ordering::Relaxed),
                idle: times.idle.load(Ordering::Relaxed) + passing_if(&times.halted),
                stolen: times.stolen.load(Ordering::Relaxed),
            }
        });
        Statistics {
            cpus: cpus.collect(),
            switches: self.cpus.iter().map(|cpu| cpu.times.switches.load(Ordering::Relaxed)).sum(),
            running: self.running(),
        }
    }

    /// The load averages over 1, 5 and 15 minutes, in units of 1/[`crate::FIXED_ONE`].
    pub fn load_averages(&self) -> [u64; 3] {
        let now = time::now();
        if self.load.is_due(now) {
            self.sample_load(now, None);
        }
        self.load.get()
    }

    /// Takes the samples of the load that are due, on a CPU which has just ended a poll if it is `polled`.
    ///
    /// A sample that is late is one that no CPU came by for: each halted, or was in user mode with nobody waiting for it.
    /// What has begun or was woken since does not count for that time, least of all what ended it, be it a key
    /// after an idle hour.
    #[cold]
    pub(crate) fn sample_load(&self, now: u64, polled: Option<&Cpu>) {
        self.load.sample(now, |due| {
            let late = now - due > LATE_SAMPLE;
            let active = |cpu: &Cpu| {
                let times = &cpu.times;
                let polls = times.polling.load(Ordering::Relaxed) || polled.is_some_and(|polled| ptr::eq(polled, cpu));
                let since_then = polls && (!late || times.since.load(Ordering::Relaxed) <= due);
                usize::from(since_then) + if late { 0 } else { cpu.waiting.load(Ordering::Relaxed) }
            };
            self.cpus.iter().map(active).sum::<usize>() as u64
        });
    }
}
