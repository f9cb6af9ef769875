//! The table of those who wait for futexes.
//!
//! A waiter stands in one of the table's buckets, found by the [`Key`] of the word. It enters under the bucket's lock after comparing
//! the word there; a waker changes the word first and takes the lock afterwards: so no wake-up falls between the comparison
//! and the sleep. In a bucket the waiters stand word by word (by the hashes of their keys), those of a word in the order they came: who
//! waits for other words costs a waker next to nothing.
//!
//! There may be tens of thousands of them. Whoever wakes or moves many does so a batch at a time, and only those who stood there
//! when he began: a [`Line`] keeps how far he has come. Others get the bucket between two batches.
//!
//! **Who synchronises.** One spin lock a bucket; moving waiters takes two, the lower index first. User memory is read and compared
//! under it, which never sleeps: a missing page is an error handed out.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::future::Future;
use core::hash::BuildHasher;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use smallvec::SmallVec;
use sync::SpinLock;

use super::{Hasher, Key};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many are woken or moved under one holding of a bucket's lock.
const BATCH: usize = 16;

/// How many are looked at under one holding of it: not all may be wanted.
const LOOKS: usize = 256;

/// Where a waiter stands in its bucket: the hash of its key, and its number.
type Rank = (u64, u64);

/// Everybody who waits for a word.
pub struct Futexes {
    buckets: Box<[SpinLock<Bucket>]>,
    hasher: Hasher,
}

#[derive(Default)]
struct Bucket {
    entries: BTreeMap<Rank, Entry>,
    /// The number of who comes next.
    next: u64,
}

struct Entry {
    key: Key,
    bits: u32,
    waker: Option<Waker>,
    position: Arc<QueuePosition>,
}

/// Where a waiter stands, shared by its entry and its future. Changed only under the lock of the bucket it is in.
struct QueuePosition {
    bucket: AtomicUsize,
    hash: AtomicU64,
    number: AtomicU64,
}

impl QueuePosition {
    /// Not in any bucket: woken.
    const NOWHERE: usize = usize::MAX;

    fn bucket(&self) -> usize {
        self.bucket.load(Ordering::Acquire)
    }

    fn rank(&self) -> Rank {
        (self.hash.load(Ordering::Relaxed), self.number.load(Ordering::Relaxed))
    }

    fn leave(&self) {
        self.bucket.store(QueuePosition::NOWHERE, Ordering::Release);
    }
}

/// Those who stand in a bucket when somebody begins to wake or to move them, and how far he has come.
#[derive(Debug, Default)]
pub struct Line {
    next: u64,
    /// Who has this number or a higher one came later. Not known before the beginning.
    end: Option<u64>,
}

impl Line {
    /// Whether everybody was looked at, or enough were found.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    fn finish(&mut self) {
        self.next = u64::MAX;
    }
}

/// Wakers to be called when no lock is held.
type Woken = SmallVec<[Waker; BATCH]>;

impl Bucket {
    /// Enters a waiter as the last of its word.
    fn append(&mut self, index: usize, hash: u64, entry: Entry) {
        entry.position.hash.store(hash, Ordering::Relaxed);
        entry.position.number.store(self.next, Ordering::Relaxed);
        entry.position.bucket.store(index, Ordering::Release);
        self.entries.insert((hash, self.next), entry);
        self.next += 1;
    }

    /// Where the next waiters of the line stand that are wanted, up to `count` or a batch. The line is over when `count` are found.
    #[expect(clippy::disallowed_methods, reason = "a batch at most, which lies in place")]
    fn find(
        &self,
        hash: u64,
        line: &mut Line,
        count: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> SmallVec<[Rank; BATCH]> {
        let end = *line.end.get_or_insert(self.next);
        let mut found = SmallVec::new();
        let line_of_word = (hash, line.next.min(end))..(hash, end);
        for (looks, (&rank, entry)) in self.entries.range(line_of_word).enumerate() {
            if found.len() == count.min(BATCH) || looks == LOOKS {
                line.next = rank.1;
                return found;
            }
            if wanted(entry) {
                found.push(rank);
            }
        }
        line.finish();
        found
    }

    /// Takes out waiters and marks them as woken. Their wakers are to be called after the lock is released.
    fn wake(&mut self, ranks: &[Rank], woken: &mut Woken) {
        for entry in ranks.iter().filter_map(|rank| self.entries.remove(rank)) {
            entry.position.leave();
            // bounded: a batch at most, which lies in place
            woken.extend(entry.waker);
        }
    }
}

impl Futexes {
    /// A table in which nobody waits, with at least so many buckets.
    #[expect(clippy::disallowed_methods, reason = "at boot, by the number of CPUs")]
    pub fn new(buckets: usize) -> Futexes {
        let count = buckets.next_power_of_two();
        Futexes { buckets: (0..count).map(|_| SpinLock::default()).collect(), hasher: Hasher::default() }
    }

    /// Enters a waiter if `unchanged`, called under the lock, says that the word still has its expected value; `None` if not.
    ///
    /// # Errors
    /// That of `unchanged`, for the caller to resolve before it tries again.
    pub fn enter<E>(
        &self,
        key: Key,
        bits: u32,
        unchanged: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Option<Waiting<'_>>, E> {
        let position = Arc::new(QueuePosition {
            bucket: AtomicUsize::new(QueuePosition::NOWHERE),
            hash: AtomicU64::new(0),
            number: AtomicU64::new(0),
        });
        let hash = self.hash(&key);
        let index = self.index(hash);
        if let Some(bucket) = self.buckets.get(index) {
            let mut bucket = bucket.lock();
            if !unchanged()? {
                return Ok(None);
            }
            bucket.append(index, hash, Entry { key, bits, waker: None, position: position.clone() });
        }
        Ok(Some(Waiting { futexes: self, position }))
    }

    /// Whether so many may wait for a word that waking them all takes long.
    pub fn is_crowded(&self, key: Key) -> bool {
        self.buckets.get(self.index(self.hash(&key))).is_some_and(|bucket| bucket.lock().entries.len() > LOOKS)
    }

    /// Wakes up to `count` waiters of a word, in the order they came, whose bits have one in common with `bits`.
    pub fn wake(&self, key: Key, count: usize, bits: u32) -> usize {
        let mut line = Line::default();
        let mut woken = 0;
        while !line.is_over() {
            woken += self.wake_some(key, count - woken, bits, &mut line);
        }
        woken
    }

    /// Wakes the next of the line, up to `count`. Says how many; the line tells whether there may be more.
    pub fn wake_some(&self, key: Key, count: usize, bits: u32, line: &mut Line) -> usize {
        let hash = self.hash(&key);
        let Some(bucket) = self.buckets.get(self.index(hash)) else {
            line.end = Some(0);
            return 0;
        };
        let mut woken = Woken::new();
        let mut bucket = bucket.lock();
        let found = bucket.find(hash, line, count, |entry| entry.key == key && entry.bits & bits != 0);
        bucket.wake(&found, &mut woken);
        drop(bucket);
        woken.into_iter().for_each(Waker::wake);
        if found.len() == count {
            line.finish();
        }
        found.len()
    }

    /// Wakes up to `wake` waiters of `from` and makes up to `carry` others wait for `to` instead, if `unchanged`, called under
    /// the lock, agrees: the next of the line, which tells whether there may be more. Says how many were woken and how many moved;
    /// `None` if `unchanged` didn't agree.
    ///
    /// # Errors
    /// That of `unchanged`.
    pub fn requeue<E>(
        &self,
        from: Key,
        to: Key,
        (wake, carry): (usize, usize),
        line: &mut Line,
        unchanged: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Option<(usize, usize)>, E> {
        let mut woken = Woken::new();
        let (hash, target_hash) = (self.hash(&from), self.hash(&to));
        let target_index = self.index(target_hash);
        let moved = self.with_both(hash, target_hash, |source, mut target| {
            if !unchanged()? {
                return Ok(None);
            }
            let found = source.find(hash, line, wake.saturating_add(carry), |entry| entry.key == from);
            let (to_wake, to_move) = found.split_at(wake.min(found.len()));
            source.wake(to_wake, &mut woken);
            for rank in to_move {
                let Some(entry) = source.entries.remove(rank) else { continue };
                let entry = Entry { key: to, ..entry };
                target.as_deref_mut().unwrap_or(source).append(target_index, target_hash, entry);
            }
            if found.len() == wake.saturating_add(carry) {
                line.finish();
            }
            Ok(Some((to_wake.len(), to_move.len())))
        });
        woken.into_iter().for_each(Waker::wake);
        moved.unwrap_or(Ok(Some((0, 0))))
    }

    /// FUTEX_WAKE_OP: `change` modifies the second word and says whether its waiters are to be woken too. Nobody comes to wait for
    /// either word meanwhile. Returns what `change` says, and who waited for each of the two then.
    ///
    /// # Errors
    /// That of `change`.
    pub fn change<E>(
        &self,
        one: Key,
        other: Key,
        change: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(bool, [Line; 2]), E> {
        let changed = self.with_both(self.hash(&one), self.hash(&other), |source, target| {
            let ends = [source.next, target.map_or(source.next, |target| target.next)];
            Ok((change()?, ends.map(|end| Line { next: 0, end: Some(end) })))
        });
        changed.unwrap_or_else(|| Ok((false, [Line { next: 0, end: Some(0) }, Line { next: 0, end: Some(0) }])))
    }

    /// Locks the buckets of two keys, by their hashes; the second is `None` if it is the first.
    fn with_both<R>(&self, one: u64, other: u64, act: impl FnOnce(&mut Bucket, Option<&mut Bucket>) -> R) -> Option<R> {
        let (first, second) = (self.index(one), self.index(other));
        let lock = |index: usize| self.buckets.get(index).map(SpinLock::lock);
        if first == second {
            let mut both = lock(first)?;
            return Some(act(&mut both, None));
        }
        let mut low = lock(first.min(second))?;
        let mut high = lock(first.max(second))?;
        let (source, target) = if first < second { (&mut low, &mut high) } else { (&mut high, &mut low) };
        Some(act(source, Some(target)))
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    fn index(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }
}

/// A waiter. It is ready once woken; dropping it leaves the table.
pub struct Waiting<'a> {
    futexes: &'a Futexes,
    position: Arc<QueuePosition>,
}

impl Waiting<'_> {
    /// Whether the wake-up came.
    pub fn is_woken(&self) -> bool {
        self.position.bucket() == QueuePosition::NOWHERE
    }

    /// Gives up waiting. Tells whether the wake-up came before that: then it is a success, as the waker was told it woke somebody.
    pub fn leave(self) -> bool {
        !self.take_out()
    }

    /// Leaves the table, if it still stands there.
    fn take_out(&self) -> bool {
        let entry = self.with_bucket(|bucket, rank| {
            self.position.leave();
            bucket.entries.remove(&rank)
        });
        entry.flatten().is_some()
    }

    /// Calls `act` with the bucket this waiter stands in and its rank there; not if it was woken.
    fn with_bucket<R>(&self, act: impl FnOnce(&mut Bucket, Rank) -> R) -> Option<R> {
        loop {
            let index = self.position.bucket();
            let mut bucket = self.futexes.buckets.get(index)?.lock();
            // It may have been moved to another bucket before the lock was ours.
            if self.position.bucket() == index {
                return Some(act(&mut bucket, self.position.rank()));
            }
        }
    }
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let old = self.with_bucket(|bucket, rank| {
            let entry = bucket.entries.get_mut(&rank)?;
            let known = entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if known { None } else { entry.waker.replace(context.waker().clone()) }
        });
        drop(old);
        if self.is_woken() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.take_out();
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
