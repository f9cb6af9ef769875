//! Frames: static memory, of which nothing is used before it is touched where the target's pages come at a touch. The first half is the
//! arena, which serves until a source is installed; the rest is the source's.

pub use crate::memory::only_source::{install, source};
use crate::memory::{FrameRecord, MAX_ORDER, PAGE_SIZE};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::num::NonZeroU32;
use core::ops::Range;
use simulator::Arena;
use spin::{Mutex, Once};

/// Frames there are: 32 MiB. The first is nobody's, since no frame has the number 0.
const FRAMES: usize = 8192;
/// Where the arena begins, and how long it is.
const ARENA_START: usize = 1 << MAX_ORDER;
const ARENA: usize = FRAMES / 2 - ARENA_START;

#[repr(align(4096))]
struct Memory(UnsafeCell<[[u8; PAGE_SIZE]; FRAMES]>);

// SAFETY: its bytes are reached by raw pointers only, and by accesses that may meet (`copy`, atomics).
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([[0; PAGE_SIZE]; FRAMES]));
static RECORDS: [FrameRecord; FRAMES] = [const { FrameRecord::reserved() }; FRAMES];
static FREE: Mutex<Arena<ARENA>> = Mutex::new(Arena::new(ARENA_START));
/// The records of all frames.
pub fn records() -> &'static [FrameRecord] {
    &RECORDS
}

/// The record of a frame.
///
/// # Safety
/// `number` was found in [`records`].
pub unsafe fn record(number: u32) -> &'static FrameRecord {
    // SAFETY: by contract of the caller.
    unsafe { RECORDS.get_unchecked(number as usize) }
}

/// The alias of a frame found in [`records`].
pub fn bytes(number: u32) -> *mut u8 {
    MEMORY.0.get().cast::<u8>().wrapping_add(number as usize * PAGE_SIZE)
}

/// What a source may hand out.
pub fn usable() -> Vec<Range<usize>> {
    static USABLE: Once<()> = Once::new();
    let range = FRAMES / 2..FRAMES;
    USABLE.call_once(|| RECORDS.iter().skip(range.start).for_each(FrameRecord::make_usable));
    core::iter::once(range).collect()
}

/// A run from the arena, owned once. The arena is not believed, as no source is: if it is wrong, what it says is free stays unused.
pub fn take_from_arena(order: u8) -> Option<NonZeroU32> {
    static READY: Once<()> = Once::new();
    READY.call_once(|| RECORDS.iter().skip(ARENA_START).take(ARENA).for_each(FrameRecord::make_usable));
    let first = if order <= MAX_ORDER { FREE.lock().take(order)? } else { return None };
    let run = RECORDS.get(first..first.checked_add(1 << order)?)?;
    let claimed = run.iter().filter(|record| record.claim()).count();
    NonZeroU32::new(first as u32).filter(|_| claimed == run.len())
}

/// Takes a run back.
pub fn give_to_arena(first: u32, order: u8) {
    FREE.lock().give(first as usize, order);
}

/// The arena stays.
pub fn release_arena() {}

/// Whether the frame is the arena's.
pub fn is_arena(number: u32) -> bool {
    (ARENA_START..ARENA_START + ARENA).contains(&(number as usize))
}
