//! What was taken out of a space, and CPUs may still remember.
//!
//! [`MmuGather`] changes tables under their locks, notes what CPUs must forget, and keeps the frames. When it is dropped, and no lock is
//! held any more, it lets the CPUs forget all that in one round ([`super::shootdown`]), and then drops the frames. That is Linux's
//! mmu_gather.
//!
//! **No frame is used again that some CPU may still reach.** Meanwhile others change the same tables. What they find there tells them only
//! what CPUs may have cached since: that an entry without rights had some before, or that a frame was moved from another page, is known to
//! the gather alone whose flush is still to come. So [`Unflushed`] counts those, before they give up a leaf table's lock, until they have
//! flushed; and who drops frames, or promises that something is forgotten, while it counts another's, lets all CPUs forget the whole
//! space. kernel/models tries the orders.
//!
//! What this does not keep from happening is that a page is mapped where another CPU still sees the one that was there. Who must not see
//! that keeps others from mapping anything in [`MmuGather::unflushed`] (kernel/memory).

#[path = "mmu_gather/unflushed.rs"]
mod unflushed;

use core::sync::atomic;

use super::paging::{self, Tables, USER_TOP};
use super::shootdown;
use super::table::{Entry, Table};
use crate::memory::{Access, Frame, OutOfMemory, PAGE_SIZE, SwapEntry, SwappedOut};
use crate::rcu;
use arrayvec::ArrayVec;
use core::num::NonZeroU32;
use core::ops::Range;

pub use unflushed::Unflushed;

/// Frames that wait for one flush: a slice of an unmap. Beyond them flushes under the locks.
const BATCH: usize = 1024 + 32;
/// Tables that do.
const TABLES: usize = 64;

/// An empty range that grows from both ends.
const NOTHING: Range<usize> = Range { start: usize::MAX, end: 0 };

/// What was taken out of a space: frames to be dropped, and addresses to be forgotten first. Flushes when dropped.
pub struct MmuGather<'a> {
    tables: &'a Tables,
    frames: ArrayVec<NonZeroU32, BATCH>,
    stale: Range<usize>,
    /// Tables that nobody finds any more, but CPUs and readers may be in.
    detached: ArrayVec<Table, TABLES>,
    /// It has looked at the tables, and promises that what it did not find there is forgotten, too.
    has_looked: bool,
    /// Swap entries that were given back.
    pub(super) released: usize,
    /// It is counted in the space's [`Unflushed`].
    is_counted: bool,
}

impl<'a> MmuGather<'a> {
    /// It is large: it stays where it is made.
    #[inline(always)]
    pub(super) fn new(tables: &'a Tables) -> MmuGather<'a> {
        MmuGather {
            tables,
            frames: ArrayVec::new(),
            stale: NOTHING,
            detached: ArrayVec::new(),
            has_looked: false,
            released: 0,
            is_counted: false,
        }
    }

    /// Empties `range`; returns where to go on when `budget` is spent.
    pub fn unmap(&mut self, range: Range<usize>, budget: usize) -> Option<usize> {
        if range == (0..USER_TOP) && self.tables.resident() > 0 {
            shootdown::evict(self.tables.root()); // tear-down: nothing will have to be flushed
        }
        let lock = self.tables.lock_changes();
        let next = self.tables.clear(range, budget, self);
        self.has_looked = true;
        drop(lock);
        next
    }

    /// Changes the access of what is mapped in `range`.
    pub fn protect(&mut self, range: Range<usize>, access: Access) {
        let lock = self.tables.lock_changes();
        self.tables.protect(range, access, self);
        self.has_looked = true;
        drop(lock);
    }

    /// Puts `entry` in the place of frame number `frame`, if that is at `page`.
    pub fn swap_out(&mut self, page: usize, frame: usize, entry: SwapEntry) -> Option<SwappedOut> {
        let lock = self.tables.lock_changes();
        let out = self.tables.swap_out(page, frame, entry, self);
        self.has_looked = true;
        drop(lock);
        out
    }

    /// Shows what is mapped in `range` in `child`, too.
    pub fn share_with(&mut self, child: &Tables, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        let locks = self.tables.lock_both(child);
        let result = self.tables.share_with(child, range, copy_on_write, self);
        self.has_looked = true;
        drop(locks);
        result
    }

    /// Moves what is mapped in `from` to `to`.
    pub fn move_range(&mut self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        let lock = self.tables.lock_changes();
        let result = self.tables.move_range(from, to, self);
        self.has_looked = true;
        drop(lock);
        result
    }

    /// The pages that CPUs other than this one may still see as they were.
    #[inline]
    pub fn unflushed(&self) -> Option<Range<usize>> {
        (!self.stale.is_empty() && shootdown::is_used_elsewhere(self.tables.root())).then(|| self.stale.clone())
    }

    /// A leaf table's lock is about to be given up.
    #[inline]
    pub(super) fn note(&mut self) {
        if !self.is_counted && !self.is_empty() {
            self.tables.unflushed.begin();
            self.is_counted = true;
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.stale.is_empty() && self.frames.is_empty() && self.detached.is_empty()
    }

    /// A translation of `page` may be cached.
    #[inline]
    pub(super) fn stale(&mut self, page: usize) {
        self.stale = self.stale.start.min(page)..self.stale.end.max(page + PAGE_SIZE);
    }

    /// A frame loses the reference of an entry.
    #[inline]
    fn frame(&mut self, number: NonZeroU32) {
        if self.frames.is_full() {
            self.flush();
        }
        self.frames.push(number);
    }

    /// What an entry for `page` was before it was replaced by `new`.
    #[inline]
    pub(super) fn entry(&mut self, page: usize, old: Entry, new: Entry) {
        if old.must_flush(new) {
            self.stale(page);
        }
        match old.frame() {
            Some(number) => self.frame(number),
            None => {
                self.tables.release(old);
                self.released += 1;
            }
        }
    }

    /// Takes the table at `index` of `parent` away if it has no entries. Whatever is flushed then makes CPUs forget it. Under the lock for changes,
    /// and no leaf's.
    pub(super) fn table_if_empty(&mut self, parent: Table, index: usize, table: Table) {
        if self.detached.is_full() {
            self.flush();
        }
        if parent.detach_if_empty(index, table) {
            self.detached.push(table);
        }
    }

    /// Lets CPUs forget, and drops the frames.
    fn flush(&mut self) {
        let pages = match core::mem::replace(&mut self.stale, NOTHING) {
            _ if self.tables.unflushed.others(self.is_counted) => 0..USER_TOP,
            // Any address: it makes CPUs forget what they have cached of tables.
            stale if stale.is_empty() && !self.detached.is_empty() => 0..PAGE_SIZE,
            stale => stale,
        };
        shootdown::flush(self.tables.root(), pages);
        if !self.detached.is_empty() {
            rcu::wait_for_readers();
        }
        for table in self.detached.drain(..) {
            paging::free(table);
        }
        for number in self.frames.drain(..) {
            // SAFETY: the number's reference was an entry's, which is gone, and no CPU has it cached: see the page.
            drop(unsafe { Frame::from_raw(number) });
        }
    }
}

impl Drop for MmuGather<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() || self.has_looked && self.tables.unflushed.others(self.is_counted) {
            self.flush();
        }
        if self.is_counted {
            self.tables.unflushed.end();
        }
    }
}
