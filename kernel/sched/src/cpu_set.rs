//! A set of CPUs that is read and changed without a lock, a CPU at a time.

use abi::cpus::{CpuSet, WORDS};

use crate::atomic::{AtomicU64, Ordering};

const WORD: usize = u64::BITS as usize;

/// See the module's page. Every change is a barrier: see `halted`.
#[derive(Debug)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl AtomicCpuSet {
    /// No CPU.
    pub const fn new() -> AtomicCpuSet {
        AtomicCpuSet([const { AtomicU64::new(0) }; WORDS])
    }

    /// Sets all of it, a word at a time.
    pub fn store(&self, set: CpuSet) {
        self.0.iter().zip(set.0).for_each(|(word, new)| word.store(new, Ordering::Relaxed));
    }

    /// All of it, a word at a time.
    pub fn load(&self) -> CpuSet {
        CpuSet(core::array::from_fn(|index| self.word(index)))
    }

    /// The CPUs from `index` * 64 on.
    #[inline]
    pub fn word(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Whether a CPU is in it.
    #[inline]
    pub fn contains(&self, cpu: usize) -> bool {
        self.word(cpu / WORD) >> (cpu % WORD) & 1 == 1
    }

    /// Adds a CPU.
    pub fn insert(&self, cpu: usize) {
        if let Some(word) = self.0.get(cpu / WORD) {
            word.fetch_or(1 << (cpu % WORD), Ordering::SeqCst);
        }
    }

    /// Takes a CPU out. Whether it was there.
    pub fn remove(&self, cpu: usize) -> bool {
        let bit = 1 << (cpu % WORD);
        self.0.get(cpu / WORD).is_some_and(|word| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }
}
