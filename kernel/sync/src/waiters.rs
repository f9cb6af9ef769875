//! The waiters of a queue, as its lock protects them: entries that keep their place while they exist, linked into lists.
//!
//! What a waiter waits for and whether it is exclusive choose its list, so a wake-up finds those it concerns without passing
//! others by: constant time for each waiter. Entries lie in pieces of less than a page that are never moved; the first two need
//! no heap.
//!
//! **An order without a cursor.** A wake-up of many lets go of the lock now and then. Each wake-up counts [`Waiters::sequence`] up, and
//! each entry notes the count at which it began to sleep: a wake-up takes the entries from the front of a list that slept before
//! it began, and ends at the first that did not.
//!
//! **Who was woken wakes others.** It is noted up to which count the entries of which lists are due to be woken. Who wakes so many that it would take
//! long wakes some, and leaves the rest due. Each of those he woke comes back to the queue, to leave it or to wait again, and then wakes
//! some of the rest: so somebody always goes on, until nobody is due.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::task::Waker;

use machine::memory::fallible;
use smallvec::SmallVec;

/// What is waited for, and what a wake-up tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events(u8);

impl Events {
    /// Only what concerns everybody: errors and hang-ups.
    pub const NONE: Events = Events(0);
    /// There is something to read.
    pub const INPUT: Events = Events(1);
    /// There is room to write.
    pub const OUTPUT: Events = Events(2);
    /// Everything. A wake-up that tells of it reaches every waiter.
    pub const ALL: Events = Events(3);

    /// Those of either.
    pub const fn union(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

/// What a wake-up means to a waiter, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Looks, and takes nothing: every wake-up reaches it. For poll(2).
    Shared,
    /// Takes what it waits for: a wake-up of one reaches one of these. For read(2), locks.
    Exclusive,
    /// As shared, and stays after it was woken: its waker is called at every wake-up, until it leaves. For signals (`O_ASYNC`)
    /// and epoll(7).
    Standing,
}

/// Entries woken before the lock is let go of.
const BATCH: usize = 16;

/// A wake-up ends for whoever began it when this many that will come back have been woken; the rest is due.
const MOST: usize = 256;

/// Wakers on their way out of the lock.
pub(crate) struct Batch {
    wakers: SmallVec<[Waker; BATCH]>,
    /// How many more entries may be woken.
    room: usize,
    /// How many were woken that will come back.
    returning: usize,
}

impl Batch {
    pub const fn new() -> Batch {
        Batch { wakers: SmallVec::new_const(), room: BATCH, returning: 0 }
    }

    /// Calls the wakers. Tells whether there was no room for more and more are to be woken at once, and makes room.
    pub fn call(&mut self) -> bool {
        self.wakers.drain(..).for_each(Waker::wake);
        core::mem::replace(&mut self.room, BATCH) == 0 && self.returning < MOST
    }

    /// A poller that stands in the queue many times is woken once.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn add(&mut self, waker: Option<Waker>) {
        self.room -= 1;
        if let Some(waker) = waker
            && !self.wakers.last().is_some_and(|last| last.will_wake(&waker))
        {
            self.wakers.push(waker);
        }
    }
}

/// Entries that need no heap.
const INLINE: usize = 2;
/// Entries in a piece, pieces in a group, groups: each is less than a page, and there is room for a million.
const PIECE: usize = 64;
const GROUP: usize = 128;
const GROUPS: usize = 128;

/// No entry.
const NOBODY: u32 = u32::MAX;

const KINDS: usize = 3;

/// For each set of events a list of each kind.
const LISTS: usize = 4 * KINDS;

struct Entry {
    state: State,
    kind: Kind,
    events: Events,
    /// How many wake-ups there had been when it began to sleep.
    since: u64,
    /// Somebody's who stands here: a free entry has none, and entries are freed only when all are. So freeing them needs no look at
    /// each.
    waker: ManuallyDrop<Option<Waker>>,
    next: u32,
    previous: u32,
}

/// Where an entry stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody's. `next` is the next free one.
    Free,
    /// In its list.
    Asleep,
    /// Woken, and not asleep again since. `alone`: the wake-up was given to this exclusive waiter and to no other.
    Woken { alone: bool },
}

const FREE: Entry = Entry {
    state: State::Free,
    kind: Kind::Shared,
    events: Events::NONE,
    since: 0,
    waker: ManuallyDrop::new(None),
    next: NOBODY,
    previous: NOBODY,
};

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// See the module's page.
pub(crate) struct Waiters {
    inline: [Entry; INLINE],
    groups: Vec<Vec<Vec<Entry>>>,
    lists: [List; LISTS],
    /// Entries that were made, free ones included.
    made: u32,
    /// Entries that are somebody's.
    taken: u32,
    free: u32,
    /// Entries in the lists.
    pub asleep: usize,
    /// How many wake-ups there have been.
    pub sequence: u64,
    /// Entries that slept before this count are due to be woken, if they are in one of these lists: a bit for each.
    due: u64,
    due_lists: u16,
}

/// What is to be dropped outside the lock.
#[derive(Default)]
pub(crate) struct Leavings {
    _waker: Option<Waker>,
    _groups: Vec<Vec<Vec<Entry>>>,
}

impl Waiters {
    pub const fn new() -> Waiters {
        Waiters {
            inline: [FREE; INLINE],
            groups: Vec::new(),
            lists: [List { first: NOBODY, last: NOBODY }; LISTS],
            made: 0,
            taken: 0,
            free: NOBODY,
            asleep: 0,
            sequence: 0,
            due: 0,
            due_lists: 0,
        }
    }

    fn entry(&mut self, index: u32) -> Option<&mut Entry> {
        let index = index as usize;
        match index.checked_sub(INLINE) {
            None => self.inline.get_mut(index),
            Some(beyond) => {
                let (piece, place) = (beyond / PIECE, beyond % PIECE);
                self.groups.get_mut(piece / GROUP)?.get_mut(piece % GROUP)?.get_mut(place)
            }
        }
    }

    /// A new entry, asleep. `None`: there is no memory for it, or there are a million already.
    pub fn enter(&mut self, kind: Kind, events: Events, waker: &Waker) -> Option<u32> {
        let index = if self.free == NOBODY { self.make()? } else { self.free };
        let since = self.sequence;
        let entry = self.entry(index)?;
        let next_free = entry.next;
        *entry = Entry { state: State::Asleep, kind, events, since, waker: held(waker), ..FREE };
        self.free = next_free;
        self.taken += 1;
        self.append(index);
        Some(index)
    }

    /// Makes a free entry, the only one.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn make(&mut self) -> Option<u32> {
        let index = self.made;
        if let Some(beyond) = (index as usize).checked_sub(INLINE) {
            let piece = beyond / PIECE;
            if piece / GROUP == self.groups.len() {
                if piece / GROUP == GROUPS {
                    return None;
                }
                fallible(|| self.groups.try_reserve(1)).ok()?;
                self.groups.push(Vec::new());
            }
            let group = self.groups.get_mut(piece / GROUP)?;
            if piece % GROUP == group.len() {
                fallible(|| group.try_reserve(1)).ok()?;
                let mut entries = Vec::new();
                fallible(|| entries.try_reserve_exact(PIECE)).ok()?;
                group.push(entries);
            }
            // The piece was made with room for all its entries.
            group.get_mut(piece % GROUP)?.push(FREE);
        }
        self.made += 1;
        Some(index)
    }

    /// Puts an entry to sleep, woken or not: the caller looks at its condition afterwards. Returns the waker it had.
    pub fn renew(&mut self, index: u32, waker: &Waker) -> Option<Waker> {
        let since = self.sequence;
        let is_woken = self.is_woken(index);
        let entry = self.entry(index)?;
        if !is_woken {
            let known = entry.waker.as_ref().is_some_and(|old| old.will_wake(waker));
            return if known { None } else { entry.waker.replace(waker.clone()) };
        }
        if entry.state == State::Asleep {
            self.unlink(index);
        }
        let entry = self.entry(index)?;
        entry.state = State::Asleep;
        entry.since = since;
        let old = entry.waker.replace(waker.clone());
        self.append(index);
        old
    }

    /// Whether an entry was woken since it fell asleep. Who is due to be is as good as woken: he came by himself before his turn.
    pub fn is_woken(&mut self, index: u32) -> bool {
        let (due, due_lists) = (self.due, self.due_lists);
        self.entry(index).is_some_and(|entry| match entry.state {
            State::Free => false,
            State::Woken { .. } => true,
            State::Asleep => due_lists & (1 << entry.list()) != 0 && entry.since < due,
        })
    }

    /// Removes an entry. Tells whether a wake-up that was given to it alone goes with it.
    pub fn leave(&mut self, index: u32) -> (bool, Leavings) {
        let free = self.free;
        if self.entry(index).is_some_and(|entry| entry.state == State::Asleep) {
            self.unlink(index);
        }
        let Some(entry) = self.entry(index) else { return (false, Leavings::default()) };
        let left = core::mem::replace(entry, Entry { next: free, ..FREE });
        self.free = index;
        self.taken -= 1;
        let groups = if self.taken == 0 && !self.groups.is_empty() {
            self.inline = [FREE; INLINE];
            (self.made, self.free) = (0, NOBODY);
            core::mem::take(&mut self.groups)
        } else {
            Vec::new()
        };
        let waker = ManuallyDrop::into_inner(left.waker);
        (left.state == State::Woken { alone: true }, Leavings { _waker: waker, _groups: groups })
    }

    /// A wake-up begins. It is to reach those who slept before the number returned.
    pub fn begin(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Those who wait for `events`, are of one of these kinds, and slept before, are due to be woken. If others still are, who came
    /// since may be woken with them for nothing.
    pub fn make_due(&mut self, events: Events, before: u64, kinds: &[Kind]) {
        for &kind in kinds {
            self.due = before;
            self.due_lists |= lists(events, kind).fold(0, |lists, list| lists | 1 << list);
        }
    }

    /// Whether somebody may be due.
    #[inline]
    pub const fn more_due(&self) -> bool {
        self.due_lists != 0
    }

    /// Wakes those who are due, as far as there is room in `batch`.
    pub fn wake_due(&mut self, batch: &mut Batch) {
        while self.due_lists != 0 && batch.room > 0 {
            let list = self.due_lists.trailing_zeros() as usize;
            match self.first(list, self.due) {
                Some(index) => self.wake(index, false, self.due, batch),
                None => self.due_lists &= self.due_lists - 1,
            }
        }
    }

    /// Wakes the exclusive waiter for `events` who sleeps longest. Tells whether there was one.
    pub fn wake_exclusive(&mut self, events: Events, before: u64, batch: &mut Batch) -> bool {
        let fronts = lists(events, Kind::Exclusive).filter_map(|list| {
            let index = self.first(list, before)?;
            Some((self.entry(index)?.since, index))
        });
        let Some((_, index)) = fronts.min() else { return false };
        self.wake(index, true, before, batch);
        true
    }

    /// The front of a list, if it slept before.
    fn first(&mut self, list: usize, before: u64) -> Option<u32> {
        let index = self.lists.get(list).map(|list| list.first).filter(|&first| first != NOBODY)?;
        (self.entry(index)?.since < before).then_some(index)
    }

    fn wake(&mut self, index: u32, alone: bool, sequence: u64, batch: &mut Batch) {
        self.unlink(index);
        let Some(entry) = self.entry(index) else { return };
        let waker = if entry.kind == Kind::Standing {
            entry.since = sequence;
            let waker = Option::clone(&entry.waker);
            self.append(index);
            waker
        } else {
            entry.state = State::Woken { alone };
            batch.returning += 1;
            entry.waker.take()
        };
        batch.add(waker);
    }

    fn append(&mut self, index: u32) {
        let Some(list) = self.entry(index).map(|entry| entry.list()) else { return };
        let Some(ends) = self.lists.get_mut(list) else { return };
        let last = core::mem::replace(&mut ends.last, index);
        if ends.first == NOBODY {
            ends.first = index;
        }
        if let Some(entry) = self.entry(index) {
            (entry.previous, entry.next) = (last, NOBODY);
        }
        if let Some(entry) = self.entry(last) {
            entry.next = index;
        }
        self.asleep += 1;
    }

    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.entry(index) else { return };
        let (list, previous, next) = (entry.list(), entry.previous, entry.next);
        if let Some(entry) = self.entry(previous) {
            entry.next = next;
        }
        if let Some(entry) = self.entry(next) {
            entry.previous = previous;
        }
        if let Some(ends) = self.lists.get_mut(list) {
            if ends.first == index {
                ends.first = next;
            }
            if ends.last == index {
                ends.last = previous;
            }
        }
        self.asleep -= 1;
    }
}

impl Entry {
    fn list(&self) -> usize {
        list_of(self.events.0, self.kind)
    }
}

/// A waker of who stands in the queue.
fn held(waker: &Waker) -> ManuallyDrop<Option<Waker>> {
    ManuallyDrop::new(Some(waker.clone()))
}

/// The list of those of a kind who wait for a set of events.
fn list_of(events: u8, kind: Kind) -> usize {
    usize::from(events) * KINDS + kind as usize
}

/// The lists of those of a kind whom a wake-up for `events` concerns.
fn lists(events: Events, kind: Kind) -> impl Iterator<Item = usize> {
    (0..4_u8).filter(move |set| events == Events::ALL || set & events.0 != 0).map(move |set| list_of(set, kind))
}
