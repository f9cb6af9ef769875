//! Writing: bytes of write(2) into pages that are here, are made, or are fetched first since only a part of them is written.

use machine::memory::{Frame, PAGE_SIZE};

use super::{Backed, CacheError, PAGE, PageCache};
use crate::cursor::Source;
use crate::pager::PagerError;

impl PageCache {
    /// Writes all of `from` at `offset`, growing the file if need be, and returns how many bytes. On an error `from` tells
    /// what was written before. The caller has checked `offset` against the largest file size. One at a time may write to a file that
    /// has a backing.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn write_at(&self, offset: u64, from: &mut Source<'_>) -> Result<usize, CacheError> {
        let before = from.progress();
        let result = loop {
            let at = offset + (from.progress() - before) as u64;
            let within = (at % PAGE) as usize;
            let length = from.remaining().min(PAGE_SIZE - within);
            if length == 0 {
                break Ok(());
            }
            let result = match &self.backed {
                None => self.write_page(at / PAGE, within, length, from),
                Some(backed) => self.write_backed(backed, at / PAGE, within, length, from),
            };
            if let Err(error) = result {
                break Err(error);
            }
        };
        let written = from.progress() - before;
        let end = offset + written as u64;
        if written > 0 && end > self.tree.size() {
            let pages = self.lock();
            pages.set_size(pages.size().max(end));
        }
        result.map(|()| written)
    }

    fn write_page(&self, index: u64, within: usize, length: usize, from: &mut Source<'_>) -> Result<(), CacheError> {
        let existing = self.tree.get(index, false);
        if existing.is_none() && length == PAGE_SIZE && self.write_new_page(index, from)? {
            return Ok(());
        }
        let frame = match existing {
            Some(frame) => frame,
            None => self.page_for_writing(index).map_err(|error| CacheError::new(error, index))?,
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
        let inserted = self.insert(index, frame, false).map_err(|error| CacheError::new(error, index))?.is_none();
        if inserted {
            from.advance(PAGE_SIZE);
        }
        Ok(inserted)
    }

    /// The page, a hole filled with zeros.
    pub(super) fn page_for_writing(&self, index: u64) -> Result<Frame, PagerError> {
        let frame = Frame::zeroed().ok_or(PagerError::OutOfMemory)?;
        Ok(self.insert(index, frame.clone(), false)?.unwrap_or(frame))
    }

    /// A part of one page of a file that has a backing. The page is dirty before its first byte is copied, so that nobody takes it
    /// away, and again after the last, in case it was written back meanwhile; and the file is longer in the same moment.
    fn write_backed(
        &self,
        backed: &Backed,
        index: u64,
        within: usize,
        length: usize,
        from: &mut Source<'_>,
    ) -> Result<(), CacheError> {
        let before = from.progress();
        let stop = |error| CacheError::new(error, index);
        backed.flusher.admit().map_err(stop)?;
        {
            let pages = self.lock();
            if index * PAGE + (within + length) as u64 > pages.size() {
                pages.zero_behind_end();
            }
        }
        let result = match self.overwrite(backed, index, length, from).map_err(stop)? {
            true => Ok(()),
            false => {
                let frame = self.page_to_change(backed, index).map_err(stop)?;
                from.read_to_frame(&frame, within, length).map(|_| ()).map_err(CacheError::Fault)
            }
        };
        let moved = (from.progress() - before) as u64;
        let mut pages = self.lock();
        pages.pinned = None;
        if moved > 0 {
            pages.set_size(pages.size().max(index * PAGE + within as u64 + moved));
            self.note_dirty(backed, &mut pages, index);
        }
        result
    }

    /// A whole page that is not here: nobody needs what it was. False if it must go the usual way.
    fn overwrite(&self, backed: &Backed, index: u64, length: usize, from: &mut Source<'_>) -> Result<bool, PagerError> {
        if length < PAGE_SIZE || self.lock().has(index) {
            return Ok(false);
        }
        let frame = self.frame_with_room(backed)?;
        if from.peek_to_frame(&frame, 0, PAGE_SIZE) != Ok(PAGE_SIZE) || !self.put(backed, index, frame) {
            self.budget.give(1);
            return Ok(false);
        }
        from.advance(PAGE_SIZE);
        Ok(true)
    }

    /// The page, to be written to in part: it stays until that is done.
    fn page_to_change(&self, backed: &Backed, index: u64) -> Result<Frame, PagerError> {
        loop {
            let is_new = {
                let mut pages = self.lock();
                if let Some(frame) = pages.get_referenced(index) {
                    pages.pinned = Some(index);
                    self.note_dirty(backed, &mut pages, index);
                    return Ok(frame);
                }
                index >= pages.size().div_ceil(PAGE)
            };
            if !is_new {
                self.fetch_with_room(backed, index, 1)?;
                continue;
            }
            let frame = self.frame_with_room(backed)?;
            frame.zero(0..PAGE_SIZE);
            if !self.put(backed, index, frame) {
                self.budget.give(1);
            }
        }
    }

    /// Puts a page in that nobody has to read, as dirty and pinned. False if one is there.
    fn put(&self, backed: &Backed, index: u64, frame: Frame) -> bool {
        let mut pages = self.lock();
        if pages.has(index) {
            return false;
        }
        pages.in_flight.overtake(index);
        pages.insert(index, frame);
        pages.pinned = Some(index);
        self.note_dirty(backed, &mut pages, index);
        true
    }

    /// As [`frame`](Self::frame), and takes memory from pages that can be had again.
    fn frame_with_room(&self, backed: &Backed) -> Result<Frame, PagerError> {
        loop {
            match self.frame() {
                Err(PagerError::OutOfMemory) if backed.flusher.make_room()? => {}
                result => return result,
            }
        }
    }
}
