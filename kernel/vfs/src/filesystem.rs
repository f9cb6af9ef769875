//! File systems, their super blocks, and the list of types mount(2) knows.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::ready;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::fallible::{TryString, TryVec};
use abi::{Errno, Result};
use memory::{Cache, Dismantle, Flusher, Memory, PagerError};
use sync::{RwSpinLock, Semaphore};

use crate::caller::Caller;
use crate::dentry::Dentry;
use crate::inode::Inode;
use crate::kernel_files::SuperBlocks;
use crate::waiting::Pending;

/// One file system: a tree of inodes.
pub trait FileSystem: Send + Sync {
    /// Its type as /proc/mounts names it.
    fn name(&self) -> &'static str;

    /// The top directory.
    fn root(&self) -> Arc<dyn Inode>;

    /// How full it is.
    fn statistics(&self) -> Statistics;

    /// Asks anew how full it is, where that has to be waited for: then [`FileSystem::statistics`] tells what was said last. `None`: that
    /// asks itself.
    fn look_at_room(&self) -> Option<Pending<()>> {
        None
    }

    /// Appends its own options as /proc/mounts shows them, each with a comma in front: `,size=1024k`.
    fn options(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        let _ = text;
        Ok(())
    }

    /// Applies changed options: mount(MS_REMOUNT).
    ///
    /// # Errors
    /// `EINVAL` for an option it doesn't know or can't change.
    fn remount(&self, options: &str) -> Result<()> {
        let _ = options;
        Ok(())
    }

    /// Who writes its files back, if they lie elsewhere. Somebody has to run it: [`Flusher::run`].
    fn flusher(&self) -> Option<&Arc<Flusher>> {
        None
    }

    /// What was written back is safe on its device: sync(2), syncfs(2).
    ///
    /// # Errors
    /// `EIO`.
    fn synchronise(&self) -> Pending<()> {
        Box::pin(ready(Ok(())))
    }

    /// The memory it takes, if it may take so much that its end takes long.
    fn memory(&self) -> Option<&Arc<Memory>> {
        None
    }

    /// Its last super block is gone: one that is not to be mounted again frees a slice of what it has. False when nothing is
    /// left, or nothing is to be freed before it is dropped.
    fn dismantle_some(&self) -> bool {
        false
    }
}

/// Everything written is safe: what is dirty is written back, and then kept by the file system's device.
///
/// # Errors
/// `EIO`, `ENOSPC`.
pub async fn synchronise(filesystem: &dyn FileSystem) -> Result<()> {
    let written = match filesystem.flusher() {
        Some(flusher) => flusher.synchronise().await.map_err(PagerError::errno),
        None => Ok(()),
    };
    written.and(filesystem.synchronise().await)
}

/// What statfs(2) tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// `f_type`, the magic number
    pub magic: u64,
    /// `f_bsize`
    pub block_size: u64,
    /// `f_blocks`
    pub blocks: u64,
    /// `f_bfree`
    pub free_blocks: u64,
    /// `f_bavail`
    pub available_blocks: u64,
    /// `f_files`
    pub inodes: u64,
    /// `f_ffree`
    pub free_inodes: u64,
    /// `f_namelen`
    pub name_length: u64,
}

/// A kind of file system that can be mounted.
pub trait FileSystemType: Send + Sync {
    /// Its name in mount(2).
    fn name(&self) -> &'static str;

    /// Whether it needs a block device; those that don't are `nodev` in /proc/filesystems.
    fn needs_device(&self) -> bool {
        false
    }

    /// Makes or finds the file system.
    ///
    /// # Errors
    /// `EINVAL` for unknown options, `ENOMEM`, `ENODEV`, `ENOTBLK`.
    fn mount(&self, source: &[u8], options: &str, caller: &dyn Caller) -> Result<Arc<dyn FileSystem>>;
}

/// A file system in use: shared by all its mounts.
pub struct SuperBlock {
    filesystem: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
    device: u64,
    read_only: AtomicBool,
    /// Held for writing over each rename, so that the tree's shape stands still for who holds it for reading.
    pub(crate) rename: RwSpinLock<()>,
    /// Held over each rename that waits: see [`crate::directory_locks`].
    pub(crate) renames: Arc<Semaphore>,
    /// Where it is listed, and under which number.
    place: Option<(Arc<SuperBlocks>, u64)>,
}

impl SuperBlock {
    pub(crate) fn new(
        filesystem: Arc<dyn FileSystem>,
        device: u64,
        seed: u64,
        place: (Arc<SuperBlocks>, u64),
    ) -> Result<Arc<SuperBlock>> {
        let root = Dentry::root(filesystem.root(), seed, b"/")?;
        Ok(SuperBlock::with_root(filesystem, device, root, Some(place)))
    }

    pub(crate) fn with_root(
        filesystem: Arc<dyn FileSystem>,
        device: u64,
        root: Arc<Dentry>,
        place: Option<(Arc<SuperBlocks>, u64)>,
    ) -> Arc<SuperBlock> {
        let read_only = AtomicBool::new(false);
        let (rename, renames) = (RwSpinLock::new(()), Arc::new(Semaphore::new(1)));
        Arc::new(SuperBlock { filesystem, root, device, read_only, rename, renames, place })
    }

    /// The file system itself.
    pub fn filesystem(&self) -> &Arc<dyn FileSystem> {
        &self.filesystem
    }

    /// The top directory's dentry.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// Forgets names that nobody uses and that can be looked up again, as many as make so many pages, oldest first.
    pub fn forget_unused(&self, pages: u64) {
        if let Some(elsewhere) = &self.root.elsewhere {
            elsewhere.unused.give_back(pages);
        }
    }

    /// `st_dev`.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether nothing may be changed through any mount.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    pub(crate) fn set_read_only(&self, on: bool) {
        self.read_only.store(on, Ordering::Relaxed);
    }
}

impl Drop for SuperBlock {
    /// Forgets what was cached of the file system, and lets it take itself apart. That may take long.
    fn drop(&mut self) {
        if let Some((list, number)) = self.place.take() {
            list.forget(number);
        }
        let (root, filesystem) = (self.root.clone(), self.filesystem.clone());
        let at = root.clone();
        let remains = Remains { root, at, filesystem };
        match self.filesystem.memory() {
            Some(memory) => memory.dismantle(Box::new(remains)),
            None => drop(remains),
        }
    }
}

/// What is left of a file system that nobody uses any more.
struct Remains {
    root: Arc<Dentry>,
    /// Where taking the dentries apart goes on.
    at: Arc<Dentry>,
    filesystem: Arc<dyn FileSystem>,
}

impl Dismantle for Remains {
    fn free_some(&mut self) -> bool {
        self.root.take_apart_some(&mut self.at) || self.filesystem.dismantle_some()
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.root.take_apart();
    }
}

/// The file system types of one kernel.
#[derive(Default)]
pub struct FileSystemTypes {
    types: RwSpinLock<Vec<Arc<dyn FileSystemType>>>,
}

impl FileSystemTypes {
    /// Adds a type.
    ///
    /// # Errors
    /// `EBUSY` when the name is taken.
    pub fn register(&self, new: Arc<dyn FileSystemType>) -> Result<()> {
        let mut types = self.types.write();
        if types.iter().any(|known| known.name() == new.name()) {
            return Err(Errno::EBUSY);
        }
        types.try_push(new)
    }

    /// The type called `name`.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn find(&self, name: &[u8]) -> Result<Arc<dyn FileSystemType>> {
        let types = self.types.read();
        types.iter().find(|known| known.name().as_bytes() == name).cloned().ok_or(Errno::ENODEV)
    }

    /// The text of /proc/filesystems.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn list(&self) -> Result<String> {
        let mut text = String::new();
        for known in self.types.read().iter() {
            text.try_push_str(if known.needs_device() { "\t" } else { "nodev\t" })?;
            text.try_push_str(known.name())?;
            text.try_push_str("\n")?;
        }
        Ok(text)
    }
}
