//! The machine's own spin lock: a CPU that waits answers other CPUs' requests meanwhile.

use spin::mutex::SpinMutex;
use spin::relax::RelaxStrategy;

/// Spins by [`crate::cpu::relax`].
pub struct Relax;

impl RelaxStrategy for Relax {
    #[inline]
    fn relax() {
        crate::cpu::relax();
    }
}

pub type SpinLock<T> = SpinMutex<T, Relax>;
#[cfg(target_os = "none")]
pub type SpinGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
