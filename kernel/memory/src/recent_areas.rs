//! Where page faults have been resolved last, so that the next one there does without the lock of the areas.
//!
//! Most faults are at a page of an anonymous area, and all they need to know is that there is such an area, and what it allows. A slot has
//! that of one area. Who finds a page's area here neither writes what other CPUs read, nor waits for anybody, be it another fault or a
//! change of other areas. (Linux's per-VMA locks are for that.)
//!
//! Which slot to look at first is a *hint* for each window of 2 MiB. It may be wrong, and then all slots are looked at.
//!
//! **Nothing is mapped where nothing may be.** The area may change while the fault makes a page. So that is mapped only if the slot is
//! still what it was, which is asked under the lock of the page's table. Who takes pages or rights out, or has copied what is there,
//! *first* forgets it here, and *then* takes the same lock, of each table: either he comes later, and finds the page; or the fault
//! does, and sees that the slot has changed. kernel/models tries the orders.
//!
//! Who fills a slot shares the lock of the areas, who forgets has it alone: so what he forgets is not filled again before he is done.

use core::ops::Range;

use super::atomic::{AtomicU8, AtomicUsize, Ordering, fence};

/// Areas that are known at the same time.
const AREAS: usize = 8;
const HINTS: usize = 16;
const WINDOW_SHIFT: usize = 21;

/// See the module's page.
pub struct RecentAreas<const SLOTS: usize = AREAS> {
    slots: [Slot; SLOTS],
    hints: [AtomicU8; HINTS],
    /// Slots that were filled since all was forgotten: 0 if there is nothing to be forgotten.
    filled: AtomicUsize,
}

/// What is known of an area.
struct Slot {
    /// Odd while the others are written; another whenever they have been.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    rights: AtomicUsize,
}

/// What was found of an area, and what the bits stand for that were put there.
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

impl<const SLOTS: usize> RecentAreas<SLOTS> {
    /// Nothing yet.
    pub fn new() -> Self {
        let word = || AtomicUsize::new(0);
        let slot = |_| Slot { version: word(), start: word(), end: word(), rights: word() };
        let hints = core::array::from_fn(|_| AtomicU8::new(0));
        RecentAreas { slots: core::array::from_fn(slot), hints, filled: word() }
    }

    #[inline]
    fn hint(&self, page: usize) -> Option<&AtomicU8> {
        let window = page >> WINDOW_SHIFT;
        self.hints.get((window ^ window >> 4 ^ window >> 8) % HINTS)
    }

    /// The area around `page`, if it is known.
    #[inline]
    pub fn find(&self, page: usize) -> Option<Found<'_>> {
        let hint = self.hint(page)?;
        let hinted = self.slots.get(usize::from(hint.load(Ordering::Relaxed)));
        hinted.and_then(|slot| slot.read(page)).or_else(|| self.search(page, hint))
    }

    #[cold]
    fn search(&self, page: usize, hint: &AtomicU8) -> Option<Found<'_>> {
        if self.filled.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (index, found) = self.slots.iter().enumerate().find_map(|(index, slot)| Some((index, slot.read(page)?)))?;
        hint.store(index as u8, Ordering::Relaxed);
        Some(found)
    }

    /// Keeps the area at `area`, which `page` lies in. The caller shares the lock of the areas, and nobody keeps faults out.
    pub fn put(&self, page: usize, area: &Range<usize>, rights: usize) {
        let turn = self.filled.fetch_add(1, Ordering::Relaxed);
        let Some(hint) = self.hint(page) else { return };
        let hinted = usize::from(hint.load(Ordering::Relaxed));
        let index = if self.slots.get(hinted).is_some_and(|slot| slot.is_empty() || slot.has_some_of(area)) {
            hinted
        } else {
            let index = self.place_for(area).unwrap_or(turn % SLOTS);
            hint.store(index as u8, Ordering::Relaxed);
            index
        };
        if let Some(slot) = self.slots.get(index) {
            slot.fill(area.clone(), rights);
        }
    }

    /// The slot that has a part of `area`, or else an empty one.
    fn place_for(&self, area: &Range<usize>) -> Option<usize> {
        let own = self.slots.iter().position(|slot| slot.has_some_of(area));
        own.or_else(|| self.slots.iter().position(Slot::is_empty))
    }

    /// Forgets all areas with some of `range`. The caller has the lock of the areas alone, and changes page tables afterwards.
    #[inline]
    pub fn forget(&self, range: &Range<usize>) {
        if self.filled.load(Ordering::Relaxed) > 0 {
            self.slots.iter().filter(|slot| slot.has_some_of(range)).for_each(|slot| slot.fill(0..0, 0));
        }
    }

    /// Forgets everything. The caller as for [`forget`](Self::forget).
    #[inline]
    pub fn forget_all(&self) {
        if self.filled.load(Ordering::Relaxed) > 0 {
            self.forget(&(0..usize::MAX));
            self.filled.store(0, Ordering::Relaxed);
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

    #[inline]
    fn is_empty(&self) -> bool {
        self.end.load(Ordering::Relaxed) == 0
    }

    #[inline]
    fn has_some_of(&self, range: &Range<usize>) -> bool {
        self.start.load(Ordering::Relaxed) < range.end && range.start < self.end.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1 << WINDOW_SHIFT;

    #[test]
    fn what_is_forgotten_is_not_found_and_no_longer_so() {
        let recent: RecentAreas = RecentAreas::new();
        let (area, page) = (3 * WINDOW - 0x1000..9 * WINDOW, 4 * WINDOW);
        assert!(recent.find(page).is_none());
        recent.put(page, &area, 3);
        let found = recent.find(page + 0x1000).unwrap();
        assert_eq!((found.range.clone(), found.rights), (area.clone(), 3));
        assert!(recent.find(area.start - 0x1000).is_none() && recent.find(area.end).is_none());
        assert!(recent.find(area.start).is_some() && recent.find(area.end - 0x1000).is_some());
        // What lies beside it is another matter.
        recent.forget(&(area.start - 0x1000..area.start));
        recent.forget(&(area.end..area.end + WINDOW));
        assert!(found.is_still_so());
        recent.forget(&(page + 0x5000..page + 0x6000));
        assert!(!found.is_still_so() && recent.find(page).is_none());
    }

    #[test]
    fn so_many_areas_are_known_and_no_more() {
        let recent: RecentAreas = RecentAreas::new();
        let area = |number: usize| 2 * number * WINDOW..(2 * number + 1) * WINDOW;
        let known = |numbers: Range<usize>| numbers.filter(|&number| recent.find(area(number).start).is_some()).count();
        (1..=AREAS).for_each(|number| recent.put(area(number).start, &area(number), number));
        assert_eq!(known(1..AREAS + 1), AREAS);
        assert!((1..=AREAS).all(|number| recent.find(area(number).start + 0x3000).unwrap().rights == number));
        // One that is put again, or has grown, takes no other's place; nor does one for which there is room.
        recent.put(area(3).start, &(area(3).start..area(3).end + 0x1000), 7);
        assert_eq!((known(1..AREAS + 1), recent.find(area(3).end).unwrap().rights), (AREAS, 7));
        recent.forget(&area(2));
        recent.put(area(20).start, &area(20), 1);
        assert_eq!((known(1..AREAS + 1), known(20..21)), (AREAS - 1, 1));
        recent.put(area(21).start, &area(21), 1);
        assert_eq!((known(1..30), known(21..22)), (AREAS, 1));
        recent.forget_all();
        assert_eq!(known(1..30), 0);
        recent.put(area(1).start, &area(1), 1);
        assert_eq!(known(1..30), 1);
    }
}
