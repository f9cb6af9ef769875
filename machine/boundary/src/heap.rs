//! [`HeapUsage`]: what the kernel's heap holds.

use alloc::vec::Vec;

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
    /// Of all frames of the heap, those that are mapped side by side (VmallocUsed).
    pub vmalloc_frames: usize,
    /// Frames of the page tables that map them.
    pub vmalloc_table_frames: usize,
    /// Frames that are kernel stacks.
    pub stack_frames: usize,
}
