//! [`Numbers`]: a clock's numbers, a [`Line`], where many read them while one writes (a sequence lock).
//!
//! Readers are [`Numbers::try_read`] and, in programs, the assembler of the vDSO (machine/src/vdso/code.s); `mirror.rs` beside that is it in
//! Rust, for tests. kernel/models tries both against a change, in all orders.

use super::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use clocks::Line;

/// A [`Line`] where many read it while one writes: the beginning of the page of numbers. `machine` takes the bytes of that page for one, and
/// sees to it that all of them are numbers.
#[repr(C)]
pub struct Numbers {
    /// Odd while the others change.
    pub sequence: AtomicU32,
    /// See [`Line::multiplier`].
    pub multiplier: AtomicU64,
    /// See [`Line::base_ticks`].
    pub base_ticks: AtomicU64,
    /// See [`Line::base_nanoseconds`].
    pub base_nanoseconds: AtomicU64,
    /// See [`Line::epoch`].
    pub epoch: AtomicU64,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers::new()
    }
}

impl Numbers {
    /// Those of a clock that leaves every question to the kernel.
    pub const fn new() -> Numbers {
        Numbers {
            sequence: AtomicU32::new(0),
            multiplier: AtomicU64::new(0),
            base_ticks: AtomicU64::new(0),
            base_nanoseconds: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// What they are, for who knows that nobody changes them or finds out afterwards.
    #[inline]
    pub fn line(&self) -> Line {
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

    /// Gives `look` the numbers; what it reads besides, the TSC above all, belongs to the same moment. None if they changed
    /// meanwhile: then it is to be tried again.
    #[inline]
    pub fn try_read<R>(&self, look: impl Fn(&Line) -> R) -> Option<R> {
        let before = self.sequence.load(Ordering::Acquire);
        if before & 1 != 0 {
            return None;
        }
        let result = look(&self.line());
        fence(Ordering::Acquire);
        (self.sequence.load(Ordering::Relaxed) == before).then_some(result)
    }
}

/// Changes numbers, and a copy that is shown to programs as `show` makes of them. Nobody reads the old ones any more when `change` is
/// called, nor the new before it is done. Only one writer at a time.
pub fn change_both(
    own: &Numbers,
    copy: Option<&Numbers>,
    change: impl FnOnce(&mut Line),
    show: impl FnOnce(Line) -> Line,
) {
    own.begin();
    copy.inspect(|copy| copy.begin());
    // The TSC that `change` reads must not be older than what others see.
    fence(Ordering::SeqCst);
    let mut line = own.line();
    change(&mut line);
    own.set(&line);
    copy.inspect(|copy| copy.set(&show(line)));
    own.end();
    copy.inspect(|copy| copy.end());
}
