//! Page tables of a user address space.
//!
//! Four levels; the upper half of the root is the kernel's and the same in all spaces ([`super::kernel_space`]). Tables
//! exist only where something is mapped, and an empty one is freed with what it held, but for one: who empties a leaf table page by
//! page often fills it again, and so the last that became empty stays until another does. [`super::table`] has the entries and what
//! is counted about them.
//!
//! **Who may do what at once.** Each leaf table has a lock of its own ([`super::table`]), which is held while its entries are changed or a
//! frame is used without a reference of its own. Whoever supplies a page takes just that: he walks down without a lock, in a section of
//! [`crate::rcu`], hangs in what tables are missing, and locks the leaf, for which he waits outside the section. A look at a
//! page takes no lock at all. Whoever takes pages or rights out, moves or copies them, has the space's lock for *changes* as well, and is
//! the only one who takes tables away; what he has taken away is freed after the readers ([`MmuGather`]). So a page is supplied in one 2 MiB
//! while others are taken out, or supplied, elsewhere.
//!
//! The order: changes of one space, or of two (fork) in the order of their roots; then a leaf, or two, of which only the holder of
//! the locks for changes takes two. Under a leaf's lock come the frame source's own locks, nothing else.
//!
//! What is taken away, CPUs are told to forget when the locks are free again, and only then frames are dropped; but who puts one
//! page in the place of another tells them under the leaf's lock, so that nobody sees the new page where others still see the old one: who
//! waits for that lock answers meanwhile.
//!
//! Addresses were checked by [`crate::memory::Space`]: below `USER_TOP`, whole pages.

use super::frames;
use super::mmu_gather::Unflushed;
use super::shootdown;
use super::table::{ENTRIES, Entry, Table, group_of};
use crate::lock::{Relax, SpinGuard, SpinLock};
use crate::memory::{Access, Frame, Mapping, OutOfMemory, PAGE_SIZE, SwapEntries, SwapEntry, SwappedOut};
use crate::{cpu, rcu};
use alloc::sync::Arc;
use core::cell::RefCell;
use core::ops::{ControlFlow, Deref, Range};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use spin::RelaxStrategy;

/// Addresses as the tables have them.
pub type Address = usize;

/// See [`crate::memory::USER_TOP`].
pub const USER_TOP: usize = 0x7fff_ffff_f000;

/// See [`crate::memory::FAULT_AROUND`]: 64 KiB, as on Linux.
pub const FAULT_AROUND: usize = 16;

/// See [`crate::memory::FAULT_AHEAD`].
pub const FAULT_AHEAD: usize = 1;

pub use super::huge::{HUGE_PAGE_ORDER, huge_pages};
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
    /// Held by who takes out, moves or copies.
    changes: SpinLock<()>,
    /// Pages mapped.
    resident: Resident,
    /// The first address of the leaf table that became empty last; it may have pages again, or be gone. Used under the lock for changes.
    emptied: AtomicUsize,
    pub(super) unflushed: Unflushed,
    /// Who counts swap entries. Without anybody there are none.
    entries: Option<Arc<dyn SwapEntries>>,
}

/// A number that CPUs change at once without a word that all of them write: its parts, of which each CPU changes one.
struct Resident([Part; PARTS]);

const PARTS: usize = 4;

#[derive(Default)]
#[repr(align(64))]
struct Part(AtomicUsize);

impl Resident {
    fn new() -> Resident {
        Resident(core::array::from_fn(|_| Part::default()))
    }

    #[inline]
    fn add(&self, added: isize) {
        if let Some(part) = self.0.get(cpu::current() % PARTS) {
            part.0.fetch_add(added as usize, Relaxed);
        }
    }

    #[inline]
    fn get(&self) -> usize {
        let sum = self.0.iter().fold(0, |sum: usize, part| sum.wrapping_add(part.0.load(Relaxed)));
        // Who added may be seen later than who took away.
        (sum as isize).max(0) as usize
    }
}

/// A leaf table that is locked.
pub(super) struct Leaf(Table);

impl Leaf {
    /// The table, if it is neither locked nor retired. It can be no other meanwhile: the caller is in a section of its own, or has the lock for
    /// changes.
    #[inline]
    fn try_lock(table: Table) -> Option<Self> {
        table.try_lock().then(|| Leaf(table))
    }

    /// Waits for the lock. The caller has the lock for changes, so the table stays.
    #[inline]
    fn lock(table: Table) -> Self {
        while !table.try_lock() {
            Relax::relax();
        }
        Leaf(table)
    }
}

impl Deref for Leaf {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        &self.0
    }
}

impl Drop for Leaf {
    #[inline]
    fn drop(&mut self) {
        self.0.unlock();
    }
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
pub(super) fn index(page: usize, level: usize) -> usize {
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
    pub fn new(entries: Option<Arc<dyn SwapEntries>>) -> Result<Tables, OutOfMemory> {
        let root = Table::new().ok_or(OutOfMemory)?;
        super::kernel_space::share_kernel_half(root);
        Ok(Tables {
            root,
            changes: SpinLock::new(()),
            resident: Resident::new(),
            emptied: AtomicUsize::new(0),
            unflushed: Unflushed::new(),
            entries,
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

    /// What only one at a time does: taking out, moving, copying.
    #[inline]
    pub(super) fn lock_changes(&self) -> SpinGuard<'_, ()> {
        self.changes.lock()
    }

    /// The table that has the entry for `page`'s leaf table, if there is one. In a section, or under the lock for changes, or that of the leaf.
    #[inline]
    pub(super) fn directory(&self, page: usize) -> Option<Table> {
        self.root.lower(index(page, 3))?.lower(index(page, 2))
    }

    /// The leaf table for `page`, if there is one. In a section, or under the lock for changes.
    #[inline]
    pub(super) fn walk_to(&self, page: usize) -> Option<Table> {
        let (directory, index) = (self.directory(page)?, index(page, 1));
        directory.below(index, directory.get(index))
    }

    /// The leaf table for `page`. Tables made before one could not be had stay, empty, until the next unmap.
    #[inline]
    pub(super) fn leaf_or_new(&self, page: usize) -> Result<Leaf, OutOfMemory> {
        let section = rcu::read();
        let leaf = self.walk_to(page).and_then(Leaf::try_lock);
        drop(section);
        leaf.map_or_else(|| self.wait_for_leaf(page), Ok)
    }

    /// Waits for others, and makes what tables are missing.
    #[cold]
    fn wait_for_leaf(&self, page: usize) -> Result<Leaf, OutOfMemory> {
        let mut spare = None;
        loop {
            let section = rcu::read();
            let table = self.walk_and_attach(page, &mut spare);
            let leaf = table.and_then(Leaf::try_lock);
            drop(section);
            if let Some(leaf) = leaf {
                spare.into_iter().for_each(free);
                return Ok(leaf);
            }
            if table.is_none() && spare.is_none() {
                spare = Some(Table::new().ok_or(OutOfMemory)?);
            } else {
                Relax::relax();
            }
        }
    }

    /// Walks down to the leaf table, and hangs `spare` in where a table is missing. `None`: one is still missing, or others were in the way.
    fn walk_and_attach(&self, page: usize, spare: &mut Option<Table>) -> Option<Table> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let index = index(page, level);
            table = match table.below(index, table.get(index)) {
                Some(lower) => lower,
                None => spare.take_if(|new| table.attach(index, *new))?,
            };
        }
        Some(table)
    }

    /// As [`leaf_or_new`](Self::leaf_or_new), for who has the lock for changes: no table goes.
    fn leaf_for_change(&self, page: usize) -> Result<Leaf, OutOfMemory> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let index = index(page, level);
            table = loop {
                if let Some(lower) = table.below(index, table.get(index)) {
                    break lower;
                }
                let new = Table::new().ok_or(OutOfMemory)?;
                if table.attach(index, new) {
                    break new;
                }
                free(new); // a fault was faster
            };
        }
        Ok(Leaf::lock(table))
    }

    /// The occupied entry for `page`, and its table.
    #[inline]
    pub(super) fn find(&self, page: usize) -> Option<(Leaf, usize, Entry)> {
        let leaf = loop {
            let section = rcu::read();
            let leaf = Leaf::try_lock(self.walk_to(page)?);
            drop(section);
            match leaf {
                Some(leaf) => break leaf,
                None => Relax::relax(),
            }
        };
        let index = index(page, 0);
        let entry = leaf.get(index);
        (entry.0 != 0).then_some((leaf, index, entry))
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
        let is_there = |old: Entry| match before {
            Some(number) => old.frame().is_some_and(|frame| frame.get() as usize == number),
            None => old.0 == 0,
        };
        self.map_if(page, frame, access, |old| is_there(old) && still())
    }

    /// Shows `frame` in the place of `entry`, if that is at `page`.
    pub fn swap_in(&self, page: usize, entry: SwapEntry, frame: Frame, access: Access) -> Result<bool, OutOfMemory> {
        self.map_if(page, frame, access, |old| old.swap_entry() == Some(entry))
    }

    /// The swap entry at `page`.
    pub fn swap_entry(&self, page: usize) -> Option<SwapEntry> {
        let _section = rcu::read();
        self.walk_to(page)?.get(index(page, 0)).swap_entry()
    }

    /// A swap entry has left the tables.
    #[cold]
    pub(super) fn release(&self, entry: Entry) {
        if let (Some(entries), Some(entry)) = (&self.entries, entry.swap_entry()) {
            entries.release(entry);
        }
    }

    /// Puts `entry` in the place of frame number `frame`, if that is at `page` and entries are counted. What the entry says then is the last
    /// word about the page: a CPU that has not marked it yet looks at the tables first.
    pub(super) fn swap_out(
        &self,
        page: usize,
        frame: usize,
        entry: SwapEntry,
        removed: &mut MmuGather<'_>,
    ) -> Option<SwappedOut> {
        let entries = self.entries.as_ref()?;
        let (leaf, index, old) = self.find(page)?;
        old.frame().filter(|number| number.get() as usize == frame)?;
        entries.duplicate(entry);
        self.split(&leaf, page);
        let old = leaf.replace(index, Entry::swapped(entry));
        removed.entry(page, old, Entry::swapped(entry));
        removed.note();
        drop(leaf);
        self.resident.add(-1);
        Some(SwappedOut { accessed: old.has(Entry::ACCESSED), dirty: old.has(Entry::DIRTY) })
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
            self.resident.add(1);
        } else {
            self.split(&leaf, page);
            if old.frame().is_none() {
                self.resident.add(1);
            }
            MmuGather::new(self).entry(page, leaf.replace(index, entry), entry);
        }
        Ok(true)
    }

    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let (mut leaf, mut is_so) = (None, false);
        let mut added = 0;
        for (page, frame) in (start..USER_TOP).step_by(PAGE_SIZE).zip(frames) {
            if index(page, 0) == 0 {
                leaf = None; // one lock at a time
            }
            let table = match leaf.take() {
                Some(table) => table,
                None => {
                    let table = self.leaf_or_new(page).inspect_err(|_| self.resident.add(added))?;
                    is_so = still();
                    table
                }
            };
            if !is_so {
                break;
            }
            if table.get(index(page, 0)).0 == 0 {
                table.insert(index(page, 0), Entry::page(frame.into_raw(), access));
                added += 1;
            }
            leaf = Some(table);
        }
        self.resident.add(added);
        Ok(is_so)
    }

    /// Empties `range`; returns where to go on when `budget` is spent. Under the lock for changes.
    pub(super) fn clear(&self, range: Range<usize>, mut budget: usize, removed: &mut MmuGather<'_>) -> Option<usize> {
        if in_one_leaf(&range) {
            let base = range.start & !(LEAF - 1);
            let leaf = self.walk_to(base)?;
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

    /// Empties the part of a leaf that lies in the range; returns how many pages that were. Under the lock for changes.
    fn clear_leaf(&self, leaf: Table, base: usize, indices: Range<usize>, removed: &mut MmuGather<'_>) -> usize {
        let leaf = Leaf::lock(leaf);
        let (before, released) = (leaf.occupied(), removed.released);
        let was_huge = self.hide_or_split(&leaf, base, &indices);
        for (index, _) in leaf.entries(indices) {
            removed.entry(base + (index << shift(0)), leaf.take(index), Entry(0));
        }
        if was_huge {
            self.show_emptied(&leaf, base);
        }
        let taken = before - leaf.occupied();
        removed.note();
        drop(leaf);
        self.resident.add((removed.released - released) as isize - taken as isize);
        taken
    }

    /// Under the lock for changes.
    pub(super) fn protect(&self, range: Range<usize>, access: Access, removed: &mut MmuGather<'_>) {
        self.each_leaf(range, |leaf, base, indices| {
            let leaf = Leaf::lock(leaf);
            if indices.len() < ENTRIES {
                self.split(&leaf, base);
            }
            self.protect_huge(&leaf, base, access);
            for (index, entry) in leaf.entries(indices) {
                if entry.frame().is_none() {
                    continue; // swapped out
                }
                let old = leaf.update(index, |entry| entry.with_access(access));
                if old.must_flush(old.with_access(access)) {
                    removed.stale(base + (index << shift(0)));
                }
            }
            removed.note();
            Ok(())
        })
        .unwrap_or_default();
    }

    /// Calls `visit(leaf, first address of the leaf, indices)` for each leaf table in the range. Under the lock for changes.
    #[inline]
    fn each_leaf(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(Table, usize, Range<usize>) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        if in_one_leaf(&range) {
            let base = range.start & !(LEAF - 1);
            return self.walk_to(base).map_or(Ok(()), |leaf| visit(leaf, base, indices(&range, base, 0)));
        }
        let visit = |leaf, base, indices| match visit(leaf, base, indices) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        };
        self.walk(range, visit, |_, _, _| ()).break_value().map_or(Ok(()), Err)
    }

    /// Goes through the tables in the range: `visit(leaf, its first address, indices)` for each leaf, and for each table
    /// when what is below it is done `after(parent, index there, table)`. Under the lock for changes.
    #[inline]
    fn walk<B>(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(Table, usize, Range<usize>) -> ControlFlow<B>,
        mut after: impl FnMut(Table, usize, Table),
    ) -> ControlFlow<B> {
        for (third_index, third) in self.root.lower_tables(indices(&range, 0, 3)) {
            let third_base = third_index << shift(3);
            for (second_index, second) in third.lower_tables(indices(&range, third_base, 2)) {
                let second_base = third_base + (second_index << shift(2));
                for (leaf_index, leaf) in second.lower_tables(indices(&range, second_base, 1)) {
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

    /// The locks for changes of both spaces, first that of the one with the lower root.
    pub(super) fn lock_both<'a>(&'a self, other: &'a Tables) -> (SpinGuard<'a, ()>, SpinGuard<'a, ()>) {
        if self.root.0 < other.root.0 {
            let first = self.lock_changes();
            (first, other.lock_changes())
        } else {
            let first = other.lock_changes();
            (self.lock_changes(), first)
        }
    }

    /// Under the locks for changes of both.
    pub(super) fn share_with(
        &self,
        child: &Tables,
        range: Range<usize>,
        copy_on_write: bool,
        removed: &mut MmuGather<'_>,
    ) -> Result<(), OutOfMemory> {
        self.each_leaf(range, |leaf, base, indices| {
            let copies = child.leaf_for_change(base)?;
            let leaf = Leaf::lock(leaf);
            self.split(&leaf, base);
            let (mut groups, mut added, mut swapped) = (0, 0, 0);
            for (index, mut entry) in leaf.entries(indices) {
                let Some(frame) = entry.frame().filter(|_| copies.get(index).0 == 0) else {
                    if child.copy_swapped(&copies, index, entry) {
                        groups |= group_of(index);
                        swapped += 1;
                    }
                    continue;
                };
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
                // SAFETY: the entry owns a reference, and neither loses it nor lends it to others while its table is locked.
                unsafe { Frame::add_reference(frame) };
                copies.set(index, entry);
                groups |= group_of(index);
                added += 1;
            }
            copies.count(groups, added + swapped);
            removed.note();
            child.resident.add(added as isize);
            Ok(())
        })
    }

    /// Copies a swap entry, if that is what is to be copied and nothing is there yet.
    #[cold]
    fn copy_swapped(&self, copies: &Leaf, index: usize, entry: Entry) -> bool {
        let (Some(entries), Some(swapped)) = (&self.entries, entry.swap_entry()) else { return false };
        let is_free = copies.get(index).0 == 0;
        if is_free {
            entries.duplicate(swapped);
            copies.set(index, entry);
        }
        is_free
    }

    /// What is mapped at the moment of the look, which nobody waits for.
    #[inline]
    pub fn lookup(&self, page: usize) -> Option<Mapping> {
        let _section = rcu::read();
        Tables::mapping(self.walk_to(page)?.get(index(page, 0)))
    }

    pub fn next_mapped(&self, range: Range<usize>) -> Option<(usize, Mapping)> {
        self.next(range, Tables::mapping)
    }

    /// The first page in the range where something is mapped or swapped out.
    pub fn next_occupied(&self, range: Range<usize>) -> Option<usize> {
        self.next(range, |_| Some(())).map(|(page, ())| page)
    }

    /// The first entry in the range that `wanted` wants, with its page.
    fn next<R>(&self, range: Range<usize>, wanted: impl Fn(Entry) -> Option<R>) -> Option<(usize, R)> {
        let _lock = self.lock_changes();
        let first = |leaf: Table, base: usize, indices| {
            let leaf = Leaf::lock(leaf);
            let mut entries = leaf.entries(indices);
            let found = entries.find_map(|(index, entry)| Some((base + (index << shift(0)), wanted(entry)?)));
            found.map_or(ControlFlow::Continue(()), ControlFlow::Break)
        };
        self.walk(range, first, |_, _, _| ()).break_value()
    }

    /// What an entry maps.
    #[inline]
    fn mapping(entry: Entry) -> Option<Mapping> {
        let number = entry.frame()?.get();
        Some(Mapping {
            frame_number: number as usize,
            access: entry.access(),
            copy_on_write: entry.has(Entry::COPY_ON_WRITE),
            accessed: entry.has(Entry::ACCESSED),
            dirty: entry.has(Entry::DIRTY),
            // SAFETY: an entry's frame was found in the records, which stay. It may be another's by now.
            references: unsafe { frames::record(number) }.references(),
        })
    }

    pub fn frame_at(&self, page: usize) -> Option<Frame> {
        let (_leaf, _, entry) = self.find(page)?;
        let number = entry.frame()?;
        // SAFETY: the entry owns a reference and keeps it while its table is locked; the new one is what is returned.
        unsafe {
            Frame::add_reference(number);
            Some(Frame::from_raw(number))
        }
    }

    #[inline]
    pub fn break_copy_on_write(
        &self,
        page: usize,
        access: Access,
        tag: u64,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let Some((leaf, index, entry)) = self.find(page) else { return Ok(false) };
        let Some(number) = entry.frame() else { return Ok(false) };
        let rights = |entry: Entry| Entry(entry.0 & !Entry::COPY_ON_WRITE).with_access(access - Access::COPY_ON_WRITE);
        // SAFETY: the entry's own reference, not given up here.
        let shared = core::mem::ManuallyDrop::new(unsafe { Frame::from_raw(number) });
        if entry.has(Entry::COPY_ON_WRITE) && shared.references() != 1 {
            let shared = Frame::clone(&shared);
            drop(leaf);
            return self.replace_by_copy(page, &shared, access, tag, still);
        }
        if !still() {
            return Ok(false);
        }
        self.split(&leaf, page);
        shared.set_tag(tag);
        let old = leaf.update(index, |entry| Entry(rights(entry).0 | Entry::ACCESSED | Entry::DIRTY));
        if old.must_flush(rights(old)) {
            shootdown::flush(self.root.physical(), page..page + PAGE_SIZE);
        }
        Ok(true)
    }

    /// Copies a page without the lock, and shows the copy if the page is what it was.
    fn replace_by_copy(
        &self,
        page: usize,
        shared: &Frame,
        access: Access,
        tag: u64,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let copy = Frame::copy_of(shared).ok_or(OutOfMemory)?;
        copy.set_tag(tag);
        let is_same = |entry: Entry| entry.has(Entry::COPY_ON_WRITE) && entry.frame() == Some(shared.raw());
        if let Some((leaf, index, _)) = self.find(page).filter(|(_, _, entry)| is_same(*entry)) {
            if !still() {
                return Ok(false);
            }
            let new = Entry::page(copy.into_raw(), access - Access::COPY_ON_WRITE);
            let new = Entry(new.0 | Entry::ACCESSED | Entry::DIRTY);
            MmuGather::new(self).entry(page, leaf.replace(index, new), new);
        }
        Ok(true)
    }

    /// Under the lock for changes.
    pub(super) fn move_range(
        &self,
        from: Range<usize>,
        to: usize,
        removed: &mut MmuGather<'_>,
    ) -> Result<(), OutOfMemory> {
        let target = to..to + from.len();
        // Tables come first: nothing that may fail comes after something has changed.
        let tables =
            self.each_piece(from.clone(), to, |piece| match piece.leaf.entries(piece.indices.clone()).next() {
                Some(_) => self.leaf_for_change(piece.target).map(drop),
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
        self.each_piece(from.clone(), to, |piece| {
            if let Some(table) = self.walk_to(piece.target) {
                piece.move_to(self, table, removed);
            }
            Ok(())
        })?;
        self.free_empty_tables(from, removed);
        Ok(())
    }

    /// Calls `visit` for each piece of a leaf table in `from` that goes to one leaf table when the range goes to `to`. Under the lock for
    /// changes.
    #[inline]
    fn each_piece(
        &self,
        from: Range<usize>,
        to: usize,
        mut visit: impl FnMut(Piece) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let start = from.start;
        self.each_leaf(from, |leaf, base, mut rest| {
            while !rest.is_empty() {
                let page = base + (rest.start << shift(0));
                let target = page - start + to;
                let end = rest.end.min(rest.start + ENTRIES - index(target, 0));
                visit(Piece { leaf, indices: rest.start..end, page, target })?;
                rest.start = end;
            }
            Ok(())
        })
    }

    /// Frees the tables in the range that have no entries. Under the lock for changes.
    fn free_empty_tables(&self, range: Range<usize>, removed: &mut MmuGather<'_>) {
        let _: ControlFlow<()> = self.walk(
            range,
            |_, _, _| ControlFlow::Continue(()),
            |parent, index, table| removed.table_if_empty(parent, index, table),
        );
    }

    #[inline]
    pub fn resident(&self) -> usize {
        self.resident.get()
    }

    /// The root's physical address.
    pub(super) fn root(&self) -> usize {
        self.root.physical()
    }

    /// Counts pages that were mapped.
    pub(super) fn count_resident(&self, added: isize) {
        self.resident.add(added);
    }

    /// How many tables there are below the root.
    #[cfg(test)]
    pub fn tables(&self) -> usize {
        let mut tables = 0;
        let _: ControlFlow<()> = self.walk(0..USER_TOP, |_, _, _| ControlFlow::Continue(()), |_, _, _| tables += 1);
        tables
    }
}

/// A piece of a leaf table that moves: its first page, and where that goes.
struct Piece {
    leaf: Table,
    indices: Range<usize>,
    page: usize,
    target: usize,
}

impl Piece {
    /// Moves the entries to the leaf table of the target, where there should be none. Under the lock for changes.
    fn move_to(self, tables: &Tables, table: Table, removed: &mut MmuGather<'_>) {
        let (first, target) = (self.indices.start, index(self.target, 0));
        let leaf = Leaf::lock(self.leaf);
        tables.split(&leaf, self.page);
        let _other = (table != self.leaf).then(|| Leaf::lock(table));
        for (index, _) in leaf.entries(self.indices) {
            let to = target + index - first;
            let entry = leaf.take(index);
            if entry.must_flush(Entry(0)) {
                removed.stale(self.page + ((index - first) << shift(0)));
            }
            if table.get(to).0 != 0 {
                removed.entry(self.target + ((index - first) << shift(0)), table.take(to), entry);
            }
            table.insert(to, entry);
        }
        // Before anybody finds the frames elsewhere.
        removed.note();
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        shootdown::evict(self.root.physical());
        // No CPU uses the tables: no locked instructions, no flushes, and the entries go with their tables.
        let _: ControlFlow<()> = self.walk(
            0..USER_TOP,
            |leaf, _, indices| {
                if leaf.is_huge() {
                    Tables::is_split(&leaf);
                }
                for (_, entry) in leaf.entries(indices) {
                    match entry.frame() {
                        // SAFETY: the entry's reference.
                        Some(number) => drop(unsafe { Frame::from_raw(number) }),
                        None => self.release(entry),
                    }
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
pub(super) fn free(table: Table) {
    if let Some(deposits) = table.deposits() {
        free(deposits);
    }
    // SAFETY: the table's only reference was its parent's, or the space's, which is gone.
    drop(unsafe { Frame::from_raw(table.into_frame()) });
}
