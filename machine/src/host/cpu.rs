//! CPUs of the host machine: threads that know a number.
//!
//! Interrupts are things noted in a CPU's [`Line`]: a kick, an alarm that is due, handlers of devices. They are handled where the
//! boundary says: in the window, when the CPU waits, and when it comes back from a program. Whoever notes one looks where the
//! CPU is, under the line's lock: one that waits is woken; the program of one that runs a program gets a
//! signal, which its CPU sees as an interrupt.
//!
//! A CPU that waits does so until its alarm. For one that runs a program the [`watch`] looks at the clock: a thread
//! that sleeps until the first alarm of such a CPU, and for ever if there is none. It also ends what a CPU waits for by ptrace beyond a
//! [deadline](Late): such a wait has no limit of its own.

use super::account::Host;
use super::confine::outside::state_of;
use super::machine::{InterruptHandler, Machine, as_if_of, current as machine, current_if_told, lock};
use super::stub::probe::{self, Mending, Step};
use crate::cpu::{Handler, MAX_CPUS};
use cores::Account;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// One more than the highest number a thread of this process ever had.
static PLAYED: AtomicUsize = AtomicUsize::new(1);

/// See [`crate::cpu::ARE_THREADS`].
pub const ARE_THREADS: bool = true;

/// A thread of a program's process, as the host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostThread {
    /// The process.
    pub process: libc::pid_t,
    /// The thread.
    pub thread: libc::pid_t,
    /// Its CPU waits for it by ptrace.
    pub is_traced: bool,
}

/// The signal that makes a program come back.
pub const INTERRUPT: libc::c_int = libc::SIGURG;

impl HostThread {
    /// Makes the program come back to its CPU. If it is back already, it comes back once more: nobody minds.
    fn interrupt(self) {
        // SAFETY: sends a signal. The thread is not reaped before its CPU has left it, under the line's lock.
        unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, INTERRUPT) };
    }
}

/// Where a CPU is.
#[derive(Clone, Copy, Default)]
enum Place {
    /// In the kernel: it will look.
    #[default]
    Kernel,
    /// Waiting for an interrupt.
    Idle,
    /// Running a program.
    User(HostThread),
    /// Waiting for a traced thread of a stub, which runs the stubs' own code.
    Calling(libc::pid_t),
}

/// What is pending for a CPU.
#[derive(Default)]
struct Pending {
    place: Place,
    kicked: bool,
    alarm: Option<u64>,
    handlers: Vec<InterruptHandler>,
    /// When the traced thread for which this CPU waits has to be back, once it was told to come.
    deadline: Option<u64>,
}

impl Pending {
    /// Makes the program come back.
    fn interrupt(&mut self, thread: HostThread) {
        if probe::is_on(Mending::Interrupt) {
            thread.interrupt();
        }
        if thread.is_traced && self.deadline.is_none() {
            self.deadline = Some(super::time::now() + patience());
        }
    }

    /// What this CPU waits for in vain.
    fn late(&self, now: u64) -> Option<Late> {
        let thread = match self.place {
            Place::User(HostThread { thread, .. }) | Place::Calling(thread) => thread,
            Place::Kernel | Place::Idle => return None,
        };
        let deadline = self.deadline.filter(|deadline| *deadline <= now)?;
        Some(Late { thread, deadline })
    }
    fn is_due(&self) -> bool {
        let alarm_is_due = || self.alarm.is_some_and(|deadline| deadline <= super::time::now());
        self.kicked || !self.handlers.is_empty() || alarm_is_due()
    }
}

/// A traced thread that did not come back in time. No program can bring that about: its thread has all signals open, and stops for each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Late {
    thread: libc::pid_t,
    deadline: u64,
}

impl Late {
    /// Whether it is not back yet. If it is, its CPU only has not come to see it: all of us may have been stopped for long.
    fn is_away(&self) -> bool {
        state_of(self.thread, self.thread).is_some_and(|state| state != b't')
    }

    /// Ends its process, which ends the wait.
    fn kill(&self) {
        probe::reached(Step::Deadline);
        if probe::is_on(Mending::Deadline) || machine().is_off() {
            // SAFETY: sends a signal. The thread is not reaped before its CPU has left it, under the line's lock.
            unsafe { libc::kill(self.thread, libc::SIGKILL) };
        }
    }
}

/// Nanoseconds for which a traced thread is waited for: beyond what a processor that the host is short of could explain.
fn patience() -> u64 {
    if probe::is_on(Mending::LongPatience) { 60_000_000_000 } else { 500_000_000 }
}

#[derive(Default)]
#[repr(align(128))]
struct Line {
    pending: Mutex<Pending>,
    raised: Condvar,
    account: Account<Host>,
}

impl Line {
    /// Notes something, and makes the CPU look. Returns the deadline of what it waits for, if there is one.
    fn note(&self, what: impl FnOnce(&mut Pending)) -> Option<u64> {
        let mut pending = lock(&self.pending);
        what(&mut pending);
        match pending.place {
            Place::Kernel | Place::Calling(_) => {}
            Place::Idle => self.raised.notify_all(),
            Place::User(thread) => pending.interrupt(thread),
        }
        pending.deadline
    }

    /// The CPU goes to another place, where nothing is late yet.
    fn go(&self, place: Place, deadline: Option<u64>) {
        let mut pending = lock(&self.pending);
        (pending.place, pending.deadline) = (place, deadline);
    }

    /// Kills what its CPU waits for in vain.
    fn end_late(&self, now: u64) {
        let Some(late) = lock(&self.pending).late(now).filter(Late::is_away) else { return };
        let pending = lock(&self.pending);
        if pending.late(now) == Some(late) {
            late.kill();
        }
    }
}

/// The thread that looks at the clock for CPUs that run programs.
struct Watch {
    /// When it looks next; `u64::MAX` for never.
    next: Mutex<u64>,
    changed: Condvar,
    /// The CPUs' threads have ended. Written under the lock above.
    is_over: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            next: Mutex::new(u64::MAX),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
            thread: Mutex::default(),
        }
    }
}

/// The CPUs of one machine.
pub struct Cpus {
    count: AtomicUsize,
    lines: Box<[Line]>,
    /// CPUs that do not wait for an interrupt.
    busy: AtomicUsize,
    /// Cores the host gave this process when the machine was made. A CPU's thread asks in vain: it may be tied to one.
    cores: usize,
    handler: OnceLock<Arc<dyn Handler>>,
    watch: Watch,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cpus {
    /// `count` CPUs that do not run yet.
    pub fn new(count: usize) -> Cpus {
        Cpus {
            count: AtomicUsize::new(count),
            lines: (0..MAX_CPUS).map(|_| Line::default()).collect(),
            busy: AtomicUsize::new(count),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            handler: OnceLock::new(),
            watch: Watch::default(),
            threads: Mutex::default(),
        }
    }

    fn line(&self, cpu: usize) -> &Line {
        // SAFETY: numbers of CPUs are below MAX_CPUS, see `set_current`.
        unsafe { self.lines.get_unchecked(cpu) }
    }

    /// Makes every CPU look.
    pub fn kick_all(&self) {
        (0..self.lines.len()).for_each(|cpu| self.note(cpu, |pending| pending.kicked = true));
    }

    fn note(&self, cpu: usize, what: impl FnOnce(&mut Pending)) {
        if let Some(deadline) = self.line(cpu).note(what) {
            self.watch_until(deadline);
        }
    }

    /// Waits for the end of the threads that play CPUs 1 and up, and then of the watch, which sees to it that they come to their end.
    pub fn join(&self) {
        loop {
            let Some(thread) = lock(&self.threads).pop() else { break };
            let _ = thread.join();
        }
        let next = lock(&self.watch.next);
        self.watch.is_over.store(true, Ordering::Relaxed);
        drop(next);
        self.watch.changed.notify_all();
        if let Some(thread) = lock(&self.watch.thread).take() {
            let _ = thread.join();
        }
    }

    fn keep(&self, thread: Option<JoinHandle<()>>) {
        lock(&self.threads).extend(thread);
    }

    /// Says that this CPU is about to run a program on `thread`. False if something is pending: then it should not.
    pub fn enter_user(&self, thread: HostThread) -> bool {
        cores::settle();
        let mut pending = lock(&self.line(current()).pending);
        if pending.is_due() {
            return false;
        }
        pending.place = Place::User(thread);
        let alarm = pending.alarm;
        drop(pending);
        self.line(current()).account.run(thread.process);
        if let Some(alarm) = alarm {
            self.watch_until(alarm);
        }
        true
    }

    /// Whether something is pending for this CPU.
    pub fn is_due(&self) -> bool {
        lock(&self.line(current()).pending).is_due()
    }

    /// Whether the host has a core for the kernel and one for the program of every CPU that is at work.
    pub fn has_cores_to_spare(&self) -> bool {
        2 * self.busy.load(Ordering::Relaxed) <= self.cores
    }

    /// How much the host gave this CPU of what passed.
    pub fn account(&self, cpu: usize) -> Option<&Account<Host>> {
        self.lines.get(cpu).map(|line| &line.account)
    }

    /// This CPU's program is back.
    pub fn leave_user(&self) {
        self.line(current()).go(Place::Kernel, None);
    }

    /// Makes the watch look at `deadline` at the latest.
    fn watch_until(&self, deadline: u64) {
        let mut next = lock(&self.watch.next);
        if deadline < *next {
            *next = deadline;
            drop(next);
            self.watch.changed.notify_all();
        }
    }

    /// Starts the watch.
    pub fn start_watch(&self, machine: &'static Machine) {
        *lock(&self.watch.thread) = machine.spawn("watch", 0, move || watch(machine));
    }

    /// Interrupts the programs of CPUs whose alarm is due, and ends what is late; returns when there is something to do next.
    fn look(&self) -> u64 {
        let now = super::time::now();
        let mut next = u64::MAX;
        for line in self.lines.iter().take(self.count.load(Ordering::Relaxed)) {
            line.end_late(now);
            let mut pending = lock(&line.pending);
            if let (Place::User(thread), Some(alarm)) = (pending.place, pending.alarm) {
                if alarm <= now {
                    pending.interrupt(thread);
                } else {
                    next = next.min(alarm);
                }
            }
            if let Some(deadline) = pending.deadline {
                // One that is late already was killed, or is back: its CPU will see.
                next = next.min(deadline.max(now + patience() / 2));
            }
        }
        next
    }
}

/// Says that this CPU waits for a traced `thread` of a stub, which runs the stubs' own code, until `body` is over: if that takes beyond all
/// measure, the thread's process is killed. Without a limit if this thread plays no CPU.
pub fn with_deadline<R>(thread: libc::pid_t, body: impl FnOnce() -> R) -> R {
    let Some(machine) = current_if_told() else { return body() };
    let line = machine.cpus.line(current());
    let deadline = super::time::now() + patience();
    line.go(Place::Calling(thread), Some(deadline));
    machine.cpus.watch_until(deadline);
    let result = body();
    line.go(Place::Kernel, None);
    result
}

/// Looks at the clock until the CPUs' threads have ended.
fn watch(machine: &'static Machine) {
    let watch = &machine.cpus.watch;
    let mut next = lock(&watch.next);
    while !watch.is_over.load(Ordering::Relaxed) {
        let left = next.saturating_sub(super::time::now());
        if left > 0 {
            let limit = (*next != u64::MAX).then_some(left);
            next = wait(&watch.changed, next, limit);
            continue;
        }
        // A CPU that enters a program meanwhile with an earlier alarm says so after this.
        *next = u64::MAX;
        drop(next);
        let found = machine.cpus.look();
        next = lock(&watch.next);
        *next = found.min(*next);
    }
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

/// CPUs of this machine.
pub fn count() -> usize {
    machine().cpus.count.load(Ordering::Relaxed)
}

/// Slots of a [`crate::cpu::PerCpu`]: [`current`] is below this whatever a test sets.
pub fn slots() -> usize {
    MAX_CPUS
}

/// Sets the number of CPUs, 1 to [`MAX_CPUS`]. For tests, before anything is made per CPU.
pub fn set_count(count: usize) {
    machine().cpus.count.store(count.clamp(1, MAX_CPUS), Ordering::Relaxed);
}

/// The CPU this thread plays: 0 unless told.
#[inline]
pub fn current() -> usize {
    CURRENT.get()
}

/// Makes this thread play `cpu`. For tests, and for the threads that are CPUs.
pub fn set_current(cpu: usize) {
    let cpu = cpu.min(MAX_CPUS - 1);
    PLAYED.fetch_max(cpu + 1, Ordering::SeqCst);
    CURRENT.set(cpu);
}

/// How many CPUs may be reading ([`crate::rcu`]): all below the highest that a thread of this process played.
pub fn readers() -> usize {
    PLAYED.load(Ordering::SeqCst)
}

/// The index: what a CPU of the host does ahead is the host's to bound.
#[inline]
pub fn clamp_index(index: usize, _length: usize) -> usize {
    index
}

/// Installs the handler; the first call counts.
pub fn install(handler: Arc<dyn Handler>) {
    let _ = machine().cpus.handler.set(handler);
}

/// Starts the other CPUs as threads and runs `main` on each, on this thread as CPU 0.
pub fn start(main: Arc<dyn Fn(usize) + Send + Sync>) -> ! {
    let machine = machine();
    for cpu in 1..count() {
        let main = main.clone();
        machine.cpus.keep(machine.spawn(&format!("cpu {cpu}"), cpu, move || run(&*main, cpu)));
    }
    if let Some(pool) = &machine.stubs {
        pool.cpus_are_started();
    }
    set_current(0);
    run(&*main, 0)
}

fn run(main: &(dyn Fn(usize) + Send + Sync), cpu: usize) -> ! {
    main(cpu);
    loop {
        wait_for_interrupt();
    }
}

/// Makes `cpu` leave its program or [`wait_for_interrupt`].
pub fn kick(cpu: usize) {
    let cpus = &machine().cpus;
    if cpu < cpus.count.load(Ordering::Relaxed) {
        cpus.note(cpu, |pending| pending.kicked = true);
    }
}

/// Lets CPU 0 of `machine` run `handler` as the handler of an interrupt, soon. Called by the threads that play devices: they are told
/// of no machine, and what waits for the program that is interrupted looks at the machine's clock.
pub fn raise(machine: &'static Machine, handler: InterruptHandler) {
    as_if_of(machine, || machine.cpus.note(0, |pending| pending.handlers.push(handler)));
}

/// Sleeps until something is pending, and handles it.
pub fn wait_for_interrupt() {
    let machine = machine();
    let line = machine.cpus.line(current());
    let mut pending = lock(&line.pending);
    if !pending.is_due() {
        cores::leave();
    }
    pending.place = Place::Idle;
    machine.cpus.busy.fetch_sub(1, Ordering::Relaxed);
    while !pending.is_due() && !machine.is_off() {
        let left = pending.alarm.map(|deadline| deadline.saturating_sub(super::time::now()).max(1));
        pending = wait(&line.raised, pending, left);
    }
    machine.cpus.busy.fetch_add(1, Ordering::Relaxed);
    pending.place = Place::Kernel;
    drop(pending);
    take_interrupts();
}

/// Handles what is pending for this CPU.
pub fn take_interrupts() {
    let machine = machine();
    machine.check_power();
    let mut pending = lock(&machine.cpus.line(current()).pending);
    let kicked = std::mem::take(&mut pending.kicked);
    let alarm = pending.alarm.take_if(|deadline| *deadline <= super::time::now()).is_some();
    let handlers = std::mem::take(&mut pending.handlers);
    drop(pending);
    for handler in handlers {
        handler();
    }
    if let Some(handler) = machine.cpus.handler.get() {
        if kicked {
            handler.kicked();
        }
        if alarm {
            handler.alarm();
        }
    }
}

/// One turn of a spin loop. There may be more CPUs than the host has: let others go on.
pub fn relax() {
    machine().check_power();
    std::thread::yield_now();
}

/// Sets this CPU's alarm. It is in the kernel, so it will look.
pub(super) fn set_alarm(deadline: Option<u64>) {
    let line = machine().cpus.line(current());
    lock(&line.pending).alarm = deadline;
    line.raised.notify_all(); // in tests another thread may play the same CPU
}
