//! What all processes of one kernel share about files, and what each has of its own: its root and working directory.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::Result;
use machine::memory::FrameSource;
use memory::{Cache, Memory};
use sync::{ReadGuard, RwSpinLock, SpinLock};

use crate::changing::UnfinishedChanges;
use crate::device::DeviceRegistry;
use crate::filesystem::{FileSystem, FileSystemTypes, SuperBlock};
use crate::inode::DeviceNumber;
use crate::locks::LockWaits;
use crate::mount::Path;
use crate::name;
use crate::unused::UnusedDentries;

/// How many negative dentries are kept at least, and at most: those take 2 MB.
const FEWEST_NEGATIVE: usize = 64;
const MOST_NEGATIVE: usize = 8192;
/// One for so many frames: a twentieth of a small memory when each is new.
const FRAMES_PER_NEGATIVE: usize = 16;

/// Devices, file system types and super blocks of one kernel. Lives in `process::Kernel`.
pub struct Vfs {
    /// The drivers behind device nodes.
    pub devices: DeviceRegistry,
    /// What mount(2) can mount.
    pub file_system_types: FileSystemTypes,
    super_blocks: Arc<SuperBlocks>,
    last_mount_id: AtomicU64,
    last_device: AtomicU64,
    last_anonymous: AtomicU64,
    /// Who waits for whose record locks.
    pub lock_waits: LockWaits,
    /// The names that are known not to be there.
    pub(crate) negative_dentries: Arc<UnusedDentries>,
    /// The changes of directories whose callers were killed.
    pub unfinished_changes: Arc<UnfinishedChanges>,
    seed: u64,
}

impl Vfs {
    /// Nothing registered yet. `random` keeps programs from guessing how names are hashed.
    pub fn new(random: u64) -> Arc<Vfs> {
        Arc::new(Vfs {
            devices: DeviceRegistry::default(),
            file_system_types: FileSystemTypes::default(),
            super_blocks: Arc::default(),
            last_mount_id: AtomicU64::new(0),
            last_device: AtomicU64::new(0),
            last_anonymous: AtomicU64::new(0),
            lock_waits: LockWaits::default(),
            negative_dentries: Arc::new(UnusedDentries::with_bound(FEWEST_NEGATIVE)),
            unfinished_changes: Arc::default(),
            seed: random,
        })
    }

    /// Keeps as many negative dentries as the memory allows, and gives them back when it is out.
    pub fn cache_in(&self, memory: &Memory) {
        let share = memory.frames().total_frames() / FRAMES_PER_NEGATIVE;
        self.negative_dentries.set_bound(share.clamp(FEWEST_NEGATIVE, MOST_NEGATIVE));
        let cache: Arc<dyn Cache> = self.negative_dentries.clone();
        memory.add_cache(Arc::downgrade(&cache));
    }

    /// The super block of a file system: the one it has, or a new one with a device number of major 0.
    pub(crate) fn super_block(&self, filesystem: Arc<dyn FileSystem>) -> Result<Arc<SuperBlock>> {
        let mut blocks = self.super_blocks.0.lock();
        // Only the one that is looked for is taken hold of: one that goes meanwhile would want the lock.
        if let Some(known) = blocks.of(&filesystem) {
            return Ok(known);
        }
        let number = self.last_device.fetch_add(1, Ordering::Relaxed) + 1;
        let minor = number as u32;
        let seed = name::hash(self.seed, &minor.to_le_bytes());
        let place = (self.super_blocks.clone(), number);
        let new = SuperBlock::new(filesystem, DeviceNumber { major: 0, minor }.encode(), seed, place)?;
        blocks.enter(number, &new);
        Ok(new)
    }

    /// Every file system that is mounted anywhere: sync(2).
    pub fn super_blocks(&self) -> impl Iterator<Item = Arc<SuperBlock>> {
        // By their numbers, one after the other, since the list may change meanwhile.
        let mut last = 0;
        core::iter::from_fn(move || {
            let blocks = self.super_blocks.0.lock();
            let mut later = blocks.by_number.range(last + 1..);
            let (number, block) = later.find_map(|(number, listed)| Some((*number, listed.block.upgrade()?)))?;
            last = number;
            Some(block)
        })
    }

    /// An inode number for a file without a name.
    pub(crate) fn new_anonymous_number(&self) -> u64 {
        self.last_anonymous.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn new_mount_id(&self) -> u64 {
        self.last_mount_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The super blocks of a kernel. Each takes itself out when it goes.
#[derive(Default)]
pub(crate) struct SuperBlocks(SpinLock<Blocks>);

#[derive(Default)]
struct Blocks {
    by_number: BTreeMap<u64, Listed>,
    /// The numbers by the addresses of their file systems.
    by_filesystem: BTreeMap<usize, u64>,
}

struct Listed {
    block: Weak<SuperBlock>,
    /// The address of its file system, which no other has while the super block is there.
    filesystem: usize,
}

impl SuperBlocks {
    /// The super block with this number goes.
    pub fn forget(&self, number: u64) {
        let gone = self.0.lock().remove(number);
        drop(gone);
    }
}

impl Blocks {
    /// The one of a file system.
    fn of(&self, filesystem: &Arc<dyn FileSystem>) -> Option<Arc<SuperBlock>> {
        let number = self.by_filesystem.get(&address(filesystem))?;
        self.by_number.get(number)?.block.upgrade()
    }

    /// Two nodes for a mount.
    fn enter(&mut self, number: u64, block: &Arc<SuperBlock>) {
        let filesystem = address(block.filesystem());
        self.by_number.insert(number, Listed { block: Arc::downgrade(block), filesystem });
        self.by_filesystem.insert(filesystem, number);
    }

    fn remove(&mut self, number: u64) -> Option<Listed> {
        let listed = self.by_number.remove(&number)?;
        // Another may have come in its place since nobody could take hold of it any more.
        if self.by_filesystem.get(&listed.filesystem) == Some(&number) {
            self.by_filesystem.remove(&listed.filesystem);
        }
        Some(listed)
    }
}

fn address(filesystem: &Arc<dyn FileSystem>) -> usize {
    Arc::as_ptr(filesystem).cast::<()>() as usize
}

/// A process's root and working directory and its umask: Linux's `fs_struct`, shared by threads and by clone(CLONE_FS).
pub struct FsContext {
    paths: RwSpinLock<FsPaths>,
    umask: AtomicU32,
}

/// The two paths; a walk borrows them.
#[derive(Clone)]
pub struct FsPaths {
    /// `/`.
    pub root: Path,
    /// `.`.
    pub working: Path,
}

impl FsContext {
    /// Both at `root`, with umask 022.
    pub fn new(root: Path) -> FsContext {
        let paths = FsPaths { working: root.clone(), root };
        FsContext { paths: RwSpinLock::new(paths), umask: AtomicU32::new(0o022) }
    }

    /// A copy for a child process.
    pub fn duplicate(&self) -> FsContext {
        FsContext { paths: RwSpinLock::new(self.paths.read().clone()), umask: AtomicU32::new(self.umask()) }
    }

    /// Both paths, to be borrowed over a walk. The guard is not `Send`: it can't be held over an `.await`.
    pub fn paths(&self) -> ReadGuard<'_, FsPaths> {
        self.paths.read()
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.paths.read().root.clone()
    }

    /// The working directory.
    pub fn working(&self) -> Path {
        self.paths.read().working.clone()
    }

    /// chdir(2), to a directory that was looked up and may be searched.
    pub fn set_working(&self, path: Path) {
        let old = core::mem::replace(&mut self.paths.write().working, path);
        drop(old);
    }

    /// chroot(2). The working directory stays.
    pub fn set_root(&self, path: Path) {
        let old = core::mem::replace(&mut self.paths.write().root, path);
        drop(old);
    }

    /// The bits new files don't get.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the umask and returns the old one: umask(2).
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }
}
