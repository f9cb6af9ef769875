//! The order of a run queue.
//!
//! A [`Policy`] orders the tasks of *one* CPU. The executor calls it with that queue's lock held, so a policy is plain
//! sequential code; it decides who is next, for how long, and whether a newcomer is worth an interruption. Two are here:
//! [`Fair`], the default, and [`Fifo`].
//!
//! A task the policy handed out with [`Policy::pick`] is the *current* one until `put_back` or `leave`.

mod fair;
mod fifo;
#[cfg(test)]
pub(crate) mod simulation;
mod weight;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use machine::memory::OutOfMemory;

pub use fair::Fair;
pub use fifo::Fifo;
pub use weight::weight_of;

use crate::Task;

/// Why a task joins a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It has never run.
    New,
    /// It waited and was woken.
    Woken,
    /// Another CPU had it in its queue, or ran it.
    Moved,
}

/// The order of one CPU's tasks.
pub trait Policy: Send {
    /// Makes room for `tasks` in all, so that joining the queue never allocates.
    fn reserve(&mut self, tasks: usize) -> Result<(), OutOfMemory>;

    /// A task joins the queue. True if it should run before the current one.
    fn enqueue(&mut self, task: Arc<Task>, arrival: Arrival) -> bool;

    /// The task that runs next. It becomes the current one.
    fn pick(&mut self) -> Option<Arc<Task>>;

    /// The current task has run for so long.
    fn charge(&mut self, current: &Task, nanoseconds: u64);

    /// The current task goes back in the queue: it was interrupted, or `gave_way` of its own will.
    fn put_back(&mut self, current: Arc<Task>, gave_way: bool);

    /// The current task goes to sleep or is over.
    fn leave(&mut self, current: &Task);

    /// The first of the waiting tasks that `wanted` accepts leaves for another CPU.
    fn take(&mut self, wanted: &dyn Fn(&Task) -> bool) -> Option<Arc<Task>>;

    /// How long the current task may run while others wait. `None`: as long as it likes.
    fn slice(&self) -> Option<u64>;

    /// A task of this queue, waiting or current, gets another weight.
    fn reweigh(&mut self, task: &Task, weight: u32);

    /// How many wait, without the current one.
    fn waiting(&self) -> usize;
}

/// What a policy keeps in each task. Written only with the lock of the queue the task is in, or by whoever holds the
/// task between two queues; atomics, relaxed, because tasks are shared.
#[derive(Debug)]
pub struct SchedEntity {
    /// Counted in some queue's load: waiting or current.
    queued: AtomicBool,
    weight: AtomicU32,
    virtual_time: AtomicU64,
    deadline: AtomicU64,
    lag: AtomicI64,
}

impl SchedEntity {
    pub(crate) fn new(weight: u32) -> SchedEntity {
        SchedEntity {
            queued: AtomicBool::new(false),
            weight: AtomicU32::new(weight),
            virtual_time: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            lag: AtomicI64::new(0),
        }
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn set_queued(&self, queued: bool) {
        self.queued.store(queued, Ordering::Relaxed);
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    fn virtual_time(&self) -> u64 {
        self.virtual_time.load(Ordering::Relaxed)
    }

    fn set_virtual_time(&self, time: u64) {
        self.virtual_time.store(time, Ordering::Relaxed);
    }

    fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    fn lag(&self) -> i64 {
        self.lag.load(Ordering::Relaxed)
    }

    fn set_lag(&self, lag: i64) {
        self.lag.store(lag, Ordering::Relaxed);
    }
}
