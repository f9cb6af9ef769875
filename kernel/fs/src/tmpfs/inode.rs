//! A file of tmpfs, whatever its kind.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use abi::{Errno, Result};
use memory::{PAGE_SIZE, PageCache, Pager};
use sync::{Mutex, SpinLock};
use vfs::{
    Attributes, Caller, DeviceNumber, File, FileKind, FileLocks, Inode, Link, NewContents, NewInode, OpenRequest,
    Permissions, Pipe, RenameFlags, SetAttributes, Time, WriteDenial, XattrFlags,
};

use super::Shared;
use super::directory::Directory;
use super::xattr::{self, Xattrs};

/// What a directory's size grows by with each entry, as on Linux.
const ENTRY_SIZE: u64 = 20;

/// A file.
pub(super) struct TmpfsInode {
    pub shared: Arc<Shared>,
    number: u64,
    kind: FileKind,
    permissions: AtomicU32,
    user: AtomicU32,
    group: AtomicU32,
    links: AtomicU32,
    /// Nanoseconds since the epoch.
    accessed: AtomicI64,
    modified: AtomicI64,
    changed: AtomicI64,
    created: Time,
    pub contents: Contents,
    xattrs: SpinLock<Xattrs>,
    locks: FileLocks,
    write_denial: WriteDenial,
}

/// What is in it.
pub(super) enum Contents {
    Regular(Regular),
    Directory(SpinLock<Directory>),
    Symlink(Arc<[u8]>),
    /// The pipe is made when it is first opened, and stays.
    Fifo(SpinLock<Option<Arc<Pipe>>>),
    Socket,
    Device(DeviceNumber),
}

/// A regular file.
pub(super) struct Regular {
    pub cache: Arc<PageCache>,
    pub write_lock: Mutex<()>,
}

impl TmpfsInode {
    /// A file without a name, counted against the limit.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn new(shared: &Arc<Shared>, new: &NewInode<'_>) -> Result<Arc<TmpfsInode>> {
        shared.take_inode()?;
        let now = Time::now();
        let contents = match new.contents {
            NewContents::Regular => {
                Contents::Regular(Regular { cache: shared.new_cache(), write_lock: Mutex::new(()) })
            }
            NewContents::Directory => Contents::Directory(SpinLock::new(Directory::new(shared.seed))),
            NewContents::Symlink(text) => Contents::Symlink(text.into()),
            NewContents::Fifo => Contents::Fifo(SpinLock::new(None)),
            NewContents::Socket => Contents::Socket,
            NewContents::CharacterDevice(number) | NewContents::BlockDevice(number) => Contents::Device(number),
        };
        let kind = new.contents.kind();
        Ok(Arc::new(TmpfsInode {
            shared: shared.clone(),
            number: shared.new_number(),
            kind,
            permissions: AtomicU32::new(new.permissions & 0o7777),
            user: AtomicU32::new(new.user),
            group: AtomicU32::new(new.group),
            links: AtomicU32::new(if kind == FileKind::Directory { 2 } else { 1 }),
            accessed: AtomicI64::new(now.0),
            modified: AtomicI64::new(now.0),
            changed: AtomicI64::new(now.0),
            created: now,
            contents,
            xattrs: SpinLock::default(),
            locks: FileLocks::default(),
            write_denial: WriteDenial::default(),
        }))
    }

    pub fn kind(&self) -> FileKind {
        self.kind
    }

    pub fn directory(&self) -> Result<&SpinLock<Directory>> {
        match &self.contents {
            Contents::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub fn regular(&self) -> Result<&Regular> {
        match &self.contents {
            Contents::Regular(regular) => Ok(regular),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes one entry out of a directory of a file system that is going.
    pub fn take_entry(&self) -> Option<Arc<TmpfsInode>> {
        self.directory().ok()?.lock().pop()
    }

    /// Puts an entry taken from a directory below into this one, whatever its name.
    pub fn put_entry(&self, inode: Arc<TmpfsInode>) {
        if let Ok(directory) = self.directory() {
            directory.lock().put(inode);
        }
    }

    /// The contents changed.
    pub fn touch(&self) {
        let now = Time::now().0;
        self.modified.store(now, Ordering::Relaxed);
        self.changed.store(now, Ordering::Relaxed);
    }

    /// The attributes changed.
    fn touch_attributes(&self) {
        self.changed.store(Time::now().0, Ordering::Relaxed);
    }

    /// The contents were read, from `position` on. As with Linux's `relatime`, that is noted only when it tells
    /// something new: after a change, or a day later. The clock is asked only when reading begins at the beginning.
    pub fn touch_accessed(&self, position: u64) {
        const DAY: i64 = 86_400 * 1_000_000_000;
        let accessed = self.accessed.load(Ordering::Relaxed);
        let changed = self.modified.load(Ordering::Relaxed).max(self.changed.load(Ordering::Relaxed));
        if accessed <= changed || (position == 0 && Time::now().0.saturating_sub(accessed) >= DAY) {
            self.accessed.store(Time::now().0, Ordering::Relaxed);
        }
    }

    fn add_link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
        self.touch_attributes();
    }

    fn remove_link(&self) {
        self.links.fetch_sub(1, Ordering::Relaxed);
        self.touch_attributes();
    }

    /// A name that led here is gone. All names of a file but the first are counted as inodes.
    fn name_removed(&self) {
        if self.kind == FileKind::Directory {
            self.remove_link();
        } else if self.links.load(Ordering::Relaxed) > 1 {
            self.shared.give_inode();
        }
        self.remove_link();
    }

    /// Another inode of this file system, as vfs hands it over.
    fn same_kind_of(inode: &Arc<dyn Inode>) -> Result<Arc<TmpfsInode>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        any.downcast().map_err(|_| Errno::EXDEV)
    }

    fn size(&self) -> u64 {
        match &self.contents {
            Contents::Regular(regular) => regular.cache.size(),
            Contents::Directory(directory) => (directory.lock().len() as u64 + 2) * ENTRY_SIZE,
            Contents::Symlink(text) => text.len() as u64,
            _ => 0,
        }
    }
}

impl Drop for TmpfsInode {
    fn drop(&mut self) {
        if let Contents::Regular(regular) = &self.contents
            && regular.cache.has_backing()
        {
            // Nobody can have it any more: what is dirty need not be written.
            regular.cache.cut(0);
        }
        self.shared.give_space(self.xattrs.lock().space());
        self.shared.give_inode();
    }
}

impl Inode for TmpfsInode {
    fn attributes(&self) -> Attributes {
        let Permissions { mode, user, group } = self.permissions();
        let represented = self.device();
        let blocks = match &self.contents {
            Contents::Regular(Regular { cache, .. }) if cache.has_backing() => cache.size().div_ceil(512),
            Contents::Regular(regular) => regular.cache.resident() * (PAGE_SIZE as u64 / 512),
            _ => 0,
        };
        Attributes {
            device: 0,
            number: self.number,
            mode,
            links: self.links.load(Ordering::Relaxed),
            user,
            group,
            represented,
            size: self.size(),
            block_size: PAGE_SIZE as u32,
            blocks,
            accessed: Time(self.accessed.load(Ordering::Relaxed)),
            modified: Time(self.modified.load(Ordering::Relaxed)),
            changed: Time(self.changed.load(Ordering::Relaxed)),
            created: Some(self.created),
        }
    }

    #[inline]
    fn permissions(&self) -> Permissions {
        Permissions {
            mode: self.kind.mode() | self.permissions.load(Ordering::Relaxed),
            user: self.user.load(Ordering::Relaxed),
            group: self.group.load(Ordering::Relaxed),
        }
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(self)
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        if let Some(size) = changes.size {
            self.regular()?.cache.cut(size);
            self.touch();
        }
        if let Some(permissions) = changes.permissions {
            self.permissions.store(permissions & 0o7777, Ordering::Relaxed);
        }
        let set = |place: &AtomicU32, value: Option<u32>| value.map(|value| place.store(value, Ordering::Relaxed));
        set(&self.user, changes.user);
        set(&self.group, changes.group);
        let set = |place: &AtomicI64, value: Option<Time>| value.map(|value| place.store(value.0, Ordering::Relaxed));
        set(&self.accessed, changes.accessed);
        set(&self.modified, changes.modified);
        self.touch_attributes();
        Ok(())
    }

    fn mapped(&self) -> Option<Arc<dyn Pager>> {
        Some(self.regular().ok()?.cache.clone())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match self.directory()?.lock().find(name) {
            Some(inode) => Ok(inode.clone()),
            None => Err(Errno::ENOENT),
        }
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let directory = self.directory()?;
        let inode = TmpfsInode::new(&self.shared, new)?;
        directory.lock().insert(name, inode.clone())?;
        if inode.kind == FileKind::Directory {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        self.touch();
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let inode = TmpfsInode::new(&self.shared, new)?;
        inode.links.store(0, Ordering::Relaxed);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let directory = self.directory()?;
        let target = TmpfsInode::same_kind_of(target)?;
        let links = target.links.load(Ordering::Relaxed);
        if links == u32::MAX {
            return Err(Errno::EMLINK);
        }
        if links > 0 {
            self.shared.take_inode()?;
        }
        let entered = directory.lock().insert(name, target.clone());
        if entered.is_err() {
            if links > 0 {
                self.shared.give_inode();
            }
            return entered;
        }
        target.add_link();
        self.touch();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let removed = self.directory()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        removed.name_removed();
        self.touch();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let directory = self.directory()?;
        let victim = directory.lock().find(name).cloned().ok_or(Errno::ENOENT)?;
        if victim.directory()?.lock().len() != 0 {
            return Err(Errno::ENOTEMPTY);
        }
        directory.lock().remove(name);
        victim.name_removed();
        self.links.fetch_sub(1, Ordering::Relaxed);
        self.touch();
        Ok(())
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Result<()> {
        let new_parent = TmpfsInode::same_kind_of(new_directory)?;
        let (from, to) = (self.directory()?, new_parent.directory()?);
        let moved = from.lock().find(name).cloned().ok_or(Errno::ENOENT)?;
        let target = to.lock().find(new_name).cloned();
        let is_directory = |inode: &TmpfsInode| inode.kind == FileKind::Directory;
        if flags.contains(RenameFlags::EXCHANGE) {
            let target = target.ok_or(Errno::ENOENT)?;
            from.lock().replace(name, target.clone());
            to.lock().replace(new_name, moved.clone());
            self.move_parent_link(&new_parent, is_directory(&moved));
            new_parent.move_parent_link(self, is_directory(&target));
            target.touch_attributes();
        } else {
            if let Some(target) = &target {
                if is_directory(target) && target.directory()?.lock().len() != 0 {
                    return Err(Errno::ENOTEMPTY);
                }
                to.lock().replace(new_name, moved.clone());
                target.name_removed();
                if is_directory(target) {
                    new_parent.links.fetch_sub(1, Ordering::Relaxed);
                }
            } else {
                to.lock().insert(new_name, moved.clone())?;
            }
            from.lock().remove(name);
            self.move_parent_link(&new_parent, is_directory(&moved));
        }
        moved.touch_attributes();
        self.touch();
        new_parent.touch();
        Ok(())
    }

    fn read_link(&self, _: &dyn Caller) -> Result<Link> {
        match &self.contents {
            Contents::Symlink(text) => Ok(Link::Text(text.clone())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn device(&self) -> DeviceNumber {
        match &self.contents {
            Contents::Device(number) => *number,
            _ => DeviceNumber::default(),
        }
    }

    fn fifo(self: Arc<Self>) -> Result<Arc<Pipe>> {
        let Contents::Fifo(pipe) = &self.contents else { return Err(Errno::ENXIO) };
        Ok(pipe.lock().get_or_insert_with(|| Pipe::new(self.number, self.permissions())).clone())
    }

    fn write_denial(&self) -> Option<&WriteDenial> {
        Some(&self.write_denial)
    }

    fn write_lock(&self) -> Option<&Mutex<()>> {
        self.regular().ok().map(|regular| &regular.write_lock)
    }

    fn locks(&self) -> Option<&FileLocks> {
        Some(&self.locks)
    }

    fn xattr(&self, name: &[u8]) -> Result<Box<[u8]>> {
        self.xattrs.lock().get(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let space = xattr::space(name, value);
        self.shared.take_space(space)?;
        let set = self.xattrs.lock().set(name, value, flags);
        self.shared.give_space(*set.as_ref().unwrap_or(&space));
        set?;
        self.touch_attributes();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let space = self.xattrs.lock().remove(name)?;
        self.shared.give_space(space);
        self.touch_attributes();
        Ok(())
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.xattrs.lock().list()
    }
}

impl TmpfsInode {
    /// The `..` of a directory that moves now counts as a link of another directory.
    fn move_parent_link(&self, new_parent: &TmpfsInode, is_directory: bool) {
        if is_directory {
            self.links.fetch_sub(1, Ordering::Relaxed);
            new_parent.links.fetch_add(1, Ordering::Relaxed);
        }
    }
}
