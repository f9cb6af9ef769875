//! The order of a run queue.
//!
//! A [`Policy`] orders the tasks of *one* CPU. The executor calls it with that queue's lock held, so a policy is plain
//! sequential code; it decides who is next, for how long, and whether a newcomer is worth an interruption. Two are here:
//! [`Fair`], the default, and [`Fifo`].
//!
//! A task the policy handed out with [`Policy::pick`] is the *current* one until `put_back` or `leave`.

mod fair;
mod fifo;
mod queue;
#[cfg(test)]
pub(crate) mod simulation;
mod weight;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use queue::Node;
use sync::SpinLock;

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
    /// A task joins the queue, which must not allocate: a task that waits brings the node it is in the queue with. True if it should run before the current one.
    fn enqueue(&mut self, task: Arc<Task>, arrival: Arrival) -> bool;

    /// The task that runs next. It becomes the current one.
    fn pick(&mut self) -> Option<Arc<Task>>;

    /// The current task has run for so long.
    fn charge(&mut self, current: &Task, nanoseconds: u64);

    /// The current task goes back in the queue: it was interrupted, or `gave_way` of its own will.
    fn put_back(&mut self, current: Arc<Task>, gave_way: bool);

    /// The current task goes to sleep or is over.
    fn leave(&mut self, current: &Task);

    /// Of the first `most` that wait, the first that `wanted` accepts leaves for another CPU.
    fn take(&mut self, most: usize, wanted: &dyn Fn(&Task) -> bool) -> Option<Arc<Task>>;

    /// How long the current task may run while others wait. `None`: as long as it likes.
    fn slice(&self) -> Option<u64>;

    /// A task of this queue, waiting or current, gets another weight.
    fn reweigh(&mut self, task: &Task, weight: u32);

    /// How many want this CPU, and how much.
    fn demand(&self) -> Demand;

    /// How many wait, without the current one.
    fn waiting(&self) -> usize {
        self.demand().waiting
    }
}

/// How many want a CPU, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Those who wait, without the current one.
    pub waiting: usize,
    /// The weights of all, the current one included.
    pub load: u64,
}

/// What a policy keeps in each task. Written only with the lock of the queue the task is in, or by whoever holds the
/// task between two queues; atomics, relaxed, because tasks are shared.
pub struct SchedEntity {
    /// Counted in some queue's load: waiting or current.
    queued: AtomicBool,
    weight: AtomicU32,
    virtual_time: AtomicU64,
    deadline: AtomicU64,
    lag: AtomicI64,
    /// What it is in a queue with, while it is in none.
    node: SpinLock<Option<Box<Node>>>,
}

impl SchedEntity {
    pub(crate) fn new(weight: u32) -> SchedEntity {
        SchedEntity {
            queued: AtomicBool::new(false),
            weight: AtomicU32::new(weight),
            virtual_time: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            lag: AtomicI64::new(0),
            node: SpinLock::new(Some(Box::default())),
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

    /// Gives its node to a queue. A task that is in one already, which is nobody's intention, gets another.
    #[inline]
    fn take_node(&self) -> Box<Node> {
        self.node.lock().take().unwrap_or_default()
    }

    /// It gets its node back from a queue.
    #[inline]
    fn give_node(&self, node: Box<Node>) {
        *self.node.lock() = Some(node);
    }

    #[cfg(test)]
    fn has_node(&self) -> bool {
        self.node.lock().is_some()
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
