//! The sleeping locks of directories that may have to wait for their file system ([`crate::waiting`]).
//!
//! Each such directory has one, Linux's `i_rwsem`, and so has each file system for its renames
//! (`s_vfs_rename_mutex`). A call takes what it needs of them before it looks its names up, and keeps them until it has been answered. They are
//! taken in this order: the file system's renames; an ancestor before its descendant; directories of which neither lies below the other,
//! which only a rename has, by their addresses. All of them come before all spinning locks.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::TryVec;
use abi::{Errno, Result};
use sync::{OwnedPermit, Semaphore};

use crate::change::in_order;
use crate::dentry::Dentry;
use crate::filesystem::SuperBlock;
use crate::mount::Path;
use crate::paused_walk::UntilOver;
use crate::walk::Context;

/// A sleeping lock, and what keeps it the lock of this directory: the directory itself, which the cache might otherwise forget.
#[derive(Clone)]
pub(crate) struct Sleeping {
    lock: Arc<Semaphore>,
    _directory: Option<Arc<Dentry>>,
}

impl Sleeping {
    /// The lock of a directory, if its file system may have to wait.
    pub fn of_directory(directory: &Arc<Dentry>) -> Option<Sleeping> {
        Some(Sleeping { lock: directory.sleeping_lock()?.clone(), _directory: Some(directory.clone()) })
    }

    /// The lock of a file system's renames.
    pub fn of_renames(lock: &Arc<Semaphore>) -> Sleeping {
        Sleeping { lock: lock.clone(), _directory: None }
    }

    /// Waits for it.
    pub async fn lock(self) -> Held {
        let permit = self.lock.acquire_owned().await;
        Held { permit, _directory: self._directory }
    }

    fn try_lock(&self) -> Option<Held> {
        Some(Held { permit: self.lock.try_acquire_owned()?, _directory: self._directory.clone() })
    }
}

/// A sleeping lock that is held.
pub(crate) struct Held {
    permit: OwnedPermit,
    _directory: Option<Arc<Dentry>>,
}

impl Held {
    /// Whether it is this lock.
    pub fn is(&self, lock: &Sleeping) -> bool {
        self.permit.is_of(&lock.lock)
    }
}

/// Sees to it that what is held begins with `wanted`, in that order. Returns the first that somebody else has; what comes before it is held
/// then. Where other locks are held instead, all are let go of first, for the order's sake.
pub(crate) fn hold(held: &mut Vec<Held>, wanted: &[Option<Sleeping>]) -> Result<Option<Sleeping>> {
    let fits = held.iter().zip(wanted.iter().flatten()).all(|(held, wanted)| held.is(wanted));
    if !fits {
        held.clear();
    }
    for lock in wanted.iter().flatten().skip(held.len()) {
        let Some(locked) = lock.try_lock() else { return Ok(Some(lock.clone())) };
        held.try_push(locked)?;
    }
    Ok(None)
}

impl Context<'_> {
    /// Lets go of what [`Context::hold`] holds when the call is over, and is not to be made again.
    #[inline]
    pub(crate) fn locks(&self, directory: &Dentry) -> Option<UntilOver<'_>> {
        directory.sleeping_lock()?;
        self.caller.paused_walks().map(UntilOver)
    }

    /// Holds the sleeping lock of a directory, if it has one, and that of one in it.
    ///
    /// # Errors
    /// `ERESTART` when the call has to wait for one; `ENOMEM`.
    #[inline]
    pub(crate) fn hold(&self, directory: &Arc<Dentry>, below: Option<&Arc<Dentry>>) -> Result<()> {
        if directory.sleeping_lock().is_none() {
            return Ok(());
        }
        let below = below.and_then(Sleeping::of_directory);
        self.hold_all(&[Sleeping::of_directory(directory), below])
    }

    /// Mounts something on `target` while nobody changes the directory that has its name: as on Linux, what is about to be removed is no mount
    /// point.
    ///
    /// # Errors
    /// As [`Context::hold_mount_point`], and those of `mount`.
    pub fn on_mount_point<T>(&self, target: &Path, mount: impl FnOnce() -> Result<T>) -> Result<T> {
        let _locks = self.locks(&target.dentry.parent().unwrap_or_else(|| target.dentry.clone()));
        self.hold_mount_point(target)?;
        mount()
    }

    /// The same, until the call is over.
    ///
    /// # Errors
    /// `ERESTART` when the call has to wait for who changes it; `ENOMEM`.
    pub fn hold_mount_point(&self, target: &Path) -> Result<()> {
        target.dentry.parent().map_or(Ok(()), |parent| self.hold(&parent, None))
    }

    /// Holds the sleeping locks for a rename: of the file system's renames, of the two directories, and of the one that goes.
    ///
    /// # Errors
    /// As [`Context::hold`].
    pub(crate) fn hold_two(
        &self,
        super_block: &SuperBlock,
        from: &Arc<Dentry>,
        to: &Arc<Dentry>,
        replaced: Option<&Arc<Dentry>>,
    ) -> Result<()> {
        if from.sleeping_lock().is_none() {
            return Ok(());
        }
        let renames = Sleeping::of_renames(&super_block.renames);
        // Only with this lock it is known which of the two is above.
        self.caller.paused_walks().ok_or(Errno::EAGAIN)?.hold_first(&renames)?;
        let (first, second) = in_order(from, to);
        let second = Some(second).filter(|second| !Arc::ptr_eq(first, second));
        let lock = |directory: Option<&Arc<Dentry>>| directory.and_then(Sleeping::of_directory);
        self.hold_all(&[Some(renames), lock(Some(first)), lock(second), lock(replaced)])
    }

    fn hold_all(&self, wanted: &[Option<Sleeping>]) -> Result<()> {
        self.caller.paused_walks().ok_or(Errno::EAGAIN)?.hold(wanted)
    }
}
