//! Reading: what read(2) and page faults find, and how what they don't find is fetched.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use machine::memory::{Frame, PAGE_SIZE, fallible};

use super::backing::ReadRequest;
use super::read_ahead::MOST;
use super::{Backed, CacheError, PAGE, PageCache};
use crate::cursor::Destination;
use crate::pager::PagerError;

/// What a page is fetched for.
#[derive(Clone, Copy)]
enum Asked {
    /// A read of so many pages from there on: those behind them may be wanted next.
    Pages(u64),
    /// A fault: those around it may be wanted next, as programs jump about.
    Around,
}

impl PageCache {
    /// Reads from `offset` on, until the file ends or `to` is full, and returns how many bytes. On an error `to` tells what
    /// was read before.
    ///
    /// # Errors
    /// [`CacheError::Fault`]; of a file with a backing also [`CacheError::Wait`], [`CacheError::Io`], [`CacheError::OutOfMemory`].
    pub fn read_at(&self, offset: u64, to: &mut Destination<'_>) -> Result<usize, CacheError> {
        let mut at = offset;
        while to.remaining() > 0 {
            let (frame, size) = match self.tree.find(at / PAGE, self.backed.is_some()) {
                Some((frame, size)) => (Some(frame), size),
                None => {
                    let pages = self.lock();
                    (pages.get(at / PAGE), pages.size())
                }
            };
            let within = (at % PAGE) as usize;
            let rest = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
            let length = rest.min(PAGE_SIZE - within).min(to.remaining());
            if length == 0 {
                break;
            }
            if let Some(backed) = &self.backed {
                let asked = (within + rest.min(to.remaining())).div_ceil(PAGE_SIZE) as u64;
                match frame {
                    Some(_) => self.read_on(backed, at / PAGE),
                    None => {
                        self.fetch_with_room(backed, at / PAGE, asked)
                            .map_err(|error| CacheError::new(error, at / PAGE))?;
                        continue;
                    }
                }
            }
            at += match frame {
                Some(frame) => to.write_frame(&frame, within, length)?,
                None => to.zero(length)?,
            } as u64;
        }
        Ok((at - offset) as usize)
    }

    /// As [`fetch`](Self::fetch), and takes memory from pages that can be had again. Called without locks.
    pub(super) fn fetch_with_room(&self, backed: &Backed, index: u64, asked: u64) -> Result<(), PagerError> {
        loop {
            match self.fetch(backed, index, Asked::Pages(asked)) {
                Err(PagerError::OutOfMemory) if backed.flusher.make_room()? => {}
                result => return result,
            }
        }
    }

    /// Begins to read page `index`, which was missing, and what is likely to be wanted with it. When this returns without an error
    /// it is worth looking again.
    ///
    /// # Errors
    /// [`PagerError::Wait`] while it is on its way, [`PagerError::Io`], [`PagerError::OutOfMemory`].
    fn fetch(&self, backed: &Backed, index: u64, asked: Asked) -> Result<(), PagerError> {
        let (first, count, watch) = {
            let mut pages = self.lock();
            if pages.has(index) {
                return Ok(());
            }
            if pages.in_flight.is_cutting() || pages.in_flight.is_read(index) {
                return Err(PagerError::Wait);
            }
            let (first, count) = match asked {
                Asked::Pages(asked) => {
                    let window = pages.read_ahead.miss(index, asked);
                    backed.marks.set(&pages.read_ahead);
                    (index, pages.absent(index, window.min(pages.size().div_ceil(PAGE).saturating_sub(index))))
                }
                Asked::Around => pages.absent_around(index, MOST),
            };
            (first, count, pages.in_flight.watch(index))
        };
        // It may have failed when this returns.
        let begun = self.begin_read(backed, first, count, Some(index));
        let mut pages = self.lock();
        let has_failed = pages.in_flight.unwatch(index, watch);
        begun?;
        match pages.has(index) {
            true => Ok(()),
            false if has_failed => Err(PagerError::Io),
            false if pages.in_flight.is_read(index) || pages.in_flight.is_cutting() => Err(PagerError::Wait),
            // It came and went, or was cut off.
            false => Ok(()),
        }
    }

    /// See [`Pager::page`](crate::Pager::page). Called with an address space's lock held.
    pub(super) fn backed_page(&self, backed: &Backed, index: u64, write: bool) -> Result<Frame, PagerError> {
        if !write
            && let Some((frame, size)) = self.tree.find(index, true)
            && index < size.div_ceil(PAGE)
        {
            self.read_on(backed, index);
            return Ok(frame);
        }
        loop {
            if write {
                backed.flusher.admit()?;
            }
            let found = {
                let mut pages = self.lock();
                let is_beyond = index >= pages.size().div_ceil(PAGE);
                if is_beyond {
                    drop(pages);
                    self.ask_for_length(backed, index)?;
                    continue;
                }
                let found = pages.get_referenced(index);
                if write && found.is_some() {
                    self.note_dirty(backed, &mut pages, index);
                }
                found
            };
            if let Some(frame) = found {
                self.read_on(backed, index);
                return Ok(frame);
            }
            match self.fetch(backed, index, Asked::Around) {
                Ok(()) => {}
                // Dirty pages can be had again when they are written.
                Err(PagerError::OutOfMemory) if backed.flusher.has_to_write() => return Err(PagerError::Wait),
                Err(error) => return Err(error),
            }
        }
    }

    /// The file ends before page `index`, as far as is known here.
    ///
    /// # Errors
    /// [`PagerError::BeyondEnd`] if it does where it is kept, too.
    fn ask_for_length(&self, backed: &Backed, index: u64) -> Result<(), PagerError> {
        let length = backed.backing.length().filter(|length| index < length.div_ceil(PAGE));
        self.lock().grow(length.ok_or(PagerError::BeyondEnd)?);
        Ok(())
    }

    /// Page `index` is used: reads on if it is time for it. What can't be done now is not done.
    pub(super) fn read_on(&self, backed: &Backed, index: u64) {
        if !backed.marks.has(index) {
            return;
        }
        let (first, count) = {
            let mut pages = self.lock();
            let hit = pages.read_ahead.hit(index);
            backed.marks.set(&pages.read_ahead);
            let Some((first, count)) = hit else { return };
            let end = pages.size().div_ceil(PAGE);
            if pages.in_flight.is_cutting() || first >= end {
                return;
            }
            (first, pages.absent(first, count.min(end - first)))
        };
        let _ = self.begin_read(backed, first, count, None);
    }

    /// Asks the backing for pages that are neither here nor on their way, as far as that is still so.
    fn begin_read(&self, backed: &Backed, first: u64, count: u64, wanted: Option<u64>) -> Result<(), PagerError> {
        let mut frames = self.frames(count.min(MOST))?;
        // Of too few frames the page that is wanted gets one.
        let first = wanted.filter(|wanted| wanted - first >= frames.len() as u64).unwrap_or(first);
        let unused = {
            let mut pages = self.lock();
            let end = pages.size().div_ceil(PAGE).saturating_sub(first);
            let still =
                if pages.in_flight.is_cutting() { 0 } else { pages.absent(first, end.min(frames.len() as u64)) };
            let unused = frames.len() as u64 - still;
            frames.truncate(still as usize);
            for (index, frame) in (first..).zip(&frames) {
                pages.in_flight.begin_read(index, frame.number());
            }
            pages.in_flight.requests += usize::from(still > 0);
            unused
        };
        self.budget.give(unused);
        if let Some(cache) = backed.this.upgrade().filter(|_| !frames.is_empty()) {
            backed.backing.read(ReadRequest { cache, first, frames, wanted });
        }
        Ok(())
    }

    /// Frames for so many pages, paid for: one at least, fewer than asked for when memory is short.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn frames(&self, count: u64) -> Result<Vec<Frame>, PagerError> {
        let mut frames = Vec::new();
        fallible(|| frames.try_reserve_exact(count as usize)).map_err(|_| PagerError::OutOfMemory)?;
        for _ in 0..count {
            match self.frame() {
                Ok(frame) => frames.push(frame),
                Err(error) if frames.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(frames)
    }

    /// A frame for a page, paid for. What is in it is anybody's.
    pub(super) fn frame(&self) -> Result<Frame, PagerError> {
        self.budget.take()?;
        Frame::allocate_dirty().ok_or_else(|| {
            self.budget.give(1);
            PagerError::OutOfMemory
        })
    }

    /// The backing has read these pages as far as it has them, or could not.
    pub(super) fn end_read(
        &self,
        first: u64,
        frames: Vec<Frame>,
        wanted: Option<u64>,
        result: Result<u64, PagerError>,
    ) {
        let count = frames.len() as u64;
        let mut kept = 0;
        let end = first + result.map_or(0, |pages| pages.min(count));
        {
            let mut pages = self.lock();
            for (index, frame) in (first..).zip(frames) {
                if !pages.in_flight.end_read(index, frame.number()) {
                    continue;
                }
                if index < end {
                    frame.zero(pages.size().saturating_sub(index * PAGE).min(PAGE) as usize..PAGE_SIZE);
                    pages.insert(index, frame);
                    kept += 1;
                } else if wanted == Some(index) {
                    pages.in_flight.fail(index);
                }
            }
            pages.in_flight.requests -= 1;
        }
        self.budget.give(count - kept);
        self.wake();
    }

    /// See [`Pager::ready`](crate::Pager::ready).
    pub(super) fn until_ready(&self, index: u64) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        Box::pin(async move {
            let Some(backed) = &self.backed else { return Ok(()) };
            let watch = Watch::new(self, index);
            let is_ready = || {
                let pages = self.lock();
                (!pages.in_flight.is_read(index) && !pages.in_flight.is_cutting()).then_some(())
            };
            backed.changed.wait_until(is_ready).await;
            if watch.end() {
                return Err(PagerError::Io);
            }
            backed.flusher.until_room().await
        })
    }
}

/// Somebody waits for a page. Who gives up is not told, and nobody else in his place.
struct Watch<'a> {
    cache: &'a PageCache,
    index: u64,
    /// [`InFlight::watch`](super::in_flight::InFlight::watch)'s answer; `None` when it is over.
    since: Option<u32>,
}

impl Watch<'_> {
    fn new(cache: &PageCache, index: u64) -> Watch<'_> {
        Watch { cache, index, since: Some(cache.lock().in_flight.watch(index)) }
    }

    /// Whether the page could not be read meanwhile.
    fn end(mut self) -> bool {
        self.stop()
    }

    fn stop(&mut self) -> bool {
        self.since.take().is_some_and(|since| self.cache.lock().in_flight.unwatch(self.index, since))
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
