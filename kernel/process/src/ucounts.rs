//! What is counted for a user over all his processes: threads (`RLIMIT_NPROC`) and queued signals (`RLIMIT_SIGPENDING`).
//! Linux calls it `ucounts`.
//!
//! One [`UserCounts`] a real user, which his credentials refer to, so that counting is an atomic operation and takes no lock.
//! What is counted carries its share with it ([`CountedThread`], in the process table; [`QueuedSignal`]), so the sum is right however
//! that ends.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use hashbrown::HashMap;
use machine::memory::fallible;
use sync::SpinLock;

/// The superuser's number, whose threads nothing limits.
const SUPERUSER: u32 = 0;

/// What one user has.
#[derive(Debug)]
pub struct UserCounts {
    user: u32,
    threads: AtomicU32,
    signals: AtomicU32,
}

impl UserCounts {
    /// A user with nothing.
    pub(crate) fn new(user: u32) -> Arc<UserCounts> {
        Arc::new(UserCounts { user, threads: AtomicU32::new(0), signals: AtomicU32::new(0) })
    }

    /// Whose they are.
    pub const fn user(&self) -> u32 {
        self.user
    }

    /// Whether these are the superuser's.
    pub const fn is_superuser(&self) -> bool {
        self.user == SUPERUSER
    }

    /// How many threads he has; a process that is not collected counts as one.
    pub fn threads(&self) -> u32 {
        self.threads.load(Ordering::Relaxed)
    }

    /// How many signals are queued for his processes.
    pub fn signals(&self) -> u32 {
        self.signals.load(Ordering::Relaxed)
    }
}

/// A thread counted for a user, until this is dropped.
#[derive(Debug)]
pub(crate) struct CountedThread(Arc<UserCounts>);

impl CountedThread {
    /// One more. With it he has [`UserCounts::threads`].
    pub fn count(user: &Arc<UserCounts>) -> CountedThread {
        user.threads.fetch_add(1, Ordering::Relaxed);
        CountedThread(user.clone())
    }

    /// Whose it is.
    pub fn user(&self) -> &Arc<UserCounts> {
        &self.0
    }
}

impl Drop for CountedThread {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A signal counted as queued for a user, until this is dropped.
#[derive(Debug)]
pub(crate) struct QueuedSignal(Arc<UserCounts>);

impl QueuedSignal {
    /// One more, if he has less than `limit`.
    pub fn count(user: &Arc<UserCounts>, limit: u64) -> Option<QueuedSignal> {
        let counted = QueuedSignal(user.clone());
        let before = user.signals.fetch_add(1, Ordering::Relaxed);
        // Too many: dropping it takes it back.
        if u64::from(before) < limit { Some(counted) } else { None }
    }
}

impl Drop for QueuedSignal {
    fn drop(&mut self) {
        self.0.signals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counts of all users, by number.
#[derive(Default)]
pub(crate) struct Users(SpinLock<HashMap<u32, Arc<UserCounts>>>);

impl Users {
    /// The counts of a user.
    ///
    /// # Errors
    /// `EAGAIN` without memory, as the calls that change users have it.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn counts(&self, user: u32) -> Result<Arc<UserCounts>> {
        let mut users = self.0.lock();
        if let Some(counts) = users.get(&user) {
            return Ok(counts.clone());
        }
        if users.len() == users.capacity() {
            // Before it grows, those whom nobody refers to go.
            users.retain(|_, counts| Arc::strong_count(counts) > 1);
        }
        fallible(|| users.try_reserve(1)).map_err(|_| Errno::EAGAIN)?;
        let counts = UserCounts::new(user);
        users.insert(user, counts.clone());
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_one_and_is_forgotten_when_nobody_refers_to_him() {
        let users = Users::default();
        let one = users.counts(1).unwrap();
        assert!(Arc::ptr_eq(&one, &users.counts(1).unwrap()));
        for user in 2..10_000 {
            users.counts(user).unwrap();
        }
        assert!(users.0.lock().len() < 100);
        assert!(Arc::ptr_eq(&one, &users.counts(1).unwrap()));
    }

    #[test]
    fn queued_signals_are_counted_while_they_are_queued() {
        let user = UserCounts::new(5);
        let first = QueuedSignal::count(&user, 2).unwrap();
        let second = QueuedSignal::count(&user, 2).unwrap();
        assert!(QueuedSignal::count(&user, 2).is_none());
        assert_eq!(user.signals(), 2);
        drop(first);
        assert!(QueuedSignal::count(&user, 2).is_some());
        drop(second);
        assert_eq!(user.signals(), 0);
    }
}
