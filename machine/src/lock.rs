//! The machine's own spin lock: a CPU that waits answers other CPUs' requests meanwhile. On the host, where the thread that holds
//! it may have been put off, it lets others go on; it never unwinds, as a CPU of a machine that is off does elsewhere.

use spin::mutex::SpinMutex;
use spin::relax::RelaxStrategy;

/// Spins by [`crate::cpu::relax`].
pub struct Relax;

impl RelaxStrategy for Relax {
    #[inline]
    fn relax() {
        #[cfg(target_os = "none")]
        crate::cpu::relax();
        #[cfg(not(target_os = "none"))]
        std::thread::yield_now();
    }
}

pub type SpinLock<T> = SpinMutex<T, Relax>;
#[cfg(any(machine = "pc", test))]
pub type SpinGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
