//! The dentry cache: names in memory, each with the inode it leads to.
//!
//! A [`Dentry`] knows its parent and name (for `..`, getcwd(2) and `/proc/PID/fd`) and, when it is a directory, those
//! of its entries that somebody looked up. Parents are kept alive by their children and children by their parent's
//! table; a name that is removed leaves the table and lives on as long as somebody has it open. How an entry is found is
//! the page of [`crate::lookup`].
//!
//! **Who owns whom.** Parent and child in a table hold each other, so something else has to part them. Only an *attached*
//! directory keeps entries: one that the root of its super block leads to, from table to table. The super block takes
//! that tree apart when its last user goes; a directory that leaves the tree before (removed, replaced, leading elsewhere)
//! is taken apart then, and keeps nothing from there on. So a directory that nobody finds again, like those below
//! /proc/PID that are made anew at each look, never has a table and goes with its last user. The one exception are
//! *pinned* entries: the way to a mount stays in the tables for as long as the mount does.
//!
//! **Locks.** A table is read without a lock ([`crate::rcu_tree`]), and so is a dentry's place, which is never changed but
//! exchanged. Changes of a directory happen under its lock, which is held over the file system's part too, so that the two
//! never disagree. Who needs two of them (rename) holds the super block's rename lock and takes an ancestor before its
//! descendant; rmdir takes parent before child. Nothing else is locked under them but the queues of [`crate::unused`], the names
//! of [`crate::in_lookup`] and what the thread keeps of its walks ([`crate::paused_walk`]). A file system that may have to wait is not asked
//! under this lock, but under sleeping ones, which come before it: see [`crate::directory_locks`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::fallible::TryVec;
use abi::{Errno, Result};
use machine::rcu::{self, RcuCell, ReadSection, Retired};
use sync::{Semaphore, SpinGuard, SpinLock};

use crate::in_lookup::NamesInLookup;
use crate::inode::{FileKind, Inode};
use crate::name::{self, Name, to_name};
use crate::rcu_tree::{RcuTree, Writer};
use crate::unused::UnusedDentries;
use crate::waiting::WaitingDirectory;

/// A name in the tree, and what it leads to.
pub struct Dentry {
    pub(crate) inode: Arc<dyn Inode>,
    kind: FileKind,
    /// It says that there is no such file.
    is_negative: bool,
    /// Whether entries found in this directory are kept.
    pub(crate) keeps_entries: bool,
    /// Where the file system is that is not in memory.
    pub(crate) elsewhere: Option<Arc<Elsewhere>>,
    /// What the hashes of names in this tree start from.
    seed: u64,
    /// How many mounts hide this dentry or lie on something that is pinned below it, in any namespace. Changed under the lock of the
    /// directory it is in.
    mounts: AtomicUsize,
    /// Mounts for which the parent, which would not keep it, was made to. Changed under its lock.
    pins: AtomicUsize,
    removed: AtomicBool,
    /// Never empty.
    place: RcuCell<Place>,
    pub(crate) entries: RcuTree<Dentry>,
    children: SpinLock<Children>,
    /// Of a [`WaitingDirectory`].
    slow: Option<Box<Slow>>,
}

/// What the dentries of a file system have in common that is not in memory.
pub(crate) struct Elsewhere {
    /// Those nobody uses: they can be had again.
    pub unused: UnusedDentries,
    /// Entries can change without vfs: the directory is asked before a kept one is believed.
    pub changes_outside: bool,
    /// Its directories are [`crate::WaitingDirectory`]s.
    pub waits: bool,
}

/// Where a dentry is.
pub(crate) struct Place {
    /// `None` for a root.
    parent: Option<Arc<Dentry>>,
    name: Name,
}

impl Place {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// # Errors
    /// `ENOMEM`.
    pub fn new(parent: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Place>> {
        Ok(Arc::new(Place { parent: Some(parent.clone()), name: to_name(name)? }))
    }
}

/// What the lock of a directory guards: its entries in the cache.
#[derive(Default)]
pub(crate) struct Children {
    pub(crate) writer: Writer,
    /// The root of the super block leads here, so that entries can be kept.
    pub(crate) attached: bool,
    /// The directory was removed; nothing can be made in it.
    removed: bool,
    /// Some of its entries may be negative.
    pub(crate) has_had_negative: bool,
}

/// What a directory has if its file system may have to wait.
pub(crate) struct Slow {
    /// Its sleeping lock: see [`crate::directory_locks`].
    pub changing: Arc<Semaphore>,
    pub in_lookup: Arc<NamesInLookup<Found>>,
}

/// What a lookup comes to.
pub(crate) type Found = Result<Arc<Dentry>>;

impl Dentry {
    /// The root of a file system, or of an anonymous file, whose `name` then stands for its path.
    pub(crate) fn root(inode: Arc<dyn Inode>, seed: u64, name: &[u8]) -> Result<Arc<Dentry>> {
        let (changes_outside, waits) = (inode.changes_outside(), inode.may_wait());
        let unused = UnusedDentries::default();
        let elsewhere = (changes_outside || waits).then(|| Arc::new(Elsewhere { unused, changes_outside, waits }));
        let place = Arc::new(Place { parent: None, name: to_name(name)? });
        Ok(Dentry::new(inode, seed, elsewhere, place, Kind::Positive { attached: true }))
    }

    /// An entry of this directory.
    pub(crate) fn entry(self: &Arc<Dentry>, inode: Arc<dyn Inode>, name: &[u8], kind: Kind) -> Result<Arc<Dentry>> {
        Ok(Dentry::new(inode, self.seed, self.elsewhere.clone(), Place::new(self, name)?, kind))
    }

    fn new(
        inode: Arc<dyn Inode>,
        seed: u64,
        elsewhere: Option<Arc<Elsewhere>>,
        place: Arc<Place>,
        kind: Kind,
    ) -> Arc<Dentry> {
        let attached = matches!(kind, Kind::Positive { attached: true });
        // Files like eventfds are of no kind; here they pass for regular ones.
        let kind_of_file = FileKind::of_mode(inode.permissions().mode).unwrap_or(FileKind::Regular);
        let waits = kind_of_file == FileKind::Directory && elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.waits);
        let slow = waits.then(|| Slow { changing: Arc::new(Semaphore::new(1)), in_lookup: Arc::default() });
        Arc::new(Dentry {
            kind: kind_of_file,
            is_negative: kind == Kind::Negative,
            keeps_entries: inode.keeps_entries(),
            elsewhere,
            inode,
            seed,
            mounts: AtomicUsize::new(0),
            pins: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            place: RcuCell::new(place),
            entries: RcuTree::default(),
            children: SpinLock::new(Children { attached, ..Children::default() }),
            slow: slow.map(Box::new),
        })
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

    /// Whether it says that there is no such file: a negative dentry.
    #[inline]
    pub(crate) fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// The directory it is in; `None` for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        let section = rcu::read();
        self.place.read(&section)?.parent.clone()
    }

    /// Both at once, as they belong together.
    pub(crate) fn parent_and_name(&self) -> Option<(Arc<Dentry>, Arc<Place>)> {
        let place = self.place.get()?;
        Some((place.parent.clone()?, place))
    }

    /// The parent; the name in it, from its end to its beginning, and a slash are added to `text`. Both at once, as they belong together.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn name_backwards(&self, text: &mut Vec<u8>) -> Result<Option<Arc<Dentry>>> {
        let Some((parent, place)) = self.parent_and_name() else { return Ok(None) };
        text.try_extend(place.name.iter().rev().copied())?;
        text.try_push(b'/')?;
        Ok(Some(parent))
    }

    /// Its name at this moment.
    pub fn name(&self) -> Name {
        self.place.get().map(|place| place.name.clone()).unwrap_or_default()
    }

    /// Whether that is its name at this moment.
    #[inline]
    pub(crate) fn is_called_in(&self, section: &ReadSection, name: &[u8]) -> bool {
        self.place.read(section).is_some_and(|place| name::same(&place.get().name, name))
    }

    /// Whether its name was removed.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
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
            let Some((parent, place)) = at.parent_and_name() else {
                at.mounts.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            let mut children = parent.children.lock();
            if !at.is_in(&parent) {
                // It was moved meanwhile.
                continue;
            }
            if at.is_removed() && Arc::ptr_eq(&at, self) {
                return Err(Errno::ENOENT);
            }
            at.mounts.fetch_add(1, Ordering::Relaxed);
            if children.attached && parent.keeps_entries {
                return Ok(());
            }
            let hash = parent.hash(&place.name);
            let kept = match parent.cached(hash, &place.name) {
                None => parent.entries.insert(&mut children.writer, hash, at.clone()),
                Some(_) => Ok(()),
            };
            if kept.is_err() {
                drop(children);
                self.remove_mount();
                return kept;
            }
            at.pins.fetch_add(1, Ordering::Relaxed);
            drop(children);
            at = parent;
        }
    }

    /// Counts one mount less.
    pub(crate) fn remove_mount(self: &Arc<Dentry>) {
        let mut at = self.clone();
        loop {
            let Some((parent, place)) = at.parent_and_name() else {
                at.mounts.fetch_sub(1, Ordering::Relaxed);
                return;
            };
            let mut children = parent.children.lock();
            if !at.is_in(&parent) {
                continue;
            }
            let last = at.mounts.fetch_sub(1, Ordering::Relaxed) == 1;
            if at.pins.load(Ordering::Relaxed) == 0 {
                return;
            }
            at.pins.fetch_sub(1, Ordering::Relaxed);
            let unpinned = if last {
                let hash = parent.hash(&place.name);
                parent.entries.remove(&mut children.writer, hash, |_, kept| core::ptr::eq(kept, &*at))
            } else {
                None
            };
            drop(children);
            drop(unpinned);
            at = parent;
        }
    }

    /// Whether its parent is this one, at this moment.
    fn is_in(&self, directory: &Arc<Dentry>) -> bool {
        let section = rcu::read();
        self.place
            .read(&section)
            .is_some_and(|place| place.parent.as_ref().is_some_and(|parent| Arc::ptr_eq(parent, directory)))
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

    /// Takes a name out of the table. What comes back is to be dropped outside the lock.
    pub(crate) fn remove_entry(&self, children: &mut Children, hash: u64, name: &[u8]) -> Option<Retired<Dentry>> {
        self.entries.remove(&mut children.writer, hash, |section, kept| kept.is_called_in(section, name))
    }

    /// Takes the dentry out of its directory's table if nobody uses it, and nothing below it is kept. False if it must stay. The caller
    /// holds one reference.
    pub(crate) fn let_go(self: &Arc<Dentry>) -> bool {
        let Some((parent, place)) = self.parent_and_name() else { return true };
        // Whoever keeps something new may be holding this very lock.
        let Some(mut children) = parent.children.try_lock() else { return false };
        let hash = parent.hash(&place.name);
        // The caller's reference and the table's.
        if !parent.cached(hash, &place.name).is_some_and(|kept| Arc::ptr_eq(&kept, self)) {
            return true;
        }
        if Arc::strong_count(self) != 2 {
            return false;
        }
        let removed = parent.entries.remove(&mut children.writer, hash, |_, kept| core::ptr::eq(kept, &**self));
        // Who had found it by then has a reference of his own now.
        let Some(removed) = removed.map(Retired::into_arc) else { return true };
        if Arc::strong_count(self) == 2 {
            return true;
        }
        // It fits in where it was; if not, it lives as long as it is used, like a file whose name was removed.
        parent.entries.insert(&mut children.writer, hash, removed).is_err()
    }

    /// The directory as it answers if its file system may have to wait, and what it has for that.
    #[inline]
    pub(crate) fn waiting(&self) -> Option<(&dyn WaitingDirectory, &Slow)> {
        let slow = self.slow.as_ref()?;
        Some((self.inode.waiting()?, slow))
    }

    /// Its sleeping lock, if its file system may have to wait.
    #[inline]
    pub(crate) fn sleeping_lock(&self) -> Option<&Arc<Semaphore>> {
        self.waiting().map(|(_, slow)| &slow.changing)
    }

    /// Whether its file system may have to be waited for, or changes without vfs.
    #[inline]
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Whether its entries can change without vfs.
    #[inline]
    pub(crate) fn changes_outside(&self) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.changes_outside)
    }

    /// Locks the directory for a change.
    pub(crate) fn lock(&self) -> SpinGuard<'_, Children> {
        self.children.lock()
    }

    /// A dentry outside every directory, for a file that was made without a name; it counts as removed.
    pub(crate) fn unnamed(self: &Arc<Dentry>, inode: Arc<dyn Inode>, name: &[u8]) -> Result<Arc<Dentry>> {
        let dentry = self.entry(inode, name, Kind::Positive { attached: false })?;
        dentry.mark_removed();
        Ok(dentry)
    }

    /// Marks the name as gone. The caller took it out of its directory's table.
    pub(crate) fn mark_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    /// Enters a moved dentry in its new place, for which there is room in `parent`, and where nothing is. The caller holds both
    /// directories and the rename lock. Where it was is to be dropped outside the locks.
    pub(crate) fn move_to(
        self: &Arc<Dentry>,
        parent: &Arc<Dentry>,
        children: &mut Children,
        hash: u64,
        place: Arc<Place>,
    ) -> Option<Retired<Place>> {
        let old = self.place.replace(Some(place));
        let keeps = parent.keeps_entries && children.attached;
        if keeps && parent.entries.insert(&mut children.writer, hash, self.clone()).is_ok() {
            self.children.lock().attached = true;
        } else {
            self.take_apart();
        }
        old
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
            let mut children = at.children.lock();
            children.attached = false;
            let below = at.entries.pop(&mut children.writer);
            drop(children);
            *at = match below.map(Retired::into_arc) {
                Some(below) => below,
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

/// What a new dentry is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name of a file. A directory keeps entries if it is attached.
    Positive { attached: bool },
    /// A name that no file has.
    Negative,
}

impl Drop for Dentry {
    /// Lets go of the parent. A chain of removed directories may be any length, so not by recursion.
    fn drop(&mut self) {
        let above = |dentry: &mut Dentry| dentry.place.take().and_then(Arc::into_inner).and_then(|place| place.parent);
        let mut next = above(self);
        while let Some(mut parent) = next.and_then(Arc::into_inner) {
            next = above(&mut parent);
        }
    }
}

impl Children {
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
