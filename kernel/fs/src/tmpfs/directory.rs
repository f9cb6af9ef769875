//! The entries of a directory: by name for lookups, and by cookie, in the order they came, for reading.
//!
//! Cookies only grow, so whoever reads a directory while it changes sees each entry that stays exactly once, and
//! entries that come during it at the end.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashTable;
use vfs::Name;

use super::inode::TmpfsInode;

/// `.` and `..` are written by vfs at 0 and 1.
const FIRST_COOKIE: u64 = 2;

/// A directory's entries.
pub(super) struct Directory {
    entries: BTreeMap<u64, Entry>,
    by_name: HashTable<Place>,
    next_cookie: u64,
    seed: u64,
}

/// A name and what it leads to.
pub(super) struct Entry {
    pub name: Name,
    pub inode: Arc<TmpfsInode>,
}

/// Where an entry is, under its hash.
struct Place {
    hash: u64,
    cookie: u64,
}

impl Directory {
    pub fn new(seed: u64) -> Directory {
        Directory { entries: BTreeMap::new(), by_name: HashTable::new(), next_cookie: FIRST_COOKIE, seed }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn find(&self, name: &[u8]) -> Option<&Arc<TmpfsInode>> {
        let hash = vfs::hash_name(self.seed, name);
        let place = self.by_name.find(hash, |place| self.is(place, hash, name))?;
        self.entries.get(&place.cookie).map(|entry| &entry.inode)
    }

    fn is(&self, place: &Place, hash: u64, name: &[u8]) -> bool {
        place.hash == hash && self.entries.get(&place.cookie).is_some_and(|entry| entry.name.as_slice() == name)
    }

    /// Adds an entry; the caller made sure that the name is free.
    pub fn insert(&mut self, name: &[u8], inode: Arc<TmpfsInode>) {
        let (hash, cookie) = (vfs::hash_name(self.seed, name), self.next_cookie);
        self.next_cookie += 1;
        self.entries.insert(cookie, Entry { name: Name::from_slice(name), inode });
        self.by_name.insert_unique(hash, Place { hash, cookie }, |place| place.hash);
    }

    /// Lets an existing name lead to another inode, and returns the one it led to.
    pub fn replace(&mut self, name: &[u8], inode: Arc<TmpfsInode>) -> Option<Arc<TmpfsInode>> {
        let hash = vfs::hash_name(self.seed, name);
        let cookie = self.by_name.find(hash, |place| self.is(place, hash, name))?.cookie;
        let entry = self.entries.get_mut(&cookie)?;
        Some(core::mem::replace(&mut entry.inode, inode))
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpfsInode>> {
        let hash = vfs::hash_name(self.seed, name);
        let entries = &self.entries;
        let found = self.by_name.find_entry(hash, |place| {
            place.hash == hash && entries.get(&place.cookie).is_some_and(|entry| entry.name.as_slice() == name)
        });
        let (place, _) = found.ok()?.remove();
        let entry = self.entries.remove(&place.cookie)?;
        // A directory that was once huge gives its table back.
        if self.entries.is_empty() && self.by_name.capacity() > 64 {
            self.by_name = HashTable::new();
        }
        Some(entry.inode)
    }

    /// The entries from `cookie` on, each with its own.
    pub fn from(&self, cookie: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.range(cookie..).map(|(&cookie, entry)| (cookie, entry))
    }

    /// Empties it.
    pub fn take(&mut self) -> Vec<Arc<TmpfsInode>> {
        self.by_name.clear();
        core::mem::take(&mut self.entries).into_values().map(|entry| entry.inode).collect()
    }
}
