//! A stock of single free frames on every CPU.
//!
//! Only its own CPU touches a stock, with interrupts off, so taking a frame is a bounds check and a load. When a stock
//! runs empty the buddy system fills it with half of what it can hold, and when it runs over it takes half back: a
//! process that comes and goes does not reach the shared lock at all. How full each stock is can be read by everybody, for
//! exact statistics.

use core::sync::atomic::{AtomicUsize, Ordering};

use machine::cpu::{PerCpu, PerCpuCell};

/// Frames that move between a stock and the buddy system at once.
const BATCH: usize = 64;
/// Frames a stock may hold.
const CAPACITY: usize = 2 * BATCH;

/// Some frames by number.
pub struct Batch {
    frames: [u32; BATCH],
    count: usize,
}

impl Batch {
    pub fn new() -> Batch {
        Batch { frames: [0; BATCH], count: 0 }
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        BATCH - self.count
    }

    pub fn extend(&mut self, frames: impl Iterator<Item = u32>) {
        for frame in frames {
            if let Some(slot) = self.frames.get_mut(self.count) {
                *slot = frame;
                self.count += 1;
            }
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.frames.get(..self.count).unwrap_or_default().iter().copied()
    }
}

struct Stock {
    frames: [u32; CAPACITY],
    count: usize,
}

impl Stock {
    #[inline]
    fn push(&mut self, frame: u32) -> bool {
        let Some(slot) = self.frames.get_mut(self.count) else { return false };
        *slot = frame;
        self.count += 1;
        true
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        let count = self.count.checked_sub(1)?;
        let frame = *self.frames.get(count)?;
        self.count = count;
        Some(frame)
    }

    fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::new();
        // bounded: a batch, which lies in place
        batch.extend(core::iter::from_fn(|| self.pop()).take(BATCH));
        batch
    }
}

/// The stocks of all CPUs.
pub struct PerCpuCache {
    stocks: PerCpuCell<Stock>,
    counts: PerCpu<AtomicUsize>,
}

impl PerCpuCache {
    pub fn new() -> PerCpuCache {
        PerCpuCache {
            stocks: PerCpuCell::new(|_| Stock { frames: [0; CAPACITY], count: 0 }),
            counts: PerCpu::new(|_| AtomicUsize::new(0)),
        }
    }

    /// Frames in all stocks together.
    pub fn count(&self) -> usize {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    #[inline]
    pub fn pop(&self) -> Option<u32> {
        self.with(Stock::pop)
    }

    /// Puts a frame in. If the stock is full, a batch comes out that must go back to the buddy system.
    #[inline]
    pub fn push(&self, frame: u32) -> Option<Batch> {
        if self.with(|stock| stock.push(frame)) { None } else { Some(self.make_room(frame)) }
    }

    #[cold]
    fn make_room(&self, frame: u32) -> Batch {
        self.with(|stock| {
            let batch = stock.take_batch();
            stock.push(frame);
            batch
        })
    }

    /// Puts a whole batch in, to come out in its own order: neighbours stay neighbours, which a machine that maps runs of frames
    /// likes. The caller saw the stock empty, so it fits.
    pub fn push_all(&self, batch: &Batch) {
        self.with(|stock| {
            for frame in batch.iter().rev() {
                stock.push(frame);
            }
        });
    }

    /// Takes a batch out of this CPU's stock; none when it is empty.
    pub fn take_some(&self) -> Option<Batch> {
        Some(self.with(Stock::take_batch)).filter(|batch| batch.room() < BATCH)
    }

    #[inline]
    fn with<R>(&self, action: impl FnOnce(&mut Stock) -> R) -> R {
        self.stocks.with(|stock| {
            let result = action(stock);
            self.counts.get().store(stock.count, Ordering::Relaxed);
            result
        })
    }
}
