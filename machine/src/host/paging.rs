//! A space of the host machine: a map from page to frame, with the meaning page tables have on `pc`.
//!
//! The map is the truth. What the space's [stub](super::stub) shows of it is a cache: a page is shown when it is mapped, or when a
//! program touches it ([`Tables::show`]), and each change to a page that is shown is noted in the stub. A page knows under which
//! rights it is shown, and in which of the stub's epochs: after the stub was emptied, or lost to another space, none is.
//!
//! One lock, around everything; the stub's state is locked inside it.

use super::machine::{self, lock};
use super::stub::{Change, Missing, NOBODY, State, Stub, new_number};
use crate::memory::{Access, Frame, Mapping, OutOfMemory, PAGE_SIZE, UserFault};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// The end of what programs can have: above are the stubs' own pages.
pub const USER_TOP: usize = super::stub::BASE;

/// See [`crate::memory::FAULT_AROUND`]: a fault costs two switches between processes and more. So many are shown, too, when
/// one of them is touched that the space has and the stub does not show.
pub const FAULT_AROUND: usize = 64;

/// See [`crate::memory::FAULT_AHEAD`].
pub const FAULT_AHEAD: usize = 16;

/// Pieces in which the rights of a range are changed at most; else it is taken out of the stub, and shown again by touches.
const MOST_PIECES: usize = 16;

/// Entries that all maps of a machine may have for each of its frames. An entry takes memory of the process that nobody charges
/// the guest for, and one frame, say that of zeros, can be shown at any number of pages.
const MOST_ENTRIES_PER_FRAME: usize = 8;

/// Counts `count` more entries, if the machine may have them.
fn charge(count: usize) -> Result<(), OutOfMemory> {
    let machine = machine::current();
    let most = machine.zone.frames() * MOST_ENTRIES_PER_FRAME;
    if machine.entries.fetch_add(count, Ordering::Relaxed) + count > most {
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
    fn effective(&self) -> Access {
        if self.copy_on_write { self.access - Access::WRITE } else { self.access }
    }

    fn shown_in(&self, epoch: u64) -> Access {
        if self.epoch == epoch { self.shown } else { Access::empty() }
    }
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

/// The stub of a space, locked.
struct Shower<'a> {
    stub: &'a Arc<Stub>,
    state: MutexGuard<'a, State>,
}

impl Shower<'_> {
    fn epoch(&self) -> u64 {
        self.state.epoch()
    }

    /// Shows a page of the map as it is now.
    fn show(&mut self, address: usize, page: &mut Page) {
        let access = page.effective();
        if access.is_empty() {
            return self.hide(address..address + PAGE_SIZE);
        }
        let zone = &machine::current().zone;
        let offset = zone.offset(page.frame.number());
        let range = address..address + PAGE_SIZE;
        if !page.shown_in(self.epoch()).is_empty() {
            self.state.note_loss(); // it may show another frame there
        }
        (page.shown, page.epoch) = (access, self.epoch());
        page.accessed = true;
        page.dirty |= access.contains(Access::WRITE);
        self.state.note(Change::Map { range, offset, access });
    }

    /// Takes a range out of the stub.
    fn hide(&mut self, range: Range<usize>) {
        self.state.note_loss();
        self.state.note(Change::Unmap(range));
    }

    /// Changes the rights of pages that are shown, in one piece for neighbours with the same rights.
    fn protect<'p>(&mut self, pages: impl Iterator<Item = (&'p usize, &'p mut Page)>) {
        let epoch = self.epoch();
        let mut pieces: Vec<Change> = Vec::new();
        for (&address, page) in pages {
            let (before, access) = (page.shown_in(epoch), page.effective());
            if before.is_empty() || before == access {
                continue;
            }
            let range = address..address + PAGE_SIZE;
            let change = if access.is_empty() { Change::Unmap(range) } else { Change::Protect(range, access) };
            if !pieces.last_mut().is_some_and(|last| last.absorb(&change)) {
                pieces.push(change);
            }
            page.dirty |= access.contains(Access::WRITE);
            page.shown = access;
        }
        if pieces.len() > MOST_PIECES {
            self.stub.empty(&mut self.state);
        } else {
            pieces.into_iter().for_each(|change| self.state.note(change));
        }
    }

    /// Ends a series of changes: when this returns, no program sees what was taken away.
    fn settle(mut self) {
        let most = machine::current().stubs.as_ref().map_or(0, |pool| pool.most_mappings());
        if self.state.is_overfull(most) {
            self.stub.empty(&mut self.state);
        } else {
            self.stub.settle(&mut self.state);
        }
    }
}

impl Inner {
    /// The pages, and the stub if the space has one.
    fn parts(&mut self, number: u64) -> (&mut BTreeMap<usize, Page>, Option<Shower<'_>>) {
        let shower = self.stub.as_ref().and_then(|stub| {
            let state = stub.lock_for(number)?;
            Some(Shower { stub, state })
        });
        (&mut self.pages, shower)
    }
}

impl Tables {
    pub fn new() -> Result<Tables, OutOfMemory> {
        Ok(Tables { number: new_number(), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    pub fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.map_batch(page, std::iter::once(frame), access)
    }

    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
    ) -> Result<(), OutOfMemory> {
        let mut inner = self.lock();
        let (pages, mut shower) = inner.parts(self.number);
        // What is replaced lives until no program sees it any more.
        let mut replaced = Vec::new();
        let mut result = Ok(());
        for (address, frame) in (start..).step_by(PAGE_SIZE).zip(frames) {
            if address >= USER_TOP || charge(1).is_err() {
                result = Err(OutOfMemory);
                break;
            }
            let mut page = Page::new(frame, access);
            let before = pages.remove(&address);
            if let Some(shower) = &mut shower {
                if before.is_some() {
                    shower.state.note_loss();
                }
                shower.show(address, &mut page);
            }
            pages.insert(address, page);
            replaced.extend(before);
        }
        uncharge(replaced.len());
        shower.into_iter().for_each(Shower::settle);
        result
    }

    pub fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        let mut inner = self.lock();
        let (pages, mut shower) = inner.parts(self.number);
        let epoch = shower.as_ref().map_or(NOBODY, Shower::epoch);
        let mut removed = Vec::new();
        let mut shown: Option<Range<usize>> = None;
        while removed.len() < budget {
            let Some((&address, _)) = pages.range(range.clone()).next() else { break };
            let Some(page) = pages.remove(&address) else { break };
            if shower.is_some() && !page.shown_in(epoch).is_empty() {
                shown = Some(shown.map_or(address, |shown| shown.start)..address + PAGE_SIZE);
            }
            removed.push(page);
        }
        uncharge(removed.len());
        if let (Some(shower), Some(shown)) = (&mut shower, shown) {
            shower.hide(shown);
        }
        shower.into_iter().for_each(Shower::settle);
        pages.range(range).next().map(|(&page, _)| page)
    }

    pub fn protect(&self, range: Range<usize>, access: Access) {
        let mut inner = self.lock();
        let (pages, mut shower) = inner.parts(self.number);
        pages.range_mut(range.clone()).for_each(|(_, page)| page.access = access - Access::COPY_ON_WRITE);
        if let Some(shower) = &mut shower {
            shower.protect(pages.range_mut(range));
        }
        shower.into_iter().for_each(Shower::settle);
    }

    pub fn share_with(&self, child: &Tables, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        let mut inner = self.lock();
        let (pages, mut shower) = inner.parts(self.number);
        charge(pages.range(range.clone()).count())?;
        let shared: Vec<_> = pages
            .range_mut(range.clone())
            .map(|(&address, page)| {
                page.copy_on_write |= copy_on_write;
                let twin = Page { frame: page.frame.clone(), epoch: NOBODY, ..*page };
                (address, twin)
            })
            .collect();
        if let Some(shower) = &mut shower {
            shower.protect(pages.range_mut(range));
        }
        shower.into_iter().for_each(Shower::settle);
        drop(inner);
        child.lock().pages.extend(shared); // nothing of a child's empty range is shown
        Ok(())
    }

    pub fn lookup(&self, page: usize) -> Option<Mapping> {
        self.lock().pages.get(&page).map(|page| Mapping {
            frame_number: page.frame.number(),
            access: page.effective(),
            copy_on_write: page.copy_on_write,
            accessed: page.accessed,
            dirty: page.dirty,
            references: page.frame.references(),
        })
    }

    pub fn frame_at(&self, page: usize) -> Option<Frame> {
        self.lock().pages.get(&page).map(|page| page.frame.clone())
    }

    pub fn break_copy_on_write(&self, address: usize, access: Access) -> Result<bool, OutOfMemory> {
        let mut inner = self.lock();
        let (pages, mut shower) = inner.parts(self.number);
        let Some(page) = pages.get_mut(&address) else { return Ok(false) };
        let mut replaced = None;
        if page.copy_on_write && page.frame.references() != 1 {
            let copy = Frame::copy_of(&page.frame).ok_or(OutOfMemory)?;
            replaced = Some(std::mem::replace(&mut page.frame, copy));
        }
        page.copy_on_write = false;
        page.access = access - Access::COPY_ON_WRITE;
        if let Some(shower) = &mut shower {
            shower.show(address, page);
        }
        shower.into_iter().for_each(Shower::settle);
        drop(replaced);
        Ok(true)
    }

    pub fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        let mut inner = self.lock();
        let (pages, mut shower) = inner.parts(self.number);
        let take = |pages: &mut BTreeMap<usize, Page>, range: Range<usize>| {
            let addresses: Vec<usize> = pages.range(range).map(|(&address, _)| address).collect();
            addresses.into_iter().filter_map(|address| Some((address, pages.remove(&address)?))).collect::<Vec<_>>()
        };
        let dropped = take(pages, to..to + from.len());
        uncharge(dropped.len());
        let moved = take(pages, from.clone());
        if let Some(shower) = &mut shower {
            shower.hide(from.clone());
            shower.hide(to..to + from.len());
        }
        for (address, page) in moved {
            pages.insert(address - from.start + to, Page { epoch: NOBODY, ..page });
        }
        shower.into_iter().for_each(Shower::settle);
        Ok(())
    }

    pub fn resident(&self) -> usize {
        self.lock().pages.len()
    }

    /// The stub that shows this space, ready to run the program on this CPU: all changes have been carried out. After the program is back,
    /// [`Stub::end`] must be called. None if the host has no process for it.
    pub fn enter(&self) -> Option<Arc<Stub>> {
        let pool = machine::current().stubs.as_ref()?;
        let mut inner = self.lock();
        loop {
            if inner.stub.as_ref().and_then(|stub| stub.lock_for(self.number)).is_none() {
                inner.stub = Some(pool.take(self.number)?);
            }
            let stub = inner.stub.clone()?;
            // Lost again in this instant? Then once more.
            let Some(mut state) = stub.lock_for(self.number) else { continue };
            let begun = stub.begin(&mut state);
            drop(state);
            match begun {
                Ok(()) => return Some(stub),
                Err(Missing::Refused(error)) => pool.make_room(error)?,
                Err(Missing::Gone) => {
                    pool.bury(&stub);
                    return None;
                }
            }
        }
    }

    /// Whether the stub shows a page with these rights.
    pub fn is_shown(&self, address: usize, access: Access) -> bool {
        let mut inner = self.lock();
        let (pages, shower) = inner.parts(self.number);
        let epoch = shower.as_ref().map_or(NOBODY, Shower::epoch);
        shower.is_some() && pages.get(&address).is_some_and(|page| page.shown_in(epoch).contains(access))
    }

    /// A program touched a page. True if the page allows it: it was only not shown, and is now, with its neighbours.
    pub fn show(&self, address: usize, access: Access) -> bool {
        let mut inner = self.lock();
        let (pages, shower) = inner.parts(self.number);
        let allowed = pages.get(&address).is_some_and(|page| page.effective().contains(access | Access::READ));
        let Some(mut shower) = shower.filter(|_| allowed) else { return allowed };
        let epoch = shower.epoch();
        let start = address & !(FAULT_AROUND * PAGE_SIZE - 1);
        for (&address, page) in pages.range_mut(start..start + FAULT_AROUND * PAGE_SIZE) {
            if page.shown_in(epoch) != page.effective() && !page.effective().is_empty() {
                shower.show(address, page);
            }
        }
        shower.settle();
        true
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
            let Some(page) = page else { return Err(UserFault { copied, address, write }) };
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
