//! Walks that let others run, or wait. A path may lead through forty symbolic links of some thousand components each, which takes
//! longer than a poll may; or to a name about which a file system has to be asked that lies elsewhere.
//!
//! A walk that has come far stops behind a link: it leaves its position with the thread, in [`PausedWalks`], and fails with
//! `ERESTART`, which no program sees. Whoever does the call lets others run and makes it again; a walk of the same path
//! from the same place then goes on where it stopped.
//!
//! A call that has to wait does the same: what it waits for is left here ([`Wait`]), whoever does the call waits for that
//! ([`PausedWalks::ready`]), and makes it again, once. What was waited for is here then: the answer of a lookup, a lock, or what a change
//! came to.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::fallible::{TryVec, try_to_vec};
use abi::{Errno, Result};
use sync::{SpinLock, yield_now};

use crate::changing::{Change, Changed};
use crate::dentry::{Dentry, Found};
use crate::directory_locks::{self, Held, Sleeping};
use crate::file::File;
use crate::in_lookup::InLookup;
use crate::inode::Inode;
use crate::mount::Path;
use crate::waiting::Pending;
use crate::walk::{Position, Takes};

/// How many bytes of links are walked before others run.
pub(crate) const AT_ONCE: usize = 8192;

/// How many positions are kept: renameat(2) and mount(2) resolve two paths.
const MOST_WALKS: usize = 2;

/// How many lookups of a call are known: of each walk the last, behind which it goes on, and two names that renameat(2) looks up where its
/// walks end. As many again may be past.
const MOST_LOOKUPS: usize = 8;

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
    /// How often its walks began again.
    restarts: usize,
    /// What the call waits for.
    wait: Option<Wait>,
    /// The lookup it waited for last, and in which directory. Where names change outside the cache tells nothing, so what was found there
    /// holds for the whole call, and there may be several.
    asked: Vec<Asked>,
    /// What it has looked at, and what it opened.
    seen: Option<Arc<dyn Inode>>,
    opened: Option<Opened>,
    /// The extended attributes it asked for.
    xattrs: Option<Result<Vec<u8>>>,
    /// The sleeping locks of directories it holds.
    held: Vec<Held>,
    /// What its change came to.
    changed: Option<Changed>,
}

/// A lookup, and the directory it is in.
type Asked = (Arc<Dentry>, Arc<InLookup<Found>>);

/// What a call opened, of which inode.
type Opened = (Arc<dyn Inode>, Result<Arc<dyn File>>);

/// What a call waits for.
pub(crate) enum Wait {
    /// What the file system says of a name, about which this call asks.
    Answer(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The same, about which another asks.
    Lookup(Arc<InLookup<Found>>),
    /// A sleeping lock.
    Lock(Sleeping),
    /// A change of a directory.
    Change(Change),
    /// What a file looks like.
    Look(Arc<dyn Inode>, Pending<()>),
    /// A file to be open.
    Open(Arc<dyn Inode>, Pending<Arc<dyn File>>),
    /// Extended attributes of a file.
    Xattrs(Pending<Vec<u8>>),
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

/// Lets go of the locks of a call when dropped, if the call waits for nothing.
pub(crate) struct UntilOver<'a>(pub &'a PausedWalks);

impl Drop for UntilOver<'_> {
    fn drop(&mut self) {
        let mut walks = self.0.walks.lock();
        let held = if walks.wait.is_none() { core::mem::take(&mut walks.held) } else { Vec::new() };
        drop(walks);
        drop(held);
    }
}

impl PausedWalks {
    /// Whether a walk of this call has paused, or the call has waited.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Where this walk stopped last; none if it did not, or for want of memory. It stays known: of two walks of a call the
    /// first begins there again when the second pauses.
    pub(crate) fn find(&self, start: &Path, name: &[u8], takes: Takes) -> Option<Position<'static>> {
        let walks = self.walks.lock();
        let paused = walks.paused.iter().find(|paused| paused.is_of(start, name, takes))?;
        paused.position.try_clone().ok()
    }

    /// Counts one pause more that let others run.
    ///
    /// # Errors
    /// `ELOOP` when the call has paused all too often.
    pub(crate) fn count_pause(&self) -> Result<()> {
        let mut walks = self.walks.lock();
        walks.pauses += 1;
        if walks.pauses > MOST_PAUSES { Err(Errno::ELOOP) } else { Ok(()) }
    }

    /// Keeps the position of a walk until it is made again.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn keep(&self, start: &Path, name: &[u8], takes: Takes, position: Position<'static>) -> Result<()> {
        let paused = Paused { start: start.clone(), name: try_to_vec(name)?, takes, position };
        let mut walks = self.walks.lock();
        let before = walks.paused.iter().position(|paused| paused.is_of(start, name, takes));
        let index = before.or_else(|| (walks.paused.len() == MOST_WALKS).then_some(0));
        let left = index.map(|index| walks.paused.swap_remove(index));
        walks.paused.try_push(paused)?;
        self.any.store(true, Ordering::Relaxed);
        drop(walks);
        drop(left);
        Ok(())
    }

    /// Leaves what the call waits for; `asked`: the lookup, if it is one.
    pub(crate) fn wait_for(&self, wait: Wait, asked: Option<Asked>) -> Errno {
        let mut walks = self.walks.lock();
        let holds = walks.asked.first().is_some_and(|(directory, _)| directory.changes_outside());
        let is_full = walks.asked.len() == MOST_LOOKUPS && asked.is_some();
        let past = if !walks.asked.is_empty() && (!holds || is_full) { Some(walks.asked.remove(0)) } else { None };
        let noted = asked.map_or(Ok(()), |asked| walks.asked.try_push(asked));
        let before = noted.map(|()| walks.wait.replace(wait));
        self.any.store(true, Ordering::Relaxed);
        drop(walks);
        drop(past);
        before.map_or_else(|errno| errno, |_before| Errno::ERESTART)
    }

    /// What the call was to wait for is not waited for.
    pub(crate) fn give_up_wait(&self) {
        let wait = self.walks.lock().wait.take();
        drop(wait);
    }

    /// What the file system said about this name, if that is what the call waited for.
    pub(crate) fn take_answer(&self, directory: &Arc<Dentry>, name: &[u8]) -> Option<Result<Arc<Dentry>>> {
        if !self.any() {
            return None;
        }
        let mut walks = self.walks.lock();
        let place = walks.asked.iter().position(|(of, asked)| Arc::ptr_eq(of, directory) && asked.is_called(name))?;
        let asked = if directory.changes_outside() {
            // Nothing else tells that this call has asked.
            walks.asked.get(place).map(|(_, asked)| asked.clone())
        } else {
            Some(walks.asked.remove(place).1)
        };
        drop(walks);
        // What has changed since is looked up again.
        asked?.answer().filter(|found| !found.as_ref().is_ok_and(|found| found.is_removed()))
    }

    /// Whether this call has waited to see how the file looks: because it asked, or because it looked its name up.
    pub(crate) fn has_seen(&self, inode: &Arc<dyn Inode>) -> bool {
        if !self.any() {
            return false;
        }
        let walks = self.walks.lock();
        walks.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, inode))
            || walks.asked.iter().any(|(_, asked)| {
                asked.answer().is_some_and(|found| found.is_ok_and(|found| Arc::ptr_eq(found.inode(), inode)))
            })
    }

    /// What this call opened, if it waited for that.
    pub(crate) fn take_opened(&self, inode: &Arc<dyn Inode>) -> Option<Result<Arc<dyn File>>> {
        if !self.any() {
            return None;
        }
        let opened = self.walks.lock().opened.take_if(|(of, _)| Arc::ptr_eq(of, inode));
        opened.map(|(_, opened)| opened)
    }

    /// The extended attributes this call asked for, if it waited for that.
    pub(crate) fn take_xattrs(&self) -> Option<Result<Vec<u8>>> {
        if self.any() { self.walks.lock().xattrs.take() } else { None }
    }

    /// Holds the sleeping locks of a change, in this order, until the call is over or has made its change.
    ///
    /// # Errors
    /// `ENOMEM`; `ERESTART` if the call has to wait for one.
    pub(crate) fn hold(&self, wanted: &[Option<Sleeping>]) -> Result<()> {
        // Locks that are let go of wake others: not under this one.
        let mut held = core::mem::take(&mut self.walks.lock().held);
        let taken = directory_locks::hold(&mut held, wanted);
        self.walks.lock().held = held;
        self.any.store(true, Ordering::Relaxed);
        match taken? {
            None => Ok(()),
            Some(lock) => Err(self.wait_for(Wait::Lock(lock), None)),
        }
    }

    /// Holds a sleeping lock, and those that it held after it.
    ///
    /// # Errors
    /// As [`PausedWalks::hold`].
    pub(crate) fn hold_first(&self, first: &Sleeping) -> Result<()> {
        let held = self.walks.lock().held.first().is_some_and(|held| held.is(first));
        if held { Ok(()) } else { self.hold(&[Some(first.clone())]) }
    }

    /// The locks the call holds, for its change.
    pub(crate) fn take_held(&self) -> impl Send + use<> {
        core::mem::take(&mut self.walks.lock().held)
    }

    /// What the call's change came to, if it was made.
    pub(crate) fn take_changed(&self) -> Option<Changed> {
        if self.any() { self.walks.lock().changed.take() } else { None }
    }

    /// Waits for what the call needs before it is made again; at the least others run. Dropped, it gives up the wait: then the call is
    /// not made again.
    pub async fn ready(&self) {
        let wait = self.walks.lock().wait.take();
        match wait {
            None => yield_now().await,
            Some(Wait::Answer(asking)) => asking.await,
            Some(Wait::Lookup(asked)) => asked.wait().await,
            Some(Wait::Lock(lock)) => {
                let held = lock.lock().await;
                // Without memory the call tries again.
                let _ = self.walks.lock().held.try_push(held);
            }
            Some(Wait::Change(change)) => {
                let changed = change.await;
                self.walks.lock().changed = Some(changed);
            }
            Some(Wait::Look(inode, looking)) => {
                // What can't be seen any more is told of as it was.
                let _ = looking.await;
                let before = self.walks.lock().seen.replace(inode);
                drop(before);
            }
            Some(Wait::Open(inode, opening)) => {
                let opened = opening.await;
                let before = self.walks.lock().opened.replace((inode, opened));
                drop(before);
            }
            Some(Wait::Xattrs(asking)) => {
                let said = asking.await;
                self.walks.lock().xattrs = Some(said);
            }
        }
    }

    /// Walks begin at their beginning again, and nothing is held any more of where they were. How often they did in this call, if it has
    /// waited.
    pub(crate) fn restart(&self) -> usize {
        let mut restarts = 0;
        if self.any() {
            let mut walks = self.walks.lock();
            walks.restarts += 1;
            restarts = walks.restarts;
            let waited = (walks.wait.take(), walks.seen.take(), walks.opened.take());
            let before = (core::mem::take(&mut walks.paused), core::mem::take(&mut walks.asked), waited);
            drop(walks);
            drop(before);
        }
        restarts
    }

    /// The call is over, however it ended, or resolves no more paths.
    pub fn forget(&self) {
        if self.any.swap(false, Ordering::Relaxed) {
            let walks = core::mem::take(&mut *self.walks.lock());
            drop(walks);
        }
    }
}
