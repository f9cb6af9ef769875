//! What is known of the pages of one file, and may be asked and changed by who has its lock. Where they are is in the [tree](super::tree),
//! which others read meanwhile.

use alloc::collections::BTreeMap;
use core::ops::{Deref, DerefMut, Range};

use machine::memory::{Frame, PAGE_SIZE, RetiredFrame};
use smallvec::SmallVec;
use sync::SpinGuard;

use super::in_flight::InFlight;
use super::read_ahead::ReadAhead;
use super::tree::{LEAF, Leaf, Removed, Tree, bits_below, place};
use super::{PAGE, Search};
use crate::pager::{Candidate, Candidates};

/// Leaves that are emptied under one taking of the lock.
const LEAVES: usize = 16;

/// Leaves that are looked at under one taking of the lock: 128 MiB.
const LEAVES_LOOKED_AT: usize = 1024;

#[derive(Default)]
pub(super) struct State {
    pub resident: u64,
    /// How many are dirty.
    pub dirty: u64,
    /// How many are being written, those that were cut off meanwhile too.
    pub writing: u64,
    /// The page write(2) is copying into: it stays until that is done.
    pub pinned: Option<u64>,
    /// Where the clock's hand stands.
    pub hand: u64,
    /// What is being read, written or cut.
    pub in_flight: InFlight,
    pub read_ahead: ReadAhead,
}

/// The pages of a file whose lock is held.
pub(super) struct Pages<'a> {
    tree: &'a Tree,
    state: SpinGuard<'a, State>,
}

impl Deref for Pages<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Pages<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// Clean pages that were given back, and what they leave empty.
#[derive(Default)]
pub(super) struct Reclaimed {
    pub pages: BTreeMap<u64, RetiredFrame>,
    emptied: Removed,
}

impl Leaf {
    /// The pages that are clean and were not used, with the numbers of their frames; the leaf's first page is `first`.
    #[expect(clippy::disallowed_methods, reason = "a leaf's pages, which lie in place")]
    fn candidates(&self, first: u64, pinned: Option<u64>) -> SmallVec<[(u64, usize); LEAF as usize]> {
        let kept = self.dirty.get() | self.writing.get() | self.referenced.get();
        let may_go = |index: &u64| kept & place(*index).1 == 0 && pinned != Some(*index);
        let with_frame = |index| Some((index, self.number(place(index).0)?));
        (first..first + LEAF).filter(may_go).filter_map(with_frame).collect()
    }

    /// The clock's hand passes the leaf, whose first page is `first`. Returns the pages it took.
    #[expect(clippy::disallowed_methods, reason = "a leaf's pages, which lie in place")]
    fn pass_hand(
        &self,
        first: u64,
        pinned: Option<u64>,
        wanted: usize,
    ) -> SmallVec<[(u64, RetiredFrame); LEAF as usize]> {
        let mut gone = SmallVec::new();
        for index in first..first + LEAF {
            if gone.len() >= wanted {
                break;
            }
            let (slot, bit) = place(index);
            let kept = (self.dirty.get() | self.writing.get() | self.referenced.get()) & bit != 0;
            if kept || pinned == Some(index) {
                self.referenced.set(self.referenced.get() & !bit);
            } else if let Some(frame) = self.take(slot) {
                gone.push((index, frame));
            }
        }
        gone
    }
}

impl<'a> Pages<'a> {
    /// The pages in `tree`, whose lock is held.
    #[inline]
    pub fn new(tree: &'a Tree, state: SpinGuard<'a, State>) -> Pages<'a> {
        Pages { tree, state }
    }

    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// How long the file is from now on.
    pub fn set_size(&self, size: u64) {
        self.tree.set_size(size);
    }

    /// The frame that is page `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<Frame> {
        self.tree.get(index, false)
    }

    /// The same, and notes that it was used.
    #[inline]
    pub fn get_referenced(&self, index: u64) -> Option<Frame> {
        self.tree.get(index, true)
    }

    /// Whether page `index` is here.
    #[inline]
    pub fn has(&self, index: u64) -> bool {
        self.number(index).is_some()
    }

    /// The number of the frame that is page `index`.
    #[inline]
    pub fn number(&self, index: u64) -> Option<usize> {
        self.tree.with(index / LEAF, |leaf| leaf.number(place(index).0))?
    }

    /// Puts a frame where none is.
    pub fn insert(&mut self, index: u64, frame: Frame) {
        frame.set_tag(0); // no program's
        self.tree.insert(index, frame);
        self.resident += 1;
    }

    /// How many pages from `first` on, of `most`, are neither here nor on their way: what can be read by one request.
    pub fn absent(&self, first: u64, most: u64) -> u64 {
        (first..first + most).take_while(|&index| !self.has(index) && !self.in_flight.is_read(index)).count() as u64
    }

    /// The file is this long at least. What programs wrote behind its old end through mappings was nothing.
    pub fn grow(&self, size: u64) {
        if size <= self.size() {
            return;
        }
        self.zero_behind_end();
        self.set_size(size);
    }

    /// Zeroes the rest of the page in which the file ends.
    pub fn zero_behind_end(&self) {
        if let Some(last) = self.get(self.size() / PAGE) {
            last.zero((self.size() % PAGE) as usize..PAGE_SIZE);
        }
    }

    /// The neighbourhood of a page that is neither here nor on its way: of the pages around it, `span` and aligned to that, those that
    /// are not either, as the first one and how many.
    pub fn absent_around(&self, index: u64, span: u64) -> (u64, u64) {
        let start = index - index % span;
        let is_absent = |&index: &u64| !self.has(index) && !self.in_flight.is_read(index);
        let first = (start..index).rev().take_while(is_absent).last().unwrap_or(index);
        (first, self.absent(first, (start + span).min(self.size().div_ceil(PAGE)).saturating_sub(first)))
    }

    /// Whether all that was written is where the file is kept.
    pub fn is_clean(&self) -> bool {
        self.dirty == 0 && self.writing == 0
    }

    /// The page is dirty now. False if it was so already, or is not here.
    pub fn set_dirty(&mut self, index: u64) -> bool {
        let (slot, bit) = place(index);
        let became_dirty = self.tree.with(index / LEAF, |leaf| {
            let becomes_dirty = leaf.dirty.get() & bit == 0 && leaf.has(slot);
            if becomes_dirty {
                leaf.dirty.set(leaf.dirty.get() | bit);
            }
            becomes_dirty
        });
        let became_dirty = became_dirty.unwrap_or(false);
        self.dirty += u64::from(became_dirty);
        became_dirty
    }

    /// Whether a page that is here is being written.
    pub fn is_writing(&self, index: u64) -> bool {
        self.tree.with(index / LEAF, |leaf| leaf.writing.get() & place(index).1 != 0).unwrap_or(false)
    }

    /// Turns a dirty page that isn't being written into one that is, and clean. Its frame; `None` if it is no such page.
    pub fn begin_writing(&mut self, index: u64) -> Option<Frame> {
        let bit = place(index).1;
        let begun = self.tree.with(index / LEAF, |leaf| {
            let begins = leaf.dirty.get() & !leaf.writing.get() & bit != 0;
            if begins {
                leaf.dirty.set(leaf.dirty.get() & !bit);
                leaf.writing.set(leaf.writing.get() | bit);
            }
            begins
        });
        let frame = begun.filter(|begun| *begun).and_then(|_| self.get(index))?;
        self.dirty -= 1;
        Some(frame)
    }

    /// The page is not being written any more, if it is still here.
    pub fn end_writing(&self, index: u64) {
        self.tree.with(index / LEAF, |leaf| leaf.writing.set(leaf.writing.get() & !place(index).1));
    }

    /// The first dirty page of `range`, or page under write-back with `writing`.
    pub fn first_marked(&self, range: Range<u64>, writing: bool) -> Search {
        let marked_in = |number: u64, leaf: &Leaf| {
            let marked = if writing { leaf.writing.get() } else { leaf.dirty.get() };
            let within = range.start.saturating_sub(number * LEAF).min(LEAF);
            (number, marked & !bits_below(within as usize))
        };
        let mut next = range.start / LEAF;
        for _ in 0..LEAVES_LOOKED_AT {
            match self.tree.with_next(next, |number, leaf, _| marked_in(number, leaf)) {
                Some((number, 0)) if number * LEAF < range.end => next = number + 1,
                Some((number, marked)) if number * LEAF < range.end => {
                    return Search::Found((number * LEAF + u64::from(marked.trailing_zeros())).min(range.end));
                }
                _ => return Search::Found(range.end),
            }
        }
        if next * LEAF < range.end { Search::Beyond(next * LEAF) } else { Search::Found(range.end) }
    }

    /// No page counts as used.
    pub fn forget_uses(&self) {
        let mut next = 0;
        let forget = |number: u64, leaf: &Leaf| {
            leaf.referenced.set(0);
            number + 1
        };
        while let Some(number) = self.tree.with_next(next, |number, leaf, _| forget(number, leaf)) {
            next = number;
        }
    }

    /// Moves the clock's hand from page `hand` over at most `LEAVES` leaves: a page used since it last passed gets another
    /// round, and one that can be had again is put into `gone`, until these are `wanted`. Returns where the hand stands; 0 when it
    /// came round.
    pub fn pass_hand(&mut self, hand: u64, wanted: usize, gone: &mut Reclaimed) -> u64 {
        let mut next = hand / LEAF;
        for _ in 0..LEAVES {
            let (pinned, wanted) = (self.pinned, wanted - gone.pages.len());
            let passed = self.tree.with_next(next, |number, leaf, _| {
                (number, leaf.pass_hand(number * LEAF, pinned, wanted), leaf.used())
            });
            let Some((number, taken, left)) = passed else { return 0 };
            self.resident -= taken.len() as u64;
            let is_enough = taken.len() >= wanted;
            // bounded: as many as are wanted
            gone.pages.extend(taken);
            if left == 0 {
                self.tree.remove(number, &mut gone.emptied);
            }
            next = number + 1;
            if is_enough {
                break;
            }
        }
        next * LEAF
    }

    /// Which pages the clock's hand would take from page `hand` on, in at most `LEAVES` leaves: adds them to `found`, until these are
    /// `wanted`. Returns where to go on; 0 at the end.
    pub fn candidates(&self, hand: u64, wanted: usize, found: &mut Candidates) -> u64 {
        let mut next = hand / LEAF;
        for _ in 0..LEAVES {
            let passed =
                self.tree.with_next(next, |number, leaf, _| (number, leaf.candidates(number * LEAF, self.pinned)));
            let Some((number, some)) = passed else { return 0 };
            // bounded: as many as are wanted, and a leaf
            found.extend(some.into_iter().map(|(index, frame)| (index, Candidate { frame, is_used: false })));
            next = number + 1;
            if found.len() >= wanted {
                break;
            }
        }
        next * LEAF
    }

    /// These pages were used.
    pub fn note_uses(&self, pages: impl Iterator<Item = u64>) {
        for index in pages {
            self.tree.with(index / LEAF, |leaf| leaf.referenced.set(leaf.referenced.get() | place(index).1));
        }
    }

    /// Takes the pages from `first` on out.
    pub fn cut(&mut self, first: u64) -> Removed {
        let mut removed = Removed::default();
        match first.div_ceil(LEAF) {
            0 => (removed.pages, removed.dirty) = (self.resident, self.dirty),
            leaf => self.count_from(leaf, &mut removed),
        }
        self.tree.cut(first, &mut removed);
        self.resident -= removed.pages;
        self.dirty -= removed.dirty;
        removed
    }

    /// Counts the pages from leaf `next` on.
    fn count_from(&self, mut next: u64, removed: &mut Removed) {
        let counts = |number: u64, leaf: &Leaf| (number + 1, leaf.used(), leaf.dirty.get().count_ones());
        while let Some((after, used, dirty)) = self.tree.with_next(next, |number, leaf, _| counts(number, leaf)) {
            removed.pages += u64::from(used);
            removed.dirty += u64::from(dirty);
            next = after;
        }
    }

    /// Takes pages of `range` from its start on out, at most `LEAVES` leaves of them. Returns them, and where to go on.
    pub fn remove_some(&mut self, range: Range<u64>) -> (Removed, Option<u64>) {
        let mut removed = Removed::default();
        let mut next = range.start;
        let mut is_done = false;
        for _ in 0..LEAVES {
            let found = self.tree.with_next(next / LEAF, |number, leaf, _| {
                (number, u64::from(leaf.used()), u64::from(leaf.dirty.get().count_ones()))
            });
            let Some((number, used, dirty)) = found.filter(|(number, ..)| number * LEAF < range.end) else {
                is_done = true;
                break;
            };
            let (first, end) = (number * LEAF, (number + 1) * LEAF);
            if range.start <= first && end <= range.end {
                removed.pages += used;
                removed.dirty += dirty;
                self.tree.remove(number, &mut removed);
            } else {
                self.tree.take_part(number, range.start.max(first)..range.end.min(end), &mut removed);
            }
            next = end;
        }
        self.resident -= removed.pages;
        self.dirty -= removed.dirty;
        (removed, Some(next).filter(|next| !is_done && *next < range.end))
    }

    /// The first page from `index` on that does not exist. Of a full leaf nothing but its count is looked at.
    pub fn first_hole(&self, index: u64) -> Search {
        let (mut number, mut within) = (index / LEAF, index % LEAF);
        for _ in 0..LEAVES_LOOKED_AT {
            match self.tree.with(number, |leaf| leaf.first_hole(within)) {
                None => return Search::Found(number * LEAF + within),
                Some(Some(hole)) => return Search::Found(number * LEAF + hole),
                Some(None) => (number, within) = (number + 1, 0),
            }
        }
        Search::Beyond(number * LEAF)
    }

    /// The first page of `range` that exists.
    pub fn first_present(&self, range: Range<u64>) -> Option<u64> {
        let mut next = range.start;
        while next < range.end {
            let (found, end) = self.tree.with_next(next / LEAF, |number, leaf, _| {
                let (first, end) = (next.max(number * LEAF), (number + 1) * LEAF);
                ((first..end).find(|&index| leaf.has(place(index).0)), end)
            })?;
            if found.is_some() {
                return found.filter(|found| *found < range.end);
            }
            next = end;
        }
        None
    }
}
