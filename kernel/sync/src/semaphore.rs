//! Dijkstra's counting semaphore.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::WaitQueue;

/// A number of permits; who finds none sleeps.
pub struct Semaphore {
    permits: AtomicUsize,
    queue: WaitQueue,
}

/// One permit, given back when dropped.
pub struct Permit<'a>(&'a Semaphore);

/// One permit that owns a share of its semaphore, so that it may outlive the call that took it. Given back when dropped.
pub struct OwnedPermit(Arc<Semaphore>);

impl Semaphore {
    /// A semaphore with `permits` to give.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { permits: AtomicUsize::new(permits), queue: WaitQueue::new() }
    }

    /// Dijkstra's P: waits for a permit. Cancel-safe.
    pub async fn acquire(&self) -> Permit<'_> {
        self.queue.wait_until(|| self.try_acquire()).await
    }

    /// A permit if there is one at this moment.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.take().then(|| Permit(self))
    }

    /// As [`Semaphore::acquire`], for a permit that is kept beyond the caller's own life.
    pub async fn acquire_owned(self: &Arc<Semaphore>) -> OwnedPermit {
        self.queue.wait_until(|| self.try_acquire_owned()).await
    }

    /// As [`Semaphore::try_acquire`], for a permit that is kept beyond the caller's own life.
    pub fn try_acquire_owned(self: &Arc<Semaphore>) -> Option<OwnedPermit> {
        self.take().then(|| OwnedPermit(self.clone()))
    }

    fn take(&self) -> bool {
        self.permits.fetch_update(Ordering::Acquire, Ordering::Relaxed, |permits| permits.checked_sub(1)).is_ok()
    }

    /// Dijkstra's V: adds a permit.
    pub fn release(&self) {
        self.permits.fetch_add(1, Ordering::Release);
        self.queue.wake_one();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl OwnedPermit {
    /// Whether it is of this semaphore.
    pub fn is_of(&self, semaphore: &Arc<Semaphore>) -> bool {
        Arc::ptr_eq(&self.0, semaphore)
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{CountingWaker, block_on, poll_once};

    #[test]
    fn no_more_permits_than_there_are() {
        let semaphore = Semaphore::new(2);
        let first = block_on(semaphore.acquire());
        let _second = block_on(semaphore.acquire());
        assert!(semaphore.try_acquire().is_none());
        let waker = CountingWaker::new();
        let mut third = Box::pin(semaphore.acquire());
        assert!(poll_once(&mut third, &waker).is_pending());
        drop(first);
        assert_eq!(waker.count(), 1);
        assert!(poll_once(&mut third, &waker).is_ready());
    }
}
