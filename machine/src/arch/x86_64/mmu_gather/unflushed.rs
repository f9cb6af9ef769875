//! How many have taken something out of the tables of a space, and have not made all CPUs forget it yet.

use super::atomic::{AtomicUsize, Ordering};

/// The count. Each is in it from before it gives up the leaf table's lock until after its flush.
///
/// Who has had that lock after another and does not see it counted, sees that it has flushed: it was counted before the lock
/// changed hands, and is taken off (release) after the flush, which the look (acquire) so comes after.
pub struct Unflushed(AtomicUsize);

impl Unflushed {
    /// Nobody.
    pub const fn new() -> Unflushed {
        Unflushed(AtomicUsize::new(0))
    }

    /// One more. Under a leaf table's lock.
    #[inline]
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there are others, for one who has had a leaf table's lock. `own`: the caller is counted itself.
    #[inline]
    pub fn others(&self, own: bool) -> bool {
        self.0.load(Ordering::Acquire) > usize::from(own)
    }

    /// One has flushed.
    #[inline]
    pub fn end(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}
