//! Anonymous pages that lie elsewhere while nobody uses them: swap.
//!
//! A page goes out by [`Memory::swap_out`]: it gets a place of the backing, everybody who maps it (`family`) has that place's *swap entry* from
//! then on, and the frame is written and freed. A page fault at a swap entry has it read again ([`Swap::page`]). Each place is counted: by
//! each page table in which its entry stands, and by the *swap cache*, the frames that are between the two. What is in the cache is found
//! there by a fault, and mapped copy-on-write, so nobody changes what is being written:
//!
//! ```text
//!   mapped --- swap_out ---> Writing --- written ---> (elsewhere) --- a fault ---> Reading --- read ---> Clean
//!     ^                        |   '----- failed ----> Kept                                               |
//!     '------- a fault --------+-----------------------'--------------------------- a fault --------------'
//! ```
//!
//! A page whose write failed is *kept*: its frame is the only one that has the bytes. One that was read stays for others that have the same
//! entry, until the cache is full, or memory is short. Without a backing nothing is ever swapped out, and nothing here costs anything.
//!
//! **Locks.** One, around the cache, under those of spaces; the counts of places are changed by the machine with page tables locked, and take
//! none. The backing is called without the cache's lock.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use abi::Errno;
use abi::fallible::TryVec;
use machine::memory::{Frame, SwapEntries, SwapEntry};
use sync::{Once, SpinLock, WaitQueue};

use crate::area::AreaFlags;
use crate::fault::MemoryFault;
use crate::kernel_memory::Memory;
use crate::pager::PagerError;

/// Where pages of programs go. Called with locks that spin held: it takes a request and returns, and completes it whenever it can, from a task or a
/// call. A request that is dropped has failed.
pub trait SwapBacking: Send + Sync {
    /// Fills the frame with what was last written to the place. Nobody writes it meanwhile.
    fn read(&self, request: SwapRead);

    /// Writes the frame, which does not change, to the place.
    fn write(&self, request: SwapWrite);
}

/// A page to be read.
pub struct SwapRead {
    swap: Arc<Swap>,
    entry: SwapEntry,
    frame: Frame,
    reading: Arc<Reading>,
    result: Result<(), PagerError>,
}

impl SwapRead {
    /// Which place.
    pub fn entry(&self) -> SwapEntry {
        self.entry
    }

    /// What is to be filled.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// It is filled, or can't be.
    pub fn complete(mut self, result: Result<(), PagerError>) {
        self.result = result;
    }
}

impl Drop for SwapRead {
    fn drop(&mut self) {
        if self.result.is_ok() {
            self.swap.set(self.entry, State::Clean);
        } else {
            self.swap.forget(self.entry);
            self.reading.failed.store(true, Ordering::Relaxed);
        }
        self.reading.is_over.store(true, Ordering::Release);
        self.reading.over.wake_all();
    }
}

/// A page to be written.
pub struct SwapWrite {
    swap: Arc<Swap>,
    entry: SwapEntry,
    frame: Frame,
    result: Result<(), PagerError>,
}

impl SwapWrite {
    /// Which place.
    pub fn entry(&self) -> SwapEntry {
        self.entry
    }

    /// What is to be written.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// It is written, or can't be.
    pub fn complete(mut self, result: Result<(), PagerError>) {
        self.result = result;
    }
}

impl Drop for SwapWrite {
    fn drop(&mut self) {
        if self.result.is_ok() {
            self.swap.forget(self.entry);
        } else {
            self.swap.set(self.entry, State::Kept);
        }
    }
}

/// A read under way, for those who wait for it.
#[derive(Default)]
pub(crate) struct Reading {
    is_over: AtomicBool,
    failed: AtomicBool,
    over: WaitQueue,
}

impl Reading {
    /// Resolves when it is over. Cancel-safe.
    pub async fn ready(&self) -> Result<(), MemoryFault> {
        self.over.wait_until(|| self.is_over.load(Ordering::Acquire).then_some(())).await;
        if self.failed.load(Ordering::Relaxed) { Err(MemoryFault::Bus) } else { Ok(()) }
    }
}

/// A frame in the swap cache.
struct Cached {
    frame: Frame,
    state: State,
}

#[derive(Clone)]
enum State {
    Writing,
    /// The backing doesn't have it.
    Kept,
    Reading(Arc<Reading>),
    /// The backing has it, too.
    Clean,
}

/// Clean pages in the cache at most.
const MOST_CLEAN: usize = 32;

/// Places whose counts lie together.
const CHUNK: usize = 512;

/// See the module's page.
#[derive(Default)]
pub(crate) struct Swap {
    device: Once<Device>,
    cache: SpinLock<BTreeMap<SwapEntry, Cached>>,
}

/// A backing, and how often each of its places is counted; 0: it is free.
struct Device {
    backing: Arc<dyn SwapBacking>,
    counts: Vec<Vec<AtomicU32>>,
    places: usize,
    /// Where to look for a free place.
    next: AtomicUsize,
}

impl Device {
    fn count(&self, entry: SwapEntry) -> Option<&AtomicU32> {
        let place = entry.get() as usize - 1;
        self.counts.get(place / CHUNK)?.get(place % CHUNK)
    }

    /// Takes a place that is free, counted once, for the cache.
    fn claim(&self) -> Option<SwapEntry> {
        let start = self.next.load(Ordering::Relaxed);
        let entry = (0..self.places).find_map(|distance| {
            let entry = SwapEntry::new(((start + distance) % self.places) as u32 + 1)?;
            let claimed = self.count(entry)?.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            claimed.is_ok().then_some(entry)
        })?;
        self.next.store(entry.get() as usize, Ordering::Relaxed);
        Some(entry)
    }

    /// Counts it once more, if it is anybody's.
    fn hold(&self, entry: SwapEntry) -> bool {
        let one_more = |count: u32| count.checked_add(1).filter(|_| count > 0);
        let held = |count: &AtomicU32| count.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok();
        self.count(entry).is_some_and(held)
    }

    /// Whether the cache alone counts it.
    fn is_unused(&self, entry: SwapEntry) -> bool {
        self.count(entry).is_some_and(|count| count.load(Ordering::Acquire) == 1)
    }
}

impl SwapEntries for Swap {
    fn duplicate(&self, entry: SwapEntry) {
        let count = self.device.get().and_then(|device| device.count(entry));
        count.inspect(|count| _ = count.fetch_add(1, Ordering::Relaxed));
    }

    fn release(&self, entry: SwapEntry) {
        let count = self.device.get().and_then(|device| device.count(entry));
        count.inspect(|count| _ = count.fetch_sub(1, Ordering::Release));
    }
}

/// What a fault finds at a swap entry.
pub(crate) enum Found {
    /// The page.
    Frame(Frame),
    /// It is on its way.
    Reading(Arc<Reading>),
    /// The entry stands there no longer.
    Gone,
}

impl Swap {
    /// Whether pages may be swapped out.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.device.get().is_some()
    }

    /// Places that are somebody's.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        let counts = self.device.get().into_iter().flat_map(|device| device.counts.iter().flatten());
        counts.filter(|count| count.load(Ordering::Relaxed) > 0).count()
    }

    /// Finds the page of `entry`, or begins to read it into the frame that `frame` makes. `stands`: whether the entry still stands where
    /// it was found.
    pub fn page(
        self: &Arc<Swap>,
        entry: SwapEntry,
        frame: impl FnOnce() -> Result<Frame, MemoryFault>,
        stands: impl FnOnce() -> bool,
    ) -> Result<Found, MemoryFault> {
        let Some(device) = self.device.get().filter(|device| device.hold(entry)) else { return Ok(Found::Gone) };
        // Held by us until the cache holds it: it is no other page's meanwhile.
        if !stands() {
            self.release(entry);
            return Ok(Found::Gone);
        }
        let found = self.find(entry);
        if let Some(found) = found {
            self.release(entry);
            return Ok(found);
        }
        let frame = frame().inspect_err(|_| self.release(entry))?;
        self.trim();
        let reading = Arc::new(Reading::default());
        let mut cache = self.cache.lock();
        if cache.contains_key(&entry) {
            drop(cache);
            self.release(entry);
            return Ok(self.find(entry).unwrap_or(Found::Gone));
        }
        cache.insert(entry, Cached { frame: frame.clone(), state: State::Reading(reading.clone()) });
        drop(cache);
        let request =
            SwapRead { swap: self.clone(), entry, frame, reading: reading.clone(), result: Err(PagerError::Io) };
        device.backing.read(request);
        Ok(Found::Reading(reading))
    }

    fn find(&self, entry: SwapEntry) -> Option<Found> {
        let cache = self.cache.lock();
        let cached = cache.get(&entry)?;
        Some(match &cached.state {
            State::Reading(reading) => Found::Reading(reading.clone()),
            State::Writing | State::Kept | State::Clean => Found::Frame(cached.frame.clone()),
        })
    }

    /// After a page was mapped: the cache gives it up, if no entry is left. What is being written or read goes then.
    pub fn mapped(&self, entry: SwapEntry) {
        let Some(device) = self.device.get() else { return };
        let mut cache = self.cache.lock();
        let is_idle = |cached: &Cached| matches!(cached.state, State::Kept | State::Clean);
        if cache.get(&entry).is_some_and(is_idle) && device.is_unused(entry) {
            let gone = cache.remove(&entry);
            drop(cache);
            self.release(entry);
            drop(gone);
        }
    }

    /// Makes room in the cache, if there are clean pages, or some that nobody needs.
    fn trim(&self) {
        while self.take_unneeded(MOST_CLEAN).is_some() {}
    }

    /// Gives back what can be read again, or nobody needs; tells how many pages.
    pub fn shrink(&self) -> u64 {
        core::iter::from_fn(|| self.take_unneeded(0)).count() as u64
    }

    /// Takes a page out of the cache, if it has more than so many.
    fn take_unneeded(&self, most: usize) -> Option<Cached> {
        let device = self.device.get()?;
        let mut cache = self.cache.lock();
        if cache.len() <= most {
            return None;
        }
        let is_unneeded = |entry: SwapEntry, cached: &Cached| match cached.state {
            State::Clean => true,
            State::Kept => device.is_unused(entry),
            State::Reading(_) | State::Writing => false,
        };
        let (&entry, _) = cache.iter().find(|(entry, cached)| is_unneeded(**entry, cached))?;
        let gone = cache.remove(&entry);
        drop(cache);
        self.release(entry);
        gone
    }

    fn set(&self, entry: SwapEntry, state: State) {
        self.cache.lock().get_mut(&entry).into_iter().for_each(|cached| cached.state = state.clone());
        self.mapped(entry);
    }

    /// The cache gives up what it has for `entry`.
    fn forget(&self, entry: SwapEntry) {
        let gone = self.cache.lock().remove(&entry);
        if gone.is_some() {
            self.release(entry);
        }
    }
}

impl Memory {
    /// Lets pages of programs be swapped out to the first so many places of `backing`. Only the first call counts.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn install_swap(&self, backing: Arc<dyn SwapBacking>, places: u32) -> Result<(), Errno> {
        let places = places.min(SwapEntry::MOST) as usize;
        let mut counts = Vec::new();
        for first in (0..places).step_by(CHUNK) {
            let mut chunk = Vec::new();
            chunk.try_extend((first..places.min(first + CHUNK)).map(|_| AtomicU32::new(0)))?;
            counts.try_push(chunk)?;
        }
        self.swap().device.get_or_try(|| Ok(Device { backing, counts, places, next: AtomicUsize::new(0) })).map(drop)
    }

    /// Begins to swap out the anonymous page in `frame`, wherever it is mapped. False, and nobody sees a change, if there is no backing, no
    /// place, or nobody maps it but where it is locked (mlock(2)). Somebody else who has the frame may still change it: then it is kept. Called
    /// without locks.
    pub fn swap_out(&self, frame: Frame) -> bool {
        let swap = self.swap();
        let Some(device) = swap.device.get() else { return false };
        swap.trim();
        let Some(entry) = device.claim() else { return false };
        swap.cache.lock().insert(entry, Cached { frame: frame.clone(), state: State::Writing });
        drop(self.visit_anonymous(&frame, |_, area, page, gather| {
            if !area.flags.contains(AreaFlags::LOCKED) {
                gather.swap_out(page, frame.number(), entry);
            }
        }));
        if device.is_unused(entry) {
            swap.forget(entry);
            return false;
        }
        // Ours, and the cache's: whoever finds it there may not write to it.
        let is_ours = frame.references() == 2;
        let result = Err(PagerError::Io);
        let request = SwapWrite { swap: swap.clone(), entry, frame, result };
        if is_ours {
            device.backing.write(request);
        }
        true
    }
}
