//! [`Pages`]: a space as a map from page to frame, with the meaning page tables have on `pc`; for machines that have none.
//!
//! Pages are numbered by 64 bits, whatever the words of the target are. What leaves the map is handed out: its frames are for the caller to
//! drop when no program sees them, and nothing is locked, any more. Nothing here allocates but the map itself, when it gets pages.
//!
//! **Who calls.** `simulator`, where programs have no other view of a space, and `stubs`, where the host's processes have, and what a page
//! shows there is a part of what the map has as its frame. A wrong answer shows a program the wrong page, and breaks no memory: frames
//! are handed around as the owned references they are.
//! **Who synchronises.** Who has it.

#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use boundary::{Access, Mapping, PageNumber, SwapEntries, SwapEntry, SwappedOut};
use core::mem;
use core::ops::Range;

/// A reference to a frame that keeps it.
pub trait Owned: Clone {
    /// The frame's number.
    fn number(&self) -> usize;
    /// How many such references there are.
    fn references(&self) -> u32;
    /// A new frame with the same bytes, if there is memory.
    fn copied(&self) -> Option<Self>;
    /// Writes down whose page it is.
    fn set_tag(&self, tag: u64);
}

/// A page, and the frame it shows.
#[derive(Clone)]
pub struct Page<F> {
    frame: F,
    access: Access,
    copy_on_write: bool,
    accessed: bool,
    dirty: bool,
}

impl<F: Owned> Page<F> {
    fn new(frame: F, access: Access) -> Page<F> {
        let copy_on_write = access.contains(Access::COPY_ON_WRITE);
        Page { frame, access: access - Access::COPY_ON_WRITE, copy_on_write, accessed: false, dirty: false }
    }

    /// What a program may do there now.
    pub fn access(&self) -> Access {
        if self.copy_on_write { self.access - Access::WRITE } else { self.access }
    }

    /// The frame.
    pub fn frame(&self) -> &F {
        &self.frame
    }

    /// The frame, for what its reference tells beside.
    pub fn frame_mut(&mut self) -> &mut F {
        &mut self.frame
    }

    /// The page was accessed so, or may be from now on.
    pub fn touched(&mut self, access: Access) {
        self.accessed = true;
        self.dirty |= access.contains(Access::WRITE);
    }

    fn mapping(&self) -> Mapping {
        Mapping {
            frame_number: self.frame.number(),
            access: self.access(),
            copy_on_write: self.copy_on_write,
            accessed: self.accessed,
            dirty: self.dirty,
            references: self.frame.references(),
        }
    }

    /// Whether it has to be copied before it is written.
    fn is_shared(&self) -> bool {
        self.copy_on_write && self.frame.references() != 1
    }
}

/// What is kept at a page.
enum Slot<F> {
    Mapped(Page<F>),
    Swapped(SwapEntry),
}

impl<F> Slot<F> {
    fn mapped(self) -> Option<Page<F>> {
        if let Slot::Mapped(page) = self { Some(page) } else { None }
    }

    fn as_mapped(&self) -> Option<&Page<F>> {
        if let Slot::Mapped(page) = self { Some(page) } else { None }
    }

    fn as_mapped_mut(&mut self) -> Option<&mut Page<F>> {
        if let Slot::Mapped(page) = self { Some(page) } else { None }
    }
}

/// A page, or a swap entry, on its way from one space to another.
pub struct Copied<F>(Slot<F>);

/// The pages of a space that show something, and those that are swapped out.
pub struct Pages<F> {
    slots: BTreeMap<PageNumber, Slot<F>>,
    /// How many are swapped out.
    swapped: usize,
    /// How many swap entries have left.
    released: usize,
    /// Who counts the entries. Without anybody there are none.
    entries: Option<Arc<dyn SwapEntries>>,
}

/// What is to be done about a page that may be shared.
pub enum Break<F> {
    /// Nothing: nothing is mapped there.
    Nothing,
    /// It is the space's own, or need not be.
    Own,
    /// This frame has to be copied first.
    Copy(F),
}

impl<F: Owned> Pages<F> {
    /// None, nor ever a swap entry.
    pub const fn new() -> Pages<F> {
        Pages { slots: BTreeMap::new(), swapped: 0, released: 0, entries: None }
    }

    /// None, of which some may be swapped out later.
    pub const fn with_swap(entries: Arc<dyn SwapEntries>) -> Pages<F> {
        Pages { slots: BTreeMap::new(), swapped: 0, released: 0, entries: Some(entries) }
    }

    /// How many are mapped.
    pub fn resident(&self) -> usize {
        self.slots.len() - self.swapped
    }

    /// How many are swapped out.
    pub fn swapped(&self) -> usize {
        self.swapped
    }

    /// How many swap entries have left, ever.
    pub fn released(&self) -> usize {
        self.released
    }

    /// How many there are in `range`, of both kinds.
    pub fn count(&self, range: Range<PageNumber>) -> usize {
        self.slots.range(range).count()
    }

    /// What was in a slot that is no longer; a swap entry is given back.
    fn left(&mut self, slot: Slot<F>) -> Option<Page<F>> {
        if let Slot::Swapped(entry) = slot {
            self.swapped -= 1;
            self.released += 1;
            self.entries.iter().for_each(|entries| entries.release(entry));
        }
        slot.mapped()
    }

    /// Shows `frame` at `page`. Returns what was there.
    pub fn map(&mut self, page: PageNumber, frame: F, access: Access) -> Option<F> {
        let before = self.slots.insert(page, Slot::Mapped(Page::new(frame, access)))?;
        self.left(before).map(|page| page.frame)
    }

    /// Shows frames at consecutive pages of `range` where nothing is.
    pub fn map_batch(&mut self, range: Range<PageNumber>, frames: impl Iterator<Item = F>, access: Access) {
        for (number, frame) in (range.start.get()..range.end.get()).zip(frames) {
            self.slots.entry(PageNumber::new(number)).or_insert_with(|| Slot::Mapped(Page::new(frame, access)));
        }
    }

    /// Puts `entry` in the place of frame number `frame`, if that is at `page` and entries are counted. Returns the frame, and what was noted of the
    /// page.
    pub fn swap_out(&mut self, page: PageNumber, frame: usize, entry: SwapEntry) -> Option<(F, SwappedOut)> {
        let slot = self.slots.get_mut(&page).filter(|_| self.entries.is_some())?;
        if slot.as_mapped()?.frame.number() != frame {
            return None;
        }
        let out = mem::replace(slot, Slot::Swapped(entry)).mapped()?;
        self.swapped += 1;
        self.entries.iter().for_each(|entries| entries.duplicate(entry));
        Some((out.frame, SwappedOut { accessed: out.accessed, dirty: out.dirty }))
    }

    /// The swap entry at `page`.
    pub fn swap_entry(&self, page: PageNumber) -> Option<SwapEntry> {
        match self.slots.get(&page)? {
            Slot::Swapped(entry) => Some(*entry),
            Slot::Mapped(_) => None,
        }
    }

    /// Empties `range`, up to `budget` pages, gives swap entries back, and hands out what the others were. Returns where to go on.
    pub fn unmap(
        &mut self,
        range: Range<PageNumber>,
        budget: usize,
        mut gone: impl FnMut(PageNumber, F),
    ) -> Option<PageNumber> {
        for turn in 0.. {
            let number = self.first(range.clone())?;
            if turn == budget {
                return Some(number);
            }
            let slot = self.slots.remove(&number)?;
            self.left(slot).into_iter().for_each(|page| gone(number, page.frame));
        }
        None
    }

    /// Changes the access of what is mapped in `range`.
    pub fn protect(&mut self, range: Range<PageNumber>, access: Access) {
        self.range_mut(range).for_each(|(_, page)| page.access = access - Access::COPY_ON_WRITE);
    }

    /// Hands out copies of what is in `range`, for a space that is to show the same frames and [`accept`](Self::accept)s them all;
    /// `copy_on_write` for both. Of swap entries only if that has them `counted`, too.
    pub fn share(
        &mut self,
        range: Range<PageNumber>,
        copy_on_write: bool,
        counted: bool,
        mut copy: impl FnMut((PageNumber, Copied<F>)),
    ) {
        for (number, slot) in self.slots.range_mut(range) {
            let copied = match slot {
                Slot::Mapped(page) => {
                    page.copy_on_write |= copy_on_write;
                    Slot::Mapped(page.clone())
                }
                // Counted before anybody else can give the first one back.
                Slot::Swapped(entry) if counted => {
                    self.entries.iter().for_each(|entries| entries.duplicate(*entry));
                    Slot::Swapped(*entry)
                }
                Slot::Swapped(_) => continue,
            };
            copy((*number, Copied(copied)));
        }
    }

    /// Whether there can be swap entries.
    pub fn counts_entries(&self) -> bool {
        self.entries.is_some()
    }

    /// Shows what another space [`share`](Self::share)s, and hands out what was there.
    pub fn accept(
        &mut self,
        copies: impl IntoIterator<Item = (PageNumber, Copied<F>)>,
        mut gone: impl FnMut(PageNumber, F),
    ) {
        for (number, Copied(slot)) in copies {
            self.swapped += usize::from(slot.as_mapped().is_none());
            if let Some(before) = self.slots.insert(number, slot) {
                self.left(before).into_iter().for_each(|before| gone(number, before.frame));
            }
        }
    }

    /// Moves what is in `from` to `to`, and hands out what was there.
    pub fn move_range(&mut self, from: Range<PageNumber>, to: PageNumber, gone: impl FnMut(PageNumber, F)) {
        let length = from.end.get().saturating_sub(from.start.get());
        self.unmap(to..PageNumber::new(to.get().saturating_add(length)), usize::MAX, gone);
        let mut rest = from.clone();
        while let Some(number) = self.first(rest.clone()) {
            rest.start = PageNumber::new(number.get() + 1);
            if let Some(slot) = self.slots.remove(&number) {
                let distance = number.get().wrapping_sub(from.start.get());
                self.slots.insert(PageNumber::new(to.get().wrapping_add(distance)), slot);
            }
        }
    }

    /// The first of `range` that is mapped or swapped out.
    pub fn first(&self, range: Range<PageNumber>) -> Option<PageNumber> {
        self.slots.range(range).next().map(|(number, _)| *number)
    }

    /// Whether frame number `frame` is at `page`; none: neither a frame nor a swap entry.
    pub fn has(&self, page: PageNumber, frame: Option<usize>) -> bool {
        match frame {
            Some(frame) => self.frame_at(page).is_some_and(|there| there.number() == frame),
            None => self.is_vacant(page),
        }
    }

    /// Whether neither a page nor a swap entry is at `page`.
    pub fn is_vacant(&self, page: PageNumber) -> bool {
        !self.slots.contains_key(&page)
    }

    /// The page at `page`.
    pub fn get(&self, page: PageNumber) -> Option<&Page<F>> {
        self.slots.get(&page)?.as_mapped()
    }

    /// The same, to note what was done there.
    pub fn get_mut(&mut self, page: PageNumber) -> Option<&mut Page<F>> {
        self.slots.get_mut(&page)?.as_mapped_mut()
    }

    /// The pages of `range` that are mapped, in order.
    pub fn range_mut(&mut self, range: Range<PageNumber>) -> impl Iterator<Item = (PageNumber, &mut Page<F>)> {
        self.slots.range_mut(range).filter_map(|(number, slot)| Some((*number, slot.as_mapped_mut()?)))
    }

    /// What is mapped at `page`.
    pub fn lookup(&self, page: PageNumber) -> Option<Mapping> {
        self.get(page).map(Page::mapping)
    }

    /// The first page mapped in `range`.
    pub fn next_mapped(&self, range: Range<PageNumber>) -> Option<(PageNumber, Mapping)> {
        let mut mapped =
            self.slots.range(range).filter_map(|(number, slot)| Some((*number, slot.as_mapped()?.mapping())));
        mapped.next()
    }

    /// The frame mapped at `page`.
    pub fn frame_at(&self, page: PageNumber) -> Option<&F> {
        self.get(page).map(Page::frame)
    }

    /// The frame at `page`, accessed so, if that is allowed.
    pub fn touch(&mut self, page: PageNumber, access: Access) -> Option<&F> {
        let page = self.get_mut(page).filter(|page| page.access().contains(access))?;
        page.touched(access);
        Some(&page.frame)
    }

    /// What has to be done before `page` can be the space's own.
    pub fn before_break(&self, page: PageNumber) -> Break<F> {
        match self.get(page) {
            None => Break::Nothing,
            Some(page) if page.is_shared() => Break::Copy(page.frame.clone()),
            Some(_) => Break::Own,
        }
    }

    /// Makes `page` the space's own, with this tag, and gives it `access`. `copied`: the frame that had to be copied, and the copy; if another frame has to
    /// be by now, all stays as it is. Returns whether something is mapped there, and the frame that is not needed.
    #[must_use]
    pub fn break_copy_on_write(
        &mut self,
        page: PageNumber,
        access: Access,
        tag: u64,
        copied: Option<(&F, F)>,
    ) -> (bool, Option<F>) {
        let Some(page) = self.get_mut(page) else { return (false, copied.map(|(_, copy)| copy)) };
        let unneeded = match copied {
            Some((of, copy)) if page.is_shared() && of.number() == page.frame.number() => {
                Some(mem::replace(&mut page.frame, copy))
            }
            copied => copied.map(|(_, copy)| copy),
        };
        if page.is_shared() {
            return (true, unneeded);
        }
        page.frame.set_tag(tag);
        page.copy_on_write = false;
        page.access = access - Access::COPY_ON_WRITE;
        (true, unneeded)
    }
}

impl<F> Drop for Pages<F> {
    fn drop(&mut self) {
        let Some(entries) = self.entries.take().filter(|_| self.swapped > 0) else { return };
        for slot in self.slots.values() {
            if let Slot::Swapped(entry) = slot {
                entries.release(*entry);
            }
        }
    }
}

impl<F: Owned> Default for Pages<F> {
    fn default() -> Pages<F> {
        Pages::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// Counted as a frame is.
    type Counted = Rc<usize>;

    impl Owned for Counted {
        fn number(&self) -> usize {
            **self
        }

        fn references(&self) -> u32 {
            Rc::strong_count(self) as u32
        }

        fn copied(&self) -> Option<Counted> {
            Some(Counted::new(**self + 100))
        }

        fn set_tag(&self, _: u64) {}
    }

    const WRITABLE: Access = Access::READ.union(Access::WRITE);
    /// The last page below 2^47.
    const LAST: PageNumber = PageNumber::new(0x7_ffff_ffff);
    const ALL: Range<PageNumber> = PageNumber::new(0)..PageNumber::new(u64::MAX);

    #[test]
    fn a_page_owns_its_frame_wherever_it_is() {
        let mut pages = Pages::new();
        let frame = Counted::new(5);
        assert!(pages.map(LAST, frame.clone(), WRITABLE).is_none());
        assert_eq!((frame.references(), pages.resident()), (2, 1));
        assert!(pages.lookup(PageNumber::new(LAST.get() & 0xffff_ffff)).is_none(), "no bit of the number is lost");
        assert_eq!(pages.next_mapped(ALL).map(|(number, _)| number), Some(LAST));
        assert_eq!(pages.map(LAST, Counted::new(6), Access::READ).map(|before| *before), Some(5));
        assert!(pages.touch(LAST, Access::WRITE).is_none() && pages.touch(LAST, Access::READ).is_some());
        assert!(pages.lookup(LAST).is_some_and(|page| page.accessed && !page.dirty));
        assert_eq!(frame.references(), 1);
    }

    #[test]
    fn what_is_shared_is_copied_before_it_is_written() {
        let (mut parent, mut child) = (Pages::new(), Pages::new());
        parent.map_batch(PageNumber::new(8)..LAST, (0..3).map(Counted::new), WRITABLE);
        let mut shared = Vec::new();
        parent.share(PageNumber::new(8)..PageNumber::new(10), true, true, |copy| shared.push(copy));
        child.accept(shared, |page, _| unreachable!("{page:?} was not there"));
        assert_eq!((parent.resident(), child.resident()), (3, 2));
        let page = PageNumber::new(9);
        assert!(parent.touch(page, Access::WRITE).is_none() && child.touch(page, Access::WRITE).is_none());
        let Break::Copy(shared) = child.before_break(page) else { unreachable!("it is shared") };
        let (mapped, old) = child.break_copy_on_write(page, WRITABLE, 5, Some((&shared, Counted::new(77))));
        assert!(mapped && old.is_some_and(|old| *old == 1));
        drop(shared);
        assert!(child.touch(page, Access::WRITE).is_some_and(|frame| **frame == 77));
        assert!(matches!(parent.before_break(page), Break::Own));
        assert_eq!(parent.break_copy_on_write(page, WRITABLE, 0, None), (true, None));
        assert!(parent.touch(page, Access::WRITE).is_some_and(|frame| **frame == 1));
        assert!(matches!(parent.before_break(LAST), Break::Nothing));
    }

    #[test]
    fn ranges_move_and_go_in_slices() {
        let mut pages = Pages::new();
        pages.map_batch(PageNumber::new(0)..PageNumber::new(5), (0..).map(Counted::new), WRITABLE);
        assert_eq!(pages.resident(), 5);
        pages.move_range(PageNumber::new(3)..PageNumber::new(5), LAST, |page, _| unreachable!("{page:?}"));
        assert!(pages.frame_at(LAST).is_some_and(|frame| **frame == 3));
        let mut gone = Vec::new();
        let rest = pages.unmap(ALL, 2, |page, frame| gone.push((page.get(), *frame)));
        assert_eq!((rest, gone.as_slice()), (Some(PageNumber::new(2)), &[(0, 0), (1, 1)][..]));
        gone.clear();
        pages.move_range(LAST..PageNumber::new(LAST.get() + 1), PageNumber::new(2), |page, frame| {
            gone.push((page.get(), *frame));
        });
        assert_eq!((gone, pages.resident()), (vec![(2, 2)], 2));
        assert_eq!(pages.unmap(ALL, 2, |_, _| ()), None);
        assert_eq!(pages.resident(), 0);
    }

    /// Counts entries as `machine`'s tests do.
    #[derive(Default)]
    struct Counts(std::sync::Mutex<std::collections::BTreeMap<SwapEntry, usize>>);

    impl SwapEntries for Counts {
        fn duplicate(&self, entry: SwapEntry) {
            *self.0.lock().unwrap().entry(entry).or_default() += 1;
        }

        fn release(&self, entry: SwapEntry) {
            let mut counts = self.0.lock().unwrap();
            let count = counts.get_mut(&entry).expect("it is counted");
            *count -= 1;
            if *count == 0 {
                counts.remove(&entry);
            }
        }
    }

    #[test]
    fn a_swap_entry_is_counted_wherever_it_stands() {
        let counts = Arc::new(Counts::default());
        let count = |entry| counts.0.lock().unwrap().get(&entry).copied().unwrap_or(0);
        let (entry, page) = (SwapEntry::new(7).unwrap(), PageNumber::new(3));
        let mut parent = Pages::with_swap(counts.clone());
        parent.map_batch(PageNumber::new(2)..PageNumber::new(5), (2..).map(Counted::new), WRITABLE);
        assert!(parent.touch(page, Access::WRITE).is_some());
        assert!(parent.swap_out(page, 9, entry).is_none() && parent.swap_out(LAST, 3, entry).is_none());
        let (frame, out) = parent.swap_out(page, 3, entry).unwrap();
        assert_eq!((*frame, out), (3, SwappedOut { accessed: true, dirty: true }));
        assert!(parent.swap_out(page, 3, entry).is_none(), "it is out");
        assert_eq!((parent.swap_entry(page), parent.lookup(page), count(entry)), (Some(entry), None, 1));
        assert_eq!((parent.resident(), parent.swapped(), parent.count(ALL)), (2, 1, 3));

        // Fork copies it, mremap moves it, and nothing is mapped over it by chance.
        let mut child = Pages::with_swap(counts.clone());
        let mut shared = Vec::new();
        parent.share(ALL, true, true, |copy| shared.push(copy));
        child.accept(shared, |page, _| unreachable!("{page:?} was not there"));
        assert_eq!((child.swap_entry(page), count(entry)), (Some(entry), 2));
        child.move_range(page..PageNumber::new(4), LAST, |page, _| unreachable!("{page:?}"));
        assert_eq!((child.swap_entry(page), child.swap_entry(LAST), count(entry)), (None, Some(entry), 2));
        child.map_batch(LAST..PageNumber::new(LAST.get() + 1), [Counted::new(8)].into_iter(), WRITABLE);
        assert_eq!(child.swap_entry(LAST), Some(entry));

        // It goes by being exchanged for a page, unmapped, or with its space.
        assert!(child.map(LAST, Counted::new(3), WRITABLE).is_none());
        assert_eq!((count(entry), child.swapped(), child.resident()), (1, 0, 3));
        parent.unmap(page..PageNumber::new(4), usize::MAX, |page, _| unreachable!("{page:?} was out"));
        assert_eq!((count(entry), parent.swapped()), (0, 0));
        assert!(child.swap_out(LAST, 3, entry).is_some());
        drop(child);
        assert!(counts.0.lock().unwrap().is_empty());
        // Where nobody counts, there are none.
        let mut uncounted = Pages::new();
        assert!(uncounted.map(page, Counted::new(5), WRITABLE).is_none());
        assert!(uncounted.swap_out(page, 5, entry).is_none());
    }
}
