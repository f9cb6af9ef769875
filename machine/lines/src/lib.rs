//! Interrupts of a machine whose CPUs are threads.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `handshake` | how the kernel and a thread that runs a program untraced take turns |
//! | `line` | what is pending for one CPU, and where it is |
//! | `patience` | [`Patience`]: how long such a thread is waited for |
//! | `watch` | who looks at the clock for CPUs that run programs |
//!
//! Interrupts are things noted in a CPU's line: a kick, an alarm that is due, handlers of devices. Whoever notes one looks where the CPU
//! is, under the line's lock: one that waits is woken; the program of one that runs a program gets a signal, which its CPU
//! sees as an interrupt.
//!
//! A CPU that waits does so until its alarm. For one that runs a program the watch looks at the clock: a thread that sleeps
//! until the first alarm of such a CPU, and for ever if there is none. It also ends what a CPU waits for by ptrace beyond a
//! deadline: such a wait has no limit of its own.
//!
//! **Who calls.** The host machine, with the number of the CPU a thread plays. A mistake here loses interrupts or ends a program; it
//! breaks no memory. **Who synchronises.** A lock a line, held for single steps; then that of the watch.

#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

pub mod handshake;
mod line;
mod patience;
#[cfg(test)]
mod tests;
mod watch;

pub use line::{Due, Handler, HostThread, World};
pub use patience::Patience;

use cores::Account;
use line::{Line, Pending, Place};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use watch::Watch;

/// A thread that unwound while it held a lock has left all whole: every lock guards single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `condition`, for at most `left` nanoseconds if there is a limit.
fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>, left: Option<u64>) -> MutexGuard<'a, T> {
    match left {
        None => condition.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(left) => {
            let result = condition.wait_timeout(guard, Duration::from_nanos(left));
            result.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// The lines of a machine's CPUs.
pub struct Lines<W: World> {
    count: AtomicUsize,
    lines: Box<[Line<W>]>,
    /// Of numbers no CPU has.
    nobody: Line<W>,
    /// CPUs that do not wait for an interrupt.
    busy: AtomicUsize,
    /// Cores the host gave this process when the machine was made. A CPU's thread asks in vain: it may be tied to one.
    cores: usize,
    watch: Watch,
    world: PhantomData<fn() -> W>,
}

impl<W: World> Lines<W> {
    /// Lines of `count` CPUs that do not run yet, and of as many as there can be.
    pub fn new(count: usize, most: usize) -> Lines<W> {
        Lines {
            count: AtomicUsize::new(count),
            lines: (0..most).map(|_| Line::default()).collect(),
            nobody: Line::default(),
            busy: AtomicUsize::new(count),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            watch: Watch::default(),
            world: PhantomData,
        }
    }

    #[inline]
    fn line(&self, cpu: usize) -> &Line<W> {
        self.lines.get(cpu).unwrap_or(&self.nobody)
    }

    /// How many CPUs there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Sets how many CPUs there are.
    pub fn set_count(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
    }

    fn note(&self, cpu: usize, what: impl FnOnce(&mut Pending)) {
        if let Some(deadline) = self.line(cpu).note(what) {
            self.watch.until(deadline);
        }
    }

    /// Makes every CPU look.
    pub fn kick_all(&self) {
        (0..self.lines.len()).for_each(|cpu| self.note(cpu, |pending| pending.kicked = true));
    }

    /// Makes `cpu`, if there is such a CPU, leave its program or [`Lines::wait_for_interrupt`].
    pub fn kick(&self, cpu: usize) {
        if cpu < self.count() {
            self.note(cpu, |pending| pending.kicked = true);
        }
    }

    /// Lets `cpu` run `handler` as the handler of an interrupt, soon.
    pub fn raise(&self, cpu: usize, handler: Handler) {
        self.note(cpu, |pending| pending.handlers.push(handler));
    }

    /// Sets the alarm of `cpu`, which is in the kernel: so it will look.
    pub fn set_alarm(&self, cpu: usize, deadline: Option<u64>) {
        let line = self.line(cpu);
        lock(&line.pending).alarm = deadline;
        line.raised.notify_all(); // in tests another thread may play the same CPU
    }

    /// Says that `cpu` is about to run a program on `thread`. False if something is pending: then it should not.
    pub fn enter_user(&self, cpu: usize, thread: HostThread) -> bool {
        cores::settle();
        let mut pending = lock(&self.line(cpu).pending);
        if pending.is_due::<W>() {
            return false;
        }
        pending.place = Place::User(thread);
        let alarm = pending.alarm;
        drop(pending);
        self.line(cpu).account.run(thread.process);
        if let Some(alarm) = alarm {
            self.watch.until(alarm);
        }
        true
    }

    /// The program of `cpu` is back.
    pub fn leave_user(&self, cpu: usize) {
        self.line(cpu).go(Place::Kernel, None);
    }

    /// Whether something is pending for `cpu`.
    pub fn is_due(&self, cpu: usize) -> bool {
        lock(&self.line(cpu).pending).is_due::<W>()
    }

    /// Whether the host has a core for the kernel and one for the program of every CPU that is at work.
    pub fn has_cores_to_spare(&self) -> bool {
        2 * self.busy.load(Ordering::Relaxed) <= self.cores
    }

    /// How much the host gave `cpu` of what passed.
    pub fn account(&self, cpu: usize) -> Option<&Account<W>> {
        self.lines.get(cpu).map(|line| &line.account)
    }

    /// Says that `cpu` waits for a traced `thread` of a stub, which runs the stubs' own code, until `body` is over: if that takes beyond
    /// all measure, the thread's process is killed.
    pub fn with_deadline<R>(&self, cpu: usize, thread: cores::Number, body: impl FnOnce() -> R) -> R {
        let line = self.line(cpu);
        let deadline = W::now() + W::patience();
        line.go(Place::Calling(thread), Some(deadline));
        self.watch.until(deadline);
        let result = body();
        line.go(Place::Kernel, None);
        result
    }

    /// Sleeps until something is pending for `cpu`, or the machine is off.
    pub fn wait_for_interrupt(&self, cpu: usize, is_off: impl Fn() -> bool) {
        let line = self.line(cpu);
        let mut pending = lock(&line.pending);
        if !pending.is_due::<W>() {
            cores::leave();
        }
        pending.place = Place::Idle;
        self.busy.fetch_sub(1, Ordering::Relaxed);
        while !pending.is_due::<W>() && !is_off() {
            let left = pending.alarm.map(|deadline| deadline.saturating_sub(W::now()).max(1));
            pending = wait(&line.raised, pending, left);
        }
        self.busy.fetch_add(1, Ordering::Relaxed);
        pending.place = Place::Kernel;
    }

    /// Takes what is pending for `cpu`.
    pub fn take(&self, cpu: usize) -> Due {
        lock(&self.line(cpu).pending).take::<W>()
    }
}
