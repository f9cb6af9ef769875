//! Regular files and directories of tmpfs, open.

use alloc::sync::Arc;
use core::ops::Range;

use abi::{Errno, Result};
use memory::{CacheError, Destination, PAGE_SIZE, Pager, Search, Source};
use vfs::{AllocateMode, DirectoryEntry, DirectorySink, File, FileTraits, Inode, NotReady, Whence};

use super::inode::{Contents, Regular, TmpfsInode};

/// No file is larger: positions are signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// How many entries are handed over before the directory is let go of for a moment.
const BATCH: usize = 256;

impl TmpfsInode {
    /// Writes at `position`; vfs holds the file's write lock.
    fn write_from(&self, regular: &Regular, position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        if position.checked_add(source.remaining() as u64).is_none_or(|end| end > MAX_SIZE) {
            return Err(Errno::EFBIG.into());
        }
        // As on Linux: before it is known whether there is memory for it, and whether the program's can be read.
        if source.remaining() > 0 {
            self.touch();
        }
        Ok(regular.cache.write_at(position, source)?)
    }
}

impl File for TmpfsInode {
    fn traits(&self) -> FileTraits {
        let is_backed = self.regular().is_ok_and(|regular| regular.cache.has_backing());
        FileTraits::SEEKABLE | FileTraits::WRITE_LOCK | if is_backed { FileTraits::BACKED } else { FileTraits::empty() }
    }

    fn read(&self, position: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let regular = match &self.contents {
            Contents::Regular(regular) => regular,
            Contents::Directory(_) => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        };
        let moved = regular.cache.read_at(position, destination)?;
        self.touch_accessed(position);
        Ok(moved)
    }

    fn write(&self, position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let regular = self.regular()?;
        self.write_from(regular, position, source)
    }

    fn append(&self, source: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        let regular = self.regular()?;
        let end = regular.cache.size();
        let moved = self.write_from(regular, end, source)?;
        Ok((moved, end + moved as u64))
    }

    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<(), NotReady> {
        let directory = self.directory()?;
        loop {
            let entries = directory.lock();
            let mut handed = 0;
            for (cookie, entry) in entries.from(*position).take(BATCH) {
                let (number, kind) = (entry.inode.number(), entry.inode.kind());
                if !sink.entry(DirectoryEntry { name: &entry.name, number, kind, next: cookie + 1 }) {
                    return Ok(());
                }
                *position = cookie + 1;
                handed += 1;
            }
            drop(entries);
            if handed < BATCH {
                self.touch_accessed(0);
                return Ok(());
            }
        }
    }

    fn pager(&self) -> Option<Arc<dyn Pager>> {
        Some(self.regular().ok()?.cache.clone())
    }

    fn size(&self) -> u64 {
        self.regular().map_or(0, |regular| regular.cache.size())
    }

    fn seek_hole_or_data(&self, position: u64, whence: Whence) -> Result<Search> {
        let cache = &self.regular()?.cache;
        match whence {
            // A store doesn't say where it has holes.
            Whence::Hole if cache.has_backing() => Ok(Search::Found(cache.size())),
            _ if cache.has_backing() => Ok(Search::Found(position)),
            Whence::Hole => Ok(cache.next_hole(position)),
            _ => cache.next_data(position).map(Search::Found).ok_or(Errno::ENXIO),
        }
    }

    fn allocate(&self, mode: AllocateMode, range: Range<u64>) -> Result<Option<u64>> {
        if mode.contains(AllocateMode::ZERO_RANGE) {
            return Err(Errno::EOPNOTSUPP);
        }
        let regular = self.regular()?;
        let next = if regular.cache.has_backing() {
            // A store promises no room, and makes no holes.
            if mode.contains(AllocateMode::PUNCH_HOLE) {
                return Err(Errno::EOPNOTSUPP);
            }
            None
        } else if mode.contains(AllocateMode::PUNCH_HOLE) {
            // Beyond the end there is nothing to punch, and asking for it must not take for ever.
            let end = range.end.min(regular.cache.size().next_multiple_of(PAGE_SIZE as u64));
            regular.cache.punch(range.start..end.max(range.start))
        } else {
            // More than there may ever be is refused before the first page.
            if (range.end - range.start).div_ceil(PAGE_SIZE as u64) > self.shared.pages.limit() {
                return Err(Errno::ENOSPC);
            }
            regular.cache.allocate(range.clone()).map_err(|error| match error {
                CacheError::NoSpace => Errno::ENOSPC,
                _ => Errno::ENOMEM,
            })?
        };
        if next.is_none() && !mode.intersects(AllocateMode::KEEP_SIZE | AllocateMode::PUNCH_HOLE) {
            regular.cache.grow(range.end);
        }
        self.touch();
        Ok(next)
    }

    fn synchronise(&self, _: bool) -> Result<(), NotReady> {
        Ok(())
    }
}
