//! The entries of a directory: by name for lookups, and by cookie, in the order they came, for reading.
//!
//! Cookies only grow, so whoever reads a directory while it changes sees each entry that stays exactly once, and
//! entries that come during it at the end.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use abi::Result;
use vfs::{HashTree, Name, to_name};

use super::inode::TmpfsInode;

/// `.` and `..` are written by vfs at 0 and 1.
const FIRST_COOKIE: u64 = 2;

/// A directory's entries.
pub(super) struct Directory {
    entries: BTreeMap<u64, Entry>,
    /// The cookies by the hashes of the names.
    by_name: HashTree<u64>,
    next_cookie: u64,
    seed: u64,
}

/// A name and what it leads to.
pub(super) struct Entry {
    pub name: Name,
    pub inode: Arc<TmpfsInode>,
}

impl Directory {
    pub fn new(seed: u64) -> Directory {
        Directory { entries: BTreeMap::new(), by_name: HashTree::new(), next_cookie: FIRST_COOKIE, seed }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn cookie(&self, name: &[u8]) -> Option<u64> {
        let hash = vfs::hash_name(self.seed, name);
        self.by_name.find(hash, |cookie| self.is(*cookie, name)).copied()
    }

    fn is(&self, cookie: u64, name: &[u8]) -> bool {
        self.entries.get(&cookie).is_some_and(|entry| entry.name.as_slice() == name)
    }

    pub fn find(&self, name: &[u8]) -> Option<&Arc<TmpfsInode>> {
        self.entries.get(&self.cookie(name)?).map(|entry| &entry.inode)
    }

    /// Adds an entry; the caller made sure that the name is free.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn insert(&mut self, name: &[u8], inode: Arc<TmpfsInode>) -> Result<()> {
        let (hash, cookie) = (vfs::hash_name(self.seed, name), self.next_cookie);
        let entry = Entry { name: to_name(name)?, inode };
        self.by_name.insert(hash, cookie)?;
        self.entries.insert(cookie, entry);
        self.next_cookie += 1;
        Ok(())
    }

    /// Lets an existing name lead to another inode, and returns the one it led to.
    pub fn replace(&mut self, name: &[u8], inode: Arc<TmpfsInode>) -> Option<Arc<TmpfsInode>> {
        let cookie = self.cookie(name)?;
        let entry = self.entries.get_mut(&cookie)?;
        Some(core::mem::replace(&mut entry.inode, inode))
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpfsInode>> {
        let hash = vfs::hash_name(self.seed, name);
        let cookie = self.cookie(name)?;
        self.by_name.remove(hash, |found| *found == cookie)?;
        self.entries.remove(&cookie).map(|entry| entry.inode)
    }

    /// The entries from `cookie` on, each with its own.
    pub fn from(&self, cookie: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.range(cookie..).map(|(&cookie, entry)| (cookie, entry))
    }

    /// Takes one entry out, the newest.
    pub fn pop(&mut self) -> Option<Arc<TmpfsInode>> {
        let (cookie, entry) = self.entries.pop_last()?;
        self.by_name.remove(vfs::hash_name(self.seed, &entry.name), |found| *found == cookie);
        Some(entry.inode)
    }

    /// Keeps an inode without a name, until [`Directory::pop`].
    pub fn put(&mut self, inode: Arc<TmpfsInode>) {
        self.entries.insert(self.next_cookie, Entry { name: Name::new(), inode });
        self.next_cookie += 1;
    }
}
