//! CPUs of the host machine: threads that know a number.

use crate::cpu::{Handler, MAX_CPUS, PerCpu};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

static COUNT: AtomicUsize = AtomicUsize::new(4);

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// CPUs of this machine.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Slots of a [`PerCpu`]: [`current`] is below this whatever a test sets.
pub fn slots() -> usize {
    MAX_CPUS
}

/// Sets the number of CPUs, 1 to [`MAX_CPUS`]. For tests, before anything is made per CPU.
pub fn set_count(count: usize) {
    COUNT.store(count.clamp(1, MAX_CPUS), Ordering::Relaxed);
}

/// The CPU this thread plays: 0 unless told.
pub fn current() -> usize {
    CURRENT.get()
}

/// Makes this thread play `cpu`. For tests.
pub fn set_current(cpu: usize) {
    CURRENT.set(cpu.min(MAX_CPUS - 1));
}

static HANDLER: OnceLock<Arc<dyn Handler>> = OnceLock::new();

/// Installs the handler; the first call counts.
pub fn install(handler: Arc<dyn Handler>) {
    let _ = HANDLER.set(handler);
}

/// What is pending for a CPU.
#[derive(Default)]
struct Pending {
    kicked: bool,
    alarm: Option<u64>,
}

#[derive(Default)]
struct Line {
    pending: Mutex<Pending>,
    raised: Condvar,
}

static LINES: std::sync::LazyLock<PerCpu<Line>> = std::sync::LazyLock::new(|| PerCpu::new(|_| Line::default()));

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the other CPUs as threads and runs `main` on each, on this thread as CPU 0.
pub fn start(main: Arc<dyn Fn(usize) + Send + Sync>) -> ! {
    for cpu in 1..count() {
        let main = main.clone();
        std::thread::spawn(move || {
            set_current(cpu);
            main(cpu);
        });
    }
    set_current(0);
    main(0);
    loop {
        wait_for_interrupt();
    }
}

/// Makes `cpu` leave [`wait_for_interrupt`].
pub fn kick(cpu: usize) {
    if let Some(line) = LINES.of(cpu) {
        lock(&line.pending).kicked = true;
        line.raised.notify_all();
    }
}

/// Sleeps until a kick or the alarm, and handles it.
pub fn wait_for_interrupt() {
    let line = LINES.get();
    let mut pending = lock(&line.pending);
    while !pending.kicked {
        pending = match pending.alarm {
            None => line.raised.wait(pending).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_sub(super::time::now());
                if left == 0 {
                    break;
                }
                let left = Duration::from_nanos(left);
                line.raised.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
    drop(pending);
    take_interrupts();
}

/// Handles what is pending for this CPU.
pub fn take_interrupts() {
    let mut pending = lock(&LINES.get().pending);
    let kicked = std::mem::take(&mut pending.kicked);
    let alarm = pending.alarm.take_if(|deadline| *deadline <= super::time::now()).is_some();
    drop(pending);
    if let Some(handler) = HANDLER.get() {
        if kicked {
            handler.kicked();
        }
        if alarm {
            handler.alarm();
        }
    }
}

/// One turn of a spin loop.
pub fn relax() {
    std::thread::yield_now();
}

pub(super) fn set_alarm(deadline: Option<u64>) {
    let line = LINES.get();
    lock(&line.pending).alarm = deadline;
    line.raised.notify_all();
}
