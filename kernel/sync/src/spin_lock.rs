//! Locks that spin. The waiting loop and the cell are the `spin` crate's; what is ours is the guard that cannot be
//! carried over an `.await` and the relaxing that serves TLB requests.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// How a CPU passes the time while it spins.
pub(crate) struct ServeOthers;

impl spin::RelaxStrategy for ServeOthers {
    #[inline]
    fn relax() {
        machine::cpu::relax();
    }
}

/// Makes a guard `!Send`, and with it every future that holds the guard over an `.await`.
type NotSend = PhantomData<*const ()>;

/// Mutual exclusion for a few instructions. Not recursive; not fair beyond what the cache line gives.
pub struct SpinLock<T: ?Sized>(spin::mutex::SpinMutex<T, ServeOthers>);

/// Access to what a [`SpinLock`] protects, until dropped.
pub struct SpinGuard<'a, T: ?Sized>(spin::mutex::SpinMutexGuard<'a, T>, NotSend);

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> SpinLock<T> {
        SpinLock(spin::mutex::SpinMutex::new(value))
    }

    /// Takes the lock apart.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Spins until the lock is ours.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        SpinGuard(self.0.lock(), PhantomData)
    }

    /// The lock if it is free at this moment.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.0.try_lock().map(|guard| SpinGuard(guard, PhantomData))
    }

    /// The value without locking: whoever has `&mut` has it alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        SpinLock::new(T::default())
    }
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Many readers or one writer, spinning. Readers may starve a writer: for data that is read all the time and written
/// seldom, such as a directory's entries.
pub struct RwSpinLock<T: ?Sized>(spin::rwlock::RwLock<T, ServeOthers>);

/// Shared access to what an [`RwSpinLock`] protects.
pub struct ReadGuard<'a, T: ?Sized>(spin::rwlock::RwLockReadGuard<'a, T>, NotSend);

/// Sole access to what an [`RwSpinLock`] protects.
pub struct WriteGuard<'a, T: ?Sized>(spin::rwlock::RwLockWriteGuard<'a, T, ServeOthers>, NotSend);

impl<T> RwSpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> RwSpinLock<T> {
        RwSpinLock(spin::rwlock::RwLock::new(value))
    }
}

impl<T: ?Sized> RwSpinLock<T> {
    /// Spins until no writer holds the lock.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.0.read(), PhantomData)
    }

    /// Spins until nobody else holds the lock.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        WriteGuard(self.0.write(), PhantomData)
    }

    /// Shared access if no writer holds the lock at this moment.
    #[inline]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.0.try_read().map(|guard| ReadGuard(guard, PhantomData))
    }

    /// Sole access if nobody holds the lock at this moment.
    #[inline]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.0.try_write().map(|guard| WriteGuard(guard, PhantomData))
    }

    /// The value without locking: whoever has `&mut` has it alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for RwSpinLock<T> {
    fn default() -> Self {
        RwSpinLock::new(T::default())
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn four_threads_never_lose_an_increment() {
        let counter = Arc::new(SpinLock::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counter = counter.clone();
                std::thread::spawn(move || (0..10_000).for_each(|_| *counter.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*counter.lock(), 40_000);
    }

    #[test]
    fn a_held_lock_cannot_be_tried() {
        let lock = SpinLock::new(());
        let held = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(held);
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let lock = RwSpinLock::new(1);
        let (first, second) = (lock.read(), lock.read());
        assert_eq!(*first + *second, 2);
        assert!(lock.try_write().is_none());
        drop((first, second));
        *lock.write() = 2;
        assert_eq!(*lock.read(), 2);
    }
}
