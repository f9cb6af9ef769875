//! Memory that is no longer needed, and takes long to free.
//!
//! The last reference to a file, or to a space, may go anywhere, also where nothing may take long. What is large is then
//! only put down here, and a task of the kernel frees it in slices ([`Memory::free_discarded`]). Who finds memory scarce
//! frees a slice himself before he looks for anybody to take memory from. Without the task, what is put down is freed at
//! once.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use machine::memory::{Space, USER_TOP, fallible};
use sync::{Budget, SpinLock, WaitQueue};

use crate::address_space::SLICE;
use crate::area_set::AreaSet;
use crate::kernel_memory::Memory;
use crate::page_cache::{LEAF, Removed};

/// What is to be freed.
pub(crate) enum Discarded {
    /// A space nobody executes in.
    Space(Arc<Space>, AreaSet),
    /// Pages of a file.
    Pages(Removed),
    /// What others have.
    Other(Box<dyn Dismantle>),
}

/// What takes long to free, and can be freed a slice at a time. Dropped, it frees the rest at once.
pub trait Dismantle: Send {
    /// Frees a slice: what takes about 100 microseconds. False when nothing is left.
    fn free_some(&mut self) -> bool;
}

impl Discarded {
    /// Whether it is worth putting down.
    fn is_large(&self) -> bool {
        match self {
            Discarded::Space(space, areas) => space.resident() > SLICE || areas.len() > SLICE / AREA,
            Discarded::Pages(pages) => pages.pages > SLICE as u64,
            Discarded::Other(_) => true,
        }
    }

    /// Frees a slice. False when nothing is left.
    fn free_some(&mut self) -> bool {
        match self {
            Discarded::Space(space, areas) => {
                if space.gather().unmap_some(0..USER_TOP, SLICE).is_some() {
                    return true;
                }
                areas.pop_some().is_some()
            }
            Discarded::Pages(pages) => (0..SLICE / LEAF as usize).all(|_| pages.free_some()),
            Discarded::Other(other) => other.free_some(),
        }
    }
}

/// Pages that take as long as freeing an area.
const AREA: usize = 16;

/// What has been put down.
#[derive(Default)]
pub(crate) struct Discards {
    list: SpinLock<Vec<Discarded>>,
    arrived: WaitQueue,
    /// The task is there.
    served: AtomicBool,
}

/// The task is there for as long as this lives.
struct Serving<'a>(&'a Discards);

impl Serving<'_> {
    fn begin(discards: &Discards) -> Serving<'_> {
        discards.served.store(true, Ordering::Relaxed);
        Serving(discards)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.served.store(false, Ordering::Relaxed);
    }
}

impl Memory {
    /// Frees it: now, or soon if it is large.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub(crate) fn discard(&self, what: Discarded) {
        let discards = self.discards();
        if !what.is_large() || !discards.served.load(Ordering::Relaxed) {
            return;
        }
        let mut list = discards.list.lock();
        if fallible(|| list.try_reserve(1)).is_ok() {
            list.push(what);
            drop(list);
            discards.arrived.wake_one();
        }
    }

    /// Frees what takes long: a slice now, and the rest soon.
    pub fn dismantle(&self, mut what: Box<dyn Dismantle>) {
        if what.free_some() {
            self.discard(Discarded::Other(what));
        }
    }

    /// Frees what is put down, for ever: to be run by a task.
    pub async fn free_discarded(&self) {
        let discards = self.discards();
        let _serving = Serving::begin(discards);
        let mut budget = Budget::new();
        loop {
            discards.arrived.wait_until(|| (!discards.list.lock().is_empty()).then_some(())).await;
            while self.free_slice() {
                budget.pace(SLICE).await;
            }
        }
    }

    /// Frees a slice of what is put down. False if there is nothing.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub(crate) fn free_slice(&self) -> bool {
        let discards = self.discards();
        let Some(mut first) = discards.list.lock().pop() else { return false };
        if first.free_some() {
            let mut list = discards.list.lock();
            if fallible(|| list.try_reserve(1)).is_ok() {
                list.push(first);
            }
        }
        true
    }
}
