//! Memory: who owns each frame of RAM, and what each program may see of it.
//!
//! The room has two halves. Below, the [`FrameAllocator`] hands out physical frames: a buddy system behind a small stock
//! on every CPU. Above, an [`AddressSpace`] is what a program calls its memory: an ordered set of *areas* (the lines of
//! /proc/PID/maps) that say what may be there, over the machine's `Space` that says what is. Between them a page
//! fault asks for the one frame that is missing, from the allocator or from a file through its [`Pager`].
//!
//! | file | what it holds |
//! | --- | --- |
//! | `frames`, `per_cpu_cache` | [`FrameAllocator`]: buddy system and per-CPU stocks |
//! | `kernel_memory` | [`Memory`]: what all address spaces of one kernel share |
//! | `area`, `area_set`, `area_tree` | one area; all areas of a space, split and merged; their tree, which knows its gaps |
//! | `address_space` | [`AddressSpace`]: creation, fork, tear-down, limits |
//! | `map`, `change`, `remap`, `brk`, `advice` | mmap(2), munmap(2); mprotect(2); mremap(2); brk(2); madvise(2) |
//! | `mlock`, `msync`, `mincore` | the calls of these names |
//! | `fault` | [`AddressSpace::resolve`]: demand-zero, copy-on-write, file pages, growing stacks |
//! | `recent_areas` | where faults were resolved last, for those that do without the lock of the areas |
//! | `user_access`, `cursor` | bytes to and from programs: `copy_in`, `copy_out`; [`Source`] and [`Destination`] of file operations |
//! | `pager`, `page_cache` | [`Pager`]: "give me page i"; [`PageCache`]: a file's pages in RAM; who maps them |
//! | `family`, `swap` | who maps an anonymous page; those that lie elsewhere for a while: [`SwapBacking`] |
//! | `huge_pages` | when anonymous memory is mapped by 2 MiB |
//! | `exclusion`, `discard` | changes of several steps; what takes long to free |
//! | `vdso` | the areas `[vvar]` and `[vdso]` of every program |
//! | `oom` | what happens when memory is out: [`Cache`], [`OomKiller`] |
//! | `views` | what /proc shows of a space |
//!
//! **Who calls.** The process room creates, forks and clears address spaces and resolves faults; syscalls calls the mmap
//! family; vfs and fs move bytes with cursors and keep file pages in a [`PageCache`]; the machine calls the allocator.
//!
//! **Who synchronises.** Each address space has one spin lock over its areas, held for the length of one try: shared by faults that
//! don't know the area yet, alone by a map or a slice of an unmap. Who must keep others out for longer says so and lets them sleep
//! (`exclusion`). Under it come, in this order, a pager's own locks, the list of who maps a file, the machine's `Space`, and the frame
//! allocator. Nothing sleeps under any of them: a page that must be read from a disk makes the try return [`MemoryFault::Wait`], and the
//! caller waits outside and tries again.
//! Files that a change lets go of are dropped after the lock is released.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

/// Where the atomics come from: the model puts others in their place.
mod atomic {
    pub use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

mod address_space;
mod advice;
mod area;
mod area_set;
mod area_tree;
mod brk;
mod change;
mod cursor;
mod discard;
mod exclusion;
mod family;
mod fault;
mod frames;
mod huge_pages;
mod kernel_memory;
mod map;
mod mincore;
mod mlock;
mod msync;
mod oom;
mod page_cache;
mod pager;
mod per_cpu_cache;
mod recent_areas;
mod remap;
mod swap;
mod user_access;
mod vdso;
mod views;

pub use address_space::{AddressSpace, Limits};
pub use area::{Area, AreaFlags, Backing, Written};
pub use cursor::{Destination, Source, UserSlice};
pub use discard::Dismantle;
pub use fault::{MemoryFault, PageWait, Resolution};
pub use frames::FrameAllocator;
pub use kernel_memory::Memory;
pub use map::{MAXIMUM_AREAS, MINIMUM_ADDRESS, MapRequest};
pub use oom::{Cache, OomKiller, OomOutcome};
pub use page_cache::{
    Backing as PageBacking, CacheError, CutRequest, Flusher, PageBudget, PageCache, ReadRequest, Search, SlowBacking,
    SlowQueue, WriteErrors, WriteRequest,
};
pub use pager::{FileIdentity, MappedFile, Mappings, Pager, PagerError, Visited};
pub use swap::{SwapBacking, SwapRead, SwapWrite};
pub use user_access::check_range;
pub use views::{AreaView, ProgramLayout, ResidentFiles, Usage};

pub use machine::memory::{Access, Frame, PAGE_SIZE, Space, USER_TOP, UserFault};

#[cfg(test)]
mod tests;
