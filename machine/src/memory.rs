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
//! Parts: this file is the boundary and what both machines share; `pc` has page tables, user copies and TLB
//! shootdown; `host` keeps a map of pages in ordinary memory. Frames synchronise by their count alone; a
//! space has one lock inside, held for no longer than one call. Nothing here sleeps.

use crate::platform;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

pub use crate::heap::{HeapUsage, SlabUsage, heap_usage};

/// Bytes in a frame and in a page.
pub const PAGE_SIZE: usize = 4096;

/// The first address a program cannot have: one page below the end of the lower half, as on Linux, so that no
/// instruction can end on the non-canonical boundary.
pub const USER_TOP: usize = 0x7fff_ffff_f000;

/// The largest order of a [`FrameRun`]: 2^10 frames, 4 MiB.
pub const MAX_ORDER: u8 = 10;

/// A count above this has saturated: the frame stays allocated for good. Reserved frames start here.
const SATURATED: u32 = 0xc000_0000;

/// There was no memory for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

bitflags::bitflags! {
    /// What may be done to a page, or what was tried.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Access: u8 {
        /// Loads. On `pc` every mapped page with any access can be read, except with no access at all.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
        /// For [`Space::map`] and [`Space::map_batch`] only: others use the frame too (a file's cache, the frame of zeros), so
        /// writing must wait for [`Space::break_copy_on_write`] whatever the access says.
        const COPY_ON_WRITE = 8;
    }
}

/// A copy to or from user memory stopped. The caller resolves the fault at `address` and goes on after `copied` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserFault {
    /// Bytes done before the fault; everything below is complete.
    pub copied: usize,
    /// The address that could not be accessed.
    pub address: usize,
    /// The access was a store.
    pub write: bool,
}

/// What a space says about one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Number of the frame mapped there.
    pub frame_number: usize,
    /// What the program may do now; a copy-on-write page is not writable.
    pub access: Access,
    /// Shared by fork: a write must go through [`Space::break_copy_on_write`].
    pub copy_on_write: bool,
    /// Accessed since it was mapped.
    pub accessed: bool,
    /// Written since it was mapped.
    pub dirty: bool,
    /// References to the frame at the moment of the look.
    pub references: u32,
}

/// What is kept about each frame of RAM.
#[repr(C)]
pub struct FrameRecord {
    references: AtomicU32,
    /// For the [`FrameSource`], in any state of the frame; the machine does not look at them.
    pub links: [AtomicU32; 3],
}

impl FrameRecord {
    /// A record of a frame that may not be handed out (yet).
    pub(crate) const fn reserved() -> FrameRecord {
        FrameRecord { references: AtomicU32::new(SATURATED), links: [const { AtomicU32::new(0) }; 3] }
    }

    /// Makes a reserved frame one that a source may hand out.
    pub(crate) fn make_usable(&self) {
        self.references.store(0, Ordering::Release);
    }

    /// Gives a reserved frame its first owner.
    pub(crate) fn make_owned(&self) {
        self.references.store(1, Ordering::Release);
    }

    /// Owners of the frame now: 0 while it is free.
    #[inline]
    pub fn references(&self) -> u32 {
        self.references.load(Ordering::Relaxed)
    }

    /// The count, for the machine's own use of a frame that is a page table.
    #[cfg(target_os = "none")]
    #[inline]
    pub(crate) fn table_state(&self) -> &AtomicU32 {
        &self.references
    }

    /// Takes a free frame; false if it has an owner or is reserved.
    #[inline]
    fn claim(&self) -> bool {
        self.references.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
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

/// Who decides which frame is handed out: the kernel's frame allocator.
///
/// Called with interrupts off, possibly inside the heap: an implementation must not allocate from the heap, nor
/// drop frames, in these methods.
pub trait FrameSource: Send + Sync {
    /// The first number of 2^`order` contiguous free frames, aligned to their size.
    fn allocate(&self, order: u8) -> Option<usize>;
    /// Takes back 2^`order` frames. A run may come back in smaller pieces than it went, and frames that were never
    /// handed out (the initramfs, boot memory) may come for the first time.
    fn free(&self, first: usize, order: u8);
    /// Frames that are free now.
    fn free_frames(&self) -> usize;
    /// All frames the source looks after.
    fn total_frames(&self) -> usize;
}

static SOURCE: spin::Once<Arc<dyn FrameSource>> = spin::Once::new();

/// Makes `source` the one all frames, page tables and the heap come from. Until then a boot arena serves them. The first
/// call counts; later ones are ignored.
pub fn install(source: Arc<dyn FrameSource>) {
    let mut first = false;
    SOURCE.call_once(|| {
        first = true;
        source
    });
    if first {
        platform::frames::release_arena();
    }
}

/// The source in charge, if one is.
#[inline]
pub(crate) fn source() -> Option<&'static dyn FrameSource> {
    SOURCE.get().map(|source| &**source)
}

/// Takes 2^`order` frames and makes each owned once. The numbers are checked, not believed.
#[inline]
pub(crate) fn take_frames(order: u8) -> Option<NonZeroU32> {
    let Some(source) = source() else { return platform::frames::take_from_arena(order) };
    let first = source.allocate(order)?;
    if order == 0
        && let Some(record) = records().get(first)
        && record.claim()
    {
        return NonZeroU32::new(first as u32);
    }
    take_run(first, order)
}

/// The slow part of [`take_frames`]: runs, and refusing what is not free.
fn take_run(first: usize, order: u8) -> Option<NonZeroU32> {
    let count = 1_usize.checked_shl(u32::from(order)).filter(|_| order <= MAX_ORDER)?;
    let records = first.checked_add(count).filter(|_| order > 0 && first % count == 0);
    let records = records.and_then(|end| self::records().get(first..end)).unwrap_or_default();
    let claimed = records.iter().take_while(|record| record.claim()).count();
    if claimed == count {
        return NonZeroU32::new(first as u32);
    }
    for record in records.iter().take(claimed) {
        record.references.store(0, Ordering::Release);
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

/// The u32 at `bytes`, for atomic use.
///
/// # Safety
/// `bytes` is a 4-byte-aligned place in a frame that stays owned while the result is used.
#[inline]
pub(crate) unsafe fn word<'a>(bytes: *mut u8) -> &'a AtomicU32 {
    // SAFETY: by contract of the caller; alignment is stated there.
    #[allow(clippy::cast_ptr_alignment)]
    unsafe {
        AtomicU32::from_ptr(bytes.cast())
    }
}

/// An owning reference to 4 KiB of untyped memory. Cloning adds an owner; the last owner gives it back.
pub struct Frame(NonZeroU32);

impl Frame {
    /// A frame of zeros, or none if memory is out.
    #[inline]
    pub fn zeroed() -> Option<Frame> {
        let frame = Frame::allocate_dirty()?;
        // SAFETY: the frame is ours alone, and `bytes` is its 4 KiB alias.
        unsafe { platform::copy::clear_page(frame.bytes()) };
        Some(frame)
    }

    /// A new frame with the bytes of `other`.
    #[inline]
    pub fn copy_of(other: &Frame) -> Option<Frame> {
        let frame = Frame::allocate_dirty()?;
        // SAFETY: both are whole frames, and different ones since the new one had no owner.
        unsafe { platform::copy::copy_page(frame.bytes(), other.bytes()) };
        Some(frame)
    }

    /// A frame with the bytes its last owner left, for a caller that overwrites all of them.
    #[inline]
    pub fn allocate_dirty() -> Option<Frame> {
        take_frames(0).map(Frame)
    }

    /// Its number: physical address / 4096 on `pc`.
    #[inline]
    pub fn number(&self) -> usize {
        self.0.get() as usize
    }

    /// Owners now. 1 means the caller is the only one, and stays true until the caller shares it.
    #[inline]
    pub fn references(&self) -> u32 {
        // Acquire: whoever gave up its reference has finished with the bytes.
        self.record().references.load(Ordering::Acquire)
    }

    /// Copies bytes out from `offset`. Returns how many: fewer than asked only at the end of the frame.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> usize {
        let length = to.len().min(PAGE_SIZE.saturating_sub(offset));
        // SAFETY: `offset + length` is within the frame when `length` is not 0; `to` is at least `length` long.
        unsafe { platform::copy::copy(to.as_mut_ptr(), self.bytes().wrapping_add(offset), length) };
        length
    }

    /// Copies bytes in at `offset`. Returns how many: fewer than asked only at the end of the frame.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        let length = from.len().min(PAGE_SIZE.saturating_sub(offset));
        // SAFETY: as in `read`.
        unsafe { platform::copy::copy(self.bytes().wrapping_add(offset), from.as_ptr(), length) };
        length
    }

    /// Zeroes the part of `range` that lies in the frame.
    #[inline]
    pub fn zero(&self, range: Range<usize>) {
        let end = range.end.min(PAGE_SIZE);
        let length = end.saturating_sub(range.start);
        // SAFETY: `start..start + length` is within the frame when `length` is not 0.
        unsafe { platform::copy::zero(self.bytes().wrapping_add(range.start), length) };
    }

    /// The kernel's alias of the bytes. They may change at any moment: no reference may be made to them.
    #[inline]
    pub(crate) fn bytes(&self) -> *mut u8 {
        platform::frames::bytes(self.0.get())
    }

    #[inline]
    fn record(&self) -> &'static FrameRecord {
        // SAFETY: a Frame is made only from a number that was found in the records.
        unsafe { platform::frames::record(self.0.get()) }
    }

    /// Gives up the reference without dropping it; `from_raw` takes it up again.
    #[cfg(target_os = "none")]
    #[inline]
    pub(crate) fn into_raw(self) -> NonZeroU32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    /// Takes up a reference.
    ///
    /// # Safety
    /// `number` must stand for one reference given up by `into_raw` or counted otherwise, taken up only once.
    #[cfg(target_os = "none")]
    #[inline]
    pub(crate) unsafe fn from_raw(number: NonZeroU32) -> Frame {
        Frame(number)
    }

    /// Counts one more reference to the frame `number`, to be taken up by `from_raw`.
    ///
    /// # Safety
    /// The caller holds a reference to the frame, or keeps whoever does from giving it up; and nobody else can use that same
    /// reference to count another one meanwhile.
    #[cfg(target_os = "none")]
    #[inline]
    pub(crate) unsafe fn add_reference(number: NonZeroU32) {
        // SAFETY: as in `record`.
        let record = unsafe { platform::frames::record(number.get()) };
        if record.references.load(Ordering::Relaxed) == 1 {
            record.references.store(2, Ordering::Relaxed); // the one owner is the caller's: no locked instruction
        } else if record.references.fetch_add(1, Ordering::Relaxed) >= SATURATED / 2 {
            Frame::saturate(record);
        }
    }

    #[cold]
    fn saturate(record: &FrameRecord) {
        record.references.store(SATURATED, Ordering::Relaxed);
    }
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Frame {
        let record = self.record();
        // Relaxed suffices: the new reference is made from one that is held.
        if record.references.fetch_add(1, Ordering::Relaxed) >= SATURATED / 2 {
            Frame::saturate(record);
        }
        Frame(self.0)
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        let record = self.record();
        // A sole owner cannot gain company from elsewhere, so the last drop needs no locked instruction.
        if record.references.load(Ordering::Acquire) != 1 {
            match record.references.fetch_sub(1, Ordering::Release) {
                1 => fence(Ordering::Acquire),
                before if before > SATURATED / 2 => return Frame::saturate(record),
                _ => return,
            }
        } else {
            record.references.store(0, Ordering::Release);
        }
        give_frames(self.0.get(), 0);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.number())
    }
}

/// 2^order contiguous frames, aligned to their size.
#[derive(Debug)]
pub struct FrameRun {
    first: NonZeroU32,
    order: u8,
}

impl FrameRun {
    /// A run with whatever its last owners left in it. None if there is no such run, or `order` > [`MAX_ORDER`].
    pub fn allocate_dirty(order: u8) -> Option<FrameRun> {
        take_frames(order).map(|first| FrameRun { first, order })
    }

    /// A run of zeros.
    pub fn zeroed(order: u8) -> Option<FrameRun> {
        let run = FrameRun::allocate_dirty(order)?;
        for number in run.numbers() {
            // SAFETY: the run owns these frames alone.
            unsafe { platform::copy::clear_page(platform::frames::bytes(number as u32)) };
        }
        Some(run)
    }

    /// The frames' numbers.
    pub fn numbers(&self) -> Range<usize> {
        let first = self.first.get() as usize;
        first..first + (1 << self.order)
    }

    /// The frames one by one; each goes its own way from here.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        let numbers = self.numbers();
        core::mem::forget(self);
        RunFrames(numbers)
    }
}

impl Drop for FrameRun {
    fn drop(&mut self) {
        for record in records().get(self.numbers()).unwrap_or_default() {
            record.references.store(0, Ordering::Release);
        }
        give_frames(self.first.get(), self.order);
    }
}

/// The frames of a run that have not gone out yet.
struct RunFrames(Range<usize>);

impl Iterator for RunFrames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        self.0.next().and_then(|number| NonZeroU32::new(number as u32)).map(Frame)
    }
}

impl Drop for RunFrames {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// A user address space: which frame each page shows, and with what access.
///
/// Pages are page-aligned addresses below [`USER_TOP`]. Ranges are rounded outwards to whole pages and clipped to user
/// space; what lies outside is never touched. A method that maps refuses (by `OutOfMemory`) an address outside.
pub struct Space(pub(crate) platform::paging::Tables);

/// The part of `range` that is user space, in whole pages.
#[inline]
fn user_pages(range: Range<usize>) -> Range<usize> {
    let start = range.start & !(PAGE_SIZE - 1);
    let end = range.end.min(USER_TOP).next_multiple_of(PAGE_SIZE);
    start.min(end)..end
}

/// `page` if it is a page of user space.
#[inline]
fn user_page(page: usize) -> Result<usize, OutOfMemory> {
    if page < USER_TOP && page.is_multiple_of(PAGE_SIZE) { Ok(page) } else { Err(OutOfMemory) }
}

/// Checks that `length` bytes from `address` are user space, as Linux's `access_ok`.
#[inline]
fn user_bytes(address: usize, length: usize, write: bool) -> Result<(), UserFault> {
    match address.checked_add(length) {
        Some(end) if end <= USER_TOP => Ok(()),
        _ if length == 0 => Ok(()),
        _ => Err(UserFault { copied: 0, address, write }),
    }
}

/// The part of a frame from `offset`, at most `length` bytes.
#[inline]
fn frame_part(offset: usize, length: usize) -> usize {
    length.min(PAGE_SIZE.saturating_sub(offset))
}

impl Space {
    /// An empty space. Fails if memory is out.
    pub fn new() -> Result<Arc<Space>, OutOfMemory> {
        Ok(Arc::new(Space(platform::paging::Tables::new()?)))
    }

    /// Shows `frame` at `page`. What was there before is replaced, and dropped after the flush. Fails if there is no
    /// memory for page tables; then nothing changes but that `frame` is dropped.
    #[inline]
    pub fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.0.map(user_page(page)?, frame, access)
    }

    /// Shows frames at consecutive pages from `start`, in one walk: fault-around, exec. On failure a first part is mapped.
    /// `frames` runs with the space locked: it must not touch this space.
    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
    ) -> Result<(), OutOfMemory> {
        self.0.map_batch(user_page(start)?, frames, access)
    }

    /// Empties `range`.
    pub fn unmap(&self, range: Range<usize>) {
        self.0.unmap(user_pages(range), usize::MAX);
    }

    /// Empties `range` up to about `budget` pages of work. Returns where to go on, or none when all is done. For
    /// tear-down that yields between slices.
    pub fn unmap_some(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        self.0.unmap(user_pages(range), budget.max(1))
    }

    /// Changes the access of what is mapped in `range`. A copy-on-write page stays read-only until it is broken.
    pub fn protect(&self, range: Range<usize>, access: Access) {
        self.0.protect(user_pages(range), access);
    }

    /// Shows the frames of `range` in `child` too, whose range must be empty: fork of one area. With `copy_on_write` both
    /// sides lose the right to write until [`break_copy_on_write`](Space::break_copy_on_write). On failure the
    /// child has a part of it. A space cannot share with itself: nothing happens.
    pub fn share_with(&self, child: &Space, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        if core::ptr::eq(self, child) {
            return Ok(());
        }
        self.0.share_with(&child.0, user_pages(range), copy_on_write)
    }

    /// What is mapped at the page of `address`.
    #[inline]
    pub fn lookup(&self, address: usize) -> Option<Mapping> {
        self.0.lookup(user_page(address & !(PAGE_SIZE - 1)).ok()?)
    }

    /// A reference to the frame mapped at the page of `address`.
    pub fn frame_at(&self, address: usize) -> Option<Frame> {
        self.0.frame_at(user_page(address & !(PAGE_SIZE - 1)).ok()?)
    }

    /// Makes the copy-on-write page at `page` private and gives it `access`: in place if this space is the frame's only owner,
    /// else on a copy. A page that is not copy-on-write just gets `access`. False if nothing is mapped there.
    #[inline]
    pub fn break_copy_on_write(&self, page: usize, access: Access) -> Result<bool, OutOfMemory> {
        self.0.break_copy_on_write(user_page(page)?, access)
    }

    /// Moves what is mapped in `from` to `to` with access and state (mremap). The target must be empty and not overlap; what
    /// was there is dropped. Fails if the target is outside user space, overlaps, or page tables run out: then a
    /// first part has moved.
    pub fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        let from = user_pages(from);
        let end = user_page(to)?.checked_add(from.len()).filter(|end| *end <= USER_TOP).ok_or(OutOfMemory)?;
        if to < from.end && from.start < end {
            return Err(OutOfMemory);
        }
        self.0.move_range(from, to)
    }

    /// Pages mapped now.
    #[inline]
    pub fn resident(&self) -> usize {
        self.0.resident()
    }

    /// Copies user bytes to the kernel.
    #[inline]
    pub fn read(&self, address: usize, to: &mut [u8]) -> Result<(), UserFault> {
        user_bytes(address, to.len(), false)?;
        // SAFETY: `to` is writable for its length, and the range is user space.
        unsafe { self.0.read(address, to.as_mut_ptr(), to.len()) }
    }

    /// Copies kernel bytes to user memory.
    #[inline]
    pub fn write(&self, address: usize, from: &[u8]) -> Result<(), UserFault> {
        user_bytes(address, from.len(), true)?;
        // SAFETY: `from` is readable for its length, and the range is user space.
        unsafe { self.0.write(address, from.as_ptr(), from.len()) }
    }

    /// Zeroes user memory.
    pub fn zero(&self, address: usize, length: usize) -> Result<(), UserFault> {
        user_bytes(address, length, true)?;
        self.0.zero(address, length)
    }

    /// Copies user bytes into a frame at `offset`, at most to its end.
    pub fn read_to_frame(
        &self,
        address: usize,
        frame: &Frame,
        offset: usize,
        length: usize,
    ) -> Result<(), UserFault> {
        let length = frame_part(offset, length);
        user_bytes(address, length, false)?;
        // SAFETY: the part lies in the frame, and the range is user space.
        unsafe { self.0.read(address, frame.bytes().wrapping_add(offset), length) }
    }

    /// Copies a frame's bytes from `offset`, at most to its end, to user memory.
    pub fn write_from_frame(
        &self,
        address: usize,
        frame: &Frame,
        offset: usize,
        length: usize,
    ) -> Result<(), UserFault> {
        let length = frame_part(offset, length);
        user_bytes(address, length, true)?;
        // SAFETY: the part lies in the frame, and the range is user space.
        unsafe { self.0.write(address, frame.bytes().wrapping_add(offset), length) }
    }

    /// Loads an aligned u32 in one access. A misaligned address faults.
    pub fn load_u32(&self, address: usize) -> Result<u32, UserFault> {
        user_bytes(address, 4, false)?;
        if !address.is_multiple_of(4) {
            return Err(UserFault { copied: 0, address, write: false });
        }
        self.0.load_u32(address)
    }

    /// Atomically replaces an aligned u32 if it equals `old`: `Ok(old)`, or `Err(what is there)`. A misaligned address
    /// faults.
    pub fn compare_exchange_u32(&self, address: usize, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
        user_bytes(address, 4, true)?;
        if !address.is_multiple_of(4) {
            return Err(UserFault { copied: 0, address, write: true });
        }
        self.0.compare_exchange_u32(address, old, new)
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({} pages)", self.resident())
    }
}
