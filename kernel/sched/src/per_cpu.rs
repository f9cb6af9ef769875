//! What belongs to one CPU: its queue, its timers, its alarm, where its time went.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use machine::time;
use sync::SpinLock;

use crate::longest::Reading;
use crate::policy::Policy;
use crate::timers::TimerHeap;

/// No alarm is set, no slice is running.
pub(crate) const NEVER: u64 = u64::MAX;

/// What belongs to one CPU. In cache lines of its own.
#[repr(align(128))]
pub(crate) struct Cpu {
    pub queue: SpinLock<Box<dyn Policy>>,
    /// How many wait in the queue, for those who look without the lock.
    pub waiting: AtomicUsize,
    /// The weights of all that want this CPU, likewise.
    pub load: AtomicU64,
    /// When it looks next whether some of those who wait would be better off elsewhere.
    pub balance_at: AtomicU64,
    /// The current task should give way: something better waits, or its slice is over.
    pub give_way: AtomicBool,
    /// The identity of the task being polled, 0 if none.
    pub identity: AtomicU32,
    /// When the current task's slice is over.
    pub slice_end: AtomicU64,
    /// What the machine's alarm is set to. It may be earlier than anything we wait for: it is set anew when it goes off.
    pub alarm: AtomicU64,
    pub timers: SpinLock<TimerHeap>,
    pub times: CpuClock,
    pub reading: Reading,
}

/// Where a CPU's time went. One writer: the CPU.
#[derive(Default)]
pub(crate) struct CpuClock {
    pub user: AtomicU64,
    pub system: AtomicU64,
    pub idle: AtomicU64,
    pub stolen: AtomicU64,
    pub switches: AtomicU64,
    /// When the present poll or halt began, and which of them it is.
    pub since: AtomicU64,
    pub halted: AtomicBool,
    pub polling: AtomicBool,
}

impl Cpu {
    pub fn new(policy: Box<dyn Policy>) -> Cpu {
        Cpu {
            queue: SpinLock::new(policy),
            waiting: AtomicUsize::new(0),
            load: AtomicU64::new(0),
            balance_at: AtomicU64::new(0),
            give_way: AtomicBool::new(false),
            identity: AtomicU32::new(0),
            slice_end: AtomicU64::new(NEVER),
            alarm: AtomicU64::new(NEVER),
            timers: SpinLock::default(),
            times: CpuClock::default(),
            reading: Reading::default(),
        }
    }

    /// Tells those who look without the lock what is in the queue.
    pub fn show(&self, queue: &dyn Policy) {
        let demand = queue.demand();
        self.waiting.store(demand.waiting, Ordering::Relaxed);
        self.load.store(demand.load, Ordering::Relaxed);
    }

    /// Makes the alarm go off at `deadline` at the latest. Setting it is dear and cancelling it mostly useless, so an
    /// earlier one is left alone.
    pub fn alarm_by(&self, deadline: u64) {
        if deadline < self.alarm.load(Ordering::Relaxed) {
            self.alarm.store(deadline, Ordering::Relaxed);
            time::set_alarm(Some(deadline));
        }
    }

    /// Begins to measure the current task's slice if others wait.
    pub fn measure_slice(&self) {
        let end = self.slice_end.load(Ordering::Relaxed);
        if end != NEVER && self.waiting.load(Ordering::Relaxed) > 0 {
            self.alarm_by(end);
        }
    }
}

/// Nanoseconds of one CPU since boot, see `/proc/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In user mode.
    pub user: u64,
    /// In the kernel, for some task.
    pub system: u64,
    /// Halted.
    pub idle: u64,
    /// Taken away by whoever runs this machine.
    pub stolen: u64,
}

/// Totals since boot.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Each CPU's times.
    pub cpus: Vec<CpuTimes>,
    /// Times a CPU went from one task to another.
    pub switches: u64,
    /// Tasks that run or want to, now.
    pub running: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Fifo;

    #[test]
    fn an_alarm_only_ever_moves_forward_and_a_slice_is_measured_if_others_wait() {
        let cpu = Cpu::new(Box::new(Fifo::default()));
        let alarm = || cpu.alarm.load(Ordering::Relaxed);
        // So far away that none goes off.
        let far = NEVER / 2;
        for (deadline, expected) in [(far, far), (far + 1, far), (far, far), (far - 1, far - 1)] {
            cpu.alarm_by(deadline);
            assert_eq!(alarm(), expected);
        }
        cpu.measure_slice();
        cpu.slice_end.store(far - 2, Ordering::Relaxed);
        cpu.measure_slice();
        assert_eq!(alarm(), far - 1, "nobody waits");
        cpu.waiting.store(1, Ordering::Relaxed);
        cpu.measure_slice();
        assert_eq!(alarm(), far - 2);
    }

    #[test]
    fn no_slice_is_no_alarm() {
        let cpu = Cpu::new(Box::new(Fifo::default()));
        cpu.waiting.store(1, Ordering::Relaxed);
        cpu.measure_slice();
        assert_eq!(cpu.alarm.load(Ordering::Relaxed), NEVER);
    }
}
