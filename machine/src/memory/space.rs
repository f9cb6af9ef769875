//! [`Space`]: what a program sees of memory.

use super::{Frame, OutOfMemory, PAGE_SIZE};
use crate::platform;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;

/// The first address a program cannot have. On `pc` one page below the end of the lower half, as on Linux, so that no
/// instruction can end on the non-canonical boundary; on `host` a little less.
pub const USER_TOP: usize = platform::paging::USER_TOP;

/// Pages worth mapping at once around a fault where they cost nothing else, a power of two: more where a fault is dear.
pub const FAULT_AROUND: usize = platform::paging::FAULT_AROUND;

/// Fresh pages worth supplying at once to a program that fills memory page by page. They cost memory that it may never touch:
/// more than one only where a fault is dear.
pub const FAULT_AHEAD: usize = platform::paging::FAULT_AHEAD;

bitflags::bitflags! {
    /// What may be done to a page, or what was tried.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Access: u8 {
        /// Loads. On `pc` every mapped page with any access can be read, except with no access at all.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
        /// For [`Space::map`] and [`Space::map_batch`] only: others use the frame too (a file's cache, the frame of zeros), so
        /// writing must wait for [`Space::break_copy_on_write`] whatever the access says.
        const COPY_ON_WRITE = 8;
    }
}

/// A copy to or from user memory stopped. The caller resolves the fault at `address` and goes on after `copied` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserFault {
    /// Bytes done before the fault; everything below is complete.
    pub copied: usize,
    /// The address that could not be accessed.
    pub address: usize,
    /// The access was a store.
    pub write: bool,
}

/// What a space says about one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Number of the frame mapped there.
    pub frame_number: usize,
    /// What the program may do now; a copy-on-write page is not writable.
    pub access: Access,
    /// Shared by fork: a write must go through [`Space::break_copy_on_write`].
    pub copy_on_write: bool,
    /// Accessed since it was mapped.
    pub accessed: bool,
    /// Written since it was mapped.
    pub dirty: bool,
    /// References to the frame at the moment of the look.
    pub references: u32,
}

/// A user address space: which frame each page shows, and with what access.
///
/// Pages are page-aligned addresses below [`USER_TOP`]. Ranges are rounded outwards to whole pages and clipped to user
/// space; what lies outside is never touched. A method that maps refuses (by `OutOfMemory`) an address outside.
pub struct Space(pub(crate) platform::paging::Tables);

/// The part of `range` that is user space, in whole pages.
#[inline]
fn user_pages(range: Range<usize>) -> Range<usize> {
    let start = range.start & !(PAGE_SIZE - 1);
    let end = range.end.min(USER_TOP).next_multiple_of(PAGE_SIZE);
    start.min(end)..end
}

/// `page` if it is a page of user space.
#[inline]
fn user_page(page: usize) -> Result<usize, OutOfMemory> {
    if page < USER_TOP && page.is_multiple_of(PAGE_SIZE) { Ok(page) } else { Err(OutOfMemory) }
}

/// Checks that `length` bytes from `address` are user space, as Linux's `access_ok`.
#[inline]
fn user_bytes(address: usize, length: usize, write: bool) -> Result<(), UserFault> {
    match address.checked_add(length) {
        Some(end) if end <= USER_TOP => Ok(()),
        _ if length == 0 => Ok(()),
        _ => Err(UserFault { copied: 0, address, write }),
    }
}

/// The part of a frame from `offset`, at most `length` bytes.
#[inline]
fn frame_part(offset: usize, length: usize) -> usize {
    length.min(PAGE_SIZE.saturating_sub(offset))
}

impl Space {
    /// An empty space. Fails if memory is out.
    pub fn new() -> Result<Arc<Space>, OutOfMemory> {
        Ok(Arc::new(Space(platform::paging::Tables::new()?)))
    }

    /// Shows `frame` at `page`. What was there before is replaced, and dropped after the flush. Fails if there is no
    /// memory for page tables; then nothing changes but that `frame` is dropped.
    #[inline]
    pub fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.0.map(user_page(page)?, frame, access)
    }

    /// As [`map`](Space::map), if what is mapped at `page` is frame number `before`, or nothing if that is none, and `still` holds, which is
    /// asked with the page's table locked and must not touch the space. False if not: then nothing changes, but that `frame` is dropped. Of two CPUs that
    /// supply the same page so only one does.
    #[inline]
    pub fn map_over(
        &self,
        page: usize,
        before: Option<usize>,
        frame: Frame,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.0.map_over(user_page(page)?, before, frame, access, still)
    }

    /// Shows frames at consecutive pages from `start` where nothing is, in one walk: fault-around. On failure a first part is mapped.
    /// `frames` runs with a table locked: it must not touch this space.
    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
    ) -> Result<(), OutOfMemory> {
        self.0.map_batch(user_page(start)?, frames, access)
    }

    /// What takes pages and rights out, and waits for other CPUs to forget them when it is dropped: at the end of the statement, if it gets no
    /// name.
    #[inline(always)]
    pub fn gather(&self) -> MmuGather<'_> {
        MmuGather { gather: self.0.gather(), space: self }
    }

    /// What is mapped at the page of `address`.
    #[inline]
    pub fn lookup(&self, address: usize) -> Option<Mapping> {
        self.0.lookup(user_page(address & !(PAGE_SIZE - 1)).ok()?)
    }

    /// The first page mapped in a range, and what is mapped there. What is not mapped costs nothing but its page tables.
    pub fn next_mapped(&self, range: Range<usize>) -> Option<(usize, Mapping)> {
        self.0.next_mapped(user_pages(range))
    }

    /// A reference to the frame mapped at the page of `address`.
    pub fn frame_at(&self, address: usize) -> Option<Frame> {
        self.0.frame_at(user_page(address & !(PAGE_SIZE - 1)).ok()?)
    }

    /// Makes the copy-on-write page at `page` private and gives it `access`: in place if this space is the frame's only owner,
    /// else on a copy, which is made without a lock: if the page has become another meanwhile, that stays. A page that is not
    /// copy-on-write just gets `access`. False if nothing is mapped there.
    #[inline]
    pub fn break_copy_on_write(&self, page: usize, access: Access) -> Result<bool, OutOfMemory> {
        self.0.break_copy_on_write(user_page(page)?, access)
    }

    /// Pages mapped now.
    #[inline]
    pub fn resident(&self) -> usize {
        self.0.resident()
    }

    /// Copies user bytes to the kernel.
    #[inline]
    pub fn read(&self, address: usize, to: &mut [u8]) -> Result<(), UserFault> {
        user_bytes(address, to.len(), false)?;
        // SAFETY: `to` is writable for its length, and the range is user space.
        unsafe { self.0.read(address, to.as_mut_ptr(), to.len()) }
    }

    /// Copies kernel bytes to user memory.
    #[inline]
    pub fn write(&self, address: usize, from: &[u8]) -> Result<(), UserFault> {
        user_bytes(address, from.len(), true)?;
        // SAFETY: `from` is readable for its length, and the range is user space.
        unsafe { self.0.write(address, from.as_ptr(), from.len()) }
    }

    /// Zeroes user memory.
    pub fn zero(&self, address: usize, length: usize) -> Result<(), UserFault> {
        user_bytes(address, length, true)?;
        self.0.zero(address, length)
    }

    /// Copies user bytes into a frame at `offset`, at most to its end.
    pub fn read_to_frame(&self, address: usize, frame: &Frame, offset: usize, length: usize) -> Result<(), UserFault> {
        let length = frame_part(offset, length);
        user_bytes(address, length, false)?;
        // SAFETY: the part lies in the frame, and the range is user space.
        unsafe { self.0.read(address, frame.bytes().wrapping_add(offset), length) }
    }

    /// Copies a frame's bytes from `offset`, at most to its end, to user memory.
    pub fn write_from_frame(
        &self,
        address: usize,
        frame: &Frame,
        offset: usize,
        length: usize,
    ) -> Result<(), UserFault> {
        let length = frame_part(offset, length);
        user_bytes(address, length, true)?;
        // SAFETY: the part lies in the frame, and the range is user space.
        unsafe { self.0.write(address, frame.bytes().wrapping_add(offset), length) }
    }

    /// Loads an aligned u32 in one access. A misaligned address faults.
    pub fn load_u32(&self, address: usize) -> Result<u32, UserFault> {
        user_bytes(address, 4, false)?;
        if !address.is_multiple_of(4) {
            return Err(UserFault { copied: 0, address, write: false });
        }
        self.0.load_u32(address)
    }

    /// Atomically replaces an aligned u32 if it equals `old`: `Ok(old)`, or `Err(what is there)`. A misaligned address
    /// faults.
    pub fn compare_exchange_u32(&self, address: usize, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
        user_bytes(address, 4, true)?;
        if !address.is_multiple_of(4) {
            return Err(UserFault { copied: 0, address, write: true });
        }
        self.0.compare_exchange_u32(address, old, new)
    }
}

/// Takes pages and rights out of a space. When it is dropped, all CPUs are made to forget what was taken out, and then its frames are
/// dropped: that waits for other CPUs, and should hold no lock. Until then programs on other CPUs may still see what was there; nobody else
/// has those frames before. Two at once of one space are right, but the later waits for what the earlier has taken out, too.
///
/// Linux's `struct mmu_gather`.
pub struct MmuGather<'a> {
    gather: platform::paging::MmuGather<'a>,
    space: &'a Space,
}

impl MmuGather<'_> {
    /// Empties `range`.
    pub fn unmap(&mut self, range: Range<usize>) {
        self.gather.unmap(user_pages(range), usize::MAX);
    }

    /// Empties `range` up to about `budget` pages of work. Returns where to go on, or none when all is done. For
    /// tear-down that yields between slices.
    pub fn unmap_some(&mut self, range: Range<usize>, budget: usize) -> Option<usize> {
        self.gather.unmap(user_pages(range), budget.max(1))
    }

    /// Changes the access of what is mapped in `range`. A copy-on-write page stays read-only until it is broken.
    pub fn protect(&mut self, range: Range<usize>, access: Access) {
        self.gather.protect(user_pages(range), access);
    }

    /// Shows the frames of `range` in `child` too, whose range must be empty: fork of one area. With `copy_on_write` both
    /// sides lose the right to write until [`break_copy_on_write`](Space::break_copy_on_write). On failure the
    /// child has a part of it. A space cannot share with itself: nothing happens.
    pub fn share_with(&mut self, child: &Space, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        if core::ptr::eq(self.space, child) {
            return Ok(());
        }
        self.gather.share_with(&child.0, user_pages(range), copy_on_write)
    }

    /// Moves what is mapped in `from` to `to` with access and state (mremap). The target must not overlap; what was there is
    /// dropped. Fails if the target is outside user space, overlaps, or page tables run out: then nothing has changed.
    pub fn move_range(&mut self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        let from = user_pages(from);
        let end = user_page(to)?.checked_add(from.len()).filter(|end| *end <= USER_TOP).ok_or(OutOfMemory)?;
        if to < from.end && from.start < end {
            return Err(OutOfMemory);
        }
        self.gather.move_range(from, to)
    }

    /// Pages mapped in the space now.
    #[inline]
    pub fn resident(&self) -> usize {
        self.space.resident()
    }

    /// The pages that programs on other CPUs may still see as they were, if there are any: all that was changed, and what lies between.
    /// Who maps something there before this is dropped may be seen with another's page.
    #[inline]
    pub fn unflushed(&self) -> Option<Range<usize>> {
        self.gather.unflushed()
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({} pages)", self.resident())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITABLE: Access = Access::READ.union(Access::WRITE);
    const PAGE: usize = 0x40_0000;

    fn filled(byte: u8) -> Frame {
        let frame = Frame::zeroed().unwrap();
        frame.write(0, &[byte; PAGE_SIZE]);
        frame
    }

    fn byte_at(space: &Space, address: usize) -> u8 {
        let mut byte = [0];
        space.read(address, &mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn a_page_owns_its_frame() {
        let space = Space::new().unwrap();
        let (first, second) = (filled(1), filled(2));
        space.map(PAGE, first.clone(), WRITABLE).unwrap();
        assert_eq!((first.references(), space.resident()), (2, 1));
        space.map(PAGE, second.clone(), WRITABLE).unwrap();
        assert_eq!((first.references(), second.references(), space.resident()), (1, 2, 1));
        assert_eq!(space.frame_at(PAGE + 5).unwrap().number(), second.number());
        space.gather().unmap(PAGE..PAGE + 1);
        assert_eq!((second.references(), space.resident()), (1, 0));
        space.map(PAGE, second.clone(), WRITABLE).unwrap();
        drop(space);
        assert_eq!(second.references(), 1);
    }

    #[test]
    fn copies_stop_at_the_very_byte() {
        let space = Space::new().unwrap();
        space.map(PAGE, filled(7), WRITABLE).unwrap();
        let mut bytes = [0; 100];
        let fault = UserFault { copied: 16, address: PAGE + PAGE_SIZE, write: false };
        assert_eq!(space.read(PAGE + PAGE_SIZE - 16, &mut bytes), Err(fault));
        assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 16);
        assert_eq!(space.zero(PAGE + PAGE_SIZE - 16, 100), Err(UserFault { write: true, ..fault }));
        assert_eq!(byte_at(&space, PAGE + PAGE_SIZE - 1), 0);
        space.gather().protect(PAGE..PAGE + PAGE_SIZE, Access::READ);
        assert_eq!(space.write(PAGE + 8, &bytes), Err(UserFault { copied: 0, address: PAGE + 8, write: true }));
        assert!(space.compare_exchange_u32(PAGE, 0, 1).is_err() && space.load_u32(PAGE).is_ok());
        space.gather().protect(PAGE..PAGE + PAGE_SIZE, Access::empty());
        assert!(space.read(PAGE, &mut bytes).is_err());
        assert_eq!(space.lookup(PAGE).unwrap().access, Access::empty());
    }

    #[test]
    fn what_is_not_user_space_is_refused() {
        let space = Space::new().unwrap();
        let mut bytes = [0; 16];
        for address in [USER_TOP - 8, USER_TOP, 0xffff_8000_0000_0000, usize::MAX - 3] {
            assert_eq!(space.read(address, &mut bytes), Err(UserFault { copied: 0, address, write: false }));
            assert_eq!(space.write(address, &bytes), Err(UserFault { copied: 0, address, write: true }));
            assert!(space.map(address & !(PAGE_SIZE - 1), filled(0), WRITABLE).is_err() || address < USER_TOP);
        }
        assert_eq!(space.read(usize::MAX, &mut []), Ok(()));
        assert!(space.map(PAGE + 1, filled(0), WRITABLE).is_err());
        assert!(space.load_u32(PAGE + 2).is_err() && space.compare_exchange_u32(PAGE + 1, 0, 0).is_err());
        space.gather().unmap(PAGE..usize::MAX);
        space.gather().unmap(usize::MAX - 5..usize::MAX);
        assert!(space.gather().move_range(PAGE..PAGE + PAGE_SIZE, USER_TOP).is_err());
        assert!(space.gather().move_range(PAGE..PAGE + 2 * PAGE_SIZE, PAGE + PAGE_SIZE).is_err());
    }

    #[test]
    fn fork_copies_on_write() {
        let parent = Space::new().unwrap();
        parent.map_batch(PAGE, (0..4).map(filled), WRITABLE).unwrap();
        let child = Space::new().unwrap();
        parent.gather().share_with(&child, PAGE..PAGE + 3 * PAGE_SIZE, true).unwrap();
        assert_eq!(child.resident(), 3);
        let mapping = parent.lookup(PAGE).unwrap();
        assert!(mapping.copy_on_write && mapping.references == 2 && !mapping.access.contains(Access::WRITE));
        assert!(parent.write(PAGE, &[9]).is_err() && child.write(PAGE, &[9]).is_err());
        parent.gather().protect(PAGE..PAGE + PAGE_SIZE, WRITABLE);
        assert!(parent.write(PAGE, &[9]).is_err(), "protect must not make a shared page writable");

        assert_eq!(child.break_copy_on_write(PAGE, WRITABLE), Ok(true));
        child.write(PAGE, &[9]).unwrap();
        assert_eq!((byte_at(&parent, PAGE), byte_at(&child, PAGE)), (0, 9));
        // Now the parent is the only owner, and keeps its frame.
        assert_eq!(parent.break_copy_on_write(PAGE, WRITABLE), Ok(true));
        assert_eq!(parent.lookup(PAGE).unwrap().frame_number, mapping.frame_number);
        parent.write(PAGE, &[8]).unwrap();
        assert_eq!(parent.break_copy_on_write(PAGE + 9 * PAGE_SIZE, WRITABLE), Ok(false));
        parent.write(PAGE + 3 * PAGE_SIZE, &[1]).unwrap();

        parent.gather().share_with(&child, PAGE + 3 * PAGE_SIZE..PAGE + 4 * PAGE_SIZE, false).unwrap();
        child.write(PAGE + 3 * PAGE_SIZE, &[5]).unwrap();
        assert_eq!(byte_at(&parent, PAGE + 3 * PAGE_SIZE), 5);
        parent.gather().share_with(&parent, PAGE..PAGE + PAGE_SIZE, true).unwrap();
    }

    #[test]
    fn a_frame_of_others_is_never_written() {
        let space = Space::new().unwrap();
        let cached = filled(3);
        space.map(PAGE, cached.clone(), WRITABLE | Access::COPY_ON_WRITE).unwrap();
        assert!(space.write(PAGE, &[4]).is_err());
        space.break_copy_on_write(PAGE, WRITABLE).unwrap();
        space.write(PAGE, &[4]).unwrap();
        let mut byte = [0];
        cached.read(0, &mut byte);
        assert_eq!((byte[0], cached.references()), (3, 1));
    }

    #[test]
    fn ranges_move_and_go_in_slices() {
        let space = Space::new().unwrap();
        space.map_batch(PAGE, (0..100).map(filled), WRITABLE).unwrap();
        let target = 0x7fff_0000_0000;
        space.gather().move_range(PAGE + 10 * PAGE_SIZE..PAGE + 20 * PAGE_SIZE, target).unwrap();
        assert_eq!((byte_at(&space, target), byte_at(&space, target + 9 * PAGE_SIZE)), (10, 19));
        assert!(space.lookup(PAGE + 10 * PAGE_SIZE).is_none() && space.resident() == 100);
        let (mut next, mut slices) = (0, 0);
        while let Some(page) = space.gather().unmap_some(next..USER_TOP, 7) {
            assert!(page > next);
            (next, slices) = (page, slices + 1);
        }
        assert!(slices > 1 && space.resident() == 0, "{slices}");
    }
}
