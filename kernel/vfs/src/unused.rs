//! Dentries that nobody need keep, of which only so many are kept.
//!
//! Those of a file system in memory are all there is of it, and live as long as their names. Two kinds can be had again: those of a file
//! system that is kept elsewhere, which may be larger than this machine, and negative ones. They wait in an [`UnusedDentries`], in the order
//! they came; for each new one beyond the bound the oldest that nobody uses goes. When memory is out, all such may go.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::fallible::TryVecDeque;
use memory::Cache;
use sync::SpinLock;

use crate::dentry::Dentry;

/// How many are kept of a file system that is kept elsewhere, though nobody uses them.
const MOST_KEPT: usize = 16_384;

/// How many are looked at for each new one at most, so that they become fewer again after many were in use.
const LOOKS: usize = 4;

/// About how many make a page of the kernel's memory.
const PER_PAGE: u64 = 8;

/// Dentries, oldest first.
pub(crate) struct UnusedDentries {
    queue: SpinLock<VecDeque<Weak<Dentry>>>,
    most: AtomicUsize,
}

impl Default for UnusedDentries {
    fn default() -> UnusedDentries {
        UnusedDentries::with_bound(MOST_KEPT)
    }
}

impl UnusedDentries {
    /// None yet, and never more than `most` that nobody uses.
    pub fn with_bound(most: usize) -> UnusedDentries {
        UnusedDentries { queue: SpinLock::default(), most: AtomicUsize::new(most) }
    }

    /// Never more than `most` that nobody uses, from now on.
    pub fn set_bound(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// One more; the oldest that nobody uses go for it. Where the lock of a directory is held, none of that directory go.
    pub fn add(&self, dentry: &Arc<Dentry>) {
        // Without memory it is not in the queue, and stays until somebody lets its directory go.
        let _ = self.queue.lock().try_push_back(Arc::downgrade(dentry));
        for _ in 0..LOOKS {
            let mut queue = self.queue.lock();
            let oldest = if queue.len() > self.most.load(Ordering::Relaxed) { queue.pop_front() } else { None };
            drop(queue);
            let Some(oldest) = oldest else { break };
            self.let_go(oldest);
        }
    }

    /// Drops it if nobody uses it; else it waits again. True if it is gone.
    fn let_go(&self, oldest: Weak<Dentry>) -> bool {
        let Some(kept) = oldest.upgrade() else { return true };
        let gone = kept.let_go();
        if !gone {
            // It came from there, so that there is room but for a new one that was faster.
            let _ = self.queue.lock().try_push_back(oldest);
        }
        gone
    }
}

impl Cache for UnusedDentries {
    fn give_back(&self, pages: u64) -> Option<u64> {
        let waiting = self.queue.lock().len() as u64;
        let mut gone = 0;
        for _ in 0..waiting.min(pages.saturating_mul(PER_PAGE)) {
            let Some(oldest) = self.queue.lock().pop_front() else { break };
            gone += u64::from(self.let_go(oldest));
        }
        Some(gone.div_ceil(PER_PAGE))
    }
}
