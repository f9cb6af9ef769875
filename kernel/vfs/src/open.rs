//! Opening files: open(2), and opening programs for execve(2).

use alloc::sync::Arc;

use abi::fallible::try_format;
use abi::raw::general as raw;
use abi::{Errno, Result};
use bitflags::bitflags;

use crate::change::may_add;
use crate::contents::WriteAccess;
use crate::credentials::Access;
use crate::device::DeviceClass;
use crate::fifo::FifoOpening;
use crate::file::File;
use crate::inode::{FileKind, Inode, NewContents, OpenRequest};
use crate::mount::{MountFlags, Path};
use crate::open_file::{OpenFile, Origin};
use crate::paused_walk::Wait;
use crate::truncate::Truncation;
use crate::walk::{Component, Context, Last, Lookup, Takes, Walk, unless_stale};

bitflags! {
    /// The flags of open(2). What Linux ignores is dropped by [`OpenFlags::from_bits_truncate`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// `O_WRONLY`
        const WRITE_ONLY = raw::O_WRONLY;
        /// `O_RDWR`
        const READ_WRITE = raw::O_RDWR;
        /// `O_CREAT`
        const CREATE = raw::O_CREAT;
        /// `O_EXCL`
        const EXCLUSIVE = raw::O_EXCL;
        /// `O_NOCTTY`
        const NO_CONTROLLING_TERMINAL = raw::O_NOCTTY;
        /// `O_TRUNC`
        const TRUNCATE = raw::O_TRUNC;
        /// `O_APPEND`
        const APPEND = raw::O_APPEND;
        /// `O_NONBLOCK`
        const NON_BLOCK = raw::O_NONBLOCK;
        /// `O_DSYNC`
        const DATA_SYNC = raw::O_DSYNC;
        /// `O_ASYNC`
        const ASYNC = raw::FASYNC;
        /// `O_DIRECT`
        const DIRECT = raw::O_DIRECT;
        /// `O_LARGEFILE`: set for every file of a 64-bit program
        const LARGE_FILE = raw::O_LARGEFILE;
        /// `O_DIRECTORY`
        const DIRECTORY = raw::O_DIRECTORY;
        /// `O_NOFOLLOW`
        const NO_FOLLOW = raw::O_NOFOLLOW;
        /// `O_NOATIME`
        const NO_ACCESS_TIME = raw::O_NOATIME;
        /// `O_CLOEXEC`
        const CLOSE_ON_EXEC = raw::O_CLOEXEC;
        /// `__O_SYNC`, the half of `O_SYNC` that is not `O_DSYNC`
        const SYNC = 0o4_000_000;
        /// `O_PATH`
        const PATH = raw::O_PATH;
        /// `__O_TMPFILE`, the half of `O_TMPFILE` that is not `O_DIRECTORY`
        const UNNAMED = 0o20_000_000;
    }
}

impl OpenFlags {
    /// The two bits of the access mode.
    const ACCESS_MODE: OpenFlags = OpenFlags::WRITE_ONLY.union(OpenFlags::READ_WRITE);
    /// What fcntl(F_SETFL) changes, besides `O_ASYNC`.
    pub const CHANGEABLE: OpenFlags =
        OpenFlags::APPEND.union(OpenFlags::NON_BLOCK).union(OpenFlags::DIRECT).union(OpenFlags::NO_ACCESS_TIME);
    /// What has no meaning once a file is open, and is forgotten.
    const FORGOTTEN: OpenFlags = OpenFlags::CREATE
        .union(OpenFlags::EXCLUSIVE)
        .union(OpenFlags::NO_CONTROLLING_TERMINAL)
        .union(OpenFlags::TRUNCATE)
        // The descriptor remembers it.
        .union(OpenFlags::CLOSE_ON_EXEC);
    /// What `O_PATH` leaves of the others.
    const WITH_PATH: OpenFlags =
        OpenFlags::PATH.union(OpenFlags::DIRECTORY).union(OpenFlags::NO_FOLLOW).union(OpenFlags::CLOSE_ON_EXEC);

    /// Whether the file can be read.
    #[inline]
    pub fn readable(self) -> bool {
        matches!(self & Self::ACCESS_MODE, mode if mode.is_empty() || mode == Self::READ_WRITE)
            && !self.contains(Self::PATH)
    }

    /// Whether the file can be written.
    #[inline]
    pub fn writable(self) -> bool {
        matches!(self & Self::ACCESS_MODE, mode if mode == Self::WRITE_ONLY || mode == Self::READ_WRITE)
    }

    /// What permission opening needs. The access mode 3, for ioctls only, needs both and gives neither.
    fn wanted(self) -> Access {
        let access = match self & Self::ACCESS_MODE {
            mode if mode.is_empty() => Access::READ,
            mode if mode == Self::WRITE_ONLY => Access::WRITE,
            _ => Access::READ | Access::WRITE,
        };
        if self.contains(Self::TRUNCATE) { access | Access::WRITE } else { access }
    }

    /// Applies the rules that concern flags alone.
    fn normalise(self) -> Result<OpenFlags> {
        if self.contains(OpenFlags::PATH) {
            return Ok(self & Self::WITH_PATH);
        }
        if self.contains(OpenFlags::UNNAMED) {
            if !self.contains(OpenFlags::DIRECTORY) || self.contains(OpenFlags::CREATE) || !self.writable() {
                return Err(Errno::EINVAL);
            }
        } else if self.contains(OpenFlags::CREATE | OpenFlags::DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        Ok(self | OpenFlags::LARGE_FILE)
    }

    /// What an open file keeps.
    fn kept(self) -> OpenFlags {
        self - Self::FORGOTTEN
    }
}

/// What opening came to.
pub enum Opening {
    /// It is open.
    Done(Arc<OpenFile>),
    /// A FIFO, whose other side may have to be waited for.
    Fifo(FifoOpening),
    /// It is to be emptied, and somebody is writing it.
    Busy(Arc<OpenFile>, Truncation),
}

impl Opening {
    /// Waits for the other side of a FIFO, or for who writes, if need be. Of a FIFO it is cancel-safe: dropping it leaves the file as
    /// it was.
    ///
    /// # Errors
    /// `ENXIO` for a FIFO nobody reads, opened for writing with `O_NONBLOCK`.
    pub async fn complete(self) -> Result<Arc<OpenFile>> {
        match self {
            Opening::Done(file) => Ok(file),
            Opening::Fifo(fifo) => fifo.complete().await,
            Opening::Busy(file, truncation) => {
                truncation.begin().await?.finish().await?;
                Ok(file)
            }
        }
    }
}

impl Context<'_> {
    /// Opens `name`, making it with permissions `mode` where `O_CREAT` says so.
    ///
    /// # Errors
    /// open(2).
    pub fn open(&self, start: &Path, name: &[u8], flags: OpenFlags, mode: u32) -> Result<Opening> {
        unless_stale(self.caller, || self.open_once(start, name, flags, mode))
    }

    fn open_once(&self, start: &Path, name: &[u8], flags: OpenFlags, mode: u32) -> Result<Opening> {
        let flags = flags.normalise()?;
        if name.is_empty() {
            return Err(Errno::ENOENT);
        }
        if flags.intersects(OpenFlags::CREATE | OpenFlags::UNNAMED)
            && let Some(made) = self.take_changed()
        {
            return self.open_created(made?.ok_or(Errno::ENOENT)?, flags);
        }
        if flags.contains(OpenFlags::UNNAMED) {
            return self.open_unnamed(start, name, flags, mode);
        }
        let mut walk = Walk::new(self, start, name, Takes::Last);
        walk.begin()?;
        if flags.contains(OpenFlags::CREATE) {
            if let Some(path) = self.walk_and_create(&mut walk, flags, mode)? {
                return self.open_created(path, flags);
            }
        } else {
            walk.walk_to_end(!flags.contains(OpenFlags::NO_FOLLOW))?;
        }
        if walk.trailing_slash() && !walk.dentry().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.open_path(walk.into_path(), flags)
    }

    /// Walks to a file, and makes it if it is not there: then it is returned.
    fn walk_and_create(&self, walk: &mut Walk<'_, '_>, flags: OpenFlags, mode: u32) -> Result<Option<Path>> {
        let mut last = walk.walk_to_last()?;
        loop {
            let Last::Name(component) = last else { return Err(Errno::EISDIR) };
            if walk.trailing_slash() {
                return Err(Errno::EISDIR);
            }
            let found = match walk.lookup_to_create(component) {
                Err(Errno::ENOENT) => match self.create_at(walk, component, mode)? {
                    (path, true) => return Ok(Some(path)),
                    (path, false) => path.dentry,
                },
                found => found?,
            };
            if flags.contains(OpenFlags::EXCLUSIVE) {
                return Err(Errno::EEXIST);
            }
            if found.kind() != FileKind::Symlink || flags.contains(OpenFlags::NO_FOLLOW) {
                walk.enter(found);
                return Ok(None);
            }
            match walk.follow_last(&found)? {
                Some(next) => last = next,
                None => return Ok(None),
            }
        }
    }

    /// Makes a regular file where the walk stands. `false`: somebody else was faster.
    fn create_at(&self, walk: &Walk<'_, '_>, component: Component, mode: u32) -> Result<(Path, bool)> {
        let (directory, hash, name) = (walk.dentry(), component.hash, walk.name(component));
        let _locks = self.locks(directory);
        self.hold(directory, None)?;
        let mut children = directory.lock();
        let (dentry, created) = match directory.lookup_locked(self.caller, &mut children, hash, name) {
            Ok(dentry) => (dentry, false),
            Err(Errno::ENOENT) if directory.inode().takes_names() => {
                walk.mount().check_writable()?;
                may_add(directory, &children, self.credentials)?;
                let new = self.new_inode(directory.inode().permissions(), mode & 0o7777, NewContents::Regular);
                (self.make_locked((walk.mount(), directory), &mut children, hash, name, &new)?, true)
            }
            Err(errno) => return Err(errno),
        };
        drop(children);
        Ok((Path { mount: walk.mount().clone(), dentry }, created))
    }

    /// `O_TMPFILE`: a file without a name in the directory `name`.
    fn open_unnamed(&self, start: &Path, name: &[u8], flags: OpenFlags, mode: u32) -> Result<Opening> {
        let directory = self.lookup(start, name, Lookup::FOLLOW | Lookup::DIRECTORY)?;
        directory.mount.check_writable()?;
        self.credentials.check(directory.inode().permissions(), Access::WRITE | Access::EXECUTE)?;
        let new = self.new_inode(directory.inode().permissions(), mode & 0o7777, NewContents::Regular);
        if let Some((waiting, _)) = directory.dentry.waiting() {
            let made = waiting.create_unnamed(&new);
            let mount = directory.mount.clone();
            return Err(self.wait_for_change(&mount, async move { unnamed(directory, made.await?).map(Some) }));
        }
        let inode = directory.inode().create_unnamed(&new)?;
        self.open_created(unnamed(directory, inode)?, flags)
    }

    /// Opens a file that was just made: its mode says what others may do, not its maker.
    fn open_created(&self, path: Path, flags: OpenFlags) -> Result<Opening> {
        self.open_checked(path, flags - OpenFlags::TRUNCATE)
    }

    /// Opens a file that was found.
    ///
    /// # Errors
    /// open(2).
    pub fn open_path(&self, path: Path, flags: OpenFlags) -> Result<Opening> {
        let kind = path.dentry.kind();
        if kind == FileKind::Directory && flags.contains(OpenFlags::CREATE) {
            return Err(Errno::EISDIR);
        }
        if flags.contains(OpenFlags::DIRECTORY) && kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if flags.contains(OpenFlags::PATH) {
            return Ok(Opening::Done(OpenFile::of_path(path, flags.kept())));
        }
        let mut flags = flags;
        match kind {
            FileKind::Symlink => return Err(Errno::ELOOP),
            FileKind::Directory if flags.wanted().contains(Access::WRITE) => return Err(Errno::EISDIR),
            FileKind::CharacterDevice | FileKind::BlockDevice
                if path.mount.flags().contains(MountFlags::NO_DEVICES) =>
            {
                return Err(Errno::EACCES);
            }
            FileKind::Regular | FileKind::Directory => {}
            // Only regular files have a length to cut.
            _ => flags -= OpenFlags::TRUNCATE,
        }
        self.check_access(&path, flags.wanted())?;
        if flags.contains(OpenFlags::NO_ACCESS_TIME) && !self.credentials.owns(path.inode().permissions()) {
            return Err(Errno::EPERM);
        }
        self.open_checked(path, flags)
    }

    /// Opens a file whose permissions need no further look.
    fn open_checked(&self, path: Path, flags: OpenFlags) -> Result<Opening> {
        let request = OpenRequest { flags, caller: self.caller };
        let changes = flags.writable() || flags.contains(OpenFlags::TRUNCATE);
        let claim = if changes { WriteAccess::get(path.inode())? } else { None };
        let file: Arc<dyn File> = match path.dentry.kind() {
            FileKind::Fifo => match path.inode().clone().fifo() {
                Ok(pipe) => return Ok(Opening::Fifo(FifoOpening::new(pipe, Origin::Path(path), flags.kept()))),
                // A pipe that is not the kernel's own: its other end is outside the machine.
                Err(Errno::ENXIO) => self.open_inode(&path, &request)?,
                Err(errno) => return Err(errno),
            },
            FileKind::CharacterDevice => self.open_device(DeviceClass::Character, &path, &request)?,
            FileKind::BlockDevice => self.open_device(DeviceClass::Block, &path, &request)?,
            FileKind::Socket => return Err(Errno::ENXIO),
            _ => self.open_inode(&path, &request)?,
        };
        let truncates = flags.contains(OpenFlags::TRUNCATE);
        let truncation = truncates.then(|| Truncation::new(path.inode(), 0, None, self.caller)).transpose()?;
        let done = truncation.as_ref().map_or(Some(Ok(())), Truncation::try_now).transpose()?.is_some();
        let claim = claim.filter(|_| flags.writable());
        let file = OpenFile::claimed(file, Origin::Path(path), flags.kept(), claim);
        Ok(match truncation {
            Some(truncation) if !done => Opening::Busy(file, truncation),
            _ => Opening::Done(file),
        })
    }

    /// Opens what is there, at once or when that was waited for.
    #[inline]
    fn open_inode(&self, path: &Path, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        if path.dentry.is_elsewhere() {
            self.open_inode_elsewhere(path.inode(), request)
        } else {
            path.inode().clone().open(request)
        }
    }

    #[cold]
    fn open_inode_elsewhere(&self, inode: &Arc<dyn Inode>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let Some(walks) = self.caller.paused_walks() else { return inode.clone().open(request) };
        if let Some(opened) = walks.take_opened(inode) {
            return opened;
        }
        match inode.open_elsewhere(request.flags) {
            None => inode.clone().open(request),
            Some(opening) => Err(walks.wait_for(Wait::Open(inode.clone(), opening), None)),
        }
    }

    fn open_device(&self, class: DeviceClass, path: &Path, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        self.caller.vfs().devices.open(class, path.inode().device(), request)
    }

    /// Opens a program for execve(2). Nobody writes it as long as it is open or mapped.
    ///
    /// # Errors
    /// `ETXTBSY` when somebody does; `EACCES` when it is no regular file, may not be executed, or lies on a `noexec` mount; those of path resolution.
    pub fn open_program(&self, start: &Path, name: &[u8], how: Lookup) -> Result<Arc<OpenFile>> {
        unless_stale(self.caller, || self.open_program_once(start, name, how))
    }

    fn open_program_once(&self, start: &Path, name: &[u8], how: Lookup) -> Result<Arc<OpenFile>> {
        let path = self.lookup(start, name, how)?;
        if path.dentry.kind() == FileKind::Symlink {
            return Err(Errno::ELOOP);
        }
        if path.dentry.kind() != FileKind::Regular {
            return Err(Errno::EACCES);
        }
        self.check_access(&path, Access::EXECUTE)?;
        let flags = OpenFlags::LARGE_FILE;
        let claim = WriteAccess::deny(path.inode())?;
        let file = self.open_inode(&path, &OpenRequest { flags, caller: self.caller })?;
        Ok(OpenFile::claimed(file, Origin::Path(path), flags, claim))
    }
}

/// Where a file without a name is, that was made in `directory`.
fn unnamed(directory: Path, inode: Arc<dyn Inode>) -> Result<Path> {
    let name = try_format(format_args!("#{}", inode.number()))?;
    let dentry = directory.dentry.unnamed(inode, name.as_bytes())?;
    Ok(Path { mount: directory.mount, dentry })
}
