//! The pages of a file in RAM.
//!
//! A [`PageCache`] maps page numbers to frames: what a tmpfs file is made of. Reading, writing and mapping all use the
//! same frames, so a shared mapping *is* the file. Pages that were never written are holes: they read as zeros and take
//! no memory. Every page is paid for from a [`PageBudget`], the size limit of the file system.
//!
//! Pages lie in *leaves* of [`LEAF`], and leaves in a search tree: a file read in sequence finds its pages in a few
//! steps, and a sparse one costs only what is there. One spin lock guards tree and size, for a look-up at a time: copying
//! goes on outside it, on counted frames. That two writes of one file don't mix is the file system's affair.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use machine::memory::{Frame, PAGE_SIZE, UserFault};
use sync::{Budget, SpinLock};

use crate::cursor::{Destination, Source};
use crate::discard::Discarded;
use crate::kernel_memory::Memory;
use crate::pager::{Mappings, Pager, PagerError};

/// Pages in a leaf, a power of two.
pub(crate) const LEAF: u64 = 32;
const PAGE: u64 = PAGE_SIZE as u64;

/// How many pages a file system may use, and uses.
pub struct PageBudget {
    memory: Arc<Memory>,
    limit: AtomicU64,
    used: AtomicU64,
}

impl PageBudget {
    /// A budget of `limit` pages; `u64::MAX` if only the machine's memory is to bound it.
    pub fn new(memory: &Arc<Memory>, limit: u64) -> Arc<PageBudget> {
        Arc::new(PageBudget { memory: memory.clone(), limit: AtomicU64::new(limit), used: AtomicU64::new(0) })
    }

    /// The memory that the pages come from.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Pages in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Pages that may be used.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit (a remount). What is in use stays in use.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Counts one more page.
    ///
    /// # Errors
    /// [`PagerError::OutOfMemory`] when only the kernel's reserve is left, [`PagerError::NoSpace`] at the limit.
    pub fn take(&self) -> Result<(), PagerError> {
        if self.memory.is_scarce() {
            return Err(PagerError::OutOfMemory);
        }
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.limit() {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return Err(PagerError::NoSpace);
        }
        self.memory.add_file_page();
        Ok(())
    }

    /// Counts `pages` pages less.
    pub fn give(&self, pages: u64) {
        if pages > 0 {
            self.used.fetch_sub(pages, Ordering::Relaxed);
            self.memory.remove_file_pages(pages);
        }
    }
}

/// Why a write stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// The source faulted: resolve and go on, [`Source::fault_in`].
    Fault(UserFault),
    /// The budget is used up: `ENOSPC`.
    NoSpace,
    /// No frame is left: `ENOMEM`.
    OutOfMemory,
}

impl From<PagerError> for CacheError {
    fn from(error: PagerError) -> CacheError {
        match error {
            PagerError::NoSpace => CacheError::NoSpace,
            _ => CacheError::OutOfMemory,
        }
    }
}

/// Neighbouring pages.
#[derive(Default)]
pub(crate) struct Leaf {
    pages: [Option<Frame>; LEAF as usize],
    /// How many there are.
    used: u64,
}

#[derive(Default)]
struct Pages {
    leaves: BTreeMap<u64, Box<Leaf>>,
    resident: u64,
    size: u64,
}

/// A file in RAM.
pub struct PageCache {
    pages: SpinLock<Pages>,
    budget: Arc<PageBudget>,
    mappings: Mappings,
}

/// Leaves that are emptied under one taking of the lock.
const LEAVES: usize = 16;

/// Leaves that are looked at under one taking of the lock: 128 MiB.
const LEAVES_LOOKED_AT: usize = 1024;

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// To what was sought.
    Found(u64),
    /// It is not before this; a slice's work is done.
    Beyond(u64),
}

impl Leaf {
    /// The first page from `within` on that is not there.
    fn first_hole(&self, within: u64) -> Option<u64> {
        let mut slots = (within..).zip(self.pages.get(within as usize..)?);
        if self.used == LEAF { None } else { slots.find(|(_, slot)| slot.is_none()).map(|(place, _)| place) }
    }

    /// Drops pages, and returns how many there were.
    fn remove(&mut self, indices: Range<usize>) -> u64 {
        let before = self.used;
        for slot in self.pages.get_mut(indices).unwrap_or_default() {
            self.used -= u64::from(slot.take().is_some());
        }
        before - self.used
    }
}

impl Pages {
    #[inline]
    fn get(&self, index: u64) -> Option<&Frame> {
        self.leaves.get(&(index / LEAF))?.pages.get((index % LEAF) as usize)?.as_ref()
    }

    /// Puts a frame where none is.
    fn insert(&mut self, index: u64, frame: Frame) {
        let leaf = self.leaves.entry(index / LEAF).or_default();
        if let Some(slot) = leaf.pages.get_mut((index % LEAF) as usize) {
            *slot = Some(frame);
            leaf.used += 1;
            self.resident += 1;
        }
    }

    /// Takes the pages from `first` on out. Returns them, and how many they are.
    fn cut(&mut self, first: u64) -> (BTreeMap<u64, Box<Leaf>>, u64) {
        let mut gone = self.leaves.split_off(&(first / LEAF));
        let before: u64 = gone.values().map(|leaf| leaf.used).sum();
        if !first.is_multiple_of(LEAF)
            && let Some(mut leaf) = gone.remove(&(first / LEAF))
        {
            leaf.remove((first % LEAF) as usize..LEAF as usize);
            if leaf.used > 0 {
                self.leaves.insert(first / LEAF, leaf);
            }
        }
        let kept = self.leaves.get(&(first / LEAF)).map_or(0, |leaf| leaf.used);
        self.resident -= before - kept;
        (gone, before - kept)
    }

    /// Drops pages of `range` from its start on, at most `LEAVES` leaves of them. Returns how many there were, and where to go on.
    fn remove_some(&mut self, range: Range<u64>) -> (u64, Option<u64>) {
        let before = self.resident;
        let touched = range.start / LEAF..range.end.div_ceil(LEAF);
        let mut next = touched.start;
        for _ in 0..LEAVES {
            let Some((&number, leaf)) = self.leaves.range_mut(next..touched.end.max(next)).next() else {
                return (before - self.resident, None);
            };
            let first = number * LEAF;
            let within = |page: u64| page.clamp(first, first + LEAF) - first;
            self.resident -= leaf.remove(within(range.start) as usize..within(range.end) as usize);
            if leaf.used == 0 {
                self.leaves.remove(&number);
            }
            next = number + 1;
        }
        (before - self.resident, Some(next * LEAF).filter(|next| *next < range.end))
    }

    /// The first page from `index` on that does not exist. Of a full leaf nothing but its count is looked at.
    fn first_hole(&self, index: u64) -> Search {
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
    fn present(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Frame)> {
        let leaves = self.leaves.range(range.start / LEAF..range.end.div_ceil(LEAF).max(range.start / LEAF));
        leaves
            .flat_map(|(number, leaf)| (number * LEAF..).zip(leaf.pages.iter()))
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
            .filter(move |(index, _)| range.contains(index))
    }
}

impl PageCache {
    /// An empty file whose pages are paid for by `budget`.
    pub fn new(budget: Arc<PageBudget>) -> PageCache {
        PageCache { pages: SpinLock::default(), budget, mappings: Mappings::new() }
    }

    /// Pages in memory: st_blocks, times eight.
    pub fn resident(&self) -> u64 {
        self.pages.lock().resident
    }

    /// Reads from `offset` on, until the file ends or `to` is full, and returns how many bytes. On a fault `to` tells what
    /// was read before.
    pub fn read_at(&self, offset: u64, to: &mut Destination<'_>) -> Result<usize, UserFault> {
        let mut at = offset;
        while to.remaining() > 0 {
            let (frame, size) = {
                let pages = self.pages.lock();
                (pages.get(at / PAGE).cloned(), pages.size)
            };
            let within = (at % PAGE) as usize;
            let rest = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
            let length = rest.min(PAGE_SIZE - within).min(to.remaining());
            if length == 0 {
                break;
            }
            at += match frame {
                Some(frame) => to.write_frame(&frame, within, length)?,
                None => to.zero(length)?,
            } as u64;
        }
        Ok((at - offset) as usize)
    }

    /// Writes all of `from` at `offset`, growing the file if need be, and returns how many bytes. On an error `from` tells
    /// what was written before. The caller has checked `offset` against the largest file size.
    pub fn write_at(&self, offset: u64, from: &mut Source<'_>) -> Result<usize, CacheError> {
        let before = from.progress();
        let result = loop {
            let at = offset + (from.progress() - before) as u64;
            let within = (at % PAGE) as usize;
            let length = from.remaining().min(PAGE_SIZE - within);
            if length == 0 {
                break Ok(());
            }
            if let Err(error) = self.write_page(at / PAGE, within, length, from) {
                break Err(error);
            }
        };
        let written = from.progress() - before;
        if written > 0 {
            let mut pages = self.pages.lock();
            pages.size = pages.size.max(offset + written as u64);
        }
        result.map(|()| written)
    }

    fn write_page(&self, index: u64, within: usize, length: usize, from: &mut Source<'_>) -> Result<(), CacheError> {
        let existing = self.pages.lock().get(index).cloned();
        if existing.is_none() && length == PAGE_SIZE && self.write_new_page(index, from)? {
            return Ok(());
        }
        let frame = match existing {
            Some(frame) => frame,
            None => self.page_for_writing(index)?,
        };
        from.read_to_frame(&frame, within, length).map(|_| ()).map_err(CacheError::Fault)
    }

    /// A whole page where a hole is: filled before anyone sees it, so it needn't be zeroed. False if it must go the usual
    /// way: the source faults, or somebody else filled the hole.
    fn write_new_page(&self, index: u64, from: &mut Source<'_>) -> Result<bool, CacheError> {
        let frame = Frame::allocate_dirty().ok_or(CacheError::OutOfMemory)?;
        if from.peek_to_frame(&frame, 0, PAGE_SIZE) != Ok(PAGE_SIZE) {
            return Ok(false);
        }
        let inserted = self.insert(index, frame, false)?.is_none();
        if inserted {
            from.advance(PAGE_SIZE);
        }
        Ok(inserted)
    }

    /// The page, a hole filled with zeros.
    fn page_for_writing(&self, index: u64) -> Result<Frame, PagerError> {
        let frame = Frame::zeroed().ok_or(PagerError::OutOfMemory)?;
        Ok(self.insert(index, frame.clone(), false)?.unwrap_or(frame))
    }

    /// Puts a page into a hole; if it has been filled meanwhile, returns what is there.
    fn insert(&self, index: u64, frame: Frame, within_size: bool) -> Result<Option<Frame>, PagerError> {
        let mut pages = self.pages.lock();
        if within_size && index >= pages.size.div_ceil(PAGE) {
            return Err(PagerError::BeyondEnd);
        }
        if let Some(other) = pages.get(index) {
            return Ok(Some(other.clone()));
        }
        self.budget.take()?;
        pages.insert(index, frame);
        Ok(None)
    }

    /// ftruncate(2): what lies beyond the new end is gone, from mappings too; what is new reads as zeros.
    pub fn set_size(&self, size: u64) {
        if let Some(first_gone) = self.cut(size) {
            self.mappings.unmap(self, first_gone..u64::MAX);
        }
    }

    /// As [`PageCache::set_size`], but what is mapped stays: the caller takes it from who maps it. Returns the first page that is
    /// not the file's any more, if it became shorter.
    pub fn cut(&self, size: u64) -> Option<u64> {
        let first_gone = size.div_ceil(PAGE);
        let (shrinks, (gone, removed)) = {
            let mut pages = self.pages.lock();
            let shrinks = size < pages.size;
            pages.size = size;
            if shrinks
                && !size.is_multiple_of(PAGE)
                && let Some(last) = pages.get(size / PAGE)
            {
                last.zero((size % PAGE) as usize..PAGE_SIZE);
            }
            // Pages may lie beyond the old end too, from `allocate` with the size kept.
            (shrinks, if shrinks { pages.cut(first_gone) } else { Default::default() })
        };
        self.budget.give(removed);
        self.budget.memory.discard(Discarded::Pages(gone));
        shrinks.then_some(first_gone)
    }

    /// fallocate(2) with `FALLOC_FL_PUNCH_HOLE`: bytes `range` read as zeros, and whole pages in it take no memory. Returns where
    /// to go on when that is a slice's work or more, `None` when all is done.
    pub fn punch(&self, range: Range<u64>) -> Option<u64> {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        let (removed, next) = {
            let mut pages = self.pages.lock();
            let zero = |index: u64, from: u64, to: u64| {
                if from < to
                    && let Some(page) = pages.get(index)
                {
                    page.zero((from - index * PAGE) as usize..(to - index * PAGE) as usize);
                }
            };
            let (first, last) = (range.start / PAGE, range.end / PAGE);
            let (starts_within, ends_within) = (!range.start.is_multiple_of(PAGE), !range.end.is_multiple_of(PAGE));
            if starts_within {
                zero(first, range.start, range.end.min((first + 1) * PAGE));
            }
            if ends_within && (last != first || !starts_within) {
                zero(last, range.start.max(last * PAGE), range.end);
            }
            if whole.start < whole.end { pages.remove_some(whole.clone()) } else { (0, None) }
        };
        self.budget.give(removed);
        let done = whole.start..next.unwrap_or(whole.end);
        if done.start < done.end {
            self.mappings.unmap(self, done);
        }
        next.map(|next| next * PAGE)
    }

    /// fallocate(2): pages for bytes `range`, which may lie beyond the end; the size stays. Returns where to go on when its
    /// budget is spent, `None` when all is done. On an error a part is done.
    pub fn allocate(&self, range: Range<u64>) -> Result<Option<u64>, CacheError> {
        let mut budget = Budget::new();
        for index in range.start / PAGE..range.end.div_ceil(PAGE) {
            if budget.spend(1) {
                return Ok(Some(index * PAGE));
            }
            if self.pages.lock().get(index).is_none() {
                self.page_for_writing(index)?;
            }
        }
        Ok(None)
    }

    /// Grows the file to `size` if it is shorter.
    pub fn extend(&self, size: u64) {
        let mut pages = self.pages.lock();
        pages.size = pages.size.max(size);
    }

    /// The first byte at or after `offset` that lies in a page in memory, before the end: lseek(2) with `SEEK_DATA`.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let pages = self.pages.lock();
        let (index, _) = pages.present(offset / PAGE..pages.size.div_ceil(PAGE)).next()?;
        Some(offset.max(index * PAGE)).filter(|at| *at < pages.size)
    }

    /// The first byte at or after `offset` that lies in a hole, or the end: lseek(2) with `SEEK_HOLE`.
    pub fn next_hole(&self, offset: u64) -> Search {
        let pages = self.pages.lock();
        let at = |page: u64| offset.max(page.saturating_mul(PAGE)).min(pages.size);
        match pages.first_hole(offset / PAGE) {
            Search::Beyond(page) if at(page) < pages.size => Search::Beyond(at(page)),
            Search::Beyond(page) | Search::Found(page) => Search::Found(at(page)),
        }
    }
}

impl Pager for PageCache {
    fn page(&self, index: u64, _write: bool) -> Result<Frame, PagerError> {
        {
            let pages = self.pages.lock();
            if index >= pages.size.div_ceil(PAGE) {
                return Err(PagerError::BeyondEnd);
            }
            if let Some(frame) = pages.get(index) {
                return Ok(frame.clone());
            }
        }
        let frame = Frame::zeroed().ok_or(PagerError::OutOfMemory)?;
        Ok(self.insert(index, frame.clone(), true)?.unwrap_or(frame))
    }

    fn cached(&self, range: Range<u64>, found: &mut dyn FnMut(u64, Frame)) {
        let pages = self.pages.lock();
        let end = range.end.min(pages.size.div_ceil(PAGE));
        for (index, frame) in pages.present(range.start.min(end)..end) {
            found(index, frame.clone());
        }
    }

    fn size(&self) -> u64 {
        self.pages.lock().size
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        let pages = core::mem::take(self.pages.get_mut());
        self.budget.give(pages.resident);
        self.budget.memory.discard(Discarded::Pages(pages.leaves));
    }
}
