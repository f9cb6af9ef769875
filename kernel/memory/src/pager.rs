//! Files as memory sees them: "give me page i", and who maps the file.
//!
//! A [`Pager`] is implemented by whatever keeps a file's pages (tmpfs: its [`PageCache`](crate::PageCache)). A
//! [`MappedFile`] is a pager together with the open file that was mapped: it keeps the file alive and names it in
//! /proc/PID/maps. [`Mappings`] is the way back from a file to the address spaces that map it, needed when the
//! file is truncated: mapped pages beyond the new end must go, so that touching them is `SIGBUS`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::future::Future;
use core::ops::Range;
use core::pin::Pin;

use abi::Errno;
use machine::memory::{Frame, RetiredFrame};
use sync::{Budget, SpinLock};

use crate::address_space::AddressSpace;
use crate::page_cache::WriteErrors;

/// Why a page of a file can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagerError {
    /// The page lies wholly beyond the end of the file: `SIGBUS`.
    BeyondEnd,
    /// No frame is left.
    OutOfMemory,
    /// The file system is full, and a hole was to be filled: `SIGBUS`.
    NoSpace,
    /// The device failed: `SIGBUS`.
    Io,
    /// The page is on its way: wait with [`Pager::ready`] and ask again.
    Wait,
}

impl PagerError {
    /// What a system call says that has nothing better to say.
    pub fn errno(self) -> Errno {
        match self {
            PagerError::NoSpace => Errno::ENOSPC,
            PagerError::OutOfMemory => Errno::ENOMEM,
            PagerError::BeyondEnd | PagerError::Io | PagerError::Wait => Errno::EIO,
        }
    }
}

/// What holds the pages of a file. Called with the address space's lock held: never sleeps, never touches user memory.
pub trait Pager: Send + Sync {
    /// The frame that is page `index` of the file, shared with everybody who maps or reads it. With `write` the caller
    /// is about to write to it through a shared mapping. Holes read as zero.
    fn page(&self, index: u64, write: bool) -> Result<Frame, PagerError>;

    /// Hands the pages of `range` that are in memory now to `found`, in ascending order: for mapping what lies around a
    /// fault. Pages it doesn't have are left out; the default has none.
    fn cached(&self, range: Range<u64>, found: &mut dyn FnMut(u64, Frame)) {
        let _ = (range, found);
    }

    /// The file's length in bytes.
    fn size(&self) -> u64;

    /// Who maps this file. The pager calls [`Mappings::unmap`] when pages go away; one whose pages stay for ever need not know
    /// who maps them, and has none.
    fn mappings(&self) -> Option<&Mappings>;

    /// Brings what was written to pages `range` to where the file is kept, and resolves when it is there: msync(2) with `MS_SYNC`,
    /// fsync(2). A file that lives in RAM is there already. What can't be written is noted in [`write_errors`](Self::write_errors).
    /// Called without locks. Cancel-safe.
    ///
    /// # Errors
    /// [`PagerError::NoSpace`], [`PagerError::Io`], of a file that notes no errors.
    fn write_back(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        let _ = range;
        Box::pin(core::future::ready(Ok(())))
    }

    /// What could not be written, to be told to everybody who has the file open.
    fn write_errors(&self) -> Option<&WriteErrors> {
        None
    }

    /// Whether the file lies elsewhere: then a change of the length has a second step, [`finish_cut`](Self::finish_cut), that may have to
    /// wait.
    fn has_backing(&self) -> bool {
        false
    }

    /// After the file became shorter: where it is kept it becomes so, too. Nobody writes meanwhile. Not to be given up.
    ///
    /// # Errors
    /// [`PagerError::Io`]; the file is shorter nevertheless.
    fn finish_cut(&self) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        Box::pin(core::future::ready(Ok(())))
    }

    /// Resolves when page `index`, for which [`PagerError::Wait`] was returned, is worth asking for again. Cancel-safe.
    ///
    /// # Errors
    /// [`PagerError::Io`]: it could not be read. [`PagerError::OutOfMemory`]: there is no memory for it, and none to be made. It may be asked
    /// for again all the same.
    fn ready(&self, index: u64) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        let _ = index;
        Box::pin(core::future::ready(Ok(())))
    }
}

/// The open file behind a mapping, as /proc/PID/maps shows it. vfs implements it for its open files.
pub trait FileIdentity: Send + Sync {
    /// The path as it is now, with ` (deleted)` if its name is gone; unescaped.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn path(&self) -> Result<Vec<u8>, Errno>;
    /// Major and minor number of the device the file system is on.
    fn device(&self) -> (u32, u32);
    /// The inode number.
    fn inode(&self) -> u64;
    /// Whether something could not be written to `pager`, its file, that this open file has not been told of. Said once.
    ///
    /// # Errors
    /// [`PagerError::Io`], [`PagerError::NoSpace`].
    fn check_written(&self, pager: &dyn Pager) -> Result<(), PagerError> {
        let _ = pager;
        Ok(())
    }
}

/// An open file that may be mapped.
pub struct MappedFile {
    /// Where the pages come from.
    pub pager: Arc<dyn Pager>,
    /// Keeps the file open for as long as it is mapped, and names it.
    pub identity: Arc<dyn FileIdentity>,
    /// Opened for reading: required of every mapping.
    pub readable: bool,
    /// Opened for writing: a shared mapping may be writable.
    pub writable: bool,
    /// Not on a `noexec` mount: a mapping may become executable.
    pub executable: bool,
}

impl MappedFile {
    /// Whether two mappings are of one open file and may be one line in /proc/PID/maps.
    pub(crate) fn same_as(&self, other: &MappedFile) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity)
    }
}

/// A page of a file that may be given back.
pub(crate) struct Candidate {
    /// The number of its frame.
    pub frame: usize,
    /// Somebody used it through a mapping.
    pub is_used: bool,
}

/// Pages that may be given back, by their number in the file.
pub(crate) type Candidates = BTreeMap<u64, Candidate>;

/// Address spaces that were visited for what they map. Some may be over meanwhile but for this: then they go with it, and
/// with them the files they map. So who holds locks that a closed file takes lets go of them first.
#[derive(Default)]
pub struct Visited(#[expect(dead_code, reason = "held to be dropped")] Vec<Arc<AddressSpace>>);

/// The address spaces that map one file, each with the number of its areas that do.
#[derive(Default)]
pub struct Mappings {
    spaces: SpinLock<BTreeMap<u64, (Weak<AddressSpace>, usize)>>,
}

impl Mappings {
    /// Nobody maps yet.
    pub const fn new() -> Mappings {
        Mappings { spaces: SpinLock::new(BTreeMap::new()) }
    }

    /// Whether some address space maps the file.
    pub fn is_empty(&self) -> bool {
        self.spaces.lock().is_empty()
    }

    /// Who maps the file, each with the number of its areas that do.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<(Arc<AddressSpace>, usize)> {
        let spaces = self.spaces.lock();
        spaces.values().map(|(space, areas)| (space.upgrade().unwrap(), *areas)).collect()
    }

    /// One more area of `space` maps the file.
    pub(crate) fn add(&self, id: u64, space: &Weak<AddressSpace>) {
        self.spaces.lock().entry(id).or_insert_with(|| (space.clone(), 0)).1 += 1;
    }

    /// One area less.
    pub(crate) fn remove(&self, id: u64) {
        let mut spaces = self.spaces.lock();
        if let Some((_, areas)) = spaces.get_mut(&id) {
            *areas -= 1;
            if *areas == 0 {
                spaces.remove(&id);
            }
        }
    }

    /// Takes pages `range` of `file` out of every address space that maps them, private copies included, as truncation
    /// does (`unmap_mapping_range`). The pager must have stopped to hand them out before. Call it without locks.
    pub fn unmap(&self, file: &dyn Pager, range: Range<u64>) -> Visited {
        self.visit(|space| space.unmap_file(file, &range))
    }

    /// As [`Mappings::unmap`], in slices between which others run. Not to be given up: pages would stay that are no longer the file's.
    pub async fn unmap_slowly(&self, file: &dyn Pager, range: Range<u64>) {
        let mut budget = Budget::new();
        let mut next = 0;
        // Who copies a space meanwhile has a later number.
        while let Some((id, space)) = self.first_from(next) {
            if let Some(space) = space.upgrade() {
                space.unmap_file_slowly(file, &range, &mut budget).await;
            }
            next = id + 1;
            budget.pace(1).await;
        }
    }

    fn first_from(&self, id: u64) -> Option<(u64, Weak<AddressSpace>)> {
        let spaces = self.spaces.lock();
        spaces.range(id..).next().map(|(&id, (space, _))| (id, space.clone()))
    }

    /// Makes shared mappings of pages `range` of `file` read-only for the moment: the next write asks the pager for the
    /// page again ([`Pager::page`] with `write`). So a pager that writes pages back learns which are written after
    /// that. Call it without locks.
    pub fn write_protect(&self, file: &dyn Pager, range: Range<u64>) -> Visited {
        self.visit(|space| space.write_protect_file(file, &range))
    }

    /// Takes these pages of `file` out wherever just these frames are shown; copies that programs made stay. Call it
    /// without locks.
    pub fn evict(&self, file: &dyn Pager, pages: &BTreeMap<u64, RetiredFrame>) -> Visited {
        self.visit(|space| space.evict_file(file, pages))
    }

    /// Takes those pages of `file` out that were used where they are shown, if these frames are, and tells which: the next use is a fault
    /// again. Call it without locks.
    pub(crate) fn take_used(&self, file: &dyn Pager, pages: &mut Candidates) -> Visited {
        self.visit(|space| space.take_used_of_file(file, pages))
    }

    /// Visits the spaces one after the other: who copies one meanwhile, with what it shows of the file, has a later number.
    #[expect(clippy::disallowed_methods, reason = "a pointer for each process that maps the file")]
    pub(crate) fn visit(&self, mut visit: impl FnMut(&Arc<AddressSpace>)) -> Visited {
        let mut visited = Vec::new();
        let mut next = 0;
        while let Some((id, space)) = self.first_from(next) {
            if let Some(space) = space.upgrade() {
                visit(&space);
                visited.push(space);
            }
            next = id + 1;
        }
        Visited(visited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::*;
    use crate::{PageCache, Resolution};
    use abi::memory::MapFlags;
    use machine::memory::Access;

    /// A page becomes clean when nobody can write to it any more. A child that is copied while the spaces are visited has what its
    /// parent could do: it must not be forgotten.
    #[test]
    fn a_space_that_is_copied_meanwhile_is_visited_too() {
        let kernel = kernel();
        let (cache, mapped_file): (Arc<PageCache>, _) = file(&kernel, 1);
        let (first, parent) = (kernel.space(), kernel.space());
        let [area, _] = [&parent, &first].map(|space| {
            let area = space.map_file(0, 1, READ_WRITE, MapFlags::SHARED, &mapped_file, 0).unwrap();
            space.set_byte(area, 1).unwrap();
            area
        });
        let child = SpinLock::new(None);
        let mappings = cache.mappings().unwrap();
        drop(mappings.visit(|space| {
            if Arc::ptr_eq(space, &first) {
                *child.lock() = Some(wait(parent.fork()).unwrap());
            }
            space.write_protect_file(&*cache, &(0..1));
        }));
        for space in [&first, &parent, &child.into_inner().unwrap()] {
            let written = space.resolve(area, Access::WRITE);
            assert!(matches!(written, Ok(Resolution::Mapped)), "the pager is not told of a write");
        }
    }
}
