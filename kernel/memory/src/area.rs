//! One area: a range of pages with one set of rights and one origin; a line of /proc/PID/maps.

use alloc::sync::Arc;
use core::ops::Range;

use bitflags::bitflags;
use machine::memory::{Access, PAGE_SIZE};

use crate::pager::MappedFile;

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
        /// The first stack of the program, `[stack]`.
        const STACK = 1 << 12;
        /// What brk(2) grows, `[heap]`.
        const HEAP = 1 << 13;
    }
}

/// Where the pages of an area come from.
#[derive(Clone)]
pub enum Backing {
    /// Zeroed pages, made when touched. A shared anonymous area is a file without a name: give it a
    /// [`PageCache`](crate::PageCache) as [`Backing::File`]; [`AddressSpace::map`](crate::AddressSpace::map) does so itself.
    Anonymous,
    /// Pages of a file, the area's first page at byte `offset` (a multiple of the page size).
    File {
        /// The open file.
        file: Arc<MappedFile>,
        /// Where in it the area starts.
        offset: u64,
    },
}
