//! Locks that spin. The waiting loop and the cell are the `spin` crate's; what is ours is the guard that cannot be
//! carried over an `.await` and the relaxing that serves TLB requests.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::lock_order::{Class, Held};

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
pub struct SpinLock<T: ?Sized> {
    class: Class,
    lock: spin::mutex::SpinMutex<T, ServeOthers>,
}

/// Access to what a [`SpinLock`] protects, until dropped.
pub struct SpinGuard<'a, T: ?Sized> {
    guard: spin::mutex::SpinMutexGuard<'a, T>,
    _held: Held,
    _not_send: NotSend,
}

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> SpinLock<T> {
        SpinLock { class: Class::here(), lock: spin::mutex::SpinMutex::new(value) }
    }

    /// Takes the lock apart.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Spins until the lock is ours.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.class.about_to_wait();
        SpinGuard { guard: self.lock.lock(), _held: self.class.hold(), _not_send: PhantomData }
    }

    /// The lock if it is free at this moment.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let guard = self.lock.try_lock()?;
        Some(SpinGuard { guard, _held: self.class.hold(), _not_send: PhantomData })
    }

    /// The value without locking: whoever has `&mut` has it alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    #[track_caller]
    fn default() -> Self {
        SpinLock::new(T::default())
    }
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Many readers or one writer, spinning. Readers may starve a writer: for data that is read all the time and written
/// seldom, such as a directory's entries.
pub struct RwSpinLock<T: ?Sized> {
    class: Class,
    lock: spin::rwlock::RwLock<T, ServeOthers>,
}

/// Shared access to what an [`RwSpinLock`] protects.
pub struct ReadGuard<'a, T: ?Sized> {
    guard: spin::rwlock::RwLockReadGuard<'a, T>,
    _held: Held,
    _not_send: NotSend,
}

/// Sole access to what an [`RwSpinLock`] protects.
pub struct WriteGuard<'a, T: ?Sized> {
    guard: spin::rwlock::RwLockWriteGuard<'a, T, ServeOthers>,
    _held: Held,
    _not_send: NotSend,
}

impl<T> RwSpinLock<T> {
    /// A free lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> RwSpinLock<T> {
        RwSpinLock { class: Class::here(), lock: spin::rwlock::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwSpinLock<T> {
    /// Spins until no writer holds the lock.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> ReadGuard<'_, T> {
        self.class.about_to_wait();
        ReadGuard { guard: self.lock.read(), _held: self.class.hold(), _not_send: PhantomData }
    }

    /// Spins until nobody else holds the lock.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        self.class.about_to_wait();
        WriteGuard { guard: self.lock.write(), _held: self.class.hold(), _not_send: PhantomData }
    }

    /// Shared access if no writer holds the lock at this moment.
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        let guard = self.lock.try_read()?;
        Some(ReadGuard { guard, _held: self.class.hold(), _not_send: PhantomData })
    }

    /// Sole access if nobody holds the lock at this moment.
    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        let guard = self.lock.try_write()?;
        Some(WriteGuard { guard, _held: self.class.hold(), _not_send: PhantomData })
    }

    /// The value without locking: whoever has `&mut` has it alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: Default> Default for RwSpinLock<T> {
    #[track_caller]
    fn default() -> Self {
        RwSpinLock::new(T::default())
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
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
    #[should_panic(expected = "locks in both orders")]
    fn locks_that_are_taken_in_both_orders_are_found() {
        let (first, second) = (SpinLock::new(()), SpinLock::new(()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _first = first.lock();
                let _second = second.lock();
            });
        });
        let _second = second.lock();
        let _first = first.lock();
    }

    #[test]
    #[should_panic(expected = "locks in both orders")]
    fn so_are_three_that_go_round() {
        let first = SpinLock::new(());
        let second = RwSpinLock::new(());
        let third = SpinLock::new(());
        drop((first.lock(), second.read()));
        drop((second.write(), third.lock()));
        drop((third.lock(), first.lock()));
    }

    #[test]
    #[should_panic(expected = "a lock is taken in a read section")]
    fn so_is_a_lock_that_is_taken_in_a_read_section() {
        let lock = SpinLock::new(());
        let _section = machine::rcu::read();
        drop(lock.lock());
    }

    #[test]
    fn a_lock_that_is_tried_for_comes_after_nothing() {
        let first = SpinLock::new(());
        let second = SpinLock::new(());
        drop((first.lock(), second.lock()));
        drop((second.lock(), first.try_lock()));
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
