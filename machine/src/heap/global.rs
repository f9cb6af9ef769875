//! The heap of the kernel on `pc`.

use super::HeapUsage;
use super::slab::{Heap, Pages, Stocks};
use crate::cpu::{self, MAX_CPUS};
use crate::memory::{MAX_ORDER, give_frames, records, take_frames};
use crate::platform::frames;
use crate::platform::kernel_space::stack_frames;
use crate::platform::layout::DIRECT_MAP;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

/// Frames by their aliases in the direct map.
struct Frames;

// SAFETY: `take_frames` gives each frame to one owner, aligned to the size of the run.
unsafe impl Pages for Frames {
    fn allocate(&self, order: u8) -> *mut u8 {
        if order > MAX_ORDER {
            return core::ptr::null_mut();
        }
        take_frames(order).map_or(core::ptr::null_mut(), |first| frames::bytes(first.get()))
    }

    unsafe fn free(&self, run: *mut u8, order: u8) {
        let first = (run.addr() - DIRECT_MAP) >> 12;
        records().iter().skip(first).take(1 << order).for_each(|record| record.make_usable());
        give_frames(first as u32, order);
    }
}

/// One CPU's stocks.
#[repr(align(128))]
struct Slot(UnsafeCell<Stocks>);

// SAFETY: a slot is touched only by its own CPU, inside one call of the allocator, which nothing interrupts.
unsafe impl Sync for Slot {}

static HEAP: Heap<Frames> = Heap::new(Frames);
static STOCKS: [Slot; MAX_CPUS] = [const { Slot(UnsafeCell::new(Stocks::new())) }; MAX_CPUS];

struct KernelHeap;

#[global_allocator]
static GLOBAL: KernelHeap = KernelHeap;

#[inline]
fn stocks() -> *mut Stocks {
    // SAFETY: CPU numbers are below MAX_CPUS.
    unsafe { STOCKS.get_unchecked(cpu::current()) }.0.get()
}

// SAFETY: the heap gives out memory of at least the size and alignment asked, to one owner at a time.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: this CPU's own stocks, and nothing interrupts the kernel.
        HEAP.allocate(unsafe { &mut *stocks() }, layout)
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`; the rest is the caller's promise to `GlobalAlloc`.
        unsafe { HEAP.free(&mut *stocks(), memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        use super::slab::{class_of, order_of};
        // SAFETY: the caller promises that `size` is valid with the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let stays = match (class_of(layout), class_of(new_layout)) {
            (None, None) => order_of(layout) == order_of(new_layout),
            (old, new) => old == new,
        };
        if stays {
            return memory;
        }
        // SAFETY: the caller's promises hold for both calls; the two do not overlap.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(memory, new, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

/// See [`super::heap_usage`].
pub fn usage() -> HeapUsage {
    HeapUsage { slabs: HEAP.slabs().collect(), large_frames: HEAP.large_frames(), stack_frames: stack_frames() }
}
