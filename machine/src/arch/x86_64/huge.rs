//! Huge pages: one entry of a directory (a table of level 1) that maps 2 MiB of neighbouring frames.
//!
//! **A huge page has a leaf table all the same**, with all 512 entries, each of which owns its frame as ever. It lies behind the huge entry, in the
//! directory's *deposits*: a table of one frame, with the entry that the directory would have without the huge page, at the same index.
//! So who walks the tables finds the leaf there, and what he reads and locks is what it always is: lookups, copies, counts and forks know nothing of
//! huge pages. Linux deposits a table too, an empty one. Here it is full, and the huge entry is only a shorter way for the CPU.
//!
//! Who changes an entry of the leaf first [splits](Tables::split) the page: the directory's entry is the leaf's again. That takes no memory and
//! can't fail. Who changes all 512 to the same end changes the huge entry as well.
//!
//! Whether a leaf has a huge page before it is known under the leaf's lock ([`State::is_huge`](super::table)), which who makes one or splits it
//! has. The directory stays meanwhile, since the leaf does.
//!
//! **Break before make.** No CPU has the same address in a small and in a large translation at once, which some can't stand: the entry
//! is first *hidden* (not present), all CPUs forget it, and then it becomes the new one. Who meets a hidden entry may be one of those who are
//! waited for, and answers. A CPU that faults there finds the page in the leaf, and tries again.
//!
//! The CPU never marks a huge entry accessed or dirty: it is both from the beginning, and so are the leaf's.

use super::paging::{Leaf, Tables, free, index};
use super::shootdown;
use super::table::{ENTRIES, Entry, Table};
use crate::memory::{Access, FrameRun, OutOfMemory, PAGE_SIZE};
use crate::rcu;
use core::ops::Range;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Relaxed, Release},
    fence,
};

/// See [`crate::memory::HUGE_PAGE_ORDER`].
pub const HUGE_PAGE_ORDER: Option<u8> = Some(9);

/// Bytes of a huge page.
const HUGE: usize = ENTRIES * PAGE_SIZE;

/// All groups of a leaf's entries.
const ALL_GROUPS: u32 = 0xffff;

/// Huge pages of all spaces.
static HUGE_PAGES: AtomicUsize = AtomicUsize::new(0);

/// See [`crate::memory::huge_pages`].
pub fn huge_pages() -> usize {
    HUGE_PAGES.load(Relaxed)
}

/// The entry that maps what the 512 entries from `first` on do.
fn huge(first: Entry) -> Entry {
    Entry(first.0 | Entry::LARGE)
}

/// As [`Table::below`] of an entry that is a huge page's.
#[cold]
pub(super) fn leaf_behind(directory: Table, index: usize, entry: Entry) -> Option<Table> {
    if !entry.has(Entry::PRESENT) {
        shootdown::serve(false);
    }
    directory.deposits()?.lower(index)
}

impl Table {
    /// Of a directory, the table of what is deposited behind its huge pages; made if there is none.
    fn deposits_or_new(self) -> Option<Table> {
        if let Some(deposits) = self.deposits() {
            return Some(deposits);
        }
        let new = Table::new()?;
        if !self.set_deposits(new) {
            free(new); // somebody else was faster
        }
        self.deposits()
    }
}

impl Tables {
    pub fn map_huge(
        &self,
        base: usize,
        run: FrameRun,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let leaf = self.leaf_or_new(base)?;
        let deposits = self.directory(base).and_then(Table::deposits_or_new).ok_or(OutOfMemory)?;
        if run.numbers().len() != ENTRIES || leaf.occupied() != 0 || !still() {
            return Ok(false);
        }
        let first = Entry(Entry::page(run.into_raw(), access).0 | Entry::ACCESSED | Entry::DIRTY);
        for index in 0..ENTRIES {
            leaf.set(index, Entry(first.0 + (index * PAGE_SIZE) as u64));
        }
        leaf.count(ALL_GROUPS, ENTRIES as u32);
        self.count_resident(ENTRIES as isize);
        deposits.set(index(base, 1), Entry::table(*leaf));
        fence(Release); // who sees the huge entry finds the leaf
        self.exchange(base, huge(first));
        leaf.set_huge(true);
        HUGE_PAGES.fetch_add(1, Relaxed);
        Ok(true)
    }

    /// Whether there are pages in the 2 MiB around `page`, at the moment of the look.
    #[inline]
    pub fn has_leaf(&self, page: usize) -> bool {
        let _section = rcu::read();
        self.walk_to(page).is_some_and(|leaf| leaf.occupied() > 0)
    }

    /// Whether one huge page maps the 2 MiB around `page`.
    pub fn is_huge(&self, page: usize) -> bool {
        let _lock = self.lock_changes();
        self.walk_to(page).is_some_and(Table::is_huge)
    }

    /// Makes CPUs see the pages of a leaf by the leaf's own entries.
    #[inline]
    pub(super) fn split(&self, leaf: &Leaf, page: usize) {
        if leaf.is_huge() {
            self.split_huge(leaf, page);
        }
    }

    #[cold]
    fn split_huge(&self, leaf: &Leaf, page: usize) {
        self.exchange(page & !(HUGE - 1), Entry::table(**leaf));
        Tables::is_split(leaf);
    }

    /// A part of a leaf is about to be emptied. True if it is the whole of a huge page: then CPUs are not told before the frames are dropped, and
    /// [`show_emptied`](Self::show_emptied) follows.
    #[inline]
    pub(super) fn hide_or_split(&self, leaf: &Leaf, base: usize, indices: &Range<usize>) -> bool {
        let is_whole = leaf.is_huge() && indices.len() == ENTRIES;
        if is_whole {
            self.hide(base);
        } else {
            self.split(leaf, base);
        }
        is_whole
    }

    #[cold]
    fn hide(&self, base: usize) {
        if let Some(directory) = self.directory(base) {
            directory.update(index(base, 1), hidden);
        }
    }

    /// The huge page that was hidden is empty.
    #[cold]
    pub(super) fn show_emptied(&self, leaf: &Leaf, base: usize) {
        if let Some(directory) = self.directory(base) {
            directory.replace(index(base, 1), Entry::table(**leaf));
        }
        Tables::is_split(leaf);
    }

    /// The same change of rights as all entries of a leaf had, for the huge page if there is one.
    pub(super) fn protect_huge(&self, leaf: &Leaf, base: usize, access: Access) {
        if let Some(directory) = self.directory(base).filter(|_| leaf.is_huge()) {
            directory.update(index(base, 1), |entry| entry.with_access(access));
        }
    }

    /// There is no huge page before this leaf any more.
    pub(super) fn is_split(leaf: &Table) {
        leaf.set_huge(false);
        HUGE_PAGES.fetch_sub(1, Relaxed);
    }

    /// Breaks the directory's entry for the leaf at `base`, whose lock the caller has, and makes it the new one.
    fn exchange(&self, base: usize, new: Entry) {
        let Some(directory) = self.directory(base) else { return };
        directory.update(index(base, 1), hidden);
        shootdown::flush(self.root(), base..base + PAGE_SIZE);
        directory.replace(index(base, 1), new);
    }
}

/// No CPU finds anything by it; who walks the tables finds the leaf.
fn hidden(entry: Entry) -> Entry {
    Entry(entry.0 & !Entry::PRESENT | Entry::LARGE)
}
