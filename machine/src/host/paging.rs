//! A space of the host machine: a map from page to frame, with the meaning page tables have on `pc`.
//!
//! The map is the truth. What the space's [stub](super::stub) shows of it is a cache: a page is shown when it is mapped, or when a
//! program touches it ([`Tables::show`]), and each change to a page that is shown is noted in the stub. A page knows under which
//! rights it is shown, and in which of the stub's epochs: after the stub was emptied, or lost to another space, none is.
//!
//! Everything that is changed goes through [`Tables::change`], at whose end no program can do any more what was taken away; the frames that
//! left the map are let go after that. What was given may wait until a program is next run.
//!
//! One lock, around everything; the stub's state is locked inside it. Neither is held while anybody waits for a program.

use super::heap::{self, list_apart, push_apart};
use super::machine::{self, lock};
use super::stub::probe::{self, Mending, Step};
use super::stub::{Change, Missing, NOBODY, Pool, Shortage, State, Stub, new_number};
use crate::memory::{Access, Frame, Mapping, OutOfMemory, PAGE_SIZE, UserFault};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// Addresses as the tables have them.
pub type Address = usize;

/// The end of what programs can have: above are the stubs' own pages.
pub const USER_TOP: usize = super::stub::BASE;

/// See [`crate::memory::FAULT_AROUND`]: a fault costs two switches between processes and more. So many are shown, too, when
/// one of them is touched that the space has and the stub does not show.
pub const FAULT_AROUND: usize = 64;

/// See [`crate::memory::FAULT_AHEAD`].
pub const FAULT_AHEAD: usize = 16;

/// Pieces in which the rights of a range are changed at most; else it is taken out of the stub, and shown again by touches.
const MOST_PIECES: usize = 16;

/// Entries that all maps of a machine may have for each of its frames. An entry takes kernel memory, which must not be used up by
/// them, and one frame, say that of zeros, can be shown at any number of pages.
const MOST_ENTRIES_PER_FRAME: usize = 8;

/// Counts `count` more entries, if the machine may have them.
fn charge(count: usize) -> Result<(), OutOfMemory> {
    let machine = machine::current();
    let most = machine.zone.frames() * MOST_ENTRIES_PER_FRAME;
    if machine.entries.fetch_add(count, Ordering::Relaxed) + count > most || !heap::has_room_for_entries(count) {
        uncharge(count);
        return Err(OutOfMemory);
    }
    Ok(())
}

fn uncharge(count: usize) {
    machine::current().entries.fetch_sub(count, Ordering::Relaxed);
}

struct Page {
    frame: Frame,
    access: Access,
    copy_on_write: bool,
    accessed: bool,
    dirty: bool,
    /// The rights with which the stub shows it, if `epoch` is the stub's.
    shown: Access,
    epoch: u64,
}

impl Page {
    fn new(frame: Frame, access: Access) -> Page {
        let copy_on_write = access.contains(Access::COPY_ON_WRITE);
        let access = access - Access::COPY_ON_WRITE;
        Page { frame, access, copy_on_write, accessed: false, dirty: false, shown: Access::empty(), epoch: NOBODY }
    }

    /// What the program may do, as the hardware would see it.
    fn mapping(&self) -> Mapping {
        Mapping {
            frame_number: self.frame.number(),
            access: self.effective(),
            copy_on_write: self.copy_on_write,
            accessed: self.accessed,
            dirty: self.dirty,
            references: self.frame.references(),
        }
    }

    fn effective(&self) -> Access {
        if self.copy_on_write { self.access - Access::WRITE } else { self.access }
    }

    /// Whether it has to be copied before it is written.
    fn is_shared(&self) -> bool {
        self.copy_on_write && self.frame.references() != 1
    }

    fn shown_in(&self, epoch: u64) -> Access {
        if self.epoch == epoch { self.shown } else { Access::empty() }
    }
}

/// Why a program can't be run at the moment.
#[derive(Clone, Copy, Debug)]
enum NotYet {
    /// There is no stub for it, or no thread.
    Short(Shortage),
    /// There may be by now; or its stub was given to another space in this instant.
    Again,
    /// A stub was gone before the program was in it.
    FreshOneGone,
    /// The stub that had the program is gone.
    Lost,
}

/// The pages of a space.
pub struct Tables {
    /// Its number.
    number: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    pages: BTreeMap<usize, Page>,
    /// The stub that shows them, unless it has been given to another space meanwhile.
    stub: Option<Arc<Stub>>,
}

/// What programs see of a space, while it is changed: its stub, locked, if it has one.
struct View<'a> {
    stub: Option<(&'a Arc<Stub>, MutexGuard<'a, State>)>,
    epoch: u64,
    /// What left the map. Its frames live until no program sees them any more.
    gone: Vec<Page>,
}

impl<'a> View<'a> {
    fn of(stub: Option<&'a Arc<Stub>>, space: u64) -> View<'a> {
        let stub = stub.and_then(|stub| Some((stub, stub.lock_for(space)?)));
        let epoch = stub.as_ref().map_or(NOBODY, |(_, state)| state.epoch());
        View { stub, epoch, gone: Vec::new() }
    }

    fn take_away(&mut self, change: Change) {
        if let Some((_, state)) = &mut self.stub {
            state.take_away(change);
        }
    }

    /// Shows a page of the map as it is now. `other_frame`: the one that was there before is another, or none.
    fn show(&mut self, address: usize, page: &mut Page, other_frame: bool) {
        let Some((_, state)) = &mut self.stub else { return };
        let (before, access) = (page.shown_in(self.epoch), page.effective());
        let range = address..address + PAGE_SIZE;
        let offset = machine::current().zone.offset(page.frame.number());
        let Some(offset) = offset.filter(|_| !access.is_empty()) else {
            (page.shown, page.epoch) = (Access::empty(), self.epoch);
            return state.take_away(Change::Unmap(range));
        };
        (page.shown, page.epoch) = (access, self.epoch);
        page.accessed = true;
        page.dirty |= access.contains(Access::WRITE);
        let change = Change::Map { range, offset, access };
        if other_frame || !access.contains(before) { state.take_away(change) } else { state.give(change) }
    }

    /// Takes the pages of a range that are shown out of the stub, in one piece.
    fn hide<'p>(&mut self, pages: impl Iterator<Item = (usize, &'p Page)>) {
        let shown = pages.filter(|(_, page)| !page.shown_in(self.epoch).is_empty());
        let all = shown.fold(None::<Range<usize>>, |all, (address, _)| {
            Some(all.map_or(address, |all| all.start.min(address))..address + PAGE_SIZE)
        });
        all.into_iter().for_each(|range| self.take_away(Change::Unmap(range)));
    }

    /// Changes the rights of pages that are shown, in one piece for neighbours with the same rights.
    fn protect<'p>(&mut self, pages: impl Iterator<Item = (&'p usize, &'p mut Page)>) {
        let mut pieces: Vec<(Change, bool)> = Vec::new();
        for (&address, page) in pages {
            let (before, access) = (page.shown_in(self.epoch), page.effective());
            if before.is_empty() || before == access {
                continue;
            }
            let range = address..address + PAGE_SIZE;
            let change = if access.is_empty() { Change::Unmap(range) } else { Change::Protect(range, access) };
            let loses = !access.contains(before);
            if pieces.last_mut().is_some_and(|(last, _)| last.absorb(&change)) {
                pieces.last_mut().into_iter().for_each(|(_, last_loses)| *last_loses |= loses);
            } else {
                push_apart(&mut pieces, (change, loses));
            }
            page.dirty |= access.contains(Access::WRITE);
            page.shown = access;
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
    fn settle(self) {
        let View { stub, gone, .. } = self;
        if let Some((stub, mut state)) = stub {
            let most = machine::current().stubs.as_ref().map_or(0, |pool| pool.most_mappings());
            if state.is_overfull(most) {
                stub.empty(&mut state);
            } else {
                stub.settle(&mut state);
            }
        }
        uncharge(gone.len());
        drop(gone);
    }
}

/// What takes pages and rights out of a space: at the end of each change no program can do any more what was taken away.
pub type MmuGather<'a> = &'a Tables;

/// Puts a page into the map, in the place of what was there.
fn put(
    pages: &mut BTreeMap<usize, Page>,
    view: &mut View<'_>,
    address: usize,
    frame: Frame,
    access: Access,
) -> Result<(), OutOfMemory> {
    if address >= USER_TOP || !machine::current().zone.contains(frame.number()) || charge(1).is_err() {
        return Err(OutOfMemory);
    }
    let mut page = Page::new(frame, access);
    let before = pages.remove(&address);
    let replaces = before.as_ref().is_some_and(|before| !before.shown_in(view.epoch).is_empty());
    before.into_iter().for_each(|before| push_apart(&mut view.gone, before));
    if replaces || !page.effective().is_empty() {
        view.show(address, &mut page, replaces);
    }
    pages.insert(address, page);
    Ok(())
}

impl Tables {
    pub fn new() -> Result<Tables, OutOfMemory> {
        Ok(Tables { number: new_number(), inner: Mutex::default() })
    }

    pub fn gather(&self) -> MmuGather<'_> {
        self
    }

    pub fn unflushed(&self) -> Option<Range<usize>> {
        None
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Changes pages, and what the stub shows of them.
    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<usize, Page>, &mut View<'_>) -> R) -> R {
        let mut inner = self.lock();
        let Inner { pages, stub } = &mut *inner;
        let mut view = View::of(stub.as_ref(), self.number);
        let result = change(pages, &mut view);
        view.settle();
        result
    }

    pub fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.change(|pages, view| put(pages, view, page, frame, access))
    }

    pub fn map_over(
        &self,
        page: usize,
        before: Option<usize>,
        frame: Frame,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.change(|pages, view| {
            let is_same = pages.get(&page).map(|page| page.frame.number()) == before && still();
            if is_same { put(pages, view, page, frame, access).map(|()| true) } else { Ok(false) }
        })
    }

    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.change(|pages, view| {
            if !still() {
                return Ok(false);
            }
            for (address, frame) in (start..).step_by(PAGE_SIZE).zip(frames) {
                if !pages.contains_key(&address) {
                    put(pages, view, address, frame, access)?;
                }
            }
            Ok(true)
        })
    }

    pub fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        self.change(|pages, view| {
            let mut removed = Vec::new();
            while removed.len() < budget {
                let Some((&address, _)) = pages.range(range.clone()).next() else { break };
                pages.remove(&address).into_iter().for_each(|page| push_apart(&mut removed, (address, page)));
            }
            view.hide(removed.iter().map(|(address, page)| (*address, page)));
            removed.into_iter().for_each(|(_, page)| push_apart(&mut view.gone, page));
            pages.range(range).next().map(|(&page, _)| page)
        })
    }

    pub fn protect(&self, range: Range<usize>, access: Access) {
        self.change(|pages, view| {
            pages.range_mut(range.clone()).for_each(|(_, page)| page.access = access - Access::COPY_ON_WRITE);
            view.protect(pages.range_mut(range));
        });
    }

    pub fn share_with(&self, child: &Tables, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        let shared: Vec<_> = self.change(|pages, view| {
            charge(pages.range(range.clone()).count())?;
            let shared = list_apart(pages.range_mut(range.clone()).map(|(&address, page)| {
                page.copy_on_write |= copy_on_write;
                (address, Page { frame: page.frame.clone(), epoch: NOBODY, ..*page })
            }));
            view.protect(pages.range_mut(range));
            Ok(shared)
        })?;
        child.change(|pages, view| {
            for (address, page) in shared {
                let Some(before) = pages.insert(address, page) else { continue };
                view.hide(std::iter::once((address, &before)));
                push_apart(&mut view.gone, before);
            }
        });
        Ok(())
    }

    pub fn lookup(&self, page: usize) -> Option<Mapping> {
        self.lock().pages.get(&page).map(Page::mapping)
    }

    pub fn next_mapped(&self, range: Range<usize>) -> Option<(usize, Mapping)> {
        self.lock().pages.range(range).next().map(|(address, page)| (*address, page.mapping()))
    }

    pub fn frame_at(&self, page: usize) -> Option<Frame> {
        self.lock().pages.get(&page).map(|page| page.frame.clone())
    }

    pub fn break_copy_on_write(
        &self,
        address: usize,
        access: Access,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let shared = match self.lock().pages.get(&address) {
            Some(page) => page.is_shared().then(|| page.frame.clone()),
            None => return Ok(false),
        };
        // Copied while nobody is kept waiting.
        let mut copy = shared.as_ref().map(|shared| Frame::copy_of(shared).ok_or(OutOfMemory)).transpose()?;
        // Dropped when no program sees it any more.
        let mut replaced = None;
        self.change(|pages, view| {
            let Some(page) = pages.get_mut(&address).filter(|_| still()) else { return Ok(false) };
            if page.is_shared() {
                let is_same = shared.as_ref().is_some_and(|shared| shared.number() == page.frame.number());
                let Some(copy) = copy.take().filter(|_| is_same) else { return Ok(true) };
                replaced = Some(std::mem::replace(&mut page.frame, copy));
            }
            page.copy_on_write = false;
            page.access = access - Access::COPY_ON_WRITE;
            view.show(address, page, replaced.is_some() && !page.shown_in(view.epoch).is_empty());
            Ok(true)
        })
    }

    pub fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        self.change(|pages, view| {
            let mut take = |range: Range<usize>| {
                let addresses = list_apart(pages.range(range).map(|(&address, _)| address));
                let taken = addresses.into_iter().filter_map(|address| Some((address, pages.remove(&address)?)));
                let taken = list_apart(taken);
                view.hide(taken.iter().map(|(address, page)| (*address, page)));
                taken
            };
            let dropped = take(to..to + from.len());
            let moved = take(from.clone());
            dropped.into_iter().for_each(|(_, page)| push_apart(&mut view.gone, page));
            for (address, page) in moved {
                pages.insert(address - from.start + to, Page { epoch: NOBODY, ..page });
            }
        });
        Ok(())
    }

    pub fn resident(&self) -> usize {
        self.lock().pages.len()
    }

    /// The stub that shows this space, ready to run the program on this CPU: all changes have been carried out. After the program is back,
    /// [`Stub::end`] must be called. None if the host has no process for it, or the one that had the program is gone.
    pub fn enter(&self) -> Option<Arc<Stub>> {
        /// Stubs that may be gone before they were used: somebody kills them, one after the other.
        const MOST_GONE: u32 = 16;
        let pool = machine::current().stubs.as_ref()?;
        let mut gone = 0;
        for turn in 0_u32.. {
            match self.try_enter(pool) {
                Ok(stub) => return Some(stub),
                Err(NotYet::Again) => {}
                // Nothing is locked while we wait.
                Err(NotYet::Short(shortage)) if pool.wait(shortage, turn) => {}
                Err(NotYet::FreshOneGone) if gone < MOST_GONE && probe::is_on(Mending::FreshStub) => gone += 1,
                Err(NotYet::Short(_) | NotYet::FreshOneGone | NotYet::Lost) => return None,
            }
        }
        None
    }

    fn try_enter(&self, pool: &Pool) -> Result<Arc<Stub>, NotYet> {
        let mut inner = self.lock();
        let is_ours = |stub: &Arc<Stub>| stub.lock_for(self.number).is_some();
        let is_fresh = !inner.stub.as_ref().is_some_and(is_ours);
        if is_fresh {
            inner.stub = Some(pool.take(self.number).map_err(NotYet::Short)?);
        }
        let stub = inner.stub.clone().ok_or(NotYet::Lost)?;
        // Lost again in this instant? Then once more.
        let mut state = stub.lock_for(self.number).ok_or(NotYet::Again)?;
        let ended = super::stub::ended();
        let begun = stub.begin(&mut state);
        drop(state);
        match begun {
            Ok(()) => Ok(stub),
            Err(Missing::Refused(error)) => {
                pool.make_room(error, ended).map_err(NotYet::Short)?;
                Err(NotYet::Again)
            }
            Err(Missing::Unlocked) => {
                pool.give_up_unlocked();
                Err(NotYet::Lost)
            }
            Err(Missing::Gone) => {
                pool.bury(&stub);
                if is_fresh {
                    probe::reached(Step::FreshStubGone);
                }
                Err(if is_fresh { NotYet::FreshOneGone } else { NotYet::Lost })
            }
        }
    }

    /// The stub, if it has not lost it.
    #[cfg(test)]
    pub fn stub(&self) -> Option<Arc<Stub>> {
        self.lock().stub.clone().filter(|stub| stub.lock_for(self.number).is_some())
    }

    /// Whether the stub shows a page with these rights.
    pub fn is_shown(&self, address: usize, access: Access) -> bool {
        self.change(|pages, view| {
            pages.get(&address).is_some_and(|page| page.shown_in(view.epoch).contains(access)) && view.stub.is_some()
        })
    }

    /// A program touched a page. True if the page allows it: it was only not shown, and is now, with its neighbours.
    pub fn show(&self, address: usize, access: Access) -> bool {
        self.change(|pages, view| {
            let allowed = pages.get(&address).is_some_and(|page| page.effective().contains(access | Access::READ));
            if allowed && view.stub.is_some() {
                let start = address & !(FAULT_AROUND * PAGE_SIZE - 1);
                for (&address, page) in pages.range_mut(start..start + FAULT_AROUND * PAGE_SIZE) {
                    if page.shown_in(view.epoch) != page.effective() && !page.effective().is_empty() {
                        view.show(address, page, false);
                    }
                }
            }
            allowed
        })
    }

    /// Runs `each(bytes, done, length)` for the part of each page in the range that allows `access`.
    fn walk(
        &self,
        address: usize,
        length: usize,
        access: Access,
        mut each: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), UserFault> {
        let mut inner = self.lock();
        let mut copied = 0;
        while copied < length {
            let address = address + copied;
            let offset = address % PAGE_SIZE;
            let write = access.contains(Access::WRITE);
            let page = inner.pages.get_mut(&(address - offset)).filter(|page| page.effective().contains(access));
            let Some(page) = page else { return Err(UserFault { copied, address: address.into(), write }) };
            let part = (length - copied).min(PAGE_SIZE - offset);
            page.accessed = true;
            page.dirty |= write;
            each(page.frame.bytes().wrapping_add(offset), copied, part);
            copied += part;
        }
        Ok(())
    }

    /// # Safety
    /// `to` is writable for `length` bytes.
    pub unsafe fn read(&self, address: usize, to: *mut u8, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::READ, |bytes, done, part| {
            // SAFETY: `part` bytes lie in the frame, and `done + part` is at most `length`.
            unsafe { super::copy::copy(to.wrapping_add(done), bytes, part) }
        })
    }

    /// # Safety
    /// `from` is readable for `length` bytes.
    pub unsafe fn write(&self, address: usize, from: *const u8, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::WRITE, |bytes, done, part| {
            // SAFETY: as in `read`.
            unsafe { super::copy::copy(bytes, from.wrapping_add(done), part) }
        })
    }

    pub fn zero(&self, address: usize, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::WRITE, |bytes, _, part| {
            // SAFETY: `part` bytes lie in the frame.
            unsafe { super::copy::zero(bytes, part) }
        })
    }

    pub fn load_u32(&self, address: usize) -> Result<u32, UserFault> {
        let mut value = 0;
        self.walk(address, 4, Access::READ, |bytes, _, _| {
            // SAFETY: the address is aligned, so the word lies in one frame; frames are accessed atomically or by copying.
            value = unsafe { crate::memory::word(bytes) }.load(std::sync::atomic::Ordering::SeqCst);
        })?;
        Ok(value)
    }

    pub fn compare_exchange_u32(&self, address: usize, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
        use std::sync::atomic::Ordering::SeqCst;
        let mut result = Err(old);
        self.walk(address, 4, Access::WRITE, |bytes, _, _| {
            // SAFETY: as in `load_u32`.
            result = unsafe { crate::memory::word(bytes) }.compare_exchange(old, new, SeqCst, SeqCst);
        })?;
        Ok(result)
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        uncharge(lock(&self.inner).pages.len());
        // Frames may be used for something else from here on: the stub is emptied before it shows anybody's pages.
        if let Some(stub) = lock(&self.inner).stub.take()
            && let Some(pool) = &machine::current().stubs
        {
            pool.give_back(stub, self.number);
        }
    }
}
