//! tmpfs(5): a file system in memory, and the root of the system.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`Tmpfs`]: limits, options, statfs |
//! | `options` | parsing of `size=`, `nr_inodes=`, `mode=` |
//! | `inode` | one file of any kind, and its attributes |
//! | `regular` | reading, writing and mapping regular files |
//! | `directory` | the entries of a directory, by name and in the order they came |
//! | `xattr` | extended attributes |
//!
//! Pages are counted against `size`, names and inodes against `nr_inodes`. When the last name and the last user of a
//! file are gone, every page goes back.

mod directory;
mod inode;
mod options;
mod regular;
mod xattr;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::memory::FrameSource;
use memory::{Memory, PAGE_SIZE, PageBudget};
use vfs::{Caller, FileSystem, FileSystemType, Inode, NewContents, NewInode, Statistics};

use inode::TmpfsInode;
use options::Options;

/// `TMPFS_MAGIC`
const MAGIC: u64 = 0x0102_1994;

/// A file system in memory.
pub struct Tmpfs {
    shared: Arc<Shared>,
    root: Arc<TmpfsInode>,
    name: &'static str,
}

/// What all inodes of one file system share.
struct Shared {
    pages: Arc<PageBudget>,
    inodes: AtomicU64,
    inode_limit: AtomicU64,
    last_number: AtomicU64,
    /// What the hashes of names start from.
    seed: u64,
}

impl Shared {
    /// Counts one more inode or name.
    fn take_inode(&self) -> Result<()> {
        if self.inodes.fetch_add(1, Ordering::Relaxed) < self.inode_limit.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.give_inode();
        Err(Errno::ENOSPC)
    }

    fn give_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    fn new_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Tmpfs {
    /// A file system for the kernel itself: no limits but the machine's memory. `random` keeps programs from guessing
    /// how names are hashed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(memory: &Arc<Memory>, name: &'static str, random: u64) -> Result<Arc<Tmpfs>> {
        Tmpfs::with_options(memory, name, Options::unlimited(), random)
    }

    fn with_options(memory: &Arc<Memory>, name: &'static str, options: Options, random: u64) -> Result<Arc<Tmpfs>> {
        let shared = Arc::new(Shared {
            pages: PageBudget::new(memory, options.pages.unwrap_or(u64::MAX)),
            inodes: AtomicU64::new(0),
            inode_limit: AtomicU64::new(options.inodes.unwrap_or(u64::MAX)),
            last_number: AtomicU64::new(0),
            seed: random,
        });
        let (permissions, user, group) =
            (options.mode.unwrap_or(0o1777), options.user.unwrap_or(0), options.group.unwrap_or(0));
        let root = NewInode { permissions, user, group, contents: NewContents::Directory };
        let root = TmpfsInode::new(&shared, &root)?;
        Ok(Arc::new(Tmpfs { shared, root, name }))
    }
}

impl FileSystem for Tmpfs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statistics(&self) -> Statistics {
        let (pages, used) = (self.shared.pages.limit(), self.shared.pages.used());
        let limit = self.shared.inode_limit.load(Ordering::Relaxed);
        let inodes = self.shared.inodes.load(Ordering::Relaxed);
        let unlimited = |limit: u64, value: u64| if limit == u64::MAX { 0 } else { value };
        let free = unlimited(pages, pages.saturating_sub(used));
        Statistics {
            magic: MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks: unlimited(pages, pages),
            free_blocks: free,
            available_blocks: free,
            inodes: unlimited(limit, limit),
            free_inodes: unlimited(limit, limit.saturating_sub(inodes)),
            name_length: vfs::NAME_MAX as u64,
        }
    }

    fn options(&self) -> String {
        let mut text = String::new();
        let (pages, inodes) = (self.shared.pages.limit(), self.shared.inode_limit.load(Ordering::Relaxed));
        if pages != u64::MAX {
            let _ = write!(text, ",size={}k", pages * (PAGE_SIZE as u64 / 1024));
        }
        if inodes != u64::MAX {
            let _ = write!(text, ",nr_inodes={inodes}");
        }
        let top = self.root.permissions();
        if top.mode & 0o7777 != 0o1777 {
            let _ = write!(text, ",mode={:o}", top.mode & 0o7777);
        }
        text
    }

    fn remount(&self, text: &str) -> Result<()> {
        let options = Options::parse(text)?;
        if options.pages.is_some_and(|pages| pages < self.shared.pages.used())
            || options.inodes.is_some_and(|inodes| inodes < self.shared.inodes.load(Ordering::Relaxed))
        {
            return Err(Errno::EINVAL);
        }
        if let Some(pages) = options.pages {
            self.shared.pages.set_limit(pages);
        }
        if let Some(inodes) = options.inodes {
            self.shared.inode_limit.store(inodes, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Tmpfs {
    /// Takes the tree apart. It may be any depth, so not by recursion.
    fn drop(&mut self) {
        let mut pending: Vec<Arc<TmpfsInode>> = self.root.take_entries();
        while let Some(inode) = pending.pop() {
            pending.append(&mut inode.take_entries());
        }
    }
}

/// `tmpfs` for mount(2): each mount is a new file system, half the memory in size unless told otherwise.
pub struct TmpfsType {
    /// Where the pages come from, and how many there are.
    pub memory: Arc<Memory>,
    /// Where the secrets of new file systems come from.
    pub random: Arc<crate::random::Random>,
}

impl FileSystemType for TmpfsType {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn mount(&self, _source: &[u8], options: &str, _caller: &dyn Caller) -> Result<Arc<dyn FileSystem>> {
        let total = self.memory.frames().total_frames() as u64;
        let half = Options { pages: Some(total / 2), inodes: Some(total / 2), ..Options::unlimited() };
        let options = Options::parse_for(options, total)?.or(half);
        Ok(Tmpfs::with_options(&self.memory, "tmpfs", options, self.random.word())?)
    }
}
