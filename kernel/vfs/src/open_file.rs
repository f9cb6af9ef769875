//! Open file descriptions: what descriptors share after dup(2) and fork(2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use memory::{FileIdentity, MappedFile, Pager, PagerError, Search};
use sync::{Mutex, SpinLock, yield_now};

use crate::Access;
use crate::attributes::look_again;
use crate::caller::Caller;
use crate::contents::{WriteAccess, check_length, new_permissions};
use crate::directory::{DirectoryEntry, DirectorySink};
use crate::file::{AllocateMode, File, FileTraits, NotReady, Whence};
use crate::inode::{Attributes, DeviceNumber, FileKind, Inode, SetAttributes};
use crate::locks::LockOwner;
use crate::mount::{MountFlags, Path};
use crate::open::OpenFlags;
use crate::signal_io::{FileOwner, SignalIo};
use crate::truncate::{Truncation, exclude};

/// The file an [`OpenFile`] is of.
#[derive(Clone)]
pub enum Origin {
    /// It has a name.
    Path(Path),
    /// It never had one: pipes, eventfds.
    Anonymous(Arc<dyn Inode>),
}

impl Origin {
    /// The file.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        match self {
            Origin::Path(path) => path.inode(),
            Origin::Anonymous(inode) => inode,
        }
    }
}

/// An open file description, see open(2): a file, how it was opened, and the position in it.
pub struct OpenFile {
    /// Before the file, whose queue it stands in.
    signal_io: SpinLock<Option<Box<SignalIo>>>,
    file: Arc<dyn File>,
    origin: Origin,
    traits: FileTraits,
    flags: AtomicU32,
    /// Held over a whole read or write at the file's position, page faults included, so that processes that share it
    /// never get the same bytes: Linux's `f_pos_lock`. Files without positions never take it.
    pub(crate) position: Mutex<u64>,
    /// Up to which error of its pages it has been told: see [`memory::WriteErrors`].
    told: AtomicU32,
    /// That it writes or executes the file.
    _claim: Option<WriteAccess>,
}

impl OpenFile {
    /// An open file at position 0.
    pub fn new(file: Arc<dyn File>, origin: Origin, flags: OpenFlags) -> Arc<OpenFile> {
        OpenFile::claimed(file, origin, flags, None)
    }

    /// The same, of a file that was claimed for writing or executing.
    pub(crate) fn claimed(
        file: Arc<dyn File>,
        origin: Origin,
        flags: OpenFlags,
        claim: Option<WriteAccess>,
    ) -> Arc<OpenFile> {
        let traits = file.traits();
        let flags = AtomicU32::new(flags.bits());
        let signal_io = SpinLock::new(None);
        let told = AtomicU32::new(if traits.contains(FileTraits::BACKED) { errors_told(&*file) } else { 0 });
        Arc::new(OpenFile { signal_io, file, origin, traits, flags, position: Mutex::new(0), told, _claim: claim })
    }

    /// A file opened with `O_PATH`: a name and nothing more.
    pub(crate) fn of_path(path: Path, flags: OpenFlags) -> Arc<OpenFile> {
        OpenFile::new(Arc::new(NameOnly), Origin::Path(path), flags)
    }

    /// The operations.
    #[inline]
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The same, for what `O_PATH` does not allow.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn usable(&self) -> Result<&Arc<dyn File>> {
        if self.flags().contains(OpenFlags::PATH) { Err(Errno::EBADF) } else { Ok(&self.file) }
    }

    /// The file this is of.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.origin.inode()
    }

    /// What kind of file.
    pub fn kind(&self) -> Option<FileKind> {
        match &self.origin {
            Origin::Path(path) => Some(path.dentry.kind()),
            Origin::Anonymous(inode) => FileKind::of_mode(inode.permissions().mode),
        }
    }

    /// Where it is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where it is, if it has a name.
    pub fn named_path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Path(path) => Some(path),
            Origin::Anonymous(_) => None,
        }
    }

    /// Where it is. An anonymous file gets a place made up for it, from which it can be opened anew: `/proc/PID/fd/N`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn path(&self) -> Result<Path> {
        match &self.origin {
            Origin::Path(path) => Ok(path.clone()),
            Origin::Anonymous(inode) => Path::anonymous(inode.clone()),
        }
    }

    /// The directory a relative path begins at, when this is the `dirfd`.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn directory(&self) -> Result<&Path> {
        self.named_path().filter(|path| path.dentry.is_directory()).ok_or(Errno::ENOTDIR)
    }

    /// What vfs knows about the file beforehand.
    #[inline]
    pub fn traits(&self) -> FileTraits {
        self.traits
    }

    /// As open(2) was given them, without what is forgotten: fcntl(F_GETFL).
    #[inline]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes what can be changed without more: fcntl(F_SETFL), but for `O_ASYNC`.
    ///
    /// # Errors
    /// `EPERM` for `O_NOATIME` on another's file, `EBADF` with `O_PATH`.
    pub fn set_flags(&self, flags: OpenFlags, credentials: &crate::Credentials) -> Result<()> {
        self.usable()?;
        let old = self.flags();
        let hides = flags.contains(OpenFlags::NO_ACCESS_TIME) && !old.contains(OpenFlags::NO_ACCESS_TIME);
        if hides && !credentials.owns(self.inode().permissions()) {
            return Err(Errno::EPERM);
        }
        let kept = !OpenFlags::CHANGEABLE.bits();
        let set = (flags & OpenFlags::CHANGEABLE).bits();
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now & kept | set));
        self.file.flags_changed(self.flags());
        Ok(())
    }

    /// ioctl(FIONBIO).
    pub fn set_non_blocking(&self, on: bool) {
        let bit = OpenFlags::NON_BLOCK.bits();
        if on {
            self.flags.fetch_or(bit, Ordering::Relaxed)
        } else {
            self.flags.fetch_and(!bit, Ordering::Relaxed)
        };
        self.file.flags_changed(self.flags());
    }

    /// Who gets the file's signals: fcntl(F_GETOWN).
    pub fn owner(&self) -> Option<Arc<dyn FileOwner>> {
        self.signal_io.lock().as_ref().and_then(|signal_io| signal_io.owner())
    }

    /// Names who gets the file's signals: fcntl(F_SETOWN).
    pub fn set_owner(&self, owner: Option<Arc<dyn FileOwner>>) {
        self.signal_io.lock().get_or_insert_default().set_owner(owner);
    }

    /// The signal that is sent; 0 for `SIGIO` without a reason: fcntl(F_GETSIG).
    pub fn signal(&self) -> u32 {
        self.signal_io.lock().as_ref().map_or(0, |signal_io| signal_io.signal())
    }

    /// Chooses the signal that is sent: fcntl(F_SETSIG).
    pub fn set_signal(&self, signal: u32) {
        self.signal_io.lock().get_or_insert_default().set_signal(signal);
    }

    /// Whether signals are sent: `O_ASYNC`.
    pub fn is_signal_driven(&self) -> bool {
        self.flags().contains(OpenFlags::ASYNC)
    }

    /// Begins or ends to send signals, which tell of `descriptor`: `O_ASYNC`, ioctl(FIOASYNC).
    ///
    /// # Errors
    /// `ENOTTY`: the file can't. `ENOMEM`.
    pub fn set_signal_driven(&self, on: bool, descriptor: i32) -> Result<()> {
        if !self.traits.contains(FileTraits::SIGNALS) {
            return Err(Errno::ENOTTY);
        }
        let mut guard = self.signal_io.lock();
        let bit = OpenFlags::ASYNC.bits();
        if on {
            guard.get_or_insert_default().turn_on(&self.file, self.flags(), descriptor)?;
            self.flags.fetch_or(bit, Ordering::Relaxed);
        } else {
            guard.iter_mut().for_each(|signal_io| signal_io.turn_off());
            self.flags.fetch_and(!bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Has it looked at anew, if that has to be waited for: before [`OpenFile::attributes`].
    ///
    /// # Errors
    /// `ERESTART` until that was done ([`crate::PausedWalks`]).
    pub fn look_again(&self, caller: &dyn Caller) -> Result<()> {
        look_again(self.inode(), caller)
    }

    /// Everything about the file: fstat(2).
    pub fn attributes(&self) -> Attributes {
        match &self.origin {
            Origin::Path(path) => path.attributes(),
            Origin::Anonymous(inode) => inode.attributes(),
        }
    }

    /// Whether reads and writes happen at the position.
    #[inline]
    pub(crate) fn has_position(&self) -> bool {
        self.traits.contains(FileTraits::SEEKABLE) && !self.traits.contains(FileTraits::STREAM)
    }

    /// Moves the position: lseek(2).
    ///
    /// # Errors
    /// `ESPIPE`, `EINVAL` for a position below 0, `ENXIO` for data or holes beyond the end, `EOVERFLOW`.
    pub async fn seek(&self, offset: i64, whence: Whence) -> Result<u64> {
        match self.try_seek(offset, whence) {
            Some(result) => result,
            None => self.seek_slowly(offset, whence).await,
        }
    }

    async fn seek_slowly(&self, offset: i64, whence: Whence) -> Result<u64> {
        let mut position = self.position.lock().await;
        let mut offset = offset;
        loop {
            match self.seek_from(&mut position, offset, whence) {
                Ok(Search::Found(at)) => return Ok(at),
                Ok(Search::Beyond(at)) => offset = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?,
                Err(Errno::ERESTART) => {
                    *position = self.file.seek_elsewhere(offset.cast_unsigned(), whence).await?;
                    return Ok(*position);
                }
                Err(errno) => return Err(errno),
            }
            yield_now().await;
        }
    }

    /// As [`seek`](Self::seek), unless somebody else is using the position, or a hole is far away, or has to be waited for.
    pub fn try_seek(&self, offset: i64, whence: Whence) -> Option<Result<u64>> {
        match self.usable() {
            Err(errno) => return Some(Err(errno)),
            Ok(file) if !file.traits().contains(FileTraits::SEEKABLE) => return Some(Err(Errno::ESPIPE)),
            Ok(_) if self.traits.contains(FileTraits::STREAM) => return Some(Ok(0)),
            Ok(_) => {}
        }
        let mut position = self.position.try_lock()?;
        match self.seek_from(&mut position, offset, whence) {
            Ok(Search::Found(at)) => Some(Ok(at)),
            Ok(Search::Beyond(_)) | Err(Errno::ERESTART) => None,
            Err(errno) => Some(Err(errno)),
        }
    }

    /// Moves the position, or does a part of the search for a hole.
    fn seek_from(&self, position: &mut u64, offset: i64, whence: Whence) -> Result<Search> {
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => i64::try_from(*position).map_err(|_| Errno::EOVERFLOW)?,
            Whence::End => i64::try_from(self.file.size()).map_err(|_| Errno::EOVERFLOW)?,
            Whence::Data | Whence::Hole => {
                let wanted = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                if wanted >= self.file.size() {
                    return Err(Errno::ENXIO);
                }
                let found = self.file.seek_hole_or_data(wanted, whence)?;
                if let Search::Found(at) = found {
                    *position = at;
                }
                return Ok(found);
            }
        };
        let new = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
        *position = u64::try_from(new).map_err(|_| Errno::EINVAL)?;
        Ok(Search::Found(*position))
    }

    /// The position now, for `/proc/PID/fdinfo`; `None` while somebody is reading or writing.
    pub fn position_now(&self) -> Option<u64> {
        self.position.try_lock().map(|position| *position)
    }

    /// A change of the length: ftruncate(2).
    ///
    /// # Errors
    /// `EINVAL` when it can't be written or has no length, `EFBIG`, `ENOSPC`.
    pub fn truncate(&self, size: u64, caller: &dyn Caller) -> Result<Truncation> {
        self.usable()?;
        let path = self.named_path().ok_or(Errno::EINVAL)?;
        if !self.flags().writable() || path.dentry.kind() != FileKind::Regular {
            return Err(Errno::EINVAL);
        }
        Truncation::new(path.inode(), size, None, caller)
    }

    /// fallocate(2). Dropped, it leaves a part done.
    ///
    /// # Errors
    /// `EINVAL`, `EBADF` when it can't be written, `EOPNOTSUPP`, `ENODEV`, `ESPIPE`, `EFBIG`, `ENOSPC`.
    pub async fn allocate(&self, mode: u32, offset: i64, length: i64, caller: &dyn Caller) -> Result<()> {
        let (offset, length) = match (u64::try_from(offset), u64::try_from(length)) {
            (Ok(offset), Ok(length)) if length > 0 => (offset, length),
            _ => return Err(Errno::EINVAL),
        };
        let mode = AllocateMode::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
        let punch = mode.contains(AllocateMode::PUNCH_HOLE);
        if punch && (mode.contains(AllocateMode::ZERO_RANGE) || !mode.contains(AllocateMode::KEEP_SIZE)) {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.usable()?.traits().contains(FileTraits::SEEKABLE) && self.kind() == Some(FileKind::Fifo) {
            return Err(Errno::ESPIPE);
        }
        if !self.flags().writable() {
            return Err(Errno::EBADF);
        }
        match self.kind() {
            Some(FileKind::Regular) => {}
            Some(FileKind::Directory) => return Err(Errno::EISDIR),
            _ => return Err(Errno::ENODEV),
        }
        let end = offset.checked_add(length).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if !mode.contains(AllocateMode::KEEP_SIZE) && end > self.file.size() {
            check_length(end, caller)?;
        }
        let _exclusion = exclude(self.inode().write_lock()).await;
        let mut at = offset;
        loop {
            match self.file.allocate(mode, at..end) {
                Ok(None) => break,
                Ok(Some(next)) => at = next,
                Err(Errno::ERESTART) => break self.file.allocate_elsewhere(mode, at..end).await?,
                Err(errno) => return Err(errno),
            }
            yield_now().await;
        }
        match new_permissions(self.inode(), caller) {
            None => Ok(()),
            permissions => {
                let changes = SetAttributes { permissions, ..Default::default() };
                match self.inode().set_attributes(&changes) {
                    Err(Errno::ERESTART) => self.inode().clone().set_attributes_elsewhere(changes).await,
                    result => result,
                }
            }
        }
    }

    /// Hands the entries of a directory to `sink` until it is full: getdents64(2).
    ///
    /// # Errors
    /// `ENOTDIR`, `EBADF`, `ENOENT` when the directory was removed.
    pub async fn read_directory(&self, sink: &mut (dyn DirectorySink + Send)) -> Result<()> {
        self.usable()?;
        let path = self.directory()?;
        if path.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        let mut position = self.position.lock().await;
        let parent = || path.dentry.parent().map_or(path.inode().number(), |parent| parent.inode().number());
        for (cookie, name) in [(0, &b"."[..]), (1, b"..")] {
            if *position != cookie {
                continue;
            }
            let number = if cookie == 0 { path.inode().number() } else { parent() };
            if !sink.entry(DirectoryEntry { name, number, kind: FileKind::Directory, next: cookie + 1 }) {
                return Ok(());
            }
            *position = cookie + 1;
        }
        while let Err(stop) = self.file.read_directory(&mut position, sink) {
            match stop {
                NotReady::Elsewhere => self.file.fetch_entries(*position).await?,
                NotReady::Error(errno) => return Err(errno),
                _ => return Err(Errno::EIO),
            }
        }
        Ok(())
    }

    /// The file as something that can be mapped: mmap(2). `writable` when a shared mapping is to be written.
    ///
    /// # Errors
    /// `EACCES` when it is not open for reading, `ENODEV` when it has no pages, `EBADF`.
    pub fn mapping(self: &Arc<OpenFile>) -> Result<Arc<MappedFile>> {
        let file = self.usable()?;
        if !self.flags().readable() {
            return Err(Errno::EACCES);
        }
        let pager = file.pager().ok_or(Errno::ENODEV)?;
        let no_execute = |path: &Path| path.mount.flags().contains(MountFlags::NO_EXECUTE);
        Ok(Arc::new(MappedFile {
            pager,
            identity: self.clone(),
            readable: self.flags().readable(),
            writable: self.flags().writable(),
            executable: !self.named_path().is_some_and(no_execute),
        }))
    }

    /// Whether descriptors of this file may be used so, else `EBADF`.
    #[inline]
    pub(crate) fn check(&self, access: Access) -> Result<()> {
        let flags = self.flags();
        let allowed = if access == Access::READ { flags.readable() } else { flags.writable() };
        if allowed && !flags.contains(OpenFlags::PATH) { Ok(()) } else { Err(Errno::EBADF) }
    }
}

impl Drop for OpenFile {
    /// The description is gone, and with it the locks it owned.
    fn drop(&mut self) {
        if let Some(locks) = self.origin.inode().locks() {
            locks.release(LockOwner::of_open_file(self));
        }
    }
}

impl FileIdentity for OpenFile {
    fn path(&self) -> Result<Vec<u8>> {
        match &self.origin {
            Origin::Path(path) => path.full_text(),
            Origin::Anonymous(inode) => Ok(inode.anonymous_name()?.into_bytes()),
        }
    }

    fn device(&self) -> (u32, u32) {
        let DeviceNumber { major, minor } = DeviceNumber::decode(self.attributes().device);
        (major, minor)
    }

    fn inode(&self) -> u64 {
        self.origin.inode().number()
    }

    fn check_written(&self, pager: &dyn Pager) -> core::result::Result<(), PagerError> {
        pager.write_errors().map_or(Ok(()), |errors| errors.check(&self.told))
    }
}

/// What somebody who opens the file now needs not be told.
#[cold]
fn errors_told(file: &dyn File) -> u32 {
    file.cached_pages().and_then(|pager| Some(pager.write_errors()?.sample())).unwrap_or_default()
}

/// What is behind `O_PATH`: nothing.
struct NameOnly;

impl File for NameOnly {
    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    fn synchronise(&self, _: bool) -> Result<(), NotReady> {
        Err(Errno::EBADF.into())
    }
}
