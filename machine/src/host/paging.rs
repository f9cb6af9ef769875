//! A space of the host machine: that of the crate [`stubs`], on this machine's frames and processes, and how a program of it is run. Copies
//! are in `memory/by_page.rs`.

use super::heap;
use super::machine;
use super::stub::probe::{self, Mending, Step};
use super::stub::{LIST_LENGTH, MOST_STUBS, Missing, Pool, Shortage, Stub};
use crate::memory::{Access, Frame, OutOfMemory, PageNumber, SwapEntries};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use stubs::Stub as _;

/// Addresses as the tables have them.
pub type Address = usize;

/// The end of what programs can have: above are the stubs' own pages.
pub const USER_TOP: usize = super::stub::BASE;

/// See [`crate::memory::FAULT_AROUND`]: a fault costs two switches between processes and more. So many are shown, too, when
/// one of them is touched that the space has and the stub does not show.
pub const FAULT_AROUND: usize = 64;

/// See [`crate::memory::FAULT_AHEAD`].
pub const FAULT_AHEAD: usize = 16;

/// See [`crate::memory::HUGE_PAGE_ORDER`]: no CPU looks into tables here.
pub const HUGE_PAGE_ORDER: Option<u8> = None;

/// See [`crate::memory::huge_pages`].
pub fn huge_pages() -> usize {
    0
}

/// Entries that all maps of a machine may have for each of its frames. An entry takes kernel memory, which must not be used up by
/// them, and one frame, say that of zeros, can be shown at any number of pages.
const MOST_ENTRIES_PER_FRAME: usize = 8;

/// What spaces and stubs are made of on this machine.
pub struct Host;

impl stubs::Host for Host {
    type Frame = Frame;
    type Stub = Stub;
    const END: usize = USER_TOP;
    const AROUND: usize = FAULT_AROUND;
    const MOST_AT_ONCE: usize = LIST_LENGTH;
    const MOST_STUBS: usize = MOST_STUBS;

    fn apart<R>(body: impl FnOnce() -> R) -> R {
        heap::apart(body)
    }

    fn offset(frame: usize) -> Option<usize> {
        machine::current().zone.offset(frame)
    }

    fn most_mappings() -> usize {
        machine::current().stubs.as_ref().map_or(0, Pool::most_mappings)
    }

    fn charge(pages: usize) -> Result<(), OutOfMemory> {
        let machine = machine::current();
        let most = machine.zone.frames() * MOST_ENTRIES_PER_FRAME;
        if machine.entries.fetch_add(pages, Ordering::Relaxed) + pages > most || !heap::has_room_for_entries(pages) {
            Self::uncharge(pages);
            return Err(OutOfMemory);
        }
        Ok(())
    }

    fn uncharge(pages: usize) {
        machine::current().entries.fetch_sub(pages, Ordering::Relaxed);
    }

    fn takes_at_once() -> bool {
        probe::is_on(Mending::LossAtOnce)
    }

    fn retires() -> bool {
        probe::is_on(Mending::Retirement)
    }

    fn note_loss() {
        probe::reached(Step::Loss);
    }

    fn note_handed_on() {
        probe::reached(Step::HandedOn);
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
pub struct Tables(stubs::Space<Host>);

/// What takes pages and rights out of a space: at the end of each change no program can do any more what was taken away.
pub type MmuGather<'a> = &'a Tables;

impl Deref for Tables {
    type Target = stubs::Space<Host>;

    fn deref(&self) -> &stubs::Space<Host> {
        &self.0
    }
}

impl Tables {
    pub fn new(entries: Option<Arc<dyn SwapEntries>>) -> Result<Tables, OutOfMemory> {
        Ok(Tables(entries.map_or_else(stubs::Space::new, stubs::Space::with_swap)))
    }

    pub fn gather(&self) -> MmuGather<'_> {
        self
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
        let (number, mut inner) = (self.0.number(), self.0.lock());
        let is_ours = |stub: &Arc<Stub>| stub.lock_for(number).is_some();
        let is_fresh = !inner.stub.as_ref().is_some_and(is_ours);
        if is_fresh {
            inner.stub = Some(pool.take(number).map_err(NotYet::Short)?);
        }
        let stub = inner.stub.clone().ok_or(NotYet::Lost)?;
        // Lost again in this instant? Then once more.
        let mut state = stub.lock_for(number).ok_or(NotYet::Again)?;
        let ended = stubs::processes::ended();
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
        self.0.lock().stub.clone().filter(|stub| stub.lock_for(self.0.number()).is_some())
    }

    /// Runs `body`, which finds the bytes of pages that allow an access. None leaves the space meanwhile.
    pub fn with_bytes<R>(&self, body: impl FnOnce(&mut dyn FnMut(PageNumber, Access) -> Option<*mut u8>) -> R) -> R {
        let mut pages = self.0.lock();
        body(&mut |page, access| pages.touch(page, access).map(|shown| shown.frame().bytes()))
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        // Frames may be used for something else from here on: the stub is emptied before it shows anybody's pages.
        if let Some(stub) = self.0.lock().stub.take()
            && let Some(pool) = &machine::current().stubs
        {
            pool.give_back(stub, self.0.number());
        }
    }
}
