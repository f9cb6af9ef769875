//! The record locks of one file, in two orders.
//!
//! By owner and first byte, since an owner's locks don't overlap: so a change finds what it cuts and joins. And once there are many, by
//! first byte alone, where each part of the tree knows how far its locks reach, those for writing, and those of all owners but one: so a
//! lock of somebody else that is in the way is found, or known not to be there, without looking at the others.

use alloc::boxed::Box;
use core::ops::ControlFlow;

use abi::{Errno, Result};
use machine::memory::fallible;
use smallvec::SmallVec;

use super::{LockOwner, RecordLock, RecordLockKind};
use crate::ordered_tree::{Entry, OrderedTree, Summary};

/// So many locks one slice of a change removes.
const STEP: usize = 32;

/// So many locks that are in the way are compared, to tell of the one whose owner came first. With more, it is the first of these.
const COMPARED: usize = 256;

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub lock: RecordLock,
    /// No other lock of the file has this number.
    number: u64,
    /// The number of the first lock its owner had, for as long as it has any.
    arrival: u64,
}

/// A lock in the order of owners.
#[derive(Clone, Copy)]
struct ByOwner(Held);

/// A lock in the order of first bytes.
#[derive(Clone, Copy)]
struct ByRange(Held);

impl Entry for ByOwner {
    type Key = (LockOwner, u64, u64);
    type Summary = ();

    fn key(&self) -> Self::Key {
        (self.0.lock.owner, self.0.lock.first, self.0.number)
    }
}

impl Entry for ByRange {
    type Key = (u64, u64);
    type Summary = Reach;

    fn key(&self) -> Self::Key {
        (self.0.lock.first, self.0.number)
    }
}

/// How far locks reach.
#[derive(Clone, Copy, Default)]
struct Reach {
    /// All of them.
    all: Ends,
    /// Those for writing.
    writing: Ends,
}

/// Where the last of some locks ends, and where the last of those ends that are not of the same owner. Owners by their arrival. The end
/// is the byte behind; 0 for none.
#[derive(Clone, Copy, Default)]
struct Ends {
    last: u64,
    owner: u64,
    of_others: u64,
}

impl Ends {
    fn add(&mut self, others: &Ends) {
        let (larger, smaller) = if others.last > self.last { (*others, *self) } else { (*self, *others) };
        let of_other = if smaller.owner == larger.owner { smaller.of_others } else { smaller.last };
        *self = Ends { of_others: larger.of_others.max(of_other), ..larger };
    }

    /// Where those end that are not of this owner.
    fn without(&self, owner: Option<u64>) -> u64 {
        if owner == Some(self.owner) { self.of_others } else { self.last }
    }
}

impl Summary<ByRange> for Reach {
    fn of(entry: &ByRange) -> Reach {
        let all = Ends { last: entry.0.lock.last + 1, owner: entry.0.arrival, of_others: 0 };
        let writing = if entry.0.lock.kind == RecordLockKind::Write { all } else { Ends::default() };
        Reach { all, writing }
    }

    fn add(&mut self, others: &Reach) {
        self.all.add(&others.all);
        self.writing.add(&others.writing);
    }

    fn rests_on(&self, entry: &ByRange) -> bool {
        let end = entry.0.lock.last + 1;
        [self.all.last, self.all.of_others, self.writing.last, self.writing.of_others].contains(&end)
    }
}

/// How far something done in slices has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<Done, Rest> {
    Done(Done),
    /// What is left to do.
    Rest(Rest),
}

/// All record locks of a file.
#[derive(Default)]
pub(super) struct Records {
    by_owner: OrderedTree<ByOwner>,
    /// While there are many.
    by_range: Option<Box<ManyRecords>>,
    last_number: u64,
}

#[derive(Default)]
struct ManyRecords {
    tree: OrderedTree<ByRange>,
    /// How many in the tree are claims, which are in no other order.
    claims: usize,
}

/// What a change does to the locks of its owner.
struct Change {
    /// What comes in: the new lock with all it joins, and what is left of others before and behind it.
    new: [Option<RecordLock>; 3],
    /// What goes.
    old: SmallVec<[Held; 2]>,
    /// What is to be changed afterwards.
    rest: Option<RecordLock>,
}

impl Records {
    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }

    pub fn are_many(&self) -> bool {
        self.by_range.is_some()
    }

    /// A lock that is in the way: that of the owner who came first, and of that the first, if they are not very many.
    pub fn conflict(&self, wanted: &RecordLock) -> Option<Held> {
        match &self.by_range {
            None => {
                let held = self.by_owner.few()?.iter().map(|held| held.0);
                held.filter(|held| held.lock.conflicts(wanted)).min_by_key(|held| held.arrival)
            }
            Some(many) => many.conflict(wanted, self.first_of(wanted.owner).map(|held| held.arrival)),
        }
    }

    /// Puts `wanted` in place of whatever its owner held in that range, cutting what reaches beyond it and joining what it touches. If
    /// that is very much, in the first part of the range only; others are kept out of all of it then by the claim that is told.
    ///
    /// # Errors
    /// `ENOLCK` without memory; nothing has changed then.
    pub fn begin_to_replace(&mut self, wanted: &RecordLock) -> Result<Step<(), (RecordLock, Option<Held>)>> {
        if let Some(done) = self.replace_alone(wanted) {
            return done.map(Step::Done);
        }
        let change = self.survey(wanted)?;
        let Some(rest) = change.rest else { return self.make(&change).map(Step::Done) };
        let claim = self.claim(wanted)?;
        let made = self.make(&change);
        if let (Err(_), Some(claim)) = (made, &claim) {
            self.drop_claim(claim);
        }
        made.map(|()| Step::Rest((rest, claim)))
    }

    /// The usual change: of few locks, where the owner has none that the new one touches, or the one that is to go.
    #[inline]
    fn replace_alone(&mut self, wanted: &RecordLock) -> Option<Result<()>> {
        if self.by_range.is_some() {
            return None;
        }
        let removes = wanted.kind == RecordLockKind::Unlock;
        let held = self.reaching(wanted.owner, wanted.first).filter(|held| held.lock.first <= wanted.last + 1);
        match held {
            None if removes => Some(Ok(())),
            None => Some(self.enter(wanted).map(drop)),
            Some(held) if removes && (held.lock.first, held.lock.last) == (wanted.first, wanted.last) => {
                let key = (wanted.owner, wanted.first, held.number);
                self.by_owner.remove(&key);
                Some(Ok(()))
            }
            Some(_) => None,
        }
    }

    /// Goes on with a change.
    ///
    /// # Errors
    /// `ENOLCK` without memory; nothing more has changed then.
    pub fn replace_some(&mut self, wanted: &RecordLock) -> Result<Step<(), RecordLock>> {
        let change = self.survey(wanted)?;
        self.make(&change)?;
        Ok(change.rest.map_or(Step::Done(()), Step::Rest))
    }

    fn make(&mut self, change: &Change) -> Result<()> {
        let mut entered = [None; 3];
        for (place, new) in entered.iter_mut().zip(change.new) {
            let Some(new) = new else { continue };
            match self.enter(&new) {
                Ok(held) => *place = Some(held),
                Err(error) => {
                    entered.iter().flatten().for_each(|held| self.remove(held));
                    return Err(error);
                }
            }
        }
        change.old.iter().for_each(|held| self.remove(held));
        Ok(())
    }

    /// Keeps others out of a range. `None` for a removal, which keeps nobody out.
    fn claim(&mut self, wanted: &RecordLock) -> Result<Option<Held>> {
        if wanted.kind == RecordLockKind::Unlock {
            return Ok(None);
        }
        let held = self.numbered(*wanted);
        let many = self.by_range.get_or_insert_default();
        many.tree.insert(ByRange(held)).map_err(|_| Errno::ENOLCK)?;
        many.claims += 1;
        Ok(Some(held))
    }

    pub fn drop_claim(&mut self, held: &Held) {
        if let Some(many) = &mut self.by_range
            && many.tree.remove(&ByRange(*held).key()).is_some()
        {
            many.claims -= 1;
        }
        self.keep_one_order_of_few();
    }

    /// Removes some locks of an owner; at the end, whether there were any.
    pub fn release_some(&mut self, owner: LockOwner) -> Step<bool, ()> {
        for count in 0..STEP {
            let Some(held) = self.first_of(owner).copied() else {
                if self.by_owner.is_empty() {
                    // What has no locks does not keep room for them.
                    self.by_owner = OrderedTree::default();
                }
                return Step::Done(count > 0);
            };
            self.remove(&held);
        }
        Step::Rest(())
    }

    fn first_of(&self, owner: LockOwner) -> Option<&Held> {
        self.next_of(owner, 0)
    }

    /// The first lock of an owner that begins at `first` or later.
    fn next_of(&self, owner: LockOwner, first: u64) -> Option<&Held> {
        let found = &self.by_owner.at_or_after(&(owner, first, 0))?.0;
        (found.lock.owner == owner).then_some(found)
    }

    /// The first lock of an owner that ends just before `first` or later.
    fn reaching(&self, owner: LockOwner, first: u64) -> Option<&Held> {
        let before = self.by_owner.before(&(owner, first, 0)).map(|before| &before.0);
        let before = before.filter(|before| before.lock.owner == owner && before.lock.last + 1 >= first);
        before.or_else(|| self.next_of(owner, first))
    }

    /// What there is to change for `wanted`.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn survey(&self, wanted: &RecordLock) -> Result<Change> {
        let mut change = Change { new: [None; 3], old: SmallVec::new(), rest: None };
        let (mut merged, mut before, mut after) = (*wanted, None, None);
        let mut next = self.reaching(wanted.owner, wanted.first);
        while let Some(held) = next.filter(|held| held.lock.first <= wanted.last + 1) {
            let room = fallible(|| change.old.try_reserve(1)).map_err(|_| Errno::ENOLCK);
            if held.lock.first <= wanted.last && (change.old.len() > STEP || room.is_err() && !change.old.is_empty()) {
                merged.last = held.lock.first - 1;
                change.rest = Some(RecordLock { first: held.lock.first, ..*wanted });
                break;
            }
            room?;
            if held.lock.kind == wanted.kind {
                merged.first = merged.first.min(held.lock.first);
                merged.last = merged.last.max(held.lock.last);
                change.old.push(*held);
            } else if held.lock.overlaps(wanted) {
                let cut_before = held.lock.first < wanted.first;
                before = before.or(cut_before.then(|| RecordLock { last: wanted.first - 1, ..held.lock }));
                let cut_behind = held.lock.last > wanted.last;
                after = cut_behind.then(|| RecordLock { first: wanted.last + 1, ..held.lock });
                change.old.push(*held);
            }
            next = self.next_of(wanted.owner, held.lock.first + 1);
        }
        change.new = [before, (wanted.kind != RecordLockKind::Unlock).then_some(merged), after];
        Ok(change)
    }

    fn numbered(&mut self, lock: RecordLock) -> Held {
        self.last_number += 1;
        let arrival = self.first_of(lock.owner).map_or(self.last_number, |first| first.arrival);
        Held { lock, number: self.last_number, arrival }
    }

    fn enter(&mut self, lock: &RecordLock) -> Result<Held> {
        let held = self.numbered(*lock);
        self.by_owner.insert(ByOwner(held)).map_err(|_| Errno::ENOLCK)?;
        if let Err(error) = self.enter_by_range(held) {
            self.by_owner.remove(&ByOwner(held).key());
            self.keep_one_order_of_few();
            return Err(error);
        }
        Ok(held)
    }

    /// Enters a lock in the second order too, which is made if they have just become many.
    fn enter_by_range(&mut self, held: Held) -> Result<()> {
        if let Some(many) = &mut self.by_range {
            return many.tree.insert(ByRange(held)).map_err(|_| Errno::ENOLCK);
        }
        if self.by_owner.few().is_some() {
            return Ok(());
        }
        let mut many = Box::<ManyRecords>::default();
        let mut result = Ok(());
        self.by_owner.search(&|_, ()| true, &mut |held| {
            result = many.tree.insert(ByRange(held.0)).map_err(|_| Errno::ENOLCK);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        result.map(|()| self.by_range = Some(many))
    }

    fn remove(&mut self, held: &Held) {
        self.by_owner.remove(&ByOwner(*held).key());
        if let Some(many) = &mut self.by_range {
            many.tree.remove(&ByRange(*held).key());
            self.keep_one_order_of_few();
        }
    }

    fn keep_one_order_of_few(&mut self) {
        if self.by_owner.few().is_some() && self.by_range.as_ref().is_some_and(|many| many.claims == 0) {
            self.by_range = None;
        }
    }

    #[cfg(test)]
    pub fn each(&self) -> alloc::vec::Vec<RecordLock> {
        let mut all = alloc::vec::Vec::new();
        self.by_owner.search(&|_, ()| true, &mut |held| {
            all.push(held.0.lock);
            ControlFlow::Continue(())
        });
        all
    }
}

impl ManyRecords {
    /// As [`Records::conflict`]; the owner's own arrival is told, if it has locks.
    fn conflict(&self, wanted: &RecordLock, own: Option<u64>) -> Option<Held> {
        let writes = wanted.kind == RecordLockKind::Write;
        let relevant = |key: &(u64, u64), reach: &Reach| {
            let ends = if writes { &reach.all } else { &reach.writing };
            key.0 <= wanted.last && ends.without(own) > wanted.first
        };
        let (mut found, mut compared): (Option<Held>, usize) = (None, 0);
        self.tree.search(&relevant, &mut |entry| {
            let held = entry.0;
            if held.lock.conflicts(wanted) {
                compared += 1;
                found = Some(found.filter(|found| found.arrival <= held.arrival).unwrap_or(held));
            }
            // Those further on begin later.
            let over = compared == COMPARED || held.lock.first > wanted.last;
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }
}
