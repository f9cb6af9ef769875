//! Advisory locks: fcntl(2)'s record locks, those of open file descriptions, and flock(2).
//!
//! Every inode that can be locked holds a [`FileLocks`]. Record locks belong to a descriptor table (so that threads
//! share them and any close drops them) or, of the newer kind, to an open file description; flock(2)'s always to a
//! description. A process that would wait for itself, through others, gets `EDEADLK`: who waits for whom is written
//! down in [`LockWaits`]. Waits for locks of descriptions are left out, as on Linux: it can't be said who would give
//! those back.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use machine::memory::fallible;
use sync::{SpinLock, WaitQueue};

use crate::file_table::FileTable;
use crate::open_file::OpenFile;

/// Who holds a lock. The addresses only tell owners apart. An owner keeps its address until it is dropped, and releases
/// its locks before that: a table when its last user closes it ([`crate::TableUse`]) or a descriptor in it, a description
/// when it is dropped.
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

/// So many owners that wait for each other in a circle are found; with more, none is told. Linux's `MAX_DEADLK_ITERATIONS`, counted as
/// it counts.
const LARGEST_CIRCLE: usize = 12;

/// Which owners of record locks wait for which others, in the whole kernel.
#[derive(Default)]
pub struct LockWaits {
    waits: SpinLock<Vec<(LockOwner, LockOwner)>>,
}

impl LockWaits {
    /// Notes that `waiter` waits for `holder`, unless that closed a circle, if it is a small one. `None` where nothing is to be noted.
    ///
    /// # Errors
    /// `EDEADLK`, `ENOLCK` without memory.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn enter(&self, waiter: LockOwner, holder: LockOwner) -> Result<Option<Waiting<'_>>> {
        if !matches!((waiter, holder), (LockOwner::Table(_), LockOwner::Table(_))) {
            return Ok(None);
        }
        let mut waits = self.waits.lock();
        let mut at = holder;
        for _ in 0..LARGEST_CIRCLE {
            if at == waiter {
                return Err(Errno::EDEADLK);
            }
            match waits.iter().find(|(from, _)| *from == at) {
                Some(&(_, to)) => at = to,
                None => break,
            }
        }
        fallible(|| waits.try_reserve(1)).map_err(|_| Errno::ENOLCK)?;
        waits.push((waiter, holder));
        Ok(Some(Waiting { list: self, entry: (waiter, holder) }))
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
    /// `EAGAIN`, `ENOLCK` without memory.
    pub fn try_set(&self, wanted: RecordLock) -> Result<()> {
        self.try_set_or_conflict(wanted)?.map_or(Ok(()), |_| Err(Errno::EAGAIN))
    }

    /// As [`FileLocks::try_set`], with the lock that is in the way if there is one.
    fn try_set_or_conflict(&self, wanted: RecordLock) -> Result<Option<RecordLock>> {
        let mut state = self.state.lock();
        if wanted.kind != RecordLockKind::Unlock
            && let Some(held) = state.records.iter().find(|held| held.conflicts(&wanted))
        {
            return Ok(Some(*held));
        }
        self.used.store(true, Ordering::Relaxed);
        state.replace(wanted)?;
        drop(state);
        self.queue.wake_all();
        Ok(None)
    }

    /// Waits until a record lock can be set: fcntl(F_SETLKW).
    ///
    /// # Errors
    /// `EDEADLK`, `ENOLCK` without memory.
    pub async fn set(&self, wanted: RecordLock, waits: &LockWaits) -> Result<()> {
        let mut listener = self.queue.listen();
        loop {
            let Some(held) = self.try_set_or_conflict(wanted)? else { return Ok(()) };
            let waiting = waits.enter(wanted.owner, held.owner)?;
            listener.register().await;
            if self.conflict(&wanted).is_some() {
                listener.woken().await;
            }
            drop(waiting);
        }
    }

    /// Sets or removes the lock of a whole file if nothing is in the way: flock(LOCK_NB). As on Linux, an owner that
    /// asks for a lock of another kind has given up the one it had, even if it doesn't get it.
    ///
    /// # Errors
    /// `EWOULDBLOCK`, `ENOLCK` without memory.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn try_flock(&self, owner: LockOwner, kind: FlockKind) -> Result<()> {
        let mut state = self.state.lock();
        if state.flocks.contains(&(owner, kind)) {
            return Ok(());
        }
        let before = state.flocks.len();
        state.flocks.retain(|held| held.0 != owner);
        let gave_up = state.flocks.len() != before;
        let blocks = |held: &(LockOwner, FlockKind)| held.1 == FlockKind::Exclusive || kind == FlockKind::Exclusive;
        let result = if kind == FlockKind::Unlock {
            Ok(())
        } else if state.flocks.iter().any(blocks) {
            Err(Errno::EWOULDBLOCK)
        } else {
            self.used.store(true, Ordering::Relaxed);
            let room = fallible(|| state.flocks.try_reserve(1)).map_err(|_| Errno::ENOLCK);
            room.map(|()| state.flocks.push((owner, kind)))
        };
        drop(state);
        if gave_up {
            self.queue.wake_all();
        }
        result
    }

    /// Waits until the lock of a whole file can be had: flock(2).
    ///
    /// # Errors
    /// `ENOLCK` without memory.
    pub async fn flock(&self, owner: LockOwner, kind: FlockKind) -> Result<()> {
        // The first attempt gives up what the owner holds; those within the wait find nothing to give up, so they wake
        // nobody.
        match self.try_flock(owner, kind) {
            Err(Errno::EWOULDBLOCK) => {}
            result => return result,
        }
        let attempt = || match self.try_flock(owner, kind) {
            Err(Errno::EWOULDBLOCK) => None,
            result => Some(result),
        };
        self.queue.wait_until(attempt).await
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
        if state.records.is_empty() {
            // What took a great many locks does not keep their room for as long as the file is there.
            state.records = Vec::new();
        }
        drop(state);
        if changed {
            self.queue.wake_all();
        }
    }
}

impl State {
    /// Puts `new` in place of whatever its owner held in that range, cutting what reaches beyond it and joining what it
    /// touches. The owner's locks stay in the order of their ranges.
    ///
    /// # Errors
    /// `ENOLCK` without memory; nothing has changed then.
    fn replace(&mut self, new: RecordLock) -> Result<()> {
        // At the most the new lock comes in, and the end of one it divides.
        fallible(|| self.records.try_reserve(2)).map_err(|_| Errno::ENOLCK)?;
        let mut merged = new;
        let mut rest = None;
        self.records.retain_mut(|held| {
            let touches = held.first <= merged.last.saturating_add(1) && merged.first <= held.last.saturating_add(1);
            if held.owner != new.owner || !touches {
                return true;
            }
            if held.kind == new.kind {
                merged.first = merged.first.min(held.first);
                merged.last = merged.last.max(held.last);
                return false;
            }
            let (before, after) = (held.first < new.first, held.last > new.last);
            let end = RecordLock { first: held.first.max(new.last.saturating_add(1)), ..*held };
            if before {
                held.last = held.last.min(new.first - 1);
                rest = rest.or(after.then_some(end));
            } else if after {
                *held = end;
            }
            before || after
        });
        if let Some(rest) = rest {
            self.insert(rest);
        }
        if new.kind != RecordLockKind::Unlock {
            self.insert(merged);
        }
        Ok(())
    }

    /// Puts a lock between those of its owner. There is room for it.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn insert(&mut self, lock: RecordLock) {
        let behind = |held: &RecordLock| held.owner == lock.owner && held.first > lock.last;
        let last = || self.records.iter().rposition(|held| held.owner == lock.owner).map(|place| place + 1);
        let place = self.records.iter().position(behind).or_else(last).unwrap_or(self.records.len());
        self.records.insert(place, lock);
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

    /// What each owner holds on each of a few bytes.
    type Bytes = [[Option<RecordLockKind>; SPAN as usize]; 3];
    const SPAN: u64 = 24;
    const OWNERS: [LockOwner; 3] = [A, B, LockOwner::OpenFile(1)];

    /// The fewest locks that say the same: where neighbours agree they are one.
    fn fewest(bytes: &[Option<RecordLockKind>]) -> Vec<(u64, u64, RecordLockKind)> {
        let mut locks: Vec<(u64, u64, RecordLockKind)> = Vec::new();
        for (at, kind) in (0..).zip(bytes) {
            let Some(kind) = *kind else { continue };
            match locks.last_mut() {
                Some(last) if last.1 + 1 == at && last.2 == kind => last.1 = at,
                _ => locks.push((at, at, kind)),
            }
        }
        locks
    }

    #[test]
    fn any_order_of_locks_is_what_it_is_byte_by_byte() {
        use RecordLockKind::{Read, Unlock, Write};
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for _ in 0..200 {
            let (locks, mut bytes) = (FileLocks::default(), Bytes::default());
            for _ in 0..60 {
                let owner = next(3) as usize;
                let first = next(SPAN);
                let last = first + next((SPAN - first).min(6));
                let kind = [Read, Read, Write, Unlock][next(4) as usize];
                let wanted = lock(OWNERS[owner], kind, first, last);
                let range = first as usize..=last as usize;
                let blocks = |held: &Option<RecordLockKind>| {
                    held.is_some_and(|held| kind != Unlock && (held == Write || kind == Write))
                };
                let others = (0..3).filter(|other| *other != owner);
                let conflict = others.clone().any(|other| bytes[other][range.clone()].iter().any(blocks));
                if kind != Unlock {
                    let found = locks.conflict(&wanted);
                    assert_eq!(found.is_some(), conflict);
                    assert!(
                        found
                            .is_none_or(|held| held.first <= last && held.last >= first && held.owner != OWNERS[owner])
                    );
                }
                assert_eq!(locks.try_set(wanted), if conflict { Err(Errno::EAGAIN) } else { Ok(()) });
                if !conflict {
                    bytes[owner][range].fill(Some(kind).filter(|kind| *kind != Unlock));
                }
                if next(40) == 0 {
                    locks.release(OWNERS[owner]);
                    bytes[owner].fill(None);
                }
                for (owner, bytes) in OWNERS.iter().zip(&bytes) {
                    let state = locks.state.lock();
                    let held = state.records.iter().filter(|lock| lock.owner == *owner);
                    assert_eq!(held.map(|lock| (lock.first, lock.last, lock.kind)).collect::<Vec<_>>(), fewest(bytes));
                }
            }
        }
    }

    #[test]
    fn a_lock_up_to_the_end_of_all_files_is_cut_and_joined_too() {
        use RecordLockKind::{Read, Unlock, Write};
        let (locks, end) = (FileLocks::default(), i64::MAX as u64);
        locks.try_set(lock(A, Write, 0, end)).unwrap();
        locks.try_set(lock(A, Read, 10, end)).unwrap();
        assert_eq!(held(&locks), [(0, 9, Write), (10, end, Read)]);
        locks.try_set(lock(A, Unlock, end, end)).unwrap();
        locks.try_set(lock(A, Unlock, 0, 0)).unwrap();
        assert_eq!(held(&locks), [(1, 9, Write), (10, end - 1, Read)]);
        locks.try_set(lock(A, Write, 1, end)).unwrap();
        assert_eq!(held(&locks), [(1, end, Write)]);
        assert_eq!(RecordLock::range(0, 0), Ok((0, end)));
        assert_eq!(RecordLock::range(5, -5), Ok((0, 4)));
        assert_eq!(RecordLock::range(0, -1), Err(Errno::EINVAL));
        assert_eq!(RecordLock::range(-1, 5), Err(Errno::EINVAL));
    }

    /// Owner, what is asked, whether it is had; the rows are flock(2)'s.
    #[test]
    fn whole_files_are_locked_by_rows() {
        use FlockKind::{Exclusive, Shared, Unlock};
        let locks = FileLocks::default();
        let refused = Err(Errno::EWOULDBLOCK);
        for (owner, kind, expected) in [
            (A, Shared, Ok(())),
            (B, Shared, Ok(())),
            (A, Shared, Ok(())),
            // Whoever asks for the other kind has given up the one it had, even if it doesn't get it.
            (A, Exclusive, refused),
            (B, Exclusive, Ok(())),
            (A, Shared, refused),
            (A, Unlock, Ok(())),
            (B, Exclusive, Ok(())),
            (B, Unlock, Ok(())),
            (A, Exclusive, Ok(())),
            (B, Shared, refused),
            (A, Shared, Ok(())),
            (B, Shared, Ok(())),
        ] {
            assert_eq!(locks.try_flock(owner, kind), expected, "{owner:?} {kind:?}");
        }
        assert!(locks.state.lock().records.is_empty(), "the two kinds know nothing of each other");
        locks.release(A);
        assert_eq!(locks.try_flock(B, Exclusive), Ok(()));
    }

    #[test]
    fn a_longer_circle_and_one_over_descriptions() {
        use RecordLockKind::Write;
        let owners = [1, 2, 3, 4].map(LockOwner::Table);
        let files = [(); 4].map(|()| FileLocks::default());
        let waits = LockWaits::default();
        for (owner, file) in owners.iter().zip(&files) {
            file.try_set(lock(*owner, Write, 0, 0)).unwrap();
        }
        let mut waiting: Vec<_> =
            (0..3).map(|index| Box::pin(files[index + 1].set(lock(owners[index], Write, 0, 0), &waits))).collect();
        assert!(waiting.iter_mut().all(|wait| crate::test_support::poll_once(wait.as_mut()).is_pending()));
        assert_eq!(waits.waits.lock().len(), 3);
        assert_eq!(block_on(files[0].set(lock(owners[3], Write, 0, 0), &waits)), Err(Errno::EDEADLK));
        // One that waits for nobody in the circle may wait.
        let mut other = Box::pin(files[0].set(lock(LockOwner::Table(9), Write, 0, 0), &waits));
        assert!(crate::test_support::poll_once(other.as_mut()).is_pending());
        // A description does not close a circle: nobody knows who would give its lock back.
        let mut of_file = Box::pin(files[0].set(lock(LockOwner::OpenFile(4), Write, 0, 0), &waits));
        assert!(crate::test_support::poll_once(of_file.as_mut()).is_pending());
        assert_eq!(waits.waits.lock().len(), 4);
        drop((waiting, other, of_file));
        assert!(waits.waits.lock().is_empty());
    }

    /// As many owners as this, each with a lock that the one before waits for: what the last is told who asks for the first's.
    fn circle_of(members: usize) -> core::task::Poll<Result<()>> {
        use RecordLockKind::Write;
        let files: Vec<_> = (0..members).map(|_| FileLocks::default()).collect();
        let waits = LockWaits::default();
        let wanted = |index: usize| lock(LockOwner::Table(index + 1), Write, 0, 0);
        for (index, file) in files.iter().enumerate() {
            file.try_set(wanted(index)).unwrap();
        }
        // From the last to the first: each new one waits for a longer chain.
        let mut waiting: Vec<_> =
            (1..members).rev().map(|index| Box::pin(files[index].set(wanted(index - 1), &waits))).collect();
        for wait in &mut waiting {
            assert!(crate::test_support::poll_once(wait.as_mut()).is_pending());
        }
        let mut last = Box::pin(files[0].set(wanted(members - 1), &waits));
        crate::test_support::poll_once(last.as_mut())
    }

    #[test]
    fn a_large_circle_is_not_looked_for() {
        assert_eq!(circle_of(12), core::task::Poll::Ready(Err(Errno::EDEADLK)));
        assert!(circle_of(13).is_pending(), "Linux tells of none with more than twelve");
        assert!(circle_of(3000).is_pending());
    }
}
