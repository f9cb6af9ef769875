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

use super::numbers::{Numbers, change_both};
use super::{Pages, image};
use crate::memory::{Frame, FrameRun, OutOfMemory};
use clocks::Line;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;
use spin::mutex::SpinMutex;
#[cfg(any(target_os = "none", test))]
use {clocks::scale, core::sync::atomic::AtomicU64};

/// The time-stamp counter, after all that was before in the program.
#[inline]
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every 64-bit CPU has both instructions.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The numbers at the beginning of a frame.
pub(super) fn numbers_of(frame: &Frame) -> &Numbers {
    // SAFETY: a frame is page-aligned and larger, lives as long as the reference, and is only ever written through these
    // atomics: programs may only read it.
    unsafe { &*frame.bytes().cast::<Numbers>() }
}

/// The clock of one machine.
pub struct Clock {
    numbers: Numbers,
    pages: Once<Pages>,
    writer: SpinMutex<()>,
    /// The TSCs of the CPUs differ: programs ask the kernel, which lets no CPU see less than another has seen.
    distrusted: AtomicBool,
    /// The latest that any CPU has seen, if so.
    #[cfg(any(target_os = "none", test))]
    latest: AtomicU64,
}

impl Clock {
    /// A clock that leaves every question to the kernel.
    pub const fn new() -> Clock {
        Clock {
            numbers: Numbers::new(),
            pages: Once::new(),
            writer: SpinMutex::new(()),
            distrusted: AtomicBool::new(false),
            #[cfg(any(target_os = "none", test))]
            latest: AtomicU64::new(0),
        }
    }

    /// From now on the clock does not go back though the TSC of one CPU is behind that of another. Called before there are pages.
    #[cfg(any(target_os = "none", test))]
    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Release);
    }

    /// Gives `look` the numbers; what it reads besides, the TSC above all, belongs to the same moment. It may be called
    /// more than once.
    #[cfg(not(target_os = "none"))]
    #[inline]
    pub fn read<R>(&self, look: impl Fn(&Line) -> R) -> R {
        loop {
            if let Some(result) = self.numbers.try_read(&look) {
                return result;
            }
            core::hint::spin_loop();
        }
    }

    /// Nanoseconds since the base, by the TSC. For a machine that sets base and multiplier once, before anybody else runs: it
    /// needs no look at the sequence number.
    #[cfg(any(target_os = "none", test))]
    #[inline]
    pub fn since_base(&self) -> u64 {
        let base = self.numbers.base_ticks.load(Ordering::Relaxed);
        let now = scale(ticks().saturating_sub(base), self.numbers.multiplier.load(Ordering::Relaxed));
        if self.distrusted.load(Ordering::Relaxed) { self.not_before(now) } else { now }
    }

    /// The later of `now` and what any CPU has seen.
    #[cfg(any(target_os = "none", test))]
    #[cold]
    fn not_before(&self, now: u64) -> u64 {
        self.latest.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// What the wall clock shows more than the monotonic one.
    #[cfg(any(target_os = "none", test))]
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.numbers.epoch.load(Ordering::Relaxed)
    }

    /// Changes the numbers. Nobody reads the old ones any more when `change` is called, nor the new before it is done.
    pub fn change(&self, change: impl FnOnce(&mut Line)) {
        let _alone = self.writer.lock();
        let copy = self.pages.get().map(|pages| numbers_of(&pages.data));
        // Programs read a TSC by themselves only if all show the same.
        let is_distrusted = self.distrusted.load(Ordering::Relaxed);
        let show = |line| if is_distrusted { Line { multiplier: 0, ..line } } else { line };
        change_both(&self.numbers, copy, change, show);
    }

    /// The pages of the vDSO, made at the first call. None if memory is out.
    pub fn pages(&self) -> Option<&Pages> {
        let make = || {
            // Side by side here too, so that the code can be called where it is: tests do.
            let mut frames = FrameRun::zeroed(1).ok_or(OutOfMemory)?.into_frames();
            let pages = frames.next().zip(frames.next()).map(|(data, code)| Pages { data, code }).ok_or(OutOfMemory)?;
            pages.code.write(0, &image());
            Ok::<Pages, OutOfMemory>(pages)
        };
        let pages = self.pages.try_call_once(make).ok()?;
        // From now on changes are written there too; this one puts in what is known already.
        self.change(|_| ());
        Some(pages)
    }
}
