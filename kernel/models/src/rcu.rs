//! Readers without a lock, with exchanges that are what they are on x86: full barriers.

/// As `core::sync::atomic` compiled for x86, as far as the file needs it. loom knows fences, and takes `SeqCst` accesses for weaker than they
/// are.
pub mod atomic {
    use crate::atomic as plain;
    pub use plain::Ordering;
    use plain::fence;

    /// A word whose exchanges are `lock xadd` and `xchg`.
    pub struct AtomicUsize(plain::AtomicUsize);

    impl AtomicUsize {
        pub const fn new(value: usize) -> AtomicUsize {
            AtomicUsize(plain::AtomicUsize::new(value))
        }

        pub fn load(&self, order: Ordering) -> usize {
            self.0.load(order)
        }

        pub fn swap(&self, value: usize, order: Ordering) -> usize {
            let old = self.0.swap(value, order);
            fence(Ordering::SeqCst);
            old
        }

        pub fn fetch_add(&self, value: usize, order: Ordering) -> usize {
            let old = self.0.fetch_add(value, order);
            fence(Ordering::SeqCst);
            old
        }

        /// The only one is the last of a section, of which no more is asked than what it says.
        pub fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_sub(value, order)
        }
    }
}

#[path = "../../../machine/src/rcu/readers.rs"]
mod readers;

pub use readers::Readers;

mod cells;

pub use cells::{RcuCell, ReadSection, Retired, Shared, read, wait_for_readers};
