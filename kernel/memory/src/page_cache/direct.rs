//! Files that are read and written where they lie, and only mapped from here: those of a host, which has a cache of its own.
//!
//! read(2) takes from here what is not written back yet, and the rest from where the file lies. write(2) goes there, and the pages that are
//! here follow. So all see one file. Who changes the file keeps write-backs out meanwhile, by a lock of the file system's; the pages that
//! are being read at that moment are for nobody.

use core::ops::Range;

use machine::memory::Frame;

use super::pages::Pages;
use super::{PAGE, PageCache, Search};
use crate::discard::Discarded;
use crate::pager::Visited;

impl PageCache {
    /// The page that byte `range.start` lies in, if what it has is not where the file is kept yet, and how many bytes of `range` follow
    /// for which that is so.
    pub fn unwritten_in(&self, range: Range<u64>) -> (Option<Frame>, usize) {
        let length = |end: u64| usize::try_from(end.min(range.end) - range.start).unwrap_or(usize::MAX);
        let pages = self.lock();
        let (index, end) = (range.start / PAGE, range.end.div_ceil(PAGE));
        let marked = |writing| match pages.first_marked(index..end, writing) {
            Search::Found(page) | Search::Beyond(page) => page,
        };
        let first = if pages.is_clean() { end } else { marked(false).min(marked(true)) };
        match first {
            first if first == index && first < end => (pages.get(index), length((index + 1) * PAGE)),
            first => (None, length(first.saturating_mul(PAGE))),
        }
    }

    /// Whether all that it has is where the file is kept.
    pub fn is_written_back(&self) -> bool {
        self.lock().is_clean()
    }

    /// Where the file lies, its bytes from `offset` on have become these: the pages that are here follow.
    pub fn note_written(&self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        {
            let mut pages = self.lock();
            pages.grow(end);
            for index in offset / PAGE..end.div_ceil(PAGE) {
                pages.in_flight.overtake(index);
                let start = index * PAGE;
                let skipped = start.saturating_sub(offset) as usize;
                if let Some(frame) = pages.get(index) {
                    frame.write(offset.saturating_sub(start) as usize, bytes.get(skipped..).unwrap_or_default());
                }
            }
        }
        self.wake();
    }

    /// Where the file lies, these bytes have become zeros.
    pub fn note_zeroed(&self, range: Range<u64>) {
        {
            let mut pages = self.lock();
            pages.in_flight.overtake_from(range.start / PAGE);
            let end = range.end.div_ceil(PAGE);
            let mut next = range.start / PAGE;
            while let Some(index) = pages.first_present(next..end) {
                let within = |at: u64| at.saturating_sub(index * PAGE).min(PAGE) as usize;
                if let Some(frame) = pages.get(index) {
                    frame.zero(within(range.start)..within(range.end));
                }
                next = index + 1;
            }
        }
        self.wake();
    }

    /// The file ends here now: what is kept beyond goes, from mappings too. Called without locks of address spaces.
    #[must_use = "dropped when no lock is held that a file takes that is closed"]
    pub fn note_size(&self, size: u64) -> Option<Visited> {
        let first_gone = size.div_ceil(PAGE);
        let removed = self.take_from(first_gone, |pages| {
            pages.grow(size);
            pages.set_size(size);
            pages.zero_behind_end();
            pages.in_flight.overtake_from(size / PAGE);
        });
        if removed { Some(self.mappings.unmap(self, first_gone..u64::MAX)) } else { None }
    }

    /// Nobody can have the file's pages any more: they go, written back or not.
    pub fn abandon(&self) {
        self.take_from(0, |pages| pages.in_flight.overtake_from(0));
    }

    /// Takes the pages from `first` on out after `change`. Whether there were any.
    fn take_from(&self, first: u64, change: impl FnOnce(&mut Pages<'_>)) -> bool {
        let gone = {
            let mut pages = self.lock();
            change(&mut pages);
            let gone = pages.cut(first);
            if let Some(backed) = &self.backed {
                backed.flusher.cleaned(backed.id, gone.dirty, pages.is_clean());
            }
            gone
        };
        self.wake();
        let removed = gone.pages;
        self.budget.give(removed);
        self.budget.memory().discard(Discarded::Pages(gone));
        removed > 0
    }
}
