//! Regular files of the host, open.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abi::{Errno, Result};
use machine::folder::{Answer, OpenNode, Request};
use memory::{Destination, Pager, Search, Source};
use vfs::{AllocateMode, File, FileTraits, NotReady, OpenFlags, Pending, Whence};

use super::calls::unexpected;
use super::contents::{HostContents, Place};
use super::errno;
use super::inode::HostInode;

/// No file is larger: positions are signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// An open regular file.
pub(super) struct HostFile {
    inode: Arc<HostInode>,
    contents: Arc<HostContents>,
    /// Shared with all who opened it alike.
    open: Arc<OpenNode>,
    durability: Durability,
}

/// What is to be safe on the host's disk when a write returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Nothing,
    /// `O_DSYNC`
    Data,
    /// `O_SYNC`
    All,
}

impl HostFile {
    /// `open` comes from `contents`, which counts its users.
    pub fn new(inode: Arc<HostInode>, contents: Arc<HostContents>, open: Arc<OpenNode>, flags: OpenFlags) -> HostFile {
        let durability = match flags {
            flags if flags.contains(OpenFlags::SYNC) => Durability::All,
            flags if flags.contains(OpenFlags::DATA_SYNC) => Durability::Data,
            _ => Durability::Nothing,
        };
        HostFile { inode, contents, open, durability }
    }

    fn write_to(&self, place: Place, source: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        // To a disk it takes long.
        if self.durability != Durability::Nothing && source.remaining() > 0 {
            return Err(NotReady::Elsewhere);
        }
        self.contents.write_at(&self.open, place, source)
    }
}

impl Drop for HostFile {
    /// Closed and unmapped: what was written through mappings goes to the host. As on Linux, who wants to know whether
    /// that worked asks with fsync(2) before.
    fn drop(&mut self) {
        self.contents.close(&self.open);
    }
}

impl File for HostFile {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE | FileTraits::BACKED
    }

    fn read(&self, position: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        self.contents.read_at(&self.open, position, destination)
    }

    fn fetch(&self, position: u64, length: usize) -> Pending<Vec<u8>> {
        let (contents, open) = (self.contents.clone(), self.open.clone());
        Box::pin(async move { contents.fetch(&open, position, length).await })
    }

    fn write(&self, position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        if position.checked_add(source.remaining() as u64).is_none_or(|end| end > MAX_SIZE) {
            return Err(Errno::EFBIG.into());
        }
        self.write_to(Place::At(position), source).map(|(moved, _)| moved)
    }

    fn write_elsewhere(&self, position: Option<u64>, bytes: Vec<u8>) -> Pending<(usize, u64)> {
        let (contents, open, durability) = (self.contents.clone(), self.open.clone(), self.durability);
        Box::pin(async move {
            let place = position.map_or(Place::End, Place::At);
            let written = contents.write_elsewhere(&open, place, bytes).await?;
            if durability != Durability::Nothing {
                contents.synchronise(&open, durability == Durability::Data).await?;
            }
            Ok(written)
        })
    }

    fn append(&self, source: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        self.write_to(Place::End, source)
    }

    fn pager(&self) -> Option<Arc<dyn Pager>> {
        Some(self.contents.page_cache())
    }

    fn cached_pages(&self) -> Option<Arc<dyn Pager>> {
        Some(self.contents.mapped()?)
    }

    fn size(&self) -> u64 {
        self.inode.status().size
    }

    fn seek_hole_or_data(&self, position: u64, whence: Whence) -> Result<Search> {
        self.contents.start_write_back();
        if self.inode.is_far() {
            return Err(Errno::ERESTART);
        }
        self.open.seek(position, whence == Whence::Hole).map(Search::Found).map_err(errno)
    }

    fn seek_elsewhere(&self, position: u64, whence: Whence) -> Pending<u64> {
        let (calls, open, hole) = (self.inode.calls().clone(), self.open.clone(), whence == Whence::Hole);
        Box::pin(async move {
            match calls.make(&open, &Request::Search { offset: position, hole }, None).await? {
                Answer::Offset(offset) => Ok(offset),
                _ => unexpected(),
            }
        })
    }

    fn allocate(&self, mode: AllocateMode, range: Range<u64>) -> Result<Option<u64>> {
        if self.inode.is_far() {
            return Err(Errno::ERESTART);
        }
        let done = self.contents.allocate(&self.open, mode, range.start, range.end - range.start)?;
        Ok(if done { None } else { Some(range.start) })
    }

    fn allocate_elsewhere(&self, mode: AllocateMode, range: Range<u64>) -> Pending<()> {
        let (contents, open) = (self.contents.clone(), self.open.clone());
        Box::pin(async move { contents.allocate_later(&open, mode, range).await })
    }

    fn synchronise(&self, _: bool) -> Result<(), NotReady> {
        Err(NotReady::Elsewhere)
    }

    fn synchronise_elsewhere(&self, data_only: bool) -> Pending<()> {
        let (contents, open) = (self.contents.clone(), self.open.clone());
        Box::pin(async move { contents.synchronise(&open, data_only).await })
    }
}
