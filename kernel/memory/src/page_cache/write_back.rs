//! Dirty pages on their way to where the file is kept.
//!
//! A page is first marked clean and under write-back, then write-protected in all address spaces, then written: a program that
//! writes to it meanwhile faults, and the fault makes it dirty again. A page that can't be written is dirty again, too: it is never
//! lost and never taken for clean, and whoever has the file open is told ([`WriteErrors`](super::WriteErrors)).

use alloc::vec::Vec;
use core::ops::Range;

use machine::memory::Frame;
use sync::Budget;

use super::pages::Pages;
use super::{Backed, PAGE, PageCache, Search, WriteRequest};
use crate::pager::PagerError;

/// Pages of one request at most.
const MOST: u64 = 32;

/// How an attempt to write some pages ended.
enum Run {
    /// There is nothing to write.
    Nothing,
    /// So many pages are being written; it goes on at this page.
    Begun(u64, u64),
    /// The first one that is dirty is still being written as it was before, or the file is being cut.
    Busy,
}

impl PageCache {
    /// Writes what is dirty of pages `range` now, and returns when it is written. What fails is noted: [`WriteErrors`](super::WriteErrors).
    ///
    /// # Errors
    /// None at present.
    pub async fn write_back(&self, range: Range<u64>) -> Result<(), PagerError> {
        let Some(backed) = &self.backed else { return Ok(()) };
        let mut budget = Budget::new();
        let mut at = range.start;
        loop {
            match self.begin_write(backed, at..range.end) {
                Run::Nothing => break,
                Run::Begun(next, pages) => {
                    at = next;
                    budget.pace(pages as usize + 1).await;
                }
                Run::Busy => backed.changed.wait_until(|| self.may_write(at..range.end).then_some(())).await,
            }
        }
        backed.changed.wait_until(|| self.is_written(range.clone()).then_some(())).await;
        Ok(())
    }

    /// Begins to write up to so many pages, and doesn't wait for it. Returns how many.
    pub(super) async fn begin_write_back(&self, most: u64) -> u64 {
        let Some(backed) = &self.backed else { return 0 };
        let mut budget = Budget::new();
        let (mut at, mut begun) = (0, 0);
        while begun < most
            && let Run::Begun(next, pages) = self.begin_write(backed, at..u64::MAX)
        {
            begun += pages;
            at = next;
            budget.pace(pages as usize + 1).await;
        }
        begun
    }

    /// Begins to write all that can be written now, and doesn't wait for it.
    pub fn start_write_back(&self) {
        let Some(backed) = &self.backed else { return };
        let mut at = 0;
        while let Run::Begun(next, _) = self.begin_write(backed, at..u64::MAX) {
            at = next;
        }
    }

    /// How many of these frames, which are being written as the pages from `first` on, still are those pages.
    pub(super) fn count_writing(&self, first: u64, frames: &[Frame]) -> usize {
        let pages = self.lock();
        let is_same = |index, frame: &Frame| pages.number(index) == Some(frame.number());
        (first..).zip(frames).take_while(|(index, frame)| pages.is_writing(*index) && is_same(*index, frame)).count()
    }

    /// Begins to write the first run of dirty pages in `range`.
    fn begin_write(&self, backed: &Backed, range: Range<u64>) -> Run {
        let (first, frames, size) = {
            let mut pages = self.lock();
            let first = match pages.first_marked(range.clone(), false) {
                Search::Beyond(next) => return Run::Begun(next, 0),
                Search::Found(first) if first >= range.end => return Run::Nothing,
                Search::Found(_) if pages.in_flight.is_cutting() => return Run::Busy,
                Search::Found(first) => first,
            };
            let frames = take_run(&mut pages, first..range.end);
            if frames.is_empty() {
                return Run::Busy;
            }
            pages.in_flight.requests += 1;
            pages.writing += frames.len() as u64;
            backed.flusher.begin_write(frames.len() as u64);
            (first, frames, pages.size())
        };
        let count = frames.len() as u64;
        drop(self.mappings.write_protect(self, first..first + count));
        if let Some(cache) = backed.this.upgrade() {
            backed.backing.write(WriteRequest { cache, first, frames, size });
        }
        Run::Begun(first + count, count)
    }

    /// Whether a page that is dirty can be written now, or there is none.
    fn may_write(&self, range: Range<u64>) -> bool {
        let pages = self.lock();
        match pages.first_marked(range.clone(), false) {
            // Perhaps it was cut off.
            Search::Found(first) if first >= range.end => true,
            Search::Found(first) => !pages.is_writing(first) && !pages.in_flight.is_cutting(),
            Search::Beyond(_) => true,
        }
    }

    /// Whether none of the pages is being written.
    fn is_written(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        loop {
            match self.lock().first_marked(at..range.end, true) {
                Search::Found(found) => return found >= range.end,
                Search::Beyond(next) => at = next,
            }
        }
    }

    /// The backing has written these pages, or could not.
    pub(super) fn end_write(&self, first: u64, count: u64, result: Result<(), PagerError>) {
        let Some(backed) = &self.backed else { return };
        {
            let mut pages = self.lock();
            for index in first..first + count {
                let is_ours = pages.is_writing(index);
                pages.end_writing(index);
                if is_ours && result.is_err() {
                    self.note_dirty(backed, &mut pages, index);
                }
            }
            pages.in_flight.requests -= 1;
            pages.writing -= count;
            backed.flusher.end_write(backed.id, count, pages.is_clean());
        }
        backed.flusher.note_end(result);
        if let Err(error) = result {
            backed.errors.record(error);
        }
        self.wake();
    }

    /// The page is dirty from now on.
    pub(super) fn note_dirty(&self, backed: &Backed, pages: &mut Pages<'_>, index: u64) {
        if pages.set_dirty(index) {
            backed.flusher.dirtied(backed.id, &backed.this, pages.dirty == 1);
        }
    }
}

/// Turns the dirty pages at the beginning of `range` into pages under write-back.
#[expect(clippy::disallowed_methods, reason = "a request at most")]
fn take_run(pages: &mut Pages<'_>, range: Range<u64>) -> Vec<Frame> {
    let end = range.end.min(range.start + MOST).min(pages.size().div_ceil(PAGE));
    let mut frames = Vec::with_capacity(MOST as usize);
    for index in range.start..end {
        let Some(frame) = pages.begin_writing(index) else { break };
        frames.push(frame);
    }
    frames
}
