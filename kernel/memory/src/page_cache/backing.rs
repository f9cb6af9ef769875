//! Where the pages of a file lie when they are not in RAM: a disk, another machine, a test's idea of one.
//!
//! A [`Backing`] is handed requests, and completes each whenever it can: before it returns, or later from a task of its own. It never
//! waits. A request that is dropped without an answer has failed, so nobody waits for ever.
//!
//! What a backing may rely on: no two requests of one file that are in flight at once are for the same page, but for a read whose
//! result nobody wants any more; and a [`CutRequest`] is the only one of its file.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::memory::{Frame, PAGE_SIZE};

use super::PageCache;
use crate::pager::PagerError;

/// See the module's page. Called with locks that spin held (of an address space, when a page fault reads): it takes the request and
/// returns. Requests are completed from tasks and calls, never from an interrupt's handler.
pub trait Backing: Send + Sync {
    /// Fills the frames. Where the file has no bytes, with zeros.
    fn read(&self, request: ReadRequest);

    /// Writes the frames' bytes. The file becomes longer if it ends before.
    fn write(&self, request: WriteRequest);

    /// How long the file is, if that may be more than the cache was told. Asked when a program touches a page behind the end.
    fn length(&self) -> Option<u64> {
        None
    }

    /// Gives the file another length. What lay behind it is gone: if the file becomes longer again, zeros are there.
    fn cut(&self, request: CutRequest);
}

/// Neighbouring pages to be read.
pub struct ReadRequest {
    pub(super) cache: Arc<PageCache>,
    pub(super) first: u64,
    /// Empty when it is completed.
    pub(super) frames: Vec<Frame>,
    /// The page somebody asked for, if there is one; the others are read ahead.
    pub(super) wanted: Option<u64>,
}

impl ReadRequest {
    /// The first page.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// What is to be filled, a frame a page. Nobody else sees them yet.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// They are filled, or can't be.
    pub fn complete(mut self, result: Result<(), PagerError>) {
        let all = self.frames.len() as u64;
        self.end(result.map(|()| all));
    }

    /// So many bytes are filled, and the rest of their last page with zeros: if the frames have room for more, the file ends there, though
    /// it was taken for longer. Who wants a page behind that can't have it. If it was taken for shorter, it is longer now.
    pub fn complete_some(mut self, bytes: usize) {
        self.cache.grow(self.first * PAGE_SIZE as u64 + bytes as u64);
        self.end(Ok(bytes.div_ceil(PAGE_SIZE) as u64));
    }

    fn end(&mut self, result: Result<u64, PagerError>) {
        let frames = core::mem::take(&mut self.frames);
        if !frames.is_empty() {
            self.cache.end_read(self.first, frames, self.wanted, result);
        }
    }
}

impl Drop for ReadRequest {
    fn drop(&mut self) {
        self.end(Err(PagerError::Io));
    }
}

/// Neighbouring pages to be written.
pub struct WriteRequest {
    pub(super) cache: Arc<PageCache>,
    pub(super) first: u64,
    /// Empty when it is completed.
    pub(super) frames: Vec<Frame>,
    /// How long the file is.
    pub(super) size: u64,
}

impl WriteRequest {
    /// The first page.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// What is to be written. Programs may write to them meanwhile: then they are written again.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// How many bytes: up to the end of the last page, or of the file.
    pub fn length(&self) -> usize {
        let rest = self.size.saturating_sub(self.first * PAGE_SIZE as u64);
        usize::try_from(rest).unwrap_or(usize::MAX).min(self.frames.len() * PAGE_SIZE)
    }

    /// How many of the frames, from the first on, are still the file's pages: the others were cut off since.
    pub fn still_wanted(&self) -> usize {
        self.cache.count_writing(self.first, &self.frames)
    }

    /// They are written, or can't be: then they stay dirty, and whoever has the file open is told.
    pub fn complete(mut self, result: Result<(), PagerError>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<(), PagerError>) {
        let frames = core::mem::take(&mut self.frames);
        if !frames.is_empty() {
            self.cache.end_write(self.first, frames.len() as u64, result);
        }
    }
}

impl Drop for WriteRequest {
    fn drop(&mut self) {
        self.end(Err(PagerError::Io));
    }
}

/// Another length.
pub struct CutRequest {
    /// `None` when it is completed.
    pub(super) cache: Option<Arc<PageCache>>,
    pub(super) size: u64,
}

impl CutRequest {
    /// The length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// It is done, or can't be.
    pub fn complete(mut self, result: Result<(), PagerError>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<(), PagerError>) {
        if let Some(cache) = self.cache.take() {
            cache.end_cut(result);
        }
    }
}

impl Drop for CutRequest {
    fn drop(&mut self) {
        self.end(Err(PagerError::Io));
    }
}
