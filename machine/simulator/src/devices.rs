//! Devices: there are none. The types exist so that the kernel's drivers compile; a seed is all there is.

use alloc::string::String;
use alloc::sync::Arc;
use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The archive with the first files; this machine is given none.
#[derive(Debug)]
pub struct InitramfsImage(Infallible);

impl InitramfsImage {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self.0 {}
    }

    /// Gives its memory back.
    pub fn release(self) {}
}

/// A window of I/O ports; this machine has none.
#[derive(Debug)]
pub struct PortWindow(Infallible);

impl PortWindow {
    /// Reads the byte at `offset`.
    pub fn read_u8(&self, _offset: u16) -> u8 {
        match self.0 {}
    }

    /// Writes the byte at `offset`.
    pub fn write_u8(&self, _offset: u16, _value: u8) {
        match self.0 {}
    }
}

/// An interrupt line; this machine has none.
#[derive(Debug)]
pub struct InterruptLine(Infallible);

impl InterruptLine {
    /// Calls `handler` at each interrupt from now on.
    pub fn connect(&self, _handler: Arc<dyn Fn() + Send + Sync>) {
        match self.0 {}
    }
}

/// The kernel's options: none.
pub fn command_line() -> String {
    String::new()
}

/// The archive with the first files: none.
pub fn initramfs() -> Option<InitramfsImage> {
    None
}

/// The next bytes of a sequence that is the same in each run: nobody has to be kept from knowing them.
pub fn random_seed() -> [u8; 32] {
    static SEED: Seed = Seed::new(0);
    SEED.bytes()
}

/// Numbers that look random and are the same in each run: whoever knows the machine can foretell them all.
///
/// Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators" (2014), SplitMix64.
struct Seed(AtomicU64);

impl Seed {
    /// A sequence of its own for each number.
    const fn new(seed: u64) -> Seed {
        Seed(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next 32 bytes.
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_known() {
        let seed = Seed::new(0);
        let first = seed.bytes();
        // The published first number of the generator for seed 0.
        assert_eq!(first.first_chunk(), Some(&0xe220_a839_7b1d_cdaf_u64.to_le_bytes()));
        assert_ne!(first, seed.bytes());
        assert_eq!(first, Seed::new(0).bytes());
    }
}
