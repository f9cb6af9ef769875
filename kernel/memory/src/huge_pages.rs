//! Huge pages for anonymous memory, without programs asking: Linux's transparent huge pages, set to `always`.
//!
//! The first write to 2 MiB of a private anonymous area gets all of them at once, in one huge page ([`Space::map_huge`]): one fault
//! instead of 512, and one place in the processor's TLB. From then on these are pages as all others; what changes some of them alone takes the huge page
//! apart, in the machine. It is only tried by faults that know their area without a lock (`recent_areas`), since 2 MiB are cleared first.
//!
//! **When.** The 2 MiB lie in the area as a whole, and nothing of them is mapped. The program hasn't forbidden it: `MADV_NOHUGEPAGE`, or
//! `PR_SET_THP_DISABLE`; `MAP_STACK` forbids it too, as of Linux 6.7: threads use little of their stacks. An eighth of all memory is free, and there
//! is a run of frames. Else it is one page as ever, and nobody is told. As on Linux a machine with less than 512 MiB has no huge pages.
//!
//! `MADV_HUGEPAGE` is only noted and shown. Nobody puts small pages together later (`khugepaged`).
//!
//! [`Space::map_huge`]: machine::memory::Space::map_huge

use core::ops::Range;
use core::sync::atomic::Ordering;

use machine::memory::{Access, FrameRun, HUGE_PAGE_ORDER, PAGE_SIZE};

use crate::address_space::AddressSpace;
use crate::area::{Area, AreaFlags, Backing};
use crate::fault::Known;

/// The 2 MiB, as the machine has them, around `page`, if they lie in `area`.
fn huge_page_around(page: usize, area: &Range<usize>, order: u8) -> Option<Range<usize>> {
    let size = PAGE_SIZE.checked_shl(order.into())?;
    let start = page & !(size - 1);
    let end = start.checked_add(size)?;
    (area.start <= start && end <= area.end).then_some(start..end)
}

/// Whether `area` has room for a huge page.
fn has_room(area: &Range<usize>, order: u8) -> bool {
    let size = PAGE_SIZE.checked_shl(order.into());
    let first = size.and_then(|size| area.start.checked_next_multiple_of(size));
    first.is_some_and(|first| huge_page_around(first, area, order).is_some())
}

impl AddressSpace {
    /// `PR_GET_THP_DISABLE`
    pub fn forbids_huge_pages(&self) -> bool {
        self.no_huge_pages.load(Ordering::Relaxed)
    }

    /// `PR_SET_THP_DISABLE`, which children inherit, and programs that are executed.
    pub fn forbid_huge_pages(&self, forbid: bool) {
        let layout = self.layout();
        self.no_huge_pages.store(forbid, Ordering::Relaxed);
        layout.recent.forget_all();
    }

    /// Whether writes to `area` may get huge pages: THPeligible in smaps.
    pub(crate) fn may_be_huge(&self, area: &Area) -> bool {
        let Some(order) = HUGE_PAGE_ORDER.filter(|_| self.memory().frames().has_huge_pages()) else { return false };
        matches!(area.backing, Backing::Anonymous)
            && !area.flags.intersects(AreaFlags::NO_HUGE_PAGE | AreaFlags::SPECIAL)
            && !self.forbids_huge_pages()
            && has_room(&area.range, order)
    }

    /// Maps a huge page around `page`, which is about to be written, if it lies in an area that is known and may have some. False if it did not
    /// come to that. It looks the area up itself, so that the commonest fault keeps nothing of it in memory.
    #[inline(never)]
    pub(crate) fn huge_page(&self, page: usize) -> bool {
        let (Some(order), Some(area)) = (HUGE_PAGE_ORDER, self.recent.find(page)) else { return false };
        let known = Known::of(&area);
        let Some(range) = huge_page_around(page, &area.range, order) else { return false };
        let is_wanted = known.may_be_huge() && known.rights().contains(Access::WRITE);
        if !is_wanted || self.space().has_leaf(page) || !self.memory().frames().is_plentiful() {
            return false;
        }
        let Some(run) = FrameRun::zeroed(order) else { return false };
        run.set_tags(|index| self.family().tag(known.home(range.start + index * PAGE_SIZE)));
        self.space().map_huge(range.start, run, known.rights(), || area.is_still_so()).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: u8 = 9;
    const SIZE: usize = PAGE_SIZE << ORDER;

    #[test]
    fn only_whole_ones_within_the_area_count() {
        let area = 3 * SIZE - PAGE_SIZE..5 * SIZE;
        let around = |page| huge_page_around(page, &area, ORDER);
        assert_eq!(around(3 * SIZE - PAGE_SIZE), None);
        assert_eq!(around(3 * SIZE), Some(3 * SIZE..4 * SIZE));
        assert_eq!(around(5 * SIZE - PAGE_SIZE), Some(4 * SIZE..5 * SIZE));
        let one_less = 3 * SIZE..5 * SIZE - PAGE_SIZE;
        assert_eq!(huge_page_around(5 * SIZE - 2 * PAGE_SIZE, &one_less, ORDER), None);
        assert_eq!(huge_page_around(usize::MAX & !(PAGE_SIZE - 1), &(0..usize::MAX), ORDER), None);
    }

    #[test]
    fn an_area_has_room_only_if_one_lies_in_it() {
        assert!(has_room(&(SIZE..2 * SIZE), ORDER) && has_room(&(SIZE - PAGE_SIZE..2 * SIZE), ORDER));
        assert!(!has_room(&(SIZE + PAGE_SIZE..3 * SIZE - PAGE_SIZE), ORDER));
        assert!(!has_room(&(SIZE..2 * SIZE - PAGE_SIZE), ORDER));
        assert!(!has_room(&(usize::MAX - PAGE_SIZE..usize::MAX), ORDER));
    }
}
