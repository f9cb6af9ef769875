//! A task: one future, allocated once. Who may poll it is said by its state machine, in `state`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicI8, AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};

use abi::cpus::CpuSet;
use sync::SpinLock;

use crate::clock::TaskClock;
use crate::cpu_set::AtomicCpuSet;
use crate::policy::{Arrival, SchedEntity};
use crate::state::{ACTIVE, DUE, FINISHED, State, Woken};
use crate::{Executor, YieldNow};

/// How a task is to be scheduled, and what it is called.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// What reports call it: for kernel tasks.
    pub name: &'static str,
    /// The owner's number for it: the thread's number, 0 for kernel tasks.
    pub identity: u32,
    /// -20 (most) to 19 (least), see sched(7).
    pub nice: i8,
    /// The CPUs it may run on, a bit each.
    pub affinity: CpuSet,
    /// Where it runs first if that CPU is free.
    pub cpu: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters { name: "kernel", identity: 0, nice: 0, affinity: CpuSet::ALL, cpu: 0 }
    }
}

/// The future with the waker that stands for it, so that a poll needs no new reference. The waker refers to the task that
/// holds it; the ring is broken when the future completes.
struct Body {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
}

/// A future and all the scheduler knows of it.
pub struct Task {
    state: State,
    /// Bits of the task's owner, "look here before going back to user mode"; see [`Task::attention`].
    attention: AtomicU32,
    /// The CPU it runs on, waits for, or ran on last.
    cpu: AtomicU32,
    affinity: AtomicCpuSet,
    nice: AtomicI8,
    identity: u32,
    name: &'static str,
    /// It asked to be put behind the others.
    gave_way: AtomicBool,
    pub(crate) share: SchedEntity,
    pub(crate) clock: TaskClock,
    executor: Arc<Executor>,
    body: SpinLock<Option<Body>>,
}

impl Task {
    /// A task of `executor` that has nothing to do yet: see [`Executor::start`].
    pub(crate) fn new(executor: Arc<Executor>, parameters: &Parameters) -> Arc<Task> {
        let affinity = AtomicCpuSet::new();
        affinity.store(parameters.affinity);
        Arc::new(Task {
            state: State::new(),
            attention: AtomicU32::new(0),
            cpu: AtomicU32::new(parameters.cpu as u32),
            affinity,
            nice: AtomicI8::new(parameters.nice.clamp(-20, 19)),
            identity: parameters.identity,
            name: parameters.name,
            gave_way: AtomicBool::new(false),
            share: SchedEntity::new(crate::policy::weight_of(parameters.nice)),
            clock: TaskClock::new(),
            executor,
            body: SpinLock::new(None),
        })
    }

    /// New or Notified -> Queued: to be put in a queue by the caller.
    pub(crate) fn enqueue(&self) {
        self.state.enqueue();
    }

    /// Gives the task its future. A task that has one, or had one, keeps things as they are: false.
    pub(crate) fn set_future(self: &Arc<Self>, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> bool {
        let mut body = self.body.lock();
        if body.is_some() || self.is_done() {
            return false;
        }
        *body = Some(Body { future, waker: Waker::from(self.clone()) });
        true
    }

    /// The owner's word of things to see to before user mode: pending signals, exit. The executor neither reads nor
    /// writes it. One relaxed load on the way to user mode; whoever sets a bit calls [`Task::interrupt`] afterwards.
    #[inline]
    pub fn attention(&self) -> &AtomicU32 {
        &self.attention
    }

    /// Makes the task look at its attention word soon: it is polled again if it waits, and leaves user mode if it is
    /// there, on whatever CPU.
    pub fn interrupt(self: &Arc<Self>) {
        match self.state.wake() {
            Woken::MustQueue => self.executor.enqueue(self, Arrival::Woken),
            Woken::BeingPolled => {
                let cpu = self.cpu();
                if cpu != machine::cpu::current() {
                    machine::cpu::kick(cpu);
                }
            }
            Woken::Already => {}
        }
    }

    /// The executor it belongs to.
    #[inline]
    pub fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// The owner's number for it.
    pub const fn identity(&self) -> u32 {
        self.identity
    }

    /// What reports call it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The CPU it runs on or ran on last.
    #[inline]
    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed) as usize
    }

    /// Noted by whoever puts it in the queue of `cpu`, under that queue's lock.
    pub(crate) fn set_cpu(&self, cpu: usize) {
        self.cpu.store(cpu as u32, Ordering::Relaxed);
    }

    /// The CPUs it may run on.
    pub fn affinity(&self) -> CpuSet {
        self.affinity.load()
    }

    /// Those of the CPUs from `index` * 64 on that it may run on.
    #[inline]
    pub(crate) fn affinity_word(&self, index: usize) -> u64 {
        self.affinity.word(index)
    }

    /// Allows other CPUs. A task that waits for its turn moves at once if it has to or if a CPU is idle that it may have
    /// now; one that runs where it may not any more is made to give way, and [`Task::is_misplaced`] until it did.
    pub fn set_affinity(self: &Arc<Self>, cpus: CpuSet) {
        self.affinity.store(cpus);
        self.executor.reconsider(self);
    }

    /// Whether it runs, or waits for its turn, on a CPU that it may not run on any more, or is on its way from there.
    pub fn is_misplaced(&self) -> bool {
        self.is_runnable() && !self.executor.may_run(self, self.cpu())
    }

    /// Its nice value, -20 to 19.
    pub fn nice(&self) -> i8 {
        self.nice.load(Ordering::Relaxed)
    }

    /// Changes the nice value, and with it the share of the CPU from now on.
    pub fn set_nice(&self, nice: i8) {
        let nice = nice.clamp(-20, 19);
        self.nice.store(nice, Ordering::Relaxed);
        self.executor.reweigh(self, crate::policy::weight_of(nice));
    }

    /// Whether it runs or stands in a queue: state `R` of /proc.
    pub fn is_runnable(&self) -> bool {
        matches!(self.state.get(), state if state & ACTIVE != 0 && state & FINISHED == 0)
    }

    /// Whether its future has completed.
    pub fn is_done(&self) -> bool {
        self.state.get() & FINISHED != 0
    }

    /// Times and switches so far.
    #[inline]
    pub fn clock(&self) -> &TaskClock {
        &self.clock
    }

    /// Polls once. The caller took the task from a queue.
    pub(crate) fn poll(&self) -> Poll<()> {
        self.state.begin();
        let mut slot = self.body.lock();
        let Some(body) = slot.as_mut() else {
            self.state.finish();
            return Poll::Ready(());
        };
        let result = body.future.as_mut().poll(&mut Context::from_waker(&body.waker));
        if result.is_ready() {
            let body = slot.take();
            drop(slot);
            self.state.finish();
            drop(body);
        }
        result
    }

    /// Gives up the rest of the slice: the other tasks of this CPU run first. For sched_yield(2); to be called by the
    /// task itself.
    pub fn give_way(&self) -> YieldNow {
        self.gave_way.store(true, Ordering::Relaxed);
        crate::yield_now()
    }

    pub(crate) fn take_gave_way(&self) -> bool {
        let gave_way = self.gave_way.load(Ordering::Relaxed);
        if gave_way {
            self.gave_way.store(false, Ordering::Relaxed);
        }
        gave_way
    }

    /// Whether a wake-up came during the poll.
    pub(crate) fn is_due(&self) -> bool {
        self.state.get() & DUE != 0
    }

    /// After a poll that was pending: true if the task sleeps now, false if it is due again and the caller queues it.
    pub(crate) fn end_poll(&self) -> bool {
        self.state.end()
    }

    /// The first wake-up, and any other. Edge 6 of the life of a thread.
    pub(crate) fn wake_up(self: &Arc<Self>) {
        if self.state.wake() == Woken::MustQueue {
            self.executor.enqueue(self, Arrival::Woken);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_up();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_up();
    }
}

impl core::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Task({} {}, state {:#x}, cpu {})", self.name, self.identity, self.state.get(), self.cpu())
    }
}
