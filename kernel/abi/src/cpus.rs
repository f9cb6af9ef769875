//! Sets of CPUs: sched_setaffinity(2), `Cpus_allowed` in /proc/PID/status.

/// Bits in a word of a set.
const WORD: usize = u64::BITS as usize;

/// Words of a set.
pub const WORDS: usize = 4;

/// A set of CPUs, a bit each, as programs have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(pub [u64; WORDS]);

impl CpuSet {
    /// CPUs that a set can tell of.
    pub const CAPACITY: usize = WORDS * WORD;
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet([0; WORDS]);
    /// Every CPU there could be.
    pub const ALL: CpuSet = CpuSet([u64::MAX; WORDS]);

    /// The first `count` CPUs.
    pub fn first(count: usize) -> CpuSet {
        let word = |index: usize| match count.saturating_sub(index * WORD) {
            0 => 0,
            bits => u64::MAX >> (WORD - bits.min(WORD)),
        };
        CpuSet(core::array::from_fn(word))
    }

    /// This CPU alone.
    pub fn of(cpu: usize) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        set.insert(cpu);
        set
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / WORD) {
            *word |= 1 << (cpu % WORD);
        }
    }

    /// Whether a CPU is in it.
    #[inline]
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / WORD).is_some_and(|word| word >> (cpu % WORD) & 1 == 1)
    }

    /// The CPUs that are in both.
    #[must_use]
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        let mut both = *self;
        both.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        both
    }

    /// Whether no CPU is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// As bytes: what programs give and get.
    pub fn to_bytes(&self) -> [u8; CpuSet::CAPACITY / 8] {
        let mut bytes = [0; CpuSet::CAPACITY / 8];
        for (to, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes; what is missing is no CPU.
    pub fn from_bytes(bytes: &[u8]) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        for (index, byte) in bytes.iter().enumerate().take(CpuSet::CAPACITY / 8) {
            if let Some(word) = set.0.get_mut(index / size_of::<u64>()) {
                *word |= u64::from(*byte) << (index % size_of::<u64>() * 8);
            }
        }
        set
    }
}

/// The CPUs of one word, the first 64.
impl From<u64> for CpuSet {
    fn from(word: u64) -> CpuSet {
        CpuSet([word, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_reach_over_words() {
        assert_eq!(CpuSet::first(0), CpuSet::EMPTY);
        assert_eq!(CpuSet::first(3), CpuSet([7, 0, 0, 0]));
        assert_eq!(CpuSet::first(64), CpuSet([u64::MAX, 0, 0, 0]));
        assert_eq!(CpuSet::first(65), CpuSet([u64::MAX, 1, 0, 0]));
        assert_eq!(CpuSet::first(1000), CpuSet::ALL);
        assert_eq!((CpuSet::of(128), CpuSet::of(1000)), (CpuSet([0, 0, 1, 0]), CpuSet::EMPTY));
        let set = CpuSet([1, 0, 2, 0]);
        assert!(set.contains(0) && set.contains(129) && !set.contains(128) && !set.contains(1000));
        assert_eq!((set.count(), set.is_empty(), CpuSet::EMPTY.is_empty()), (2, false, true));
        assert_eq!(set.intersection(&CpuSet([3, 3, 3, 3])), set);
        assert_eq!(set.intersection(&CpuSet::first(64)), CpuSet::of(0));
    }

    #[test]
    fn bytes_are_the_bits_in_order() {
        let set = CpuSet([0x0201, 0, 0, 1 << 63]);
        let bytes = set.to_bytes();
        assert_eq!((bytes[0], bytes[1], bytes[31]), (1, 2, 0x80));
        assert_eq!(CpuSet::from_bytes(&bytes), set);
        assert_eq!(CpuSet::from_bytes(&[1, 2]), CpuSet([0x0201, 0, 0, 0]));
        assert_eq!(CpuSet::from_bytes(&[0xff; 100]), CpuSet::ALL);
    }
}
