//! A file of a shared folder: finding it again, and what can be done to it by name.
//!
//! A node remembers where it was last seen: a directory and a name in it. Its descriptor is opened from there when
//! needed, the directory's own from its place if need be, and may be closed again at any time. The root's stays.

use super::descriptors::{self, Permit, with_room};
use super::helpers::{Handler, Helpers, Lent};
use super::opened::OpenNode;
use super::requests::Opened;
use super::{BENEATH, EACCES, ENFILE, ENXIO, EROFS, ESTALE, EXDEV, Share, checked, is_interface, status};
use crate::{Answer, Change, Identity, NewNode, Ownership, Rename, Result, Status, Ticket};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// How deep a directory may lie to be found again: far deeper than any path, yet not without end.
const MAX_DEPTH: usize = 1 << 16;

/// A file of a shared folder, of any kind.
#[derive(Clone)]
pub struct Node(pub(super) Arc<Inner>);

/// What a node is.
pub struct Inner {
    pub(super) share: Arc<Share>,
    pub(super) identity: Identity,
    /// See [`Node::is_near`].
    near: bool,
    /// A helper's: it is gone before anybody could want to close its descriptor.
    detached: bool,
    place: Mutex<Option<Place>>,
    descriptor: Mutex<Descriptors>,
    used: AtomicBool,
    /// The descriptor is not to be closed.
    held: AtomicBool,
}

/// Where a node was last seen. The root has none, nor has a file without a name.
#[derive(Clone)]
pub(super) struct Place {
    pub directory: Arc<Inner>,
    name: Box<[u8]>,
}

/// The descriptors there are of a node.
#[derive(Default)]
struct Descriptors {
    /// Opened to find it by (`O_PATH`).
    own: Option<Arc<OwnedFd>>,
    /// Those of its open nodes: they serve as well, and work when the file has no name any more.
    opened: Vec<Weak<OwnedFd>>,
}

impl Descriptors {
    fn any(&self) -> Option<Arc<OwnedFd>> {
        self.own.clone().or_else(|| self.opened.iter().find_map(Weak::upgrade))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn new(share: Arc<Share>, identity: Identity, near: bool, place: Option<Place>, descriptor: Descriptors) -> Inner {
        let (place, descriptor) = (Mutex::new(place), Mutex::new(descriptor));
        let (used, held) = (AtomicBool::new(false), AtomicBool::new(false));
        Inner { share, identity, near, detached: false, place, descriptor, used, held }
    }

    /// Whether it was used since this was last asked, or is to be kept whether used or not.
    pub fn was_used(&self) -> bool {
        self.held.load(Ordering::Relaxed) || self.used.swap(false, Ordering::Relaxed)
    }

    /// Closes the descriptor to find it by; one that is being used is closed after that.
    pub fn forget_descriptor(&self) {
        lock(&self.descriptor).own = None;
    }

    /// Keeps a descriptor of it from now on.
    pub(super) fn keep(&self, file: OwnedFd) {
        self.held.store(true, Ordering::Relaxed);
        lock(&self.descriptor).own.get_or_insert(Arc::new(file));
    }

    fn open_already(&self) -> Option<Arc<OwnedFd>> {
        self.used.store(true, Ordering::Relaxed);
        lock(&self.descriptor).any()
    }

    pub(super) fn place(&self) -> Result<Place> {
        lock(&self.place).clone().ok_or(ESTALE)
    }

    /// A descriptor of exactly this file.
    pub(super) fn descriptor(self: &Arc<Inner>) -> Result<Arc<OwnedFd>> {
        if let Some(open) = self.open_already() {
            return Ok(open);
        }
        // Up to the nearest directory that is open, and down again.
        let mut closed = Vec::new();
        let (mut node, mut place) = (self.clone(), self.place()?);
        let mut directory = loop {
            let above = place.directory.clone();
            closed.push((node, place.name));
            if let Some(open) = above.open_already() {
                break open;
            }
            if closed.len() > MAX_DEPTH {
                return Err(ESTALE);
            }
            place = above.place()?;
            node = above;
        };
        for (node, name) in closed.iter().rev() {
            directory = node.open_in(&directory, name)?;
        }
        Ok(directory)
    }

    fn open_in(self: &Arc<Inner>, directory: &OwnedFd, name: &[u8]) -> Result<Arc<OwnedFd>> {
        let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = with_room(|| rustix::fs::openat2(directory, name, how, Mode::empty(), BENEATH));
        let found = Arc::new(opened.map_err(|error| match Errno::from_raw_os_error(i32::from(error.0)) {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => ESTALE,
            _ => error,
        })?);
        if self.status_by(&*found, b"")?.identity != self.identity {
            return Err(ESTALE);
        }
        if self.identity.device != self.share.device && is_interface(&found)? {
            return Err(EACCES);
        }
        let mut descriptors = lock(&self.descriptor);
        if let Some(own) = &descriptors.own {
            return Ok(own.clone());
        }
        descriptors.own = Some(found.clone());
        drop(descriptors);
        if !self.detached {
            descriptors::remember(Arc::downgrade(self));
        }
        Ok(found)
    }

    /// The status of `name` in an open directory, or of what is open itself if the name is empty.
    pub(super) fn status_by(&self, open: impl AsFd, name: &[u8]) -> Result<Status> {
        let how = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
        // What is mounted on a name may be far: its own file system is not asked then.
        let how = if self.near && !name.is_empty() { how | AtFlags::STATX_DONT_SYNC } else { how };
        let found = rustix::fs::statx(open, name, how | AtFlags::NO_AUTOMOUNT, status::WANTED)?;
        Ok(self.share.status(&found))
    }
}

impl Drop for Inner {
    /// Lets go of the directory, and that of its own. They may be any number, so not by recursion.
    fn drop(&mut self) {
        let place = |inner: &mut Inner| inner.place.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut next = place(self);
        while let Some(mut inner) = next.and_then(|place| Arc::into_inner(place.directory)) {
            next = place(&mut inner);
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Node({}:{})", self.0.identity.device, self.0.identity.number)
    }
}

impl Node {
    /// The top of a folder, whose descriptor stays open.
    pub(super) fn root(share: Arc<Share>, identity: Identity, open: OwnedFd) -> Node {
        let descriptor = Descriptors { own: Some(Arc::new(open)), opened: Vec::new() };
        let near = share.near;
        Node::new(share, identity, near, None, descriptor)
    }

    fn new(share: Arc<Share>, identity: Identity, near: bool, place: Option<Place>, descriptor: Descriptors) -> Node {
        Node(Arc::new(Inner::new(share, identity, near, place, descriptor)))
    }

    /// The same file, for a helper: found anew from the nearest directory that is open.
    ///
    /// # Errors
    /// `ESTALE`, `ENFILE`.
    pub(super) fn detached(&self) -> Result<Node> {
        let mut closed = Vec::new();
        let mut inner = self.0.clone();
        let open = loop {
            if let Some(open) = inner.open_already() {
                break open;
            }
            let Place { directory, name } = inner.place()?;
            closed.push((inner, name));
            if closed.len() > MAX_DEPTH {
                return Err(ESTALE);
            }
            inner = directory;
        };
        let open = rustix::io::fcntl_dupfd_cloexec(&open, 0).map_err(|_| ENFILE)?;
        let detach = |inner: &Inner, place, descriptor| {
            let mut new = Inner::new(inner.share.clone(), inner.identity, inner.near, place, descriptor);
            new.detached = true;
            Arc::new(new)
        };
        let mut node = detach(&inner, None, Descriptors { own: Some(Arc::new(open)), opened: Vec::new() });
        for (inner, name) in closed.into_iter().rev() {
            node = detach(&inner, Some(Place { directory: node, name }), Descriptors::default());
        }
        Ok(Node(node))
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        if self.0.share.read_only { Err(EROFS) } else { Ok(()) }
    }

    /// Another folder is another file system, and may be read-only.
    fn check_same_share(&self, other: &Node) -> Result<()> {
        if Arc::ptr_eq(&self.0.share, &other.0.share) { Ok(()) } else { Err(EXDEV) }
    }

    /// Who makes calls that may take long.
    pub(super) fn helpers(&self) -> &Arc<Helpers> {
        &self.0.share.helpers
    }

    /// Whether it lies in this host: what it takes is a disk's time at the most. Calls that concern another are to be
    /// left to helpers.
    pub fn is_near(&self) -> bool {
        self.0.near
    }

    /// The machine the folder's helpers work for. The first call counts.
    pub(crate) fn lend(&self, lent: Lent) {
        self.helpers().lend(lent);
    }

    /// See [`SharedFolder::attend`](crate::SharedFolder::attend).
    pub(crate) fn attend(&self, handler: Handler) {
        self.helpers().attend(handler);
    }

    /// See [`SharedFolder::end`](crate::SharedFolder::end).
    pub(crate) fn end(&self) {
        self.helpers().end();
    }

    /// See [`SharedFolder::take_answer`](crate::SharedFolder::take_answer).
    pub(crate) fn take_answer(&self) -> Option<(Ticket, Result<Answer>)> {
        self.helpers().take_answer()
    }

    /// See [`SharedFolder::withdraw`](crate::SharedFolder::withdraw).
    pub(crate) fn withdraw(&self, ticket: Ticket) -> bool {
        self.helpers().withdraw(ticket)
    }

    /// Which file it is.
    pub fn identity(&self) -> Identity {
        self.0.identity
    }

    /// Everything about it, now.
    ///
    /// # Errors
    /// `ESTALE` when it is no longer where it was last seen, and nobody has it open.
    pub fn status(&self) -> Result<Status> {
        if let Some(open) = self.0.open_already() {
            return self.0.status_by(&*open, b"");
        }
        // Looking needs no descriptor of the file itself.
        let Place { directory, name } = self.0.place()?;
        let found = self.0.status_by(&*directory.descriptor()?, &name)?;
        if found.identity == self.0.identity { Ok(found) } else { Err(ESTALE) }
    }

    /// What the name `name` in this directory leads to, now. Links are not followed.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ESTALE`, `ENAMETOOLONG`; `EINVAL` for what is no name.
    pub fn look(&self, name: &[u8]) -> Result<Status> {
        self.0.status_by(&*self.0.descriptor()?, checked(name)?)
    }

    /// A node for the file found under `name`.
    pub fn entry(&self, name: &[u8], found: &Status) -> Node {
        let place = Place { directory: self.0.clone(), name: name.into() };
        let device = found.identity.device;
        let above = self.is_near();
        let near = if device == self.0.identity.device { above } else { self.0.share.is_near(device, above) };
        Node::new(self.0.share.clone(), found.identity, near, Some(place), Descriptors::default())
    }

    /// The node was seen under `name` in `directory`: it will be looked for there.
    pub fn seen_at(&self, directory: &Node, name: &[u8]) {
        let mut place = lock(&self.0.place);
        match &mut *place {
            Some(place) if Arc::ptr_eq(&place.directory, &directory.0) => {
                if *place.name != *name {
                    place.name = name.into();
                }
                return;
            }
            _ => drop(place),
        }
        let _moving = lock(&self.0.share.moving);
        if directory.is_within(self) {
            return;
        }
        let new = Place { directory: directory.0.clone(), name: name.into() };
        let old = lock(&self.0.place).replace(new);
        drop(old);
    }

    /// Keeps the descriptor open from now on: the file is about to lose the name it could be found by, and somebody
    /// uses it.
    ///
    /// # Errors
    /// `ESTALE`, `ENFILE`.
    pub fn hold(&self) -> Result<()> {
        self.0.held.store(true, Ordering::Relaxed);
        self.0.descriptor().map(drop)
    }

    /// Whether this is `other` or was last seen somewhere in it. Stable while directories don't move.
    pub(super) fn is_within(&self, other: &Node) -> bool {
        let mut current = self.0.clone();
        loop {
            if Arc::ptr_eq(&current, &other.0) {
                return true;
            }
            let above = lock(&current.place).as_ref().map(|place| place.directory.clone());
            match above {
                Some(directory) => current = directory,
                None => return false,
            }
        }
    }

    /// Opens a regular file or a directory in earnest.
    ///
    /// # Errors
    /// `ENXIO` for every other kind: nothing else of the host is ever opened. `EROFS`, `EACCES`, `ENFILE`, `ESTALE`.
    pub fn open(&self, read: bool, write: bool) -> Result<OpenNode> {
        let (file, permit) = self.open_file(read, write)?;
        Ok(self.adopt(file, !write || read, write, permit))
    }

    /// The same, for who asked a helper.
    pub(super) fn open_only(&self, read: bool, write: bool) -> Result<Opened> {
        let (file, permit) = self.open_file(read, write)?;
        let status = self.0.status_by(&file, b"")?;
        Ok(Opened { file, permit, readable: !write || read, writable: write, status })
    }

    fn open_file(&self, read: bool, write: bool) -> Result<(OwnedFd, Permit)> {
        if write {
            self.check_writable()?;
        }
        let how = match (read, write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        let permit = Permit::take()?;
        Ok((self.reopen(how)?, permit))
    }

    /// Opens exactly this file, which is looked at first.
    pub(super) fn reopen(&self, how: OFlags) -> Result<OwnedFd> {
        let kind = match FileType::from_raw_mode(self.0.identity.kind) {
            FileType::RegularFile => OFlags::empty(),
            FileType::Directory => OFlags::DIRECTORY,
            _ => return Err(ENXIO),
        };
        let name = self.0.descriptor()?;
        let how = how | kind | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let number = name.as_raw_fd().to_string();
        with_room(|| rustix::fs::openat(&self.0.share.descriptors, number.as_str(), how, Mode::empty()))
    }

    /// Makes an open node of a descriptor of this file.
    pub(super) fn adopt(&self, descriptor: OwnedFd, readable: bool, writable: bool, permit: Permit) -> OpenNode {
        let descriptor = Arc::new(descriptor);
        let mut descriptors = lock(&self.0.descriptor);
        descriptors.opened.retain(|open| open.strong_count() > 0);
        descriptors.opened.push(Arc::downgrade(&descriptor));
        drop(descriptors);
        OpenNode::new(self.clone(), descriptor, readable, writable, permit)
    }

    /// Makes a regular file, which must not exist, open for reading and writing.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EACCES`, `ENOSPC`, `ENFILE`.
    pub fn create(&self, name: &[u8], new: &Ownership) -> Result<(OpenNode, Status)> {
        let made = self.create_only(name, new)?;
        let status = made.status;
        Ok((self.entry(name, &status).take_opened(made), status))
    }

    /// The same, for who asked a helper.
    pub(super) fn create_only(&self, name: &[u8], new: &Ownership) -> Result<Opened> {
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.create_file(checked(name)?, how, new)
    }

    /// Makes a regular file without a name in this directory.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EROFS`, `EACCES`, `ENOSPC`, `ENFILE`.
    pub fn create_unnamed(&self, new: &Ownership) -> Result<(OpenNode, Status)> {
        let made = self.create_unnamed_only(new)?;
        let status = made.status;
        Ok((self.unnamed(&status).take_opened(made), status))
    }

    /// The same, for who asked a helper.
    pub(super) fn create_unnamed_only(&self, new: &Ownership) -> Result<Opened> {
        self.create_file(b".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, new)
    }

    /// A node for a file that was made here without a name.
    pub fn unnamed(&self, made: &Status) -> Node {
        Node::new(self.0.share.clone(), made.identity, self.is_near(), None, Descriptors::default())
    }

    fn create_file(&self, name: &[u8], how: OFlags, new: &Ownership) -> Result<Opened> {
        self.check_writable()?;
        let permit = Permit::take()?;
        let directory = self.0.descriptor()?;
        let mode = Mode::from_raw_mode(new.permissions);
        let file = with_room(|| rustix::fs::openat2(&directory, name, how, mode, BENEATH))?;
        let status = self.finish_new(file.as_fd(), b"", new)?;
        Ok(Opened { file, permit, readable: true, writable: true, status })
    }

    /// Makes a file of another kind.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EACCES`, `ENOSPC`.
    pub fn make(&self, name: &[u8], contents: NewNode, new: &Ownership) -> Result<Status> {
        self.check_writable()?;
        let name = checked(name)?;
        let directory = self.0.descriptor()?;
        let mode = Mode::from_raw_mode(new.permissions);
        match contents {
            NewNode::Directory => rustix::fs::mkdirat(&directory, name, mode)?,
            NewNode::Symlink(text) => rustix::fs::symlinkat(text, &directory, name)?,
            NewNode::Fifo => rustix::fs::mknodat(&directory, name, FileType::Fifo, mode, 0)?,
            NewNode::Socket => rustix::fs::mknodat(&directory, name, FileType::Socket, mode, 0)?,
        }
        self.finish_new(directory.as_fd(), name, new)
    }

    /// Gives a new file its owner and exact permissions, as far as its file system has such, and tells what it came to.
    fn finish_new(&self, open: BorrowedFd<'_>, name: &[u8], new: &Ownership) -> Result<Status> {
        let made = self.0.status_by(open, name)?;
        let owner = self.0.share.owner;
        let how = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
        let mut changed = false;
        if owner.is_privileged() && (made.user, made.group) != (new.user, new.group) {
            let (user, group) = (Uid::from_raw(new.user), Gid::from_raw(new.group));
            changed |= rustix::fs::chownat(open, name, Some(user), Some(group), how).is_ok();
        }
        let is_link = made.identity.kind == FileType::Symlink.as_raw_mode();
        if !is_link && (changed || made.mode & 0o7777 != new.permissions & 0o7777) {
            changed = true;
            if name.is_empty() {
                let _ = rustix::fs::fchmod(open, Mode::from_raw_mode(new.permissions & 0o7777));
            } else {
                // By a descriptor of the file itself: fchmodat would follow a link that was put there meanwhile.
                let permissions = Some(new.permissions);
                let _ = self.entry(name, &made).change(&Change { permissions, ..Change::default() });
            }
        }
        if changed { self.0.status_by(open, name) } else { Ok(made) }
    }

    /// Gives `target` one more name, here.
    ///
    /// # Errors
    /// `EEXIST`, `EMLINK`, `EXDEV`, `EPERM`, `EROFS`.
    pub fn link(&self, name: &[u8], target: &Node) -> Result<()> {
        self.check_writable()?;
        self.check_same_share(target)?;
        let (directory, file) = (self.0.descriptor()?, target.0.descriptor()?);
        let (from, name) = (&self.0.share.descriptors, checked(name)?);
        rustix::fs::linkat(from, file.as_raw_fd().to_string(), &directory, name, AtFlags::SYMLINK_FOLLOW)?;
        target.seen_at(self, name);
        Ok(())
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EACCES`, `EPERM`, `EROFS`.
    pub fn unlink(&self, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        Ok(rustix::fs::unlinkat(&*self.0.descriptor()?, checked(name)?, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EBUSY`, `EACCES`, `EROFS`.
    pub fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        Ok(rustix::fs::unlinkat(&*self.0.descriptor()?, checked(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Moves `name` to `new_name` in `to`.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `ENOTEMPTY`, `EINVAL`, `EXDEV`, `EACCES`, `EROFS`.
    pub fn rename(&self, name: &[u8], to: &Node, new_name: &[u8], how: Rename) -> Result<()> {
        self.check_writable()?;
        self.check_same_share(to)?;
        let (name, new_name) = (checked(name)?, checked(new_name)?);
        let (from, into) = (self.0.descriptor()?, to.0.descriptor()?);
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::Keep => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        Ok(rustix::fs::renameat_with(&from, name, &into, new_name, flags)?)
    }
}
