//! Size classes, blocks of objects, stocks.
//!
//! An object's size is known when it is freed (Rust's `Layout`), so objects have no headers. A *block* is a naturally aligned run of
//! frames cut into objects of one class; its header takes the place of the first object or objects, and is found from
//! an object by rounding down. A CPU's *stock* of a class is a list through the free objects themselves: allocating is
//! popping it. An empty stock is filled, and a full one halved, under the lock of the class. A block whose objects have all
//! come back is returned to the pages, but for one a class.
//!
//! Pages are taken and given back while no lock is held and no stock is borrowed. Who provides them is safe code in the
//! kernel: whatever it does, even allocate, it finds the heap whole.

use crate::lock::SpinLock;
use boundary::SlabUsage;
use core::alloc::Layout;
use core::ptr;

const PAGE_SIZE: usize = 4096;

/// Bytes of the objects. All are multiples of 16, and of any smaller power of two they lie near: see `class_of`.
const SIZES: [usize; CLASSES] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];
/// How many classes there are.
pub const CLASSES: usize = 14;
/// The largest object of a class.
const LARGEST: usize = 2048;

/// The class for each size in units of 16 bytes.
#[allow(clippy::indexing_slicing, reason = "computed by the compiler")]
const CLASS_OF: [u8; LARGEST / 16 + 1] = {
    let mut table = [0; LARGEST / 16 + 1];
    let (mut units, mut class) = (0, 0);
    while units < table.len() {
        if units * 16 > SIZES[class] {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};

/// The class that serves `layout`, if one does. An aligned layout is rounded up to a multiple of its alignment, and the class
/// found for that is a multiple of it, too (tested).
#[inline]
pub fn class_of(layout: Layout) -> Option<usize> {
    let size = if layout.align() <= 16 { layout.size() } else { layout.pad_to_align().size() };
    CLASS_OF.get(size.div_ceil(16)).map(|class| usize::from(*class))
}

/// The pages for a layout too large for a class.
#[inline]
pub fn pages_of(layout: Layout) -> usize {
    layout.size().max(layout.align()).div_ceil(PAGE_SIZE).max(1)
}

#[inline]
#[allow(clippy::indexing_slicing, reason = "the index is below the length")]
const fn size_of_class(class: usize) -> usize {
    SIZES[class % CLASSES]
}

/// The order of a class's blocks: enough that the header wastes little.
const fn block_order(class: usize) -> u8 {
    match size_of_class(class) {
        0..=256 => 0,
        257..=768 => 1,
        _ => 2,
    }
}

/// Frames that requests for `bytes` in all can take: for each class one block that was full before, and what they fill.
pub const fn most_frames(bytes: usize) -> usize {
    let (mut frames, mut class) = (bytes.div_ceil(PAGE_SIZE), 0);
    while class < CLASSES {
        frames += 1 << block_order(class);
        class += 1;
    }
    frames
}

const fn block_size(class: usize) -> usize {
    PAGE_SIZE << block_order(class)
}

/// The first place of an object in a block: after the header.
const fn first_index(class: usize) -> usize {
    size_of::<Block>().div_ceil(size_of_class(class))
}

const fn objects_in_block(class: usize) -> usize {
    block_size(class) / size_of_class(class) - first_index(class)
}

/// A stock holds at most this many objects; half of it moves at a time.
#[inline]
const fn stock_limit(class: usize) -> usize {
    let limit = 8192 / size_of_class(class);
    if limit > 64 { 64 } else { limit }
}

/// Where blocks and large allocations come from.
///
/// The heap calls these with no lock held and nothing borrowed: they may come back to the heap, and get what it has.
///
/// # Safety
/// `allocate` returns null or memory of so many pages, aligned to the next power of two, that nobody else uses until `free`.
pub unsafe trait Pages {
    /// Takes pages.
    fn allocate(&self, pages: usize) -> *mut u8;
    /// Gives pages back.
    ///
    /// # Safety
    /// `memory` came from `allocate` or `resize` with the same number of pages, and is not used any more.
    unsafe fn free(&self, memory: *mut u8, pages: usize);
    /// Makes `old` pages `new` pages without copying, here or elsewhere. Null if that cannot be: then nothing has changed.
    ///
    /// # Safety
    /// As for `free`. Unless null is returned, only the result is used any more.
    unsafe fn resize(&self, memory: *mut u8, old: usize, new: usize) -> *mut u8;
}

/// A free object.
struct Object {
    next: *mut Object,
}

/// The header of a block.
struct Block {
    /// Neighbours in the class's list of blocks that have room.
    next: *mut Block,
    previous: *mut Block,
    /// Objects that came back.
    free: *mut Object,
    /// The next object that was never handed out.
    fresh: usize,
    used: usize,
}

/// Free objects of one class, on their way between a stock and the blocks.
struct Batch {
    first: *mut Object,
    last: *mut Object,
    count: usize,
}

impl Batch {
    const EMPTY: Batch = Batch { first: ptr::null_mut(), last: ptr::null_mut(), count: 0 };

    /// Adds a free object of the heap.
    fn push(&mut self, object: *mut Object) {
        push(&mut self.first, object);
        if self.last.is_null() {
            self.last = object;
        }
        self.count += 1;
    }
}

/// One CPU's free objects of one class.
#[derive(Clone, Copy)]
struct Stock {
    first: *mut Object,
    count: usize,
}

impl Stock {
    #[inline]
    fn pop(&mut self) -> *mut Object {
        let object = self.first;
        if !object.is_null() {
            // SAFETY: an object in a stock is free memory of the heap that holds the link to the next.
            self.first = unsafe { (*object).next };
            self.count -= 1;
        }
        object
    }
}

/// One CPU's stocks.
pub struct Stocks([Stock; CLASSES]);

// SAFETY: the objects in a stock belong to it alone.
unsafe impl Send for Stocks {}

impl Stocks {
    /// Empty ones.
    pub const fn new() -> Stocks {
        Stocks([Stock { first: ptr::null_mut(), count: 0 }; CLASSES])
    }

    #[inline]
    fn of(&mut self, class: usize) -> &mut Stock {
        // SAFETY: classes come from `class_of` and are below CLASSES.
        unsafe { self.0.get_unchecked_mut(class) }
    }

    /// An object of the class, or null if there is none in stock.
    #[inline]
    fn pop(&mut self, class: usize) -> *mut u8 {
        self.of(class).pop().cast()
    }

    /// Takes back an object. What is too much comes out again.
    ///
    /// # Safety
    /// `memory` came from the heap of these stocks with a layout of `class`, and is not used any more.
    #[inline]
    unsafe fn push(&mut self, class: usize, memory: *mut u8) -> Option<Batch> {
        let stock = self.of(class);
        let surplus = (stock.count >= stock_limit(class)).then(|| take_some(stock, stock_limit(class) / 2));
        push(&mut stock.first, memory.cast());
        stock.count += 1;
        surplus
    }

    /// Adds objects from the blocks.
    fn add(&mut self, class: usize, batch: Batch) {
        let stock = self.of(class);
        if !batch.last.is_null() {
            // SAFETY: the batch's objects are free memory of the heap.
            unsafe { (*batch.last).next = stock.first };
            stock.first = batch.first;
            stock.count += batch.count;
        }
    }
}

/// Where a CPU's stocks are.
pub trait OwnStocks {
    /// Calls `body` with the stocks of this CPU, which nobody else looks at meanwhile.
    fn with<R>(&self, body: impl FnOnce(&mut Stocks) -> R) -> R;
}

/// Takes at most `count` objects out of a stock.
#[cold]
fn take_some(stock: &mut Stock, count: usize) -> Batch {
    let mut batch = Batch::EMPTY;
    while batch.count < count {
        let object = stock.pop();
        if object.is_null() {
            break;
        }
        batch.push(object);
    }
    batch
}

/// What the CPUs share of a class.
struct Class {
    /// The blocks with room.
    with_room: *mut Block,
    blocks: usize,
    /// Of them, those with no object out.
    empty: usize,
    /// Objects out of the blocks.
    used: usize,
}

// SAFETY: the pointers are to blocks that belong to the class, which is only reached under its lock.
unsafe impl Send for Class {}

/// A heap over some pages. A CPU's [`Stocks`] stand before it.
pub struct Heap<P> {
    pages: P,
    classes: [SpinLock<Class>; CLASSES],
}

impl<P: Pages> Heap<P> {
    /// An empty heap.
    pub const fn new(pages: P) -> Heap<P> {
        let classes =
            [const { SpinLock::new(Class { with_room: ptr::null_mut(), blocks: 0, empty: 0, used: 0 }) }; CLASSES];
        Heap { pages, classes }
    }

    /// Memory for `layout`, or null. `own` are this CPU's stocks.
    #[inline]
    pub fn allocate(&self, own: &impl OwnStocks, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else { return self.allocate_large(layout) };
        let object = own.with(|stocks| stocks.pop(class));
        if object.is_null() { self.allocate_slowly(own, class) } else { object }
    }

    /// Takes back what `allocate` gave.
    ///
    /// # Safety
    /// `memory` came from `allocate` of this heap with the same `layout`, and is not used any more.
    #[inline]
    pub unsafe fn free(&self, own: &impl OwnStocks, memory: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: by contract of the caller it came from `allocate_large`.
            return unsafe { self.free_large(memory, layout) };
        };
        // SAFETY: by contract of the caller.
        if let Some(surplus) = own.with(|stocks| unsafe { stocks.push(class, memory) }) {
            self.give(class, surplus);
        }
    }

    #[cold]
    fn allocate_slowly(&self, own: &impl OwnStocks, class: usize) -> *mut u8 {
        let batch = self.take(class);
        own.with(|stocks| {
            stocks.add(class, batch);
            stocks.pop(class)
        })
    }

    #[cold]
    fn allocate_large(&self, layout: Layout) -> *mut u8 {
        self.pages.allocate(pages_of(layout))
    }

    /// # Safety
    /// As [`free`](Heap::free), and the layout has no class.
    #[cold]
    unsafe fn free_large(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: by contract of the caller it is what `allocate_large` got for the same layout.
        unsafe { self.pages.free(memory, pages_of(layout)) }
    }

    /// Makes room for `new` of what was allocated for `old`, without copying. Null if that cannot be: then nothing has changed.
    ///
    /// # Safety
    /// As [`free`](Heap::free); `new` has the same alignment. Unless null is returned, only the result is used any more.
    pub unsafe fn resize(&self, memory: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        match (class_of(old), class_of(new)) {
            // SAFETY: by contract of the caller.
            (None, None) => unsafe { self.pages.resize(memory, pages_of(old), pages_of(new)) },
            (old, new) if old == new => memory,
            _ => ptr::null_mut(),
        }
    }

    #[inline]
    fn class(&self, class: usize) -> &SpinLock<Class> {
        // SAFETY: classes come from `class_of` and are below CLASSES.
        unsafe { self.classes.get_unchecked(class) }
    }

    /// Objects of a class, half a stock at most; none if memory is out.
    #[cold]
    fn take(&self, number: usize) -> Batch {
        loop {
            let batch = self.class(number).lock().take(number);
            if batch.count > 0 {
                return batch;
            }
            // Nothing is held here.
            let block = self.pages.allocate(1 << block_order(number)).cast::<Block>();
            if block.is_null() {
                return batch;
            }
            // SAFETY: the run is ours, aligned to its size, and as large as a block.
            unsafe { self.class(number).lock().add(number, block) };
        }
    }

    /// Returns objects of a class to their blocks.
    #[cold]
    fn give(&self, number: usize, batch: Batch) {
        let mut left_over = self.class(number).lock().give(number, batch);
        while !left_over.is_null() {
            // SAFETY: the class has let go of these blocks, and they are linked by `next`. None of their objects is out.
            unsafe {
                let next = (*left_over).next;
                self.pages.free(left_over.cast(), 1 << block_order(number));
                left_over = next;
            }
        }
    }

    /// What each class holds.
    pub fn slabs(&self) -> impl Iterator<Item = SlabUsage> {
        self.classes.iter().enumerate().map(|(number, class)| {
            let class = class.lock();
            let block_frames = 1 << block_order(number);
            SlabUsage {
                object_size: size_of_class(number),
                active: class.used,
                total: class.blocks * objects_in_block(number),
                frames: class.blocks * block_frames,
                block_frames,
            }
        })
    }

    /// Where its pages come from.
    pub fn pages(&self) -> &P {
        &self.pages
    }
}

/// Puts a free object into a list.
#[inline]
fn push(list: &mut *mut Object, object: *mut Object) {
    // SAFETY: callers pass free memory of the heap, at least 16 bytes and 16-aligned.
    unsafe { object.write(Object { next: *list }) };
    *list = object;
}

impl Block {
    /// An object of the block, or null if none is left.
    ///
    /// # Safety
    /// `block` is the class's, and its lock is held.
    unsafe fn take(block: *mut Block, class: usize) -> *mut Object {
        // SAFETY: by contract of the caller nobody else looks at the header; a free object holds the link to the next. Fresh
        // objects are reached by the pointer to the whole block.
        unsafe {
            let object = (*block).free;
            if !object.is_null() {
                (*block).free = (*object).next;
                (*block).used += 1;
                return object;
            }
            let fresh = (*block).fresh;
            if fresh == block_size(class) / size_of_class(class) {
                return ptr::null_mut();
            }
            (*block).fresh += 1;
            (*block).used += 1;
            block.byte_add(fresh * size_of_class(class)).cast()
        }
    }
}

impl Class {
    /// Objects from the blocks with room, half a stock at most.
    fn take(&mut self, number: usize) -> Batch {
        let mut batch = Batch::EMPTY;
        while batch.count < stock_limit(number) / 2 && !self.with_room.is_null() {
            let block = self.with_room;
            // SAFETY: a block in the list is the class's own, and `self` was reached under its lock.
            unsafe {
                self.empty -= usize::from((*block).used == 0);
                while batch.count < stock_limit(number) / 2 {
                    let object = Block::take(block, number);
                    if object.is_null() {
                        break;
                    }
                    batch.push(object);
                }
                if (*block).used == objects_in_block(number) {
                    self.unlink(block);
                }
            }
        }
        self.used += batch.count;
        batch
    }

    /// Makes a run a block of the class.
    ///
    /// # Safety
    /// It is nobody else's, aligned to its size, and as large as a block.
    unsafe fn add(&mut self, number: usize, block: *mut Block) {
        let fresh = first_index(number);
        // SAFETY: by contract of the caller; the header is smaller than a block.
        unsafe {
            block.write(Block {
                next: ptr::null_mut(),
                previous: ptr::null_mut(),
                free: ptr::null_mut(),
                fresh,
                used: 0,
            });
            self.link(block);
        }
        self.blocks += 1;
        self.empty += 1;
    }

    /// Takes objects back. Returns the blocks that are not needed any more, linked by `next`.
    fn give(&mut self, number: usize, batch: Batch) -> *mut Block {
        let mut left_over = ptr::null_mut();
        let mut object = batch.first;
        self.used -= batch.count;
        for _ in 0..batch.count {
            let block = object.map_addr(|address| address & !(block_size(number) - 1)).cast::<Block>();
            // SAFETY: a batch has `count` objects, each with the link to the next. Blocks are aligned to their size, so this is the
            // header of the object's, and `self` was reached under the lock.
            unsafe {
                let next = (*object).next;
                push(&mut (*block).free, object);
                object = next;
                if (*block).used == objects_in_block(number) {
                    self.link(block);
                }
                (*block).used -= 1;
                if (*block).used == 0 && self.empty > 0 {
                    self.unlink(block);
                    self.blocks -= 1;
                    (*block).next = left_over;
                    left_over = block;
                } else if (*block).used == 0 {
                    self.empty = 1;
                }
            }
        }
        left_over
    }

    /// Puts a block into the list of those with room.
    ///
    /// # Safety
    /// It is the class's, and not in the list.
    unsafe fn link(&mut self, block: *mut Block) {
        // SAFETY: by contract of the caller; blocks in the list are the class's own.
        unsafe {
            (*block).previous = ptr::null_mut();
            (*block).next = self.with_room;
            if !self.with_room.is_null() {
                (*self.with_room).previous = block;
            }
        }
        self.with_room = block;
    }

    /// Takes a block out of the list.
    ///
    /// # Safety
    /// It is in the list.
    unsafe fn unlink(&mut self, block: *mut Block) {
        // SAFETY: by contract of the caller; blocks in the list are the class's own.
        unsafe {
            let (next, previous) = ((*block).next, (*block).previous);
            match previous.is_null() {
                true => self.with_room = next,
                false => (*previous).next = next,
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{alloc, dealloc};
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// Pages of the process, counted and limited.
    struct TestPages {
        runs: Mutex<BTreeMap<usize, usize>>,
        limit: usize,
    }

    impl TestPages {
        fn new(limit: usize) -> TestPages {
            TestPages { runs: Mutex::default(), limit }
        }

        fn frames(&self) -> usize {
            self.runs.lock().unwrap().values().sum()
        }
    }

    #[test]
    fn a_new_block_of_each_class_is_reckoned_with() {
        let blocks: usize = (0..CLASSES).map(|class| block_size(class) / PAGE_SIZE).sum();
        assert!(blocks >= CLASSES);
        assert_eq!([0, 1, PAGE_SIZE, PAGE_SIZE + 1].map(most_frames), [0, 1, 1, 2].map(|more| blocks + more));
    }

    fn run_layout(pages: usize) -> Layout {
        Layout::from_size_align(PAGE_SIZE * pages, PAGE_SIZE * pages.next_power_of_two()).unwrap()
    }

    // SAFETY: the system's allocator keeps the same promise.
    unsafe impl Pages for TestPages {
        fn allocate(&self, pages: usize) -> *mut u8 {
            if self.frames() + pages > self.limit {
                return ptr::null_mut();
            }
            // SAFETY: the size is not 0.
            let run = unsafe { alloc(run_layout(pages)) };
            self.runs.lock().unwrap().insert(run.addr(), pages);
            run
        }

        unsafe fn free(&self, memory: *mut u8, pages: usize) {
            assert_eq!(self.runs.lock().unwrap().remove(&memory.addr()), Some(pages), "freed as it was allocated");
            // SAFETY: it is what `allocate` got.
            unsafe { dealloc(memory, run_layout(pages)) }
        }

        unsafe fn resize(&self, memory: *mut u8, old: usize, new: usize) -> *mut u8 {
            if old == new { memory } else { ptr::null_mut() }
        }
    }

    impl OwnStocks for RefCell<Stocks> {
        fn with<R>(&self, body: impl FnOnce(&mut Stocks) -> R) -> R {
            body(&mut self.borrow_mut())
        }
    }

    fn stocks() -> RefCell<Stocks> {
        RefCell::new(Stocks::new())
    }

    /// Whether all bytes are `mark`. Miri is slow, and looks at some.
    fn are_all(bytes: &[u8], mark: u8) -> bool {
        bytes.iter().step_by(if cfg!(miri) { 61 } else { 1 }).all(|byte| *byte == mark)
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn classes_fit_size_and_alignment() {
        for size in 1..=LARGEST {
            for align in (0..=11).map(|shift| 1 << shift) {
                let layout = layout(size, align);
                let Some(class) = class_of(layout) else {
                    assert!(layout.pad_to_align().size() > LARGEST);
                    continue;
                };
                assert!(SIZES[class] >= size && SIZES[class].is_multiple_of(align), "{size} {align}");
                assert!(class == 0 || align > 16 || SIZES[class - 1] < size);
            }
        }
        assert_eq!(class_of(layout(LARGEST + 1, 8)), None);
        assert_eq!(class_of(layout(8, 4096)), None);
        assert_eq!((pages_of(layout(2049, 8)), pages_of(layout(4097, 8)), pages_of(layout(8, 16384))), (1, 2, 4));
    }

    /// A list of pseudo-random numbers, the same in every run.
    fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        }
    }

    #[test]
    fn objects_do_not_overlap_and_memory_comes_back() {
        let (seeds, steps) = if cfg!(miri) { (1, 150) } else { (20, 6000) };
        for seed in 0..seeds {
            let heap = Heap::new(TestPages::new(usize::MAX));
            let cpus = [stocks(), stocks()];
            let mut random = numbers(seed);
            let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for step in 0..steps {
                if live.is_empty() || random(100) < if step < steps / 2 { 60 } else { 30 } {
                    let size = [8, 40, 100, 300, 1000, 2000, 5000][random(7)] + random(8);
                    let layout = layout(size, 1 << random(8));
                    let memory = heap.allocate(&cpus[random(2)], layout);
                    assert!(memory.addr().is_multiple_of(layout.align()));
                    let mark = step as u8;
                    // SAFETY: the heap gave `size` bytes.
                    unsafe { memory.write_bytes(mark, size) };
                    live.push((memory, layout, mark));
                } else {
                    let (memory, layout, mark) = live.swap_remove(random(live.len()));
                    // SAFETY: it was written when allocated, with this size.
                    let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
                    assert!(are_all(bytes, mark), "somebody wrote to a live object");
                    // SAFETY: allocated with this layout.
                    unsafe { heap.free(&cpus[random(2)], memory, layout) };
                }
            }
            for (memory, layout, _) in live {
                // SAFETY: allocated with this layout.
                unsafe { heap.free(&cpus[0], memory, layout) };
            }
            for (number, cpu) in (0..CLASSES).flat_map(|number| [(number, 0), (number, 1)]) {
                let batch = cpus[cpu].with(|stocks| take_some(stocks.of(number), usize::MAX));
                heap.give(number, batch);
            }
            let held: usize = heap.slabs().map(|slab| slab.frames).sum();
            assert!(heap.slabs().all(|slab| slab.active == 0 && slab.frames <= slab.block_frames));
            assert_eq!(heap.pages().frames(), held);
        }
    }

    /// Whoever allocates and frees at the border of a block does not ask for pages each time.
    #[test]
    fn a_class_keeps_one_empty_block() {
        let heap = Heap::new(TestPages::new(usize::MAX));
        for blocks in [1, 2, 3] {
            let mut batches = Vec::new();
            while heap.pages().frames() < blocks {
                batches.push(heap.take(0));
            }
            batches.into_iter().for_each(|batch| heap.give(0, batch));
            assert_eq!(heap.pages().frames(), 1, "of {blocks} that were empty");
            let batch = heap.take(0);
            heap.give(0, batch);
            assert_eq!(heap.pages().frames(), 1, "kept for the next, and after it");
        }
    }

    #[test]
    fn running_out_gives_null_and_recovers() {
        let heap = Heap::new(TestPages::new(3));
        let stocks = stocks();
        let small = layout(64, 8);
        let mut live = Vec::new();
        loop {
            let memory = heap.allocate(&stocks, small);
            if memory.is_null() {
                break;
            }
            live.push(memory);
        }
        assert_eq!(live.len(), 3 * 63, "a block loses one object of 64 bytes to its header");
        assert!(heap.allocate(&stocks, layout(5000, 8)).is_null());
        for memory in live {
            // SAFETY: allocated with this layout.
            unsafe { heap.free(&stocks, memory, small) };
        }
        assert!(!heap.allocate(&stocks, small).is_null());
    }
    /// Pages whose source uses the heap it serves, as safe code may.
    struct Selfish<'a> {
        pages: TestPages,
        heap: Cell<Option<&'a Heap<Selfish<'a>>>>,
        stocks: RefCell<Stocks>,
        depth: Cell<usize>,
        held: RefCell<Vec<(*mut u8, Layout)>>,
    }

    impl Selfish<'_> {
        /// Allocates in the heap, and frees what an earlier call allocated.
        fn use_the_heap(&self) {
            let Some(heap) = self.heap.get().filter(|_| self.depth.get() < 2) else { return };
            self.depth.set(self.depth.get() + 1);
            for size in [16, 40, 64, 700, 3000] {
                let layout = layout(size, 8);
                let memory = heap.allocate(&self.stocks, layout);
                // SAFETY: the heap gave `size` bytes.
                unsafe { memory.write_bytes(0xaa, size) };
                self.held.borrow_mut().push((memory, layout));
            }
            while self.held.borrow().len() > 40 {
                let (memory, layout) = self.held.borrow_mut().remove(0);
                // SAFETY: allocated with this layout.
                unsafe { heap.free(&self.stocks, memory, layout) };
            }
            self.depth.set(self.depth.get() - 1);
        }
    }

    // SAFETY: as `TestPages`.
    unsafe impl Pages for Selfish<'_> {
        fn allocate(&self, pages: usize) -> *mut u8 {
            self.use_the_heap();
            self.pages.allocate(pages)
        }

        unsafe fn free(&self, memory: *mut u8, pages: usize) {
            self.use_the_heap();
            // SAFETY: by contract of the caller.
            unsafe { self.pages.free(memory, pages) }
        }

        unsafe fn resize(&self, _memory: *mut u8, _old: usize, _new: usize) -> *mut u8 {
            ptr::null_mut()
        }
    }

    #[test]
    fn what_fits_is_resized_where_it_is() {
        let heap = Heap::new(TestPages::new(100));
        let stocks = stocks();
        // SAFETY: allocated with the layouts that are named.
        unsafe {
            let small = heap.allocate(&stocks, layout(100, 8));
            assert_eq!(heap.resize(small, layout(100, 8), layout(128, 8)), small);
            assert!(heap.resize(small, layout(100, 8), layout(129, 8)).is_null());
            let large = heap.allocate(&stocks, layout(5000, 8));
            assert_eq!(heap.resize(large, layout(5000, 8), layout(8000, 8)), large);
            assert!(heap.resize(large, layout(5000, 8), layout(9000, 8)).is_null());
            assert!(heap.resize(large, layout(5000, 8), layout(100, 8)).is_null());
            heap.free(&stocks, large, layout(8000, 8));
            heap.free(&stocks, small, layout(128, 8));
        }
    }

    #[test]
    fn a_source_that_allocates_finds_the_heap_whole() {
        let pages = Selfish {
            pages: TestPages::new(usize::MAX),
            heap: Cell::new(None),
            stocks: stocks(),
            depth: Cell::new(0),
            held: RefCell::default(),
        };
        let heap: &Heap<Selfish<'_>> = Box::leak(Box::new(Heap::new(pages)));
        heap.pages.heap.set(Some(heap));
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut random = numbers(7);
        let steps = if cfg!(miri) { 150 } else { 20_000 };
        for step in 0..steps {
            if live.len() < 10 || step % (steps / 5) < steps / 10 && random(3) > 0 {
                let layout = layout([16, 40, 64, 700, 3000][random(5)], 8);
                let memory = heap.allocate(&heap.pages.stocks, layout);
                // SAFETY: the heap gave so many bytes.
                unsafe { memory.write_bytes(step as u8 & 0x7f, layout.size()) };
                live.push((memory, layout, step as u8 & 0x7f));
            } else {
                let (memory, layout, mark) = live.swap_remove(random(live.len()));
                // SAFETY: it was written when allocated, with this size.
                let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
                assert!(are_all(bytes, mark), "two owners");
                // SAFETY: allocated with this layout.
                unsafe { heap.free(&heap.pages.stocks, memory, layout) };
            }
        }
    }
}
