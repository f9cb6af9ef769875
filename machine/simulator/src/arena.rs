//! [`Arena`]: which of a few frames are taken, first fit.

use core::ops::Range;

/// Frames from `first` on, `FRAMES` of them.
pub struct Arena<const FRAMES: usize> {
    first: usize,
    taken: [bool; FRAMES],
}

impl<const FRAMES: usize> Arena<FRAMES> {
    /// None is taken.
    pub const fn new(first: usize) -> Arena<FRAMES> {
        Arena { first, taken: [false; FRAMES] }
    }

    /// The frames' numbers.
    pub const fn numbers(&self) -> Range<usize> {
        self.first..self.first + FRAMES
    }

    /// Takes 2^`order` frames whose numbers are aligned to that, and gives the first.
    pub fn take(&mut self, order: u8) -> Option<usize> {
        let length = 1_usize.checked_shl(order.into()).filter(|length| *length <= FRAMES)?;
        let skipped = self.first.next_multiple_of(length) - self.first;
        let runs = self.taken.get_mut(skipped..)?.chunks_exact_mut(length);
        let (index, run) = runs.enumerate().find(|(_, run)| !run.contains(&true))?;
        run.fill(true);
        Some(self.first + skipped + index * length)
    }

    /// Takes frames back. Those that are others' are left alone.
    pub fn give(&mut self, first: usize, order: u8) {
        let Some(start) = first.checked_sub(self.first) else { return };
        let length = 1_usize.checked_shl(order.into()).unwrap_or(0);
        self.taken.iter_mut().skip(start).take(length).for_each(|frame| *frame = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_aligned_and_come_back() {
        let mut arena = Arena::<8>::new(3);
        assert_eq!((arena.take(0), arena.take(2), arena.take(2)), (Some(3), Some(4), None));
        assert_eq!((arena.take(1), arena.take(0), arena.take(0)), (Some(8), Some(10), None));
        arena.give(4, 2);
        arena.give(0, 0);
        arena.give(1000, 3);
        assert_eq!((arena.take(1), arena.take(2), arena.take(1), arena.take(0)), (Some(4), None, Some(6), None));
        assert_eq!((arena.take(200), arena.numbers()), (None, 3..11));
    }
}
