//! Advisory locks: fcntl(2)'s record locks, those of open file descriptions, and flock(2).
//!
//! Every inode that can be locked holds a [`FileLocks`]. Record locks belong to a descriptor table (so that threads
//! share them and any close drops them) or, of the newer kind, to an open file description; flock(2)'s always to a
//! description. A process that would wait for itself, through others, gets `EDEADLK`: who waits for whom is written
//! down in [`LockWaits`].

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use sync::{SpinLock, WaitQueue};

use crate::file_table::FileTable;
use crate::open_file::OpenFile;

/// Who holds a lock. The addresses only tell owners apart; each owner releases its locks before it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOwner {
    /// A descriptor table: a process.
    Table(usize),
    /// An open file description.
    OpenFile(usize),
}

impl LockOwner {
    /// For record locks of a process.
    pub fn of_table(table: &FileTable) -> LockOwner {
        LockOwner::Table(core::ptr::from_ref(table).addr())
    }

    /// For locks of an open file description.
    pub fn of_open_file(open: &OpenFile) -> LockOwner {
        LockOwner::OpenFile(core::ptr::from_ref(open).addr())
    }
}

/// What a record lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordLockKind {
    /// `F_RDLCK`: to lock the same for reading.
    Read,
    /// `F_WRLCK`: nothing.
    Write,
    /// `F_UNLCK`: not a lock but its removal.
    Unlock,
}

/// A lock on a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLock {
    /// Shared or not.
    pub kind: RecordLockKind,
    /// The first byte.
    pub first: u64,
    /// The last byte; `i64::MAX` means up to wherever the file may end.
    pub last: u64,
    /// Who holds it.
    pub owner: LockOwner,
    /// The process, for F_GETLK; -1 for locks of open file descriptions.
    pub process: i32,
}

impl RecordLock {
    /// A range as fcntl(2) gives it, `start` already counted from the beginning of the file.
    ///
    /// # Errors
    /// `EINVAL` for a range that begins before the file, `EOVERFLOW` for one that ends too late.
    pub fn range(start: i64, length: i64) -> Result<(u64, u64)> {
        let end = start.checked_add(length).ok_or(Errno::EOVERFLOW)?;
        let (first, last) = match length {
            0 => (start, i64::MAX),
            1.. => (start, end - 1),
            _ => (end, start - 1),
        };
        let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
        Ok((first, u64::try_from(last).map_err(|_| Errno::EINVAL)?))
    }

    fn overlaps(&self, other: &RecordLock) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn conflicts(&self, other: &RecordLock) -> bool {
        let writes = self.kind == RecordLockKind::Write || other.kind == RecordLockKind::Write;
        self.owner != other.owner && writes && self.overlaps(other)
    }
}

/// What flock(2) is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlockKind {
    /// `LOCK_SH`
    Shared,
    /// `LOCK_EX`
    Exclusive,
    /// `LOCK_UN`
    Unlock,
}

/// All locks on one file.
#[derive(Default)]
pub struct FileLocks {
    /// Whether there ever was one; most files never see a lock, and closing them should not look for any.
    used: AtomicBool,
    state: SpinLock<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    /// Of each owner sorted and not overlapping; different owners in any order.
    records: Vec<RecordLock>,
    flocks: Vec<(LockOwner, FlockKind)>,
}

/// Which owners of record locks wait for which others, in the whole kernel.
#[derive(Default)]
pub struct LockWaits {
    waits: SpinLock<Vec<(LockOwner, LockOwner)>>,
}

impl LockWaits {
    /// Notes that `waiter` waits for `holder`, unless that closed a circle.
    fn enter(&self, waiter: LockOwner, holder: LockOwner) -> Result<Waiting<'_>> {
        let mut waits = self.waits.lock();
        let mut at = holder;
        // Each step follows one entry, so the list's length bounds them.
        for _ in 0..=waits.len() {
            if at == waiter {
                return Err(Errno::EDEADLK);
            }
            match waits.iter().find(|(from, _)| *from == at) {
                Some(&(_, to)) => at = to,
                None => break,
            }
        }
        waits.push((waiter, holder));
        Ok(Waiting { list: self, entry: (waiter, holder) })
    }
}

/// An entry of [`LockWaits`], for as long as the wait lasts.
struct Waiting<'a> {
    list: &'a LockWaits,
    entry: (LockOwner, LockOwner),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.list.waits.lock();
        if let Some(index) = waits.iter().position(|entry| *entry == self.entry) {
            waits.swap_remove(index);
        }
    }
}

impl FileLocks {
    /// The first lock that would be in the way: fcntl(F_GETLK).
    pub fn conflict(&self, wanted: &RecordLock) -> Option<RecordLock> {
        self.state.lock().records.iter().find(|held| held.conflicts(wanted)).copied()
    }

    /// Sets or removes a record lock if nothing is in the way: fcntl(F_SETLK).
    ///
    /// # Errors
    /// `EAGAIN`.
    pub fn try_set(&self, wanted: RecordLock) -> Result<()> {
        self.try_set_or_conflict(wanted).map_err(|_| Errno::EAGAIN)
    }

    fn try_set_or_conflict(&self, wanted: RecordLock) -> Result<(), RecordLock> {
        let mut state = self.state.lock();
        if wanted.kind != RecordLockKind::Unlock
            && let Some(held) = state.records.iter().find(|held| held.conflicts(&wanted))
        {
            return Err(*held);
        }
        self.used.store(true, Ordering::Relaxed);
        state.replace(wanted);
        drop(state);
        self.queue.wake_all();
        Ok(())
    }

    /// Waits until a record lock can be set: fcntl(F_SETLKW).
    ///
    /// # Errors
    /// `EDEADLK`.
    pub async fn set(&self, wanted: RecordLock, waits: &LockWaits) -> Result<()> {
        let mut listener = self.queue.listen();
        loop {
            let Err(held) = self.try_set_or_conflict(wanted) else { return Ok(()) };
            let waiting = waits.enter(wanted.owner, held.owner)?;
            listener.register().await;
            if self.conflict(&wanted).is_some() {
                listener.woken().await;
            }
            drop(waiting);
        }
    }

    /// Sets or removes the lock of a whole file if nothing is in the way: flock(LOCK_NB).
    ///
    /// # Errors
    /// `EWOULDBLOCK`.
    pub fn try_flock(&self, owner: LockOwner, kind: FlockKind) -> Result<()> {
        let mut state = self.state.lock();
        let blocks = |held: &(LockOwner, FlockKind)| {
            held.0 != owner && (held.1 == FlockKind::Exclusive || kind == FlockKind::Exclusive)
        };
        if kind != FlockKind::Unlock && state.flocks.iter().any(blocks) {
            return Err(Errno::EWOULDBLOCK);
        }
        self.used.store(true, Ordering::Relaxed);
        state.flocks.retain(|held| held.0 != owner);
        if kind != FlockKind::Unlock {
            state.flocks.push((owner, kind));
        }
        drop(state);
        self.queue.wake_all();
        Ok(())
    }

    /// Waits until the lock of a whole file can be had: flock(2). As on Linux, converting a lock gives up the old one
    /// first.
    ///
    /// # Errors
    /// None but those of being interrupted.
    pub async fn flock(&self, owner: LockOwner, kind: FlockKind) -> Result<()> {
        if self.try_flock(owner, kind).is_ok() {
            return Ok(());
        }
        self.try_flock(owner, FlockKind::Unlock)?;
        self.queue.wait_until(|| self.try_flock_quietly(owner, kind).then_some(())).await;
        Ok(())
    }

    /// As [`FileLocks::try_flock`], from within a wait on the queue: it wakes nobody, and taking a lock frees nobody.
    fn try_flock_quietly(&self, owner: LockOwner, kind: FlockKind) -> bool {
        let mut state = self.state.lock();
        let blocks = |held: &(LockOwner, FlockKind)| held.1 == FlockKind::Exclusive || kind == FlockKind::Exclusive;
        let free = !state.flocks.iter().any(blocks);
        if free {
            state.flocks.push((owner, kind));
        }
        free
    }

    /// Removes every lock of an owner: it is closing the file, or gone.
    #[inline]
    pub fn release(&self, owner: LockOwner) {
        if self.used.load(Ordering::Relaxed) {
            self.release_all(owner);
        }
    }

    #[cold]
    fn release_all(&self, owner: LockOwner) {
        let mut state = self.state.lock();
        let before = state.records.len() + state.flocks.len();
        state.records.retain(|record| record.owner != owner);
        state.flocks.retain(|flock| flock.0 != owner);
        let changed = state.records.len() + state.flocks.len() != before;
        drop(state);
        if changed {
            self.queue.wake_all();
        }
    }
}

impl State {
    /// Puts `new` in place of whatever its owner held in that range, cutting what reaches beyond it and joining what it
    /// touches.
    fn replace(&mut self, new: RecordLock) {
        let mut merged = new;
        let mut kept = Vec::with_capacity(self.records.len() + 2);
        for held in self.records.drain(..) {
            let touches = held.first <= merged.last.saturating_add(1) && merged.first <= held.last.saturating_add(1);
            if held.owner != new.owner || !touches {
                kept.push(held);
            } else if held.kind == new.kind {
                merged.first = merged.first.min(held.first);
                merged.last = merged.last.max(held.last);
            } else {
                if held.first < new.first {
                    kept.push(RecordLock { last: held.last.min(new.first - 1), ..held });
                }
                if held.last > new.last {
                    kept.push(RecordLock { first: held.first.max(new.last + 1), ..held });
                }
            }
        }
        if new.kind != RecordLockKind::Unlock {
            kept.push(merged);
        }
        self.records = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::block_on;

    const A: LockOwner = LockOwner::Table(1);
    const B: LockOwner = LockOwner::Table(2);

    fn lock(owner: LockOwner, kind: RecordLockKind, first: u64, last: u64) -> RecordLock {
        RecordLock { kind, first, last, owner, process: 1 }
    }

    fn held(locks: &FileLocks) -> Vec<(u64, u64, RecordLockKind)> {
        let mut held: Vec<_> =
            locks.state.lock().records.iter().map(|lock| (lock.first, lock.last, lock.kind)).collect();
        held.sort_by_key(|lock| lock.0);
        held
    }

    #[test]
    fn locks_are_cut_and_joined() {
        use RecordLockKind::{Read, Unlock, Write};
        let locks = FileLocks::default();
        locks.try_set(lock(A, Write, 0, 99)).unwrap();
        locks.try_set(lock(A, Unlock, 40, 59)).unwrap();
        assert_eq!(held(&locks), [(0, 39, Write), (60, 99, Write)]);
        locks.try_set(lock(A, Read, 30, 69)).unwrap();
        assert_eq!(held(&locks), [(0, 29, Write), (30, 69, Read), (70, 99, Write)]);
        locks.try_set(lock(A, Write, 30, 69)).unwrap();
        assert_eq!(held(&locks), [(0, 99, Write)]);
        locks.try_set(lock(A, Write, 100, 120)).unwrap();
        assert_eq!(held(&locks), [(0, 120, Write)]);
        assert_eq!(locks.try_set(lock(B, Read, 120, 130)), Err(Errno::EAGAIN));
        assert_eq!(locks.conflict(&lock(B, Read, 120, 130)).map(|lock| lock.owner), Some(A));
        locks.try_set(lock(B, Read, 121, 130)).unwrap();
        locks.release(A);
        assert_eq!(held(&locks), [(121, 130, Read)]);
    }

    #[test]
    fn ranges_are_counted_as_posix_says() {
        assert_eq!(RecordLock::range(10, 5), Ok((10, 14)));
        assert_eq!(RecordLock::range(10, 0), Ok((10, i64::MAX as u64)));
        assert_eq!(RecordLock::range(10, -5), Ok((5, 9)));
        assert_eq!(RecordLock::range(3, -5), Err(Errno::EINVAL));
        assert_eq!(RecordLock::range(i64::MAX, 5), Err(Errno::EOVERFLOW));
    }

    #[test]
    fn a_circle_of_waiters_is_refused() {
        use RecordLockKind::Write;
        let (first, second, waits) = (FileLocks::default(), FileLocks::default(), LockWaits::default());
        first.try_set(lock(A, Write, 0, 9)).unwrap();
        second.try_set(lock(B, Write, 0, 9)).unwrap();
        let mut waiting = Box::pin(first.set(lock(B, Write, 0, 9), &waits));
        assert!(crate::test_support::poll_once(waiting.as_mut()).is_pending());
        assert_eq!(block_on(second.set(lock(A, Write, 5, 5), &waits)), Err(Errno::EDEADLK));
        first.release(A);
        assert_eq!(block_on(waiting), Ok(()));
        assert!(waits.waits.lock().is_empty());
    }

    #[test]
    fn flock_shares_and_excludes() {
        let locks = FileLocks::default();
        locks.try_flock(A, FlockKind::Shared).unwrap();
        locks.try_flock(B, FlockKind::Shared).unwrap();
        assert_eq!(locks.try_flock(A, FlockKind::Exclusive), Err(Errno::EWOULDBLOCK));
        let mut waiting = Box::pin(locks.flock(A, FlockKind::Exclusive));
        assert!(crate::test_support::poll_once(waiting.as_mut()).is_pending());
        locks.release(B);
        assert_eq!(block_on(waiting), Ok(()));
        assert_eq!(locks.try_flock(B, FlockKind::Shared), Err(Errno::EWOULDBLOCK));
    }
}
