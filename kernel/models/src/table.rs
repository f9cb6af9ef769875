//! What is known of a page table, with exchanges that are what they are on x86: full barriers.

/// As `core::sync::atomic` compiled for x86, as far as the file needs it. loom knows fences, and takes other accesses for weaker than they are.
pub mod atomic {
    use crate::atomic as plain;
    pub use plain::Ordering;
    use plain::fence;

    /// A word whose exchanges are locked instructions.
    pub struct AtomicU32(plain::AtomicU32);

    impl AtomicU32 {
        pub const fn new(value: u32) -> AtomicU32 {
            AtomicU32(plain::AtomicU32::new(value))
        }

        pub fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        pub fn store(&self, value: u32, order: Ordering) {
            self.0.store(value, order);
        }

        pub fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            let old = self.0.fetch_sub(value, order);
            fence(Ordering::SeqCst);
            old
        }

        pub fn compare_exchange(&self, old: u32, new: u32, success: Ordering, failure: Ordering) -> Result<u32, u32> {
            let found = self.0.compare_exchange(old, new, success, failure);
            fence(Ordering::SeqCst);
            found
        }
    }
}

#[path = "../../../machine/src/arch/x86_64/table/state.rs"]
mod state;

pub use state::State;
