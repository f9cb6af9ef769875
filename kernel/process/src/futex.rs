//! Futexes: sleeping until a word of user memory changes, see futex(2) and futex(7).
//!
//! The kernel keeps nothing about a futex that nobody waits for. A waiter stands in one of the table's buckets, found by
//! the [`Key`] of the word. It enters under the bucket's lock after comparing the word there; a waker changes the word
//! first and takes the lock afterwards: so no wake-up falls between the comparison and the sleep.
//!
//! **Who calls.** kernel/syscalls parses futex(2) and waits; the exit of a thread wakes its `clear_child_tid` word and walks
//! its robust list. **Who synchronises.** One spin lock a bucket; moving waiters takes two, the lower index first. User
//! memory is read and compared under it, which never sleeps: a missing page is an error handed out.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};

use abi::raw::general as raw;
use abi::{Errno, Result};
use hashbrown::DefaultHashBuilder;
use memory::{AddressSpace, USER_TOP, UserFault};
use sync::SpinLock;

/// What a waiter waits for if it doesn't say: any wake-up.
pub const ANY: u32 = raw::FUTEX_BITSET_MATCH_ANY;

/// How many entries of a robust list are looked at, as on Linux: the list is the program's, and may be a ring.
const ROBUST_LIST_LIMIT: usize = 2048;

/// How many buckets there are for every CPU.
const BUCKETS_PER_CPU: usize = 64;

/// Which word it is: the same for everybody who can see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// A word only one address space has.
    Private {
        /// Which address space.
        space: usize,
        /// Where in it.
        address: usize,
    },
    /// A word in memory that may be shared.
    Shared {
        /// What is mapped.
        object: usize,
        /// Where in it.
        offset: u64,
    },
}

impl Key {
    /// The key of the word at `address`; with `private` the program promises that only its own threads use it.
    ///
    /// # Errors
    /// `EINVAL` for an address that is not a multiple of four, `EFAULT` for one no program can have.
    pub fn new(space: &AddressSpace, address: usize, private: bool) -> Result<Key> {
        if !address.is_multiple_of(size_of::<u32>()) {
            return Err(Errno::EINVAL);
        }
        if address >= USER_TOP {
            return Err(Errno::EFAULT);
        }
        let shared = if private { None } else { space.shared_identity(address) };
        Ok(match shared {
            Some((object, offset)) => Key::Shared { object, offset },
            None => Key::Private { space: Arc::as_ptr(space.space()).addr(), address },
        })
    }
}

/// Everybody who waits for a word.
pub struct Futexes {
    buckets: Box<[Bucket]>,
    hasher: DefaultHashBuilder,
}

type Bucket = SpinLock<Vec<Entry>>;

struct Entry {
    key: Key,
    bits: u32,
    waker: Option<Waker>,
    place: Arc<Place>,
}

/// Where a waiter stands, shared by its entry and its future.
struct Place(AtomicUsize);

impl Place {
    /// Not in any bucket: woken.
    const NOWHERE: usize = usize::MAX;

    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Only under the lock of the bucket it is in.
    fn set(&self, bucket: usize) {
        self.0.store(bucket, Ordering::Release);
    }
}

impl Futexes {
    /// A table in which nobody waits.
    pub fn new() -> Futexes {
        let count = (machine::cpu::count() * BUCKETS_PER_CPU).next_power_of_two();
        Futexes { buckets: (0..count).map(|_| Bucket::default()).collect(), hasher: DefaultHashBuilder::default() }
    }

    /// Enters a waiter if `unchanged`, called under the lock, says that the word still has its expected value; `None` if not.
    ///
    /// # Errors
    /// The fault of `unchanged`, for the caller to resolve before it tries again; `ENOMEM`.
    pub fn enter(
        &self,
        key: Key,
        bits: u32,
        unchanged: impl FnOnce() -> Result<bool, UserFault>,
    ) -> Result<Option<Waiting<'_>>, UserFault> {
        let place = Arc::new(Place(AtomicUsize::new(Place::NOWHERE)));
        let index = self.index(&key);
        if let Some(bucket) = self.buckets.get(index) {
            let mut entries = bucket.lock();
            if !unchanged()? {
                return Ok(None);
            }
            place.set(index);
            entries.push(Entry { key, bits, waker: None, place: place.clone() });
        }
        Ok(Some(Waiting { futexes: self, place }))
    }

    /// Wakes up to `count` waiters of a word, in the order they came, whose bits have one in common with `bits`.
    pub fn wake(&self, key: Key, count: usize, bits: u32) -> usize {
        let Some(bucket) = self.buckets.get(self.index(&key)) else { return 0 };
        let mut woken = Vec::new();
        let number = take_woken(&mut bucket.lock(), key, count, bits, &mut woken);
        woken.into_iter().for_each(Waker::wake);
        number
    }

    /// Wakes up to `wake` waiters of `from` and makes up to `carry` others wait for `to` instead, if `unchanged`, called under
    /// the lock, agrees. Says how many were woken and how many moved; `None` if `unchanged` didn't agree.
    ///
    /// # Errors
    /// The fault of `unchanged`.
    pub fn requeue(
        &self,
        from: Key,
        to: Key,
        wake: usize,
        carry: usize,
        unchanged: impl FnOnce() -> Result<bool, UserFault>,
    ) -> Result<Option<(usize, usize)>, UserFault> {
        let mut woken = Vec::new();
        let moved = self.with_both(from, to, |source, mut target, target_index| {
            if !unchanged()? {
                return Ok(None);
            }
            let number = take_woken(source, from, wake, ANY, &mut woken);
            let mut moved = 0;
            let mut index = 0;
            while moved < carry
                && let Some(entry) = source.get_mut(index)
            {
                if entry.key != from {
                    index += 1;
                    continue;
                }
                entry.key = to;
                moved += 1;
                match &mut target {
                    None => index += 1,
                    Some(target) => {
                        entry.place.set(target_index);
                        target.push(source.remove(index));
                    }
                }
            }
            Ok(Some((number, moved)))
        });
        woken.into_iter().for_each(Waker::wake);
        moved
    }

    /// FUTEX_WAKE_OP: `change` modifies the second word and says whether its waiters are to be woken too; then up to `first`
    /// waiters of `one` and, if so, up to `second` of `other` are woken.
    ///
    /// # Errors
    /// The fault of `change`.
    pub fn wake_after(
        &self,
        one: Key,
        first: usize,
        other: Key,
        second: usize,
        change: impl FnOnce() -> Result<bool, UserFault>,
    ) -> Result<usize, UserFault> {
        let mut woken = Vec::new();
        let number = self.with_both(one, other, |source, target, _| {
            let both = change()?;
            let mut number = take_woken(source, one, first, ANY, &mut woken);
            if both {
                number += take_woken(target.unwrap_or(source), other, second, ANY, &mut woken);
            }
            Ok(number)
        });
        woken.into_iter().for_each(Waker::wake);
        number
    }

    /// Locks the buckets of two keys; the second is `None` if it is the first. The index is the second's.
    fn with_both<R>(
        &self,
        one: Key,
        other: Key,
        act: impl FnOnce(&mut Vec<Entry>, Option<&mut Vec<Entry>>, usize) -> R,
    ) -> R {
        let (first, second) = (self.index(&one), self.index(&other));
        let lock = |index: usize| self.buckets.get(index).map(SpinLock::lock);
        // The hash is below the number of buckets, so there always is one; an empty list stands in without a panic.
        let mut nothing = Vec::new();
        if first == second {
            let mut bucket = lock(first);
            return act(bucket.as_deref_mut().unwrap_or(&mut nothing), None, second);
        }
        let low = lock(first.min(second));
        let high = lock(first.max(second));
        let (mut source, mut target) = if first < second { (low, high) } else { (high, low) };
        act(source.as_deref_mut().unwrap_or(&mut nothing), target.as_deref_mut(), second)
    }

    fn index(&self, key: &Key) -> usize {
        self.hasher.hash_one(key) as usize & (self.buckets.len() - 1)
    }
}

impl Default for Futexes {
    fn default() -> Self {
        Futexes::new()
    }
}

/// Removes the entries to be woken and marks them so; their wakers are called after the lock is released.
fn take_woken(entries: &mut Vec<Entry>, key: Key, count: usize, bits: u32, woken: &mut Vec<Waker>) -> usize {
    let mut number = 0;
    entries.retain_mut(|entry| {
        if number == count || entry.key != key || entry.bits & bits == 0 {
            return true;
        }
        number += 1;
        entry.place.set(Place::NOWHERE);
        woken.extend(entry.waker.take());
        false
    });
    number
}

/// A waiter. It is ready once woken; dropping it leaves the table.
pub struct Waiting<'a> {
    futexes: &'a Futexes,
    place: Arc<Place>,
}

impl Waiting<'_> {
    /// Whether the wake-up came. Whoever gives up waiting asks this last: a wake-up that came is a success.
    pub fn is_woken(&self) -> bool {
        self.place.get() == Place::NOWHERE
    }

    /// Calls `act` with the bucket this waiter stands in and its position there; not if it was woken.
    fn with_entry(&self, act: impl FnOnce(&mut Vec<Entry>, usize)) {
        loop {
            let index = self.place.get();
            let Some(bucket) = self.futexes.buckets.get(index) else { return };
            let mut entries = bucket.lock();
            // It may have been moved to another bucket before the lock was ours.
            if self.place.get() == index {
                if let Some(position) = entries.iter().position(|entry| Arc::ptr_eq(&entry.place, &self.place)) {
                    act(&mut entries, position);
                }
                return;
            }
        }
    }
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.with_entry(|entries, position| {
            if let Some(entry) = entries.get_mut(position)
                && !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
            {
                entry.waker = Some(context.waker().clone());
            }
        });
        if self.is_woken() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.with_entry(|entries, position| drop(entries.remove(position)));
    }
}

/// Marks every robust futex that a dying thread holds as owned by a dead one, and wakes a waiter of each: see
/// get_robust_list(2). `head` is what the thread gave to set_robust_list(2). A damaged list ends the walk.
pub async fn release_robust_list(futexes: &Futexes, space: &AddressSpace, head: usize, tid: u32) {
    let _ = walk_robust_list(futexes, space, head, tid).await;
}

async fn walk_robust_list(futexes: &Futexes, space: &AddressSpace, head: usize, tid: u32) -> Result<()> {
    let [mut entry, offset, pending] = space.read_value::<[usize; 3]>(head).await?;
    for _ in 0..ROBUST_LIST_LIMIT {
        // The lowest bit of a pointer tells of a priority-inheriting futex.
        let pointer = entry & !1;
        if pointer == head {
            break;
        }
        let next = space.read_value::<usize>(pointer).await;
        if pointer != pending & !1 {
            release(futexes, space, pointer.wrapping_add(offset), tid, false).await?;
        }
        entry = next?;
    }
    if pending & !1 != 0 {
        release(futexes, space, (pending & !1).wrapping_add(offset), tid, true).await?;
    }
    Ok(())
}

/// Releases one robust futex if `tid` holds it. A `pending` one may have been unlocked just before the thread died, with the
/// wake-up still to come: that is given in its place.
async fn release(futexes: &Futexes, space: &AddressSpace, address: usize, tid: u32, pending: bool) -> Result<()> {
    let key = Key::new(space, address, false)?;
    let mut word = space.load(address).await?;
    loop {
        if pending && word & raw::FUTEX_TID_MASK == 0 {
            futexes.wake(key, 1, ANY);
            return Ok(());
        }
        if word & raw::FUTEX_TID_MASK != tid & raw::FUTEX_TID_MASK {
            return Ok(());
        }
        let dead = word & raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED;
        match space.compare_exchange(address, word, dead).await? {
            Ok(_) => break,
            Err(current) => word = current,
        }
    }
    if word & raw::FUTEX_WAITERS != 0 {
        futexes.wake(key, 1, ANY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    fn key(address: usize) -> Key {
        Key::Private { space: 1, address }
    }

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(waiting: &mut Waiting<'_>, count: &Arc<Count>) -> bool {
        let waker = Waker::from(count.clone());
        Pin::new(waiting).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    fn enter(futexes: &Futexes, key: Key, bits: u32) -> Waiting<'_> {
        futexes.enter(key, bits, || Ok(true)).unwrap().unwrap()
    }

    #[test]
    fn a_changed_word_is_not_waited_for() {
        let futexes = Futexes::new();
        assert!(futexes.enter(key(8), ANY, || Ok(false)).unwrap().is_none());
        let fault = UserFault { copied: 0, address: 8, write: false };
        assert!(futexes.enter(key(8), ANY, || Err(fault)).is_err());
        assert_eq!(futexes.wake(key(8), 10, ANY), 0);
    }

    #[test]
    fn waiters_are_woken_in_order_by_key_and_bits() {
        let futexes = Futexes::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut one = enter(&futexes, key(8), 1);
        let mut two = enter(&futexes, key(8), 2);
        let mut other = enter(&futexes, key(12), ANY);
        assert!(!poll(&mut one, &count) && !poll(&mut two, &count) && !poll(&mut other, &count));
        assert_eq!(futexes.wake(key(8), 1, 2), 1);
        assert!(poll(&mut two, &count) && !poll(&mut one, &count));
        assert_eq!(futexes.wake(key(8), usize::MAX, ANY), 1);
        assert!(one.is_woken() && !other.is_woken());
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_gives_up_leaves_the_table() {
        let futexes = Futexes::new();
        drop(enter(&futexes, key(8), ANY));
        assert_eq!(futexes.wake(key(8), 1, ANY), 0);
    }

    #[test]
    fn moved_waiters_wait_for_the_other_word() {
        let futexes = Futexes::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        // Many targets: some are in the same bucket, most are not.
        for target in (100..2000).step_by(4) {
            let mut waiters: Vec<_> = (0..4).map(|_| enter(&futexes, key(8), ANY)).collect();
            assert!(waiters.iter_mut().all(|waiter| !poll(waiter, &count)));
            assert_eq!(futexes.requeue(key(8), key(target), 1, 2, || Ok(true)), Ok(Some((1, 2))));
            assert!(waiters[0].is_woken() && !waiters[1].is_woken());
            drop(waiters.remove(1));
            assert_eq!(futexes.wake(key(target), 9, ANY), 1);
            assert!(waiters[1].is_woken());
            assert_eq!(futexes.wake(key(8), 9, ANY), 1);
        }
        assert_eq!(futexes.requeue(key(8), key(16), 1, 1, || Ok(false)), Ok(None));
    }

    #[test]
    fn wake_op_wakes_the_second_word_only_if_told() {
        let futexes = Futexes::new();
        let (one, two) = (enter(&futexes, key(8), ANY), enter(&futexes, key(16), ANY));
        assert_eq!(futexes.wake_after(key(8), 1, key(16), 1, || Ok(false)), Ok(1));
        assert!(one.is_woken() && !two.is_woken());
        assert_eq!(futexes.wake_after(key(8), 1, key(16), 1, || Ok(true)), Ok(1));
        assert!(two.is_woken());
        let (three, four) = (enter(&futexes, key(8), ANY), enter(&futexes, key(8), ANY));
        assert_eq!(futexes.wake_after(key(8), 1, key(8), 1, || Ok(true)), Ok(2));
        assert!(three.is_woken() && four.is_woken());
    }
}
