//! Walks that let others run. A path may lead through forty symbolic links of some thousand components each, which takes
//! longer than a poll may.
//!
//! A walk that has come far stops behind a link: it leaves its position with the thread, in [`PausedWalks`], and fails with
//! `ERESTART`, which no program sees. Whoever does the call lets others run and makes it again; a walk of the same path
//! from the same place then goes on where it stopped.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::fallible::{TryVec, try_to_vec};
use abi::{Errno, Result};
use sync::SpinLock;

use crate::mount::Path;
use crate::walk::{Position, Takes};

/// How many bytes of links are walked before others run.
pub(crate) const AT_ONCE: usize = 8192;

/// How many positions are kept: renameat(2) and mount(2) resolve two paths.
const MOST_WALKS: usize = 2;

/// How often the walks of a call may pause. One through forty links does so twenty times, and execve(2) of a script resolves
/// seven paths; but who exchanges the path of a call under way would never let it end.
const MOST_PAUSES: usize = 1000;

/// The paused walks of the call that a thread is doing.
#[derive(Default)]
pub struct PausedWalks {
    /// Whether a walk of this call has paused; looked at without the lock, by each walk.
    any: AtomicBool,
    walks: SpinLock<Walks>,
}

#[derive(Default)]
struct Walks {
    paused: Vec<Paused>,
    pauses: usize,
}

struct Paused {
    start: Path,
    name: Vec<u8>,
    takes: Takes,
    position: Position<'static>,
}

impl Paused {
    fn is_of(&self, start: &Path, name: &[u8], takes: Takes) -> bool {
        Arc::ptr_eq(&self.start.dentry, &start.dentry)
            && Arc::ptr_eq(&self.start.mount, &start.mount)
            && self.takes == takes
            && self.name == name
    }
}

impl PausedWalks {
    /// Whether a walk of this call has paused.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Where this walk stopped last; none if it did not, or for want of memory. It stays known: of two walks of a call the
    /// first begins there again when the second pauses.
    pub(crate) fn find(&self, start: &Path, name: &[u8], takes: Takes) -> Option<Position<'static>> {
        let walks = self.walks.lock();
        let paused = walks.paused.iter().find(|paused| paused.is_of(start, name, takes))?;
        paused.position.try_clone().ok()
    }

    /// Keeps the position of a walk until it is made again.
    ///
    /// # Errors
    /// `ENOMEM`; `ELOOP` when the call has paused all too often.
    pub(crate) fn keep(&self, start: &Path, name: &[u8], takes: Takes, position: Position<'static>) -> Result<()> {
        let paused = Paused { start: start.clone(), name: try_to_vec(name)?, takes, position };
        let mut walks = self.walks.lock();
        walks.pauses += 1;
        if walks.pauses > MOST_PAUSES {
            return Err(Errno::ELOOP);
        }
        let before = walks.paused.iter().position(|paused| paused.is_of(start, name, takes));
        let index = before.or_else(|| (walks.paused.len() == MOST_WALKS).then_some(0));
        let left = index.map(|index| walks.paused.swap_remove(index));
        walks.paused.try_push(paused)?;
        self.any.store(true, Ordering::Relaxed);
        drop(walks);
        drop(left);
        Ok(())
    }

    /// Walks begin at their beginning again, and nothing is held any more of where they were.
    pub(crate) fn restart(&self) {
        if self.any() {
            let paused = core::mem::take(&mut self.walks.lock().paused);
            drop(paused);
        }
    }

    /// The call is over, however it ended, or resolves no more paths.
    pub fn forget(&self) {
        if self.any.swap(false, Ordering::Relaxed) {
            let walks = core::mem::take(&mut *self.walks.lock());
            drop(walks);
        }
    }
}
