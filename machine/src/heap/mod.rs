//! The kernel heap: slabs with a stock on every CPU, over runs of frames.
//!
//! | file | |
//! | --- | --- |
//! | `slab` | size classes, blocks of objects, [`Heap`]: logic only, tested on the host over pages of its own |
//! | `global` | on `pc`: the `#[global_allocator]`, its pages from the frame source, its stocks in static memory |
//!
//! Everything the kernel boxes comes through here. Callers synchronise with nobody: the stock is this CPU's alone, since
//! interrupts are off whenever the kernel runs; behind it each size class has a spin lock, and behind that is
//! the frame source. An allocation that fails returns null.

use alloc::vec::Vec;

#[cfg(target_os = "none")]
mod global;
#[cfg(any(target_os = "none", test))]
mod slab;

/// One size class, for /proc/slabinfo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlabUsage {
    /// Bytes of an object.
    pub object_size: usize,
    /// Objects handed out, those in the CPUs' stocks included.
    pub active: usize,
    /// Objects there is room for.
    pub total: usize,
    /// Frames the class holds.
    pub frames: usize,
    /// Frames of one block of objects.
    pub block_frames: usize,
}

/// What the heap holds, for /proc/meminfo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeapUsage {
    /// The size classes, small to large.
    pub slabs: Vec<SlabUsage>,
    /// Frames of allocations too large for a class.
    pub large_frames: usize,
    /// Frames that are kernel stacks.
    pub stack_frames: usize,
}

/// What the heap holds now. On the host machine the heap is the process's own: nothing is counted.
pub fn heap_usage() -> HeapUsage {
    #[cfg(target_os = "none")]
    return global::usage();
    #[cfg(not(target_os = "none"))]
    HeapUsage::default()
}
