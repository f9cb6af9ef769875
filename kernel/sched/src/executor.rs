//! The executor: one run queue a CPU, one main loop a CPU.
//!
//! What each CPU does, for ever ([`Executor::run`]):
//!
//! 1. opens the window for interrupts;
//! 2. settles the task that ran last (asleep, back in the queue, or off to another CPU) and takes the next, under one lock;
//! 3. polls it; or else steals from the CPU where most wait that may come; or else halts until an interrupt.
//!
//! No CPU halts while a task that it may have waits elsewhere: a task joins a queue only where no CPU is idle for it, an idle
//! CPU looks at all queues, and a task that is put back behind others goes to a CPU that has become idle since.
//!
//! Who synchronises with whom: a queue has a lock, held for one operation; it is taken by its CPU, by whoever wakes a task
//! that belongs there, and by thieves. No two queue locks are ever held together. A wake-up for this CPU sends nothing
//! to anybody; one for another CPU kicks it only if it halts, must interrupt what it runs, or has to begin measuring
//! slices.
//!
//! A halting CPU and a waker cannot miss each other, see `halted`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::{Poll, Waker};

use machine::cpu;
use machine::memory::OutOfMemory;
use machine::time;
use sync::{SpinGuard, SpinLock};

use crate::clock::add;
use crate::cpu_set::AtomicCpuSet;
use crate::halted::Halted;
use crate::load::LoadAverages;
use crate::longest::NOTED;
use crate::per_cpu::{Cpu, NEVER};
use crate::policy::{Arrival, Fair, Policy};
use crate::task::{Parameters, Task};
use crate::timers::{Sleep, Timer, TimerHeap};
use crate::watchdog::Watchdog;

/// The queue of a CPU, locked.
type LockedQueue<'a> = SpinGuard<'a, Box<dyn Policy>>;

/// Timers that go off in one alarm.
const EXPIRED_AT_ONCE: usize = 256;

/// A task that was polled, until it is previous.
struct Ran {
    task: Arc<Task>,
    nanoseconds: u64,
    end: u64,
    finished: bool,
}

/// What becomes of a task that was polled.
enum Previous {
    /// It is back in the queue, or asleep.
    Stays,
    /// It is to run on another CPU.
    Moves(Arc<Task>),
    /// It is over.
    Finished(Arc<Task>),
}

/// Polls futures on all CPUs. One per kernel; see the module's page.
pub struct Executor {
    pub(crate) cpus: Box<[Cpu]>,
    /// CPUs that run the main loop.
    pub(crate) online: AtomicCpuSet,
    /// CPUs that halt or are about to.
    pub(crate) halted: Halted,
    pub(crate) load: LoadAverages,
    pub(crate) watchdog: Watchdog,
}

impl Executor {
    /// An executor for `cpus` CPUs with the fair policy.
    pub fn new(cpus: usize) -> Arc<Executor> {
        Executor::with_policy(cpus, |_| Box::new(Fair::default()))
    }

    /// An executor whose CPUs order their tasks by the policies `make` gives.
    #[expect(clippy::disallowed_methods, reason = "as many as there are CPUs")]
    pub fn with_policy(cpus: usize, make: impl FnMut(usize) -> Box<dyn Policy>) -> Arc<Executor> {
        let cpus = (0..cpus.clamp(1, cpu::MAX_CPUS)).map(make).map(Cpu::new).collect();
        Arc::new(Executor {
            cpus,
            online: AtomicCpuSet::new(),
            halted: Halted::new(),
            load: LoadAverages::default(),
            watchdog: Watchdog::default(),
        })
    }

    /// How many CPUs it has queues for.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// A task without a future, for owners that must know the task before the future can be made.
    pub fn task(self: &Arc<Self>, parameters: &Parameters) -> Arc<Task> {
        Task::new(self.clone(), parameters)
    }

    /// Gives a task its future and lets it run.
    pub fn start(&self, task: &Arc<Task>, future: impl Future<Output = ()> + Send + 'static) {
        if task.set_future(Box::pin(future)) {
            task.enqueue();
            self.enqueue(task, Arrival::New);
        }
    }

    /// A new task that runs `future`: for the kernel's own tasks.
    pub fn spawn(
        self: &Arc<Self>,
        parameters: &Parameters,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Task> {
        let task = self.task(parameters);
        self.start(&task, future);
        task
    }

    /// The main loop of `cpu`. Called once on each, from the kernel's main.
    pub fn run(&self, cpu: usize) -> ! {
        let Some(here) = self.cpus.get(cpu) else {
            // More CPUs than the kernel has queues for: this one has no work.
            loop {
                cpu::wait_for_interrupt();
            }
        };
        self.online.insert(cpu);
        let mut ran = None;
        loop {
            cpu::take_interrupts();
            ran = match self.next(here, cpu, ran) {
                Some((task, now)) => Some(self.poll(here, task, now)),
                None => self.halt(here, cpu),
            };
        }
    }

    /// Settles the task that ran and takes the next from this CPU's queue, with the time it starts.
    fn next(&self, here: &Cpu, number: usize, ran: Option<Ran>) -> Option<(Arc<Task>, u64)> {
        let now = ran.as_ref().map_or_else(time::now, |ran| ran.end);
        if self.load.is_due(now) {
            self.sample_load(now, ran.is_some().then_some(here));
        }
        let mut queue = here.queue.lock();
        let previous = ran.map_or(Previous::Stays, |ran| self.put_previous(&mut **queue, number, ran));
        let next = loop {
            match queue.pick() {
                // It came, or was put back, while its CPUs were being changed.
                Some(task) if !self.may_run(&task, number) => {
                    queue.leave(&task);
                    drop(queue);
                    self.enqueue(&task, Arrival::Moved);
                    queue = here.queue.lock();
                }
                next => break next,
            }
        };
        let slice = queue.slice();
        here.show(&**queue);
        // Under the lock, as wakers set it: an order to give way to a later arrival is not lost.
        here.give_way.store(false, Ordering::Relaxed);
        drop(queue);
        match previous {
            Previous::Stays => {}
            Previous::Finished(task) => drop(task),
            Previous::Moves(task) => self.enqueue(&task, Arrival::Moved),
        }
        here.slice_end.store(slice.map_or(NEVER, |slice| now + slice), Ordering::Relaxed);
        let next = next?;
        if here.waiting.load(Ordering::Relaxed) > 0 && now >= here.balance_at.load(Ordering::Relaxed) {
            self.balance(here, number, now);
        }
        here.measure_slice();
        Some((next, now))
    }

    /// Polls `task` and measures it. Edge 2 of the life of a thread.
    fn poll(&self, here: &Cpu, task: Arc<Task>, start: u64) -> Ran {
        let times = &here.times;
        let before = task.clock.so_far();
        here.identity.store(task.identity(), Ordering::Relaxed);
        times.since.store(start, Ordering::Relaxed);
        times.polling.store(true, Ordering::Relaxed);
        task.clock.begin(start);
        here.reading.renew(start);
        let finished = task.poll().is_ready();
        let end = time::now();
        let stretch = task.clock.end(end);
        here.identity.store(0, Ordering::Relaxed);
        times.polling.store(false, Ordering::Relaxed);
        let (total, so_far) = (end.saturating_sub(start), task.clock.so_far());
        let (user, system) = (so_far.0.wrapping_sub(before.0), so_far.1.wrapping_sub(before.1));
        add(&times.user, user);
        add(&times.system, system);
        add(&times.stolen, total.saturating_sub(user + system));
        add(&times.switches, 1);
        if stretch > NOTED {
            self.note(&task, stretch);
        }
        Ran { task, nanoseconds: total, end, finished }
    }

    /// Puts the task that ran back in the queue of its CPU, or lets it sleep, or tells what else becomes of it.
    fn put_previous(&self, queue: &mut dyn Policy, number: usize, ran: Ran) -> Previous {
        let Ran { task, nanoseconds, finished, .. } = ran;
        queue.charge(&task, nanoseconds);
        if finished {
            queue.leave(&task);
            return Previous::Finished(task);
        }
        if task.is_due() {
            task.clock.count_preemption();
            task.enqueue();
            let gave_way = task.take_gave_way();
            let others_wait = queue.waiting() > 0;
            if !self.may_run(&task, number) || others_wait && self.idle_for(&task) {
                queue.leave(&task);
                return Previous::Moves(task);
            }
            queue.put_back(task, gave_way);
            return Previous::Stays;
        }
        // Count it out before anybody can count it in elsewhere: from `end_poll` on, another CPU may queue it.
        queue.leave(&task);
        if task.end_poll() {
            task.clock.count_wait();
        } else {
            // Woken in this instant. It has counted itself out; it joins as one that was woken.
            queue.enqueue(task, Arrival::Woken);
        }
        Previous::Stays
    }

    /// Nothing to do here: steals, or waits for an interrupt.
    fn halt(&self, here: &Cpu, number: usize) -> Option<Ran> {
        self.halted.announce(number);
        if here.waiting.load(Ordering::Relaxed) == 0 && !self.steal(here, number) {
            let start = time::now();
            here.times.since.store(start, Ordering::Relaxed);
            here.times.halted.store(true, Ordering::Relaxed);
            cpu::wait_for_interrupt();
            here.times.halted.store(false, Ordering::Relaxed);
            let end = time::now();
            add(&here.times.idle, end.saturating_sub(start));
            if self.load.is_due(end) {
                self.sample_load(end, None);
            }
        }
        self.halted.withdraw(number);
        None
    }

    /// Puts a woken or new task in the queue of the CPU that is best for it.
    pub(crate) fn enqueue(&self, task: &Arc<Task>, arrival: Arrival) {
        self.join(self.place(task, arrival), task, arrival);
    }

    /// Puts a task in the queue of a CPU, which takes notice if it must.
    pub(crate) fn join(&self, target: usize, task: &Arc<Task>, arrival: Arrival) {
        let Some(cpu) = self.cpus.get(target) else { return };
        let preempts = {
            let mut queue = cpu.queue.lock();
            task.set_cpu(target);
            let preempts = queue.enqueue(task.clone(), arrival);
            cpu.show(&**queue);
            if preempts {
                cpu.give_way.store(true, Ordering::Relaxed);
            }
            preempts
        };
        if target == cpu::current() {
            cpu.measure_slice();
            return;
        }
        if self.must_hear(target, cpu, preempts) {
            cpu::kick(target);
        }
    }

    /// Whether another CPU must be interrupted because a task joined its queue.
    fn must_hear(&self, number: usize, cpu: &Cpu, preempts: bool) -> bool {
        let halted = self.halted.claim(number);
        // A CPU that ran one task alone has no alarm set for the end of its slice: its handler sets it.
        let unmeasured = cpu.alarm.load(Ordering::Relaxed) > cpu.slice_end.load(Ordering::Relaxed);
        halted || preempts || unmeasured
    }

    /// The CPU a task belongs to, and its queue, locked: the task goes nowhere meanwhile.
    pub(crate) fn lock_queue_of(&self, task: &Task) -> Option<(usize, &Cpu, LockedQueue<'_>)> {
        loop {
            let number = task.cpu();
            let cpu = self.cpus.get(number)?;
            let queue = cpu.queue.lock();
            if task.cpu() == number {
                return Some((number, cpu, queue));
            }
        }
    }

    /// Changes the weight of a task wherever it is.
    pub(crate) fn reweigh(&self, task: &Task, weight: u32) {
        let Some((_, _, mut queue)) = self.lock_queue_of(task) else { return };
        if task.share.is_queued() {
            queue.reweigh(task, weight);
        } else {
            task.share.set_weight(weight);
        }
    }

    /// Whether the task running on this CPU should let another one run: what a thread asks on its way to user mode, and
    /// long work in the kernel from time to time. If so, [`crate::yield_now`].
    #[inline]
    pub fn should_yield(&self) -> bool {
        self.cpus.get(cpu::current()).is_some_and(|cpu| cpu.give_way.load(Ordering::Relaxed))
    }

    /// Whether another task waits for this CPU.
    pub fn others_wait(&self) -> bool {
        self.cpus.get(cpu::current()).is_some_and(|cpu| cpu.waiting.load(Ordering::Relaxed) > 0)
    }

    /// The identity of the task that this CPU is polling, 0 if none or a task of the kernel: who the kernel works for.
    #[inline]
    pub fn current_identity(&self) -> u32 {
        self.cpus.get(cpu::current()).map_or(0, |cpu| cpu.identity.load(Ordering::Relaxed))
    }

    /// Completes at `deadline`, in nanoseconds of `machine::time::now`. Dropping it takes the timer away.
    pub fn sleep_until(self: &Arc<Self>, deadline: u64) -> Sleep {
        Sleep::new(self.clone(), deadline)
    }

    /// What `future` gives, or `None` if it is not complete at `deadline`; without a deadline it is never given up.
    pub async fn timeout<F: Future>(self: &Arc<Self>, deadline: Option<u64>, future: F) -> Option<F::Output> {
        let Some(deadline) = deadline else { return Some(future.await) };
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep_until(deadline));
        core::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// A timer on this CPU that calls `waker` at `deadline`, from the alarm's handler: the waker must not sleep, nor
    /// allocate.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn timer(self: &Arc<Self>, deadline: u64, waker: Waker) -> Result<Timer, OutOfMemory> {
        Timer::arm(self.clone(), deadline, waker)
    }

    pub(crate) fn timers(&self, cpu: usize) -> Option<&SpinLock<TimerHeap>> {
        self.cpus.get(cpu).map(|cpu| &cpu.timers)
    }

    pub(crate) fn arm_timer(&self, cpu: usize, deadline: u64, waker: Waker) -> Result<u32, OutOfMemory> {
        let cpu = self.cpus.get(cpu).ok_or(OutOfMemory)?;
        let slot = cpu.timers.lock().insert(deadline, waker)?;
        cpu.alarm_by(deadline);
        Ok(slot)
    }

    /// A task came back from user mode at `now`: what follows is measured as a stretch in the kernel.
    #[inline]
    pub fn begin_stretch(&self, now: u64) {
        if let Some(here) = self.cpus.get(cpu::current()) {
            here.reading.renew(now);
        }
    }
}

impl cpu::Handler for Executor {
    fn alarm(&self) {
        let Some(here) = self.cpus.get(cpu::current()) else { return };
        here.alarm.store(NEVER, Ordering::Relaxed);
        let now = time::now();
        // What is left is due at once: the next alarm comes when others have had a turn.
        for _ in 0..EXPIRED_AT_ONCE {
            let waker = here.timers.lock().expire(now);
            let Some(waker) = waker else { break };
            waker.wake();
        }
        if here.waiting.load(Ordering::Relaxed) > 0 && now >= here.slice_end.load(Ordering::Relaxed) {
            here.give_way.store(true, Ordering::Relaxed);
            here.slice_end.store(NEVER, Ordering::Relaxed);
        }
        let next = here.timers.lock().next();
        if let Some(next) = next {
            here.alarm_by(next);
        }
        here.measure_slice();
    }

    fn kicked(&self) {
        if let Some(here) = self.cpus.get(cpu::current()) {
            here.measure_slice();
        }
    }
}

#[cfg(test)]
#[path = "executor_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "measure_tests.rs"]
mod measure_tests;
