//! Files of the architecture on the host, as they are: [`paging`] and [`table`] over frames of a test's machine, with a CPU that is modelled;
//! `copy.s`; and what CPUs tell each other.
//!
//! The CPU caches translations and leaf tables for as long as the architecture lets it, and marks pages accessed and dirty. So
//! what is checked after each step is what programs could see at worst.

#![allow(dead_code, unused_imports, reason = "the files have more than is tested here")]

#[path = "../copy_method.rs"]
mod copy_method;
#[path = "../huge.rs"]
mod huge;
#[path = "../mmu_gather.rs"]
mod mmu_gather;
#[path = "../paging.rs"]
mod paging;
#[path = "../table.rs"]
mod table;

mod copies;
mod many_cpus;
mod random;
mod threads;

/// The frames of this process's machine, which may be refused.
mod frames {
    pub use crate::platform::frames::{bytes, record};
    use std::cell::Cell;
    use std::num::NonZeroU32;

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Lets this thread have so many more tables.
    pub fn allow(tables: usize) {
        LEFT.set(tables);
    }

    pub fn take_frames(order: u8) -> Option<NonZeroU32> {
        LEFT.set(LEFT.get().checked_sub(1)?);
        crate::memory::take_frames(order)
    }
}

mod copy {
    pub use crate::platform::copy::{clear_page, copy_page};
}

/// There is no kernel's half.
mod kernel_space {
    use super::table::Table;

    pub fn share_kernel_half(_root: Table) {}
    pub fn initialise() {}
    pub fn kernel_root() -> usize {
        0
    }
    pub fn map_device() {}
    pub fn map_stack() {}
}

/// The modelled CPU, which has all spaces of this thread loaded at once: whatever is flushed, is flushed here.
mod shootdown {
    use super::table::{Entry, Table};
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::ops::Range;

    #[derive(Default)]
    struct Cached {
        /// By root and page.
        pages: BTreeMap<(usize, usize), Entry>,
        /// Leaf tables by root and what they map.
        leaves: BTreeMap<(usize, usize), Table>,
        /// Huge pages by root and number.
        huge: BTreeMap<(usize, usize), Entry>,
    }

    thread_local! {
        static CACHED: RefCell<Cached> = RefCell::default();
    }

    pub unsafe fn load(_root: usize) {}

    pub fn is_loaded(_root: usize) -> bool {
        true
    }

    pub fn serve(_idle: bool) {}

    pub fn flush(root: usize, pages: Range<usize>) {
        if pages.is_empty() {
            return;
        }
        CACHED.with_borrow_mut(|cached| {
            cached.pages.retain(|(its, page), _| *its != root || !pages.contains(page));
            cached.leaves.retain(|(its, _), _| *its != root);
            // Any address of a huge page forgets all of it.
            let overlaps = |region: usize| pages.start < (region + 1) << 21 && region << 21 < pages.end;
            cached.huge.retain(|(its, region), _| *its != root || !overlaps(*region));
        });
    }

    pub fn is_used_elsewhere(_root: usize) -> bool {
        true
    }

    pub fn evict(root: usize) {
        flush(root, 0..usize::MAX);
    }

    /// The directory's entry by a walk from the root.
    fn walk_to_directory(root: usize, page: usize) -> Option<Entry> {
        let mut table = Table(NonZeroU32::new((root >> 12) as u32)?);
        for level in [3, 2] {
            table = Table::of(table.get(page >> (12 + 9 * level) & 511))?;
        }
        Some(table.get(page >> 21 & 511)).filter(|entry| entry.has(Entry::PRESENT))
    }

    /// The leaf by a walk from the root.
    fn walk(root: usize, page: usize) -> Option<Table> {
        walk_to_directory(root, page).filter(|entry| !entry.has(Entry::LARGE)).and_then(Table::of)
    }

    /// What the CPU does at an access: true if it needs no fault.
    pub fn access(root: usize, page: usize, write: bool) -> bool {
        CACHED.with_borrow_mut(|cached| {
            let allows = |entry: Entry| !write || entry.has(Entry::WRITABLE);
            let hit = cached.pages.get(&(root, page)).copied().filter(|entry| allows(*entry));
            if hit.is_some_and(|entry| !write || entry.has(Entry::DIRTY)) {
                return true;
            }
            let huge = cached.huge.get(&(root, page >> 21)).copied();
            if huge.is_some_and(allows) {
                return true;
            }
            if !cached.leaves.contains_key(&(root, page >> 21))
                && let Some(entry) = walk_to_directory(root, page).filter(|entry| entry.has(Entry::LARGE))
            {
                let small = cached.pages.keys().any(|(its, page_of)| *its == root && page_of >> 21 == page >> 21);
                assert!(
                    !small && entry.has(Entry::ACCESSED | Entry::DIRTY),
                    "two sizes at once, or a huge page to be marked"
                );
                if allows(entry) {
                    cached.huge.insert((root, page >> 21), entry);
                }
                return allows(entry);
            }
            let leaf = cached.leaves.get(&(root, page >> 21)).copied().or_else(|| walk(root, page));
            let Some(leaf) = leaf else { return false };
            cached.leaves.insert((root, page >> 21), leaf);
            let entry = leaf.get(page >> 12 & 511);
            if !entry.has(Entry::PRESENT) || !allows(entry) {
                return false;
            }
            let marks = Entry::ACCESSED | if write { Entry::DIRTY } else { 0 };
            assert!(huge.is_none(), "two sizes at once");
            leaf.update(page >> 12 & 511, |entry| Entry(entry.0 | marks));
            cached.pages.insert((root, page), Entry(entry.0 | marks));
            true
        })
    }

    /// Whether a table of the space is cached that is not its own any more.
    pub fn has_old_table(root: usize) -> bool {
        CACHED.with_borrow(|cached| {
            let mut own = cached.leaves.iter().filter(|((its, _), _)| *its == root);
            own.any(|((_, region), leaf)| walk(root, region << 21) != Some(*leaf))
        })
    }

    /// All translations that are cached.
    pub fn cached() -> Vec<(usize, usize, Entry)> {
        CACHED.with_borrow(|cached| {
            let small = cached.pages.iter().map(|((root, page), entry)| (*root, *page, *entry));
            let pages =
                |entry: Entry| (0..512).map(move |page| (page, Entry((entry.0 & !Entry::LARGE) + (page << 12))));
            let huge = cached.huge.iter().flat_map(|((root, region), entry)| {
                pages(*entry).map(move |(page, entry)| (*root, (region << 21) + ((page as usize) << 12), entry))
            });
            small.chain(huge).collect()
        })
    }
}
