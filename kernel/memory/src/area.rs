//! One area, Linux's VMA (`vm_area_struct`): a range of pages with one set of rights and one origin; a line of /proc/PID/maps.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::memory::Protection;
use bitflags::bitflags;
use machine::memory::{Access, PAGE_SIZE};

use crate::family::HOME;
use crate::pager::{MappedFile, Mappings, Pager};

bitflags! {
    /// What is special about an area.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AreaFlags: u16 {
        /// `MAP_SHARED`: writes are seen by everybody who maps the same pages.
        const SHARED = 1 << 0;
        /// Grows towards lower addresses when touched just below: a stack.
        const GROWS_DOWN = 1 << 1;
        /// mlock(2).
        const LOCKED = 1 << 2;
        /// `MAP_NORESERVE`: not counted against the commit limit.
        const NO_RESERVE = 1 << 3;
        /// mprotect(2) may make it readable.
        const MAY_READ = 1 << 4;
        /// mprotect(2) may make it writable.
        const MAY_WRITE = 1 << 5;
        /// mprotect(2) may make it executable.
        const MAY_EXECUTE = 1 << 6;
        /// `MADV_DONTFORK`: a child doesn't inherit it.
        const DONT_FORK = 1 << 7;
        /// `MADV_WIPEONFORK`: a child finds it zeroed.
        const WIPE_ON_FORK = 1 << 8;
        /// `MADV_DONTDUMP`: left out of core dumps.
        const DONT_DUMP = 1 << 9;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 10;
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 11;
        /// Counted against the commit limit: it was private and writable at some time.
        const ACCOUNTED = 1 << 12;
        /// The kernel's own, shown to every program (`VM_SPECIAL`): it doesn't grow, and mlock(2) passes it over.
        const SPECIAL = 1 << 13;
        /// `MADV_HUGEPAGE`.
        const HUGE_PAGE = 1 << 14;
        /// `MADV_NOHUGEPAGE`, and `MAP_STACK`.
        const NO_HUGE_PAGE = 1 << 15;
    }
}

/// Where the pages of an area come from.
#[derive(Clone, Default)]
pub enum Backing {
    /// Zeroed pages, made when touched. A shared anonymous area is a file without a name, `/dev/zero (deleted)`;
    /// [`AddressSpace::map`](crate::AddressSpace::map) makes it.
    #[default]
    Anonymous,
    /// Pages of a file, the area's first page at byte `offset` (a multiple of the page size).
    File {
        /// The open file.
        file: Arc<MappedFile>,
        /// Where in it the area starts.
        offset: u64,
    },
}

/// A range of pages with one set of rights and one origin.
#[derive(Clone)]
pub struct Area {
    /// Addresses, page aligned, never empty.
    pub range: Range<usize>,
    /// What the program may do.
    pub access: Access,
    /// What is special.
    pub flags: AreaFlags,
    /// Some page may be the program's own copy. Areas merge regardless (Linux: `anon_vma`).
    pub written: Written,
    /// Where pages come from.
    pub backing: Backing,
    /// How far from here the anonymous pages of an area that was moved were made: their *homes* are that much further on. It wraps. An area
    /// that was never written is at home.
    pub moved: usize,
}

/// Whether an area was written to once. A page fault notes it, which shares the areas with others.
#[derive(Default)]
pub struct Written(AtomicBool);

impl Written {
    /// Whether it was.
    #[inline]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is.
    #[inline]
    pub fn set(&self) {
        if !self.get() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Clone for Written {
    #[inline]
    fn clone(&self) -> Written {
        Written(AtomicBool::new(self.get()))
    }
}

impl Area {
    /// Length in pages.
    #[inline]
    pub fn pages(&self) -> usize {
        (self.range.end - self.range.start) / PAGE_SIZE
    }

    /// Whether writes are seen by others.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// The lowest address that must stay free for this area to grow into, guard gap included (`vm_start_gap`).
    #[inline]
    pub fn start_with_gap(&self) -> usize {
        if self.flags.contains(AreaFlags::GROWS_DOWN) {
            self.range.start.saturating_sub(STACK_GUARD_GAP)
        } else {
            self.range.start
        }
    }

    /// The mapped file and the page of it that `address`, inside the area, shows.
    #[inline]
    pub fn file_page(&self, address: usize) -> Option<(&Arc<MappedFile>, u64)> {
        match &self.backing {
            Backing::File { file, offset } => {
                Some((file, (offset + (address - self.range.start) as u64) / PAGE_SIZE as u64))
            }
            Backing::Anonymous => None,
        }
    }

    /// The home of the page at `address`, if that is the program's own: for anonymous memory the address where it was made, for a copy of a
    /// file's page the place in the file.
    #[inline]
    pub fn home(&self, address: usize) -> usize {
        let home = match &self.backing {
            Backing::Anonymous => address.wrapping_add(self.moved),
            Backing::File { offset, .. } => (address - self.range.start).wrapping_add(*offset as usize),
        };
        home & HOME
    }

    /// Where it shows the page that has this home, if it does.
    pub fn page_at_home(&self, home: usize) -> Option<usize> {
        let distance = home.wrapping_sub(self.home(self.range.start)) & HOME;
        (!self.is_shared() && distance < self.range.len()).then(|| self.range.start + distance)
    }

    /// The addresses where it shows some of pages `range` of `file`.
    pub fn view_of(&self, file: &dyn Pager, range: &Range<u64>) -> Option<Range<usize>> {
        let (mapped, first) = self.file_page(self.range.start)?;
        if !core::ptr::addr_eq(Arc::as_ptr(&mapped.pager), file) {
            return None;
        }
        let last = first + self.pages() as u64;
        let (from, to) = (range.start.clamp(first, last), range.end.clamp(first, last));
        let address = |page: u64| self.range.start + (page - first) as usize * PAGE_SIZE;
        (from < to).then(|| address(from)..address(to))
    }

    /// Who maps its file, if somebody must know.
    pub(crate) fn mappings(&self) -> Option<&Mappings> {
        match &self.backing {
            Backing::File { file, .. } => file.pager.mappings(),
            Backing::Anonymous => None,
        }
    }

    /// The origin of the part that starts at `address`.
    pub(crate) fn backing_from(&self, address: usize) -> Backing {
        match &self.backing {
            Backing::Anonymous => Backing::Anonymous,
            Backing::File { file, offset } => {
                let distance = address.wrapping_sub(self.range.start) as u64;
                Backing::File { file: file.clone(), offset: offset.wrapping_add(distance) }
            }
        }
    }

    /// Whether `next`, which starts where this ends, continues it in every respect and so is the same area.
    pub(crate) fn continues_in(&self, next: &Area) -> bool {
        self.range.end == next.range.start
            && self.access == next.access
            && self.flags == next.flags
            && self.moved == next.moved
            && match (&self.backing, &next.backing) {
                (Backing::Anonymous, Backing::Anonymous) => true,
                (Backing::File { file, offset }, Backing::File { file: its_file, offset: its_offset }) => {
                    file.same_as(its_file) && offset + (self.range.end - self.range.start) as u64 == *its_offset
                }
                _ => false,
            }
    }
}

/// Addresses below a growing area that nothing else may take (`stack_guard_gap`, 256 pages).
pub const STACK_GUARD_GAP: usize = 256 * PAGE_SIZE;

/// What page tables are asked for: on x86 a page that may be written or executed may be read.
#[inline]
pub(crate) fn effective(access: Access) -> Access {
    if access.is_empty() { access } else { access | Access::READ }
}

/// The rights in a `prot` argument.
pub(crate) fn access_of(protection: Protection) -> Access {
    let rights = Protection::READ | Protection::WRITE | Protection::EXECUTE;
    Access::from_bits_truncate((protection & rights).bits() as u8)
}
