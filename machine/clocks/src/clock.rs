//! [`Clock`]: how the time-stamp counter becomes time, for the kernel and for programs alike.
//!
//! ```text
//! monotonic = base nanoseconds + (TSC - base ticks) * multiplier / 2^32         wall = monotonic + epoch
//! ```
//!
//! The kernel has these [`Numbers`] in its own memory; once there are pages for programs, a second copy stands there. A change
//! goes to both at once: while it lasts both sequence numbers are odd, and readers of both wait. The TSC is read for the
//! change only when everybody can see that. So a reader whose reading of the TSC is older used the old numbers, and one whose
//! reading is newer uses the new: a line that goes on where the old one ended is never seen to go back, not from one CPU
//! to another, nor from a system call to the vDSO and back.

use crate::numbers::change_both;
use crate::{Line, Numbers, scale};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::mutex::SpinMutex;

/// The clock of one machine.
#[derive(Default)]
pub struct Clock {
    numbers: Numbers,
    writer: SpinMutex<()>,
    /// The TSCs of the CPUs differ: programs ask the kernel, which lets no CPU see less than another has seen.
    distrusted: AtomicBool,
    /// The latest that any CPU has seen, if so.
    latest: AtomicU64,
}

impl Clock {
    /// A clock that leaves every question to the kernel.
    pub const fn new() -> Clock {
        Clock {
            numbers: Numbers::new(),
            writer: SpinMutex::new(()),
            distrusted: AtomicBool::new(false),
            latest: AtomicU64::new(0),
        }
    }

    /// From now on the clock does not go back though the TSC of one CPU is behind that of another. Called before there are pages.
    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Release);
    }

    /// Gives `look` the numbers; what it reads besides, the TSC above all, belongs to the same moment. It may be called
    /// more than once.
    #[inline]
    pub fn read<R>(&self, look: impl Fn(&Line) -> R) -> R {
        loop {
            if let Some(result) = self.numbers.try_read(&look) {
                return result;
            }
            core::hint::spin_loop();
        }
    }

    /// Nanoseconds from the base to what the TSC shows. For a machine that sets base and multiplier once, before anybody else runs: it
    /// needs no look at the sequence number.
    #[inline]
    pub fn since_base(&self, ticks: u64) -> u64 {
        let base = self.numbers.base_ticks.load(Ordering::Relaxed);
        let now = scale(ticks.saturating_sub(base), self.numbers.multiplier.load(Ordering::Relaxed));
        if self.distrusted.load(Ordering::Relaxed) { self.not_before(now) } else { now }
    }

    /// The later of `now` and what any CPU has seen.
    #[cold]
    fn not_before(&self, now: u64) -> u64 {
        self.latest.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// What the wall clock shows more than the monotonic one.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.numbers.epoch.load(Ordering::Relaxed)
    }

    /// Changes the numbers, and those that programs have: `copy` is asked for them when nobody else changes any. Nobody reads the old ones
    /// any more when `change` is called, nor the new before it is done.
    pub fn change<'a>(&self, copy: impl FnOnce() -> Option<&'a Numbers>, change: impl FnOnce(&mut Line)) {
        let _alone = self.writer.lock();
        // Programs read a TSC by themselves only if all show the same.
        let is_distrusted = self.distrusted.load(Ordering::Relaxed);
        let show = |line| if is_distrusted { Line { multiplier: 0, ..line } } else { line };
        change_both(&self.numbers, copy(), change, show);
    }
}
