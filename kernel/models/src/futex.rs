//! The table of those who wait for futexes, with keys that are numbers.

/// Which word it is.
pub type Key = usize;

/// Spreads keys so that the model is the same each time: by the number of the word.
#[derive(Clone, Copy, Default)]
pub struct Hasher(u64);

impl core::hash::BuildHasher for Hasher {
    type Hasher = Hasher;

    fn build_hasher(&self) -> Hasher {
        Hasher(0)
    }
}

impl core::hash::Hasher for Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash << 8 | u64::from(byte));
    }

    fn write_usize(&mut self, key: usize) {
        self.0 = key as u64 / 8;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a waiter waits for if it doesn't say.
pub const ANY: u32 = u32::MAX;

#[path = "../../process/src/futex/table.rs"]
mod table;

pub use table::{Futexes, Line, Waiting};
