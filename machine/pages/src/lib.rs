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
use alloc::collections::btree_map::Entry;
use boundary::{Access, Mapping, PageNumber};
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

/// The pages of a space that show something.
pub struct Pages<F>(BTreeMap<PageNumber, Page<F>>);

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
    /// None.
    pub const fn new() -> Pages<F> {
        Pages(BTreeMap::new())
    }

    /// How many there are.
    pub fn resident(&self) -> usize {
        self.0.len()
    }

    /// How many there are in `range`.
    pub fn count(&self, range: Range<PageNumber>) -> usize {
        self.0.range(range).count()
    }

    /// Shows `frame` at `page`. Returns that page, and what was there.
    pub fn map(&mut self, page: PageNumber, frame: F, access: Access) -> (&mut Page<F>, Option<F>) {
        let new = Page::new(frame, access);
        match self.0.entry(page) {
            Entry::Vacant(place) => (place.insert(new), None),
            Entry::Occupied(place) => {
                let page = place.into_mut();
                let before = mem::replace(page, new);
                (page, Some(before.frame))
            }
        }
    }

    /// Shows frames at consecutive pages of `range` where nothing is.
    pub fn map_batch(&mut self, range: Range<PageNumber>, frames: impl Iterator<Item = F>, access: Access) {
        for (number, frame) in (range.start.get()..range.end.get()).zip(frames) {
            self.0.entry(PageNumber::new(number)).or_insert_with(|| Page::new(frame, access));
        }
    }

    /// Empties `range`, up to `budget` pages, and hands out what they were. Returns where to go on.
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
            self.0.remove(&number).into_iter().for_each(|page| gone(number, page.frame));
        }
        None
    }

    /// Changes the access of what is mapped in `range`.
    pub fn protect(&mut self, range: Range<PageNumber>, access: Access) {
        self.0.range_mut(range).for_each(|(_, page)| page.access = access - Access::COPY_ON_WRITE);
    }

    /// Hands out copies of what is mapped in `range`, for a space that is to show the same frames; `copy_on_write` for both.
    pub fn share(
        &mut self,
        range: Range<PageNumber>,
        copy_on_write: bool,
        mut copy: impl FnMut((PageNumber, Page<F>)),
    ) {
        for (number, page) in self.0.range_mut(range) {
            page.copy_on_write |= copy_on_write;
            copy((*number, page.clone()));
        }
    }

    /// Shows what another space [`share`](Self::share)s, and hands out what was there.
    pub fn accept(
        &mut self,
        copies: impl IntoIterator<Item = (PageNumber, Page<F>)>,
        mut gone: impl FnMut(PageNumber, F),
    ) {
        for (number, page) in copies {
            self.0.insert(number, page).into_iter().for_each(|before| gone(number, before.frame));
        }
    }

    /// Moves what is mapped in `from` to `to`, and hands out what was there.
    pub fn move_range(&mut self, from: Range<PageNumber>, to: PageNumber, gone: impl FnMut(PageNumber, F)) {
        let length = from.end.get().saturating_sub(from.start.get());
        self.unmap(to..PageNumber::new(to.get().saturating_add(length)), usize::MAX, gone);
        let mut rest = from.clone();
        while let Some(number) = self.first(rest.clone()) {
            rest.start = PageNumber::new(number.get() + 1);
            if let Some(page) = self.0.remove(&number) {
                let distance = number.get().wrapping_sub(from.start.get());
                self.0.insert(PageNumber::new(to.get().wrapping_add(distance)), page);
            }
        }
    }

    fn first(&self, range: Range<PageNumber>) -> Option<PageNumber> {
        self.0.range(range).next().map(|(number, _)| *number)
    }

    /// The page at `page`.
    pub fn get(&self, page: PageNumber) -> Option<&Page<F>> {
        self.0.get(&page)
    }

    /// The same, to note what was done there.
    pub fn get_mut(&mut self, page: PageNumber) -> Option<&mut Page<F>> {
        self.0.get_mut(&page)
    }

    /// The pages of `range`, in order.
    pub fn range_mut(&mut self, range: Range<PageNumber>) -> impl Iterator<Item = (PageNumber, &mut Page<F>)> {
        self.0.range_mut(range).map(|(number, page)| (*number, page))
    }

    /// What is mapped at `page`.
    pub fn lookup(&self, page: PageNumber) -> Option<Mapping> {
        self.get(page).map(Page::mapping)
    }

    /// The first page mapped in `range`.
    pub fn next_mapped(&self, range: Range<PageNumber>) -> Option<(PageNumber, Mapping)> {
        self.0.range(range).next().map(|(number, page)| (*number, page.mapping()))
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
        match self.0.get(&page) {
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
        let Some(page) = self.0.get_mut(&page) else { return (false, copied.map(|(_, copy)| copy)) };
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
        assert!(pages.map(LAST, frame.clone(), WRITABLE).1.is_none());
        assert_eq!((frame.references(), pages.resident()), (2, 1));
        assert!(pages.lookup(PageNumber::new(LAST.get() & 0xffff_ffff)).is_none(), "no bit of the number is lost");
        assert_eq!(pages.next_mapped(ALL).map(|(number, _)| number), Some(LAST));
        assert_eq!(pages.map(LAST, Counted::new(6), Access::READ).1.map(|before| *before), Some(5));
        assert!(pages.touch(LAST, Access::WRITE).is_none() && pages.touch(LAST, Access::READ).is_some());
        assert!(pages.lookup(LAST).is_some_and(|page| page.accessed && !page.dirty));
        assert_eq!(frame.references(), 1);
    }

    #[test]
    fn what_is_shared_is_copied_before_it_is_written() {
        let (mut parent, mut child) = (Pages::new(), Pages::new());
        parent.map_batch(PageNumber::new(8)..LAST, (0..3).map(Counted::new), WRITABLE);
        let mut shared = Vec::new();
        parent.share(PageNumber::new(8)..PageNumber::new(10), true, |copy| shared.push(copy));
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
}
