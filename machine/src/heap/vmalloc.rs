//! Mapped memory for what needs more than a few pages side by side: single frames, wherever they lie, shown at neighbouring
//! kernel addresses (Linux: mm/vmalloc.c).
//!
//! The area is cut into a region for each power of two, and a region into *slots* of that many pages, so a slot is aligned to its
//! size, and which slot an address lies in is arithmetic. Addresses are plenty: a slot has frames only for the pages that
//! were asked for, always the first ones of the slot. Free slots form lists through the entries of their own first pages, so
//! that managing memory needs none.
//!
//! **Translations are forgotten late.** The frames of a slot that is freed go back at once; CPUs may still have translations of
//! its addresses cached, which nobody uses. The slot waits in the list of stale ones and is used again after all CPUs have
//! forgotten the whole area, which happens once for many slots. The pages of a slot in use only ever change from absent to
//! present, which no CPU caches.
//!
//! One spin lock guards the lists and the making of tables. A slot's entries belong to whoever took the slot. All CPUs are
//! made to forget under that lock: who waits for it answers meanwhile ([`crate::cpu::relax`]).

use crate::lock::SpinLock;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Pages of a region: 64 GiB.
const REGION: usize = 1 << 24;
/// Regions, and the orders of their slots.
const ORDERS: usize = 25;
/// Pages of the whole area.
pub const AREA: usize = ORDERS * REGION;
/// Pages of stale slots after which all CPUs are made to forget: 32 MiB, as on Linux.
const MOST_STALE: usize = 8192;
/// In an entry: a frame is there. Without it, the entry is ours.
const PRESENT: u64 = 1;

/// The page-table entries of the area, and what they are filled with.
///
/// # Safety
/// `take_frame` gives an entry, with bit 0 set, for a frame that nobody else uses until `give_frame`, and `forget` returns after
/// no CPU has a translation that was removed before.
pub unsafe trait Area {
    /// Makes the tables for `pages`; entries are 0 at first. False if memory is out. Called by one at a time.
    fn prepare(&self, pages: Range<usize>) -> bool;
    /// The entry of a page; 0 if its table was not made.
    fn entry(&self, page: usize) -> u64;
    /// Changes the entry of a page whose table was made.
    fn set_entry(&self, page: usize, entry: u64);
    /// A frame.
    fn take_frame(&self) -> Option<u64>;
    /// Gives a frame back.
    ///
    /// # Safety
    /// It came from `take_frame`, and is not used any more.
    unsafe fn give_frame(&self, entry: u64);
    /// Makes all CPUs forget the area's translations.
    fn forget(&self);
}

/// The free slots of a region.
#[derive(Clone, Copy)]
struct Slots {
    /// Links to the first slot of each list.
    clean: u64,
    stale: u64,
    /// The next slot that was never used.
    fresh: usize,
}

struct Lists {
    slots: [Slots; ORDERS],
    /// Pages of all stale slots.
    stale: usize,
}

/// Mapped memory in an area. Pages are counted from the start of the area.
pub struct Vmalloc<A> {
    area: A,
    lists: SpinLock<Lists>,
    /// Frames in use.
    frames: AtomicUsize,
}

/// The region of a page is the order of its slot.
#[inline]
const fn order_of_slot(page: usize) -> usize {
    page / REGION
}

/// The smallest order that has so many pages.
#[inline]
pub const fn order_for(pages: usize) -> usize {
    (usize::BITS - pages.saturating_sub(1).leading_zeros()) as usize
}

/// The link to a slot: not 0, and no entry that is present.
const fn link_to(page: usize) -> u64 {
    (page as u64 + 1) << 1
}

/// The slot a link leads to, if to any.
const fn linked(link: u64) -> Option<usize> {
    ((link >> 1) as usize).checked_sub(1)
}

impl<A: Area> Vmalloc<A> {
    /// With nothing in it.
    pub const fn new(area: A) -> Vmalloc<A> {
        let lists = Lists { slots: [Slots { clean: 0, stale: 0, fresh: 0 }; ORDERS], stale: 0 };
        Vmalloc { area, lists: SpinLock::new(lists), frames: AtomicUsize::new(0) }
    }

    /// Frames in use, those of tables left out.
    pub fn frames(&self) -> usize {
        self.frames.load(Relaxed)
    }

    /// Maps `pages` pages; returns the first one, aligned to the next power of two. None if memory is out.
    pub fn allocate(&self, pages: usize) -> Option<usize> {
        let first = self.take_slot(pages)?;
        if self.fill(first..first + pages) {
            return Some(first);
        }
        self.give_slot(first);
        None
    }

    /// Takes back what begins at `first`.
    ///
    /// # Safety
    /// It came from `allocate` or `resize`, and is not used any more.
    pub unsafe fn free(&self, first: usize) {
        // SAFETY: by contract of the caller.
        unsafe { self.empty(first..first + (1 << order_of_slot(first))) };
        self.give_slot(first);
    }

    /// Makes the `old` pages at `first` `new` pages, in place or by showing the same frames elsewhere; nothing is copied. None
    /// if memory is out: then nothing has changed.
    ///
    /// # Safety
    /// As for `free`; `old` is the number of pages asked for, and on success only the result is used any more.
    pub unsafe fn resize(&self, first: usize, old: usize, new: usize) -> Option<usize> {
        let order = order_of_slot(first);
        if order_for(new) == order || (new >= old && new <= 1 << order) {
            // What has become too much stays until the end, at most as much as is used.
            let added = first + old.min(new)..first + new;
            return (self.prepare(added.clone()) && self.fill(added)).then_some(first);
        }
        let target = self.take_slot(new)?;
        let kept = old.min(new);
        if !self.fill(target + kept..target + new) {
            self.give_slot(target);
            return None;
        }
        for page in 0..kept {
            self.area.set_entry(target + page, self.area.entry(first + page));
            self.area.set_entry(first + page, 0);
        }
        // SAFETY: by contract of the caller nobody uses what is left there.
        unsafe { self.empty(first + kept..first + (1 << order)) };
        self.give_slot(first);
        Some(target)
    }

    fn prepare(&self, pages: Range<usize>) -> bool {
        let _one_at_a_time = self.lists.lock();
        self.area.prepare(pages)
    }

    /// Gives each of the pages a frame that has none yet. If memory is out, takes those back, and returns false.
    fn fill(&self, pages: Range<usize>) -> bool {
        let present = pages.clone().take_while(|page| self.area.entry(*page) & PRESENT != 0).count();
        let absent = pages.start + present..pages.end;
        for page in absent.clone() {
            let Some(entry) = self.area.take_frame() else {
                // SAFETY: these frames were taken just now.
                unsafe { self.empty(absent.start..page) };
                return false;
            };
            self.area.set_entry(page, entry);
            self.frames.fetch_add(1, Relaxed);
        }
        true
    }

    /// Gives back the frames of the pages, up to the first that has none.
    ///
    /// # Safety
    /// The pages are part of a slot the caller has, and are not used any more.
    unsafe fn empty(&self, pages: Range<usize>) {
        for page in pages {
            let entry = self.area.entry(page);
            if entry & PRESENT == 0 {
                return;
            }
            self.area.set_entry(page, 0);
            self.frames.fetch_sub(1, Relaxed);
            // SAFETY: it was the entry's, which is gone.
            unsafe { self.area.give_frame(entry) };
        }
    }

    /// A slot of at least `pages` pages with tables for these, and no frames.
    fn take_slot(&self, pages: usize) -> Option<usize> {
        let lists = &mut *self.lists.lock();
        if lists.stale > MOST_STALE {
            self.clean(lists);
        }
        for order in order_for(pages)..ORDERS {
            if let Some(first) = self.take_slot_of(lists, order, pages) {
                return first;
            }
        }
        None
    }

    /// A slot of the order, if there is one; and in it none, if memory for tables is out.
    fn take_slot_of(&self, lists: &mut Lists, order: usize, pages: usize) -> Option<Option<usize>> {
        if lists.slots.get(order)?.stale != 0 && lists.slots.get(order)?.fresh == REGION >> order {
            self.clean(lists);
        }
        let slots = lists.slots.get_mut(order)?;
        let Some(first) = linked(slots.clean) else {
            let first = Some(order * REGION + (slots.fresh << order)).filter(|_| slots.fresh < REGION >> order)?;
            let prepared = self.area.prepare(first..first + pages);
            slots.fresh += usize::from(prepared);
            return Some(prepared.then_some(first));
        };
        if !self.area.prepare(first..first + pages) {
            return Some(None); // it was used for fewer pages before
        }
        slots.clean = self.area.entry(first);
        self.area.set_entry(first, 0);
        Some(Some(first))
    }

    /// Takes back a slot without frames.
    fn give_slot(&self, first: usize) {
        let lists = &mut *self.lists.lock();
        let order = order_of_slot(first);
        if let Some(slots) = lists.slots.get_mut(order) {
            self.area.set_entry(first, slots.stale);
            slots.stale = link_to(first);
            lists.stale += 1 << order;
        }
    }

    /// Makes all stale slots clean.
    #[cold]
    fn clean(&self, lists: &mut Lists) {
        self.area.forget();
        for slots in &mut lists.slots {
            // A list is put before the other; which is walked does not matter, as each slot is walked once in its life as stale.
            let mut last = None;
            let mut next = linked(slots.stale);
            while let Some(slot) = next {
                (last, next) = (Some(slot), linked(self.area.entry(slot)));
            }
            if let Some(last) = last {
                self.area.set_entry(last, slots.clean);
                slots.clean = core::mem::take(&mut slots.stale);
            }
        }
        lists.stale = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    /// An area in a map, with so many frames, tables of 8 pages that cost a frame, and a TLB that remembers whatever was mapped.
    #[derive(Default)]
    struct Model {
        entries: BTreeMap<usize, u64>,
        free: Vec<u64>,
        used: BTreeSet<u64>,
        tables: usize,
        cached: BTreeMap<usize, u64>,
        forgotten: usize,
    }

    struct TestArea(Mutex<Model>);

    impl TestArea {
        fn new(frames: u64) -> TestArea {
            TestArea(Mutex::new(Model { free: (1..=frames).map(|frame| frame << 12).collect(), ..Model::default() }))
        }
    }

    // SAFETY: nothing is ever really mapped.
    unsafe impl Area for TestArea {
        fn prepare(&self, pages: Range<usize>) -> bool {
            let model = &mut *self.0.lock().unwrap();
            for table in pages.start / 8..pages.end.div_ceil(8) {
                if model.entries.contains_key(&(table * 8)) {
                    continue;
                }
                if model.free.pop().is_none() {
                    return false;
                }
                model.tables += 1;
                model.entries.extend((table * 8..table * 8 + 8).map(|page| (page, 0)));
            }
            true
        }

        fn entry(&self, page: usize) -> u64 {
            self.0.lock().unwrap().entries.get(&page).copied().unwrap_or_default()
        }

        fn set_entry(&self, page: usize, entry: u64) {
            let model = &mut *self.0.lock().unwrap();
            let old = model.entries.insert(page, entry).expect("a table for the page");
            if entry & PRESENT != 0 {
                assert_eq!(old & PRESENT, 0, "present to present");
                assert!(model.used.contains(&(entry & !PRESENT)));
                let cached = *model.cached.entry(page).or_insert(entry);
                assert_eq!(cached, entry, "page {page:#x} is used again before the CPUs have forgotten it");
            }
        }

        fn take_frame(&self) -> Option<u64> {
            let model = &mut *self.0.lock().unwrap();
            let frame = model.free.pop()?;
            assert!(model.used.insert(frame));
            Some(frame | PRESENT)
        }

        unsafe fn give_frame(&self, entry: u64) {
            let model = &mut *self.0.lock().unwrap();
            let frame = entry & !PRESENT;
            assert!(model.used.remove(&frame), "given back twice");
            model.free.push(frame);
        }

        fn forget(&self) {
            let model = &mut *self.0.lock().unwrap();
            model.forgotten += 1;
            model.cached.clear();
        }
    }

    fn frames(vmalloc: &Vmalloc<TestArea>, pages: Range<usize>) -> Vec<u64> {
        pages.map(|page| vmalloc.area.entry(page)).collect()
    }

    #[test]
    fn what_is_mapped_is_aligned_and_its_own() {
        let vmalloc = Vmalloc::new(TestArea::new(100));
        let (first, second) = (vmalloc.allocate(9).unwrap(), vmalloc.allocate(16).unwrap());
        assert!(first.is_multiple_of(16) && second.is_multiple_of(16) && first != second);
        assert_eq!(vmalloc.frames(), 25);
        assert!(vmalloc.allocate(AREA).is_none() && vmalloc.allocate(usize::MAX).is_none());
        assert_eq!(vmalloc.area.entry(first + 9), 0, "no frame that was not asked for");
        // SAFETY: nothing is really mapped.
        unsafe { vmalloc.free(first) };
        assert_eq!((vmalloc.frames(), vmalloc.area.0.lock().unwrap().used.len()), (16, 16));
        assert_ne!(vmalloc.allocate(9), Some(first), "not before the CPUs have forgotten it");
    }

    #[test]
    fn growing_keeps_the_frames() {
        let vmalloc = Vmalloc::new(TestArea::new(200));
        let first = vmalloc.allocate(5).unwrap();
        let kept = frames(&vmalloc, first..first + 5);
        // SAFETY: nothing is really mapped.
        unsafe {
            assert_eq!(vmalloc.resize(first, 5, 8), Some(first), "in place");
            let moved = vmalloc.resize(first, 8, 20).unwrap();
            assert_eq!((&frames(&vmalloc, moved..moved + 5), vmalloc.frames()), (&kept, 20));
            assert_eq!(vmalloc.resize(moved, 20, 1000), None);
            assert_eq!((&frames(&vmalloc, moved..moved + 5), vmalloc.frames()), (&kept, 20));
            assert_eq!(vmalloc.resize(moved, 20, 17), Some(moved));
            let small = vmalloc.resize(moved, 17, 3).unwrap();
            assert_eq!((&frames(&vmalloc, small..small + 3), vmalloc.frames()), (&kept[..3].to_vec(), 3));
            vmalloc.free(small);
        }
        assert_eq!(vmalloc.frames(), 0);
    }

    #[test]
    fn shortage_at_any_frame_loses_nothing() {
        for frames in 0..60 {
            let vmalloc = Vmalloc::new(TestArea::new(frames));
            let mut live = Vec::new();
            for pages in [3, 9, 1, 17, 8] {
                live.extend(vmalloc.allocate(pages).map(|first| (first, pages)));
            }
            for (first, pages) in live {
                // SAFETY: nothing is really mapped.
                unsafe {
                    let (first, _) =
                        vmalloc.resize(first, pages, pages * 3).map_or((first, pages), |new| (new, pages * 3));
                    vmalloc.free(first);
                }
            }
            let model = vmalloc.area.0.lock().unwrap();
            assert_eq!(model.free.len() + model.tables, frames as usize);
            assert!(model.used.is_empty() && vmalloc.frames() == 0);
        }
    }

    #[test]
    fn a_slot_that_could_not_be_filled_comes_back() {
        // One for the table, and too few for the pages.
        let vmalloc = Vmalloc::new(TestArea::new(4));
        assert_eq!((vmalloc.allocate(5), vmalloc.frames()), (None, 0));
        assert_eq!(vmalloc.lists.lock().stale, 8);
    }

    #[test]
    fn slots_are_used_again_after_the_cpus_have_forgotten() {
        let vmalloc = Vmalloc::new(TestArea::new(3000));
        let mut live: Vec<(usize, usize)> = Vec::new();
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let steps = if cfg!(miri) { 300 } else { 2_000 };
        for _ in 0..steps {
            if live.len() < 10 {
                let pages = 1 + random(100);
                live.extend(vmalloc.allocate(pages).map(|first| (first, pages)));
            }
            let (first, pages) = live.swap_remove(random(live.len()));
            // SAFETY: nothing is really mapped.
            unsafe {
                match random(3) {
                    0 => vmalloc.free(first),
                    _ => {
                        let new = 1 + random(150);
                        live.push(vmalloc.resize(first, pages, new).map_or((first, pages), |moved| (moved, new)));
                    }
                }
            }
            let mut pages: Vec<_> = live.iter().map(|(first, pages)| *first..first + pages).collect();
            pages.sort_unstable_by_key(|pages| pages.start);
            assert!(pages.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
        let model = vmalloc.area.0.lock().unwrap();
        assert!(model.tables < 2500, "{} tables", model.tables);
        assert!(cfg!(miri) || (model.forgotten > 10 && model.forgotten < steps / 20), "{}", model.forgotten);
    }
}
