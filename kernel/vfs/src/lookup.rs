//! Looking an entry of a directory up: in the cache without a lock, and under the directory's lock in the file system.
//!
//! [`Dentry::find`] is the hit path of each walk: it takes no lock, counts no reference and writes nothing. A miss says nothing (see
//! [`crate::rcu_tree`]), so [`Dentry::lookup`] asks again under the lock, and then the file system. What that has is kept in the table; and so
//! is that there is no such file, in a *negative* dentry, since programs that search a path of directories, or include
//! files, ask for the same absent names over and over. A negative dentry is replaced by who makes the file, under the same lock.
//!
//! A file system that is kept elsewhere can change without vfs: each kept dentry is asked for before it is believed, and there are no negative
//! ones.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::rcu::{self, ReadSection, Shared};

use crate::caller::Caller;
use crate::dentry::{Children, Dentry, Found, Kind, Slow};
use crate::in_lookup::Asking;
use crate::inode::{Attributes, Inode, OpenRequest, Permissions};
use crate::name::NAME_MAX;
use crate::paused_walk::Wait;
use crate::unused::UnusedDentries;
use crate::waiting::{Answer, WaitingDirectory};

impl Dentry {
    /// The entry `name` of this directory, whose hash is known, if the cache has it and needs nobody to ask. It may be negative. Permissions
    /// have been checked.
    #[inline]
    pub(crate) fn find<'s>(&'s self, section: &'s ReadSection, hash: u64, name: &[u8]) -> Option<Shared<'s, Dentry>> {
        if self.changes_outside() {
            return None;
        }
        self.entries.find(section, hash, |entry| entry.get().is_called_in(section, name))
    }

    /// What the cache has under `name`, current or not. The caller holds the lock of the directory, or asks again under it.
    pub(crate) fn cached(&self, hash: u64, name: &[u8]) -> Option<Arc<Dentry>> {
        let section = rcu::read();
        let found = self.entries.find(&section, hash, |entry| entry.get().is_called_in(&section, name))?;
        Some(found.to_arc())
    }

    /// The entry `name` of this directory, whose hash is known. Permissions have been checked.
    ///
    /// # Errors
    /// `ENOENT`, `ENAMETOOLONG`, `ENOTDIR`, `ENOMEM`; `ERESTART` when the call has to wait ([`crate::paused_walk`]).
    pub(crate) fn lookup(self: &Arc<Dentry>, caller: &dyn Caller, hash: u64, name: &[u8]) -> Result<Arc<Dentry>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if let Some(found) = self.cached(hash, name)
            && self.still_leads_to(name, &found) == Some(true)
        {
            return positive(found);
        }
        if !self.keeps_entries {
            return self.entry(self.inode.lookup(name)?, name, Kind::Positive { attached: false });
        }
        let mut children = self.lock();
        let found = self.lookup_locked(caller, &mut children, hash, name);
        // An answer that was waited for may be old, and was noted when it came.
        if !matches!(found, Err(Errno::ENOENT)) || self.waiting().is_some() {
            return found;
        }
        let negative = self.note_absence(&mut children, hash, name);
        drop(children);
        if let Some(negative) = negative {
            caller.vfs().negative_dentries.add(&negative);
        }
        found
    }

    /// As [`Dentry::lookup`], by who makes the file if it is not there: `ENOENT` says that the lock is to be taken, and not more.
    pub(crate) fn lookup_to_create(
        self: &Arc<Dentry>,
        caller: &dyn Caller,
        hash: u64,
        name: &[u8],
    ) -> Result<Arc<Dentry>> {
        if self.changes_outside() || !self.keeps_entries {
            return self.lookup(caller, hash, name);
        }
        positive(self.cached(hash, name).ok_or(Errno::ENOENT)?)
    }

    /// As [`Dentry::lookup`], by whoever holds the lock on the directory. That there is no such file is not noted: it is about to be made.
    pub(crate) fn lookup_locked(
        self: &Arc<Dentry>,
        caller: &dyn Caller,
        children: &mut Children,
        hash: u64,
        name: &[u8],
    ) -> Result<Arc<Dentry>> {
        if let Some(found) = self.cached(hash, name) {
            match self.still_leads_to(name, &found) {
                Some(true) => return positive(found),
                Some(false) => self.part_from(children, hash, name, &found),
                None => {}
            }
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if children.is_removed() {
            return Err(Errno::ENOENT);
        }
        match self.waiting() {
            None => self.adopt(children, hash, name, self.inode.lookup(name)?),
            Some(waiting) => self.lookup_waiting(waiting, caller, children, hash, name),
        }
    }

    /// Asks a file system that may have to wait, or waits for who is asking it. `ERESTART` until the answer is there.
    #[cold]
    fn lookup_waiting(
        self: &Arc<Dentry>,
        (waiting, slow): (&dyn WaitingDirectory, &Slow),
        caller: &dyn Caller,
        children: &mut Children,
        hash: u64,
        name: &[u8],
    ) -> Result<Arc<Dentry>> {
        let walks = caller.paused_walks().ok_or(Errno::EAGAIN)?;
        if let Some(answer) = walks.take_answer(self, name) {
            return answer;
        }
        if let Some(asked) = slow.in_lookup.find(hash, name) {
            return Err(walks.wait_for(Wait::Lookup(asked.clone()), Some((self.clone(), asked))));
        }
        let pending = match waiting.lookup(name) {
            Answer::Now(answer) => return self.adopt(children, hash, name, answer?),
            Answer::Later(pending) => pending,
        };
        let asking = slow.in_lookup.ask(hash, name)?;
        let (asked, negatives) = (asking.asked().clone(), caller.vfs().negative_dentries.clone());
        let directory = self.clone();
        let answer = async move { directory.note_answer(asking, pending.await, &negatives) };
        Err(walks.wait_for(Wait::Answer(Box::pin(answer)), Some((self.clone(), asked))))
    }

    /// Enters what the file system said into the cache, and tells all who wait for it.
    fn note_answer(
        self: &Arc<Dentry>,
        asking: Asking<Found>,
        answer: Result<Arc<dyn Inode>>,
        negatives: &UnusedDentries,
    ) {
        let (hash, name) = asking.name();
        let mut children = self.lock();
        let kept = self.kept_by_answer(&mut children, hash, name, &answer);
        let found = match (kept, answer) {
            (Some(kept), _) => Ok(kept),
            (None, Ok(_)) if children.is_removed() => Err(Errno::ENOENT),
            (None, Ok(inode)) => self.adopt(&mut children, hash, name, inode),
            (None, Err(errno)) => Err(errno),
        };
        let absent = matches!(found, Err(Errno::ENOENT));
        let negative = if absent { self.note_absence(&mut children, hash, name) } else { None };
        drop(children);
        if let Some(negative) = negative {
            negatives.add(&negative);
        }
        asking.tell(found);
    }

    /// Whether a kept entry is still what its name leads to. What something is mounted on stays, lest the mount get
    /// lost. None if that has to be waited for: then the name is looked up anew.
    fn still_leads_to(&self, name: &[u8], kept: &Dentry) -> Option<bool> {
        if !self.changes_outside() || kept.is_mount_point() {
            return Some(true);
        }
        if self.waiting().is_some() { None } else { Some(self.inode.leads_to(name, &kept.inode)) }
    }

    /// What is kept under a name that was looked up anew, if it is what the answer says; otherwise nothing is kept any more.
    fn kept_by_answer(
        self: &Arc<Dentry>,
        children: &mut Children,
        hash: u64,
        name: &[u8],
        answer: &Result<Arc<dyn Inode>>,
    ) -> Option<Arc<Dentry>> {
        if !self.changes_outside() {
            return None;
        }
        let kept = self.cached(hash, name)?;
        match answer {
            Ok(inode) if kept.is_mount_point() || Arc::ptr_eq(inode, &kept.inode) => return Some(kept),
            Ok(_) | Err(Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR) => self.part_from(children, hash, name, &kept),
            Err(_) => {}
        }
        None
    }

    /// The name of an entry leads elsewhere now. Whoever uses it keeps it, like a file whose name was removed.
    fn part_from(&self, children: &mut Children, hash: u64, name: &[u8], found: &Arc<Dentry>) {
        if let Some(stale) = self.remove_entry(children, hash, name) {
            found.mark_removed();
            found.take_apart();
            drop(stale);
        }
    }

    /// Makes sure that an entry with this hash can be entered. Asked before the file system makes what can't be undone.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn reserve(&self, children: &mut Children, hash: u64) -> Result<()> {
        self.entries.reserve(&mut children.writer, hash)
    }

    /// Enters an inode the file system has under `name`, in the place of a negative dentry if there is one.
    pub(crate) fn adopt(
        self: &Arc<Dentry>,
        children: &mut Children,
        hash: u64,
        name: &[u8],
        inode: Arc<dyn Inode>,
    ) -> Result<Arc<Dentry>> {
        let keeps = self.keeps_entries && children.attached;
        let dentry = self.entry(inode, name, Kind::Positive { attached: keeps })?;
        if keeps {
            if children.has_had_negative {
                drop(self.remove_entry(children, hash, name));
            }
            self.entries.insert(&mut children.writer, hash, dentry.clone())?;
            if let Some(elsewhere) = &self.elsewhere {
                elsewhere.unused.add(&dentry);
            }
        }
        Ok(dentry)
    }

    /// Notes that the directory has no such name. None where that is not done, or for want of memory.
    fn note_absence(self: &Arc<Dentry>, children: &mut Children, hash: u64, name: &[u8]) -> Option<Arc<Dentry>> {
        if self.changes_outside() || !children.attached || self.cached(hash, name).is_some() {
            return None;
        }
        let negative = self.entry(Arc::new(Absent), name, Kind::Negative).ok()?;
        self.entries.insert(&mut children.writer, hash, negative.clone()).ok()?;
        children.has_had_negative = true;
        Some(negative)
    }
}

/// A dentry as a lookup tells it.
fn positive(found: Arc<Dentry>) -> Result<Arc<Dentry>> {
    if found.is_negative() { Err(Errno::ENOENT) } else { Ok(found) }
}

/// What a negative dentry leads to. Nobody gets to see it.
struct Absent;

impl Inode for Absent {
    fn attributes(&self) -> Attributes {
        Attributes::default()
    }

    fn permissions(&self) -> Permissions {
        Permissions { mode: 0, user: 0, group: 0 }
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn crate::file::File>> {
        Err(Errno::ENOENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory;

    impl Inode for Directory {
        fn attributes(&self) -> Attributes {
            Attributes::default()
        }

        fn permissions(&self) -> Permissions {
            Permissions { mode: 0o040_755, user: 0, group: 0 }
        }

        fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn crate::file::File>> {
            Err(Errno::EIO)
        }
    }

    /// A hit neither takes the lock of the directory nor counts a reference; and in a section nothing that was found goes.
    #[test]
    fn what_is_cached_is_found_while_the_directory_is_locked() {
        let root = Dentry::root(Arc::new(Directory), 7, b"/").unwrap();
        let hash = root.hash(b"entry");
        let entry = root.adopt(&mut root.lock(), hash, b"entry", Arc::new(Directory)).unwrap();
        let before = (Arc::strong_count(&root), Arc::strong_count(&entry));
        let locked = root.lock();
        let section = rcu::read();
        let found = root.find(&section, hash, b"entry").unwrap();
        assert!(core::ptr::eq(found.get(), &*entry));
        assert_eq!((Arc::strong_count(&root), Arc::strong_count(&entry)), before);
        assert!(root.find(&section, hash, b"entri").is_none());
        drop(section);
        drop(locked);
    }
}
