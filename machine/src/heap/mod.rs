//! The kernel heap: slabs with per-CPU magazines over frames, behind `#[global_allocator]` on `pc`.

use alloc::vec::Vec;

/// One size class, for /proc/slabinfo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlabUsage {
    /// Bytes of an object.
    pub object_size: usize,
    /// Objects handed out.
    pub active: usize,
    /// Objects there is room for.
    pub total: usize,
    /// Frames the class holds.
    pub frames: usize,
}

/// What the heap holds, for /proc/meminfo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeapUsage {
    /// The size classes, small to large.
    pub slabs: Vec<SlabUsage>,
    /// Frames of allocations too large for a class.
    pub large_frames: usize,
    /// Frames that are page tables.
    pub table_frames: usize,
}

/// What the heap holds now. On the host machine the heap is the process's own: nothing is counted.
pub fn heap_usage() -> HeapUsage {
    HeapUsage::default()
}
