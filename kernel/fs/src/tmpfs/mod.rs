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

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::memory::FrameSource;
use memory::{Flusher, Memory, PAGE_SIZE, PageBudget, PageCache};
use vfs::{Caller, FileSystem, FileSystemType, Inode, NewContents, NewInode, Statistics};

use inode::TmpfsInode;
use options::Options;

/// `TMPFS_MAGIC`
const MAGIC: u64 = 0x0102_1994;
/// The top directory's permissions if nothing else is said.
const MODE: u32 = 0o1777;

/// A file system in memory.
pub struct Tmpfs {
    shared: Arc<Shared>,
    root: Arc<TmpfsInode>,
    name: &'static str,
    /// As mounted.
    options: Options,
    /// The pages and inodes it has if nothing else is said.
    default_limit: u64,
}

/// What all inodes of one file system share.
struct Shared {
    pages: Arc<PageBudget>,
    /// What inodes and extended attributes take, in bytes, an inode as [`INODE_SPACE`]. The limit is said in inodes.
    inode_space: AtomicU64,
    inode_limit: AtomicU64,
    last_number: AtomicU64,
    /// What the hashes of names start from.
    seed: u64,
    /// Where regular files lie; `None`: here.
    store: Option<Arc<dyn Store>>,
}

/// Where the contents of regular files lie that are not in RAM alone: then tmpfs keeps their names.
pub trait Store: Send + Sync {
    /// An empty file, whose pages in RAM are paid for by `pages`.
    fn new_file(&self, pages: &Arc<PageBudget>) -> Arc<PageCache>;

    /// Who writes the files back.
    fn flusher(&self) -> &Arc<Flusher>;
}

/// What an inode or a name counts among attributes: Linux's `BOGO_INODE_SIZE`.
const INODE_SPACE: u64 = 1024;

impl Shared {
    /// Counts one more inode or name.
    fn take_inode(&self) -> Result<()> {
        self.take_space(INODE_SPACE)
    }

    fn give_inode(&self) {
        self.give_space(INODE_SPACE);
    }

    /// Counts so many bytes more for inodes and attributes.
    fn take_space(&self, bytes: u64) -> Result<()> {
        let limit = self.inode_limit.load(Ordering::Relaxed).saturating_mul(INODE_SPACE);
        if self.inode_space.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit {
            return Ok(());
        }
        self.give_space(bytes);
        Err(Errno::ENOSPC)
    }

    fn give_space(&self, bytes: u64) {
        self.inode_space.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many inodes what is taken amounts to.
    fn inodes(&self) -> u64 {
        self.inode_space.load(Ordering::Relaxed).div_ceil(INODE_SPACE)
    }

    fn new_cache(&self) -> Arc<PageCache> {
        match &self.store {
            None => Arc::new(PageCache::new(self.pages.clone())),
            Some(store) => store.new_file(&self.pages),
        }
    }

    fn new_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Tmpfs {
    /// A file system with mount options, half the memory in size unless told otherwise. `random` keeps programs from
    /// guessing how names are hashed.
    ///
    /// # Errors
    /// `EINVAL` for an option that is not known, `ENOMEM`.
    pub fn new(memory: &Arc<Memory>, name: &'static str, options: &str, random: u64) -> Result<Arc<Tmpfs>> {
        Tmpfs::over(memory, name, options, random, None)
    }

    /// The same, with regular files that lie in `store`.
    ///
    /// # Errors
    /// As [`Tmpfs::new`].
    pub fn over(
        memory: &Arc<Memory>,
        name: &'static str,
        options: &str,
        random: u64,
        store: Option<Arc<dyn Store>>,
    ) -> Result<Arc<Tmpfs>> {
        let total = memory.frames().total_frames() as u64;
        let options = Options::parse_for(options, total)?;
        let default_limit = total / 2;
        let shared = Arc::new(Shared {
            pages: PageBudget::new(memory, options.pages.unwrap_or(default_limit)),
            inode_space: AtomicU64::new(0),
            inode_limit: AtomicU64::new(options.inodes.unwrap_or(default_limit)),
            last_number: AtomicU64::new(0),
            seed: random,
            store,
        });
        let (user, group) = (options.user.unwrap_or(0), options.group.unwrap_or(0));
        let permissions = options.mode.unwrap_or(MODE);
        let root = NewInode { permissions, user, group, contents: NewContents::Directory };
        let root = TmpfsInode::new(&shared, &root)?;
        Ok(Arc::new(Tmpfs { shared, root, name, options, default_limit }))
    }
}

impl FileSystem for Tmpfs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn flusher(&self) -> Option<&Arc<Flusher>> {
        self.shared.store.as_ref().map(|store| store.flusher())
    }

    fn statistics(&self) -> Statistics {
        let (pages, used) = (self.shared.pages.limit(), self.shared.pages.used());
        let limit = self.shared.inode_limit.load(Ordering::Relaxed);
        let inodes = self.shared.inodes();
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

    fn options(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        let (pages, inodes) = (self.shared.pages.limit(), self.shared.inode_limit.load(Ordering::Relaxed));
        // No limit is shown as it is asked for: 0.
        let limit = |limit: u64| if limit == u64::MAX { 0 } else { limit };
        if pages != self.default_limit {
            write!(text, ",size={}k", limit(pages) * (PAGE_SIZE as u64 / 1024))?;
        }
        if inodes != self.default_limit {
            write!(text, ",nr_inodes={}", limit(inodes))?;
        }
        if let Some(mode) = self.options.mode.filter(|mode| *mode != MODE) {
            write!(text, ",mode={mode:o}")?;
        }
        for (name, number) in [("uid", self.options.user), ("gid", self.options.group)] {
            if let Some(number) = number.filter(|number| *number != 0) {
                write!(text, ",{name}={number}")?;
            }
        }
        text.write_str(",inode64")
    }

    fn remount(&self, text: &str) -> Result<()> {
        let options = Options::parse(text)?;
        if options.pages.is_some_and(|pages| pages < self.shared.pages.used())
            || options.inodes.is_some_and(|inodes| inodes < self.shared.inodes())
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

    fn memory(&self) -> Option<&Arc<Memory>> {
        Some(self.shared.pages.memory())
    }

    /// Each mount(2) makes a new one.
    fn dismantle_some(&self) -> bool {
        (0..AT_ONCE).all(|_| self.take_apart_one())
    }
}

/// How many files are taken apart before others run.
const AT_ONCE: usize = 16;

impl Tmpfs {
    /// Takes one file out of the tree, the entries of a directory to the root. False when nothing is left.
    fn take_apart_one(&self) -> bool {
        let Some(inode) = self.root.take_entry() else { return false };
        // A directory goes back in until it is empty.
        if let Some(below) = inode.take_entry() {
            self.root.put_entry(inode);
            self.root.put_entry(below);
        }
        true
    }
}

impl Drop for Tmpfs {
    /// Takes the tree apart. It may be any depth, so not by recursion; the root holds what is still to be taken apart.
    fn drop(&mut self) {
        while self.take_apart_one() {}
    }
}

/// `tmpfs` for mount(2): each mount is a new file system.
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
        Ok(Tmpfs::new(&self.memory, "tmpfs", options, self.random.word())?)
    }
}
