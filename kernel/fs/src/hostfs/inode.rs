//! A file of the host, whatever its kind.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::fallible::{try_collect, try_to_box, try_to_vec};
use abi::{Errno, Result};
use machine::folder::{Change, MustBe, NewNode, Node, Ownership, Rename, Status};
use sync::SpinLock;
use vfs::{
    Attributes, Caller, DeviceNumber, File, FileKind, FileLocks, Inode, Link, NewContents, NewInode, OpenFlags,
    OpenRequest, Pending, Permissions, Pipe, RenameFlags, SetAttributes, Time, WaitingDirectory, WriteDenial,
    XattrFlags,
};

use super::calls::HostCalls;
use super::contents::HostContents;
use super::directory::HostDirectory;
use super::file::HostFile;
use super::{Shared, errno};

/// The extended attributes guests see: the others mean something to the host.
const XATTRS: &[u8] = b"user.";

/// A file of the host.
pub(super) struct HostInode {
    this: Weak<HostInode>,
    pub(super) shared: Arc<Shared>,
    node: Node,
    pub(super) kind: FileKind,
    /// As last seen, for permission checks.
    mode: AtomicU32,
    user: AtomicU32,
    group: AtomicU32,
    /// As last seen, for when the file can't be seen any more.
    last: SpinLock<Status>,
    pub(super) contents: Contents,
    /// What a link that is far leads to.
    link: SpinLock<Option<Arc<[u8]>>>,
    locks: FileLocks,
    write_denial: WriteDenial,
}

/// What the guest adds to it.
pub(super) enum Contents {
    Regular(Arc<HostContents>),
    /// The pipe is made when it is first opened, and stays.
    Fifo(SpinLock<Option<Arc<Pipe>>>),
    Other,
}

impl HostInode {
    pub fn new(this: &Weak<HostInode>, shared: &Arc<Shared>, node: Node, found: &Status) -> HostInode {
        // The host has no kinds beyond these seven; what it may invent can't be opened.
        let kind = FileKind::of_mode(found.mode).unwrap_or(FileKind::Socket);
        let contents = match kind {
            FileKind::Regular => {
                Contents::Regular(Arc::new(HostContents::new(&shared.pages, &shared.flusher, &shared.calls)))
            }
            FileKind::Fifo => Contents::Fifo(SpinLock::new(None)),
            _ => Contents::Other,
        };
        if let Contents::Regular(contents) = &contents {
            contents.note_length(found.size);
        }
        HostInode {
            this: this.clone(),
            shared: shared.clone(),
            node,
            kind,
            mode: AtomicU32::new(found.mode),
            user: AtomicU32::new(found.user),
            group: AtomicU32::new(found.group),
            last: SpinLock::new(*found),
            contents,
            link: SpinLock::new(None),
            locks: FileLocks::default(),
            write_denial: WriteDenial::default(),
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn calls(&self) -> &Arc<HostCalls> {
        &self.shared.calls
    }

    /// Takes in how the file looks now.
    pub fn note(&self, found: &Status) {
        self.mode.store(found.mode, Ordering::Relaxed);
        self.user.store(found.user, Ordering::Relaxed);
        self.group.store(found.group, Ordering::Relaxed);
        *self.last.lock() = *found;
    }

    /// This inode as its own.
    pub fn own(&self) -> Result<Arc<HostInode>> {
        self.this.upgrade().ok_or(Errno::ESTALE)
    }

    /// Whether what concerns it has to be waited for.
    pub fn is_far(&self) -> bool {
        self.shared.calls.is_far(&self.node)
    }

    /// What is done at once is done only of near files.
    fn be_near(&self) -> Result<()> {
        if self.is_far() { Err(Errno::ERESTART) } else { Ok(()) }
    }

    /// Takes in how a far file looks, as a helper has seen it.
    pub fn note_far(&self, found: &Status, link: Option<Vec<u8>>) {
        self.note(found);
        if let Contents::Regular(contents) = &self.contents {
            contents.note_length(found.size);
            contents.notice_size(found.size);
        }
        if let Some(link) = link {
            self.link.lock().get_or_insert_with(|| link.into());
        }
    }

    /// The file can't be seen any more.
    pub fn note_gone(&self) {
        self.last.lock().links = 0;
    }

    /// How the file looks now, or when a far one was looked at last; if it can't be seen any more, as it was, without a name.
    pub fn status(&self) -> Status {
        if self.is_far() {
            let last = *self.last.lock();
            return match &self.contents {
                Contents::Regular(contents) => Status { size: contents.length(), ..last },
                _ => last,
            };
        }
        match self.node.status() {
            Ok(found) => {
                self.note(&found);
                if let Contents::Regular(contents) = &self.contents {
                    contents.notice_size(found.size);
                }
                found
            }
            Err(_) => Status { links: 0, ..*self.last.lock() },
        }
    }

    /// The kind of an entry, where the directory itself doesn't say.
    pub fn kind_of(&self, name: &[u8]) -> Option<FileKind> {
        FileKind::of_mode(self.node.look(name).ok()?.mode)
    }

    /// Another inode of a shared folder, as vfs hands it over.
    pub(super) fn same_kind_of(inode: &Arc<dyn Inode>) -> Result<Arc<HostInode>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        any.downcast().map_err(|_| Errno::EXDEV)
    }

    /// The inode `name` leads to, if it is in use.
    fn used_entry(&self, name: &[u8]) -> Option<Arc<HostInode>> {
        self.shared.known(&self.node.look(name).ok()?.identity)
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        self.shared.forget(&self.node.identity());
    }
}

impl Inode for HostInode {
    fn attributes(&self) -> Attributes {
        let status = self.status();
        Attributes {
            device: 0,
            number: self.number(),
            mode: status.mode,
            links: status.links,
            user: status.user,
            group: status.group,
            represented: self.device(),
            size: status.size,
            block_size: status.block_size,
            blocks: status.blocks,
            accessed: Time(status.accessed),
            modified: Time(status.modified),
            changed: Time(status.changed),
            created: status.identity.created.map(Time),
        }
    }

    #[inline]
    fn permissions(&self) -> Permissions {
        Permissions {
            mode: self.mode.load(Ordering::Relaxed),
            user: self.user.load(Ordering::Relaxed),
            group: self.group.load(Ordering::Relaxed),
        }
    }

    fn number(&self) -> u64 {
        self.shared.number(&self.node.identity())
    }

    fn open_elsewhere(&self, flags: OpenFlags) -> Option<Pending<Arc<dyn File>>> {
        self.open_far(flags)
    }

    fn look_again(&self) -> Option<Pending<()>> {
        self.look_far()
    }

    fn set_attributes_elsewhere(self: Arc<Self>, changes: SetAttributes) -> Pending<()> {
        Box::pin(async move { self.change_later(changes).await })
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn waiting(&self) -> Option<&dyn WaitingDirectory> {
        if self.is_far() { Some(self) } else { None }
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let (read, write) = (request.flags.readable(), request.flags.writable());
        match &self.contents {
            Contents::Regular(contents) => {
                let fresh = self.shared.take_fresh(&self.node.identity());
                let open = contents.open(read, write, || match fresh {
                    Some(fresh) => Ok(fresh),
                    None => self.node.open(read, write).map_err(errno),
                })?;
                let contents = contents.clone();
                Ok(Arc::new(HostFile::new(self, contents, open, request.flags)))
            }
            _ if self.kind == FileKind::Directory => {
                let open = self.node.open(true, false).map_err(errno)?;
                Ok(Arc::new(HostDirectory::new(self, open)))
            }
            _ => Err(Errno::ENXIO),
        }
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        if self.is_far() {
            return Err(Errno::ERESTART);
        }
        let mut change = as_change(changes);
        if let (Some(size), Contents::Regular(contents)) = (changes.size, &self.contents) {
            contents.set_size(size, || self.node.change(&Change { size: Some(size), ..Change::default() }))?;
            change.size = None;
        }
        let result = self.node.change(&change).map_err(errno);
        self.status();
        result
    }

    fn changes_outside(&self) -> bool {
        true
    }

    fn leads_to(&self, name: &[u8], entry: &Arc<dyn Inode>) -> bool {
        let (Ok(entry), Ok(found)) = (HostInode::same_kind_of(entry), self.node.look(name)) else { return false };
        let same = found.identity == entry.node.identity();
        if same {
            entry.note(&found);
        }
        same
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let found = self.node.look(name).map_err(errno)?;
        let inode = self.shared.inode(&found, || self.node.entry(name, &found));
        inode.node.seen_at(&self.node, name);
        Ok(inode)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let owner = ownership(new);
        let Some(contents) = new_node(new)? else {
            let (open, found) = self.node.create(name, &owner).map_err(errno)?;
            let inode = self.shared.inode(&found, || open.node().clone());
            self.shared.keep_fresh(open);
            return Ok(inode);
        };
        let found = self.node.make(name, contents, &owner).map_err(errno)?;
        Ok(self.shared.inode(&found, || self.node.entry(name, &found)))
    }

    fn create_unnamed(&self, new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let (open, found) = self.node.create_unnamed(&ownership(new)).map_err(errno)?;
        let inode = self.shared.inode(&found, || open.node().clone());
        self.shared.keep_fresh(open);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = HostInode::same_kind_of(target)?;
        // Another file system, whatever that says.
        if target.is_far() {
            return Err(Errno::EXDEV);
        }
        self.node.link(name, &target.node).map_err(errno)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.node.unlink(name).map_err(errno)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        // It may be somebody's working directory: then it can still be looked at, empty as it is.
        if let Some(removed) = self.used_entry(name) {
            let _ = removed.node.hold();
        }
        self.node.rmdir(name).map_err(errno)
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Result<()> {
        let to = HostInode::same_kind_of(new_directory)?;
        let how = rename_as(flags);
        let moved = self.used_entry(name);
        let other = if how == Rename::Exchange { to.used_entry(new_name) } else { None };
        self.node.rename(name, &to.node, new_name, how).map_err(errno)?;
        if let Some(moved) = moved {
            moved.node.seen_at(&to.node, new_name);
        }
        if let Some(other) = other {
            other.node.seen_at(&self.node, name);
        }
        Ok(())
    }

    fn read_link(&self, _: &dyn Caller) -> Result<Link> {
        if let Some(link) = self.link.lock().clone() {
            return Ok(Link::Text(link));
        }
        Ok(Link::Text(self.node.read_link().map_err(errno)?.into()))
    }

    fn device(&self) -> DeviceNumber {
        let (major, minor) = self.last.lock().represented;
        DeviceNumber { major, minor }
    }

    fn fifo(self: Arc<Self>) -> Result<Arc<Pipe>> {
        let Contents::Fifo(pipe) = &self.contents else { return Err(Errno::ENXIO) };
        Ok(pipe.lock().get_or_insert_with(|| Pipe::new(self.number(), self.permissions())).clone())
    }

    fn locks(&self) -> Option<&FileLocks> {
        Some(&self.locks)
    }

    fn write_denial(&self) -> Option<&WriteDenial> {
        Some(&self.write_denial)
    }

    fn xattr(&self, name: &[u8]) -> Result<Box<[u8]>> {
        check_xattr(name)?;
        self.be_near()?;
        try_to_box(&self.node.xattr(name).map_err(errno)?)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        check_xattr(name)?;
        self.be_near()?;
        self.node.set_xattr(name, value, must_be(flags)).map_err(errno)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        check_xattr(name)?;
        self.be_near()?;
        self.node.remove_xattr(name).map_err(errno)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        if !matches!(self.kind, FileKind::Regular | FileKind::Directory) {
            return Ok(Vec::new());
        }
        self.be_near()?;
        shown_xattrs(&self.node.xattrs().map_err(errno)?)
    }

    fn xattrs_elsewhere(self: Arc<Self>, name: Option<Vec<u8>>) -> Pending<Vec<u8>> {
        Box::pin(async move { self.xattrs_later(name).await })
    }

    fn change_xattr_elsewhere(self: Arc<Self>, name: Vec<u8>, value: Option<(Vec<u8>, XattrFlags)>) -> Pending<()> {
        Box::pin(async move { self.change_xattr_later(name, value).await })
    }
}

/// The names of those extended attributes that a guest is shown.
pub(super) fn shown_xattrs(all: &[u8]) -> Result<Vec<u8>> {
    let shown = all.split_inclusive(|byte| *byte == 0).filter(|name| name.starts_with(XATTRS));
    try_collect(shown.flatten().copied())
}

pub(super) fn must_be(flags: XattrFlags) -> MustBe {
    MustBe { new: flags.contains(XattrFlags::CREATE), old: flags.contains(XattrFlags::REPLACE) }
}

pub(super) fn as_change(changes: &SetAttributes) -> Change {
    Change {
        size: changes.size,
        user: changes.user,
        group: changes.group,
        permissions: changes.permissions,
        accessed: changes.accessed.map(|time| time.0),
        modified: changes.modified.map(|time| time.0),
    }
}

/// What is to be made; none is a regular file.
pub(super) fn new_node(new: &NewInode<'_>) -> Result<Option<NewNode>> {
    Ok(Some(match new.contents {
        NewContents::Regular => return Ok(None),
        NewContents::Directory => NewNode::Directory,
        NewContents::Symlink(text) => NewNode::Symlink(try_to_vec(text)?),
        NewContents::Fifo => NewNode::Fifo,
        NewContents::Socket => NewNode::Socket,
        NewContents::CharacterDevice(_) | NewContents::BlockDevice(_) => return Err(Errno::EPERM),
    }))
}

pub(super) fn rename_as(flags: RenameFlags) -> Rename {
    match flags {
        flags if flags.contains(RenameFlags::EXCHANGE) => Rename::Exchange,
        flags if flags.contains(RenameFlags::NO_REPLACE) => Rename::Keep,
        _ => Rename::Replace,
    }
}

pub(super) fn ownership(new: &NewInode<'_>) -> Ownership {
    Ownership { permissions: new.permissions & 0o7777, user: new.user, group: new.group }
}

fn check_xattr(name: &[u8]) -> Result<()> {
    if name.starts_with(XATTRS) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}
