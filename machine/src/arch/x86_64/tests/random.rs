//! Random changes of two spaces, against a plain map of pages: the page tables of `pc`, and the host machine's spaces.

use super::paging::Tables;
use super::table::Entry;
use super::{frames, shootdown};
use crate::memory::{
    Access, Frame, FrameRun, Mapping, OutOfMemory, PAGE_SIZE, Space, SwapEntries, SwapEntry, SwappedOut, records,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What both kinds of space can do.
trait Pages: Sized {
    /// The end of user space.
    const TOP: usize;
    const HAS_HUGE_PAGES: bool;
    fn new(counts: Arc<Counts>) -> Self;
    fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory>;
    fn map_huge(&self, start: usize, run: FrameRun, access: Access) -> Result<bool, OutOfMemory>;
    fn is_huge(&self, page: usize) -> bool;
    fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize>;
    fn protect(&self, range: Range<usize>, access: Access);
    fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory>;
    fn share_with(&self, child: &Self, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory>;
    fn break_copy_on_write(&self, page: usize, access: Access) -> Result<bool, OutOfMemory>;
    fn swap_out(&self, page: usize, frame: usize, entry: SwapEntry) -> Option<SwappedOut>;
    fn swap_in(&self, page: usize, entry: SwapEntry, frame: Frame, access: Access) -> Result<bool, OutOfMemory>;
    fn swap_entry(&self, page: usize) -> Option<SwapEntry>;
    fn map_over_nothing(&self, page: usize, frame: Frame, access: Access) -> Result<bool, OutOfMemory>;
    fn lookup(&self, page: usize) -> Option<Mapping>;
    fn frame_at(&self, page: usize) -> Option<Frame>;
    fn resident(&self) -> usize;
    /// A program's access, if there is a CPU for it.
    fn access(&self, page: usize, write: bool) -> Option<bool>;
    /// The translations of the space that a CPU still has: page, frame, writable.
    fn cached(&self) -> Vec<(usize, usize, bool)>;
    /// Whether a CPU still has a table that was freed.
    fn has_old_table(&self) -> bool;
}

macro_rules! same {
    () => {
        fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
            (**self).map(page, frame, access)
        }
        fn map_huge(&self, start: usize, run: FrameRun, access: Access) -> Result<bool, OutOfMemory> {
            (**self).map_huge(start, run, access, || true)
        }
        fn is_huge(&self, page: usize) -> bool {
            (**self).is_huge(page)
        }
        fn protect(&self, range: Range<usize>, access: Access) {
            (**self).gather().protect(range, access);
        }
        fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
            (**self).gather().move_range(from, to)
        }
        fn share_with(&self, child: &Self, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
            (**self).gather().share_with(child, range, copy_on_write)
        }
        fn break_copy_on_write(&self, page: usize, access: Access) -> Result<bool, OutOfMemory> {
            (**self).break_copy_on_write(page, access, 0, || true)
        }
        fn swap_out(&self, page: usize, frame: usize, entry: SwapEntry) -> Option<SwappedOut> {
            (**self).gather().swap_out(page, frame, entry)
        }
        fn swap_in(&self, page: usize, entry: SwapEntry, frame: Frame, access: Access) -> Result<bool, OutOfMemory> {
            (**self).swap_in(page, entry, frame, access)
        }
        fn swap_entry(&self, page: usize) -> Option<SwapEntry> {
            (**self).swap_entry(page)
        }
        fn map_over_nothing(&self, page: usize, frame: Frame, access: Access) -> Result<bool, OutOfMemory> {
            (**self).map_over(page, None, frame, access, || true)
        }
        fn lookup(&self, page: usize) -> Option<Mapping> {
            (**self).lookup(page)
        }
        fn frame_at(&self, page: usize) -> Option<Frame> {
            (**self).frame_at(page)
        }
        fn resident(&self) -> usize {
            (**self).resident()
        }
    };
}

impl Pages for Box<Tables> {
    const TOP: usize = super::paging::USER_TOP;
    const HAS_HUGE_PAGES: bool = true;
    same!();

    fn new(counts: Arc<Counts>) -> Self {
        Box::new(Tables::new(Some(counts)).unwrap())
    }

    fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        (**self).gather().unmap(range, budget)
    }

    fn access(&self, page: usize, write: bool) -> Option<bool> {
        Some(shootdown::access(self.root(), page, write))
    }

    fn has_old_table(&self) -> bool {
        shootdown::has_old_table(self.root())
    }

    fn cached(&self) -> Vec<(usize, usize, bool)> {
        let own = shootdown::cached().into_iter().filter(|(root, ..)| *root == self.root());
        own.map(|(_, page, entry)| (page, entry.frame().unwrap().get() as usize, entry.has(Entry::WRITABLE))).collect()
    }
}

impl Pages for Arc<Space> {
    const TOP: usize = crate::memory::USER_TOP;
    const HAS_HUGE_PAGES: bool = crate::memory::HUGE_PAGE_ORDER.is_some();
    same!();

    fn new(counts: Arc<Counts>) -> Self {
        Space::with_swap(counts).unwrap()
    }

    fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        (**self).gather().unmap_some(range, budget).map(usize::from)
    }

    fn access(&self, _page: usize, _write: bool) -> Option<bool> {
        None
    }

    fn has_old_table(&self) -> bool {
        false
    }

    fn cached(&self) -> Vec<(usize, usize, bool)> {
        Vec::new()
    }
}

/// Bytes of a huge page.
const HUGE: usize = PAGE_SIZE << 9;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    frame: usize,
    access: Access,
    copy_on_write: bool,
    accessed: bool,
    dirty: bool,
}

impl Page {
    fn can_write(&self) -> bool {
        self.access.contains(Access::WRITE) && !self.copy_on_write
    }
}

type Model = BTreeMap<usize, Page>;

/// A list of pseudo-random numbers, the same in every run.
struct Random {
    seed: u64,
    /// The end of user space.
    top: usize,
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) as usize % limit
    }

    /// Pages about three borders of tables of every level, and at the top.
    fn page(&mut self) -> usize {
        let around = [0x20_0000, 0x4000_0000, 0x80_0000_0000, self.top - 8 * PAGE_SIZE][self.below(4)];
        around - 8 * PAGE_SIZE + self.below(16) * PAGE_SIZE
    }

    /// 2 MiB, before or behind one of the borders.
    fn huge(&mut self) -> Range<usize> {
        let border = [0x20_0000, 0x4000_0000, 0x80_0000_0000][self.below(3)];
        let start = border - self.below(2) * HUGE;
        start..start + HUGE
    }

    fn range(&mut self) -> Range<usize> {
        let start = self.page();
        match self.below(10) {
            8 | 9 => self.huge(),
            0 => 0..self.top,
            1 => start..self.top.min(start + (PAGE_SIZE << 10)),
            _ => start..self.top.min(start + (1 + self.below(12)) * PAGE_SIZE),
        }
    }

    fn access(&mut self) -> Access {
        let read = Access::READ;
        [Access::empty(), read, read | Access::WRITE, read | Access::EXECUTE, Access::all() - Access::COPY_ON_WRITE]
            [self.below(5)]
    }
}

fn pages_in(model: &Model, range: &Range<usize>) -> Vec<usize> {
    model.range(range.clone()).map(|(page, _)| *page).collect()
}

/// Two spaces, what they should be, and frames that may be mapped.
struct World<P> {
    spaces: [P; 2],
    models: [Model; 2],
    swapped: [BTreeMap<usize, SwapEntry>; 2],
    counts: Arc<Counts>,
    frames: Vec<Frame>,
}

/// In how many places each swap entry stands.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<SwapEntry, usize>>);

impl SwapEntries for Counts {
    fn duplicate(&self, entry: SwapEntry) {
        *self.0.lock().unwrap().entry(entry).or_default() += 1;
    }

    fn release(&self, entry: SwapEntry) {
        let mut counts = self.0.lock().unwrap();
        let count = counts.get_mut(&entry).expect("it is somewhere");
        *count -= 1;
        if *count == 0 {
            counts.remove(&entry);
        }
    }
}

impl<P: Pages> World<P> {
    fn new() -> World<P> {
        let frames = (0..6).map(|_| Frame::zeroed().unwrap()).collect();
        let counts = Arc::new(Counts::default());
        let spaces = [P::new(counts.clone()), P::new(counts.clone())];
        World { spaces, models: Default::default(), swapped: Default::default(), counts, frames }
    }

    fn step(&mut self, random: &mut Random) {
        let which = random.below(2);
        let (space, model, swapped) = (&self.spaces[which], &mut self.models[which], &mut self.swapped[which]);
        if P::HAS_HUGE_PAGES && random.below(24) == 0 {
            return self.map_huge(which, random);
        }
        match random.below(14) {
            0..3 => {
                let page = random.page();
                let frame = match random.below(3) {
                    0 => Frame::zeroed().unwrap(),
                    _ => self.frames[random.below(6)].clone(),
                };
                let copy_on_write = random.below(3) == 0;
                let access = random.access();
                let (number, dirty) = (frame.number(), false);
                let flag = if copy_on_write { Access::COPY_ON_WRITE } else { Access::empty() };
                space.map(page, frame, access | flag).unwrap();
                model.insert(page, Page { frame: number, access, copy_on_write, accessed: false, dirty });
                swapped.remove(&page);
            }
            3 => {
                let range = random.range();
                let budget = if random.below(2) == 0 { usize::MAX } else { 1 + random.below(8) };
                let left = space.unmap(range.clone(), budget).unwrap_or(range.end);
                assert!(left > range.start && (budget < usize::MAX || left == range.end));
                model.retain(|page, _| !(range.start..left).contains(page));
                swapped.retain(|page, _| !(range.start..left).contains(page));
            }
            4 => {
                let (range, access) = (random.range(), random.access());
                space.protect(range.clone(), access);
                model.range_mut(range).for_each(|(_, page)| page.access = access);
            }
            5 => {
                let from = random.range();
                let to = random.page();
                let end = to + from.len();
                if end <= P::TOP && (to >= from.end || end <= from.start) {
                    space.move_range(from.clone(), to).unwrap();
                    model.retain(|page, _| !(to..end).contains(page));
                    for page in pages_in(model, &from) {
                        let moved = model.remove(&page).unwrap();
                        model.insert(page - from.start + to, moved);
                    }
                    let at = |page: usize| if from.contains(&page) { page - from.start + to } else { page };
                    swapped.retain(|page, _| !(to..end).contains(page));
                    *swapped = std::mem::take(swapped).into_iter().map(|(page, entry)| (at(page), entry)).collect();
                }
            }
            10 | 11 => {
                let page = random.page();
                let entry = SwapEntry::new([1, 0x7ff, 0x800, SwapEntry::MOST][random.below(4)]).unwrap();
                assert_eq!(space.swap_out(page, usize::MAX, entry), None);
                if let Some(gone) = model.remove(&page) {
                    let out = space.swap_out(page, gone.frame, entry).unwrap();
                    assert!((out.accessed || !gone.accessed) && (out.dirty || !gone.dirty), "{page:#x}");
                    swapped.insert(page, entry);
                }
            }
            12 | 13 => {
                let (page, frame) = (random.page(), Frame::zeroed().unwrap());
                let entry = swapped.get(&page).copied();
                let is_vacant = entry.is_none() && !model.contains_key(&page);
                let wrong = SwapEntry::new(3).unwrap();
                assert!(!space.swap_in(page, wrong, frame.clone(), Access::READ).unwrap());
                let number = frame.number();
                let access = random.access();
                match entry {
                    Some(entry) if random.below(3) > 0 => assert!(space.swap_in(page, entry, frame, access).unwrap()),
                    _ if is_vacant => assert!(space.map_over_nothing(page, frame, access).unwrap()),
                    _ => return assert!(!space.map_over_nothing(page, frame, access).unwrap()),
                }
                swapped.remove(&page);
                model.insert(page, Page { frame: number, access, copy_on_write: false, accessed: false, dirty: false });
            }
            6 => self.share(which, random.range(), random.below(2) == 0),
            7 => {
                let (page, access) = (random.page(), random.access());
                let found = space.break_copy_on_write(page, access).unwrap();
                assert_eq!(found, model.contains_key(&page));
                if let Some(page_of_model) = model.get_mut(&page) {
                    let now = space.lookup(page).unwrap().frame_number;
                    let others = self.frames.iter().any(|frame| frame.number() == page_of_model.frame);
                    assert!(!(page_of_model.copy_on_write && others && now == page_of_model.frame), "not a copy");
                    assert!(page_of_model.copy_on_write || now == page_of_model.frame, "a copy that nobody asked for");
                    *page_of_model = Page { frame: now, access, copy_on_write: false, ..*page_of_model };
                }
            }
            _ => {
                let (page, write) = (random.page(), random.below(2) == 0);
                let right = |page: &Page| !page.access.is_empty() && (!write || page.can_write());
                let allowed = model.get(&page).is_some_and(right);
                if let Some(done) = space.access(page, write) {
                    // A fault that needs none is no harm: a translation that allows less may be cached.
                    assert!(!done || allowed, "an access that must not be at {page:#x}, {write}");
                    if let Some(page) = model.get_mut(&page).filter(|_| done) {
                        (page.accessed, page.dirty) = (true, page.dirty || write);
                    }
                }
            }
        }
    }

    fn map_huge(&mut self, which: usize, random: &mut Random) {
        let (space, model) = (&self.spaces[which], &mut self.models[which]);
        let (range, access) = (random.huge(), random.access());
        let run = FrameRun::zeroed(9).unwrap();
        let first = run.numbers().start;
        let is_mapped = space.map_huge(range.start, run, access).unwrap();
        let is_empty =
            model.range(range.clone()).next().is_none() && self.swapped[which].range(range.clone()).next().is_none();
        assert_eq!(is_mapped, is_empty);
        assert!(!is_mapped || space.is_huge(range.end - 1));
        for (index, page) in range.step_by(PAGE_SIZE).enumerate().filter(|_| is_mapped) {
            let frame = first + index;
            model.insert(page, Page { frame, access, copy_on_write: false, accessed: true, dirty: true });
        }
    }

    fn share(&mut self, which: usize, range: Range<usize>, copy_on_write: bool) {
        let child = 1 - which;
        self.spaces[child].unmap(range.clone(), usize::MAX);
        self.models[child].retain(|page, _| !range.contains(page));
        self.spaces[which].share_with(&self.spaces[child], range.clone(), copy_on_write).unwrap();
        for page in pages_in(&self.models[which], &range) {
            let shared = self.models[which].get_mut(&page).unwrap();
            shared.copy_on_write |= copy_on_write;
            let shared = *shared;
            self.models[child].insert(page, shared);
        }
        self.swapped[child].retain(|page, _| !range.contains(page));
        let copies: Vec<_> = self.swapped[which].range(range).map(|(page, entry)| (*page, *entry)).collect();
        self.swapped[child].extend(copies);
    }

    fn check(&self) {
        let mut places: BTreeMap<SwapEntry, usize> = BTreeMap::new();
        for (space, swapped) in self.spaces.iter().zip(&self.swapped) {
            for (page, entry) in swapped {
                assert_eq!((space.swap_entry(*page), space.lookup(*page)), (Some(*entry), None), "{page:#x}");
                *places.entry(*entry).or_default() += 1;
            }
        }
        assert_eq!(*self.counts.0.lock().unwrap(), places);
        let mut owners: BTreeMap<usize, u32> = self.frames.iter().map(|frame| (frame.number(), 1)).collect();
        for (space, model) in self.spaces.iter().zip(&self.models) {
            assert_eq!(space.resident(), model.len());
            assert!(!space.has_old_table(), "a table that was freed is cached");
            for (page, expected) in model {
                let found = space.lookup(*page).unwrap_or_else(|| panic!("nothing at {page:#x}"));
                let mut access = expected.access;
                access.set(Access::WRITE, expected.can_write());
                assert_eq!(
                    (found.frame_number, found.access, found.copy_on_write),
                    (expected.frame, access, expected.copy_on_write),
                    "{page:#x}"
                );
                assert!((found.accessed || !expected.accessed) && (found.dirty || !expected.dirty), "{page:#x}");
                *owners.entry(expected.frame).or_default() += 1;
            }
            for (page, frame, writable) in space.cached() {
                let expected = model.get(&page).unwrap_or_else(|| panic!("{page:#x} is still cached"));
                assert!(expected.frame == frame && !expected.access.is_empty(), "an old frame is cached at {page:#x}");
                assert!(!writable || expected.can_write(), "an old right is cached at {page:#x}");
            }
        }
        for (number, count) in owners {
            assert_eq!(records()[number].references(), count, "owners of frame {number:#x}");
        }
    }
}

fn run<P: Pages>(seeds: Range<u64>, steps: usize) {
    for seed in seeds {
        let mut random = Random { seed, top: P::TOP };
        let mut world = World::<P>::new();
        for step in 0..steps {
            world.step(&mut random);
            if step % 4 == 0 {
                world.check();
            }
        }
        world.check();
        drop(world.spaces);
        assert!(world.counts.0.lock().unwrap().is_empty(), "seed {seed}");
        for frame in &world.frames {
            assert_eq!(frame.references(), 1, "seed {seed}");
        }
    }
}

#[test]
fn page_tables_are_what_a_map_of_pages_is() {
    run::<Box<Tables>>(0..30, 800);
}

#[test]
fn spaces_of_the_host_machine_are_what_a_map_of_pages_is() {
    run::<Arc<Space>>(0..8, 400);
}

/// The move either completes or changes nothing, wherever tables run out; and no table is lost.
#[test]
fn a_move_without_memory_changes_nothing() {
    const TARGET: usize = 0x7000_0000_0000 - 3 * PAGE_SIZE; // four tables and more
    let start = 0x40_0000 - 2 * PAGE_SIZE;
    let range = start..start + 6 * PAGE_SIZE;
    let access = Access::READ | Access::WRITE;
    for tables in 0..9 {
        frames::allow(usize::MAX);
        let frame = Frame::zeroed().unwrap();
        let space = Tables::new(None).unwrap();
        for page in range.clone().step_by(PAGE_SIZE) {
            space.map(page, frame.clone(), access).unwrap();
        }
        let old = Frame::zeroed().unwrap();
        space.map(TARGET, old.clone(), access).unwrap();
        let before = space.tables();
        frames::allow(tables);
        let moved = space.gather().move_range(range.clone(), TARGET).is_ok();
        assert_eq!(moved, tables >= 3, "three tables are missing");
        let expected = if moved { TARGET } else { start };
        for (at, page) in (expected..expected + range.len()).step_by(PAGE_SIZE).enumerate() {
            assert_eq!(space.lookup(page).map(|page| page.frame_number), Some(frame.number()), "{tables}: page {at}");
        }
        assert_eq!((frame.references(), space.resident()), (7, if moved { 6 } else { 7 }));
        assert_eq!(old.references(), if moved { 1 } else { 2 });
        assert!(moved || space.tables() == before, "tables are left over");
        drop(space);
        assert_eq!(frame.references(), 1);
    }
}

/// The first page of a table of every level.
const FIRST: usize = 0x80_0000_0000;

/// Wherever tables run out, nothing is shown, no reference is kept, and the tables there are serve the next try.
#[test]
fn a_page_without_a_table_is_not_there() {
    let access = Access::READ | Access::WRITE;
    for missing in 1..4 {
        for tables in 0..missing {
            let frame = Frame::zeroed().unwrap();
            let space = Tables::new(None).unwrap();
            // What is there already has some of the tables.
            let neighbour = FIRST
                + match missing {
                    1 => 0x20_0000,
                    2 => 0x4000_0000,
                    _ => 0x80_0000_0000,
                };
            space.map(neighbour, frame.clone(), access).unwrap();
            frames::allow(tables);
            let refused = space.map(FIRST, frame.clone(), access);
            let batch = space.map_batch(FIRST, [(); 3].into_iter().map(|()| frame.clone()), access, || true);
            frames::allow(usize::MAX);
            assert_eq!((refused, batch), (Err(OutOfMemory), Err(OutOfMemory)), "{tables} of {missing}");
            assert_eq!((space.lookup(FIRST), space.resident(), frame.references()), (None, 1, 2));
            assert!(!shootdown::access(space.root(), FIRST, false) && shootdown::access(space.root(), neighbour, true));
            assert_eq!(space.tables(), 3 + tables);
            space.map(FIRST, frame.clone(), access).unwrap();
            assert_eq!((space.tables(), space.resident(), frame.references()), (3 + missing, 2, 3));
            assert!(shootdown::access(space.root(), FIRST, true));
            drop(space);
            assert_eq!(frame.references(), 1);
        }
    }
}

/// The leaf table that became empty last serves the next page there without memory, but there is one such table, not more.
#[test]
fn one_empty_table_is_kept() {
    let access = Access::READ | Access::WRITE;
    let (frame, space) = (Frame::zeroed().unwrap(), Tables::new(None).unwrap());
    let fill_and_empty = |page: usize| {
        space.map(page, frame.clone(), access).unwrap();
        space.gather().unmap(page..page + PAGE_SIZE, usize::MAX);
        assert_eq!((space.tables(), space.resident(), frame.references()), (3, 0, 1));
    };
    fill_and_empty(FIRST);
    frames::allow(0);
    fill_and_empty(FIRST + PAGE_SIZE);
    frames::allow(usize::MAX);
    for leaf in [1, 5, 512, 3] {
        fill_and_empty(FIRST + (leaf << 21));
        assert!(!shootdown::access(space.root(), FIRST, false));
    }
    space.map(FIRST, frame.clone(), access).unwrap();
    space.gather().unmap(0..super::paging::USER_TOP, usize::MAX);
    assert_eq!(space.tables(), 0, "all go when all is emptied");
}

/// A run that goes over the end of a table ends there if there is no other; a child that gets no table leaves its parent what it has.
#[test]
fn what_is_shown_by_part_is_whole_for_each_page() {
    let access = Access::READ | Access::WRITE;
    let frame = Frame::zeroed().unwrap();
    let start = FIRST - 2 * PAGE_SIZE;
    let (parent, child) = (Tables::new(None).unwrap(), Tables::new(None).unwrap());
    parent.map(start - PAGE_SIZE, frame.clone(), access).unwrap();
    let run = || [(); 4].into_iter().map(|()| frame.clone());
    for tables in 0..3 {
        frames::allow(tables);
        assert_eq!(parent.map_batch(start, run(), access, || true), Err(OutOfMemory));
        frames::allow(usize::MAX);
        assert_eq!((parent.resident(), frame.references()), (3, 4));
        assert!(parent.lookup(FIRST - PAGE_SIZE).is_some() && parent.lookup(FIRST).is_none());
        parent.gather().unmap(start..FIRST + PAGE_SIZE, usize::MAX);
        assert_eq!((parent.tables(), frame.references()), (3, 2), "the empty tables went with it");
    }
    parent.map_batch(start, run(), access, || true).unwrap();
    for tables in 0..6 {
        frames::allow(tables);
        let shared = parent.gather().share_with(&child, start..FIRST + 2 * PAGE_SIZE, true);
        frames::allow(usize::MAX);
        assert_eq!(shared, Err(OutOfMemory));
        assert_eq!(frame.references() as usize, 1 + parent.resident() + child.resident());
        assert!((start..FIRST + 2 * PAGE_SIZE).step_by(PAGE_SIZE).all(|page| shootdown::access(
            parent.root(),
            page,
            false
        )));
        child.gather().unmap(0..super::paging::USER_TOP, usize::MAX);
        assert_eq!(child.resident(), 0);
    }
    // All pages show one frame, so what is written is a copy.
    assert_eq!(parent.break_copy_on_write(start, access, 0, || true), Ok(true));
    assert!(shootdown::access(parent.root(), start, true));
    drop((parent, child));
    assert_eq!(frame.references(), 1);
}

/// What was taken out is kept until it is forgotten, and whoever has the same page meanwhile does not let go of it sooner.
#[test]
fn no_frame_goes_while_a_flush_is_to_come() {
    let access = Access::READ | Access::WRITE;
    let (page, to) = (FIRST, FIRST + (5 << 21));
    let pages = page..page + PAGE_SIZE;
    let (frame, space) = (Frame::zeroed().unwrap(), Tables::new(None).unwrap());
    let is_cached = || shootdown::cached().iter().any(|(root, ..)| *root == space.root());
    let show = || {
        space.map(page, frame.clone(), access).unwrap();
        assert!(shootdown::access(space.root(), page, true) && is_cached());
    };

    show();
    let mut gather = space.gather();
    gather.unmap(pages.clone(), usize::MAX);
    assert_eq!((gather.unflushed(), frame.references(), is_cached()), (Some(pages.clone()), 2, true));
    // Who finds nothing promises that nothing is left of it.
    space.gather().unmap(pages.clone(), usize::MAX);
    assert!(!is_cached());
    drop(gather);
    assert_eq!(frame.references(), 1);

    // Neither an entry without rights nor one that came from another page tells what a CPU has cached.
    for moves in [false, true] {
        show();
        let mut gather = space.gather();
        match moves {
            true => gather.move_range(pages.clone(), to).unwrap(),
            false => gather.protect(pages.clone(), Access::empty()),
        }
        assert!(is_cached());
        space.gather().unmap(page..to + PAGE_SIZE, usize::MAX);
        assert_eq!((frame.references(), is_cached()), (1, false));
        drop(gather);
    }
    // The same for who puts another page there.
    show();
    let mut gather = space.gather();
    gather.protect(pages.clone(), Access::empty());
    space.map(page, Frame::zeroed().unwrap(), access).unwrap();
    assert_eq!((frame.references(), is_cached()), (1, false));
}

/// A run over two tables has the lock of one at a time, and ends where it is no longer wished.
#[test]
fn a_run_is_mapped_as_long_as_it_is_wished() {
    let access = Access::READ | Access::WRITE;
    let frame = Frame::zeroed().unwrap();
    let space = Tables::new(None).unwrap();
    let start = FIRST - 2 * PAGE_SIZE;
    let run = || [(); 4].into_iter().map(|()| frame.clone());
    let asked = std::cell::Cell::new(0);
    let only_once = || {
        asked.set(asked.get() + 1);
        // Of the table before nobody has the lock now.
        asked.get() == 1 || space.frame_at(start).is_none()
    };
    assert_eq!(space.map_batch(start, run(), access, only_once), Ok(false));
    assert_eq!((asked.get(), space.resident(), frame.references()), (2, 2, 3));
    assert_eq!(space.break_copy_on_write(start, access, 0, || false), Ok(false));
    assert_eq!(space.map_batch(start, run(), access, || true), Ok(true));
    assert_eq!(space.resident(), 4);
}
