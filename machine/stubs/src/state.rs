//! [`State`]: what a stub is at.
//!
//! Changes are noted, and carried out in batches. Those that *give* wait until a program is next run: until then a touch faults, and is
//! answered. Those that *take* are carried out before the call that notes them returns, with all that was noted before.

use crate::{Change, Host, push};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of no space, and of no program's registers.
pub const NOBODY: u64 = 0;

/// A number that was not given out before, for spaces, epochs, and registers.
pub fn new_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(NOBODY + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// See the module's page.
pub struct State<H> {
    /// The number of the space whose pages the stub shows; [`NOBODY`] if it is free. A space with another number has lost it.
    space: u64,
    /// A new number each time all is forgotten: what was shown under another one is not shown any more.
    epoch: u64,
    /// CPUs that run the program.
    running: usize,
    changes: Vec<Change>,
    /// Some of them take rights away.
    takes_away: bool,
    /// Mappings it has at most.
    mappings: usize,
    /// When it was used last, by the pool's count.
    last_use: u64,
    host: PhantomData<H>,
}

impl<H: Host> State<H> {
    /// That of a stub that shows nothing, and is nobody's.
    pub fn new() -> State<H> {
        State {
            space: NOBODY,
            epoch: new_number(),
            running: 0,
            changes: Vec::new(),
            takes_away: false,
            mappings: 0,
            last_use: 0,
            host: PhantomData,
        }
    }

    /// Whether it belongs to `space`.
    pub fn is_of(&self, space: u64) -> bool {
        self.space == space
    }

    /// Gives the stub to another space. All that it shows is to be forgotten.
    pub fn hand_to(&mut self, space: u64, now: u64) {
        self.forget();
        self.space = space;
        self.last_use = now;
    }

    /// The stub's process is over: no space has it any more.
    pub fn abandon(&mut self) {
        self.space = NOBODY;
    }

    /// When it was handed to a space last.
    pub fn last_use(&self) -> u64 {
        self.last_use
    }

    /// One more CPU runs the program.
    pub fn begin(&mut self) {
        self.running += 1;
    }

    /// One less does.
    pub fn end(&mut self) {
        self.running -= 1;
    }

    /// Whether no CPU does.
    pub fn is_idle(&self) -> bool {
        self.running == 0
    }

    /// The number under which what is shown now counts as shown.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes a change that only gives.
    pub fn give(&mut self, change: Change) {
        if !self.changes.last_mut().is_some_and(|last| last.absorb(&change)) {
            push::<H, _>(&mut self.changes, change);
        }
    }

    /// Notes a change that takes a right away, if only that to see the frame that was there.
    pub fn take_away(&mut self, change: Change) {
        self.takes_away = true;
        self.give(change);
    }

    /// Whether a change is noted that takes something away.
    pub fn takes_away(&self) -> bool {
        self.takes_away
    }

    /// Whether nothing is noted.
    pub fn is_settled(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is to be done. After that, [`are_carried_out`](Self::are_carried_out), [`forget`](Self::forget) or
    /// [`give_up`](Self::give_up) is to be called.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// These changes are being carried out. Each may cut a mapping in two.
    pub fn count(&mut self, changes: &[Change]) {
        for change in changes {
            self.mappings = if *change == Change::Empty { 0 } else { self.mappings + 2 };
        }
    }

    /// Nothing is left to be done of the changes; their memory is used for the next ones.
    pub fn are_carried_out(&mut self, mut changes: Vec<Change>) {
        changes.clear();
        self.changes = changes;
        if std::mem::take(&mut self.takes_away) {
            H::note_loss();
        }
    }

    /// Nobody can do anything in the stub any more, so nothing is left to be done.
    pub fn give_up(&mut self) {
        self.changes.clear();
        self.takes_away = false;
    }

    /// Whether there would be little to forget.
    pub fn is_nearly_empty(&self) -> bool {
        self.mappings <= 4
    }

    /// Whether so much is noted, or mapped, that the stub should be emptied instead.
    pub fn is_overfull(&self) -> bool {
        self.changes.len() > 2 * H::MOST_AT_ONCE || self.mappings + 2 * self.changes.len() > H::most_mappings()
    }

    /// Notes that all is to be forgotten.
    pub fn forget(&mut self) {
        self.epoch = new_number();
        if self.mappings == 0 && self.changes.is_empty() {
            return; // it shows nothing
        }
        self.changes.clear();
        self.take_away(Change::Empty);
        self.mappings = 0;
    }
}

impl<H: Host> Default for State<H> {
    fn default() -> State<H> {
        State::new()
    }
}
