//! One page table: 512 entries in a frame, and the knowledge which of them are in use.
//!
//! An entry that is not 0 is *occupied*: it owns a reference to a frame (of a page, or of the next table), or, in a leaf table, it is a *swap
//! entry*, which has no frame. An occupied entry with a frame and without `PRESENT` is a page without access (`PROT_NONE`). What the architecture leaves to software says "copy on write".
//!
//! So that tear-down and fork need not look at 512 entries to find three, the record of a table's frame counts its
//! occupied entries and notes which of its 16 groups of 32 entries may have any; and it has the table's lock ([`State`]).
//!
//! Entries of a leaf table are changed only by the holder of its lock, but the CPU sets `ACCESSED` and `DIRTY` whenever it likes: an
//! entry that may be in use is exchanged, never stored.

#[path = "table/state.rs"]
mod state;

use core::sync::atomic;

use super::frames::{self, take_frames};
use crate::memory::{Access, SwapEntry};
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use state::State;

/// Entries in a table.
pub const ENTRIES: usize = 512;
const GROUP: usize = 32;

/// An entry's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    pub const PRESENT: u64 = 1;
    pub const WRITABLE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const UNCACHED: u64 = 1 << 4 | 1 << 3;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    pub const LARGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    pub const COPY_ON_WRITE: u64 = 1 << 9;
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Frames have numbers of 32 bits.
    const FRAME: u64 = 0x0000_0fff_ffff_f000;
    /// Where a swap entry's number stands: its lowest bits between `PRESENT` and the frame, the others above that. The frame stays 0, so a CPU that guesses
    /// finds no memory of anybody's through it (L1TF).
    const SWAP_LOW: u32 = 11;
    const SWAP_HIGH: u32 = 44;

    /// An entry for a user page.
    #[inline]
    pub fn page(number: NonZeroU32, access: Access) -> Entry {
        let copy = if access.contains(Access::COPY_ON_WRITE) { Entry::COPY_ON_WRITE } else { 0 };
        Entry((u64::from(number.get()) << 12) | copy).with_access(access)
    }

    /// An entry for a page that is swapped out.
    pub fn swapped(entry: SwapEntry) -> Entry {
        let number = u64::from(entry.get());
        Entry((number & ((1 << Entry::SWAP_LOW) - 1)) << 1 | number >> Entry::SWAP_LOW << Entry::SWAP_HIGH)
    }

    /// The swap entry that an entry of a leaf table is, if it is one.
    pub fn swap_entry(self) -> Option<SwapEntry> {
        let low = self.0 >> 1 & ((1 << Entry::SWAP_LOW) - 1);
        let number = (self.0 >> Entry::SWAP_HIGH << Entry::SWAP_LOW) | low;
        SwapEntry::new(number as u32).filter(|_| self.frame().is_none())
    }

    /// An entry for a lower table.
    #[inline]
    pub fn table(table: Table) -> Entry {
        let flags = Entry::PRESENT | Entry::WRITABLE | Entry::USER | Entry::ACCESSED;
        Entry((u64::from(table.0.get()) << 12) | flags)
    }

    /// The same page with other access; a copy-on-write page stays unwritable.
    #[inline]
    pub fn with_access(self, access: Access) -> Entry {
        const RIGHTS: u64 = Entry::PRESENT | Entry::WRITABLE | Entry::USER | Entry::NO_EXECUTE;
        let kept = self.0 & !RIGHTS;
        let mut rights = 0;
        if access.intersects(Access::READ | Access::WRITE | Access::EXECUTE) {
            rights |= Entry::PRESENT | Entry::USER;
        }
        if access.contains(Access::WRITE) && !self.has(Entry::COPY_ON_WRITE) {
            rights |= Entry::WRITABLE;
        }
        if !access.contains(Access::EXECUTE) {
            rights |= Entry::NO_EXECUTE;
        }
        Entry(kept | rights)
    }

    /// What the program may do.
    #[inline]
    pub fn access(self) -> Access {
        let mut access = Access::empty();
        if self.has(Entry::PRESENT) {
            access |= Access::READ;
            access.set(Access::WRITE, self.has(Entry::WRITABLE));
            access.set(Access::EXECUTE, !self.has(Entry::NO_EXECUTE));
        }
        access
    }

    #[inline]
    pub fn has(self, flags: u64) -> bool {
        self.0 & flags == flags
    }

    /// The frame it owns a reference to, if it is occupied and no swap entry.
    #[inline]
    pub fn frame(self) -> Option<NonZeroU32> {
        NonZeroU32::new(((self.0 & Entry::FRAME) >> 12) as u32)
    }

    /// True if a CPU may have cached `self` and would be wrong with `new` in force. The CPU caches only present entries that it
    /// has marked accessed; and one that allows too little makes it fault and look again.
    #[inline]
    pub fn must_flush(self, new: Entry) -> bool {
        let grown = new.0 & !self.0 & Entry::NO_EXECUTE | self.0 & !new.0 & (Entry::WRITABLE | Entry::PRESENT);
        self.has(Entry::PRESENT | Entry::ACCESSED) && (grown != 0 || (self.0 ^ new.0) & Entry::FRAME != 0)
    }
}

/// A table in use. Copying the handle does not share ownership: its parent's entry, or the space, owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table(pub NonZeroU32);

impl Table {
    /// A new table of zeros for a space. Fails as soon as only the reserve is left.
    #[inline]
    pub fn new() -> Option<Table> {
        // SAFETY: the frame is ours alone.
        take_frames(0).map(|number| unsafe { Table::zeroed(number) })
    }

    /// A table of zeros over a frame.
    ///
    /// # Safety
    /// The frame is nobody else's.
    #[inline]
    pub unsafe fn zeroed(number: NonZeroU32) -> Table {
        // SAFETY: by contract of the caller.
        unsafe { super::copy::clear_page(frames::bytes(number.get())) };
        let table = Table(number);
        table.deposited().store(0, Relaxed);
        table
    }

    /// The table an entry of a higher table of a space points to: there an entry that is not 0 does.
    #[inline]
    pub fn of(entry: Entry) -> Option<Table> {
        // SAFETY: `table` made the entry from a table's number, which is not 0.
        (entry.0 != 0).then(|| Table(unsafe { NonZeroU32::new_unchecked((entry.0 >> 12) as u32) }))
    }

    /// Physical address, for CR3.
    #[inline]
    pub fn physical(self) -> usize {
        (self.0.get() as usize) << 12
    }

    #[inline]
    fn slot(self, index: usize) -> &'static AtomicU64 {
        let entries: *mut u64 = frames::bytes(self.0.get()).cast();
        // SAFETY: the table's frame is owned as long as the handle is used (see `Table`), and is only accessed as atomics.
        unsafe { AtomicU64::from_ptr(entries.add(index % ENTRIES)) }
    }

    #[inline]
    fn state(self) -> State<'static> {
        // SAFETY: the number came from `take_frames`, which found it in the records.
        State(unsafe { frames::record(self.0.get()) }.table_state())
    }

    /// The number of the table of a directory's deposits, or 0: see [`super::huge`].
    #[inline]
    fn deposited(self) -> &'static AtomicU64 {
        // SAFETY: as in `state`.
        unsafe { frames::record(self.0.get()) }.table_deposits()
    }

    /// What is deposited behind the huge pages of a directory.
    #[inline]
    pub fn deposits(self) -> Option<Table> {
        NonZeroU32::new(self.deposited().load(Acquire) as u32).map(Table)
    }

    /// Gives a directory a table of deposits that nobody knows yet; false if it has one.
    pub fn set_deposits(self, deposits: Table) -> bool {
        self.deposited().compare_exchange(0, deposits.0.get().into(), AcqRel, Relaxed).is_ok()
    }

    /// Whether a huge page maps what a leaf table has. As [`State::is_huge`].
    #[inline]
    pub fn is_huge(self) -> bool {
        self.state().is_huge()
    }

    /// Notes that for a leaf table that is locked.
    pub fn set_huge(self, huge: bool) {
        self.state().set_huge(huge);
    }

    /// Locks a leaf table; false if it is locked, or retired.
    #[inline]
    pub fn try_lock(self) -> bool {
        self.state().try_lock()
    }

    /// For who has locked it.
    #[inline]
    pub fn unlock(self) {
        self.state().unlock();
    }

    /// The table below the root, or below one of the tables that it points to, at `index`.
    #[inline]
    pub fn lower(self, index: usize) -> Option<Table> {
        Table::of(self.get(index))
    }

    /// The table below an upper one at `index`, whose entry is `entry`: behind a huge page, too.
    #[inline]
    pub fn below(self, index: usize, entry: Entry) -> Option<Table> {
        if entry.has(Entry::LARGE) { super::huge::leaf_behind(self, index, entry) } else { Table::of(entry) }
    }

    /// Hangs a table that nobody knows yet into an upper one at `index`; false if there is one, or the upper table is retired.
    pub fn attach(self, index: usize, lower: Table) -> bool {
        if !self.state().reserve(group_of(index)) {
            return false;
        }
        let is_attached = self.slot(index).compare_exchange(0, Entry::table(lower).0, AcqRel, Relaxed).is_ok();
        if !is_attached {
            self.state().unreserve();
        }
        is_attached
    }

    /// Takes the table at `index` out of an upper one, if that table is empty and nobody is about to change that. It is to be
    /// [released](Self::into_frame) when nobody can be on the way to it.
    pub fn detach_if_empty(self, index: usize, lower: Table) -> bool {
        let is_retired = lower.state().retire();
        if is_retired {
            self.replace(index, Entry(0));
            self.state().unreserve();
        }
        is_retired
    }

    #[inline]
    pub fn get(self, index: usize) -> Entry {
        Entry(self.slot(index).load(Acquire))
    }

    /// Puts an entry where there was none, without counting it: kernel tables, which are never taken down, and
    /// batches that call [`count`](Self::count) afterwards.
    #[inline]
    pub fn set(self, index: usize, entry: Entry) {
        self.slot(index).store(entry.0, Relaxed);
    }

    /// Puts an entry where there was none.
    #[inline]
    pub fn insert(self, index: usize, entry: Entry) {
        self.set(index, entry);
        self.count(group_of(index), 1);
    }

    /// Counts `added` new entries that lie in `groups`.
    #[inline]
    pub fn count(self, groups: u32, added: u32) {
        self.state().count(groups, added);
    }

    /// Exchanges an occupied entry for another. A full barrier, as every locked instruction.
    #[inline]
    pub fn replace(self, index: usize, entry: Entry) -> Entry {
        Entry(self.slot(index).swap(entry.0, Relaxed))
    }

    /// Changes an occupied entry, keeping what the CPU sets meanwhile. Returns what was there.
    #[inline]
    pub fn update(self, index: usize, change: impl Fn(Entry) -> Entry) -> Entry {
        let slot = self.slot(index);
        let mut old = slot.load(Relaxed);
        while let Err(now) = slot.compare_exchange(old, change(Entry(old)).0, Relaxed, Relaxed) {
            old = now;
        }
        Entry(old)
    }

    /// Takes an occupied entry out.
    #[inline]
    pub fn take(self, index: usize) -> Entry {
        self.state().uncount(1);
        self.replace(index, Entry(0))
    }

    /// Occupied entries.
    #[inline]
    pub fn occupied(self) -> usize {
        self.state().occupied() as usize
    }

    /// Makes the record of a table that nobody knows any more that of an ordinary frame with one owner.
    #[inline]
    pub fn into_frame(self) -> NonZeroU32 {
        self.state().release();
        self.0
    }

    /// The occupied entries in `indices` of a table that is locked, in order. Entries that were returned may be taken out meanwhile.
    #[inline]
    pub fn entries(self, indices: Range<usize>) -> Entries {
        let (left, groups) = self.state().occupied_groups();
        // The groups the range touches: from its first one to the one of its last index.
        let before = group_of(indices.start).wrapping_sub(1);
        let touched = group_of(indices.end.saturating_sub(1)) << 1;
        let groups = groups & touched.wrapping_sub(1) & !before;
        Entries { table: self, left, groups, next: 0, end: 0, indices }
    }

    /// The tables at `indices` of an upper one, in order, to which others may be added meanwhile. Only the caller takes some out.
    #[inline]
    pub fn lower_tables(self, indices: Range<usize>) -> LowerTables {
        let entries = self.entries(indices);
        LowerTables { expected: entries.left, last: None, entries }
    }
}

/// The bit of the group of `index`.
#[inline]
pub fn group_of(index: usize) -> u32 {
    1 << (index / GROUP)
}

/// See [`Table::entries`].
pub struct Entries {
    table: Table,
    /// Occupied entries of the table that were not seen yet, at most.
    left: u32,
    /// The groups that are still to be looked at, but for the current one: `next..end`.
    groups: u32,
    next: usize,
    end: usize,
    indices: Range<usize>,
}

impl Iterator for Entries {
    type Item = (usize, Entry);

    #[inline]
    fn next(&mut self) -> Option<(usize, Entry)> {
        if self.left == 0 {
            return None;
        }
        loop {
            while self.next < self.end {
                let index = self.next;
                let entry = self.table.get(index);
                self.next = index + 1;
                if entry.0 != 0 {
                    self.left -= 1;
                    return Some((index, entry));
                }
            }
            if self.groups == 0 {
                return None;
            }
            let group = self.groups.trailing_zeros() as usize * GROUP;
            self.groups &= self.groups - 1;
            self.next = group.max(self.indices.start);
            self.end = (group + GROUP).min(self.indices.end);
        }
    }
}

/// See [`Table::lower_tables`].
pub struct LowerTables {
    entries: Entries,
    /// How many entries the table has now, if none was added.
    expected: u32,
    /// The index of the last that was returned.
    last: Option<usize>,
}

impl Iterator for LowerTables {
    type Item = (usize, Table);

    #[inline]
    fn next(&mut self) -> Option<(usize, Table)> {
        let table = self.entries.table;
        if self.last.take().is_some_and(|last| table.get(last).0 == 0) {
            self.expected -= 1;
        }
        if self.entries.left == 0 && table.state().occupied() != self.expected {
            self.entries.left = u32::MAX; // some of those that were returned are new: all have to be looked at
        }
        let (index, entry) = self.entries.next()?;
        self.last = Some(index);
        Some((index, table.below(index, entry)?))
    }
}
