//! The buddy system: which frame of RAM is free.
//!
//! Free memory is kept in blocks of 2^order frames, aligned to their size, on one list per order. Taking splits the
//! smallest block that is large enough; giving back merges a block with its *buddy* (the block that differs from it in
//! the one address bit) for as long as the buddy is free and whole. The lists run through the frames' own records
//! ([`machine::memory::FrameRecord::links`]), so the allocator needs no memory to manage memory.
//!
//! One spin lock guards the blocks. Single frames, which are nearly all there is, come and go through a stock on each CPU
//! ([`crate::per_cpu_cache`]), refilled and drained in batches: the usual call takes no lock.
//!
//! At boot all memory but its edges is *untouched*: one range, free as a whole, whose records nobody has looked at. It becomes
//! blocks of the largest size one by one, when there is none left on the lists. So a start costs the same whatever the
//! amount of memory, and on the host memory that is not used takes none for its records either.
//!
//! Every frame's record says whether the frame is free, so giving back what is free already is noticed, reported and
//! refused. The machine calls this as its [`FrameSource`]; nothing here allocates from the heap.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use machine::memory::{FrameRecord, FrameSource, MAX_ORDER, MOST_FRAMES_DRAWN};
use sync::SpinLock;

use crate::per_cpu_cache::{Batch, PerCpuCache};

/// Number of block sizes: 1 to 1024 frames.
pub const ORDERS: usize = MAX_ORDER as usize + 1;

/// "No frame" in a link. Frame numbers never get there: they are limited to 32 bits, and this one is not RAM.
const NONE: u32 = u32::MAX;

/// Bits of a frame's third link word.
mod state {
    /// The allocator has seen the frame and counts it.
    pub const KNOWN: u32 = 1 << 8;
    /// The frame is free: in a block or in a CPU's stock.
    pub const FREE: u32 = 1 << 9;
    /// The frame is the first of a free block; the low bits are the block's order.
    pub const HEAD: u32 = 1 << 10;
}

/// The frames of the machine, free and taken.
pub struct FrameAllocator {
    records: &'static [FrameRecord],
    blocks: SpinLock<Blocks>,
    cache: PerCpuCache,
    /// Copies of `Blocks::free` and the number of known frames, to be read without the lock.
    free_in_blocks: AtomicUsize,
    total: AtomicUsize,
    /// Frames in blocks that programs can't have.
    reserve: AtomicUsize,
    /// Whether half of the reserve is gone. Written only when that changes, since every call looks.
    critical: AtomicBool,
    refused: AtomicUsize,
}

/// How many frames programs can't have: 4 MiB, as Linux's min_free_kbytes is about on a machine of this kind, less on a small
/// one; but half of it, which is there when a call begins, is what a call on each CPU may draw.
fn reserve_of(total: usize, cpus: usize) -> usize {
    (total / 32).min(1024).max(2 * cpus * MOST_FRAMES_DRAWN).min(total / 8)
}

/// The free lists.
struct Blocks {
    first: [u32; ORDERS],
    count: [usize; ORDERS],
    /// Bit `order` is set while that list isn't empty.
    nonempty: u32,
    /// Free frames that are on no list yet: whole blocks of the largest size.
    untouched: Range<usize>,
    /// All free frames, untouched ones too.
    free: usize,
}

/// Frames of the largest block.
const LARGEST: usize = 1 << MAX_ORDER;

impl FrameAllocator {
    /// An allocator over all frames that are free at boot. Install it with [`machine::memory::install`] before anything
    /// else takes frames.
    pub fn new() -> Arc<FrameAllocator> {
        let allocator = Arc::new(FrameAllocator::empty());
        for range in machine::memory::usable() {
            allocator.add_range(range);
        }
        allocator
    }

    pub(crate) fn empty() -> FrameAllocator {
        let blocks = Blocks { first: [NONE; ORDERS], count: [0; ORDERS], nonempty: 0, untouched: 0..0, free: 0 };
        FrameAllocator {
            records: machine::memory::records(),
            blocks: SpinLock::new(blocks),
            cache: PerCpuCache::new(),
            free_in_blocks: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
            reserve: AtomicUsize::new(0),
            critical: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
        }
    }

    /// Adds frames that were never handed out before, as one piece of free memory.
    pub fn add_range(&self, range: Range<usize>) {
        // Frame 0 has no `Frame`: its number is the niche that makes `Option<Frame>` one word.
        let range = range.start.max(1)..range.end.min(self.records.len());
        let whole = range.start.next_multiple_of(LARGEST)..range.end / LARGEST * LARGEST;
        if whole.is_empty() {
            self.add_blocks(range);
        } else {
            self.add_blocks(range.start..whole.start);
            self.add_blocks(whole.end..range.end);
            let other = self.keep_untouched(whole);
            self.add_blocks(other);
        }
        self.reserve.store(reserve_of(self.total_frames(), machine::cpu::count()), Ordering::Relaxed);
    }

    fn add_blocks(&self, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let order = at.trailing_zeros().min((range.end - at).ilog2()).min(u32::from(MAX_ORDER)) as u8;
            self.give_block(at, order);
            at += 1 << order;
        }
    }

    /// Keeps whole blocks for later. There is room for one range: the shorter one comes back.
    fn keep_untouched(&self, whole: Range<usize>) -> Range<usize> {
        let mut blocks = self.blocks.lock();
        if whole.len() <= blocks.untouched.len() {
            return whole;
        }
        blocks.free += whole.len();
        blocks.free -= blocks.untouched.len();
        self.total.fetch_add(whole.len(), Ordering::Relaxed);
        self.total.fetch_sub(blocks.untouched.len(), Ordering::Relaxed);
        let other = core::mem::replace(&mut blocks.untouched, whole);
        self.publish(&blocks);
        other
    }

    /// Makes a block of the next untouched frames. False if there are none.
    #[cold]
    fn touch(&self, blocks: &mut Blocks) -> bool {
        let first = blocks.untouched.start;
        if blocks.untouched.is_empty() {
            return false;
        }
        blocks.untouched.start += LARGEST;
        blocks.free -= LARGEST;
        let frames = first..first + LARGEST;
        if frames.clone().all(|frame| self.state(frame) == 0) {
            frames.for_each(|frame| self.set_state(frame, state::KNOWN | state::FREE));
            self.give_locked(blocks, first, MAX_ORDER);
        } else {
            // Somebody gave back what was never handed out. The block is lost, which is safe.
            self.refuse(first);
        }
        true
    }

    /// Whether only the reserve is left, which is the kernel's: its heap and page tables must go on while a program is
    /// told that memory is out. Asked before each frame a program causes to be taken.
    #[inline]
    pub fn is_scarce(&self) -> bool {
        self.free_in_blocks.load(Ordering::Relaxed) < self.reserve.load(Ordering::Relaxed)
    }

    /// Whether programs may have huge pages here. As on Linux a small machine has none: they cost memory that nobody may ever touch.
    pub fn has_huge_pages(&self) -> bool {
        const ENOUGH: usize = (512 << 20) / machine::memory::PAGE_SIZE;
        self.total.load(Ordering::Relaxed) >= ENOUGH
    }

    /// Whether so much is free that a program may get more than it has touched.
    pub fn is_plentiful(&self) -> bool {
        self.free_in_blocks.load(Ordering::Relaxed) >= self.total.load(Ordering::Relaxed) / 8
    }

    /// Whether the reserve will be reached soon: no new process or thread may begin, so that those there are can go on.
    pub fn is_low(&self) -> bool {
        self.free_in_blocks.load(Ordering::Relaxed) < 2 * self.reserve.load(Ordering::Relaxed)
    }

    /// Whether half of the reserve is gone: what the kernel keeps for programs has grown where no frame of theirs is counted.
    /// Somebody has to end before anything else goes on.
    #[inline]
    pub fn is_critical(&self) -> bool {
        self.critical.load(Ordering::Relaxed)
    }

    /// Free blocks of each order, as /proc/buddyinfo shows them. Frames in the CPUs' stocks are counted as order 0.
    pub fn free_by_order(&self) -> [usize; ORDERS] {
        let blocks = self.blocks.lock();
        let mut counts = blocks.count;
        if let Some(largest) = counts.last_mut() {
            *largest += blocks.untouched.len() / LARGEST;
        }
        drop(blocks);
        if let Some(single) = counts.first_mut() {
            *single += self.cache.count();
        }
        counts
    }

    /// How many times something was given back that was free already or isn't memory. 0, or the kernel has a bug.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn state(&self, frame: usize) -> u32 {
        self.records.get(frame).map_or(0, |record| record.links[2].load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_state(&self, frame: usize, state: u32) {
        if let Some(record) = self.records.get(frame) {
            record.links[2].store(state, Ordering::Relaxed);
        }
    }

    /// Marks one frame free; false if it is so already or isn't memory.
    #[inline]
    fn mark_free(&self, frame: usize) -> bool {
        let Some(record) = self.records.get(frame) else { return self.refuse(frame) };
        let state = record.links[2].load(Ordering::Relaxed);
        if state & state::FREE != 0 {
            return self.refuse(frame);
        }
        if state & state::KNOWN == 0 {
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        record.links[2].store(state::KNOWN | state::FREE, Ordering::Relaxed);
        true
    }

    #[cold]
    fn refuse(&self, frame: usize) -> bool {
        if self.refused.fetch_add(1, Ordering::Relaxed) == 0 {
            machine::debug::emergency_print(format_args!("frame {frame:#x} was given back but isn't taken\n"));
        }
        false
    }

    /// The usual way to one frame: out of this CPU's stock.
    #[inline]
    fn allocate_single(&self) -> Option<usize> {
        let frame = match self.cache.pop() {
            Some(frame) => frame as usize,
            None => self.refill()?,
        };
        self.set_state(frame, state::KNOWN);
        Some(frame)
    }

    /// Fills this CPU's empty stock from the blocks and returns one frame more. Of the last half of the reserve each CPU takes only
    /// what it needs: a stock is of no use to the others.
    #[cold]
    fn refill(&self) -> Option<usize> {
        let mut batch = Batch::new();
        let mut blocks = self.blocks.lock();
        let mut wanted = blocks.free.saturating_sub(self.reserve.load(Ordering::Relaxed) / 2).clamp(1, batch.room());
        // Small blocks first: a batch of leftovers spares a large block.
        while wanted > 0 {
            let Some(smallest) = self.smallest(&mut blocks, 0) else { break };
            let order = smallest.min(wanted.ilog2() as u8);
            let Some(first) = self.take_locked(&mut blocks, order) else { break };
            wanted -= 1 << order;
            // bounded: a batch, which lies in place
            batch.extend(first as u32..(first + (1 << order)) as u32);
        }
        self.publish(&blocks);
        drop(blocks);
        self.cache.push_all(&batch);
        self.cache.pop().map(|frame| frame as usize)
    }

    /// The usual way back: into this CPU's stock.
    #[inline]
    fn free_single(&self, frame: usize) {
        if self.mark_free(frame)
            && let Some(surplus) = self.cache.push(frame as u32)
        {
            self.drain(&surplus);
        }
    }

    #[cold]
    fn drain(&self, batch: &Batch) {
        let mut blocks = self.blocks.lock();
        for frame in batch.iter() {
            self.give_locked(&mut blocks, frame as usize, 0);
        }
        self.publish(&blocks);
    }

    fn allocate_block(&self, order: u8) -> Option<usize> {
        let first = self.take_block(order).or_else(|| {
            // Frames in our stock may be what keeps a block from being whole.
            self.drain_stock();
            self.take_block(order)
        })?;
        for frame in first..first + (1 << order) {
            self.set_state(frame, state::KNOWN);
        }
        Some(first)
    }

    /// Puts this CPU's stock back into the blocks.
    pub(crate) fn drain_stock(&self) {
        while let Some(batch) = self.cache.take_some() {
            self.drain(&batch);
        }
    }

    fn take_block(&self, order: u8) -> Option<usize> {
        let mut blocks = self.blocks.lock();
        let first = self.take_locked(&mut blocks, order);
        self.publish(&blocks);
        first
    }

    fn give_block(&self, first: usize, order: u8) {
        let frames = first..first + (1 << order);
        let marked = frames.clone().filter(|frame| self.mark_free(*frame)).count();
        if marked == frames.len() {
            let mut blocks = self.blocks.lock();
            self.give_locked(&mut blocks, first, order);
            self.publish(&blocks);
        }
        // Otherwise a part was free already: the rest stays marked and is lost, which is safe, and was reported.
    }

    /// Tells how much is free. At the critical mark the thread that takes memory now is interrupted as soon as it is back
    /// in user mode, so that it looks; who only makes calls looks at each.
    #[inline]
    fn publish(&self, blocks: &Blocks) {
        let before = self.free_in_blocks.load(Ordering::Relaxed);
        self.free_in_blocks.store(blocks.free, Ordering::Relaxed);
        let is_critical = blocks.free < self.reserve.load(Ordering::Relaxed) / 2;
        if is_critical != self.critical.load(Ordering::Relaxed) {
            self.critical.store(is_critical, Ordering::Relaxed);
        }
        if blocks.free < before && is_critical {
            machine::cpu::kick(machine::cpu::current());
        }
    }

    /// The smallest order, `order` or larger, that has a block.
    fn smallest(&self, blocks: &mut Blocks, order: u8) -> Option<u8> {
        loop {
            let found = blocks.smallest(order);
            if found.is_some() || !self.touch(blocks) {
                return found;
            }
        }
    }

    /// Splits the smallest sufficient block. Its frames stay marked free.
    fn take_locked(&self, blocks: &mut Blocks, order: u8) -> Option<usize> {
        let found = self.smallest(blocks, order)?;
        let first = *blocks.first.get(found as usize)? as usize;
        self.unlink(blocks, first, found);
        for half in (order..found).rev() {
            self.link(blocks, first + (1 << half), half);
        }
        blocks.free -= 1 << order;
        Some(first)
    }

    /// Gives back a block whose frames are marked free, merging it with its buddies.
    fn give_locked(&self, blocks: &mut Blocks, mut first: usize, mut order: u8) {
        blocks.free += 1 << order;
        while (order as usize) < ORDERS - 1 {
            let buddy = first ^ (1 << order);
            if self.state(buddy) != state::KNOWN | state::FREE | state::HEAD | u32::from(order) {
                break;
            }
            self.unlink(blocks, buddy, order);
            first &= buddy;
            order += 1;
        }
        self.link(blocks, first, order);
    }

    fn link(&self, blocks: &mut Blocks, first: usize, order: u8) {
        let (Some(head), Some(count), Some(record)) =
            (blocks.first.get_mut(order as usize), blocks.count.get_mut(order as usize), self.records.get(first))
        else {
            return;
        };
        record.links[0].store(*head, Ordering::Relaxed);
        record.links[1].store(NONE, Ordering::Relaxed);
        record.links[2].store(state::KNOWN | state::FREE | state::HEAD | u32::from(order), Ordering::Relaxed);
        if let Some(next) = self.records.get(*head as usize) {
            next.links[1].store(first as u32, Ordering::Relaxed);
        }
        *head = first as u32;
        *count += 1;
        blocks.nonempty |= 1 << order;
    }

    fn unlink(&self, blocks: &mut Blocks, first: usize, order: u8) {
        let (Some(head), Some(count), Some(record)) =
            (blocks.first.get_mut(order as usize), blocks.count.get_mut(order as usize), self.records.get(first))
        else {
            return;
        };
        let next = record.links[0].load(Ordering::Relaxed);
        let previous = record.links[1].load(Ordering::Relaxed);
        record.links[2].store(state::KNOWN | state::FREE, Ordering::Relaxed);
        if let Some(next) = self.records.get(next as usize) {
            next.links[1].store(previous, Ordering::Relaxed);
        }
        match self.records.get(previous as usize) {
            Some(previous) => previous.links[0].store(next, Ordering::Relaxed),
            None => *head = next,
        }
        *count -= 1;
        if *head == NONE {
            blocks.nonempty &= !(1 << order);
        }
    }
}

impl Blocks {
    /// The smallest order, `order` or larger, whose list has a block.
    #[inline]
    fn smallest(&self, order: u8) -> Option<u8> {
        let enough = self.nonempty >> order << order;
        (enough != 0).then(|| enough.trailing_zeros() as u8)
    }
}

impl FrameSource for FrameAllocator {
    #[inline]
    fn allocate(&self, order: u8) -> Option<usize> {
        match order {
            0 => self.allocate_single(),
            1..=MAX_ORDER => self.allocate_block(order),
            _ => None,
        }
    }

    #[inline]
    fn free(&self, first: usize, order: u8) {
        match order {
            0 => self.free_single(first),
            1..=MAX_ORDER if first.is_multiple_of(1 << order) => self.give_block(first, order),
            _ => {
                self.refuse(first);
            }
        }
    }

    fn free_frames(&self) -> usize {
        self.free_in_blocks.load(Ordering::Relaxed) + self.cache.count()
    }

    fn has_room_for(&self, frames: usize) -> bool {
        self.free_in_blocks.load(Ordering::Relaxed) >= frames.saturating_add(self.reserve.load(Ordering::Relaxed) / 2)
    }

    fn total_frames(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}
