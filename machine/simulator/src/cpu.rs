//! The one machine's CPUs, as the boundary asks for them.

use crate::Cpus;
use alloc::sync::Arc;
use boundary::Handler;

/// The most CPUs there can be.
pub const MOST: usize = 255;

pub(crate) static CPUS: Cpus<MOST> = Cpus::new();

/// Time does not pass while a CPU is kept waiting.
pub const ARE_THREADS: bool = false;

pub use crate::relax;
pub use crate::relax as let_others_run;

/// How many CPUs there are.
pub fn count() -> usize {
    CPUS.clock.count()
}

/// Sets how many: for tests, before anything is made per CPU.
pub fn set_count(count: usize) {
    CPUS.clock.set_count(count);
}

/// The CPU this thread plays.
pub fn current() -> usize {
    CPUS.current()
}

/// Makes this thread play `cpu`: for tests.
pub fn set_current(cpu: usize) {
    CPUS.set_current(cpu);
}

/// The index: nothing is done ahead here that is this machine's to bound.
pub fn clamp_index(index: usize, _length: usize) -> usize {
    index
}

/// Sets the kernel's handler.
pub fn install(handler: Arc<dyn Handler>) {
    CPUS.install(handler);
}

/// Runs `main` on this thread, as CPU 0.
pub fn start(main: Arc<dyn Fn(usize) + Send + Sync>) -> ! {
    main(0);
    loop {
        wait_for_interrupt();
    }
}

/// Interrupts `cpu`.
pub fn kick(cpu: usize) {
    CPUS.clock.kick(cpu);
}

/// Lets time go on to what this CPU waits for, and handles it.
pub fn wait_for_interrupt() {
    CPUS.wait_for_interrupt();
}

/// Handles what is pending.
pub fn take_interrupts() {
    CPUS.take_interrupts();
}
