//! What stands in the place of a page that was swapped out.

use core::num::NonZeroU32;

/// A number that a space keeps in the place of a page that lies elsewhere: of up to 2^31 - 1, what the kernel likes. Linux's `swp_entry_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwapEntry(NonZeroU32);

impl SwapEntry {
    /// The greatest.
    pub const MOST: u32 = (1 << 31) - 1;

    /// The entry with this number, if there is one: not 0, nor above [`MOST`](Self::MOST).
    #[inline]
    pub const fn new(number: u32) -> Option<SwapEntry> {
        match NonZeroU32::new(number) {
            Some(number) if number.get() <= SwapEntry::MOST => Some(SwapEntry(number)),
            _ => None,
        }
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// Who counts in how many places each entry stands, to know when what lies elsewhere is nobody's any more. Called with a space locked: it must
/// neither sleep nor touch spaces.
pub trait SwapEntries: Send + Sync {
    /// The entry stands in one more place: a page was swapped out, or fork copied the entry (Linux's `swap_duplicate`).
    fn duplicate(&self, entry: SwapEntry);

    /// In one less: the page was swapped in, or unmapped (`swap_free`).
    fn release(&self, entry: SwapEntry);
}

/// What the processor noted of a page that was swapped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwappedOut {
    /// Accessed since it was mapped.
    pub accessed: bool,
    /// Written since it was mapped.
    pub dirty: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_31_bits_and_is_not_0() {
        assert!(SwapEntry::new(0).is_none() && SwapEntry::new(SwapEntry::MOST + 1).is_none());
        assert_eq!(SwapEntry::new(SwapEntry::MOST).map(SwapEntry::get), Some(0x7fff_ffff));
    }
}
