//! Dijkstra's counting semaphore.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::WaitQueue;

/// A number of permits; who finds none sleeps.
pub struct Semaphore {
    permits: AtomicUsize,
    queue: WaitQueue,
}

/// One permit, given back when dropped.
pub struct Permit<'a>(&'a Semaphore);

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
        self.permits
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |permits| permits.checked_sub(1))
            .ok()
            .map(|_| Permit(self))
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
