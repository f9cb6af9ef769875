//! Where page faults have been resolved last, so that the next one there does without the lock of the areas.
//!
//! All that most faults need to know of an area is that it is there, what it allows, and which file it shows. A slot has that of one area.
//! Who finds a page's area here neither writes what other CPUs read, nor waits for anybody, be it another fault or a
//! change of other areas. (Linux's per-VMA locks are for that.) Only who needs the file takes a reference to it, in a read section.
//!
//! Which slot to look at first is a *hint* for each window of 2 MiB. It may be wrong, and then all slots are looked at.
//!
//! **Nothing is mapped where nothing may be.** The area may change while the fault makes a page. So that is mapped only if the slot is
//! still what it was, which is asked under the lock of the page's table. Who takes pages or rights out, or has copied what is there,
//! *first* forgets it here, and *then* takes the same lock, of each table: either he comes later, and finds the page; or the fault
//! does, and sees that the slot has changed. Who takes pages out since the file has them no more does the same, after the file has stopped to
//! hand them out. kernel/models tries the orders.
//!
//! Who fills a slot shares the lock of the areas, who forgets has it alone: so what he forgets is not filled again before he is done.
//!
//! **What a fault has to tell the area** it leaves in the slot, as bits that are [marked](Found::mark) if the slot is still the same; who
//! fills the slot again or forgets it is handed them, and has a lock to tell it with.

use alloc::sync::Arc;
use core::ops::Range;

use machine::rcu::RcuCell;

use super::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

/// Areas that are known at the same time.
const AREAS: usize = 8;
const HINTS: usize = 16;
const WINDOW_SHIFT: usize = 21;

/// See the module's page. `F` is the type of files.
pub struct RecentAreas<F, const SLOTS: usize = AREAS> {
    slots: [Slot<F>; SLOTS],
    hints: [AtomicU8; HINTS],
    /// Slots that were filled since all was forgotten: 0 if there is nothing to be forgotten.
    filled: AtomicUsize,
}

/// What is known of an area. In cache lines of its own: who fills another slot keeps nobody waiting.
#[repr(align(64))]
struct Slot<F> {
    /// Odd while the others are written; another whenever they have been, or bits were marked. Above the lowest bit are the area's eight.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    /// How far from where they are shown the area's own pages have their homes.
    moved: AtomicUsize,
    /// What it shows, and the page of it that is shown at `start`.
    file: RcuCell<F>,
    first: AtomicU64,
}

/// The version's lowest bit: the slot is being written.
const ODD: usize = 1;
const BITS_SHIFT: u32 = 1;
/// What counts how often it was written.
const COUNT: usize = 1 << 9;

#[inline]
fn bits_of(version: usize) -> u8 {
    (version >> BITS_SHIFT) as u8
}

/// What was found of an area.
pub struct Found<'a, F> {
    /// Addresses.
    pub range: Range<usize>,
    /// As it was put.
    pub moved: usize,
    slot: &'a Slot<F>,
    version: usize,
}

impl<F> Found<'_, F> {
    /// The bits that were put there, and those that were marked since.
    #[inline]
    pub fn bits(&self) -> u8 {
        bits_of(self.version)
    }

    /// Whether the area is what it was, and no bits were marked. To be asked under the lock of the page's table.
    #[inline]
    pub fn is_still_so(&self) -> bool {
        self.slot.version.load(Ordering::Relaxed) == self.version
    }

    /// The file that the area shows, and the page of it that is shown where the area starts.
    pub fn file(&self) -> Option<(Arc<F>, u64)> {
        let file = self.slot.file.get();
        let first = self.slot.first.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        file.filter(|_| self.is_still_so()).map(|file| (file, first))
    }

    /// Marks some bits, if the area is what it was. To be found anew.
    pub fn mark(&self, bits: u8) {
        let marked = self.version | usize::from(bits) << BITS_SHIFT;
        let _ = self.slot.version.compare_exchange(self.version, marked, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl<F, const SLOTS: usize> RecentAreas<F, SLOTS> {
    /// Nothing yet.
    pub fn new() -> Self {
        let word = || AtomicUsize::new(0);
        let slot = |_| Slot {
            version: word(),
            start: word(),
            end: word(),
            moved: word(),
            file: RcuCell::default(),
            first: AtomicU64::new(0),
        };
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
    pub fn find(&self, page: usize) -> Option<Found<'_, F>> {
        let hint = self.hint(page)?;
        let hinted = self.slots.get(usize::from(hint.load(Ordering::Relaxed)));
        hinted.and_then(|slot| slot.read(page)).or_else(|| self.search(page, hint))
    }

    #[cold]
    fn search(&self, page: usize, hint: &AtomicU8) -> Option<Found<'_, F>> {
        if self.filled.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (index, found) = self.slots.iter().enumerate().find_map(|(index, slot)| Some((index, slot.read(page)?)))?;
        hint.store(index as u8, Ordering::Relaxed);
        Some(found)
    }

    /// Keeps the area at `area`, which `page` lies in, and the file with the page that it starts with. The caller shares the lock of the
    /// areas, and nobody keeps faults out. Returns what had the slot before, with its bits.
    #[inline(never)]
    pub fn put(
        &self,
        page: usize,
        area: &Range<usize>,
        moved: usize,
        bits: u8,
        file: Option<(Arc<F>, u64)>,
    ) -> Option<(Range<usize>, u8)> {
        let turn = self.filled.fetch_add(1, Ordering::Relaxed);
        let hint = self.hint(page)?;
        let hinted = usize::from(hint.load(Ordering::Relaxed));
        let index = if self.slots.get(hinted).is_some_and(|slot| slot.is_empty() || slot.has_some_of(area)) {
            hinted
        } else {
            let index = self.place_for(area).unwrap_or(turn % SLOTS);
            hint.store(index as u8, Ordering::Relaxed);
            index
        };
        self.slots.get(index)?.fill(area.clone(), moved, bits, file)
    }

    /// The slot that has a part of `area`, or else an empty one.
    fn place_for(&self, area: &Range<usize>) -> Option<usize> {
        let own = self.slots.iter().position(|slot| slot.has_some_of(area));
        own.or_else(|| self.slots.iter().position(Slot::is_empty))
    }

    /// Forgets all areas with some of `range`, and tells `forgotten` of each, with its bits. The caller has the lock of the areas alone, and
    /// changes page tables afterwards.
    #[inline]
    pub fn forget(&self, range: &Range<usize>, mut forgotten: impl FnMut(Range<usize>, u8)) {
        if self.filled.load(Ordering::Relaxed) > 0 {
            for slot in self.slots.iter().filter(|slot| slot.has_some_of(range)) {
                let (area, bits) = slot.clear();
                forgotten(area, bits);
            }
        }
    }

    /// Forgets everything. The caller as for [`forget`](Self::forget).
    #[inline]
    pub fn forget_all(&self, forgotten: impl FnMut(Range<usize>, u8)) {
        if self.filled.load(Ordering::Relaxed) > 0 {
            self.forget(&(0..usize::MAX), forgotten);
            self.filled.store(0, Ordering::Relaxed);
        }
    }
}

impl<F> Slot<F> {
    #[inline]
    fn range(&self) -> Range<usize> {
        self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }

    #[inline]
    fn read(&self, page: usize) -> Option<Found<'_, F>> {
        let version = self.version.load(Ordering::Acquire);
        let range = self.range();
        if !range.contains(&page) {
            return None;
        }
        let moved = self.moved.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let found = Found { range, moved, slot: self, version };
        (version & ODD == 0 && found.is_still_so()).then_some(found)
    }

    /// Gives up when another fault fills it, or marks bits, at the same time.
    fn fill(
        &self,
        range: Range<usize>,
        moved: usize,
        bits: u8,
        file: Option<(Arc<F>, u64)>,
    ) -> Option<(Range<usize>, u8)> {
        let version = self.version.load(Ordering::Relaxed);
        if version & ODD != 0 {
            return None;
        }
        self.version.compare_exchange(version, version | ODD, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(self.write(version, range, moved, bits, file))
    }

    /// Empties it. Nobody fills it at the same time.
    #[inline(never)]
    fn clear(&self) -> (Range<usize>, u8) {
        let version = self.version.fetch_add(ODD, Ordering::Acquire);
        self.write(version, 0..0, 0, 0, None)
    }

    /// The caller has made the version odd that was `version`.
    #[inline]
    fn write(
        &self,
        version: usize,
        range: Range<usize>,
        moved: usize,
        bits: u8,
        file: Option<(Arc<F>, u64)>,
    ) -> (Range<usize>, u8) {
        fence(Ordering::Release);
        let before = self.range();
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.moved.store(moved, Ordering::Relaxed);
        if file.is_some() || !self.file.is_empty() {
            self.write_file(file);
        }
        let count = (version & !(COUNT - 1)).wrapping_add(COUNT);
        self.version.store(count | usize::from(bits) << BITS_SHIFT, Ordering::Release);
        (before, bits_of(version))
    }

    /// Waits for who is about to take a reference to the last file: some instructions.
    #[cold]
    fn write_file(&self, file: Option<(Arc<F>, u64)>) {
        let (file, first) = file.map_or((None, 0), |(file, first)| (Some(file), first));
        self.first.store(first, Ordering::Relaxed);
        drop(self.file.replace(file));
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.end.load(Ordering::Relaxed) == 0
    }

    #[inline]
    fn has_some_of(&self, range: &Range<usize>) -> bool {
        range.start < self.end.load(Ordering::Relaxed) && self.start.load(Ordering::Relaxed) < range.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1 << WINDOW_SHIFT;

    #[test]
    fn what_is_forgotten_is_not_found_and_no_longer_so() {
        let recent: RecentAreas<u32> = RecentAreas::new();
        let (area, page) = (3 * WINDOW - 0x1000..9 * WINDOW, 4 * WINDOW);
        assert!(recent.find(page).is_none());
        recent.put(page, &area, 0, 3, None);
        let found = recent.find(page + 0x1000).unwrap();
        assert_eq!((found.range.clone(), found.bits()), (area.clone(), 3));
        assert!(recent.find(area.start - 0x1000).is_none() && recent.find(area.end).is_none());
        assert!(recent.find(area.start).is_some() && recent.find(area.end - 0x1000).is_some());
        // What lies beside it is another matter.
        let not_this = |_, _| unreachable!();
        recent.forget(&(area.start - 0x1000..area.start), not_this);
        recent.forget(&(area.end..area.end + WINDOW), not_this);
        assert!(found.is_still_so());
        recent.forget(&(page + 0x5000..page + 0x6000), |range, bits| assert_eq!((range, bits), (area.clone(), 3)));
        assert!(!found.is_still_so() && recent.find(page).is_none());
    }

    #[test]
    fn what_is_marked_is_found_and_handed_over() {
        let recent: RecentAreas<u32> = RecentAreas::new();
        let area = WINDOW..2 * WINDOW;
        let put = || recent.put(area.start, &area, 0, 1, None);
        let found = || recent.find(area.start).unwrap();
        put();
        let before = found();
        before.mark(4);
        assert!(!before.is_still_so() && found().bits() == 5);
        before.mark(2);
        assert_eq!(found().bits(), 5, "a mark on what has changed");
        assert_eq!(put(), Some((area.clone(), 5)));
        assert_eq!(found().bits(), 1);
        found().mark(128);
        let before = found();
        let mut told = None;
        recent.forget_all(|range, bits| told = Some((range, bits)));
        assert_eq!(told, Some((area.clone(), 129)));
        before.mark(2);
        put();
        assert_eq!(found().bits(), 1);
    }

    #[test]
    fn a_file_is_kept_as_long_as_its_area_is_known() {
        let recent: RecentAreas<u32> = RecentAreas::new();
        let (area, file) = (WINDOW..2 * WINDOW, Arc::new(7));
        let put = |file| recent.put(area.start, &area, 0, 1, file);
        put(Some((file.clone(), 5)));
        let found = recent.find(area.start).unwrap();
        assert!(found.file().is_some_and(|(found, first)| Arc::ptr_eq(&found, &file) && first == 5));
        recent.forget(&area, |_, _| ());
        assert!(found.file().is_none() && Arc::strong_count(&file) == 1);
        put(Some((file.clone(), 6)));
        put(None);
        assert!(recent.find(area.start).unwrap().file().is_none() && Arc::strong_count(&file) == 1);
        put(Some((file.clone(), 6)));
        drop(recent);
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[test]
    fn so_many_areas_are_known_and_no_more() {
        let recent: RecentAreas<u32> = RecentAreas::new();
        let area = |number: usize| 2 * number * WINDOW..(2 * number + 1) * WINDOW;
        let known = |numbers: Range<usize>| numbers.filter(|&number| recent.find(area(number).start).is_some()).count();
        let put = |number: usize| _ = recent.put(area(number).start, &area(number), 0, number as u8, None);
        (1..=AREAS).for_each(put);
        assert_eq!(known(1..AREAS + 1), AREAS);
        assert!((1..=AREAS).all(|number| recent.find(area(number).start + 0x3000).unwrap().bits() == number as u8));
        // One that is put again, or has grown, takes no other's place; nor does one for which there is room.
        recent.put(area(3).start, &(area(3).start..area(3).end + 0x1000), 0, 7, None);
        assert_eq!((known(1..AREAS + 1), recent.find(area(3).end).unwrap().bits()), (AREAS, 7));
        recent.forget(&area(2), |_, _| ());
        put(20);
        assert_eq!((known(1..AREAS + 1), known(20..21)), (AREAS - 1, 1));
        put(21);
        assert_eq!((known(1..30), known(21..22)), (AREAS, 1));
        recent.forget_all(|_, _| ());
        assert_eq!(known(1..30), 0);
        put(1);
        assert_eq!(known(1..30), 1);
    }
}
