//! What programs see of a space while it is changed.

use crate::{Change, Host, NOBODY, State, Stub, push};
use boundary::{Access, PAGE_SHIFT, PageNumber};
use pages::{Owned, Page};
use std::mem;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

/// Pieces in which the rights of a range are changed at most; else the stub is emptied, and shows again what is touched.
const MOST_PIECES: usize = 16;

/// The addresses of a page.
fn bytes(page: PageNumber) -> Range<usize> {
    let start = (page.get() << PAGE_SHIFT) as usize;
    start..start + (1 << PAGE_SHIFT)
}

/// A frame, and how the stub shows it at the page that has it. A copy of it is not shown.
pub struct Shown<F> {
    frame: F,
    /// The rights with which it is shown, if `epoch` is the stub's.
    rights: Access,
    epoch: u64,
}

impl<F> Shown<F> {
    /// A frame that is not shown.
    pub fn new(frame: F) -> Shown<F> {
        Shown { frame, rights: Access::empty(), epoch: NOBODY }
    }

    /// The frame.
    pub fn frame(&self) -> &F {
        &self.frame
    }

    /// The rights with which a stub shows it that is in this epoch.
    pub(crate) fn rights_in(&self, epoch: u64) -> Access {
        if self.epoch == epoch { self.rights } else { Access::empty() }
    }
}

impl<F: Clone> Clone for Shown<F> {
    fn clone(&self) -> Shown<F> {
        Shown::new(self.frame.clone())
    }
}

impl<F: Owned> Owned for Shown<F> {
    fn number(&self) -> usize {
        self.frame.number()
    }

    fn references(&self) -> u32 {
        self.frame.references()
    }

    fn copied(&self) -> Option<Shown<F>> {
        self.frame.copied().map(Shown::new)
    }

    fn set_tag(&self, tag: u64) {
        self.frame.set_tag(tag);
    }
}

/// A stub, and its state.
pub type LockedStub<'a, H> = (&'a Arc<<H as Host>::Stub>, MutexGuard<'a, State<H>>);

/// The stub of a space, locked, if it has one, and what is to be done when the change is over.
pub struct View<'a, H: Host> {
    stub: Option<LockedStub<'a, H>>,
    epoch: u64,
    /// What is to be taken out of the stub in one piece: all pages in it that were shown are.
    hidden: Option<Range<usize>>,
    /// What left the map. Its frames live until no program sees them any more.
    gone: Vec<Shown<H::Frame>>,
}

impl<'a, H: Host> View<'a, H> {
    pub fn of(stub: Option<&'a Arc<H::Stub>>, space: u64) -> View<'a, H> {
        let stub = stub.and_then(|stub| Some((stub, stub.lock_for(space)?)));
        let epoch = stub.as_ref().map_or(NOBODY, |(_, state)| state.epoch());
        View { stub, epoch, hidden: None, gone: Vec::new() }
    }

    /// Whether the space has a stub.
    pub fn has_stub(&self) -> bool {
        self.stub.is_some()
    }

    /// The rights with which a page is shown.
    pub fn rights(&self, shown: &Shown<H::Frame>) -> Access {
        shown.rights_in(self.epoch)
    }

    fn take_away(&mut self, change: Change) {
        if let Some((_, state)) = &mut self.stub {
            state.take_away(change);
        }
    }

    /// Shows a page of the map as it is now. `other_frame`: the one that was shown there before is another.
    pub fn show(&mut self, number: PageNumber, page: &mut Page<Shown<H::Frame>>, other_frame: bool) {
        let Some((_, state)) = &mut self.stub else { return };
        let (before, access) = (page.frame().rights_in(self.epoch), page.access());
        let range = bytes(number);
        page.frame_mut().epoch = self.epoch;
        let offset = H::offset(page.frame().number());
        let Some(offset) = offset.filter(|_| !access.is_empty()) else {
            page.frame_mut().rights = Access::empty();
            return state.take_away(Change::Unmap(range));
        };
        page.frame_mut().rights = access;
        page.touched(access);
        let change = Change::Map { range, offset, access };
        if other_frame || !access.contains(before) { state.take_away(change) } else { state.give(change) }
    }

    /// A page leaves its place in the map. Until [`hide`](Self::hide) only pages that are neighbours in the map may.
    pub fn conceal(&mut self, number: PageNumber, shown: &mut Shown<H::Frame>) {
        let is_shown = !shown.rights_in(self.epoch).is_empty();
        shown.epoch = NOBODY;
        if is_shown {
            let Range { start, end } = bytes(number);
            let before = self.hidden.take().unwrap_or(start..end);
            self.hidden = Some(before.start.min(start)..before.end.max(end));
        }
    }

    /// A page leaves the map. As [`conceal`](Self::conceal).
    pub fn leave(&mut self, number: PageNumber, mut shown: Shown<H::Frame>) {
        self.conceal(number, &mut shown);
        self.discard(shown);
    }

    /// Keeps what nothing shows but the stub, to the end of the change.
    pub fn discard(&mut self, shown: Shown<H::Frame>) {
        push::<H, _>(&mut self.gone, shown);
    }

    /// Takes what has left out of the stub.
    pub fn hide(&mut self) {
        if let Some(range) = self.hidden.take() {
            self.take_away(Change::Unmap(range));
        }
    }

    /// Changes the rights of pages that are shown, in one piece for neighbours with the same rights.
    pub fn protect<'p>(&mut self, pages: impl Iterator<Item = (PageNumber, &'p mut Page<Shown<H::Frame>>)>)
    where
        H::Frame: 'p,
    {
        let mut pieces: Vec<(Change, bool)> = Vec::new();
        for (number, page) in pages {
            let (before, access) = (page.frame().rights_in(self.epoch), page.access());
            if before.is_empty() || before == access {
                continue;
            }
            let range = bytes(number);
            let change = if access.is_empty() { Change::Unmap(range) } else { Change::Protect(range, access) };
            let loses = !access.contains(before);
            if pieces.last_mut().is_some_and(|(last, _)| last.absorb(&change)) {
                pieces.last_mut().into_iter().for_each(|(_, last_loses)| *last_loses |= loses);
            } else {
                push::<H, _>(&mut pieces, (change, loses));
            }
            page.touched(access);
            page.frame_mut().rights = access;
        }
        let Some((stub, state)) = &mut self.stub else { return };
        if pieces.len() > MOST_PIECES {
            stub.empty(state);
            self.epoch = state.epoch();
            return;
        }
        for (change, loses) in pieces {
            if loses { state.take_away(change) } else { state.give(change) }
        }
    }

    /// Ends a series of changes: when this returns, no program can do what was taken away.
    pub fn settle(mut self) {
        self.hide();
        if let Some((stub, state)) = &mut self.stub {
            if state.is_overfull() { stub.empty(state) } else { stub.settle(state) }
        }
        // Given up before the frames are.
        self.stub = None;
        let gone = mem::take(&mut self.gone);
        H::uncharge(gone.len());
    }
}
