//! A file that becomes shorter, or gets holes.
//!
//! A file with a backing is cut in two steps. [`PageCache::cut`] takes the pages out, at once: nobody reads or maps them from then on,
//! and what is being read of them is for nobody. Then nothing new is asked of the backing, and when it has ended what it was at, it
//! is told ([`PageCache::finish_cut`]). So no page that is written late comes back behind the end, and none that was read early.
//! A part of a page needs no reading: the backing zeroes what lies behind the end.

use core::ops::Range;

use machine::memory::PAGE_SIZE;

use super::in_flight::CutState;
use super::tree::Removed;
use super::{CutRequest, PAGE, PageCache};
use crate::discard::Discarded;
use crate::pager::PagerError;

impl PageCache {
    /// ftruncate(2): what lies beyond the new end is gone, from mappings too; what is new reads as zeros.
    pub fn set_size(&self, size: u64) {
        if let Some(first_gone) = self.cut(size) {
            self.mappings.unmap(self, first_gone..u64::MAX);
        }
    }

    /// As [`PageCache::set_size`], but what is mapped stays: the caller takes it from who maps it. Returns the first page that is
    /// not the file's any more, if it became shorter. With a backing, [`PageCache::finish_cut`] must follow, and nobody writes
    /// until that is done.
    pub fn cut(&self, size: u64) -> Option<u64> {
        let first_gone = size.div_ceil(PAGE);
        let (shrinks, gone) = {
            let mut pages = self.lock();
            let shrinks = size < pages.size();
            if self.backed.is_some() {
                pages.grow(size);
            }
            pages.set_size(size);
            if shrinks
                && !size.is_multiple_of(PAGE)
                && let Some(last) = pages.get(size / PAGE)
            {
                last.zero((size % PAGE) as usize..PAGE_SIZE);
            }
            if shrinks && self.backed.is_some() {
                pages.in_flight.overtake_from(size / PAGE);
                pages.in_flight.cut = CutState::Waiting(size);
            }
            // Pages may lie beyond the old end too, from `allocate` with the size kept.
            let gone = if shrinks { pages.cut(first_gone) } else { Removed::default() };
            if let Some(backed) = &self.backed {
                backed.flusher.cleaned(backed.id, gone.dirty, pages.is_clean());
            }
            (shrinks, gone)
        };
        self.wake();
        self.budget.give(gone.pages);
        self.budget.memory().discard(Discarded::Pages(gone));
        shrinks.then_some(first_gone)
    }

    /// Tells the backing of a cut, once it has ended what it was at. Not to be given up: the file would stay as it is, and nobody could
    /// read on.
    ///
    /// # Errors
    /// [`PagerError::Io`]: the backing failed; the file ends there nevertheless.
    pub async fn finish_cut(&self) -> Result<(), PagerError> {
        let Some(backed) = &self.backed else { return Ok(()) };
        let may_begin = || {
            let mut pages = self.lock();
            match pages.in_flight.cut {
                CutState::Waiting(size) if pages.in_flight.requests == 0 => {
                    pages.in_flight.cut = CutState::Begun;
                    Some(Some(size))
                }
                CutState::None => Some(None),
                _ => None,
            }
        };
        let Some(size) = backed.changed.wait_until(may_begin).await else { return Ok(()) };
        backed.flusher.begin_cut();
        backed.backing.cut(CutRequest { cache: backed.this.upgrade(), size });
        let has_ended = || {
            let mut pages = self.lock();
            let CutState::Ended(result) = pages.in_flight.cut else { return None };
            pages.in_flight.cut = CutState::None;
            Some(result)
        };
        let result = backed.changed.wait_until(has_ended).await;
        self.wake();
        result
    }

    /// The backing has cut the file, or could not.
    pub(super) fn end_cut(&self, result: Result<(), PagerError>) {
        self.lock().in_flight.cut = CutState::Ended(result);
        if let Some(backed) = &self.backed {
            backed.flusher.end_cut();
        }
        self.wake();
    }

    /// fallocate(2) with `FALLOC_FL_PUNCH_HOLE`: bytes `range` read as zeros, and whole pages in it take no memory. Returns where
    /// to go on when that is a slice's work or more, `None` when all is done.
    pub fn punch(&self, range: Range<u64>) -> Option<u64> {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        let (gone, next) = {
            let mut pages = self.lock();
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
            if whole.start < whole.end { pages.remove_some(whole.clone()) } else { (Removed::default(), None) }
        };
        self.budget.give(gone.pages);
        drop(gone);
        let done = whole.start..next.unwrap_or(whole.end);
        if done.start < done.end {
            self.mappings.unmap(self, done);
        }
        next.map(|next| next * PAGE)
    }
}
