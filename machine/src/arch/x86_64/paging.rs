//! Page tables of a user address space.
//!
//! Four levels; the upper half of the root is the kernel's and the same in all spaces ([`super::kernel_space`]). Tables
//! exist only where something is mapped, and an empty one is freed with what it held, but for one: who empties a leaf table page by
//! page often fills it again, and so the last that became empty stays until another does. [`super::table`] has the entries and what
//! is counted about them.
//!
//! One spin lock a space, held while entries are changed. What that takes away, CPUs are told to forget when the lock is free again
//! ([`MmuGather`]), and only then frames are dropped; but who puts one page in the place of another tells them under the lock, so that
//! nobody sees the new page where others still see the old one. Two spaces (fork) are locked in the order of their roots. Under the lock
//! come the frame source's own locks, nothing else.
//!
//! Addresses were checked by [`crate::memory::Space`]: below `USER_TOP`, whole pages.

use super::frames;
use super::mmu_gather::Unflushed;
use super::shootdown;
use super::table::{ENTRIES, Entry, Table, group_of};
use crate::lock::{SpinGuard, SpinLock};
use crate::memory::{Access, Frame, Mapping, OutOfMemory, PAGE_SIZE};
use core::cell::RefCell;
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// See [`crate::memory::USER_TOP`].
pub const USER_TOP: usize = 0x7fff_ffff_f000;

/// See [`crate::memory::FAULT_AROUND`]: 64 KiB, as on Linux.
pub const FAULT_AROUND: usize = 16;

/// See [`crate::memory::FAULT_AHEAD`].
pub const FAULT_AHEAD: usize = 1;

pub use super::mmu_gather::MmuGather;

pub use super::kernel_space::{initialise, kernel_root, map_device, map_stack};

/// Bits of an address below the index into a table of `level`: 0 is the leaf, 3 the root.
#[inline]
const fn shift(level: usize) -> usize {
    12 + 9 * level
}

/// Forgets translations, as other CPUs have asked.
#[inline]
pub fn serve_shootdown() {
    shootdown::serve(false);
}

/// The same on a CPU that runs no program at the moment: it lets go of the space.
#[inline]
pub fn serve_shootdown_idle() {
    shootdown::serve(true);
}

/// The tables of one space.
pub struct Tables {
    root: Table,
    /// Held while entries are changed or a frame is used without a reference of its own.
    lock: SpinLock<()>,
    /// Pages mapped. Written under the lock.
    resident: AtomicUsize,
    /// The first address of the leaf table that became empty last; it may have pages again, or be gone. Used under the lock.
    emptied: AtomicUsize,
    pub(super) unflushed: Unflushed,
}

/// Bytes a leaf table maps.
const LEAF: usize = 1 << shift(1);

/// True if one leaf table has the whole range: most have, and need no search.
#[inline]
fn in_one_leaf(range: &Range<usize>) -> bool {
    !range.is_empty() && (range.start ^ (range.end - 1)) < LEAF
}

/// The index of `page` in a table of `level`.
#[inline]
fn index(page: usize, level: usize) -> usize {
    page >> shift(level) & (ENTRIES - 1)
}

/// The indices of `range` in the table of `level` that begins at `base`.
#[inline]
fn indices(range: &Range<usize>, base: usize, level: usize) -> Range<usize> {
    let start = range.start.saturating_sub(base) >> shift(level);
    let end = (range.end - base).div_ceil(1 << shift(level)).min(ENTRIES);
    start..end
}

impl Tables {
    pub fn new() -> Result<Tables, OutOfMemory> {
        let root = Table::new().ok_or(OutOfMemory)?;
        super::kernel_space::share_kernel_half(root);
        Ok(Tables {
            root,
            lock: SpinLock::new(()),
            resident: AtomicUsize::new(0),
            emptied: AtomicUsize::new(0),
            unflushed: Unflushed::new(),
        })
    }

    /// What takes pages and rights out, and lets CPUs forget them when it is dropped.
    #[inline(always)]
    pub fn gather(&self) -> MmuGather<'_> {
        MmuGather::new(self)
    }

    /// Makes this CPU use the space.
    #[inline]
    pub fn activate(&self) {
        // SAFETY: `drop` evicts the CPUs before it frees the root.
        unsafe { shootdown::load(self.root.physical()) }
    }

    /// True if user addresses on this CPU are the space's.
    #[inline]
    pub fn is_loaded(&self) -> bool {
        shootdown::is_loaded(self.root.physical())
    }

    #[inline]
    pub(super) fn lock(&self) -> SpinGuard<'_, ()> {
        self.lock.lock()
    }

    #[inline]
    fn add_resident(&self, added: isize) {
        self.resident.store(self.resident.load(Relaxed).wrapping_add_signed(added), Relaxed);
    }

    /// The leaf table for `page`, if there is one. Under the lock.
    #[inline]
    fn leaf(&self, page: usize) -> Option<Table> {
        let third = Table::of(self.root.get(index(page, 3)))?;
        let second = Table::of(third.get(index(page, 2)))?;
        Table::of(second.get(index(page, 1)))
    }

    /// The leaf table for `page`. Under the lock. Tables made before one could not be had stay, empty, until the next unmap.
    #[inline]
    fn leaf_or_new(&self, page: usize) -> Result<Table, OutOfMemory> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let index = index(page, level);
            table = match Table::of(table.get(index)) {
                Some(lower) => lower,
                None => {
                    let lower = Table::new().ok_or(OutOfMemory)?;
                    table.insert(index, Entry::table(lower));
                    lower
                }
            };
        }
        Ok(table)
    }

    /// The occupied entry for `page`. Under the lock.
    #[inline]
    pub(super) fn find(&self, page: usize) -> Option<(Table, usize, Entry)> {
        let leaf = self.leaf(page)?;
        let index = index(page, 0);
        Some((leaf, index, leaf.get(index))).filter(|(_, _, entry)| entry.0 != 0)
    }

    #[inline]
    pub fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.map_if(page, frame, access, |_| true).map(drop)
    }

    #[inline]
    pub fn map_over(
        &self,
        page: usize,
        before: Option<usize>,
        frame: Frame,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.map_if(page, frame, access, |old| old.frame().map(|number| number.get() as usize) == before && still())
    }

    /// Maps a page if its entry is as is wished.
    #[inline]
    fn map_if(
        &self,
        page: usize,
        frame: Frame,
        access: Access,
        wish: impl FnOnce(Entry) -> bool,
    ) -> Result<bool, OutOfMemory> {
        let _lock = self.lock();
        let leaf = self.leaf_or_new(page)?;
        let index = index(page, 0);
        let old = leaf.get(index);
        if !wish(old) {
            return Ok(false);
        }
        // It is mapped because it is about to be used: spare the CPU the marking.
        let written = if access.contains(Access::WRITE) { Entry::DIRTY } else { 0 };
        let entry = Entry(Entry::page(frame.into_raw(), access).0 | Entry::ACCESSED | written);
        if old.0 == 0 {
            leaf.insert(index, entry);
            self.add_resident(1);
        } else {
            MmuGather::new(self).entry(page, leaf.replace(index, entry), entry);
        }
        Ok(true)
    }

    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
    ) -> Result<(), OutOfMemory> {
        let _lock = self.lock();
        let mut leaf = None;
        for (page, frame) in (start..USER_TOP).step_by(PAGE_SIZE).zip(frames) {
            let table = match leaf {
                Some(table) if index(page, 0) != 0 => table,
                _ => self.leaf_or_new(page)?,
            };
            leaf = Some(table);
            if table.get(index(page, 0)).0 == 0 {
                table.insert(index(page, 0), Entry::page(frame.into_raw(), access));
                self.add_resident(1);
            }
        }
        Ok(())
    }

    /// Empties `range`; returns where to go on when `budget` is spent. Under the lock.
    pub(super) fn clear(&self, range: Range<usize>, mut budget: usize, removed: &mut MmuGather<'_>) -> Option<usize> {
        if in_one_leaf(&range) {
            let base = range.start & !(LEAF - 1);
            let leaf = self.leaf(base)?;
            self.clear_leaf(leaf, base, indices(&range, base, 0), removed);
            if leaf.occupied() == 0 {
                self.keep_empty(base, removed);
            }
            return None;
        }
        let removed = RefCell::new(removed);
        let start = range.start;
        self.walk(
            range,
            |leaf, base, indices| {
                if budget == 0 {
                    return ControlFlow::Break(base.max(start));
                }
                let taken = self.clear_leaf(leaf, base, indices, &mut removed.borrow_mut());
                budget = budget.saturating_sub(taken + 1);
                ControlFlow::Continue(())
            },
            |parent, index, table| removed.borrow_mut().table_if_empty(parent, index, table),
        )
        .break_value()
    }

    /// Keeps an empty leaf table, and no longer the one that was kept before.
    fn keep_empty(&self, base: usize, removed: &mut MmuGather<'_>) {
        let before = self.emptied.load(Relaxed);
        if before != base {
            self.emptied.store(base, Relaxed);
            self.free_empty_tables(before..before + LEAF, removed);
        }
    }

    /// Empties the part of a leaf that lies in the range; returns how many pages that were.
    fn clear_leaf(&self, leaf: Table, base: usize, indices: Range<usize>, removed: &mut MmuGather<'_>) -> usize {
        let before = leaf.occupied();
        for (index, _) in leaf.entries(indices) {
            removed.entry(base + (index << shift(0)), leaf.take(index), Entry(0));
        }
        let taken = before - leaf.occupied();
        self.add_resident(-(taken as isize));
        taken
    }

    /// Under the lock.
    pub(super) fn protect(&self, range: Range<usize>, access: Access, removed: &mut MmuGather<'_>) {
        self.each_leaf(range, |leaf, base, indices| {
            for (index, _) in leaf.entries(indices) {
                let old = leaf.update(index, |entry| entry.with_access(access));
                if old.must_flush(old.with_access(access)) {
                    removed.stale(base + (index << shift(0)));
                }
            }
            Ok(())
        })
        .unwrap_or_default();
    }

    /// Calls `visit(leaf, first address of the leaf, indices)` for each leaf table in the range. Under the lock.
    #[inline]
    fn each_leaf(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(Table, usize, Range<usize>) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        if in_one_leaf(&range) {
            let base = range.start & !(LEAF - 1);
            return self.leaf(base).map_or(Ok(()), |leaf| visit(leaf, base, indices(&range, base, 0)));
        }
        let visit = |leaf, base, indices| match visit(leaf, base, indices) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        };
        self.walk(range, visit, |_, _, _| ()).break_value().map_or(Ok(()), Err)
    }

    /// Goes through the tables in the range: `visit(leaf, its first address, indices)` for each leaf, and for each table
    /// when what is below it is done `after(parent, index there, table)`. Under the lock.
    #[inline]
    fn walk<B>(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(Table, usize, Range<usize>) -> ControlFlow<B>,
        mut after: impl FnMut(Table, usize, Table),
    ) -> ControlFlow<B> {
        for (third_index, entry) in self.root.entries(indices(&range, 0, 3)) {
            let Some(third) = Table::of(entry) else { continue };
            let third_base = third_index << shift(3);
            for (second_index, entry) in third.entries(indices(&range, third_base, 2)) {
                let Some(second) = Table::of(entry) else { continue };
                let second_base = third_base + (second_index << shift(2));
                for (leaf_index, entry) in second.entries(indices(&range, second_base, 1)) {
                    let Some(leaf) = Table::of(entry) else { continue };
                    let base = second_base + (leaf_index << shift(1));
                    visit(leaf, base, indices(&range, base, 0))?;
                    after(second, leaf_index, leaf);
                }
                after(third, second_index, second);
            }
            after(self.root, third_index, third);
        }
        ControlFlow::Continue(())
    }

    /// Locks both spaces, the one with the lower root first.
    pub(super) fn lock_both<'a>(&'a self, other: &'a Tables) -> (SpinGuard<'a, ()>, SpinGuard<'a, ()>) {
        if self.root.0 < other.root.0 {
            let first = self.lock();
            (first, other.lock())
        } else {
            let first = other.lock();
            (self.lock(), first)
        }
    }

    /// Under the locks of both.
    pub(super) fn share_with(
        &self,
        child: &Tables,
        range: Range<usize>,
        copy_on_write: bool,
        removed: &mut MmuGather<'_>,
    ) -> Result<(), OutOfMemory> {
        self.each_leaf(range, |leaf, base, indices| {
            let copies = child.leaf_or_new(base)?;
            let (mut groups, mut added) = (0, 0);
            for (index, mut entry) in leaf.entries(indices) {
                let Some(frame) = entry.frame().filter(|_| copies.get(index).0 == 0) else { continue };
                if copy_on_write {
                    let shared = |entry: Entry| Entry(entry.0 & !Entry::WRITABLE | Entry::COPY_ON_WRITE);
                    if shared(entry) != entry {
                        let old = leaf.update(index, shared);
                        if old.must_flush(shared(old)) {
                            removed.stale(base + (index << shift(0)));
                        }
                        entry = shared(old);
                    }
                }
                // SAFETY: the entry owns a reference, and cannot lose it while the space is locked.
                unsafe { Frame::add_reference(frame) };
                copies.set(index, entry);
                groups |= group_of(index);
                added += 1;
            }
            copies.count(groups, added);
            child.add_resident(added as isize);
            Ok(())
        })
    }

    #[inline]
    pub fn lookup(&self, page: usize) -> Option<Mapping> {
        let _lock = self.lock();
        let (_, _, entry) = self.find(page)?;
        Tables::mapping(entry)
    }

    pub fn next_mapped(&self, range: Range<usize>) -> Option<(usize, Mapping)> {
        let _lock = self.lock();
        let first = |leaf: Table, base: usize, indices| {
            let mut entries = leaf.entries(indices);
            let found = entries.find_map(|(index, entry)| Some((base + (index << shift(0)), Tables::mapping(entry)?)));
            found.map_or(ControlFlow::Continue(()), ControlFlow::Break)
        };
        self.walk(range, first, |_, _, _| ()).break_value()
    }

    /// What an entry maps. Under the lock of its space.
    #[inline]
    fn mapping(entry: Entry) -> Option<Mapping> {
        let number = entry.frame()?.get();
        Some(Mapping {
            frame_number: number as usize,
            access: entry.access(),
            copy_on_write: entry.has(Entry::COPY_ON_WRITE),
            accessed: entry.has(Entry::ACCESSED),
            dirty: entry.has(Entry::DIRTY),
            // SAFETY: the entry's frame is one.
            references: unsafe { frames::record(number) }.references(),
        })
    }

    pub fn frame_at(&self, page: usize) -> Option<Frame> {
        let _lock = self.lock();
        let (_, _, entry) = self.find(page)?;
        let number = entry.frame()?;
        // SAFETY: the entry owns a reference and keeps it while the space is locked; the new one is what is returned.
        unsafe {
            Frame::add_reference(number);
            Some(Frame::from_raw(number))
        }
    }

    #[inline]
    pub fn break_copy_on_write(&self, page: usize, access: Access) -> Result<bool, OutOfMemory> {
        let lock = self.lock();
        let Some((leaf, index, entry)) = self.find(page) else { return Ok(false) };
        let Some(number) = entry.frame() else { return Ok(false) };
        let rights = |entry: Entry| Entry(entry.0 & !Entry::COPY_ON_WRITE).with_access(access - Access::COPY_ON_WRITE);
        // SAFETY: the entry's own reference, not given up here.
        let shared = core::mem::ManuallyDrop::new(unsafe { Frame::from_raw(number) });
        if entry.has(Entry::COPY_ON_WRITE) && shared.references() != 1 {
            let shared = Frame::clone(&shared);
            drop(lock);
            return self.replace_by_copy(page, &shared, access);
        }
        let old = leaf.update(index, |entry| Entry(rights(entry).0 | Entry::ACCESSED | Entry::DIRTY));
        if old.must_flush(rights(old)) {
            shootdown::flush(self.root.physical(), page..page + PAGE_SIZE);
        }
        Ok(true)
    }

    /// Copies a page without the lock, and shows the copy if the page is what it was.
    fn replace_by_copy(&self, page: usize, shared: &Frame, access: Access) -> Result<bool, OutOfMemory> {
        let copy = Frame::copy_of(shared).ok_or(OutOfMemory)?;
        let _lock = self.lock();
        let is_same = |entry: Entry| entry.has(Entry::COPY_ON_WRITE) && entry.frame() == Some(shared.raw());
        if let Some((leaf, index, _)) = self.find(page).filter(|(_, _, entry)| is_same(*entry)) {
            let new = Entry::page(copy.into_raw(), access - Access::COPY_ON_WRITE);
            let new = Entry(new.0 | Entry::ACCESSED | Entry::DIRTY);
            MmuGather::new(self).entry(page, leaf.replace(index, new), new);
        }
        Ok(true)
    }

    /// Under the lock.
    pub(super) fn move_range(
        &self,
        from: Range<usize>,
        to: usize,
        removed: &mut MmuGather<'_>,
    ) -> Result<(), OutOfMemory> {
        let target = to..to + from.len();
        // Tables come first: nothing that may fail comes after something has changed.
        let tables = self.each_part(from.clone(), to, |part| match part.leaf.entries(part.indices.clone()).next() {
            Some(_) => self.leaf_or_new(part.target).map(drop),
            None => Ok(()),
        });
        if tables.is_err() {
            self.free_empty_tables(target, removed);
            return tables;
        }
        // Not `clear`, which would take the empty tables, too.
        self.each_leaf(target, |leaf, base, indices| {
            self.clear_leaf(leaf, base, indices, removed);
            Ok(())
        })?;
        self.each_part(from.clone(), to, |part| {
            if let Some(table) = self.leaf(part.target) {
                part.move_to(table, removed);
            }
            Ok(())
        })?;
        self.free_empty_tables(from, removed);
        Ok(())
    }

    /// Calls `visit` for each part of a leaf table in `from` that goes to one leaf table when the range goes to `to`. Under the lock.
    #[inline]
    fn each_part(
        &self,
        from: Range<usize>,
        to: usize,
        mut visit: impl FnMut(Part) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let start = from.start;
        self.each_leaf(from, |leaf, base, mut rest| {
            while !rest.is_empty() {
                let page = base + (rest.start << shift(0));
                let target = page - start + to;
                let end = rest.end.min(rest.start + ENTRIES - index(target, 0));
                visit(Part { leaf, indices: rest.start..end, page, target })?;
                rest.start = end;
            }
            Ok(())
        })
    }

    /// Frees the tables in the range that have no entries. Under the lock.
    fn free_empty_tables(&self, range: Range<usize>, removed: &mut MmuGather<'_>) {
        let _: ControlFlow<()> = self.walk(
            range,
            |_, _, _| ControlFlow::Continue(()),
            |parent, index, table| removed.table_if_empty(parent, index, table),
        );
    }

    #[inline]
    pub fn resident(&self) -> usize {
        self.resident.load(Relaxed)
    }

    /// The root's physical address.
    pub(super) fn root(&self) -> usize {
        self.root.physical()
    }

    /// How many tables there are below the root.
    #[cfg(test)]
    pub fn tables(&self) -> usize {
        let mut tables = 0;
        let _: ControlFlow<()> = self.walk(0..USER_TOP, |_, _, _| ControlFlow::Continue(()), |_, _, _| tables += 1);
        tables
    }
}

/// A part of a leaf table that moves: its first page, and where that goes.
struct Part {
    leaf: Table,
    indices: Range<usize>,
    page: usize,
    target: usize,
}

impl Part {
    /// Moves the entries to the leaf table of the target, where there are none.
    fn move_to(self, table: Table, removed: &mut MmuGather<'_>) {
        let (first, target) = (self.indices.start, index(self.target, 0));
        let (mut groups, mut moved, mut is_stale) = (0, 0, false);
        let last = self.page + ((self.indices.len() - 1) << shift(0));
        for (index, _) in self.leaf.entries(self.indices) {
            let entry = self.leaf.replace(index, Entry(0));
            is_stale |= entry.must_flush(Entry(0));
            let to = target + index - first;
            table.set(to, entry);
            groups |= group_of(to);
            moved += 1;
        }
        if is_stale {
            removed.stale(self.page);
            removed.stale(last);
        }
        self.leaf.uncount(moved);
        table.count(groups, moved);
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        shootdown::evict(self.root.physical());
        // No CPU uses the tables: no locked instructions, no flushes, and the entries go with their tables.
        let _: ControlFlow<()> = self.walk(
            0..USER_TOP,
            |leaf, _, indices| {
                for number in leaf.entries(indices).filter_map(|(_, entry)| entry.frame()) {
                    // SAFETY: the entry's reference.
                    drop(unsafe { Frame::from_raw(number) });
                }
                ControlFlow::Continue(())
            },
            |_, _, table| free(table),
        );
        free(self.root);
    }
}

/// Frees a table no CPU uses and nothing points to.
#[inline]
fn free(table: Table) {
    // SAFETY: the table's only reference was its parent's, or the space's, which is gone.
    drop(unsafe { Frame::from_raw(table.into_frame()) });
}
