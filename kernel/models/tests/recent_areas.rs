//! A page fault without the lock of the areas, and who changes the area meanwhile: every order.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::sync::atomic::{AtomicBool, Ordering};
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
    recent: RecentAreas<File, 1>,
    /// The lock of the page tables, and whether the page is there.
    tables: Mutex<bool>,
    file: std::sync::Arc<File>,
    /// What the area was told: that it was written.
    written: AtomicBool,
}

/// Its lock, and whether it has the page.
#[derive(Default)]
struct File(Mutex<bool>);

impl File {
    fn cut(&self) {
        *self.0.lock().unwrap() = false;
    }
}

/// The bits of the area, and the one that is marked.
const BITS: u8 = 1;
const WRITTEN: u8 = 4;

impl Space {
    /// With the area known.
    fn new() -> Arc<Space> {
        let (recent, file) = (RecentAreas::new(), std::sync::Arc::new(File(Mutex::new(true))));
        let space = Space { recent, tables: Mutex::new(false), file, written: AtomicBool::new(false) };
        space.put();
        Arc::new(space)
    }

    fn put(&self) {
        let before = self.recent.put(PAGE, &AREA, 0, BITS, Some((self.file.clone(), 7)));
        before.into_iter().for_each(|(_, bits)| self.tell(bits));
    }

    /// As who changes areas or takes pages out does it first.
    fn forget(&self) {
        self.recent.forget(&AREA, |_, bits| self.tell(bits));
    }

    fn take_out(&self) {
        *self.tables.lock().unwrap() = false;
    }

    /// As who has forgotten what was known does before he copies or changes the area.
    fn look(&self) {
        let is_mapped = *self.tables.lock().unwrap();
        assert!(!is_mapped || self.written.load(Ordering::Relaxed), "a page in an area that was never written");
    }

    fn tell(&self, bits: u8) {
        if bits & WRITTEN != 0 {
            self.written.store(true, Ordering::Relaxed);
        }
    }

    fn fault(&self) {
        if let Some(area) = self.recent.find(PAGE) {
            assert_eq!((area.range.clone(), area.bits() & BITS), (AREA, BITS));
            let mut is_mapped = self.tables.lock().unwrap();
            *is_mapped |= area.is_still_so();
        }
    }

    /// At a page of the file.
    fn file_fault(&self) {
        let Some(area) = self.recent.find(PAGE) else { return };
        let Some((file, first)) = area.file() else { return };
        assert!(std::sync::Arc::ptr_eq(&file, &self.file) && first == 7);
        if *file.0.lock().unwrap() {
            let mut is_mapped = self.tables.lock().unwrap();
            *is_mapped |= area.is_still_so();
        }
    }

    /// The first write to the area.
    fn first_write(&self) {
        if let Some(area) = self.recent.find(PAGE) {
            area.mark(WRITTEN);
        }
        let area = self.recent.find(PAGE).filter(|area| area.bits() & WRITTEN != 0);
        if let Some(area) = area {
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

/// Unmaps while there is a fault: no page is left.
fn unmap_and_fault(fault: fn(&Space), unmap: fn(&Space)) {
    together(None, fault, unmap, |space| {
        assert!(!*space.tables.lock().unwrap(), "a page is left in an area that is gone");
        assert!(space.recent.find(PAGE).is_none());
    });
}

#[test]
fn no_page_is_left_in_an_area_that_is_gone() {
    unmap_and_fault(Space::fault, |space| {
        space.forget();
        space.take_out();
    });
}

#[test]
#[should_panic(expected = "a page is left in an area that is gone")]
fn it_is_found_when_an_area_is_forgotten_too_late() {
    unmap_and_fault(Space::fault, |space| {
        space.take_out();
        space.forget();
    });
}

#[test]
#[should_panic(expected = "a page is left in an area that is gone")]
fn it_is_found_when_a_fault_asks_before_it_has_the_lock_of_the_table() {
    fn fault(space: &Space) {
        if space.recent.find(PAGE).is_some_and(|area| area.is_still_so()) {
            *space.tables.lock().unwrap() = true;
        }
    }
    unmap_and_fault(fault, |space| {
        space.forget();
        space.take_out();
    });
}

/// Cuts the file while there is a fault at it: no page is left. The area is still there, and faults may find it again.
fn cut_and_fault(fault: fn(&Space), cut: fn(&Space)) {
    together(Some(3), fault, cut, |space| {
        space.put();
        space.file_fault();
        assert!(!*space.tables.lock().unwrap(), "a page is left that the file has no more");
    });
}

/// Truncation stops the file from handing the page out, forgets who knows the file, and takes the page out of the tables.
#[test]
fn no_page_is_left_that_the_file_has_no_more() {
    cut_and_fault(Space::file_fault, |space| {
        space.file.cut();
        space.forget();
        space.take_out();
        space.put();
    });
}

#[test]
#[should_panic(expected = "a page is left that the file has no more")]
fn it_is_found_when_a_cut_forgets_nobody() {
    cut_and_fault(Space::file_fault, |space| {
        space.file.cut();
        space.take_out();
    });
}

#[test]
#[should_panic(expected = "a page is left that the file has no more")]
fn it_is_found_when_a_cut_forgets_before_the_file_has_ended() {
    cut_and_fault(Space::file_fault, |space| {
        space.forget();
        space.put();
        space.file.cut();
        space.take_out();
    });
}

#[test]
#[should_panic(expected = "a page is left that the file has no more")]
fn it_is_found_when_a_fault_at_a_file_does_not_ask_again() {
    fn fault(space: &Space) {
        let file = space.recent.find(PAGE).and_then(|area| area.file());
        if file.is_some_and(|(file, _)| *file.0.lock().unwrap()) {
            *space.tables.lock().unwrap() = true;
        }
    }
    cut_and_fault(fault, |space| {
        space.file.cut();
        space.forget();
        space.take_out();
    });
}

/// The file is let go of when its area is forgotten, whoever is about to look at it.
#[test]
fn who_forgets_lets_go_of_the_file() {
    together(Some(3), Space::file_fault, Space::forget, |space| {
        assert!(space.recent.find(PAGE).is_none());
    });
}

/// Whoever copies or changes the area knows of each page that was written by then: mprotect, fork, mremap.
#[test]
fn no_write_is_untold() {
    fn forget_and_look(space: &Space) {
        space.forget();
        space.look();
    }
    together(None, Space::first_write, forget_and_look, |_| ());
}

/// The same, when the slot has been filled again before.
#[test]
fn no_write_is_untold_by_who_fills_the_slot_again() {
    fn put_again(space: &Space) {
        space.put();
        space.forget();
        space.look();
    }
    together(Some(3), Space::first_write, put_again, |_| ());
}

#[test]
#[should_panic(expected = "a page in an area that was never written")]
fn it_is_found_when_who_forgets_drops_the_mark() {
    together(None, |space| space.recent.forget(&AREA, |_, _| ()), Space::first_write, Space::look);
}

#[test]
#[should_panic(expected = "a page in an area that was never written")]
fn it_is_found_when_who_fills_the_slot_again_drops_the_mark() {
    fn put_again(space: &Space) {
        let _ = space.recent.put(PAGE, &AREA, 0, BITS, None);
    }
    together(Some(3), Space::first_write, put_again, |space| {
        space.forget();
        space.look();
    });
}

#[test]
#[should_panic(expected = "a page in an area that was never written")]
fn it_is_found_when_a_write_is_marked_after_it_was_made() {
    fn write(space: &Space) {
        let Some(area) = space.recent.find(PAGE) else { return };
        let mut is_mapped = space.tables.lock().unwrap();
        *is_mapped |= area.is_still_so();
        drop(is_mapped);
        area.mark(WRITTEN);
    }
    fn forget_and_look(space: &Space) {
        space.forget();
        space.look();
    }
    together(None, forget_and_look, write, |_| ());
}

/// Who shares the lock of the areas may put another area into the same slot.
#[test]
fn what_is_found_belongs_together() {
    fn put_other(space: &Space) {
        let _ = space.recent.put(OTHER_PAGE, &OTHER, 0, 2, None);
    }
    fn find_other(space: &Space) {
        if let Some(area) = space.recent.find(OTHER_PAGE) {
            assert_eq!((area.range.clone(), area.bits()), (OTHER, 2));
        }
        space.fault();
    }
    together(None, find_other, put_other, |_| ());
    fn put_both(space: &Space) {
        space.put();
        find_other(space);
    }
    // More would take minutes.
    together(Some(2), put_both, put_other, find_other);
}
