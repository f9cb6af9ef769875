//! The dentry cache: names in memory, each with the inode it leads to.
//!
//! A [`Dentry`] knows its parent and name (for `..`, getcwd(2) and `/proc/PID/fd`) and, when it is a directory, those
//! of its entries that somebody looked up. Parents are kept alive by their children and children by their parent's
//! table; a name that is removed leaves the table and lives on as long as somebody has it open.
//!
//! **Who owns whom.** Parent and child in a table hold each other, so something else has to part them. Only an *attached*
//! directory keeps entries: one that the root of its super block leads to, from table to table. The super block takes
//! that tree apart when its last user goes; a directory that leaves the tree before (removed, replaced, leading elsewhere)
//! is taken apart then, and keeps nothing from there on. So a directory that nobody finds again, like those below
//! /proc/PID that are made anew at each look, never has a table and goes with its last user. The one exception are
//! *pinned* entries: the way to a mount stays in the tables for as long as the mount does.
//!
//! A file system that is kept elsewhere may be larger than this machine: of its dentries that nobody uses, only so many
//! are kept. The others live as long as their names, since they are all there is of the file system.
//!
//! **Locks.** The table of a directory's children is also the lock of the directory: it is held for writing over each
//! change, the file system's part included, so that the two never disagree. A walk takes it for reading, for one look.
//! Who needs two of them (rename) holds the super block's rename lock and takes an ancestor before its descendant;
//! rmdir takes parent before child. The lock of a dentry's place comes last.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::fallible::TryVec;
use abi::fallible::TryVecDeque;
use abi::{Errno, Result};
use smallvec::SmallVec;
use sync::{RwSpinLock, SpinLock, WriteGuard};

use crate::hash_tree::HashTree;
use crate::inode::{FileKind, Inode};
use crate::name::{self, NAME_MAX, Name, to_name};

/// A name in the tree, and what it leads to.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    kind: FileKind,
    /// Whether entries found in this directory are kept.
    keeps_entries: bool,
    /// Where entries can change without vfs: the directory is asked before a kept one is believed.
    outside: Option<Arc<Kept>>,
    /// What the hashes of names in this tree start from.
    seed: u64,
    /// How many mounts hide this dentry or lie on something that is pinned below it, in any namespace.
    mounts: AtomicUsize,
    place: RwSpinLock<Place>,
    children: RwSpinLock<Children>,
}

/// Where a dentry is.
struct Place {
    /// `None` for a root.
    parent: Option<Arc<Dentry>>,
    name: Name,
    removed: bool,
    /// Mounts for which the parent, which would not keep it, was made to.
    pins: usize,
}

/// The entries of a directory that are in the cache.
#[derive(Default)]
pub(crate) struct Children {
    table: HashTree<(Name, Arc<Dentry>)>,
    /// The root of the super block leads here, so that entries can be kept.
    attached: bool,
    /// The directory was removed; nothing can be made in it.
    removed: bool,
}

impl Dentry {
    /// The root of a file system, or of an anonymous file, whose `name` then stands for its path.
    pub(crate) fn root(inode: Arc<dyn Inode>, seed: u64, name: &[u8]) -> Result<Arc<Dentry>> {
        Dentry::new(inode, seed, None, name, true)
    }

    fn new(
        inode: Arc<dyn Inode>,
        seed: u64,
        parent: Option<Arc<Dentry>>,
        name: &[u8],
        attached: bool,
    ) -> Result<Arc<Dentry>> {
        // Files like eventfds are of no kind; here they pass for regular ones.
        let kind = FileKind::of_mode(inode.permissions().mode).unwrap_or(FileKind::Regular);
        let outside = match &parent {
            Some(parent) => parent.outside.clone(),
            None => inode.changes_outside().then(Arc::default),
        };
        Ok(Arc::new(Dentry {
            keeps_entries: inode.keeps_entries(),
            outside,
            inode,
            kind,
            seed,
            mounts: AtomicUsize::new(0),
            place: RwSpinLock::new(Place { parent, name: to_name(name)?, removed: false, pins: 0 }),
            children: RwSpinLock::new(Children { attached, ..Children::default() }),
        }))
    }

    /// What the name leads to.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// What kind of file that is.
    #[inline]
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// The directory it is in; `None` for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.read().parent.clone()
    }

    /// Both at once, as they belong together.
    fn parent_and_name(&self) -> (Option<Arc<Dentry>>, Name) {
        let place = self.place.read();
        (place.parent.clone(), place.name.clone())
    }

    /// The parent; the name in it, from its end to its beginning, and a slash are added to `text`. Both at once, as they belong together.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn name_backwards(&self, text: &mut Vec<u8>) -> Result<Option<Arc<Dentry>>> {
        let place = self.place.read();
        let Some(parent) = &place.parent else { return Ok(None) };
        text.try_extend(place.name.iter().rev().copied())?;
        text.try_push(b'/')?;
        Ok(Some(parent.clone()))
    }

    /// Its name at this moment.
    pub fn name(&self) -> Name {
        self.place.read().name.clone()
    }

    /// Whether its name was removed.
    pub fn is_removed(&self) -> bool {
        self.place.read().removed
    }

    /// Whether something may be mounted on it, in any namespace.
    #[inline]
    pub(crate) fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Relaxed) != 0
    }

    /// Counts one more mount on it, unless its name was removed. The lock on its directory decides which of the two is
    /// first, since a name with a mount on it is not removed. Directories that keep no entries keep the way to this one, or
    /// the mount would never be found.
    ///
    /// # Errors
    /// `ENOENT` when the name was removed, `ENOMEM`.
    pub(crate) fn add_mount(self: &Arc<Dentry>) -> Result<()> {
        let mut at = self.clone();
        loop {
            let Some(parent) = at.parent() else {
                at.mounts.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            let mut children = parent.children.write();
            let place = at.place.read();
            if !place.parent.as_ref().is_some_and(|now| Arc::ptr_eq(now, &parent)) {
                // It was moved meanwhile.
                continue;
            }
            if place.removed && Arc::ptr_eq(&at, self) {
                return Err(Errno::ENOENT);
            }
            at.mounts.fetch_add(1, Ordering::Relaxed);
            let name = place.name.clone();
            drop(place);
            if children.attached && parent.keeps_entries {
                return Ok(());
            }
            let hash = parent.hash(&name);
            let kept = match children.find(hash, &name) {
                None => children.insert(hash, &name, at.clone()),
                Some(_) => Ok(()),
            };
            drop(children);
            if kept.is_err() {
                self.remove_mount();
                return kept;
            }
            at.place.write().pins += 1;
            at = parent;
        }
    }

    /// Counts one mount less.
    pub(crate) fn remove_mount(self: &Arc<Dentry>) {
        let mut at = self.clone();
        loop {
            let last = at.mounts.fetch_sub(1, Ordering::Relaxed) == 1;
            let mut place = at.place.write();
            if place.pins == 0 {
                return;
            }
            place.pins -= 1;
            let (parent, name) = (place.parent.clone(), place.name.clone());
            drop(place);
            let Some(parent) = parent else { return };
            if last {
                let hash = parent.hash(&name);
                let mut children = parent.children.write();
                let is_this = children.find(hash, &name).is_some_and(|kept| Arc::ptr_eq(kept, &at));
                let kept = if is_this { children.remove(hash, &name) } else { None };
                drop(children);
                drop(kept);
            }
            at = parent;
        }
    }

    #[inline]
    pub(crate) fn hash(&self, name: &[u8]) -> u64 {
        name::hash(self.seed, name)
    }

    /// What the hashes of the names in this directory start from.
    #[inline]
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The entry `name` of this directory, whose hash is known. Permissions have been checked. No allocation and no
    /// exclusive lock on a hit.
    ///
    /// # Errors
    /// `ENOENT`, `ENAMETOOLONG`, `ENOTDIR`, `ENOMEM`.
    #[inline]
    pub(crate) fn lookup(self: &Arc<Dentry>, hash: u64, name: &[u8]) -> Result<Arc<Dentry>> {
        if self.outside.is_none()
            && let Some(found) = self.children.read().find(hash, name)
        {
            return Ok(found.clone());
        }
        self.lookup_in_file_system(hash, name)
    }

    #[cold]
    fn lookup_in_file_system(self: &Arc<Dentry>, hash: u64, name: &[u8]) -> Result<Arc<Dentry>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if !self.keeps_entries {
            return Dentry::new(self.inode.lookup(name)?, self.seed, Some(self.clone()), name, false);
        }
        if self.outside.is_some() {
            let kept = self.children.read().find(hash, name).cloned();
            if let Some(found) = kept.filter(|found| self.still_leads_to(name, found)) {
                return Ok(found);
            }
        }
        let mut children = self.children.write();
        self.lookup_locked(&mut children, hash, name)
    }

    /// As [`Dentry::lookup`], by whoever holds the lock on the directory.
    pub(crate) fn lookup_locked(
        self: &Arc<Dentry>,
        children: &mut Children,
        hash: u64,
        name: &[u8],
    ) -> Result<Arc<Dentry>> {
        if let Some(found) = children.find(hash, name) {
            if self.still_leads_to(name, found) {
                return Ok(found.clone());
            }
            // Its name leads elsewhere now. Whoever uses it keeps it, like a file whose name was removed.
            if let Some(stale) = children.remove(hash, name) {
                stale.mark_removed();
                stale.take_apart();
            }
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if children.removed {
            return Err(Errno::ENOENT);
        }
        self.adopt(children, hash, name, self.inode.lookup(name)?)
    }

    /// Whether a kept entry is still what its name leads to. What something is mounted on stays, lest the mount get
    /// lost.
    fn still_leads_to(&self, name: &[u8], kept: &Dentry) -> bool {
        self.outside.is_none() || kept.is_mount_point() || self.inode.leads_to(name, &kept.inode)
    }

    /// Enters an inode the file system has under `name`.
    pub(crate) fn adopt(
        self: &Arc<Dentry>,
        children: &mut Children,
        hash: u64,
        name: &[u8],
        inode: Arc<dyn Inode>,
    ) -> Result<Arc<Dentry>> {
        let keeps = self.keeps_entries && children.attached;
        let dentry = Dentry::new(inode, self.seed, Some(self.clone()), name, keeps)?;
        if keeps {
            children.insert(hash, name, dentry.clone())?;
            if let Some(kept) = &self.outside {
                kept.add(&dentry);
            }
        }
        Ok(dentry)
    }

    /// Takes the dentry out of its directory's table if nobody uses it, and nothing below it is kept. What was taken
    /// out goes to `unused`; false if it must stay. The caller holds one reference.
    fn let_go(self: &Arc<Dentry>, unused: &mut Unused) -> bool {
        let (Some(parent), name) = self.parent_and_name() else { return true };
        // Whoever keeps something new may be holding this very lock.
        let Some(mut children) = parent.children.try_write() else { return false };
        let hash = parent.hash(&name);
        if !children.find(hash, &name).is_some_and(|kept| Arc::ptr_eq(kept, self)) {
            return true;
        }
        // The caller's reference and the table's. No more can come while the table is locked.
        if Arc::strong_count(self) != 2 {
            return false;
        }
        // bounded: twice as many as are looked at, which lie in place
        unused.extend(children.remove(hash, &name));
        true
    }

    /// Locks the directory for a change.
    pub(crate) fn lock(&self) -> WriteGuard<'_, Children> {
        self.children.write()
    }

    /// A dentry outside every directory, for a file that was made without a name; it counts as removed.
    pub(crate) fn unnamed(self: &Arc<Dentry>, inode: Arc<dyn Inode>, name: &[u8]) -> Result<Arc<Dentry>> {
        let dentry = Dentry::new(inode, self.seed, Some(self.clone()), name, false)?;
        dentry.place.write().removed = true;
        Ok(dentry)
    }

    /// Marks the name as gone. The caller took it out of its directory's table.
    pub(crate) fn mark_removed(&self) {
        self.place.write().removed = true;
    }

    /// Enters a moved dentry in its new place, under a name for which there is room in `children`. The caller holds both
    /// directories and the rename lock.
    pub(crate) fn move_to(self: &Arc<Dentry>, parent: &Arc<Dentry>, children: &mut Children, hash: u64, name: Name) {
        let keeps = parent.keeps_entries && children.attached;
        let kept = keeps && children.insert(hash, &name, self.clone()).is_ok();
        let new = Place { parent: Some(parent.clone()), name, removed: false, pins: 0 };
        let old = core::mem::replace(&mut *self.place.write(), new);
        if kept {
            self.children.write().attached = true;
        } else {
            self.take_apart();
        }
        drop(old);
    }

    /// Whether this is `other` or lies below it. Stable only under the rename lock.
    pub(crate) fn is_within(self: &Arc<Dentry>, other: &Arc<Dentry>) -> bool {
        let mut current = self.clone();
        loop {
            if Arc::ptr_eq(&current, other) {
                return true;
            }
            match current.parent() {
                Some(parent) => current = parent,
                None => return false,
            }
        }
    }

    /// Forgets everything below, and keeps nothing any more: the last user of the super block is gone, or the name is or
    /// leads elsewhere.
    pub(crate) fn take_apart(self: &Arc<Dentry>) {
        let mut at = self.clone();
        while self.take_apart_some(&mut at) {}
    }

    /// Forgets some of what is below, going on `at` the dentry where it stopped; first at this one. One entry after the other, since
    /// there may be any number, in any depth. False when nothing is left.
    pub(crate) fn take_apart_some(self: &Arc<Dentry>, at: &mut Arc<Dentry>) -> bool {
        for _ in 0..AT_ONCE {
            let mut children = at.children.write();
            children.attached = false;
            let below = children.table.pop();
            drop(children);
            *at = match below {
                Some((_, below)) => below,
                None if Arc::ptr_eq(at, self) => return false,
                None => match at.parent() {
                    Some(parent) => parent,
                    None => return false,
                },
            };
        }
        true
    }
}

/// How many dentries are forgotten before others run.
const AT_ONCE: usize = 64;

/// The kept dentries of a file system that is kept elsewhere and may be any size, in the order they came.
#[derive(Default)]
struct Kept {
    queue: SpinLock<VecDeque<Weak<Dentry>>>,
}

/// How many of them stay though nobody uses them.
const MOST_KEPT: usize = 16_384;

/// How many are looked at for each new one at most, so that they become fewer again after many were in use.
const LOOKS: usize = 4;

/// Dentries to be dropped: each that was looked at, and the table's share of it.
type Unused = SmallVec<[Arc<Dentry>; 2 * LOOKS]>;

impl Kept {
    /// One more; the oldest that nobody uses goes for it. Called with the lock of its directory held.
    #[expect(clippy::disallowed_methods, reason = "twice as many as are looked at, which lie in place")]
    fn add(&self, dentry: &Arc<Dentry>) {
        let mut unused = Unused::new();
        let mut queue = self.queue.lock();
        // Without memory it is not in the queue, and stays until somebody lets its directory go.
        let _ = queue.try_push_back(Arc::downgrade(dentry));
        for _ in 0..LOOKS {
            let oldest = if queue.len() > MOST_KEPT { queue.pop_front() } else { None };
            let Some(oldest) = oldest else { break };
            let Some(kept) = oldest.upgrade() else { continue };
            if !kept.let_go(&mut unused) {
                queue.push_back(oldest);
            }
            unused.push(kept);
        }
        drop(queue);
        // Whatever goes with them goes outside the lock.
        drop(unused);
    }
}

impl Drop for Dentry {
    /// Lets go of the parent. A chain of removed directories may be any length, so not by recursion.
    fn drop(&mut self) {
        let mut next = self.place.get_mut().parent.take();
        while let Some(mut parent) = next.and_then(Arc::into_inner) {
            next = parent.place.get_mut().parent.take();
        }
    }
}

impl Children {
    #[inline]
    fn find(&self, hash: u64, name: &[u8]) -> Option<&Arc<Dentry>> {
        self.table.find(hash, |(kept, _)| kept.as_slice() == name).map(|(_, dentry)| dentry)
    }

    /// Makes sure that an entry with this hash can be entered. Asked before the file system makes what can't be undone.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn reserve(&mut self, hash: u64) -> Result<()> {
        self.table.reserve(hash)
    }

    fn insert(&mut self, hash: u64, name: &[u8], dentry: Arc<Dentry>) -> Result<()> {
        self.table.insert(hash, (to_name(name)?, dentry))
    }

    /// Takes a name out of the table. What comes back is to be dropped outside the lock.
    pub(crate) fn remove(&mut self, hash: u64, name: &[u8]) -> Option<Arc<Dentry>> {
        self.table.remove(hash, |(kept, _)| kept.as_slice() == name).map(|(_, dentry)| dentry)
    }

    /// Whether the directory itself was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// The directory is being removed: nothing can be made in it, and nothing is kept of it. Whoever removes it takes
    /// apart what the cache still has of it.
    pub(crate) fn set_removed(&mut self) {
        self.removed = true;
        self.attached = false;
    }
}
