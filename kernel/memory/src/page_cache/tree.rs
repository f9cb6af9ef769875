//! The pages of one file that are in RAM: leaves of 32 in a search tree, with what is known of each page as one bit beside it.
//!
//! A leaf is 144 bytes, so a page costs 4.5 bytes here, and its share of the tree's node: about 6 in a file whose leaves are full.
//!
//! Every page in the tree is *up to date*: one that is still being read is not here yet, but in
//! [`InFlight`](super::in_flight::InFlight). So who finds a page may use it without asking for its state.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Range;

use machine::memory::{Frame, PAGE_SIZE};

use super::in_flight::InFlight;
use super::read_ahead::ReadAhead;
use super::{PAGE, Search};

/// Pages in a leaf, a power of two.
pub(crate) const LEAF: u64 = 32;

/// Leaves that are emptied under one taking of the lock.
const LEAVES: usize = 16;

/// Leaves that are looked at under one taking of the lock: 128 MiB.
const LEAVES_LOOKED_AT: usize = 1024;

/// Neighbouring pages. Bit i of each mask is of page i.
#[derive(Default)]
pub(crate) struct Leaf {
    pages: [Option<Frame>; LEAF as usize],
    /// How many there are.
    used: u32,
    /// Changed since they were last written to where the file is kept.
    dirty: u32,
    /// Under write-back: being written at this moment.
    writing: u32,
    /// Used since the clock's hand last passed.
    referenced: u32,
}

#[derive(Default)]
pub(super) struct Pages {
    leaves: BTreeMap<u64, Box<Leaf>>,
    pub resident: u64,
    pub size: u64,
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

/// Leaves taken out of a file.
pub(crate) type Leaves = BTreeMap<u64, Box<Leaf>>;

/// The place of a page in its leaf, and its bit in the masks.
fn place(index: u64) -> (usize, u32) {
    ((index % LEAF) as usize, 1 << (index % LEAF))
}

impl Leaf {
    /// The first page from `within` on that is not there.
    fn first_hole(&self, within: u64) -> Option<u64> {
        let mut slots = (within..).zip(self.pages.get(within as usize..)?);
        if u64::from(self.used) == LEAF { None } else { slots.find(|(_, slot)| slot.is_none()).map(|(place, _)| place) }
    }

    /// Drops pages, and returns how many there were, and how many of them were dirty.
    fn remove(&mut self, indices: Range<usize>) -> (u64, u64) {
        let (used, dirty) = (self.used, self.dirty.count_ones());
        let kept = !(bits_below(indices.end) & !bits_below(indices.start));
        for slot in self.pages.get_mut(indices).unwrap_or_default() {
            self.used -= u32::from(slot.take().is_some());
        }
        self.dirty &= kept;
        self.writing &= kept;
        self.referenced &= kept;
        (u64::from(used - self.used), u64::from(dirty - self.dirty.count_ones()))
    }

    /// The clock's hand passes the leaf, whose first page is `first`. Returns how many pages it took.
    fn pass_hand(&mut self, first: u64, pinned: Option<u64>, wanted: usize, gone: &mut BTreeMap<u64, Frame>) -> u64 {
        let mut taken = 0;
        for (index, slot) in (first..).zip(self.pages.iter_mut()) {
            let bit = place(index).1;
            let kept = (self.dirty | self.writing) & bit != 0 || pinned == Some(index);
            if kept || self.referenced & bit != 0 || gone.len() >= wanted {
                self.referenced &= if gone.len() < wanted { !bit } else { u32::MAX };
            } else if let Some(frame) = slot.take() {
                // bounded: as many as are wanted
                gone.insert(index, frame);
                taken += 1;
            }
        }
        self.used -= taken;
        u64::from(taken)
    }
}

/// The bits of the pages before `place`, which is at most 32.
fn bits_below(place: usize) -> u32 {
    1_u32.checked_shl(place as u32).map_or(u32::MAX, |bit| bit - 1)
}

impl Pages {
    /// No page of a file of `size` bytes.
    pub fn of_size(size: u64) -> Pages {
        Pages { size, ..Pages::default() }
    }

    #[inline]
    pub fn get(&self, index: u64) -> Option<&Frame> {
        self.leaves.get(&(index / LEAF))?.pages.get((index % LEAF) as usize)?.as_ref()
    }

    /// The same, and notes that it was used.
    pub fn get_referenced(&mut self, index: u64) -> Option<&Frame> {
        let (slot, bit) = place(index);
        let leaf = self.leaves.get_mut(&(index / LEAF))?;
        leaf.referenced |= bit;
        leaf.pages.get(slot)?.as_ref()
    }

    /// Puts a frame where none is.
    pub fn insert(&mut self, index: u64, frame: Frame) {
        let leaf = self.leaves.entry(index / LEAF).or_default();
        if let Some(slot) = leaf.pages.get_mut((index % LEAF) as usize) {
            *slot = Some(frame);
            leaf.used += 1;
            self.resident += 1;
        }
    }

    /// How many pages from `first` on, of `most`, are neither here nor on their way: what can be read by one request.
    pub fn absent(&self, first: u64, most: u64) -> u64 {
        (first..first + most).take_while(|&index| self.get(index).is_none() && !self.in_flight.is_read(index)).count()
            as u64
    }

    /// The file is this long at least. What programs wrote behind its old end through mappings was nothing.
    pub fn grow(&mut self, size: u64) {
        if size <= self.size {
            return;
        }
        self.zero_behind_end();
        self.size = size;
    }

    /// Zeroes the rest of the page in which the file ends.
    pub fn zero_behind_end(&self) {
        if let Some(last) = self.get(self.size / PAGE) {
            last.zero((self.size % PAGE) as usize..PAGE_SIZE);
        }
    }

    /// The neighbourhood of a page that is neither here nor on its way: of the pages around it, `span` and aligned to that, those that
    /// are not either, as the first one and how many.
    pub fn absent_around(&self, index: u64, span: u64) -> (u64, u64) {
        let start = index - index % span;
        let is_absent = |&index: &u64| self.get(index).is_none() && !self.in_flight.is_read(index);
        let first = (start..index).rev().take_while(is_absent).last().unwrap_or(index);
        (first, self.absent(first, (start + span).min(self.size.div_ceil(PAGE)).saturating_sub(first)))
    }

    /// Whether all that was written is where the file is kept.
    pub fn is_clean(&self) -> bool {
        self.dirty == 0 && self.writing == 0
    }

    /// The page is dirty now. False if it was so already, or is not here.
    pub fn set_dirty(&mut self, index: u64) -> bool {
        let (slot, bit) = place(index);
        match self.leaves.get_mut(&(index / LEAF)) {
            Some(leaf) if leaf.dirty & bit == 0 && leaf.pages.get(slot).is_some_and(Option::is_some) => {
                leaf.dirty |= bit;
                self.dirty += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether a page that is here is being written.
    pub fn is_writing(&self, index: u64) -> bool {
        self.leaves.get(&(index / LEAF)).is_some_and(|leaf| leaf.writing & place(index).1 != 0)
    }

    /// Turns a dirty page that isn't being written into one that is, and clean. Its frame; `None` if it is no such page.
    pub fn begin_writing(&mut self, index: u64) -> Option<Frame> {
        let (slot, bit) = place(index);
        let leaf = self.leaves.get_mut(&(index / LEAF))?;
        if leaf.dirty & !leaf.writing & bit == 0 {
            return None;
        }
        let frame = leaf.pages.get(slot)?.clone()?;
        leaf.dirty &= !bit;
        leaf.writing |= bit;
        self.dirty -= 1;
        Some(frame)
    }

    /// The page is not being written any more, if it is still here.
    pub fn end_writing(&mut self, index: u64) {
        if let Some(leaf) = self.leaves.get_mut(&(index / LEAF)) {
            leaf.writing &= !place(index).1;
        }
    }

    /// The first dirty page of `range`, or page under write-back with `writing`.
    pub fn first_marked(&self, range: Range<u64>, writing: bool) -> Search {
        let mut reached = range.start;
        for (&number, leaf) in self.leaves.range(range.start / LEAF..).take(LEAVES_LOOKED_AT) {
            let first = number * LEAF;
            if first >= range.end {
                return Search::Found(range.end);
            }
            let marked = if writing { leaf.writing } else { leaf.dirty };
            let marked = marked & !bits_below(range.start.saturating_sub(first).min(LEAF) as usize);
            if marked != 0 {
                return Search::Found((first + u64::from(marked.trailing_zeros())).min(range.end));
            }
            reached = first + LEAF;
        }
        let more = self.leaves.range(reached.div_ceil(LEAF)..).next().is_some();
        if more && reached < range.end { Search::Beyond(reached) } else { Search::Found(range.end) }
    }

    /// No page counts as used.
    pub fn forget_uses(&mut self) {
        self.leaves.values_mut().for_each(|leaf| leaf.referenced = 0);
    }

    /// Moves the clock's hand from page `hand` over at most `LEAVES` leaves: a page used since it last passed gets another
    /// round, and one that can be had again is put into `gone`, until these are `wanted`. Returns where the hand stands; 0 when it
    /// came round.
    pub fn pass_hand(&mut self, hand: u64, wanted: usize, gone: &mut BTreeMap<u64, Frame>) -> u64 {
        let mut next = hand / LEAF;
        for _ in 0..LEAVES {
            let Some((&number, leaf)) = self.leaves.range_mut(next..).next() else { return 0 };
            let taken = leaf.pass_hand(number * LEAF, self.pinned, wanted, gone);
            self.resident -= taken;
            if leaf.used == 0 {
                self.leaves.remove(&number);
            }
            next = number + 1;
            if gone.len() >= wanted {
                break;
            }
        }
        next * LEAF
    }

    /// Takes the pages from `first` on out. Returns them, and how many they are.
    pub fn cut(&mut self, first: u64) -> (Leaves, u64) {
        let mut gone = self.leaves.split_off(&(first / LEAF));
        let used = |leaf: &Leaf| u64::from(leaf.used);
        let dirty = |leaf: &Leaf| u64::from(leaf.dirty.count_ones());
        let sum = |leaves: &Leaves, of: &dyn Fn(&Leaf) -> u64| leaves.values().map(|leaf| of(leaf)).sum::<u64>();
        let before = (sum(&gone, &used), sum(&gone, &dirty));
        if !first.is_multiple_of(LEAF)
            && let Some(mut leaf) = gone.remove(&(first / LEAF))
        {
            leaf.remove((first % LEAF) as usize..LEAF as usize);
            if leaf.used > 0 {
                self.leaves.insert(first / LEAF, leaf);
            }
        }
        let kept = self.leaves.get(&(first / LEAF)).map_or((0, 0), |leaf| (used(leaf), dirty(leaf)));
        self.resident -= before.0 - kept.0;
        self.dirty -= before.1 - kept.1;
        (gone, before.0 - kept.0)
    }

    /// Drops pages of `range` from its start on, at most `LEAVES` leaves of them. Returns how many there were, and where to go on.
    pub fn remove_some(&mut self, range: Range<u64>) -> (u64, Option<u64>) {
        let before = self.resident;
        let touched = range.start / LEAF..range.end.div_ceil(LEAF);
        let mut next = touched.start;
        for _ in 0..LEAVES {
            let Some((&number, leaf)) = self.leaves.range_mut(next..touched.end.max(next)).next() else {
                return (before - self.resident, None);
            };
            let first = number * LEAF;
            let within = |page: u64| page.clamp(first, first + LEAF) - first;
            let (removed, dirty) = leaf.remove(within(range.start) as usize..within(range.end) as usize);
            self.resident -= removed;
            self.dirty -= dirty;
            if leaf.used == 0 {
                self.leaves.remove(&number);
            }
            next = number + 1;
        }
        (before - self.resident, Some(next * LEAF).filter(|next| *next < range.end))
    }

    /// The first page from `index` on that does not exist. Of a full leaf nothing but its count is looked at.
    pub fn first_hole(&self, index: u64) -> Search {
        let (mut number, mut within) = (index / LEAF, index % LEAF);
        let mut leaves = self.leaves.range(number..);
        for _ in 0..LEAVES_LOOKED_AT {
            let Some((_, leaf)) = leaves.next().filter(|(existing, _)| **existing == number) else {
                return Search::Found(number * LEAF + within);
            };
            if let Some(hole) = leaf.first_hole(within) {
                return Search::Found(number * LEAF + hole);
            }
            (number, within) = (number + 1, 0);
        }
        Search::Beyond(number * LEAF)
    }

    /// The pages of `range` that exist, ascending.
    pub fn present(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Frame)> {
        let leaves = self.leaves.range(range.start / LEAF..range.end.div_ceil(LEAF).max(range.start / LEAF));
        leaves
            .flat_map(|(number, leaf)| (number * LEAF..).zip(leaf.pages.iter()))
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
            .filter(move |(index, _)| range.contains(index))
    }

    /// Everything, of a file that goes.
    pub fn take(&mut self) -> (Leaves, u64) {
        (core::mem::take(&mut self.leaves), core::mem::take(&mut self.resident))
    }
}
