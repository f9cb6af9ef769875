//! [`Frame`] and [`FrameRun`]: owned memory.

use super::{FrameRecord, PAGE_SIZE, give_frames, records, take_refusable_frames};
use crate::platform;
use core::fmt;
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

/// An owning reference to 4 KiB of untyped memory. Cloning adds an owner; the last owner gives it back.
pub struct Frame(NonZeroU32);

impl Frame {
    /// A frame of zeros, or none if memory is out.
    #[inline]
    pub fn zeroed() -> Option<Frame> {
        let frame = Frame::allocate_dirty()?;
        // SAFETY: the frame is ours alone, and `bytes` is its 4 KiB alias.
        unsafe { platform::copy::clear_page(frame.bytes()) };
        Some(frame)
    }

    /// A new frame with the bytes of `other`.
    #[inline]
    pub fn copy_of(other: &Frame) -> Option<Frame> {
        let frame = Frame::allocate_dirty()?;
        // SAFETY: both are whole frames, and different ones since the new one had no owner.
        unsafe { platform::copy::copy_page(frame.bytes(), other.bytes()) };
        Some(frame)
    }

    /// A frame with the bytes its last owner left, for a caller that overwrites all of them.
    #[inline]
    pub fn allocate_dirty() -> Option<Frame> {
        take_refusable_frames(0).map(Frame)
    }

    /// Its number: physical address / 4096 on `pc`.
    #[inline]
    pub fn number(&self) -> usize {
        self.0.get() as usize
    }

    /// Owners now. 1 means the caller is the only one, and stays true until the caller shares it.
    #[inline]
    pub fn references(&self) -> u32 {
        self.record().owners.owners()
    }

    /// What [`set_tag`](Frame::set_tag) put there last, perhaps when the frame was another's. A hint, to be held against what owns the frame.
    #[inline]
    pub fn tag(&self) -> u64 {
        self.record().tag.load(Ordering::Relaxed)
    }

    /// Writes down whose page the frame is, for who finds the frame and looks for that: Linux's `mapping` and `index` of a page.
    #[inline]
    pub fn set_tag(&self, tag: u64) {
        self.record().tag.store(tag, Ordering::Relaxed);
    }

    /// Copies bytes out from `offset`. Returns how many: fewer than asked only at the end of the frame.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> usize {
        let length = to.len().min(PAGE_SIZE.saturating_sub(offset));
        // SAFETY: `offset + length` is within the frame when `length` is not 0; `to` is at least `length` long.
        unsafe { platform::copy::copy(to.as_mut_ptr(), self.bytes().wrapping_add(offset), length) };
        length
    }

    /// Copies bytes in at `offset`. Returns how many: fewer than asked only at the end of the frame.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        let length = from.len().min(PAGE_SIZE.saturating_sub(offset));
        // SAFETY: as in `read`.
        unsafe { platform::copy::copy(self.bytes().wrapping_add(offset), from.as_ptr(), length) };
        length
    }

    /// Zeroes the part of `range` that lies in the frame.
    #[inline]
    pub fn zero(&self, range: Range<usize>) {
        let end = range.end.min(PAGE_SIZE);
        let length = end.saturating_sub(range.start);
        // SAFETY: `start..start + length` is within the frame when `length` is not 0.
        unsafe { platform::copy::zero(self.bytes().wrapping_add(range.start), length) };
    }

    /// The kernel's alias of the bytes. They may change at any moment: no reference may be made to them.
    #[inline]
    pub(crate) fn bytes(&self) -> *mut u8 {
        platform::frames::bytes(self.0.get())
    }

    #[inline]
    fn record(&self) -> &'static FrameRecord {
        // SAFETY: a Frame is made only from a number that was found in the records.
        unsafe { platform::frames::record(self.0.get()) }
    }

    /// Its number, as an entry of a page table has it.
    #[cfg(any(machine = "pc", test))]
    #[inline]
    pub(crate) fn raw(&self) -> NonZeroU32 {
        self.0
    }

    /// Gives up the reference without dropping it; `from_raw` takes it up again.
    #[inline]
    pub(crate) fn into_raw(self) -> NonZeroU32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    /// Takes up a reference.
    ///
    /// # Safety
    /// `number` must stand for one reference given up by `into_raw` or counted otherwise, taken up only once.
    #[inline]
    pub(crate) unsafe fn from_raw(number: NonZeroU32) -> Frame {
        Frame(number)
    }

    /// Counts one more reference to the frame `number`, to be taken up by `from_raw`.
    ///
    /// # Safety
    /// The caller holds a reference to the frame, or keeps whoever does from giving it up; and nobody else can use that same
    /// reference to count another one meanwhile.
    #[cfg(any(machine = "pc", test))]
    #[inline]
    pub(crate) unsafe fn add_reference(number: NonZeroU32) {
        // SAFETY: as in `record`.
        unsafe { platform::frames::record(number.get()) }.owners.add_alone();
    }
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Frame {
        self.record().owners.add();
        Frame(self.0)
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if self.record().owners.remove() {
            give_frames(self.0.get(), 0);
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.number())
    }
}

/// 2^order contiguous frames, aligned to their size.
#[derive(Debug)]
pub struct FrameRun {
    first: NonZeroU32,
    order: u8,
}

impl FrameRun {
    /// A run with whatever its last owners left in it. None if there is no such run, or `order` > [`MAX_ORDER`].
    pub fn allocate_dirty(order: u8) -> Option<FrameRun> {
        take_refusable_frames(order).map(|first| FrameRun { first, order })
    }

    /// A run of zeros.
    pub fn zeroed(order: u8) -> Option<FrameRun> {
        let run = FrameRun::allocate_dirty(order)?;
        for number in run.numbers() {
            // SAFETY: the run owns these frames alone.
            unsafe { platform::copy::clear_page(platform::frames::bytes(number as u32)) };
        }
        Some(run)
    }

    /// The frames' numbers.
    pub fn numbers(&self) -> Range<usize> {
        let first = self.first.get() as usize;
        first..first + (1 << self.order)
    }

    /// Writes down whose pages the frames are, as [`Frame::set_tag`]: `tag` gives what is for the frame at an index.
    pub fn set_tags(&self, tag: impl Fn(usize) -> u64) {
        let records = records().get(self.numbers()).unwrap_or_default();
        records.iter().enumerate().for_each(|(index, record)| record.tag.store(tag(index), Ordering::Relaxed));
    }

    /// Gives up all frames' references without dropping them, to be taken up one by one by [`Frame::from_raw`]. Returns the first frame's number.
    #[cfg(any(machine = "pc", test))]
    pub(crate) fn into_raw(self) -> NonZeroU32 {
        let first = self.first;
        core::mem::forget(self);
        first
    }

    /// The frames one by one; each goes its own way from here.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        let numbers = self.numbers();
        core::mem::forget(self);
        RunFrames(numbers)
    }
}

impl Drop for FrameRun {
    fn drop(&mut self) {
        for record in records().get(self.numbers()).unwrap_or_default() {
            record.owners.set(0);
        }
        give_frames(self.first.get(), self.order);
    }
}

/// The frames of a run that have not gone out yet.
struct RunFrames(Range<usize>);

impl Iterator for RunFrames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        self.0.next().and_then(|number| NonZeroU32::new(number as u32)).map(Frame)
    }
}

impl Drop for RunFrames {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// The u32 at `bytes`, for atomic use.
///
/// # Safety
/// `bytes` is a 4-byte-aligned place in a frame that stays owned while the result is used.
#[inline]
pub(crate) unsafe fn word<'a>(bytes: *mut u8) -> &'a AtomicU32 {
    // SAFETY: by contract of the caller; alignment is stated there.
    #[allow(clippy::cast_ptr_alignment)]
    unsafe {
        AtomicU32::from_ptr(bytes.cast())
    }
}

#[cfg(test)]
mod tests {
    use super::super::count::SATURATED;
    use super::*;

    #[test]
    fn a_frame_is_counted_and_comes_back() {
        let frame = Frame::zeroed().unwrap();
        let record = &records()[frame.number()];
        let other = frame.clone();
        assert_eq!((frame.references(), record.references()), (2, 2));
        drop(frame);
        assert_eq!(other.references(), 1);
        drop(other);
    }

    #[test]
    fn bytes_stay_within_the_frame() {
        let frame = Frame::allocate_dirty().unwrap();
        frame.zero(0..usize::MAX);
        assert_eq!(frame.write(4090, b"0123456789"), 6);
        let mut bytes = [b'x'; 8];
        assert_eq!(frame.read(4092, &mut bytes), 4);
        assert_eq!(&bytes, b"2345xxxx");
        assert_eq!((frame.read(4096, &mut bytes), frame.write(usize::MAX, &bytes)), (0, 0));
        let copy = Frame::copy_of(&frame).unwrap();
        frame.zero(4091..4093);
        frame.read(4090, &mut bytes);
        assert_eq!(&bytes[..6], b"0\x00\x00345");
        copy.read(4090, &mut bytes);
        assert_eq!(&bytes[..6], b"012345");
    }

    #[test]
    fn a_run_is_aligned_and_falls_apart() {
        let run = FrameRun::zeroed(3).unwrap();
        let numbers = run.numbers();
        assert!(numbers.start.is_multiple_of(8) && numbers.len() == 8);
        let mut frames = run.into_frames();
        let third = frames.nth(2).unwrap();
        assert_eq!(third.number(), numbers.start + 2);
        drop(frames);
        assert_eq!((records()[numbers.start + 7].references(), third.references()), (0, 1));
        assert!(FrameRun::allocate_dirty(super::super::MAX_ORDER + 1).is_none());
    }

    #[test]
    fn a_frame_shared_too_often_stays_for_ever() {
        let frame = Frame::zeroed().unwrap();
        let record = &records()[frame.number()];
        record.owners.set(SATURATED / 2);
        let copies = [frame.clone(), frame.clone()];
        drop(frame);
        drop(copies);
        assert_eq!(record.references(), SATURATED);
    }
}
