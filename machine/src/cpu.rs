//! The CPUs: which there are, per-CPU slots, waking one another, waiting for work.
//!
//! The boot CPU calls [`install`] and [`start`] once. From then on every CPU runs the kernel's main with its number, and
//! never leaves it. Interrupt handlers run only inside [`wait_for_interrupt`], [`take_interrupts`] and
//! [`crate::user::enter`], with interrupts off and no lock of the kernel held by this CPU.

use crate::platform;
use alloc::sync::Arc;

pub use crate::per_cpu::{PerCpu, PerCpuCell};
pub use boundary::Handler;
#[cfg(all(not(machine = "pc"), any(test, feature = "test-hooks")))]
pub use platform::cpu::{set_count, set_current};

/// The most CPUs that are used: as many as the older interrupt controllers (xAPIC) can name.
pub const MAX_CPUS: usize = 255;

/// Whether the CPUs are threads of another system, which may let them wait at any point for as long as it likes: then the time
/// something took says little about it.
pub const ARE_THREADS: bool = platform::cpu::ARE_THREADS;

/// How many CPUs there are: their numbers are `0..count()`. Never changes while the kernel runs.
#[inline]
pub fn count() -> usize {
    platform::cpu::count()
}

/// The number of the CPU this code runs on.
#[inline]
pub fn current() -> usize {
    platform::cpu::current()
}

/// Sets the kernel's handler. The first call counts; later ones are ignored.
pub fn install(handler: Arc<dyn Handler>) {
    platform::cpu::install(handler);
}

/// Runs `main(cpu)` on every CPU, beginning with this one. `main` must not return; a CPU on which it does stops.
pub fn start(main: Arc<dyn Fn(usize) + Send + Sync>) -> ! {
    platform::cpu::start(main)
}

/// Makes `cpu` leave user mode or its wait soon; it runs [`Handler::kicked`]. Nothing happens if there is no such CPU.
#[inline]
pub fn kick(cpu: usize) {
    platform::cpu::kick(cpu);
}

/// Halts this CPU until an interrupt, runs its handlers, and returns. An interrupt that was sent before the call is not
/// lost: the call then returns at once.
#[inline]
pub fn wait_for_interrupt() {
    platform::cpu::wait_for_interrupt();
}

/// Runs the handlers of interrupts that are pending now, and returns.
#[inline]
pub fn take_interrupts() {
    platform::cpu::take_interrupts();
}

/// An index that a program chose, if it is below `length`. What the CPU does ahead, while it only guesses that it is, uses index 0
/// (Spectre 1; Linux's array_index_nospec).
#[inline]
pub fn index_below(index: usize, length: usize) -> Option<usize> {
    (index < length).then(|| platform::cpu::clamp_index(index, length))
}

/// One turn of a spin loop: tells the CPU so, and answers other CPUs' requests to forget translations.
#[inline]
pub fn relax() {
    platform::cpu::relax();
}
