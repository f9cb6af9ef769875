//! [`Space`]: what a program sees of memory.

use super::{
    Access, Frame, FrameRun, Mapping, OutOfMemory, PAGE_SIZE, SwapEntries, SwapEntry, SwappedOut, UserAddress,
    UserFault,
};
use crate::platform;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use platform::paging::{Address, USER_TOP as TOP};

/// The first address a program cannot have. On `pc` one page below the end of the lower half, as on Linux, so that no
/// instruction can end on the non-canonical boundary; on `host` a little less.
#[allow(clippy::unnecessary_cast, reason = "the platform's own addresses may be shorter")]
pub const USER_END: UserAddress = UserAddress::new(TOP as u64);

/// [`USER_END`] in a word of the kernel, where those are long enough.
#[cfg(target_pointer_width = "64")]
pub const USER_TOP: usize = USER_END.get() as usize;

/// Bytes of a page, as a distance between addresses.
const PAGE: Address = PAGE_SIZE as Address;

/// Pages worth mapping at once around a fault where they cost nothing else, a power of two: more where a fault is dear.
pub const FAULT_AROUND: usize = platform::paging::FAULT_AROUND;

/// Fresh pages worth supplying at once to a program that fills memory page by page. They cost memory that it may never touch:
/// more than one only where a fault is dear.
pub const FAULT_AHEAD: usize = platform::paging::FAULT_AHEAD;

/// 2^this frames lie together in a huge page, which the CPU finds with one look into its tables. None where there are no such pages.
pub const HUGE_PAGE_ORDER: Option<u8> = platform::paging::HUGE_PAGE_ORDER;

/// Huge pages that are mapped, of all spaces.
pub fn huge_pages() -> usize {
    platform::paging::huge_pages()
}

/// A user address space: which frame each page shows, and with what access.
///
/// Pages are page-aligned addresses below [`USER_END`]. Ranges are rounded outwards to whole pages and clipped to user
/// space; what lies outside is never touched. A method that maps refuses (by `OutOfMemory`) an address outside.
pub struct Space(pub(crate) platform::paging::Tables);

/// The address as the platform's tables have it: no bit is lost.
#[inline]
fn own(address: impl Into<UserAddress>) -> Address {
    address.into().get() as Address
}

/// An address of the platform's tables, as the boundary has it.
#[allow(clippy::unnecessary_cast, reason = "as above")]
#[inline]
fn shown(address: Address) -> UserAddress {
    UserAddress::new(address as u64)
}

/// The part of `range` that is user space, in whole pages.
#[inline]
fn user_pages(range: Range<impl Into<UserAddress>>) -> Range<Address> {
    let start = own(range.start) & !(PAGE - 1);
    let end = own(range.end).min(TOP).next_multiple_of(PAGE);
    start.min(end)..end
}

/// `page` if it is a page of user space.
#[inline]
fn user_page(page: impl Into<UserAddress>) -> Result<Address, OutOfMemory> {
    let page = own(page);
    if page < TOP && page.is_multiple_of(PAGE) { Ok(page) } else { Err(OutOfMemory) }
}

/// The page of `address`, if that is user space.
#[inline]
fn page_of(address: impl Into<UserAddress>) -> Option<Address> {
    let page = own(address) & !(PAGE - 1);
    (page < TOP).then_some(page)
}

/// Checks that `length` bytes from `address` are user space, as Linux's `access_ok`.
#[inline]
fn user_bytes(address: impl Into<UserAddress>, length: usize, write: bool) -> Result<Address, UserFault> {
    let address = own(address);
    match address.checked_add(length as Address) {
        Some(end) if end <= TOP => Ok(address),
        _ if length == 0 => Ok(address),
        _ => Err(UserFault { copied: 0, address: shown(address), write }),
    }
}

/// As [`user_bytes`], of an aligned word.
#[inline]
fn user_word(address: impl Into<UserAddress>, write: bool) -> Result<Address, UserFault> {
    let address = user_bytes(address, 4, write)?;
    if address.is_multiple_of(4) { Ok(address) } else { Err(UserFault { copied: 0, address: shown(address), write }) }
}

/// The part of a frame from `offset`, at most `length` bytes.
#[inline]
fn frame_part(offset: usize, length: usize) -> usize {
    length.min(PAGE_SIZE.saturating_sub(offset))
}

impl Space {
    /// An empty space, of which nothing is ever swapped out. Fails if memory is out.
    pub fn new() -> Result<Arc<Space>, OutOfMemory> {
        Ok(Arc::new(Space(platform::paging::Tables::new(None)?)))
    }

    /// An empty space whose swap entries are counted by `entries`: each in as many places as it stands. Fails if memory is out.
    pub fn with_swap(entries: Arc<dyn SwapEntries>) -> Result<Arc<Space>, OutOfMemory> {
        Ok(Arc::new(Space(platform::paging::Tables::new(Some(entries))?)))
    }

    /// Shows `frame` at `page`. What was there before is replaced, and dropped after the flush. Fails if there is no
    /// memory for page tables; then nothing changes but that `frame` is dropped.
    #[inline]
    pub fn map(&self, page: impl Into<UserAddress>, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.0.map(user_page(page)?, frame, access)
    }

    /// As [`map`](Space::map), if what is mapped at `page` is frame number `before`, or nothing, not even a swap entry, if that is none, and `still` holds, which is
    /// asked with the page's table locked and must not touch the space. False if not: then nothing changes, but that `frame` is dropped. Of two CPUs that
    /// supply the same page so only one does.
    #[inline]
    pub fn map_over(
        &self,
        page: impl Into<UserAddress>,
        before: Option<usize>,
        frame: Frame,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.0.map_over(user_page(page)?, before, frame, access, still)
    }

    /// Shows frames at consecutive pages from `start` where nothing is, in one walk: fault-around. On failure a first part is mapped, and
    /// if `still` does not hold, which is asked as in [`map_over`](Space::map_over): then it returns false.
    /// `frames` runs with a table locked: it must not touch this space.
    pub fn map_batch(
        &self,
        start: impl Into<UserAddress>,
        frames: impl Iterator<Item = Frame>,
        access: Access,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.0.map_batch(user_page(start)?, frames, access, still)
    }

    /// Shows a run of [`HUGE_PAGE_ORDER`] in one piece, from `start` on, a multiple of its size, if nothing is mapped there, and `still` holds, which
    /// is asked as in [`map_over`](Space::map_over). False if not, and on failure: then nothing changes, but that `run` is dropped. From then on these are
    /// pages as all others; what changes some of them alone takes the piece apart.
    pub fn map_huge(
        &self,
        start: impl Into<UserAddress>,
        run: FrameRun,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let (start, length) = (user_page(start)?, (run.numbers().len() as Address).saturating_mul(PAGE));
        if start.is_multiple_of(length) && start.checked_add(length).is_some_and(|end| end <= TOP) {
            self.0.map_huge(start, run, access, still)
        } else {
            Err(OutOfMemory)
        }
    }

    /// Whether some page is mapped that shares the last level of tables with that of `address`: then there can be no huge page.
    #[inline]
    pub fn has_leaf(&self, address: impl Into<UserAddress>) -> bool {
        page_of(address).is_none_or(|page| self.0.has_leaf(page))
    }

    /// Whether the page of `address` is part of a huge page now.
    pub fn is_huge(&self, address: impl Into<UserAddress>) -> bool {
        page_of(address).is_some_and(|page| self.0.is_huge(page))
    }

    /// What takes pages and rights out, and waits for other CPUs to forget them when it is dropped: at the end of the statement, if it gets no
    /// name.
    #[inline(always)]
    pub fn gather(&self) -> MmuGather<'_> {
        MmuGather { gather: self.0.gather(), space: self }
    }

    /// What is mapped at the page of `address`.
    #[inline]
    pub fn lookup(&self, address: impl Into<UserAddress>) -> Option<Mapping> {
        self.0.lookup(page_of(address)?)
    }

    /// The first page mapped in a range, and what is mapped there. What is not mapped costs nothing but its page tables.
    pub fn next_mapped(&self, range: Range<impl Into<UserAddress>>) -> Option<(UserAddress, Mapping)> {
        let found = self.0.next_mapped(user_pages(range));
        found.map(|(page, mapping)| (shown(page), mapping))
    }

    /// The first page in a range where something is mapped, or a swap entry stands.
    pub fn next_occupied(&self, range: Range<impl Into<UserAddress>>) -> Option<UserAddress> {
        self.0.next_occupied(user_pages(range)).map(shown)
    }

    /// A reference to the frame mapped at the page of `address`.
    pub fn frame_at(&self, address: impl Into<UserAddress>) -> Option<Frame> {
        self.0.frame_at(page_of(address)?)
    }

    /// Makes the copy-on-write page at `page` private, with the [tag](Frame::set_tag) `tag`, and gives it `access`: in place if this space is the frame's only owner,
    /// else on a copy, which is made without a lock: if the page has become another meanwhile, that stays. A page that is not
    /// copy-on-write just gets `access`. False, and nothing has changed, if nothing is mapped there, or `still` does not hold, which is asked as
    /// in [`map_over`](Space::map_over).
    #[inline]
    pub fn break_copy_on_write(
        &self,
        page: impl Into<UserAddress>,
        access: Access,
        tag: u64,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.0.break_copy_on_write(user_page(page)?, access, tag, still)
    }

    /// The swap entry that stands at the page of `address`, where nothing is mapped then.
    pub fn swap_entry(&self, address: impl Into<UserAddress>) -> Option<SwapEntry> {
        self.0.swap_entry(page_of(address)?)
    }

    /// Shows `frame` at `page` in the place of `entry`, which is given back. False if that does not stand there; then nothing changes, but that
    /// `frame` is dropped.
    pub fn swap_in(
        &self,
        page: impl Into<UserAddress>,
        entry: SwapEntry,
        frame: Frame,
        access: Access,
    ) -> Result<bool, OutOfMemory> {
        self.0.swap_in(user_page(page)?, entry, frame, access)
    }

    /// Pages mapped now.
    #[inline]
    pub fn resident(&self) -> usize {
        self.0.resident()
    }

    /// Copies user bytes to the kernel.
    #[inline]
    pub fn read(&self, address: impl Into<UserAddress>, to: &mut [u8]) -> Result<(), UserFault> {
        let address = user_bytes(address, to.len(), false)?;
        // SAFETY: `to` is writable for its length, and the range is user space.
        unsafe { self.0.read(address, to.as_mut_ptr(), to.len()) }
    }

    /// Copies kernel bytes to user memory.
    #[inline]
    pub fn write(&self, address: impl Into<UserAddress>, from: &[u8]) -> Result<(), UserFault> {
        let address = user_bytes(address, from.len(), true)?;
        // SAFETY: `from` is readable for its length, and the range is user space.
        unsafe { self.0.write(address, from.as_ptr(), from.len()) }
    }

    /// Zeroes user memory.
    pub fn zero(&self, address: impl Into<UserAddress>, length: usize) -> Result<(), UserFault> {
        let address = user_bytes(address, length, true)?;
        self.0.zero(address, length)
    }

    /// Copies user bytes into a frame at `offset`, at most to its end.
    pub fn read_to_frame(
        &self,
        address: impl Into<UserAddress>,
        frame: &Frame,
        offset: usize,
        length: usize,
    ) -> Result<(), UserFault> {
        let length = frame_part(offset, length);
        let address = user_bytes(address, length, false)?;
        // SAFETY: the part lies in the frame, and the range is user space.
        unsafe { self.0.read(address, frame.bytes().wrapping_add(offset), length) }
    }

    /// Copies a frame's bytes from `offset`, at most to its end, to user memory.
    pub fn write_from_frame(
        &self,
        address: impl Into<UserAddress>,
        frame: &Frame,
        offset: usize,
        length: usize,
    ) -> Result<(), UserFault> {
        let length = frame_part(offset, length);
        let address = user_bytes(address, length, true)?;
        // SAFETY: the part lies in the frame, and the range is user space.
        unsafe { self.0.write(address, frame.bytes().wrapping_add(offset), length) }
    }

    /// Loads an aligned u32 in one access. A misaligned address faults.
    pub fn load_u32(&self, address: impl Into<UserAddress>) -> Result<u32, UserFault> {
        self.0.load_u32(user_word(address, false)?)
    }

    /// Atomically replaces an aligned u32 if it equals `old`: `Ok(old)`, or `Err(what is there)`. A misaligned address
    /// faults.
    pub fn compare_exchange_u32(
        &self,
        address: impl Into<UserAddress>,
        old: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, UserFault> {
        self.0.compare_exchange_u32(user_word(address, true)?, old, new)
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
    pub fn unmap(&mut self, range: Range<impl Into<UserAddress>>) {
        self.gather.unmap(user_pages(range), usize::MAX);
    }

    /// Empties `range` up to about `budget` pages of work. Returns where to go on, or none when all is done. For
    /// tear-down that yields between slices.
    pub fn unmap_some(&mut self, range: Range<impl Into<UserAddress>>, budget: usize) -> Option<UserAddress> {
        self.gather.unmap(user_pages(range), budget.max(1)).map(shown)
    }

    /// Changes the access of what is mapped in `range`. A copy-on-write page stays read-only until it is broken.
    pub fn protect(&mut self, range: Range<impl Into<UserAddress>>, access: Access) {
        self.gather.protect(user_pages(range), access);
    }

    /// Puts `entry` in the place of frame number `frame`, if that is mapped at `page`, and tells what the processor noted of the page. Whoever
    /// goes on to write the frame out has a reference of his own, and waits until this is dropped: programs on other CPUs may still write to it,
    /// where the page was dirty. None, and nothing has changed, if another frame is there, or the space has no entries
    /// ([`Space::with_swap`]), or no memory for one.
    pub fn swap_out(&mut self, page: impl Into<UserAddress>, frame: usize, entry: SwapEntry) -> Option<SwappedOut> {
        self.gather.swap_out(user_page(page).ok()?, frame, entry)
    }

    /// Shows the frames of `range`, and copies its swap entries, in `child` too, whose range must be empty: fork of one area. With `copy_on_write` both
    /// sides lose the right to write until [`break_copy_on_write`](Space::break_copy_on_write). On failure the
    /// child has a part of it. A space cannot share with itself: nothing happens.
    pub fn share_with(
        &mut self,
        child: &Space,
        range: Range<impl Into<UserAddress>>,
        copy_on_write: bool,
    ) -> Result<(), OutOfMemory> {
        if core::ptr::eq(self.space, child) {
            return Ok(());
        }
        self.gather.share_with(&child.0, user_pages(range), copy_on_write)
    }

    /// Moves what is mapped in `from` to `to` with access and state (mremap). The target must not overlap; what was there is
    /// dropped. Fails if the target is outside user space, overlaps, or page tables run out: then nothing has changed.
    pub fn move_range(
        &mut self,
        from: Range<impl Into<UserAddress>>,
        to: impl Into<UserAddress>,
    ) -> Result<(), OutOfMemory> {
        let from = user_pages(from);
        let to = user_page(to)?;
        let end = to.checked_add(from.end - from.start).filter(|end| *end <= TOP).ok_or(OutOfMemory)?;
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
    pub fn unflushed(&self) -> Option<Range<UserAddress>> {
        self.gather.unflushed().map(|range| shown(range.start)..shown(range.end))
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
    const PAGE: u64 = 0x40_0000;
    /// Bytes of a page, as a distance between addresses.
    const SIZE: u64 = PAGE_SIZE as u64;
    const TOP: u64 = USER_END.get();

    fn filled(byte: u8) -> Frame {
        let frame = Frame::zeroed().unwrap();
        frame.write(0, &[byte; PAGE_SIZE]);
        frame
    }

    fn byte_at(space: &Space, address: u64) -> u8 {
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
        let fault = UserFault { copied: 16, address: UserAddress::new(PAGE + SIZE), write: false };
        assert_eq!(space.read(PAGE + SIZE - 16, &mut bytes), Err(fault));
        assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 16);
        assert_eq!(space.zero(PAGE + SIZE - 16, 100), Err(UserFault { write: true, ..fault }));
        assert_eq!(byte_at(&space, PAGE + SIZE - 1), 0);
        space.gather().protect(PAGE..PAGE + SIZE, Access::READ);
        assert_eq!(
            space.write(PAGE + 8, &bytes),
            Err(UserFault { copied: 0, address: UserAddress::new(PAGE + 8), write: true })
        );
        assert!(space.compare_exchange_u32(PAGE, 0, 1).is_err() && space.load_u32(PAGE).is_ok());
        space.gather().protect(PAGE..PAGE + SIZE, Access::empty());
        assert!(space.read(PAGE, &mut bytes).is_err());
        assert_eq!(space.lookup(PAGE).unwrap().access, Access::empty());
    }

    #[test]
    fn what_is_not_user_space_is_refused() {
        let space = Space::new().unwrap();
        let mut bytes = [0; 16];
        for address in [TOP - 8, TOP, 0xffff_8000_0000_0000, u64::MAX - 3] {
            assert_eq!(
                space.read(address, &mut bytes),
                Err(UserFault { copied: 0, address: address.into(), write: false })
            );
            assert_eq!(
                space.write(address, &bytes),
                Err(UserFault { copied: 0, address: address.into(), write: true })
            );
            assert!(space.map(address & !(SIZE - 1), filled(0), WRITABLE).is_err() || address < TOP);
        }
        assert_eq!(space.read(u64::MAX, &mut []), Ok(()));
        assert!(space.map(PAGE + 1, filled(0), WRITABLE).is_err());
        assert!(space.load_u32(PAGE + 2).is_err() && space.compare_exchange_u32(PAGE + 1, 0, 0).is_err());
        space.gather().unmap(PAGE..u64::MAX);
        space.gather().unmap(u64::MAX - 5..u64::MAX);
        assert!(space.gather().move_range(PAGE..PAGE + SIZE, TOP).is_err());
        assert!(space.gather().move_range(PAGE..PAGE + 2 * SIZE, PAGE + SIZE).is_err());
    }

    #[test]
    fn fork_copies_on_write() {
        let parent = Space::new().unwrap();
        parent.map_batch(PAGE, (0..4).map(filled), WRITABLE, || true).unwrap();
        let child = Space::new().unwrap();
        parent.gather().share_with(&child, PAGE..PAGE + 3 * SIZE, true).unwrap();
        assert_eq!(child.resident(), 3);
        let mapping = parent.lookup(PAGE).unwrap();
        assert!(mapping.copy_on_write && mapping.references == 2 && !mapping.access.contains(Access::WRITE));
        assert!(parent.write(PAGE, &[9]).is_err() && child.write(PAGE, &[9]).is_err());
        parent.gather().protect(PAGE..PAGE + SIZE, WRITABLE);
        assert!(parent.write(PAGE, &[9]).is_err(), "protect must not make a shared page writable");

        parent.frame_at(PAGE).unwrap().set_tag(1);
        assert_eq!(child.break_copy_on_write(PAGE, WRITABLE, 2, || true), Ok(true));
        child.write(PAGE, &[9]).unwrap();
        assert_eq!((byte_at(&parent, PAGE), byte_at(&child, PAGE)), (0, 9));
        let tag = |space: &Space| space.frame_at(PAGE).unwrap().tag();
        assert_eq!((tag(&parent), tag(&child)), (1, 2), "the copy has the tag, not what was copied");
        // Now the parent is the only owner, and keeps its frame.
        assert_eq!(parent.break_copy_on_write(PAGE, WRITABLE, 3, || false), Ok(false));
        assert_eq!(tag(&parent), 1);
        assert_eq!(parent.break_copy_on_write(PAGE, WRITABLE, 3, || true), Ok(true));
        assert_eq!(tag(&parent), 3);
        assert_eq!(parent.lookup(PAGE).unwrap().frame_number, mapping.frame_number);
        parent.write(PAGE, &[8]).unwrap();
        assert_eq!(parent.break_copy_on_write(PAGE + 9 * SIZE, WRITABLE, 0, || true), Ok(false));
        parent.write(PAGE + 3 * SIZE, &[1]).unwrap();

        parent.gather().share_with(&child, PAGE + 3 * SIZE..PAGE + 4 * SIZE, false).unwrap();
        child.write(PAGE + 3 * SIZE, &[5]).unwrap();
        assert_eq!(byte_at(&parent, PAGE + 3 * SIZE), 5);
        parent.gather().share_with(&parent, PAGE..PAGE + SIZE, true).unwrap();
    }

    #[test]
    fn a_frame_of_others_is_never_written() {
        let space = Space::new().unwrap();
        let cached = filled(3);
        space.map(PAGE, cached.clone(), WRITABLE | Access::COPY_ON_WRITE).unwrap();
        assert!(space.write(PAGE, &[4]).is_err());
        space.break_copy_on_write(PAGE, WRITABLE, 0, || true).unwrap();
        space.write(PAGE, &[4]).unwrap();
        let mut byte = [0];
        cached.read(0, &mut byte);
        assert_eq!((byte[0], cached.references()), (3, 1));
    }

    #[test]
    fn ranges_move_and_go_in_slices() {
        let space = Space::new().unwrap();
        space.map_batch(PAGE, (0..100).map(filled), WRITABLE, || true).unwrap();
        let target = 0x7fff_0000_0000;
        space.gather().move_range(PAGE + 10 * SIZE..PAGE + 20 * SIZE, target).unwrap();
        assert_eq!((byte_at(&space, target), byte_at(&space, target + 9 * SIZE)), (10, 19));
        assert!(space.lookup(PAGE + 10 * SIZE).is_none() && space.resident() == 100);
        let (mut next, mut slices) = (UserAddress::default(), 0);
        while let Some(page) = space.gather().unmap_some(next..USER_END, 7) {
            assert!(page > next);
            (next, slices) = (page, slices + 1);
        }
        assert!(slices > 1 && space.resident() == 0, "{slices}");
    }
    /// Whatever the words of the kernel are: the last page of the lower half is one of user space, if the platform has it, and no other page
    /// is taken for it.
    #[test]
    fn an_address_has_64_bits() {
        let last = USER_END.get() - SIZE;
        assert!(last > u64::from(u32::MAX));
        let space = Space::new().unwrap();
        space.map(last, filled(5), WRITABLE).unwrap();
        space.write(last + SIZE - 2, &[6, 7]).unwrap();
        assert_eq!((byte_at(&space, last), byte_at(&space, last + SIZE - 1)), (5, 7));
        assert_eq!(space.next_mapped(0..TOP).map(|(page, _)| page), Some(UserAddress::new(last)));
        let short = last & 0xffff_ffff;
        assert!(space.lookup(short).is_none() && space.load_u32(short).is_err());
        let fault = UserFault { copied: 0, address: UserAddress::new(last + SIZE - 2), write: false };
        assert_eq!(space.read(last + SIZE - 2, &mut [0; 3]), Err(fault));
        space.gather().unmap(0..TOP);
        assert_eq!(space.resident(), 0);
    }
}
