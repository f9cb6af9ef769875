//! The machine's own spin lock: a CPU that waits answers other CPUs' requests meanwhile.

use spin::mutex::{SpinMutex, SpinMutexGuard};
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
pub type SpinGuard<'a, T> = SpinMutexGuard<'a, T>;
