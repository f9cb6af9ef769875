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
use core::ops::Range;
use core::pin::pin;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Poll, Waker};

use abi::cpus::CpuSet;
use machine::cpu;
use machine::memory::OutOfMemory;
use machine::time;
use sync::{RwSpinLock, SpinGuard, SpinLock};

use crate::clock::{WATCHDOG_LIMIT, add};
use crate::cpu_set::AtomicCpuSet;
use crate::halted::Halted;
use crate::load::LoadAverages;
use crate::longest::{Longest, NOTED};
use crate::per_cpu::{Cpu, CpuTimes, NEVER, Statistics};
use crate::policy::{Arrival, Fair, Policy};
use crate::task::{Parameters, Task};
use crate::timers::{Sleep, Timer, TimerHeap};

/// At most one report of a long poll in this many nanoseconds, unless a later one is this many times as long.
const REPORT_INTERVAL: u64 = 1_000_000_000;
const FAR_LONGER: u64 = 8;

/// A sample of the load that is taken so many nanoseconds after it was due is late: longer than any slice.
const LATE_SAMPLE: u64 = 50_000_000;

/// CPUs that a word of a set tells of.
const WORD: usize = u64::BITS as usize;

/// The queue of a CPU, locked.
type LockedQueue<'a> = SpinGuard<'a, Box<dyn Policy>>;

/// Timers that go off in one alarm.
const EXPIRED_AT_ONCE: usize = 256;

/// What is told of a task that kept its CPU in the kernel for too long, and for how many nanoseconds.
pub type WatchdogHook = Arc<dyn Fn(&Task, u64) + Send + Sync>;

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
    cpus: Box<[Cpu]>,
    /// CPUs that run the main loop.
    online: AtomicCpuSet,
    /// CPUs that halt or are about to.
    halted: Halted,
    /// Tasks started and not over.
    tasks: AtomicUsize,
    /// Tasks there is room for in every queue.
    room: SpinLock<usize>,
    load: LoadAverages,
    watchdog: RwSpinLock<Option<WatchdogHook>>,
    last_report: SpinLock<Report>,
    longest: Longest,
}

/// What the watchdog told last: when, and how long the poll was.
#[derive(Default)]
struct Report {
    time: u64,
    nanoseconds: u64,
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
            tasks: AtomicUsize::new(0),
            room: SpinLock::new(0),
            load: LoadAverages::default(),
            watchdog: RwSpinLock::new(None),
            last_report: SpinLock::default(),
            longest: Longest::default(),
        })
    }

    /// How many CPUs it has queues for.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// Who is told of polls that are too long, from now on. What was longest before is forgotten.
    pub fn set_watchdog(&self, hook: WatchdogHook) {
        self.longest.forget();
        *self.watchdog.write() = Some(hook);
    }

    /// A task without a future, for owners that must know the task before the future can be made.
    pub fn task(self: &Arc<Self>, parameters: &Parameters) -> Arc<Task> {
        Task::new(self.clone(), parameters)
    }

    /// Gives a task its future and lets it run.
    ///
    /// # Errors
    /// [`OutOfMemory`]: the queues have no room for one more. The future is dropped.
    pub fn start(
        &self,
        task: &Arc<Task>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), OutOfMemory> {
        self.make_room()?;
        if task.set_future(Box::pin(future)) {
            self.tasks.fetch_add(1, Ordering::Relaxed);
            task.enqueue();
            self.enqueue(task, Arrival::New);
        }
        Ok(())
    }

    /// A new task that runs `future`: for the kernel's own tasks.
    ///
    /// # Errors
    /// As [`Executor::start`].
    pub fn spawn(
        self: &Arc<Self>,
        parameters: &Parameters,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Arc<Task>, OutOfMemory> {
        let task = self.task(parameters);
        self.start(&task, future)?;
        Ok(task)
    }

    /// Makes sure that every queue can take all tasks and one more, so that a wake-up never allocates.
    fn make_room(&self) -> Result<(), OutOfMemory> {
        let wanted = self.tasks.load(Ordering::Relaxed) + 1;
        let mut room = self.room.lock();
        if wanted > *room {
            let larger = (wanted * 2).max(64);
            for cpu in &self.cpus {
                cpu.queue.lock().reserve(larger)?;
            }
            *room = larger;
        }
        Ok(())
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
        here.waiting.store(queue.waiting(), Ordering::Relaxed);
        // Under the lock, as wakers set it: an order to give way to a later arrival is not lost.
        here.give_way.store(false, Ordering::Relaxed);
        drop(queue);
        match previous {
            Previous::Stays => {}
            Previous::Finished(task) => {
                self.tasks.fetch_sub(1, Ordering::Relaxed);
                drop(task);
            }
            Previous::Moves(task) => self.enqueue(&task, Arrival::Moved),
        }
        here.slice_end.store(slice.map_or(NEVER, |slice| now + slice), Ordering::Relaxed);
        let next = next?;
        here.measure_slice();
        Some((next, now))
    }

    /// Polls `task` and measures it.
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

    /// Takes a task that may come to this CPU's queue, from where most wait. False if there is none.
    fn steal(&self, here: &Cpu, thief: usize) -> bool {
        let mut searched = CpuSet::EMPTY;
        let stolen = loop {
            let waiting = |cpu: &(usize, &Cpu)| cpu.1.waiting.load(Ordering::Relaxed);
            let left = self.cpus.iter().enumerate().filter(|cpu| !searched.contains(cpu.0) && waiting(cpu) > 0);
            let Some((number, victim)) = left.max_by_key(waiting) else { return false };
            searched.insert(number);
            let mut queue = victim.queue.lock();
            let stolen = queue.take(&|task| task.affinity().contains(thief));
            victim.waiting.store(queue.waiting(), Ordering::Relaxed);
            if let Some(stolen) = stolen {
                break stolen;
            }
        };
        let mut queue = here.queue.lock();
        stolen.set_cpu(thief);
        queue.enqueue(stolen, Arrival::Moved);
        here.waiting.store(queue.waiting(), Ordering::Relaxed);
        true
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

    /// Puts a woken or new task in a queue, and makes the CPU take notice if it must.
    pub(crate) fn enqueue(&self, task: &Arc<Task>, arrival: Arrival) {
        let target = self.place(task, arrival);
        let Some(cpu) = self.cpus.get(target) else { return };
        let preempts = {
            let mut queue = cpu.queue.lock();
            task.set_cpu(target);
            let preempts = queue.enqueue(task.clone(), arrival);
            cpu.waiting.store(queue.waiting(), Ordering::Relaxed);
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

    /// The CPUs a task may run on now, those from `index` * 64 on: if none of those it is allowed is there, any.
    fn allowed_word(&self, task: &Task, index: usize) -> u64 {
        let online = self.online.word(index);
        match online & task.affinity_word(index) {
            0 if self.words().all(|word| self.online.word(word) & task.affinity_word(word) == 0) => online,
            allowed => allowed,
        }
    }

    /// The words of sets that tell of CPUs there are.
    fn words(&self) -> Range<usize> {
        0..self.cpus.len().div_ceil(WORD)
    }

    /// Whether a task may run on a CPU. While no CPU runs the main loop yet, it is taken as it comes.
    pub(crate) fn may_run(&self, task: &Task, cpu: usize) -> bool {
        let allowed = self.allowed_word(task, cpu / WORD);
        allowed >> (cpu % WORD) & 1 == 1 || self.is_idle_yet()
    }

    /// No CPU runs the main loop yet.
    fn is_idle_yet(&self) -> bool {
        self.words().all(|word| self.online.word(word) == 0)
    }

    /// Whether a CPU halts that a task could have.
    fn idle_for(&self, task: &Task) -> bool {
        self.words().any(|word| self.halted.cpus().word(word) & self.allowed_word(task, word) != 0)
    }

    /// A task may run on other CPUs than before: it goes where it now belongs if it waits for its turn, and is made to give
    /// way if it runs where it may not.
    pub(crate) fn reconsider(&self, task: &Arc<Task>) {
        let Some((number, cpu, mut queue)) = self.lock_queue_of(task) else { return };
        let misplaced = !self.may_run(task, number);
        if !task.share.is_queued() || !(misplaced || self.idle_for(task)) {
            return;
        }
        let taken = queue.take(&|waiting| ptr::eq(waiting, Arc::as_ptr(task)));
        cpu.waiting.store(queue.waiting(), Ordering::Relaxed);
        if let Some(task) = taken {
            drop(queue);
            self.enqueue(&task, Arrival::Moved);
        } else if misplaced {
            cpu.give_way.store(true, Ordering::Relaxed);
            drop(queue);
            if number != cpu::current() {
                cpu::kick(number);
            }
        }
    }

    /// The CPU a task belongs to, and its queue, locked: the task goes nowhere meanwhile.
    fn lock_queue_of(&self, task: &Task) -> Option<(usize, &Cpu, LockedQueue<'_>)> {
        loop {
            let number = task.cpu();
            let cpu = self.cpus.get(number)?;
            let queue = cpu.queue.lock();
            if task.cpu() == number {
                return Some((number, cpu, queue));
            }
        }
    }

    /// Where a task goes that is to run: the CPU it ran on last if that one halts, else one that halts, else (a new one)
    /// where fewest wait, else (a woken one, for the sake of the caches) where it ran last.
    fn place(&self, task: &Task, arrival: Arrival) -> usize {
        if self.cpus.len() == 1 {
            return 0;
        }
        let last = task.cpu();
        let halted = |word: usize| self.halted.cpus().word(word) & self.allowed_word(task, word);
        if halted(last / WORD) >> (last % WORD) & 1 == 1 {
            return last;
        }
        // Each word is read once: a CPU that is chosen must be one of those that were seen.
        let first_of = |word: usize| lowest(halted(word)).map(|bit| word * WORD + bit);
        if let Some(cpu) = self.words().find_map(first_of) {
            return cpu;
        }
        if self.is_idle_yet() {
            return last.min(self.cpus.len() - 1);
        }
        if arrival != Arrival::New && self.may_run(task, last) {
            return last;
        }
        let waiting = |cpu: &usize| self.cpus.get(*cpu).map_or(usize::MAX, |cpu| cpu.waiting.load(Ordering::Relaxed));
        (0..self.cpus.len()).filter(|cpu| self.may_run(task, *cpu)).min_by_key(waiting).unwrap_or(last)
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

    /// A task kept this CPU in the kernel for `stretch` nanoseconds until now, which is more than [`NOTED`]. Owners of tasks
    /// that enter user mode call it with what `TaskClock::enter_user` measured.
    #[cold]
    pub fn note(&self, task: &Task, stretch: u64) {
        let own = self.cpus.get(cpu::current()).map_or(stretch, |here| here.reading.own_part(stretch));
        self.longest.note(task.clock.activity(), own);
        if stretch > WATCHDOG_LIMIT {
            self.report(task, stretch);
        }
    }

    /// Tells the longest stretch of each activity that had one above [`NOTED`], in nanoseconds.
    pub fn longest_polls(&self, each: impl FnMut(u32, u64)) {
        self.longest.tell(each);
    }

    /// Tells the watchdog's hook that a task kept its CPU in the kernel for `nanoseconds`, but not too often.
    fn report(&self, task: &Task, nanoseconds: u64) {
        {
            let now = time::now();
            let mut last = self.last_report.lock();
            let fresh = last.nanoseconds > 0 && now < last.time + REPORT_INTERVAL;
            if fresh && nanoseconds < last.nanoseconds.saturating_mul(FAR_LONGER) {
                return;
            }
            *last = Report { time: now, nanoseconds };
        }
        let hook = self.watchdog.read().clone();
        if let Some(hook) = hook {
            hook(task, nanoseconds);
        }
    }

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
    fn sample_load(&self, now: u64, polled: Option<&Cpu>) {
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

/// The number of the lowest bit that is set.
fn lowest(bits: u64) -> Option<usize> {
    (bits != 0).then(|| bits.trailing_zeros() as usize)
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
