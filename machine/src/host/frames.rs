//! Frames of the host machine: a region of this process's memory that the system fills when it is first touched.
//!
//! The lower half serves as the boot arena, so that tests which install no source have frames; the upper half is what
//! [`usable`] offers. Frame 0 is never handed out.

use crate::memory::{FrameRecord, MAX_ORDER, PAGE_SIZE};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

const FRAMES: usize = 64 << 20 >> 12;
const ARENA: Range<usize> = 1..FRAMES / 2;

struct Region {
    start: usize,
    records: Vec<FrameRecord>,
    /// The free blocks of the arena: first frame -> count.
    arena: Mutex<BTreeMap<usize, usize>>,
}

static REGION: LazyLock<Region> = LazyLock::new(|| {
    // A zeroed allocation with small alignment is one fresh mapping: nothing is touched. So align by hand.
    let layout = Layout::from_size_align((FRAMES + 1) * PAGE_SIZE, 16).unwrap_or(Layout::new::<u128>());
    // SAFETY: the size is not 0.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        handle_alloc_error(layout);
    }
    let records: Vec<FrameRecord> = (0..FRAMES).map(|_| FrameRecord::reserved()).collect();
    records.iter().skip(ARENA.end).for_each(FrameRecord::make_usable);
    Region {
        start: start.expose_provenance().next_multiple_of(PAGE_SIZE),
        records,
        arena: Mutex::new(BTreeMap::from([(ARENA.start, ARENA.len())])),
    }
});

/// The records of all frames.
pub fn records() -> &'static [FrameRecord] {
    &REGION.records
}

/// The record of a frame.
///
/// # Safety
/// `number` was found in [`records`].
pub unsafe fn record(number: u32) -> &'static FrameRecord {
    // SAFETY: by contract of the caller.
    unsafe { REGION.records.get_unchecked(number as usize) }
}

/// The alias of a frame found in [`records`].
pub fn bytes(number: u32) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(REGION.start + number as usize * PAGE_SIZE)
}

/// What a source may hand out.
pub fn usable() -> Vec<Range<usize>> {
    std::iter::once(ARENA.end..FRAMES).collect()
}

/// A run from the arena, owned once: first fit.
pub fn take_from_arena(order: u8) -> Option<NonZeroU32> {
    if order > MAX_ORDER {
        return None;
    }
    let count = 1_usize << order;
    let mut arena = REGION.arena.lock().unwrap_or_else(PoisonError::into_inner);
    let (block, length, first) = arena.iter().find_map(|(&block, &length)| {
        let first = block.next_multiple_of(count);
        (first + count <= block + length).then_some((block, length, first))
    })?;
    arena.remove(&block);
    if first > block {
        arena.insert(block, first - block);
    }
    if first + count < block + length {
        arena.insert(first + count, block + length - first - count);
    }
    REGION.records.iter().skip(first).take(count).for_each(FrameRecord::make_owned);
    NonZeroU32::new(first as u32)
}

/// Takes a run back.
pub fn give_to_arena(first: u32, order: u8) {
    let mut start = first as usize;
    let mut length = 1_usize << order;
    let mut arena = REGION.arena.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((&before, &its)) = arena.range(..start).next_back()
        && before + its == start
    {
        arena.remove(&before);
        (start, length) = (before, its + length);
    }
    if let Some(its) = arena.remove(&(start + length)) {
        length += its;
    }
    arena.insert(start, length);
}

/// The arena of the host machine stays with it.
pub fn release_arena() {}

/// True if the arena owns the frame even when a source is installed.
pub fn is_arena(number: u32) -> bool {
    ARENA.contains(&(number as usize))
}
