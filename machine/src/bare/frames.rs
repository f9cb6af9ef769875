//! The frame database: one record per frame of RAM, and the boot arena that serves frames until the kernel has installed its
//! allocator.
//!
//! [`initialise`] runs once, on the boot CPU, before anything allocates. It cuts the memory map down to the frames nobody
//! uses, puts the array of records there, and sets the first free megabytes apart as the arena: a bump allocator. What the
//! arena has left when the kernel asks for [`usable`] goes to the kernel, but for a reserve which follows at `install`.

use super::boot::Region;
use super::layout::{DIRECT_MAP, direct};
pub use crate::memory::only_source::{install, source};
pub(crate) use crate::memory::take_refusable_frames as take_frames;
use crate::memory::{FrameRecord, MAX_ORDER, PAGE_SIZE, give_frames};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::num::NonZeroU32;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use spin::Mutex;

/// Memory below is left to firmware and the start of other CPUs.
const LOW_MEMORY: usize = 1 << 20;
/// The early tables map this much.
const EARLY_MAP: usize = 4 << 30;
/// Frames the arena gets at most, and what it keeps between [`usable`] and `install`.
const ARENA: usize = 4096;
const RESERVE: usize = 128;
/// Ranges of free memory that are kept track of; smaller ones beyond are not used.
const RANGES: usize = 64;

type Ranges = ArrayVec<Range<usize>, RANGES>;

static RECORDS: AtomicPtr<FrameRecord> = AtomicPtr::new(NonNull::dangling().as_ptr());
static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Boot {
    arena: Range<usize>,
    usable: Ranges,
    /// Runs given back to the arena, kept for the kernel's allocator.
    returned: ArrayVec<(u32, u8), 32>,
}

static BOOT: Mutex<Boot> =
    Mutex::new(Boot { arena: 0..0, usable: Ranges::new_const(), returned: ArrayVec::new_const() });

/// The records of all frames.
#[inline]
pub fn records() -> &'static [FrameRecord] {
    // SAFETY: `initialise` has written COUNT records there, on this CPU or before this CPU was started; nobody else uses
    // that memory. Before that COUNT is 0.
    unsafe { core::slice::from_raw_parts(RECORDS.load(Ordering::Relaxed), COUNT.load(Ordering::Relaxed)) }
}

/// The record of a frame.
///
/// # Safety
/// `number` was found in [`records`].
#[inline]
pub unsafe fn record(number: u32) -> &'static FrameRecord {
    // SAFETY: as in `records`, and by contract of the caller.
    unsafe { &*RECORDS.load(Ordering::Relaxed).add(number as usize) }
}

/// The alias of a frame found in [`records`].
#[inline]
pub fn bytes(number: u32) -> *mut u8 {
    direct((number as usize) << 12)
}

/// Removes `hole` from the ranges.
fn cut(ranges: &mut Ranges, hole: &Range<usize>) {
    let old = core::mem::take(ranges);
    for range in old {
        for part in [range.start..range.end.min(hole.start), range.start.max(hole.end)..range.end] {
            if !part.is_empty() {
                let _ = ranges.try_push(part);
            }
        }
    }
}

/// The whole frames touched by `bytes`, or those that lie inside.
fn frames_of(bytes: &Range<usize>, touched: bool) -> Range<usize> {
    if touched {
        bytes.start / PAGE_SIZE..bytes.end.div_ceil(PAGE_SIZE)
    } else {
        bytes.start.div_ceil(PAGE_SIZE)..bytes.end / PAGE_SIZE
    }
}

/// Takes `count` frames from the start of the first range below [`EARLY_MAP`] that has them.
fn carve(ranges: &mut Ranges, count: usize) -> Option<Range<usize>> {
    let fits = |range: &&Range<usize>| range.len() >= count && range.start + count <= EARLY_MAP / PAGE_SIZE;
    let first = ranges.iter().find(fits)?.start;
    cut(ranges, &(first..first + count));
    Some(first..first + count)
}

/// Sets the database up. `memory` is the memory map, `reserved` what must not be used in it (physical addresses).
/// Fails with the reason if there is too little memory.
///
/// # Safety
/// Called once, before any allocation. The early tables are in force, `memory` tells the truth about RAM, and `reserved` has
/// everything that is in use. The CPU's vector state is enabled.
pub unsafe fn initialise(memory: &[Region], reserved: &[Range<usize>]) -> Result<(), &'static str> {
    super::copy::choose();
    let mut free = Ranges::new();
    for region in memory.iter().filter(|region| region.usable) {
        let frames = frames_of(&region.range, false);
        cut(&mut free, &frames); // a map may name the same RAM twice
        if !frames.is_empty() {
            let _ = free.try_push(frames);
        }
    }
    // The direct map ends where the stacks' region begins; frame numbers are 32 bits.
    let end = ((super::layout::STACKS - DIRECT_MAP) / PAGE_SIZE).min(u32::MAX as usize);
    cut(&mut free, &(end..usize::MAX));
    cut(&mut free, &(0..LOW_MEMORY / PAGE_SIZE));
    let used = memory.iter().filter(|region| !region.usable).map(|region| &region.range).chain(reserved);
    used.for_each(|range| cut(&mut free, &frames_of(range, true)));

    let end = memory.iter().filter(|region| region.usable).map(|region| region.range.end / PAGE_SIZE).max();
    let count = end.unwrap_or(0).min(u32::MAX as usize);
    let records = carve(&mut free, (count * size_of::<FrameRecord>()).div_ceil(PAGE_SIZE));
    let records = records.ok_or("too little memory for the frame database")?;
    let available: usize = free.iter().map(Range::len).sum();
    let arena = carve(&mut free, ARENA.min(available / 4)).filter(|arena| arena.len() >= RESERVE);
    let arena = arena.ok_or("too little memory to start")?;

    let array: *mut FrameRecord = direct(records.start * PAGE_SIZE).cast();
    // SAFETY: `records` is free RAM, large enough for `count` records and mapped by the early tables. A record of zeros is
    // that of a free frame.
    unsafe { super::copy::zero(array.cast(), count * size_of::<FrameRecord>()) };
    free.sort_unstable_by_key(|range| range.start);
    let mut reserved = 0;
    for range in free.iter().chain([&(count..count)]) {
        for number in reserved..range.start {
            // SAFETY: `number` is below `count`, as all RAM is.
            unsafe { array.add(number).write(FrameRecord::reserved()) };
        }
        reserved = range.end;
    }
    RECORDS.store(array, Ordering::Relaxed);
    COUNT.store(count, Ordering::Relaxed);
    *BOOT.lock() = Boot { arena, usable: free, returned: ArrayVec::new() };
    Ok(())
}

/// What the kernel's allocator may hand out.
pub fn usable() -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(RANGES + 1); // may move the arena's start: before the lock
    let boot = &mut *BOOT.lock();
    let spare = (boot.arena.start + RESERVE).min(boot.arena.end)..boot.arena.end;
    if !spare.is_empty() && boot.usable.try_push(spare.clone()).is_ok() {
        boot.arena.end = spare.start;
        records().get(spare).unwrap_or_default().iter().for_each(FrameRecord::make_usable);
    }
    ranges.extend(boot.usable.iter().cloned());
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, range| {
        let adjacent = next.start == range.end;
        if adjacent {
            range.end = next.end;
        }
        adjacent
    });
    ranges
}

/// A run from the arena, owned once.
#[cold]
pub fn take_from_arena(order: u8) -> Option<NonZeroU32> {
    let boot = &mut *BOOT.lock();
    let count = 1_usize << order.min(MAX_ORDER);
    let first = boot.arena.start.next_multiple_of(count);
    if order > MAX_ORDER || first + count > boot.arena.end {
        return None;
    }
    boot.arena.start = first + count; // what alignment skips stays reserved
    records().get(first..first + count)?.iter().for_each(FrameRecord::make_owned);
    NonZeroU32::new(first as u32)
}

/// Takes a run back before there is an allocator. Beyond what fits, it stays out of use.
#[cold]
pub fn give_to_arena(first: u32, order: u8) {
    let _ = BOOT.lock().returned.try_push((first, order));
}

/// On `pc` the arena is gone once a source is installed.
#[inline]
pub fn is_arena(_number: u32) -> bool {
    false
}

/// Gives what is left of the arena to the source that was just installed.
pub fn release_arena() {
    let (arena, returned) = {
        let boot = &mut *BOOT.lock();
        (core::mem::replace(&mut boot.arena, 0..0), core::mem::take(&mut boot.returned))
    };
    returned.into_iter().for_each(|(first, order)| give_frames(first, order));
    // SAFETY: the arena's rest was reserved at boot and never handed out.
    unsafe { release(arena) };
}

/// Gives reserved frames to the source: boot memory that is not needed any more.
///
/// # Safety
/// The frames are RAM that was reserved at boot, and nobody uses them.
pub unsafe fn release(frames: Range<usize>) {
    for number in frames {
        if let Some(record) = records().get(number) {
            record.make_usable();
            give_frames(number as u32, 0);
        }
    }
}
