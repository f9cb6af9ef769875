//! [`Clock`]: a machine's clock, and the pages by which programs read it.

use super::{Pages, image};
use crate::memory::{Frame, FrameRun, OutOfMemory, PAGE_SIZE};
use clocks::{Line, Numbers};
use core::arch::asm;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicU64};
use spin::Once;

/// The time-stamp counter, after all that was before in the program.
#[inline]
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every 64-bit CPU has both instructions.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// A frame's bytes can be [`Numbers`], whatever they are: all of its fields, and each is an atomic number.
const _: fn(&Numbers) -> (&AtomicU32, [&AtomicU64; 4]) =
    |Numbers { sequence, multiplier, base_ticks, base_nanoseconds, epoch }| {
        (sequence, [multiplier, base_ticks, base_nanoseconds, epoch])
    };
const _: () = assert!(size_of::<Numbers>() <= PAGE_SIZE && align_of::<Numbers>() <= PAGE_SIZE);

/// The numbers at the beginning of a frame.
pub(super) fn numbers_of(frame: &Frame) -> &Numbers {
    // SAFETY: a frame is page-aligned and, as is said above, large enough, and any bytes are numbers. It lives as long as the reference,
    // and is only ever written through these atomics: programs may only read it.
    unsafe { &*frame.bytes().cast::<Numbers>() }
}

/// The clock of one machine.
pub struct Clock {
    clock: clocks::Clock,
    pages: Once<Pages>,
}

impl Deref for Clock {
    type Target = clocks::Clock;

    #[inline]
    fn deref(&self) -> &clocks::Clock {
        &self.clock
    }
}

impl Clock {
    /// A clock that leaves every question to the kernel.
    pub const fn new() -> Clock {
        Clock { clock: clocks::Clock::new(), pages: Once::new() }
    }

    /// Nanoseconds since the base: see [`clocks::Clock::since_base`].
    #[cfg(any(machine = "pc", test))]
    #[inline]
    pub fn since_base(&self) -> u64 {
        self.clock.since_base(ticks())
    }

    /// Changes the numbers: see [`clocks::Clock::change`].
    pub fn change(&self, change: impl FnOnce(&mut Line)) {
        self.clock.change(|| self.pages.get().map(|pages| numbers_of(&pages.data)), change);
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
