//! Memory as the kernel sees it: frames, and user address spaces made of them.
//!
//! A [`Frame`] is an owned, counted reference to 4 KiB of RAM. Its bytes are *untyped*: they are copied in, copied
//! out and zeroed, never borrowed, because a program may be writing them at the same moment. A [`Space`] is a user
//! address space; every mapped page owns one reference to its frame, so a mapped frame cannot be reused. All
//! TLB work happens inside, and a frame that leaves a space is dropped only after every CPU has forgotten it.
//!
//! Which frame to hand out is policy, and so not decided here: the kernel installs a [`FrameSource`]. Every number a
//! source hands out is checked against the [`FrameRecord`] of that frame (reference count 0 -> 1, or it is refused),
//! so that a wrong source can waste memory but can never make two owners share it unknowingly.
//!
//! Parts: this file has the records and the source, `frame` what owns memory, `frame_cell` frames found without a lock, `space` address
//! spaces; below them, `pc` has page tables, user copies and TLB shootdown, `host` and `sim` a map of pages in ordinary memory. A program's
//! addresses are [`UserAddress`]es: 64 bits, whatever the kernel's words have. Frames synchronise by
//! their count alone; a space has locks inside, held for no longer than one call. Nothing here sleeps.

use crate::platform;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{self, AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(not(machine = "pc"))]
mod by_page;
mod count;
mod frame;
mod frame_cell;
#[cfg(not(machine = "host"))]
pub(crate) mod only_source;
mod space;

pub use crate::heap::{MOST_DRAWN, MOST_FRAMES_DRAWN, end_draw, fallible, heap_usage};
#[cfg(feature = "fail-allocations")]
pub use crate::heap::{allocations, fail_nth_allocation, most_drawn, refusable_allocations};
pub use boundary::{Access, FrameSource, Mapping, OutOfMemory, PageNumber, UserAddress, UserFault};
pub use boundary::{HeapUsage, SlabUsage, SwapEntries, SwapEntry, SwappedOut};
use count::Count;
pub(crate) use frame::word;
pub use frame::{Frame, FrameRun};
pub use frame_cell::{FrameCell, RetiredFrame};
#[cfg(target_pointer_width = "64")]
pub use space::USER_TOP;
pub use space::{FAULT_AHEAD, FAULT_AROUND, HUGE_PAGE_ORDER, MmuGather, Space, USER_END, huge_pages};

/// Bytes in a frame and in a page.
pub const PAGE_SIZE: usize = 4096;

/// The largest order of a [`FrameRun`]: 2^10 frames, 4 MiB.
pub const MAX_ORDER: u8 = 10;

/// What is kept about each frame of RAM.
#[repr(C)]
pub struct FrameRecord {
    owners: Count,
    /// For the [`FrameSource`], in any state of the frame; the machine does not look at them.
    pub links: [AtomicU32; 3],
    /// Whose page it is, as the kernel's rooms write it down ([`Frame::tag`]). The machine does not look at it.
    tag: AtomicU64,
}

impl FrameRecord {
    /// A record of a frame that may not be handed out (yet).
    pub(crate) const fn reserved() -> FrameRecord {
        FrameRecord { owners: Count::reserved(), links: [const { AtomicU32::new(0) }; 3], tag: AtomicU64::new(0) }
    }

    /// Makes a frame one that a source may hand out.
    pub(crate) fn make_usable(&self) {
        self.owners.set(0);
    }

    /// Gives a reserved frame its first owner.
    #[cfg(not(machine = "sim"))]
    pub(crate) fn make_owned(&self) {
        self.owners.set(1);
    }

    /// Makes the caller the first owner of a free frame; false if it is not free.
    #[cfg(machine = "sim")]
    pub(crate) fn claim(&self) -> bool {
        self.owners.claim()
    }

    /// Owners of the frame now: 0 while it is free.
    #[inline]
    pub fn references(&self) -> u32 {
        self.owners.glance()
    }

    /// A word for the machine's own use in a frame that is a page table, which has no tag.
    #[cfg(any(machine = "pc", test))]
    #[inline]
    pub(crate) fn table_deposits(&self) -> &AtomicU64 {
        &self.tag
    }

    /// The count, for the machine's own use of a frame that is a page table.
    #[cfg(any(machine = "pc", test))]
    #[inline]
    pub(crate) fn table_state(&self) -> &AtomicU32 {
        self.owners.word()
    }
}

/// The records of all frames, indexed by frame number. Covers holes too; frames that are not RAM are reserved.
#[inline]
pub fn records() -> &'static [FrameRecord] {
    platform::frames::records()
}

/// The ranges of frame numbers that are free at boot. They belong to the [`FrameSource`] that will be installed.
pub fn usable() -> Vec<Range<usize>> {
    platform::frames::usable()
}

/// Makes `source` the one all frames, page tables and the heap come from. Until then a boot arena serves them. The first
/// call counts; later ones are ignored.
pub fn install(source: Arc<dyn FrameSource>) {
    // SAFETY: the reference that the pointer stands for is never given up.
    if platform::frames::install(unsafe { &*Arc::into_raw(source) }) {
        platform::frames::release_arena();
    }
}

/// The source in charge, if one is.
#[inline]
pub(crate) fn source() -> Option<&'static dyn FrameSource> {
    platform::frames::source()
}

/// Takes 2^`order` frames and makes each owned once. The numbers are checked, not believed.
#[inline]
pub(crate) fn take_frames(order: u8) -> Option<NonZeroU32> {
    let Some(source) = source() else { return platform::frames::take_from_arena(order) };
    let first = source.allocate(order)?;
    if order == 0
        && let Some(record) = records().get(first)
        && record.owners.claim()
    {
        return NonZeroU32::new(first as u32);
    }
    take_run(first, order)
}

/// As [`take_frames`], for who can do without: pages, and the tables that show them. The half of the reserve that is there for requests
/// which can't be refused is not for them, however many one call asks for before it lets others look. Tests let it fail.
#[inline]
pub(crate) fn take_refusable_frames(order: u8) -> Option<NonZeroU32> {
    #[cfg(feature = "fail-allocations")]
    if crate::heap::refuses_frames() {
        return None;
    }
    let is_reserved =
        source().is_some_and(|source| !source.has_room_for(1_usize.checked_shl(order.into()).unwrap_or(0)));
    if is_reserved { None } else { take_frames(order) }
}

/// The slow part of [`take_frames`]: runs, and refusing what is not free.
fn take_run(first: usize, order: u8) -> Option<NonZeroU32> {
    let count = 1_usize.checked_shl(u32::from(order)).filter(|_| order <= MAX_ORDER)?;
    let records = first.checked_add(count).filter(|_| order > 0 && first.is_multiple_of(count));
    let records = records.and_then(|end| self::records().get(first..end)).unwrap_or_default();
    let claimed = records.iter().take_while(|record| record.owners.claim()).count();
    if claimed == count {
        return NonZeroU32::new(first as u32);
    }
    for record in records.iter().take(claimed) {
        record.owners.set(0);
    }
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if !REPORTED.swap(true, Ordering::Relaxed) {
        crate::debug::emergency_print(format_args!("frame source handed out {first:#x}/{order}, which is not free\n"));
    }
    None
}

/// Gives back frames whose counts have reached 0.
#[inline]
pub(crate) fn give_frames(first: u32, order: u8) {
    match source() {
        Some(source) if !platform::frames::is_arena(first) => source.free(first as usize, order),
        _ => platform::frames::give_to_arena(first, order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_not_believed() {
        let frame = Frame::zeroed().unwrap();
        assert!(take_run(frame.number(), 0).is_none() && take_frames(MAX_ORDER + 1).is_none());
        let pair = frame.number() & !1;
        assert!(take_run(pair, 1).is_none(), "one of the two has an owner");
        assert!(take_run(usize::MAX, 0).is_none() && take_run(records().len(), 0).is_none());
        assert_eq!(frame.references(), 1);
        let free = usable().first().unwrap().start;
        assert!(take_run(free + 1, 1).is_none(), "not aligned");
        assert_eq!(records()[free + 1].references(), 0);
    }
}
