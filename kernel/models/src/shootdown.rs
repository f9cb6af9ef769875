//! What CPUs tell each other about translations, with exchanges that are what they are on x86: full barriers.

/// As `core::sync::atomic` compiled for x86, as far as the file needs it. loom knows fences, and takes other accesses for weaker than they are.
mod atomic {
    pub use crate::atomic::{AtomicU64, Ordering, fence};

    /// A word whose exchange is `xchg`.
    pub struct AtomicUsize(crate::atomic::AtomicUsize);

    impl AtomicUsize {
        pub const fn new(value: usize) -> AtomicUsize {
            AtomicUsize(crate::atomic::AtomicUsize::new(value))
        }

        pub fn load(&self, order: Ordering) -> usize {
            self.0.load(order)
        }

        pub fn store(&self, value: usize, order: Ordering) {
            self.0.store(value, order);
        }

        pub fn fetch_add(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_add(value, order)
        }

        pub fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_sub(value, order)
        }

        pub fn swap(&self, value: usize, order: Ordering) -> usize {
            let old = self.0.swap(value, order);
            fence(Ordering::SeqCst);
            old
        }
    }

    /// The same for a flag.
    pub struct AtomicBool(AtomicUsize);

    impl AtomicBool {
        pub const fn new(value: bool) -> AtomicBool {
            AtomicBool(AtomicUsize::new(value as usize))
        }

        pub fn load(&self, order: Ordering) -> bool {
            self.0.load(order) != 0
        }

        pub fn store(&self, value: bool, order: Ordering) {
            self.0.store(usize::from(value), order);
        }

        pub fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(usize::from(value), order) != 0
        }
    }
}

#[path = "../../../machine/src/arch/x86_64/shootdown/protocol.rs"]
mod protocol;

pub use protocol::{Hardware, Shootdown, Slot};
