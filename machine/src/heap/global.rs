//! The heap of the kernel on `pc`.

use super::HeapUsage;
use super::reserve;
use super::slab::{Heap, OwnStocks, Pages, Stocks};
use super::vmalloc::{AREA, Area, Vmalloc, order_for};
use crate::cpu::{self, MAX_CPUS};
use crate::memory::{PAGE_SIZE, give_frames, records, source, take_frames};
use crate::platform::layout::{DIRECT_MAP, VMALLOC};
use crate::platform::{frames, kernel_space, shootdown};
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Up to this order a run of frames is asked for first, as it needs no mapping: Linux's PAGE_ALLOC_COSTLY_ORDER.
const RUN_ORDER: usize = 3;

/// The kernel's part of the address space for mapped memory.
struct KernelArea;

// SAFETY: frames come from `take_frames`, and the flush reaches all CPUs.
unsafe impl Area for KernelArea {
    fn prepare(&self, pages: Range<usize>) -> bool {
        kernel_space::prepare(address(pages.start)..address(pages.end))
    }

    #[inline]
    fn entry(&self, page: usize) -> u64 {
        kernel_space::entry(address(page))
    }

    #[inline]
    fn set_entry(&self, page: usize, entry: u64) {
        // SAFETY: `Vmalloc` maps frames that are its own, and unmaps what nobody uses any more.
        unsafe { kernel_space::set_entry(address(page), entry) }
    }

    fn take_frame(&self) -> Option<u64> {
        take_frames(0).map(|number| kernel_space::data_entry(number.get()))
    }

    unsafe fn give_frame(&self, entry: u64) {
        give_run(kernel_space::frame_of(entry), 0);
    }

    fn forget(&self) {
        shootdown::flush_kernel();
    }
}

#[inline]
const fn address(page: usize) -> usize {
    VMALLOC + page * PAGE_SIZE
}

/// The page of the area in which `memory` lies, if it is mapped memory.
#[inline]
fn page_of(memory: *mut u8) -> Option<usize> {
    memory.addr().checked_sub(VMALLOC).map(|offset| offset / PAGE_SIZE).filter(|page| *page < AREA)
}

/// Gives back frames that had one owner.
fn give_run(first: usize, order: u8) {
    records().iter().skip(first).take(1 << order).for_each(|record| record.make_usable());
    give_frames(first as u32, order);
}

/// Frames by their aliases in the direct map, or mapped side by side where there is no run of them.
struct Frames {
    vmalloc: Vmalloc<KernelArea>,
    /// Frames of all runs.
    runs: AtomicUsize,
}

// SAFETY: `take_frames` gives each frame to one owner, aligned to the size of the run; a slot of `Vmalloc` belongs to one owner.
unsafe impl Pages for Frames {
    fn allocate(&self, pages: usize) -> *mut u8 {
        if !may_take(pages) {
            return ptr::null_mut();
        }
        if order_for(pages) <= RUN_ORDER
            && let Some(first) = take_frames(order_for(pages) as u8)
        {
            self.runs.fetch_add(1 << order_for(pages), Relaxed);
            return frames::bytes(first.get());
        }
        self.vmalloc.allocate(pages).map_or(ptr::null_mut(), |page| address(page) as *mut u8)
    }

    unsafe fn free(&self, memory: *mut u8, pages: usize) {
        if let Some(page) = page_of(memory) {
            // SAFETY: by contract of the caller.
            return unsafe { self.vmalloc.free(page) };
        }
        self.runs.fetch_sub(1 << order_for(pages), Relaxed);
        give_run((memory.addr() - DIRECT_MAP) / PAGE_SIZE, order_for(pages) as u8);
    }

    unsafe fn resize(&self, memory: *mut u8, old: usize, new: usize) -> *mut u8 {
        let Some(page) = page_of(memory) else {
            return if order_for(old) == order_for(new) { memory } else { ptr::null_mut() };
        };
        if order_for(new) <= RUN_ORDER && order_for(old) > RUN_ORDER || !may_take(new.saturating_sub(old)) {
            return ptr::null_mut();
        }
        // SAFETY: by contract of the caller.
        let page = unsafe { self.vmalloc.resize(page, old, new) };
        page.map_or(ptr::null_mut(), |page| address(page) as *mut u8)
    }
}

impl Frames {
    /// Frames in use.
    fn frames(&self) -> usize {
        self.runs.load(Relaxed) + self.vmalloc.frames()
    }
}

/// Whether the request that is made now may take so many frames: all there are, if it can't be refused.
fn may_take(frames: usize) -> bool {
    let is_reserved = || source().is_some_and(|source| !source.has_room_for(frames));
    frames <= AREA && !(reserve::can_be_refused() && is_reserved())
}

/// One CPU's stocks.
#[repr(align(128))]
struct Slot(UnsafeCell<Stocks>);

// SAFETY: a slot is touched only by its own CPU, inside one call of the allocator, which nothing interrupts.
unsafe impl Sync for Slot {}

static HEAP: Heap<Frames> = Heap::new(Frames { vmalloc: Vmalloc::new(KernelArea), runs: AtomicUsize::new(0) });
static STOCKS: [Slot; MAX_CPUS] = [const { Slot(UnsafeCell::new(Stocks::new())) }; MAX_CPUS];

/// The stocks of the CPU that asks.
struct ThisCpu;

impl OwnStocks for ThisCpu {
    #[inline]
    fn with<R>(&self, body: impl FnOnce(&mut Stocks) -> R) -> R {
        // SAFETY: CPU numbers are below MAX_CPUS. Nothing interrupts the kernel, and the heap's bodies call nobody: so there is no
        // other reference to this CPU's stocks.
        body(unsafe { &mut *STOCKS.get_unchecked(cpu::current()).0.get() })
    }
}

struct KernelHeap;

#[global_allocator]
static GLOBAL: KernelHeap = KernelHeap;

// SAFETY: the heap gives out memory of at least the size and alignment asked, to one owner at a time.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        #[cfg(feature = "fail-allocations")]
        if super::strikes(&FAILING, layout.size()) {
            return ptr::null_mut();
        }
        HEAP.allocate(&ThisCpu, layout)
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        #[cfg(feature = "fail-allocations")]
        super::DRAWN.subtract(cpu::current(), layout.size());
        // SAFETY: the caller's promise to `GlobalAlloc`.
        unsafe { HEAP.free(&ThisCpu, memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises hold for all calls, one of which is the last that uses the old memory; a new allocation does
        // not overlap it.
        unsafe {
            let new_layout = Layout::from_size_align_unchecked(size, layout.align());
            let resized = HEAP.resize(memory, layout, new_layout);
            if !resized.is_null() {
                return resized;
            }
            let new = self.alloc(new_layout);
            if !new.is_null() {
                ptr::copy_nonoverlapping(memory, new, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

#[cfg(feature = "fail-allocations")]
pub static FAILING: shortage::Failing = shortage::Failing::new();

/// See [`super::heap_usage`].
pub fn usage() -> HeapUsage {
    let slabs: Vec<_> = HEAP.slabs().collect();
    let in_slabs: usize = slabs.iter().map(|slab| slab.frames).sum();
    HeapUsage {
        large_frames: HEAP.pages().frames().saturating_sub(in_slabs),
        slabs,
        vmalloc_frames: HEAP.pages().vmalloc.frames(),
        vmalloc_table_frames: kernel_space::table_frames(),
        stack_frames: kernel_space::stack_frames(),
    }
}
