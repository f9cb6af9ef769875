//! Who supplies a page walks down without a lock, while another takes pages and tables away: every order.
//!
//! Tables are cells of loom's: it reports a use by one that nothing orders before the next use of the frame by another.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;
use models::every_order;
use models::rcu::Readers;
use models::recent_areas::RecentAreas;
use models::table::State;
use models::table::atomic::AtomicU32;

const PAGE: usize = 0x40_3000;
const AREA: std::ops::Range<usize> = 0x40_0000..0x40_8000;
/// The groups of the only entry of a table.
const GROUP: u32 = 1;

/// A table with one entry, which is 0 or what it leads to.
struct Table {
    state: AtomicU32,
    entry: AtomicUsize,
    frame: UnsafeCell<()>,
}

impl Table {
    fn new() -> Table {
        Table { state: AtomicU32::new(1), entry: AtomicUsize::new(0), frame: UnsafeCell::new(()) }
    }

    fn state(&self) -> State<'_> {
        State(&self.state)
    }

    /// A use of the frame as this table.
    fn get(&self) -> usize {
        self.frame.with(|_| self.entry.load(Ordering::Acquire))
    }

    /// An exchange, which on x86 is a full barrier.
    fn exchange(&self, old: usize, new: usize) -> bool {
        let found = self.frame.with(|_| self.entry.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed));
        fence(Ordering::SeqCst);
        found.is_ok()
    }

    /// The frame is another owner's, who counts in the same word.
    fn reuse(&self) {
        self.frame.with_mut(|_| ());
        self.state().release();
    }
}

/// A root, an upper table below it, and two that can be leaf tables: the entry of a table is the number of the one below, the entry of a leaf 1
/// where the page is.
struct Space {
    recent: RecentAreas<1>,
    readers: Readers<2>,
    tables: [Table; 4],
}

const ROOT: usize = 0;
const UPPER: usize = 1;
const LEAVES: [usize; 2] = [2, 3];

impl Space {
    /// With the area known, and an upper table without a leaf.
    fn new() -> Arc<Space> {
        let tables = [Table::new(), Table::new(), Table::new(), Table::new()];
        let space = Space { recent: RecentAreas::new(), readers: Readers::new(), tables };
        space.recent.put(PAGE, &AREA, 1);
        for table in &space.tables {
            table.state().occupied();
        }
        assert!(space.attach(ROOT, UPPER));
        (0..2).for_each(|cpu| assert_eq!(space.readers.count(cpu), 0));
        Arc::new(space)
    }

    fn attach(&self, upper: usize, lower: usize) -> bool {
        let table = &self.tables[upper];
        if !table.state().reserve(GROUP) {
            return false;
        }
        let is_attached = table.exchange(0, lower);
        if !is_attached {
            table.state().unreserve();
        }
        is_attached
    }

    /// Walks to the leaf and locks it. `spare`: a table to be hung in where there is no leaf.
    fn walk(&self, cpu: usize, spare: &mut Option<usize>) -> Option<&Table> {
        self.readers.enter(cpu);
        let leaf = match self.tables[ROOT].get() {
            0 => None,
            upper => match (self.tables[upper].get(), *spare) {
                (0, Some(new)) if self.attach(upper, new) => spare.take(),
                (0, _) => None,
                (leaf, _) => Some(leaf),
            },
        };
        let locked = leaf.map(|leaf| &self.tables[leaf]).filter(|leaf| leaf.state().try_lock());
        self.readers.leave(cpu);
        locked
    }

    /// As a fault does, if the area is known. Whether the page was supplied, or found.
    fn fault(&self, cpu: usize) -> bool {
        let Some(area) = self.recent.find(PAGE) else { return false };
        let mut spare = Some(LEAVES[cpu]);
        let leaf = loop {
            match self.walk(cpu, &mut spare) {
                Some(leaf) => break leaf,
                // Here no more tables can be had: the program faults again.
                None if spare.is_none() || self.tables[ROOT].entry.load(Ordering::Relaxed) == 0 => {
                    return false;
                }
                None => thread::yield_now(),
            }
        };
        let is_so = area.is_still_so();
        if leaf.get() == 0 && is_so {
            leaf.exchange(0, 1);
            leaf.state().count(GROUP, 1);
        }
        leaf.state().unlock();
        is_so
    }

    /// The same, whatever came of it.
    fn supply(&self, cpu: usize) {
        let _ = self.fault(cpu);
    }

    /// Takes the page, and the tables that are empty then.
    fn unmap(&self) {
        self.recent.forget(&AREA);
        fence(Ordering::SeqCst); // the lock for changes
        let leaf = self.tables[UPPER].get();
        if leaf != 0 {
            let table = &self.tables[leaf];
            while !table.state().try_lock() {
                thread::yield_now();
            }
            if table.exchange(1, 0) {
                table.state().uncount(1);
            }
            table.state().unlock();
        }
        self.prune();
    }

    /// Takes the tables away that are empty.
    fn prune(&self) {
        let mut gone = Vec::new();
        match self.tables[UPPER].get() {
            0 => {}
            leaf => self.detach(UPPER, leaf, &mut gone),
        }
        self.detach(ROOT, UPPER, &mut gone);
        self.readers.wait(2, thread::yield_now);
        gone.into_iter().for_each(|table: usize| self.tables[table].reuse());
    }

    fn detach(&self, upper: usize, lower: usize, gone: &mut Vec<usize>) {
        if self.tables[lower].state().retire() {
            self.tables[upper].exchange(lower, 0);
            self.tables[upper].state().unreserve();
            gone.push(lower);
        }
    }

    /// What is there when nobody changes it: each table counts what it has, and the page is where the walk leads.
    fn check(&self) -> bool {
        let mut table = ROOT;
        for _ in 0..2 {
            let lower = self.tables[table].get();
            assert_eq!(self.tables[table].state().occupied(), u32::from(lower != 0));
            if lower == 0 {
                return false;
            }
            table = lower;
        }
        let page = self.tables[table].get();
        assert_eq!(self.tables[table].state().occupied(), u32::from(page != 0));
        assert!(self.tables[table].state().try_lock(), "the lock was given up");
        page != 0
    }
}

fn together(switches: usize, one: fn(&Space), other: fn(&Space), after: fn(&Space)) {
    every_order(Some(switches), move || {
        let space = Space::new();
        let thread = thread::spawn({
            let space = space.clone();
            move || other(&space)
        });
        one(&space);
        thread.join().unwrap();
        after(&space);
    });
}

#[test]
fn no_page_and_no_table_is_left_behind_in_an_area_that_is_gone() {
    together(4, |space| space.supply(0), Space::unmap, |space| assert!(!space.check()));
}

#[test]
fn two_that_supply_the_same_page_hang_in_one_table() {
    together(4, |space| space.supply(0), |space| space.supply(1), |space| assert!(space.check()));
}

#[test]
fn a_table_with_a_page_goes_behind_who_supplies_another_one() {
    every_order(Some(4), move || {
        let space = Space::new();
        space.supply(1);
        let thread = thread::spawn({
            let space = space.clone();
            move || space.supply(0)
        });
        space.unmap();
        thread.join().unwrap();
        assert!(!space.check());
    });
}

/// What another area had is taken out below the same upper table.
#[test]
fn a_page_that_was_supplied_is_there_whatever_tables_go() {
    every_order(Some(4), move || {
        let space = Space::new();
        let thread = thread::spawn({
            let space = space.clone();
            move || space.fault(0)
        });
        space.prune();
        let is_supplied = thread.join().unwrap();
        assert_eq!(space.check(), is_supplied);
    });
}
