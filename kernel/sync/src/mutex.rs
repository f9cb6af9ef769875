//! A lock whose waiters sleep: for critical sections that themselves wait, such as a file being written to disk.

use core::ops::{Deref, DerefMut};

use crate::WaitQueue;

/// Mutual exclusion over `.await`s. Its guard is `Send`.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    queue: WaitQueue,
    /// Never spun for: only tried. It is the `spin` crate's for the cell and the safe guard.
    value: spin::mutex::SpinMutex<T>,
}

/// Access to what a [`Mutex`] protects, until dropped.
pub struct MutexGuard<'a, T: ?Sized> {
    // The order matters: the value is released before the next in line is woken.
    value: Option<spin::mutex::SpinMutexGuard<'a, T>>,
    queue: &'a WaitQueue,
}

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { queue: WaitQueue::new(), value: spin::mutex::SpinMutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the lock is ours. Cancel-safe.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        self.queue.wait_until(|| self.try_lock()).await
    }

    /// The lock if it is free at this moment.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.value.try_lock().map(|value| MutexGuard { value: Some(value), queue: &self.queue })
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.queue.wake_one();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("the value is given up only in drop"),
        }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("the value is given up only in drop"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{CountingWaker, block_on, poll_once};

    #[test]
    fn the_next_in_line_gets_the_lock() {
        let mutex = Mutex::new(0);
        let mut held = block_on(mutex.lock());
        *held = 5;
        let waker = CountingWaker::new();
        let mut next = Box::pin(mutex.lock());
        assert!(poll_once(&mut next, &waker).is_pending());
        drop(held);
        assert_eq!(waker.count(), 1);
        assert_eq!(*block_on(next), 5);
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_the_lock_to_others() {
        let mutex = Mutex::new(());
        let held = block_on(mutex.lock());
        let (quitter, stayer) = (CountingWaker::new(), CountingWaker::new());
        let mut first = Box::pin(mutex.lock());
        let mut second = Box::pin(mutex.lock());
        assert!(poll_once(&mut first, &quitter).is_pending());
        assert!(poll_once(&mut second, &stayer).is_pending());
        drop(held);
        drop(first);
        assert_eq!(stayer.count(), 1);
        assert!(poll_once(&mut second, &stayer).is_ready());
    }
}
