//! [`FrameCell`]: a frame that is found without a lock.

use super::Frame;
use crate::rcu::{self, ReadSection};
use core::fmt;
use core::mem::ManuallyDrop;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};

/// A frame, or none, that can be had at any time and exchanged at any time: for frames what [`RcuCell`](crate::rcu::RcuCell) is for an
/// `Arc`, in four bytes.
///
/// **What makes it sound.** Who takes a reference counts it in a section, while the cell's own is there: that is given up after a grace
/// period that begins when the frame has been taken out ([`RetiredFrame`]), or with the cell, which nobody can be looking at then.
#[derive(Default)]
pub struct FrameCell(AtomicU32);

impl FrameCell {
    /// A reference to what is in it now.
    #[inline]
    pub fn get(&self, _section: &ReadSection) -> Option<Frame> {
        let number = NonZeroU32::new(self.0.load(Ordering::SeqCst))?;
        // SAFETY: it stands for the cell's reference, which lasts as long as the section, and is not dropped here.
        let own = ManuallyDrop::new(unsafe { Frame::from_raw(number) });
        Some((*own).clone())
    }

    /// The number of the frame that is in it now.
    #[inline]
    pub fn number(&self) -> Option<usize> {
        NonZeroU32::new(self.0.load(Ordering::Relaxed)).map(|number| number.get() as usize)
    }

    /// Puts something else in it.
    #[inline]
    pub fn replace(&self, new: Option<Frame>) -> Option<RetiredFrame> {
        let new = new.map_or(0, |frame| frame.into_raw().get());
        let old = NonZeroU32::new(self.0.swap(new, Ordering::SeqCst))?;
        // SAFETY: the number came from `into_raw`, and the cell's reference goes with it.
        Some(RetiredFrame(unsafe { Frame::from_raw(old) }))
    }
}

impl Drop for FrameCell {
    fn drop(&mut self) {
        // SAFETY: as in `replace`; `&mut self` says that nobody is in `get`.
        drop(NonZeroU32::new(*self.0.get_mut()).map(|number| unsafe { Frame::from_raw(number) }));
    }
}

impl fmt::Debug for FrameCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameCell({:?})", self.number())
    }
}

/// What a cell had: somebody may be taking a reference, and is waited for before this one is dropped.
#[must_use = "dropping it waits for its readers"]
pub struct RetiredFrame(Frame);

impl RetiredFrame {
    /// The frame's number.
    #[inline]
    pub fn number(&self) -> usize {
        self.0.number()
    }
}

impl Drop for RetiredFrame {
    #[inline]
    fn drop(&mut self) {
        rcu::wait_for_readers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;

    #[test]
    fn a_cell_owns_its_frame() {
        let (first, second) = (Frame::zeroed().unwrap(), Frame::zeroed().unwrap());
        let cell = FrameCell::default();
        assert!(cell.get(&rcu::read()).is_none() && cell.replace(Some(first.clone())).is_none());
        let got = cell.get(&rcu::read()).unwrap();
        assert_eq!((got.number(), cell.number(), first.references()), (first.number(), Some(first.number()), 3));
        let retired = cell.replace(Some(second.clone())).unwrap();
        assert_eq!((retired.number(), first.references(), second.references()), (first.number(), 3, 2));
        drop((got, retired, cell));
        assert_eq!((first.references(), second.references()), (1, 1));
    }

    /// Who finds a frame has it, however often it is taken out meanwhile: its bytes stay what they were.
    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "needs threads")]
    fn no_frame_goes_while_somebody_takes_a_reference() {
        let filled = |byte: u8| {
            let frame = Frame::allocate_dirty().unwrap();
            frame.write(0, &[byte; 2]);
            frame
        };
        let cell = FrameCell::default();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let found = cell.get(&rcu::read());
                        let mut bytes = [0; 2];
                        found.iter().for_each(|frame| _ = frame.read(0, &mut bytes));
                        assert_eq!(bytes[0], bytes[1]);
                    }
                });
            }
            for number in 0..if cfg!(miri) { 20 } else { 5_000 } {
                drop(cell.replace((number % 3 != 0).then(|| filled(number as u8))));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
