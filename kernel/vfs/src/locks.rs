//! Advisory locks: fcntl(2)'s record locks, those of open file descriptions, and flock(2).
//!
//! Every inode that can be locked holds a [`FileLocks`]. Record locks belong to a descriptor table (so that threads
//! share them and any close drops them) or, of the newer kind, to an open file description; flock(2)'s always to a
//! description. A process that would wait for itself, through others, gets `EDEADLK`: who waits for whom is written
//! down in [`LockWaits`]. Waits for locks of descriptions are left out, as on Linux: it can't be said who would give
//! those back.
//!
//! A file may have hundreds of thousands of locks, so they are kept in order (`locks/records.rs`), and a call that changes many of
//! one owner does so in slices, from the first byte to the last. Each slice is a change of its own. Before the first of several a *claim*
//! of the whole range is entered, which keeps others out like the lock it will be; so what began is not refused in the middle.

mod records;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Pid, Result};
use machine::memory::fallible;
use sync::{Budget, SpinLock, WaitQueue};

use self::records::{Held, Records, Step};
use crate::file_table::FileTable;
use crate::open_file::OpenFile;
use crate::ordered_tree::{Entry, OrderedTree};

/// Who holds a lock. The addresses only tell owners apart. An owner keeps its address until it is dropped, and releases
/// its locks before that: a table when its last user closes it ([`crate::TableUse`]) or a descriptor in it, a description
/// when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The process, for F_GETLK; `None` for locks of open file descriptions.
    pub process: Option<Pid>,
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
    /// Whether there are so many that removing those of an owner may take long.
    many: AtomicBool,
    state: SpinLock<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    records: Records,
    flocks: OrderedTree<Flock>,
    /// Somebody holds the whole file alone; then nobody else has a lock of that kind.
    exclusive: bool,
}

/// A lock of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flock {
    owner: LockOwner,
    kind: FlockKind,
}

impl Entry for Flock {
    type Key = LockOwner;
    type Summary = ();

    fn key(&self) -> LockOwner {
        self.owner
    }
}

impl State {
    /// Gives up an owner's lock of the whole file. Whether it had one.
    fn give_up_flock(&mut self, owner: LockOwner) -> bool {
        let Some(held) = self.flocks.remove(&owner) else { return false };
        self.exclusive &= held.kind != FlockKind::Exclusive;
        true
    }
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

/// Keeps a range for an owner that is changing it in slices; unless it is given back, which keeps nobody out.
struct WriteAccess<'a> {
    locks: &'a FileLocks,
    held: Option<Held>,
}

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            let mut state = self.locks.state.lock();
            state.records.drop_claim(held);
            self.locks.note_how_many(&state);
        }
        self.locks.queue.wake_all();
    }
}

/// A change that meets very many of its owner's locks, and has begun.
#[must_use = "it has only begun"]
pub struct Change<'a> {
    rest: RecordLock,
    /// Who waits is woken when it goes.
    claim: WriteAccess<'a>,
}

impl Change<'_> {
    /// Makes what is left of it, others running meanwhile.
    ///
    /// # Errors
    /// `ENOLCK` without memory.
    pub async fn finish(mut self) -> Result<()> {
        let (locks, mut budget) = (self.claim.locks, Budget::new());
        loop {
            budget.pace(STEP_COST).await;
            let mut state = locks.state.lock();
            let step = state.records.replace_some(&self.rest);
            locks.note_how_many(&state);
            drop(state);
            let Step::Rest(rest) = step? else { return Ok(()) };
            self.rest = rest;
        }
    }
}

/// What became of an attempt to set a lock.
#[must_use = "it may not be set"]
pub enum Setting<'a> {
    /// It is set.
    Done,
    /// This is in the way.
    Conflict(RecordLock),
    /// It takes long.
    Begun(Change<'a>),
}

impl FileLocks {
    /// The first lock that would be in the way: fcntl(F_GETLK).
    pub fn conflict(&self, wanted: &RecordLock) -> Option<RecordLock> {
        self.state.lock().records.conflict(wanted).map(|held| held.lock)
    }

    /// Sets or removes a record lock if nothing is in the way: fcntl(F_SETLK).
    ///
    /// # Errors
    /// `ENOLCK` without memory.
    #[inline]
    pub fn try_set(&self, wanted: RecordLock) -> Result<Setting<'_>> {
        let mut state = self.state.lock();
        if wanted.kind != RecordLockKind::Unlock
            && let Some(held) = state.records.conflict(&wanted)
        {
            return Ok(Setting::Conflict(held.lock));
        }
        self.used.store(true, Ordering::Relaxed);
        let step = state.records.begin_to_replace(&wanted)?;
        self.note_how_many(&state);
        drop(state);
        match step {
            Step::Done(()) => {
                self.queue.wake_all();
                Ok(Setting::Done)
            }
            Step::Rest((rest, claim)) => {
                Ok(Setting::Begun(Change { rest, claim: WriteAccess { locks: self, held: claim } }))
            }
        }
    }

    fn note_how_many(&self, state: &State) {
        self.many.store(state.records.are_many(), Ordering::Relaxed);
    }

    /// Waits until a record lock can be set: fcntl(F_SETLKW).
    ///
    /// # Errors
    /// `EDEADLK`, `ENOLCK` without memory.
    pub async fn set(&self, wanted: RecordLock, waits: &LockWaits) -> Result<()> {
        let mut listener = self.queue.listen();
        loop {
            let held = match self.try_set(wanted)? {
                Setting::Done => return Ok(()),
                Setting::Begun(change) => return Box::pin(change.finish()).await,
                Setting::Conflict(held) => held,
            };
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
    pub fn try_flock(&self, owner: LockOwner, kind: FlockKind) -> Result<()> {
        let mut state = self.state.lock();
        if state.flocks.at_or_after(&owner) == Some(&Flock { owner, kind }) {
            return Ok(());
        }
        let gave_up = state.give_up_flock(owner);
        let result = if kind == FlockKind::Unlock {
            Ok(())
        } else if state.exclusive || kind == FlockKind::Exclusive && !state.flocks.is_empty() {
            Err(Errno::EWOULDBLOCK)
        } else {
            self.used.store(true, Ordering::Relaxed);
            let entered = state.flocks.insert(Flock { owner, kind }).map_err(|_| Errno::ENOLCK);
            state.exclusive = entered.is_ok() && kind == FlockKind::Exclusive;
            entered
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

    /// Whether there ever was a lock.
    #[inline]
    pub fn are_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether there are so many that removing those of an owner may take long.
    #[inline]
    pub fn are_many(&self) -> bool {
        self.many.load(Ordering::Relaxed)
    }

    /// As [`FileLocks::release`], which then finds hardly any left: others may run meanwhile.
    pub async fn release_slowly(&self, owner: LockOwner) {
        let mut budget = Budget::new();
        while self.release_some(owner) {
            budget.pace(STEP_COST).await;
        }
    }

    #[cold]
    fn release_all(&self, owner: LockOwner) {
        while self.release_some(owner) {}
    }

    /// Removes some locks of an owner, and wakes who waits when none is left. False then.
    fn release_some(&self, owner: LockOwner) -> bool {
        let mut state = self.state.lock();
        if state.records.is_empty() && state.flocks.is_empty() {
            return false;
        }
        let gone = state.records.release_some(owner);
        let gave_up = state.give_up_flock(owner);
        self.note_how_many(&state);
        drop(state);
        match gone {
            Step::Rest(()) => true,
            Step::Done(changed) => {
                if changed || gave_up {
                    self.queue.wake_all();
                }
                false
            }
        }
    }
}

/// A slice of a change of very many locks costs about as much as so many pages' copying.
const STEP_COST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::block_on;

    const A: LockOwner = LockOwner::Table(1);
    const B: LockOwner = LockOwner::Table(2);

    fn lock(owner: LockOwner, kind: RecordLockKind, first: u64, last: u64) -> RecordLock {
        RecordLock { kind, first, last, owner, process: Some(Pid::new(1)) }
    }

    /// F_SETLK.
    async fn setting(locks: &FileLocks, wanted: RecordLock) -> Result<()> {
        match locks.try_set(wanted)? {
            Setting::Done => Ok(()),
            Setting::Conflict(_) => Err(Errno::EAGAIN),
            Setting::Begun(change) => change.finish().await,
        }
    }

    fn try_set(locks: &FileLocks, wanted: RecordLock) -> Result<()> {
        block_on(setting(locks, wanted))
    }

    fn held(locks: &FileLocks) -> Vec<(u64, u64, RecordLockKind)> {
        let mut held: Vec<_> =
            locks.state.lock().records.each().iter().map(|lock| (lock.first, lock.last, lock.kind)).collect();
        held.sort_by_key(|lock| lock.0);
        held
    }

    #[test]
    fn locks_are_cut_and_joined() {
        use RecordLockKind::{Read, Unlock, Write};
        let locks = FileLocks::default();
        try_set(&locks, lock(A, Write, 0, 99)).unwrap();
        try_set(&locks, lock(A, Unlock, 40, 59)).unwrap();
        assert_eq!(held(&locks), [(0, 39, Write), (60, 99, Write)]);
        try_set(&locks, lock(A, Read, 30, 69)).unwrap();
        assert_eq!(held(&locks), [(0, 29, Write), (30, 69, Read), (70, 99, Write)]);
        try_set(&locks, lock(A, Write, 30, 69)).unwrap();
        assert_eq!(held(&locks), [(0, 99, Write)]);
        try_set(&locks, lock(A, Write, 100, 120)).unwrap();
        assert_eq!(held(&locks), [(0, 120, Write)]);
        assert_eq!(try_set(&locks, lock(B, Read, 120, 130)), Err(Errno::EAGAIN));
        assert_eq!(locks.conflict(&lock(B, Read, 120, 130)).map(|lock| lock.owner), Some(A));
        try_set(&locks, lock(B, Read, 121, 130)).unwrap();
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
        try_set(&first, lock(A, Write, 0, 9)).unwrap();
        try_set(&second, lock(B, Write, 0, 9)).unwrap();
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

    /// So many changes of a file of so many bytes. One of `large` is of a range of any length, the others of six bytes at most.
    fn byte_by_byte(span: u64, changes: usize, large: u64, seed: u64) {
        use RecordLockKind::{Read, Unlock, Write};
        let mut random = 88_172_645_463_325_252_u64 ^ seed;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        // What each owner holds on each byte.
        let (locks, mut bytes) = (FileLocks::default(), vec![vec![None; span as usize]; 3]);
        for change in 0..changes {
            let owner = next(3) as usize;
            let first = next(span);
            let longest = if next(large) == 0 { span } else { 6 };
            let last = first + next((span - first).min(longest));
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
                    found.is_none_or(|held| held.first <= last && held.last >= first && held.owner != OWNERS[owner])
                );
            }
            assert_eq!(try_set(&locks, wanted), if conflict { Err(Errno::EAGAIN) } else { Ok(()) });
            if !conflict {
                bytes[owner][range].fill(Some(kind).filter(|kind| *kind != Unlock));
            }
            if next(40 * large) == 0 {
                locks.release(OWNERS[owner]);
                bytes[owner].fill(None);
            }
            if span > 100 && change % 50 != 0 {
                continue;
            }
            for (owner, bytes) in OWNERS.iter().zip(&bytes) {
                let all = locks.state.lock().records.each();
                let held = all.iter().filter(|lock| lock.owner == *owner);
                assert_eq!(held.map(|lock| (lock.first, lock.last, lock.kind)).collect::<Vec<_>>(), fewest(bytes));
            }
        }
    }

    #[test]
    fn any_order_of_locks_is_what_it_is_byte_by_byte() {
        (0..200).for_each(|seed| byte_by_byte(24, 60, 1, seed));
    }

    #[test]
    fn very_many_locks_are_what_they_are_byte_by_byte() {
        (0..2).for_each(|seed| byte_by_byte(20_000, 20_000, 500, seed));
    }

    /// Every other byte of a file is `owner`'s.
    fn every_other_byte(locks: &FileLocks, owner: LockOwner, count: u64) {
        (0..count).for_each(|at| try_set(locks, lock(owner, RecordLockKind::Read, 2 * at, 2 * at)).unwrap());
    }

    #[test]
    fn a_long_change_keeps_others_out_from_its_beginning() {
        use RecordLockKind::{Read, Unlock, Write};
        let locks = FileLocks::default();
        every_other_byte(&locks, A, 5000);
        let mut changing = Box::pin(setting(&locks, lock(A, Write, 0, 9999)));
        assert!(crate::test_support::poll_once(changing.as_mut()).is_pending());
        assert_eq!(try_set(&locks, lock(B, Read, 9999, 9999)), Err(Errno::EAGAIN), "not yet A's, but claimed");
        assert_eq!(locks.conflict(&lock(B, Read, 9999, 9999)), Some(lock(A, Write, 0, 9999)));
        assert_eq!(try_set(&locks, lock(A, Unlock, 9999, 9999)), Ok(()), "it keeps out nobody of its own");
        assert_eq!(block_on(changing), Ok(()));
        assert_eq!(held(&locks), [(0, 9999, Write)]);
        assert!(!locks.are_many());
        // Given up in the middle it keeps nobody out.
        every_other_byte(&locks, A, 5000);
        try_set(&locks, lock(A, Unlock, 0, 9999)).unwrap();
        every_other_byte(&locks, A, 5000);
        let mut changing = Box::pin(setting(&locks, lock(A, Write, 0, 9999)));
        assert!(crate::test_support::poll_once(changing.as_mut()).is_pending());
        drop(changing);
        assert_eq!(try_set(&locks, lock(B, Write, 9999, 9999)), Ok(()));
    }

    #[test]
    fn what_is_given_back_in_slices_is_free_at_once_and_all_at_the_end() {
        let locks = FileLocks::default();
        every_other_byte(&locks, A, 5000);
        every_other_byte(&locks, B, 100);
        let mut going = Box::pin(locks.release_slowly(A));
        assert!(crate::test_support::poll_once(going.as_mut()).is_pending(), "not all in one slice");
        block_on(going);
        assert_eq!(held(&locks).len(), 100);
        locks.release(B);
        assert!(held(&locks).is_empty() && !locks.are_many());
    }

    #[test]
    fn of_those_in_the_way_the_owner_who_came_first_is_told() {
        use RecordLockKind::{Read, Write};
        let locks = FileLocks::default();
        let owners: Vec<_> = [7, 3, 5].map(LockOwner::OpenFile).into();
        for (owner, first) in owners.iter().zip([20, 10, 0]) {
            try_set(&locks, lock(*owner, Read, first, 30)).unwrap();
        }
        let told = || locks.conflict(&lock(A, Write, 0, 100)).map(|lock| lock.owner);
        assert_eq!(told(), Some(owners[0]));
        for at in 100..200 {
            try_set(&locks, lock(LockOwner::OpenFile(at as usize), Read, at, at)).unwrap();
        }
        assert!(locks.are_many());
        assert_eq!(told(), Some(owners[0]));
        locks.release(owners[0]);
        assert_eq!(told(), Some(owners[1]));
    }

    #[test]
    fn a_lock_up_to_the_end_of_all_files_is_cut_and_joined_too() {
        use RecordLockKind::{Read, Unlock, Write};
        let (locks, end) = (FileLocks::default(), i64::MAX as u64);
        try_set(&locks, lock(A, Write, 0, end)).unwrap();
        try_set(&locks, lock(A, Read, 10, end)).unwrap();
        assert_eq!(held(&locks), [(0, 9, Write), (10, end, Read)]);
        try_set(&locks, lock(A, Unlock, end, end)).unwrap();
        try_set(&locks, lock(A, Unlock, 0, 0)).unwrap();
        assert_eq!(held(&locks), [(1, 9, Write), (10, end - 1, Read)]);
        try_set(&locks, lock(A, Write, 1, end)).unwrap();
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
        assert!(locks.state.lock().records.each().is_empty(), "the two kinds know nothing of each other");
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
            try_set(file, lock(*owner, Write, 0, 0)).unwrap();
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
            try_set(file, wanted(index)).unwrap();
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
