//! Where page faults have been resolved last, so that the next one there does without the lock of the areas.
//!
//! Most faults are at a page of an anonymous area that isn't there yet, and all they need to know is that there is such an area, and
//! what it allows. A slot has that of what lies of an area in a *window* of 2 MiB. Who finds a page's area here neither writes what other
//! CPUs read, nor waits for anybody, be it another fault or a change of other areas. (Linux's per-VMA locks are for that.)
//!
//! **Nothing is mapped where nothing may be.** The area may change while the fault makes a page. So that is mapped only if the slot is
//! still what it was, which is asked under the lock of the page's table. Who takes pages or rights out, or has copied what is there,
//! *first* forgets it here, and *then* takes the same lock, of each table: either he comes later, and finds the page; or the fault
//! does, and sees that the slot has changed. kernel/models tries the orders.
//!
//! Who fills a slot shares the lock of the areas, who forgets has it alone: so what he forgets is not filled again before he is done.

use core::ops::Range;

use super::atomic::{AtomicUsize, Ordering, fence};

/// Windows that have a slot at the same time.
const SLOTS: usize = 8;
const WINDOW_SHIFT: usize = 21;

/// See the module's page.
pub struct RecentAreas {
    slots: [Slot; SLOTS],
    /// Slots that were filled since all was forgotten: 0 if there is nothing to be forgotten.
    filled: AtomicUsize,
}

/// What lies of an area in one window.
struct Slot {
    /// Odd while the others are written; another whenever they have been.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    rights: AtomicUsize,
}

/// What was found of an area: a part of it, and what the bits stand for that were put there.
pub struct Found<'a> {
    /// Addresses.
    pub range: Range<usize>,
    /// As they were put.
    pub rights: usize,
    slot: &'a Slot,
    version: usize,
}

impl Found<'_> {
    /// Whether the area is what it was. To be asked under the lock of the page's table.
    #[inline]
    pub fn is_still_so(&self) -> bool {
        self.slot.version.load(Ordering::Relaxed) == self.version
    }
}

impl RecentAreas {
    /// Nothing yet.
    pub fn new() -> RecentAreas {
        let word = || AtomicUsize::new(0);
        let slot = |_| Slot { version: word(), start: word(), end: word(), rights: word() };
        RecentAreas { slots: core::array::from_fn(slot), filled: word() }
    }

    #[inline]
    fn slot(&self, window: usize) -> Option<&Slot> {
        self.slots.get((window ^ window >> 3 ^ window >> 6) % SLOTS)
    }

    /// The area around `page`, if it is known.
    #[inline]
    pub fn find(&self, page: usize) -> Option<Found<'_>> {
        self.slot(page >> WINDOW_SHIFT)?.read(page)
    }

    /// Keeps what lies around `page` of the area at `area`. The caller shares the lock of the areas, and nobody keeps faults out.
    pub fn put(&self, page: usize, area: &Range<usize>, rights: usize) {
        let window = page >> WINDOW_SHIFT;
        let (start, end) = (window << WINDOW_SHIFT, (window + 1) << WINDOW_SHIFT);
        if let Some(slot) = self.slot(window) {
            self.filled.fetch_add(1, Ordering::Relaxed);
            slot.fill(area.start.max(start)..area.end.min(end), rights);
        }
    }

    /// Forgets all in `range`. The caller has the lock of the areas alone, and changes page tables afterwards.
    #[inline]
    pub fn forget(&self, range: &Range<usize>) {
        let (first, last) = (range.start >> WINDOW_SHIFT, range.end.saturating_sub(1) >> WINDOW_SHIFT);
        if last.wrapping_sub(first) < SLOTS {
            (first..=last).filter_map(|window| self.slot(window)).for_each(|slot| slot.empty(range));
        } else {
            self.slots.iter().for_each(|slot| slot.empty(range));
        }
    }

    /// Forgets everything. The caller as for [`forget`](Self::forget).
    #[inline]
    pub fn forget_all(&self) {
        if self.filled.load(Ordering::Relaxed) > 0 {
            self.filled.store(0, Ordering::Relaxed);
            self.forget(&(0..usize::MAX));
        }
    }
}

impl Slot {
    #[inline]
    fn read(&self, page: usize) -> Option<Found<'_>> {
        let version = self.version.load(Ordering::Acquire);
        let range = self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed);
        if !range.contains(&page) {
            return None;
        }
        let rights = self.rights.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let found = Found { range, rights, slot: self, version };
        (version & 1 == 0 && found.is_still_so()).then_some(found)
    }

    /// Gives up when another fault fills it at the same time.
    fn fill(&self, range: Range<usize>, rights: usize) {
        let version = self.version.load(Ordering::Relaxed);
        let odd = version | 1;
        if odd == version || self.version.compare_exchange(version, odd, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return;
        }
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.rights.store(rights, Ordering::Relaxed);
        self.version.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// Empties it, if it has some of `range`. Nobody fills it meanwhile.
    #[inline]
    fn empty(&self, range: &Range<usize>) {
        if self.start.load(Ordering::Relaxed) < range.end && range.start < self.end.load(Ordering::Relaxed) {
            self.fill(0..0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1 << WINDOW_SHIFT;

    #[test]
    fn what_is_forgotten_is_not_found_and_no_longer_so() {
        let recent = RecentAreas::new();
        let (area, page) = (3 * WINDOW - 0x1000..9 * WINDOW, 4 * WINDOW);
        assert!(recent.find(page).is_none());
        recent.put(page, &area, 3);
        let found = recent.find(page + 0x1000).unwrap();
        assert_eq!((found.range.clone(), found.rights), (page..page + WINDOW, 3));
        assert!(recent.find(page - 0x1000).is_none() && recent.find(page + WINDOW).is_none());
        recent.put(3 * WINDOW - 0x1000, &area, 3);
        assert_eq!(recent.find(3 * WINDOW - 0x1000).unwrap().range, 3 * WINDOW - 0x1000..3 * WINDOW);
        assert!(recent.find(3 * WINDOW - 0x2000).is_none());
        // What lies beside it is another matter.
        recent.forget(&(page - 0x1000..page));
        recent.forget(&(page + WINDOW..page + 2 * WINDOW));
        assert!(found.is_still_so());
        recent.forget(&(page + 0x5000..page + 0x6000));
        assert!(!found.is_still_so() && recent.find(page).is_none());
    }

    #[test]
    fn a_large_range_is_forgotten_whatever_windows_it_has() {
        let recent = RecentAreas::new();
        let pages = || (1..100).step_by(7).map(|number| number * number * WINDOW);
        let all = 0..usize::MAX / 2;
        pages().for_each(|page| recent.put(page, &all, 1));
        assert!(pages().any(|page| recent.find(page).is_some()));
        recent.forget(&(WINDOW..100 * 100 * WINDOW));
        assert!(pages().all(|page| recent.find(page).is_none()));
        pages().for_each(|page| recent.put(page, &all, 1));
        recent.forget_all();
        assert!(pages().all(|page| recent.find(page).is_none()));
        recent.put(WINDOW, &all, 1);
        recent.forget_all();
        assert!(recent.find(WINDOW).is_none());
    }
}
