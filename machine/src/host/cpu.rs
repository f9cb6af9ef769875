//! CPUs of the host machine: threads that know a number.
//!
//! Interrupts are things noted in a CPU's line ([`lines`]): a kick, an alarm that is due, handlers of devices. They are handled where
//! the boundary says: in the window, when the CPU waits, and when it comes back from a program.

use super::account::Host;
use super::confine::state_of;
use super::machine::{InterruptHandler, Machine, as_if_of, current as machine, current_if_told, lock};
use super::stub::probe::{self, Mending, Step};
use crate::cpu::{Handler, MAX_CPUS};
use lines::{Due, Lines, World};
use std::cell::Cell;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

pub use lines::HostThread;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// One more than the highest number a thread of this process ever had.
static PLAYED: AtomicUsize = AtomicUsize::new(1);

/// See [`crate::cpu::ARE_THREADS`].
pub const ARE_THREADS: bool = true;

/// The signal that makes a program come back.
pub const INTERRUPT: libc::c_int = libc::SIGURG;

impl World for Host {
    fn now() -> u64 {
        super::time::now()
    }

    fn interrupt(HostThread { process, thread, .. }: HostThread) {
        if probe::is_on(Mending::Interrupt) {
            // SAFETY: sends a signal.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, INTERRUPT) };
        }
    }

    fn is_away(thread: libc::pid_t) -> bool {
        state_of(thread, thread).is_some_and(|state| state != b't')
    }

    fn kill(thread: libc::pid_t) {
        probe::reached(Step::Deadline);
        if probe::is_on(Mending::Deadline) || machine().is_off() {
            // SAFETY: sends a signal.
            unsafe { libc::kill(thread, libc::SIGKILL) };
        }
    }

    fn patience() -> u64 {
        if probe::is_on(Mending::LongPatience) { 60_000_000_000 } else { 500_000_000 }
    }
}

/// The CPUs of one machine.
pub struct Cpus {
    lines: Lines<Host>,
    handler: OnceLock<Arc<dyn Handler>>,
    watch: Mutex<Option<JoinHandle<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Deref for Cpus {
    type Target = Lines<Host>;

    fn deref(&self) -> &Lines<Host> {
        &self.lines
    }
}

impl Cpus {
    /// `count` CPUs that do not run yet.
    pub fn new(count: usize) -> Cpus {
        Cpus {
            lines: Lines::new(count, MAX_CPUS),
            handler: OnceLock::new(),
            watch: Mutex::default(),
            threads: Mutex::default(),
        }
    }

    /// Waits for the end of the threads that play CPUs 1 and up, and then of the watch, which sees to it that they come to their end.
    pub fn join(&self) {
        loop {
            let Some(thread) = lock(&self.threads).pop() else { break };
            let _ = thread.join();
        }
        self.lines.end_watch();
        if let Some(thread) = lock(&self.watch).take() {
            let _ = thread.join();
        }
    }

    fn keep(&self, thread: Option<JoinHandle<()>>) {
        lock(&self.threads).extend(thread);
    }

    /// Starts the watch.
    pub fn start_watch(&self, machine: &'static Machine) {
        *lock(&self.watch) = machine.spawn("watch", 0, move || machine.cpus.watch());
    }
}

/// See [`Lines::with_deadline`]. Without a limit if this thread plays no CPU.
pub fn with_deadline<R>(thread: libc::pid_t, body: impl FnOnce() -> R) -> R {
    match current_if_told() {
        Some(machine) => machine.cpus.with_deadline(current(), thread, body),
        None => body(),
    }
}

/// CPUs of this machine.
pub fn count() -> usize {
    machine().cpus.count()
}

/// Slots of a [`crate::cpu::PerCpu`]: [`current`] is below this whatever a test sets.
pub fn slots() -> usize {
    MAX_CPUS
}

/// Sets the number of CPUs, 1 to [`MAX_CPUS`]. For tests, before anything is made per CPU.
#[cfg(any(test, feature = "test-hooks"))]
pub fn set_count(count: usize) {
    machine().cpus.set_count(count.clamp(1, MAX_CPUS));
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
    machine().cpus.kick(cpu);
}

/// Lets CPU 0 of `machine` run `handler` as the handler of an interrupt, soon. Called by the threads that play devices: they are told
/// of no machine, and what waits for the program that is interrupted looks at the machine's clock.
pub fn raise(machine: &'static Machine, handler: InterruptHandler) {
    as_if_of(machine, || machine.cpus.raise(0, handler));
}

/// Sleeps until something is pending, and handles it.
pub fn wait_for_interrupt() {
    let machine = machine();
    machine.cpus.wait_for_interrupt(current(), || machine.is_off());
    take_interrupts();
}

/// Handles what is pending for this CPU.
pub fn take_interrupts() {
    let machine = machine();
    machine.check_power();
    let Due { kicked, alarm, handlers } = machine.cpus.take(current());
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
    machine().cpus.set_alarm(current(), deadline);
}
