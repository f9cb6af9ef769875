//! The kernel's heap on the host machine: a heap for each machine, over frames of its memory.
//!
//! A thread that works for a machine allocates from that machine's heap, any other thread of the process from the system's. Where
//! memory came from is told by its address, so it may be freed by anybody. The pages of a heap are charged: each stands for a
//! frame that its machine's source handed out. But the bytes are not the frame's: they lie in memory of the process's own at
//! the same place of another range ([`heap_memory`]), since frames are in a file that the processes of programs know.
//! The host gives memory for one of the two at a time.
//!
//! Long pieces, and others for which there are no neighbours, lie behind, in as many addresses again, and stand for single frames. What keeps
//! account of them is the system's memory: four bytes a page.
//!
//! While the source is asked, the thread is *inside*: what it allocates then is the system's, and it does not unwind. What the
//! machine itself needs beside the kernel, such as a backtrace's tables, is allocated [`apart`].

use super::frames::{self, ALIGNMENT, HEAP_BYTES_PER_FRAME, MOST_FRAMES, heap_memory};
use super::machine::{Machine, as_if_of, current, current_if_told, lock};
use crate::cpu::MAX_CPUS;
use crate::heap::reserve;
use crate::heap::slab::{Heap, OwnStocks, Pages, Stocks};
use crate::lock::SpinLock;
use crate::memory::{PAGE_SIZE, give_frames, records, source, take_frames};
use boundary::HeapUsage;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::{self, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Pieces of more pages than this are not looked for among neighbouring frames.
const MOST_NEIGHBOURS: usize = 8;

/// The addresses of all heaps. None until there is a machine.
static START: AtomicUsize = AtomicUsize::new(0);
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Which machine's heap lies where: one for each place where a zone may begin.
static OWNERS: [AtomicPtr<Machine>; MOST_FRAMES / ALIGNMENT] = [const { AtomicPtr::new(null_mut()) }; _];

thread_local! {
    /// This thread is asking a machine's source on behalf of its heap.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

#[cfg(feature = "fail-allocations")]
thread_local! {
    /// Requests of this thread that were the system's to serve.
    static OUTSIDE: Cell<u64> = const { Cell::new(0) };
}

/// Counts a request that the system serves.
#[inline]
fn note_outside() {
    #[cfg(feature = "fail-allocations")]
    OUTSIDE.set(OUTSIDE.get() + 1);
}

/// Whether this thread is inside a heap: then it must not unwind.
pub fn is_inside() -> bool {
    INSIDE.get()
}

/// Runs `body` inside `machine`'s heap.
fn inside<R>(machine: &'static Machine, body: impl FnOnce() -> R) -> R {
    apart(|| as_if_of(machine, body))
}

/// Runs `body`, whose memory is the process's own and not the machine's. It must not unwind.
pub fn apart<R>(body: impl FnOnce() -> R) -> R {
    let before = INSIDE.replace(true);
    let result = body();
    INSIDE.set(before);
    result
}

/// One machine's heap.
pub struct MachineHeap {
    heap: Heap<Frames>,
    stocks: [SpinLock<Stocks>; MAX_CPUS],
    long: Mutex<Long>,
    #[cfg(feature = "fail-allocations")]
    failing: shortage::Failing,
}

impl MachineHeap {
    /// The heap of a machine with these frames. It gives nothing before [`register`].
    pub fn new(numbers: &Range<usize>) -> MachineHeap {
        let addresses = heap_memory(numbers.clone());
        let middle = addresses.start + addresses.len() / 2;
        MachineHeap {
            heap: Heap::new(Frames::default()),
            stocks: [const { SpinLock::new(Stocks::new()) }; MAX_CPUS],
            long: Mutex::new(Long {
                free: BTreeMap::from([(middle, addresses.end - middle)]),
                pieces: BTreeMap::new(),
            }),
            #[cfg(feature = "fail-allocations")]
            failing: shortage::Failing::new(),
        }
    }
}

impl OwnStocks for MachineHeap {
    fn with<R>(&self, body: impl FnOnce(&mut Stocks) -> R) -> R {
        // SAFETY: numbers of CPUs are below MAX_CPUS. Two threads may have the same: hence the lock.
        body(&mut unsafe { self.stocks.get_unchecked(super::cpu::current()) }.lock())
    }
}

/// Lets `machine`'s threads use its heap, and everybody find it.
pub fn register(machine: &'static Machine) {
    let numbers = machine.zone.numbers();
    for owner in OWNERS.iter().take(numbers.end.div_ceil(ALIGNMENT)).skip(numbers.start / ALIGNMENT) {
        owner.store(ptr::from_ref(machine).cast_mut(), Ordering::Release);
    }
    let all = heap_memory(0..frames::reserved());
    START.store(all.start, Ordering::Relaxed);
    LENGTH.store(all.len(), Ordering::Release);
}

/// The machine from whose heap `address` is, if it is from one.
fn owner_of(address: usize) -> Option<&'static Machine> {
    let offset = address.wrapping_sub(START.load(Ordering::Relaxed));
    if offset >= LENGTH.load(Ordering::Acquire) {
        return None;
    }
    let owner = OWNERS.get(offset / (ALIGNMENT * HEAP_BYTES_PER_FRAME))?.load(Ordering::Acquire);
    // SAFETY: null, or a machine, which stays for the life of the process.
    unsafe { owner.as_ref() }
}

/// Where the frame `number` of `machine` lies in its heap.
fn address_of(machine: &Machine, number: usize) -> *mut u8 {
    let numbers = machine.zone.numbers();
    let offset = (number - numbers.start) * PAGE_SIZE;
    ptr::with_exposed_provenance_mut(heap_memory(numbers).start + offset)
}

/// Gives memory of a heap back to the host.
///
/// # Safety
/// The range is a part of a heap that nobody uses.
unsafe fn discard(start: *mut u8, pages: usize) {
    // SAFETY: by contract of the caller.
    unsafe { libc::madvise(start.cast(), pages * PAGE_SIZE, libc::MADV_DONTNEED) };
}

/// The pages of the heaps: of that of the thread's machine, or of the one the memory belongs to.
#[derive(Default)]
struct Frames {
    /// How many the heap has.
    taken: AtomicUsize,
}

fn order_of(pages: usize) -> u8 {
    pages.next_power_of_two().trailing_zeros() as u8
}

/// The frames that so many pages take.
fn frames_for(pages: usize) -> usize {
    if pages <= MOST_NEIGHBOURS { pages.next_power_of_two() } else { pages }
}

// SAFETY: `take_frames` gives each frame to one owner, aligned to the size of the run; so its place in the heap is that owner's. Zones begin
// at multiples of the longest run, and so do their heaps. Long pieces are given out by `Long`.
unsafe impl Pages for Frames {
    fn allocate(&self, pages: usize) -> *mut u8 {
        let machine = current();
        let memory = inside(machine, || {
            if reserve::can_be_refused() && !has_room_for(pages) {
                return None;
            }
            if pages <= MOST_NEIGHBOURS
                && let Some(first) = take_frames(order_of(pages))
            {
                machine.zone.empty(first.get() as usize, frames_for(pages));
                return Some(address_of(machine, first.get() as usize));
            }
            let charged = Charged::take(machine, frames_for(pages))?;
            lock(&machine.heap.long).place(charged).map(ptr::with_exposed_provenance_mut)
        });
        let Some(memory) = memory else { return null_mut() };
        self.taken.fetch_add(frames_for(pages), Ordering::Relaxed);
        memory
    }

    unsafe fn free(&self, memory: *mut u8, pages: usize) {
        let Some(machine) = owner_of(memory.addr()) else { return };
        self.taken.fetch_sub(frames_for(pages), Ordering::Relaxed);
        // SAFETY: by contract of the caller.
        unsafe { discard(memory, frames_for(pages)) };
        inside(machine, || {
            let numbers = machine.zone.numbers();
            let first = numbers.start + (memory.addr() - heap_memory(numbers.clone()).start) / PAGE_SIZE;
            if first >= numbers.end {
                let charged = lock(&machine.heap.long).remove(memory.addr());
                return drop(charged);
            }
            records().iter().skip(first).take(frames_for(pages)).for_each(|record| record.make_usable());
            give_frames(first as u32, order_of(pages));
        });
    }

    unsafe fn resize(&self, memory: *mut u8, old: usize, new: usize) -> *mut u8 {
        let are_both_short = old.max(new) <= MOST_NEIGHBOURS;
        if old == new || are_both_short && frames_for(old) == frames_for(new) { memory } else { null_mut() }
    }
}

/// Single frames that a long piece stands for.
struct Charged(Vec<u32>);

impl Charged {
    /// `count` frames, or none.
    fn take(machine: &Machine, count: usize) -> Option<Charged> {
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(count).ok()?;
        let mut charged = Charged(numbers);
        for _ in 0..count {
            charged.0.push(take_frames(0)?.get());
        }
        // Neighbours at once: they usually are.
        for run in charged.0.chunk_by(|before, next| before + 1 == *next) {
            run.first().inspect(|first| machine.zone.empty(**first as usize, run.len()));
        }
        Some(charged)
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        for number in &self.0 {
            records().get(*number as usize).inspect(|record| record.make_usable());
            give_frames(*number, 0);
        }
    }
}

/// The long pieces of a heap.
struct Long {
    /// Free addresses: start -> length.
    free: BTreeMap<usize, usize>,
    pieces: BTreeMap<usize, Charged>,
}

impl Long {
    /// Finds addresses for a piece: first fit, aligned to the next power of two.
    fn place(&mut self, charged: Charged) -> Option<usize> {
        let length = charged.0.len() * PAGE_SIZE;
        let aligned = |free: usize| free.next_multiple_of(length.next_power_of_two());
        let fits = |(&free, &room): (&usize, &usize)| {
            (aligned(free) + length <= free + room).then_some((free, aligned(free), free + room))
        };
        let (free, start, end) = self.free.iter().find_map(fits)?;
        self.free.remove(&free);
        for rest in [free..start, start + length..end] {
            if !rest.is_empty() {
                self.free.insert(rest.start, rest.len());
            }
        }
        self.pieces.insert(start, charged);
        Some(start)
    }

    /// Takes a piece away, and joins its addresses with free ones around them.
    fn remove(&mut self, mut start: usize) -> Option<Charged> {
        let charged = self.pieces.remove(&start)?;
        let mut length = charged.0.len() * PAGE_SIZE;
        if let Some(next) = self.free.remove(&(start + length)) {
            length += next;
        }
        if let Some((&before, &its)) = self.free.range(..start).next_back()
            && before + its == start
        {
            (start, length) = (before, its + length);
        }
        self.free.insert(start, length);
        Some(charged)
    }
}

/// An allocator for the whole process: the heap of the thread's machine, or the system's. A program that runs machines makes it its
/// `#[global_allocator]`; in one that has another, the kernel's heap is not charged to anybody.
pub struct HostHeap;

#[cfg(test)]
#[global_allocator]
static GLOBAL: HostHeap = HostHeap;

// SAFETY: both heaps give out memory of at least the size and alignment asked, to one owner at a time, and addresses tell them apart.
unsafe impl GlobalAlloc for HostHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(machine) = current_if_told().filter(|_| !is_inside()) else {
            note_outside();
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        #[cfg(feature = "fail-allocations")]
        if crate::heap::strikes(&machine.heap.failing, layout.size()) {
            return null_mut();
        }
        let memory = machine.heap.heap.allocate(&machine.heap, layout);
        if memory.is_null() && std::thread::panicking() {
            // SAFETY: the caller's promise. The page about a fault of the kernel is shown whatever the machine has left.
            return unsafe { System.alloc(layout) };
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; the address says from which heap the memory is.
        unsafe {
            match owner_of(memory.addr()) {
                Some(machine) => {
                    #[cfg(feature = "fail-allocations")]
                    crate::heap::DRAWN.subtract(crate::cpu::current(), layout.size());
                    machine.heap.heap.free(&machine.heap, memory, layout);
                }
                None => System.dealloc(memory, layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if current_if_told().is_none() || is_inside() {
            note_outside();
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; what `alloc` gives is as long as asked.
        unsafe {
            let memory = self.alloc(layout);
            if !memory.is_null() {
                memory.write_bytes(0, layout.size());
            }
            memory
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises hold for all calls, one of which is the last that uses the old memory; a new allocation does
        // not overlap it.
        unsafe {
            let new_layout = Layout::from_size_align_unchecked(size, layout.align());
            match owner_of(memory.addr()) {
                Some(machine) => {
                    let resized = machine.heap.heap.resize(memory, layout, new_layout);
                    if !resized.is_null() {
                        return resized;
                    }
                }
                None if current_if_told().is_none() || is_inside() => {
                    note_outside();
                    return System.realloc(memory, layout, size);
                }
                None => {}
            }
            let new = self.alloc(new_layout);
            if !new.is_null() {
                new.copy_from_nonoverlapping(memory, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

/// See [`crate::heap::heap_usage`].
pub fn usage() -> HeapUsage {
    let heap = &current().heap.heap;
    let slabs: Vec<_> = heap.slabs().collect();
    let in_slabs: usize = slabs.iter().map(|slab| slab.frames).sum();
    let large_frames = heap.pages().taken.load(Ordering::Relaxed).saturating_sub(in_slabs);
    HeapUsage { slabs, large_frames, ..HeapUsage::default() }
}

/// Whether the maps of spaces may have so many entries more. What they take has no way to fail, so they ask before: an entry takes
/// less than 128 bytes in its tree, and some frames must be left for all else.
pub fn has_room_for_entries(count: usize) -> bool {
    const LEFT: usize = 64;
    has_room_for(LEFT + count.div_ceil(PAGE_SIZE / 128))
}

/// Whether so many frames may go to what can do without, as on `pc`.
fn has_room_for(frames: usize) -> bool {
    match source() {
        Some(source) => source.has_room_for(frames),
        None => current().zone.arena_left() >= frames,
    }
}

/// Whether this thread works for a machine.
#[cfg(feature = "fail-allocations")]
pub fn is_of_a_machine() -> bool {
    current_if_told().is_some()
}

/// What fails on purpose, on this thread's machine.
#[cfg(feature = "fail-allocations")]
pub fn failing() -> &'static shortage::Failing {
    &current().heap.failing
}

/// Requests of this thread's machine so far; of a thread that works for none, its own.
#[cfg(feature = "fail-allocations")]
pub fn requests() -> u64 {
    current_if_told().map_or_else(|| OUTSIDE.get(), |machine| machine.heap.failing.requests())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Configuration, run};
    use crate::memory::heap_usage;
    use crate::power;
    use std::sync::atomic::AtomicPtr;

    /// Runs `kernel`, which ends with [`power::off`], on a machine of its own.
    fn on_a_machine(kernel: fn() -> !) -> u8 {
        run(Configuration { cpus: 2, memory: 32 << 20, ..Configuration::default() }, kernel).unwrap()
    }

    fn slab_frames() -> usize {
        heap_usage().slabs.iter().map(|slab| slab.frames).sum()
    }

    /// Frames that the arena, which serves a kernel without a source, has left.
    fn left() -> usize {
        current().zone.arena_left()
    }

    #[test]
    fn what_the_kernel_allocates_is_the_machines_memory() {
        let status = on_a_machine(|| {
            let before = (left(), slab_frames());
            let small: Vec<Box<[u8; 500]>> = (0..1000).map(|number| Box::new([number as u8; 500])).collect();
            let taken = before.0 - left();
            assert!((1000 / 8..200).contains(&taken), "{taken} frames for 500,000 bytes");
            assert!(slab_frames() > before.1 + 1000 / 8);
            let long = vec![7_u8; 1 << 20];
            assert_eq!(before.0 - left(), taken + 256);
            assert!(heap_usage().large_frames >= 256 && long.iter().all(|byte| *byte == 7));
            assert!(small.iter().enumerate().all(|(number, bytes)| bytes.iter().all(|byte| *byte == number as u8)));
            drop((small, long));
            assert!(before.0 - left() <= 8, "{} frames are still out", before.0 - left());
            power::off(3)
        });
        assert_eq!(status, 3);
    }

    #[test]
    fn memory_that_is_used_up_is_refused_and_comes_back() {
        let status = on_a_machine(|| {
            let mut long: Vec<Vec<u8>> = Vec::with_capacity(64);
            while long.len() < 64 {
                let mut piece = Vec::new();
                if piece.try_reserve_exact(1 << 20).is_err() {
                    break;
                }
                long.push(piece);
            }
            assert!((1..16).contains(&long.len()), "{} MiB of 16", long.len());
            assert!(Vec::<u8>::new().try_reserve_exact(1 << 20).is_err());
            long.pop();
            assert!(Vec::<u8>::new().try_reserve_exact(1 << 20).is_ok());
            // Frames that lie apart serve as well.
            drop(long);
            let singles: Vec<_> = std::iter::from_fn(|| take_frames(0)).collect();
            assert!(singles.len() > 1000 && left() == 0);
            singles.iter().step_by(2).for_each(|number| give_frames(number.get(), 0));
            assert!(Vec::<u8>::new().try_reserve_exact(1 << 20).is_ok());
            singles.iter().skip(1).step_by(2).for_each(|number| give_frames(number.get(), 0));
            power::off(4)
        });
        assert_eq!(status, 4);
    }

    #[test]
    fn memory_goes_back_to_the_heap_it_came_from() {
        static LENT: AtomicPtr<Vec<u8>> = AtomicPtr::new(null_mut());
        static LEFT: AtomicUsize = AtomicUsize::new(0);
        let borrower = std::thread::spawn(|| {
            loop {
                let lent = LENT.swap(null_mut(), Ordering::Acquire);
                if !lent.is_null() {
                    // SAFETY: the machine's thread gave it up.
                    let mut lent = unsafe { Box::from_raw(lent) };
                    assert!(lent.iter().all(|byte| *byte == 1) && owner_of(lent.as_ptr().addr()).is_some());
                    lent.extend([1; 200_000]); // moves to this thread's own heap
                    assert!(owner_of(lent.as_ptr().addr()).is_none());
                    drop(lent);
                    return LEFT.store(1, Ordering::Release);
                }
                std::thread::yield_now();
            }
        });
        let status = on_a_machine(|| {
            let before = left();
            LENT.store(Box::into_raw(Box::new(vec![1_u8; 100_000])), Ordering::Release);
            assert!(left() < before - 20);
            while LEFT.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            assert!(before - left() <= 1, "{} frames are still out", before - left());
            power::off(5)
        });
        assert_eq!(status, 5);
        borrower.join().unwrap();
    }

    /// A source that uses the heap while the heap asks it, and on every CPU at once.
    #[test]
    fn a_source_that_allocates_breaks_nothing() {
        use crate::memory::{FrameSource, install};
        use std::sync::Arc;

        /// What came back, and what was never out.
        struct Selfish(Mutex<(Vec<usize>, usize)>);

        impl FrameSource for Selfish {
            fn allocate(&self, order: u8) -> Option<usize> {
                let boxes: Vec<_> = (0..50).map(Box::new).collect();
                assert!(boxes.iter().enumerate().all(|(number, held)| number == **held));
                let (returned, fresh) = &mut *lock(&self.0);
                let again = returned.pop().filter(|_| order == 0);
                again.or_else(|| {
                    let first = fresh.next_multiple_of(1 << order);
                    *fresh = first + (1 << order);
                    Some(first) // if there is no such frame, it is refused
                })
            }

            fn free(&self, first: usize, order: u8) {
                lock(&self.0).0.extend(first..first + (1 << order)); // grows
            }

            fn free_frames(&self) -> usize {
                usize::MAX // says the source
            }

            fn total_frames(&self) -> usize {
                self.free_frames()
            }
        }

        let status = on_a_machine(|| {
            let fresh = crate::memory::usable().first().map_or(0, |range| range.start);
            install(Arc::new(Selfish(Mutex::new((Vec::new(), fresh)))));
            for turn in 0..200_u8 {
                let held: Vec<_> = (0..200).map(|_| Box::new([turn; 100])).collect();
                let long = vec![turn; 100_000];
                assert!(held.iter().all(|bytes| **bytes == [turn; 100]) && long.iter().all(|byte| *byte == turn));
            }
            power::off(6)
        });
        assert_eq!(status, 6);
    }
}
