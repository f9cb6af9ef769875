//! Size classes, blocks of objects, stocks.
//!
//! An object's size is known when it is freed (Rust's `Layout`), so objects have no headers. A *block* is a naturally aligned run of
//! frames cut into objects of one class; its header takes the place of the first object or objects, and is found from
//! an object by rounding down. A CPU's *stock* of a class is a list through the free objects themselves: allocating is
//! popping it. An empty stock is filled, and a full one halved, under the lock of the class. A block whose objects have all
//! come back is returned to the pages, but for one a class.

use super::SlabUsage;
use crate::lock::SpinLock;
use core::alloc::Layout;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// The order of the run for a layout too large for a class.
#[inline]
pub fn order_of(layout: Layout) -> u8 {
    let pages = layout.size().max(layout.align()).div_ceil(PAGE_SIZE).max(1);
    (usize::BITS - (pages - 1).leading_zeros()) as u8
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
/// # Safety
/// `allocate` returns null or memory of 4096 << `order` bytes, aligned to its size, that nobody else uses until `free`.
pub unsafe trait Pages {
    /// Takes a run.
    fn allocate(&self, order: u8) -> *mut u8;
    /// Gives a run back.
    ///
    /// # Safety
    /// `run` came from `allocate` with the same `order`, and is not used any more.
    unsafe fn free(&self, run: *mut u8, order: u8);
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

/// One CPU's free objects of one class.
#[derive(Clone, Copy)]
struct Stock {
    first: *mut Object,
    count: usize,
}

/// One CPU's stocks.
pub struct Stocks([Stock; CLASSES]);

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

/// A heap over some pages.
pub struct Heap<P> {
    pages: P,
    classes: [SpinLock<Class>; CLASSES],
    large_frames: AtomicUsize,
}

impl<P: Pages> Heap<P> {
    /// An empty heap.
    pub const fn new(pages: P) -> Heap<P> {
        let classes =
            [const { SpinLock::new(Class { with_room: ptr::null_mut(), blocks: 0, empty: 0, used: 0 }) }; CLASSES];
        Heap { pages, classes, large_frames: AtomicUsize::new(0) }
    }

    /// Memory for `layout`, or null. `stocks` are this CPU's.
    #[inline]
    pub fn allocate(&self, stocks: &mut Stocks, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else { return self.allocate_large(layout) };
        let stock = stocks.of(class);
        let object = stock.first;
        if object.is_null() {
            return self.allocate_slowly(stock, class);
        }
        // SAFETY: an object in a stock is free memory of the heap that holds the link to the next.
        stock.first = unsafe { (*object).next };
        stock.count -= 1;
        object.cast()
    }

    /// Takes back what `allocate` gave.
    ///
    /// # Safety
    /// `memory` came from `allocate` of this heap with the same `layout`, and is not used any more.
    #[inline]
    pub unsafe fn free(&self, stocks: &mut Stocks, memory: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: by contract of the caller it came from `allocate_large`.
            return unsafe { self.free_large(memory, layout) };
        };
        let stock = stocks.of(class);
        if stock.count >= stock_limit(class) {
            self.halve(stock, class);
        }
        push(&mut stock.first, memory.cast());
        stock.count += 1;
    }

    #[cold]
    fn allocate_slowly(&self, stock: &mut Stock, class: usize) -> *mut u8 {
        self.fill(stock, class);
        let object = stock.first;
        if !object.is_null() {
            // SAFETY: as in `allocate`.
            stock.first = unsafe { (*object).next };
            stock.count -= 1;
        }
        object.cast()
    }

    #[cold]
    fn allocate_large(&self, layout: Layout) -> *mut u8 {
        let order = order_of(layout);
        let run = self.pages.allocate(order);
        if !run.is_null() {
            self.large_frames.fetch_add(1 << order, Relaxed);
        }
        run
    }

    /// # Safety
    /// As [`free`](Heap::free), and the layout has no class.
    #[cold]
    unsafe fn free_large(&self, memory: *mut u8, layout: Layout) {
        let order = order_of(layout);
        self.large_frames.fetch_sub(1 << order, Relaxed);
        // SAFETY: by contract of the caller it is what `allocate_large` got for the same layout.
        unsafe { self.pages.free(memory, order) }
    }

    #[inline]
    fn class(&self, class: usize) -> &SpinLock<Class> {
        // SAFETY: classes come from `class_of` and are below CLASSES.
        unsafe { self.classes.get_unchecked(class) }
    }

    /// Brings half a stock of objects from the blocks; fewer if memory is out.
    #[cold]
    fn fill(&self, stock: &mut Stock, number: usize) {
        let class = &mut *self.class(number).lock();
        while stock.count < stock_limit(number) / 2 {
            if class.with_room.is_null() && !self.add_block(class, number) {
                return;
            }
            // SAFETY: a block in the list is the class's own, under its lock, and no other reference to it exists.
            let block = unsafe { &mut *class.with_room };
            class.empty -= usize::from(block.used == 0);
            while stock.count < stock_limit(number) / 2 {
                let Some(object) = block.take(number) else { break };
                push(&mut stock.first, object);
                stock.count += 1;
                class.used += 1;
            }
            if block.used == objects_in_block(number) {
                class.unlink(block);
            }
        }
    }

    fn add_block(&self, class: &mut Class, number: usize) -> bool {
        let block: *mut Block = self.pages.allocate(block_order(number)).cast();
        if block.is_null() {
            return false;
        }
        let fresh = first_index(number);
        let header = Block { next: ptr::null_mut(), previous: ptr::null_mut(), free: ptr::null_mut(), fresh, used: 0 };
        // SAFETY: the run is ours, aligned, and larger than the header.
        class.link(unsafe {
            block.write(header);
            &mut *block
        });
        class.blocks += 1;
        class.empty += 1;
        true
    }

    /// Returns half a stock of objects to their blocks.
    #[cold]
    fn halve(&self, stock: &mut Stock, number: usize) {
        let class = &mut *self.class(number).lock();
        for _ in 0..stock_limit(number) / 2 {
            let object = stock.first;
            if object.is_null() {
                return;
            }
            // SAFETY: as in `allocate`.
            stock.first = unsafe { (*object).next };
            stock.count -= 1;
            class.used -= 1;
            let start = object.map_addr(|address| address & !(block_size(number) - 1)).cast::<Block>();
            // SAFETY: blocks are aligned to their size, so this is the header of the object's; under the class's lock.
            let block = unsafe { &mut *start };
            push(&mut block.free, object);
            if block.used == objects_in_block(number) {
                class.link(block);
            }
            block.used -= 1;
            if block.used == 0 && class.empty > 0 {
                class.unlink(block);
                class.blocks -= 1;
                // SAFETY: none of its objects is out, and it is in no list.
                unsafe { self.pages.free(start.cast(), block_order(number)) };
            } else if block.used == 0 {
                class.empty = 1;
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

    /// Frames of allocations too large for a class.
    pub fn large_frames(&self) -> usize {
        self.large_frames.load(Relaxed)
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
    /// An object of the block, if one is left.
    fn take(&mut self, class: usize) -> Option<*mut Object> {
        let object = if !self.free.is_null() {
            let object = self.free;
            // SAFETY: a free object holds the link to the next.
            self.free = unsafe { (*object).next };
            object
        } else if self.fresh < block_size(class) / size_of_class(class) {
            let offset = self.fresh * size_of_class(class);
            self.fresh += 1;
            // The address comes from the block's own pointer in the class's list: the header lends only its place.
            ptr::from_mut(self).map_addr(|start| start + offset).cast()
        } else {
            return None;
        };
        self.used += 1;
        Some(object)
    }
}

impl Class {
    /// Puts a block into the list of those with room.
    fn link(&mut self, block: &mut Block) {
        block.previous = ptr::null_mut();
        block.next = self.with_room;
        if !block.next.is_null() {
            // SAFETY: blocks in the list are the class's own, and this is another one than `block`.
            unsafe { (*block.next).previous = block };
        }
        self.with_room = block;
    }

    /// Takes a block out of the list.
    fn unlink(&mut self, block: &mut Block) {
        if block.previous.is_null() {
            self.with_room = block.next;
        } else {
            // SAFETY: as in `link`.
            unsafe { (*block.previous).next = block.next };
        }
        if !block.next.is_null() {
            // SAFETY: as in `link`.
            unsafe { (*block.next).previous = block.previous };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{alloc, dealloc};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// Pages of the process, counted and limited.
    struct TestPages {
        runs: Mutex<BTreeMap<usize, u8>>,
        limit: usize,
    }

    impl TestPages {
        fn new(limit: usize) -> TestPages {
            TestPages { runs: Mutex::default(), limit }
        }

        fn count(&self) -> usize {
            self.runs.lock().unwrap().values().map(|order| 1 << order).sum()
        }
    }

    fn run_layout(order: u8) -> Layout {
        Layout::from_size_align(PAGE_SIZE << order, PAGE_SIZE << order).unwrap()
    }

    // SAFETY: the system's allocator keeps the same promise.
    unsafe impl Pages for TestPages {
        fn allocate(&self, order: u8) -> *mut u8 {
            if self.count() + (1 << order) > self.limit {
                return ptr::null_mut();
            }
            // SAFETY: the size is not 0.
            let run = unsafe { alloc(run_layout(order)) };
            self.runs.lock().unwrap().insert(run.addr(), order);
            run
        }

        unsafe fn free(&self, run: *mut u8, order: u8) {
            assert_eq!(self.runs.lock().unwrap().remove(&run.addr()), Some(order), "freed as it was allocated");
            // SAFETY: it is what `allocate` got.
            unsafe { dealloc(run, run_layout(order)) }
        }
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
        assert_eq!((order_of(layout(2049, 8)), order_of(layout(4097, 8)), order_of(layout(8, 16384))), (0, 1, 2));
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
        for seed in 0..20 {
            let heap = Heap::new(TestPages::new(usize::MAX));
            let mut cpus = [Stocks::new(), Stocks::new()];
            let mut random = numbers(seed);
            let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for step in 0..6000_usize {
                if live.is_empty() || random(100) < if step < 3000 { 60 } else { 30 } {
                    let size = [8, 40, 100, 300, 1000, 2000, 5000][random(7)] + random(8);
                    let layout = layout(size, 1 << random(8));
                    let memory = heap.allocate(&mut cpus[random(2)], layout);
                    assert!(memory.addr().is_multiple_of(layout.align()));
                    let mark = step as u8;
                    // SAFETY: the heap gave `size` bytes.
                    unsafe { memory.write_bytes(mark, size) };
                    live.push((memory, layout, mark));
                } else {
                    let (memory, layout, mark) = live.swap_remove(random(live.len()));
                    // SAFETY: it was written when allocated, with this size.
                    let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
                    assert!(bytes.iter().all(|byte| *byte == mark), "somebody wrote to a live object");
                    // SAFETY: allocated with this layout.
                    unsafe { heap.free(&mut cpus[random(2)], memory, layout) };
                }
            }
            for (memory, layout, _) in live {
                // SAFETY: allocated with this layout.
                unsafe { heap.free(&mut cpus[0], memory, layout) };
            }
            assert_eq!(heap.large_frames(), 0);
            for (number, stock) in (0..CLASSES).flat_map(|number| [(number, 0), (number, 1)]) {
                while cpus[stock].0[number].count > 0 {
                    heap.halve(&mut cpus[stock].0[number], number);
                }
            }
            let held: usize = heap.slabs().map(|slab| slab.frames).sum();
            assert!(heap.slabs().all(|slab| slab.active == 0 && slab.frames <= slab.block_frames));
            assert_eq!(heap.pages.count(), held);
        }
    }

    #[test]
    fn running_out_gives_null_and_recovers() {
        let heap = Heap::new(TestPages::new(3));
        let mut stocks = Stocks::new();
        let small = layout(64, 8);
        let mut live = Vec::new();
        loop {
            let memory = heap.allocate(&mut stocks, small);
            if memory.is_null() {
                break;
            }
            live.push(memory);
        }
        assert_eq!(live.len(), 3 * 63, "a block loses one object of 64 bytes to its header");
        assert!(heap.allocate(&mut stocks, layout(5000, 8)).is_null());
        for memory in live {
            // SAFETY: allocated with this layout.
            unsafe { heap.free(&mut stocks, memory, small) };
        }
        assert!(!heap.allocate(&mut stocks, small).is_null());
    }
}
