//! The page cache: the pages of files in RAM.
//!
//! A [`PageCache`] maps the page numbers of one file to frames. Reading, writing and mapping all use the same frames, so a
//! shared mapping *is* the file. There are two kinds:
//!
//! - A file *in RAM* (tmpfs) is nothing but its pages. Those that were never written are holes: they read as zeros and take no
//!   memory. Nothing here ever waits.
//! - A file with a [`Backing`] lies elsewhere, and what is here is a copy. Pages are fetched when they are missing, become
//!   dirty when they are written, are written back, and given back when memory is short.
//!
//! ```text
//!    read(2), write(2)             page fault                truncate(2)      fsync(2), the flusher      memory is short
//!           |                          |                          |                    |                        |
//!   read: read_at              Pager::page                truncate: cut       write_back: write_back    reclaim: give_back
//!   write: write_at            (this file)                        |                    |                        |
//!           |                          |                          |                    |                        |
//!           '--- is it here? ----------'                          |                    |                        |
//!                |           |                                    |                    |                        |
//!              yes           no: read: fetch --- read_ahead       |                    |                        |
//!                |           |                                    |                    |                        |
//!   tree:  [ pages, up to date, dirty, under write-back ]   in_flight: [ being read, requests, cut ]            |
//!                            |                                    |                    |                        |
//!   backing:            ReadRequest                          CutRequest           WriteRequest                  |
//! ```
//!
//! | file | what it holds |
//! | --- | --- |
//! | `tree` | the pages that are here, found without a lock |
//! | `pages` | what is known of them: their states, and how many there are |
//! | `in_flight` | what the backing is doing: the diagram of a page's states |
//! | `backing` | [`Backing`] and its requests |
//! | `read`, `read_ahead` | read(2), fetching; how much to fetch |
//! | `write` | write(2) |
//! | `direct` | files that are read and written where they lie, and mapped from here |
//! | `write_back`, `errors` | dirty pages on their way out; who is told when that fails |
//! | `flusher` | [`Flusher`]: all dirty files of a file system, by age and by share of memory |
//! | `truncate` | shorter files, and holes that are punched |
//! | `reclaim` | clean pages given back, by a clock |
//! | `slow` | [`SlowBacking`]: a backing that takes its time, and fails, for tests |
//! | `budget` | [`PageBudget`]: the size limit of a file system |
//!
//! **Nothing waits inside.** What can't be done now says [`PagerError::Wait`], and [`Pager::ready`] resolves when it is worth
//! asking again. Only that makes a future; who finds the page makes none.
//!
//! **Locks.** Who finds the page of a read or a fault in the tree takes no lock. One spin lock of each file guards changes of its tree and of
//! its size, and what is in flight, for a change or a look at a time: copying goes on outside it, on counted frames. Under it comes the flusher's list of files. No request is handed to a backing, and no address space
//! visited, with either held. That two writes of one file don't mix is the file system's affair, and that it is not cut while it is written.

mod backing;
mod budget;
mod direct;
mod errors;
mod flusher;
mod in_flight;
mod pages;
mod read;
mod read_ahead;
mod reclaim;
mod slow;
mod tree;
mod truncate;
mod write;
mod write_back;

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::future::Future;
use core::ops::Range;
use core::pin::Pin;

use machine::memory::{Frame, PAGE_SIZE, UserFault};
use sync::{Budget, SpinLock, WaitQueue};

use crate::discard::Discarded;
use crate::pager::{Mappings, Pager, PagerError};

pub use backing::{Backing, CutRequest, ReadRequest, WriteRequest};
pub use budget::PageBudget;
pub use errors::WriteErrors;
pub use flusher::Flusher;
use pages::{Pages, State};
use read_ahead::Marks;
pub use slow::{SlowBacking, SlowQueue};
#[cfg(test)]
pub(crate) use tree::Leaf;
use tree::{Found, Tree};
pub(crate) use tree::{LEAF, Removed};

const PAGE: u64 = PAGE_SIZE as u64;

/// Why a read or write stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// The program's memory faulted: resolve and go on, [`Source::fault_in`](crate::Source::fault_in).
    Fault(UserFault),
    /// The budget is used up: `ENOSPC`.
    NoSpace,
    /// No frame is left: `ENOMEM`.
    OutOfMemory,
    /// The backing failed: `EIO`.
    Io,
    /// This page is on its way, or there is no room for it yet: wait with [`Pager::ready`] and go on.
    Wait(u64),
}

impl CacheError {
    /// What the pager's answer for page `index` means to a read or write.
    fn new(error: PagerError, index: u64) -> CacheError {
        match error {
            PagerError::NoSpace => CacheError::NoSpace,
            PagerError::OutOfMemory => CacheError::OutOfMemory,
            PagerError::Wait => CacheError::Wait(index),
            PagerError::Io | PagerError::BeyondEnd => CacheError::Io,
        }
    }
}

impl From<UserFault> for CacheError {
    fn from(fault: UserFault) -> CacheError {
        CacheError::Fault(fault)
    }
}

/// A file's pages in RAM.
pub struct PageCache {
    tree: Tree,
    state: SpinLock<State>,
    budget: Arc<PageBudget>,
    mappings: Mappings,
    backed: Option<Box<Backed>>,
}

/// What a file has that lies elsewhere.
struct Backed {
    this: Weak<PageCache>,
    backing: Arc<dyn Backing>,
    flusher: Arc<Flusher>,
    /// The file's number there.
    id: u64,
    errors: WriteErrors,
    /// Woken whenever a request ends.
    changed: WaitQueue,
    /// Pages at which it is time to read on.
    marks: Marks,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// To what was sought.
    Found(u64),
    /// It is not before this; a slice's work is done.
    Beyond(u64),
}

impl PageCache {
    /// An empty file in RAM whose pages are paid for by `budget`.
    pub fn new(budget: Arc<PageBudget>) -> PageCache {
        PageCache { tree: Tree::default(), state: SpinLock::default(), budget, mappings: Mappings::new(), backed: None }
    }

    /// A file of `size` bytes that lies in `backing`, one of those that `flusher` writes back.
    pub fn backed(
        budget: Arc<PageBudget>,
        backing: Arc<dyn Backing>,
        flusher: &Arc<Flusher>,
        size: u64,
    ) -> Arc<PageCache> {
        Arc::new_cyclic(|this: &Weak<PageCache>| PageCache {
            tree: Tree::of_size(size),
            state: SpinLock::default(),
            budget,
            mappings: Mappings::new(),
            backed: Some(Box::new(Backed {
                this: this.clone(),
                backing,
                flusher: flusher.clone(),
                id: flusher.new_file(this),
                errors: WriteErrors::default(),
                changed: WaitQueue::new(),
                marks: Marks::default(),
            })),
        })
    }

    /// The file's lock, with its pages.
    #[inline]
    #[track_caller]
    fn lock(&self) -> Pages<'_> {
        Pages::new(&self.tree, self.state.lock())
    }

    /// Pages in memory: st_blocks of a file in RAM, times eight.
    pub fn resident(&self) -> u64 {
        self.lock().resident
    }

    /// Pages that have been written to, but not where the file is kept.
    pub fn dirty(&self) -> u64 {
        self.lock().dirty
    }

    /// A request ended.
    fn wake(&self) {
        if let Some(backed) = &self.backed {
            backed.changed.wake_all();
        }
    }

    /// Puts a page into a hole; if it has been filled meanwhile, returns what is there.
    fn insert(&self, index: u64, frame: Frame, within_size: bool) -> Result<Option<Frame>, PagerError> {
        let mut pages = self.lock();
        if within_size && index >= pages.size().div_ceil(PAGE) {
            return Err(PagerError::BeyondEnd);
        }
        if let Some(other) = pages.get(index) {
            return Ok(Some(other));
        }
        self.budget.take()?;
        pages.insert(index, frame);
        Ok(None)
    }

    /// fallocate(2): pages for bytes `range`, which may lie beyond the end; the size stays. Returns where to go on when its
    /// budget is spent, `None` when all is done. On an error a part is done.
    pub fn allocate(&self, range: Range<u64>) -> Result<Option<u64>, CacheError> {
        let mut budget = Budget::new();
        for index in range.start / PAGE..range.end.div_ceil(PAGE) {
            if budget.spend(1) {
                return Ok(Some(index * PAGE));
            }
            if !self.lock().has(index) {
                self.page_for_writing(index).map_err(|error| CacheError::new(error, index))?;
            }
        }
        Ok(None)
    }

    /// Grows the file to `size` if it is shorter.
    pub fn grow(&self, size: u64) {
        let pages = self.lock();
        match self.backed {
            Some(_) => pages.grow(size),
            None => pages.set_size(pages.size().max(size)),
        }
    }

    /// The first byte at or after `offset` that lies in a page in memory, before the end: lseek(2) with `SEEK_DATA`.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let pages = self.lock();
        let index = pages.first_present(offset / PAGE..pages.size().div_ceil(PAGE))?;
        Some(offset.max(index * PAGE)).filter(|at| *at < pages.size())
    }

    /// The first byte at or after `offset` that lies in a hole, or the end: lseek(2) with `SEEK_HOLE`.
    pub fn next_hole(&self, offset: u64) -> Search {
        let pages = self.lock();
        let at = |page: u64| offset.max(page.saturating_mul(PAGE)).min(pages.size());
        match pages.first_hole(offset / PAGE) {
            Search::Beyond(page) if at(page) < pages.size() => Search::Beyond(at(page)),
            Search::Beyond(page) | Search::Found(page) => Search::Found(at(page)),
        }
    }
}

impl Pager for PageCache {
    fn page(&self, index: u64, write: bool) -> Result<Frame, PagerError> {
        if let Some(backed) = &self.backed {
            return self.backed_page(backed, index, write);
        }
        if let Some((frame, size)) = self.tree.find(index, false) {
            return if index < size.div_ceil(PAGE) { Ok(frame) } else { Err(PagerError::BeyondEnd) };
        }
        if index >= self.tree.size().div_ceil(PAGE) {
            return Err(PagerError::BeyondEnd);
        }
        let frame = Frame::zeroed().ok_or(PagerError::OutOfMemory)?;
        Ok(self.insert(index, frame.clone(), true)?.unwrap_or(frame))
    }

    fn cached(&self, range: Range<u64>, found: &mut dyn FnMut(u64, Frame)) {
        let (mut next, mut some) = (range.start, Found::new());
        while let Some(reached) = self.tree.some_of(next..range.end, &mut some) {
            some.drain(..).for_each(|(index, frame)| found(index, frame));
            next = reached;
        }
    }

    fn size(&self) -> u64 {
        self.tree.size()
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }

    fn ready(&self, index: u64) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        self.until_ready(index)
    }

    fn write_back(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        Box::pin(PageCache::write_back(self, range))
    }

    fn write_errors(&self) -> Option<&WriteErrors> {
        self.backed.as_ref().map(|backed| &backed.errors)
    }

    fn has_backing(&self) -> bool {
        self.backed.is_some()
    }

    fn finish_cut(&self) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        Box::pin(PageCache::finish_cut(self))
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        let (resident, dirty) = {
            let state = self.state.get_mut();
            (state.resident, state.dirty)
        };
        let pages = self.tree.take(resident);
        self.budget.give(resident);
        self.budget.memory().discard(Discarded::Pages(pages));
        if let Some(backed) = &self.backed {
            backed.flusher.forget(backed.id, dirty);
        }
    }
}
