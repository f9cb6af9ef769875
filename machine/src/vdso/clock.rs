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

use super::{Pages, image};
use crate::memory::{Frame, FrameRun, OutOfMemory};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use spin::Once;
use spin::mutex::SpinMutex;

/// The time-stamp counter, after all that was before in the program.
#[inline]
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every 64-bit CPU has both instructions.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// `value * factor / 2^32`.
#[inline]
pub fn scale(value: u64, factor: u64) -> u64 {
    ((u128::from(value) * u128::from(factor)) >> 32) as u64
}

/// What a clock shows at every moment, as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds a tick, in 2^-32. 0: the TSC does not tell the time, ask the kernel.
    pub multiplier: u64,
    /// The TSC at some moment,
    pub base_ticks: u64,
    /// and what the monotonic clock showed then.
    pub base_nanoseconds: u64,
    /// What the wall clock shows more than the monotonic one, modulo 2^64.
    pub epoch: u64,
}

impl Line {
    /// What the monotonic clock shows at a reading of the TSC. Another CPU's may be a little older than the base.
    #[inline]
    pub fn at(&self, ticks: u64) -> u64 {
        self.base_nanoseconds.wrapping_add(scale(ticks.saturating_sub(self.base_ticks), self.multiplier))
    }
}

/// A [`Line`] where many read it while one writes: the beginning of the page of numbers.
#[repr(C)]
pub(super) struct Numbers {
    /// Odd while the others change.
    pub sequence: AtomicU32,
    pub multiplier: AtomicU64,
    pub base_ticks: AtomicU64,
    pub base_nanoseconds: AtomicU64,
    pub epoch: AtomicU64,
}

impl Numbers {
    const fn new() -> Numbers {
        Numbers {
            sequence: AtomicU32::new(0),
            multiplier: AtomicU64::new(0),
            base_ticks: AtomicU64::new(0),
            base_nanoseconds: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// The numbers at the beginning of a frame.
    fn of(frame: &Frame) -> &Numbers {
        // SAFETY: a frame is page-aligned and larger, lives as long as the reference, and is only ever written through these
        // atomics: programs may only read it.
        unsafe { &*frame.bytes().cast::<Numbers>() }
    }

    #[inline]
    fn line(&self) -> Line {
        Line {
            multiplier: self.multiplier.load(Ordering::Relaxed),
            base_ticks: self.base_ticks.load(Ordering::Relaxed),
            base_nanoseconds: self.base_nanoseconds.load(Ordering::Relaxed),
            epoch: self.epoch.load(Ordering::Relaxed),
        }
    }

    /// From here on readers wait. Only one writer at a time.
    fn begin(&self) {
        self.sequence.store(self.sequence.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    fn set(&self, line: &Line) {
        self.multiplier.store(line.multiplier, Ordering::Relaxed);
        self.base_ticks.store(line.base_ticks, Ordering::Relaxed);
        self.base_nanoseconds.store(line.base_nanoseconds, Ordering::Relaxed);
        self.epoch.store(line.epoch, Ordering::Relaxed);
    }

    fn end(&self) {
        self.sequence.store(self.sequence.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}

/// The clock of one machine.
pub struct Clock {
    numbers: Numbers,
    pages: Once<Pages>,
    writer: SpinMutex<()>,
}

impl Clock {
    /// A clock that leaves every question to the kernel.
    pub const fn new() -> Clock {
        Clock { numbers: Numbers::new(), pages: Once::new(), writer: SpinMutex::new(()) }
    }

    /// Gives `look` the numbers; what it reads besides, the TSC above all, belongs to the same moment. It may be called
    /// more than once.
    #[cfg(not(target_os = "none"))]
    #[inline]
    pub fn read<R>(&self, look: impl Fn(&Line) -> R) -> R {
        loop {
            let before = self.numbers.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let result = look(&self.numbers.line());
                fence(Ordering::Acquire);
                if self.numbers.sequence.load(Ordering::Relaxed) == before {
                    return result;
                }
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
        scale(ticks().saturating_sub(base), self.numbers.multiplier.load(Ordering::Relaxed))
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
        let copies = [Some(&self.numbers), self.pages.get().map(|pages| Numbers::of(&pages.data))];
        copies.iter().flatten().for_each(|numbers| numbers.begin());
        // The TSC that `change` reads must not be older than what others see.
        fence(Ordering::SeqCst);
        let mut line = self.numbers.line();
        change(&mut line);
        copies.iter().flatten().for_each(|numbers| numbers.set(&line));
        copies.iter().flatten().for_each(|numbers| numbers.end());
    }

    /// The pages of the vDSO, made at the first call. None if memory is out.
    pub fn pages(&self) -> Option<&Pages> {
        let make = || {
            // Side by side here too, so that the code can be called where it is: tests do.
            let mut frames = FrameRun::zeroed(1).ok_or(OutOfMemory)?.into_frames();
            let pages = frames.next().zip(frames.next()).map(|(data, code)| Pages { data, code }).ok_or(OutOfMemory)?;
            pages.code.write(0, &image::build());
            Ok::<Pages, OutOfMemory>(pages)
        };
        let pages = self.pages.try_call_once(make).ok()?;
        // From now on changes are written there too; this one puts in what is known already.
        self.change(|_| ());
        Some(pages)
    }
}
