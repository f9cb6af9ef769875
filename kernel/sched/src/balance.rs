//! Which CPU a task runs on: where it goes when it is woken, and who takes it or sends it elsewhere later.
//!
//! - **A wake-up** ([`Executor::place`]) goes to a CPU that halts, if the task may run on one, else where it ran last.
//! - **A CPU without work** ([`Executor::steal`]) takes from where most wait, of all CPUs, before it halts.
//! - **A CPU where others wait** ([`Executor::balance`]) looks from time to time whether they would be better off elsewhere, though
//!   nobody is idle: three that compute on one CPU and one on another become two and two.

use alloc::sync::Arc;
use core::cell::Cell;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;

use abi::cpus::CpuSet;
use machine::cpu;

use crate::per_cpu::Cpu;
use crate::policy::Arrival;
use crate::{Executor, Task};

/// CPUs that a word of a set tells of.
const WORD: usize = u64::BITS as usize;

/// Nanoseconds from one look to the next at who would be better off elsewhere.
const BALANCE_INTERVAL: u64 = 10_000_000;

/// The tasks that may be sent elsewhere at one look, and how many of those that wait are asked for each.
const SENT_AT_ONCE: usize = 32;
const LOOKED_AT: usize = 8;

impl Executor {
    /// Where a task goes that is to run: the CPU it ran on last if that one halts, else one that halts, else (a new one)
    /// where fewest wait, else (a woken one, for the sake of the caches) where it ran last.
    pub(crate) fn place(&self, task: &Task, arrival: Arrival) -> usize {
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

    /// Takes a task that may come to this CPU's queue, from where most wait. False if there is none.
    pub(crate) fn steal(&self, here: &Cpu, thief: usize) -> bool {
        let mut searched = CpuSet::EMPTY;
        let stolen = loop {
            let waiting = |cpu: &(usize, &Cpu)| cpu.1.waiting.load(Ordering::Relaxed);
            let left = self.cpus.iter().enumerate().filter(|cpu| !searched.contains(cpu.0) && waiting(cpu) > 0);
            let Some((number, victim)) = left.max_by_key(waiting) else { return false };
            searched.insert(number);
            let mut queue = victim.queue.lock();
            let stolen = queue.take(usize::MAX, &|task| task.affinity().contains(thief));
            victim.show(&**queue);
            if let Some(stolen) = stolen {
                break stolen;
            }
        };
        let mut queue = here.queue.lock();
        stolen.set_cpu(thief);
        queue.enqueue(stolen, Arrival::Moved);
        here.show(&**queue);
        true
    }

    /// Sends some of those who wait here to CPUs that fewer want, each counted with its weight. Nobody goes where as many would want the
    /// CPU as here: so two CPUs don't send one another the same task.
    #[cold]
    pub(crate) fn balance(&self, here: &Cpu, number: usize, now: u64) {
        here.balance_at.store(now + BALANCE_INTERVAL, Ordering::Relaxed);
        for _ in 0..SENT_AT_ONCE {
            let target = Cell::new(number);
            let mut queue = here.queue.lock();
            let load = queue.demand().load;
            let found = queue.take(LOOKED_AT, &|task| {
                target.set(self.lighter(task, load).unwrap_or(number));
                target.get() != number
            });
            here.show(&**queue);
            drop(queue);
            let Some(task) = found else { return };
            self.join(target.get(), &task, Arrival::Moved);
        }
    }

    /// The CPU a task may run on that fewest want, if that is still so when the task has come there from one with this load.
    fn lighter(&self, task: &Task, load: u64) -> Option<usize> {
        let load_of = |cpu: usize| self.cpus.get(cpu).map_or(u64::MAX, |cpu| cpu.load.load(Ordering::Relaxed));
        let target = (0..self.cpus.len()).filter(|cpu| self.may_run(task, *cpu)).min_by_key(|cpu| load_of(*cpu))?;
        (load_of(target).saturating_add(u64::from(task.share.weight())) < load).then_some(target)
    }

    /// A task may run on other CPUs than before: it goes where it now belongs if it waits for its turn, and is made to give
    /// way if it runs where it may not.
    pub(crate) fn reconsider(&self, task: &Arc<Task>) {
        let Some((number, cpu, mut queue)) = self.lock_queue_of(task) else { return };
        let misplaced = !self.may_run(task, number);
        if !task.share.is_queued() || !(misplaced || self.idle_for(task)) {
            return;
        }
        let taken = queue.take(usize::MAX, &|waiting| ptr::eq(waiting, Arc::as_ptr(task)));
        cpu.show(&**queue);
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
    pub(crate) fn idle_for(&self, task: &Task) -> bool {
        self.words().any(|word| self.halted.cpus().word(word) & self.allowed_word(task, word) != 0)
    }
}

/// The number of the lowest bit that is set.
fn lowest(bits: u64) -> Option<usize> {
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}
