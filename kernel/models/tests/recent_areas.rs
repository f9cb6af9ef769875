//! A page fault without the lock of the areas, and who changes the area meanwhile: every order.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::sync::{Arc, Mutex};
use loom::thread;
use models::every_order;
use models::recent_areas::RecentAreas;

const PAGE: usize = 0x40_3000;
const AREA: std::ops::Range<usize> = 0x40_0000..0x40_8000;
/// Another area in the same window.
const OTHER_PAGE: usize = 0x50_0000;
const OTHER: std::ops::Range<usize> = 0x50_0000..0x50_8000;

struct Space {
    /// All areas have the same slot.
    recent: RecentAreas<1>,
    /// The lock of the page tables, and whether the page is there.
    tables: Mutex<bool>,
}

impl Space {
    /// With the area known.
    fn new() -> Arc<Space> {
        let space = Arc::new(Space { recent: RecentAreas::new(), tables: Mutex::new(false) });
        space.recent.put(PAGE, &AREA, 1);
        space
    }

    fn fault(&self) {
        if let Some(area) = self.recent.find(PAGE) {
            assert_eq!((area.range.clone(), area.rights), (AREA, 1));
            let mut is_mapped = self.tables.lock().unwrap();
            *is_mapped |= area.is_still_so();
        }
    }
}

/// Runs both at once, with so many switches of threads at most.
fn together(switches: Option<usize>, one: fn(&Space), other: fn(&Space), after: fn(&Space)) {
    every_order(switches, move || {
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
fn no_page_is_left_in_an_area_that_is_gone() {
    fn unmap(space: &Space) {
        space.recent.forget(&AREA);
        *space.tables.lock().unwrap() = false;
    }
    together(None, Space::fault, unmap, |space| {
        assert!(!*space.tables.lock().unwrap() && space.recent.find(PAGE).is_none());
    });
}

/// Who shares the lock of the areas may put another area into the same slot.
#[test]
fn what_is_found_belongs_together() {
    fn put_other(space: &Space) {
        space.recent.put(OTHER_PAGE, &OTHER, 2);
    }
    fn find_other(space: &Space) {
        if let Some(area) = space.recent.find(OTHER_PAGE) {
            assert_eq!((area.range.clone(), area.rights), (OTHER, 2));
        }
        space.fault();
    }
    together(None, find_other, put_other, |_| ());
    fn put_both(space: &Space) {
        space.recent.put(PAGE, &AREA, 1);
        find_other(space);
    }
    // More would take minutes.
    together(Some(2), put_both, put_other, find_other);
}
