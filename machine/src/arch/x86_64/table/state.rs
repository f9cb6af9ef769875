//! [`State`]: one word about a page table of a space, in the record of its frame: who changes it, how many entries it has, and
//! whether it is still in use.
//!
//! *Leaf tables* have a lock here, which is held while their entries are changed. It keeps nobody else waiting than who changes pages in the
//! same 2 MiB.
//!
//! *Upper tables* are filled without a lock: who hangs a table into one first [reserves](State::reserve) the entry in its count, and then puts
//! it there by a compare-exchange, if nobody was faster.
//!
//! *A table goes* by being [retired](State::retire), which succeeds only if it is empty and nobody has its lock or a reservation in it;
//! from then on it can't be locked and nothing be reserved in it. Its parent's entry is taken out, and its frame is freed when nobody can be on the
//! way to it any more. Who walks down reads under [`crate::rcu`] until he has locked the leaf or reserved the entry.
//!
//! **Nothing is hung in, or mapped, behind the back of who takes it out.** Who changes areas first makes known that he does (kernel/memory,
//! `recent_areas`), and then looks at the tables. Who maps a page first reserves and locks, and then asks whether its area is still so. On x86
//! each exchange here is a full barrier: so the first sees the table, or the second sees the change. kernel/models tries the orders.

use super::atomic::{AtomicU32, Ordering};

/// Occupied and reserved entries, and one for the table itself.
const COUNT: u32 = 0x3ff;
/// A huge page maps what a leaf table has.
const HUGE: u32 = 1 << 13;
const RETIRED: u32 = 1 << 14;
const LOCKED: u32 = 1 << 15;
/// From here on: which groups of entries may have any.
const GROUPS: u32 = 16;

/// See the module's page.
#[derive(Clone, Copy)]
pub struct State<'a>(pub &'a AtomicU32);

impl State<'_> {
    #[inline]
    fn load(self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Occupied and reserved entries.
    #[inline]
    pub fn occupied(self) -> u32 {
        (self.load() & COUNT) - 1
    }

    /// The same, and the groups in which they lie.
    #[inline]
    pub fn occupied_groups(self) -> (u32, u32) {
        let state = self.load();
        ((state & COUNT) - 1, state >> GROUPS)
    }

    /// Locks the table; false if it is locked, or retired.
    #[inline]
    pub fn try_lock(self) -> bool {
        let old = self.load();
        old & (LOCKED | RETIRED) == 0
            && self.0.compare_exchange(old, old | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Unlocks the table, for who has locked it.
    #[inline]
    pub fn unlock(self) {
        self.0.store(self.load() & !LOCKED, Ordering::Release);
    }

    /// Whether a huge page maps what the table has, for who has it locked, or keeps others from making and splitting one.
    #[inline]
    pub fn is_huge(self) -> bool {
        self.load() & HUGE != 0
    }

    /// Notes that one does, or none. The caller has the table locked.
    pub fn set_huge(self, huge: bool) {
        let others = self.load() & !HUGE;
        self.0.store(if huge { others | HUGE } else { others }, Ordering::Relaxed);
    }

    /// Counts `added` new entries that lie in `groups`. The caller has the table locked, or alone.
    #[inline]
    pub fn count(self, groups: u32, added: u32) {
        self.0.store((self.load() | groups << GROUPS) + added, Ordering::Relaxed);
    }

    /// `removed` entries are gone. The caller has the table locked, or alone.
    #[inline]
    pub fn uncount(self, removed: u32) {
        self.0.store(self.load() - removed, Ordering::Relaxed);
    }

    /// Counts one more entry of `groups`, which is to come; false if the table is retired.
    pub fn reserve(self, groups: u32) -> bool {
        let mut old = self.load();
        while old & RETIRED == 0 {
            let new = (old | groups << GROUPS) + 1;
            match self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    /// What was reserved did not come, or has gone.
    pub fn unreserve(self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Takes the table out of use, if it is empty and nobody is about to change that.
    pub fn retire(self) -> bool {
        let old = self.load();
        old & (LOCKED | RETIRED | COUNT) == 1
            && self.0.compare_exchange(old, RETIRED | 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Makes the record that of an ordinary frame with one owner. Nobody else knows the table.
    #[inline]
    pub fn release(self) {
        self.0.store(1, Ordering::Relaxed);
    }
}
