//! Inodes: what a file system stores under a name, and what can be done to it by name.
//!
//! A file system implements [`Inode`]; vfs calls it, having checked permissions, mount flags and names, and holding the
//! locks of the directories concerned (their dentries' children), so that no two changes of one directory ever meet in
//! a file system. None of these functions sleep; a file system that may have to wait for a name has directories that are
//! [`WaitingDirectory`]s.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::future::ready;

use abi::raw::general as raw;
use abi::{Errno, Result};
use bitflags::bitflags;
use memory::Pager;
use sync::Mutex;

use crate::caller::Caller;
use crate::contents::WriteDenial;
use crate::file::File;
use crate::locks::FileLocks;
use crate::mount::Path;
use crate::pipe::Pipe;
use crate::waiting::{Pending, WaitingDirectory};

/// What kind of file an inode is: the `S_IFMT` part of its mode, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum FileKind {
    /// `S_IFIFO`, a pipe
    Fifo = raw::S_IFIFO,
    /// `S_IFCHR`
    CharacterDevice = raw::S_IFCHR,
    /// `S_IFDIR`
    Directory = raw::S_IFDIR,
    /// `S_IFBLK`
    BlockDevice = raw::S_IFBLK,
    /// `S_IFREG`
    Regular = raw::S_IFREG,
    /// `S_IFLNK`
    Symlink = raw::S_IFLNK,
    /// `S_IFSOCK`
    Socket = raw::S_IFSOCK,
}

impl FileKind {
    /// The kind a mode says, if any.
    pub const fn of_mode(mode: u32) -> Option<FileKind> {
        Some(match mode & raw::S_IFMT {
            raw::S_IFIFO => FileKind::Fifo,
            raw::S_IFCHR => FileKind::CharacterDevice,
            raw::S_IFDIR => FileKind::Directory,
            raw::S_IFBLK => FileKind::BlockDevice,
            raw::S_IFREG => FileKind::Regular,
            raw::S_IFLNK => FileKind::Symlink,
            raw::S_IFSOCK => FileKind::Socket,
            _ => return None,
        })
    }

    /// The bits of a mode that say so.
    pub const fn mode(self) -> u32 {
        self as u32
    }

    /// The `d_type` of a directory entry, see getdents(2).
    pub const fn entry_type(self) -> u8 {
        (self.mode() >> 12) as u8
    }
}

/// What a permission check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Kind and permission bits.
    pub mode: u32,
    /// The owner.
    pub user: u32,
    /// The owning group.
    pub group: u32,
}

impl Permissions {
    /// Takes over what chmod(2) and chown(2) ask for. The kind stays.
    pub fn change(&mut self, changes: &SetAttributes) {
        const BITS: u32 = 0o7777;
        if let Some(bits) = changes.permissions {
            self.mode = self.mode & !BITS | bits & BITS;
        }
        self.user = changes.user.unwrap_or(self.user);
        self.group = changes.group.unwrap_or(self.group);
    }
}

/// A device number as Linux's `dev_t` splits it: 12 bits of major, 20 of minor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// The number as stat(2) and mknod(2) pass it.
    pub const fn encode(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
    }

    /// The inverse of [`DeviceNumber::encode`].
    pub const fn decode(number: u64) -> DeviceNumber {
        let major = ((number >> 8) & 0xfff) | ((number >> 32) & !0xfff);
        let minor = (number & 0xff) | ((number >> 12) & !0xff);
        DeviceNumber { major: major as u32, minor: minor as u32 }
    }
}

/// A point in time of a file, nanoseconds since the epoch. Negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    /// The present.
    pub fn now() -> Time {
        Time(i64::try_from(machine::time::wall_clock()).unwrap_or(i64::MAX))
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The nanoseconds beyond [`Time::seconds`].
    pub const fn nanoseconds(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }

    /// From seconds and nanoseconds; clamped to the years 1677 to 2262.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Time {
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds as i64))
    }
}

/// Everything stat(2) tells. `device` is filled in by vfs from the super block when an inode leaves it 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub number: u64,
    /// `st_mode`
    pub mode: u32,
    /// `st_nlink`
    pub links: u32,
    /// `st_uid`
    pub user: u32,
    /// `st_gid`
    pub group: u32,
    /// `st_rdev`
    pub represented: DeviceNumber,
    /// `st_size`
    pub size: u64,
    /// `st_blksize`
    pub block_size: u32,
    /// `st_blocks`, of 512 bytes
    pub blocks: u64,
    /// `st_atime`
    pub accessed: Time,
    /// `st_mtime`
    pub modified: Time,
    /// `st_ctime`
    pub changed: Time,
    /// `stx_btime`
    pub created: Option<Time>,
}

/// Changes of attributes; `None` leaves as it is. Whether they are permitted has been checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits, without the kind.
    pub permissions: Option<u32>,
    /// The owner.
    pub user: Option<u32>,
    /// The owning group.
    pub group: Option<u32>,
    /// The length: truncate(2).
    pub size: Option<u64>,
    /// Access time.
    pub accessed: Option<Time>,
    /// Modification time.
    pub modified: Option<Time>,
}

/// A file that is to come into being.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    /// Permission bits, with the umask applied; no kind.
    pub permissions: u32,
    /// The owner.
    pub user: u32,
    /// The owning group.
    pub group: u32,
    /// What it is.
    pub contents: NewContents<'a>,
}

/// What a new file is.
#[derive(Clone, Copy, Debug)]
pub enum NewContents<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// A FIFO.
    Fifo,
    /// A socket's node.
    Socket,
    /// A character device's node.
    CharacterDevice(DeviceNumber),
    /// A block device's node.
    BlockDevice(DeviceNumber),
}

impl NewContents<'_> {
    /// The kind of file this will be.
    pub const fn kind(&self) -> FileKind {
        match self {
            NewContents::Regular => FileKind::Regular,
            NewContents::Directory => FileKind::Directory,
            NewContents::Symlink(_) => FileKind::Symlink,
            NewContents::Fifo => FileKind::Fifo,
            NewContents::Socket => FileKind::Socket,
            NewContents::CharacterDevice(_) => FileKind::CharacterDevice,
            NewContents::BlockDevice(_) => FileKind::BlockDevice,
        }
    }
}

/// Where a symbolic link leads.
pub enum Link {
    /// To the file of this name, resolved from the link's directory.
    Text(Arc<[u8]>),
    /// Straight to a file, whatever its name: `/proc/PID/exe`, `/proc/PID/fd/N`.
    Path(Path),
}

bitflags! {
    /// The flags of renameat2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// `RENAME_NOREPLACE`: the new name must not exist.
        const NO_REPLACE = raw::RENAME_NOREPLACE;
        /// `RENAME_EXCHANGE`: the two names change places.
        const EXCHANGE = raw::RENAME_EXCHANGE;
    }

    /// The flags of setxattr(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct XattrFlags: u32 {
        /// `XATTR_CREATE`: it must not exist.
        const CREATE = 1;
        /// `XATTR_REPLACE`: it must exist.
        const REPLACE = 2;
    }
}

/// What an open file is wanted for, handed to [`Inode::open`] and to devices.
pub struct OpenRequest<'a> {
    /// As open(2) was given them.
    pub flags: crate::OpenFlags,
    /// Who opens it.
    pub caller: &'a dyn Caller,
}

/// A file in a file system.
pub trait Inode: Any + Send + Sync {
    /// Everything about it.
    fn attributes(&self) -> Attributes;

    /// What permission checks need. On the path walk's hot path, so it should not take a lock.
    fn permissions(&self) -> Permissions;

    /// What `st_ino` says.
    fn number(&self) -> u64 {
        self.attributes().number
    }

    /// Makes the object that reads and writes go to. Kinds that vfs opens by itself (FIFOs, device nodes) never get
    /// here.
    ///
    /// # Errors
    /// What open(2) says.
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>>;

    /// The same, where it has to be waited for. `None`: `open` does it at once. Dropped, it is not waited for.
    fn open_elsewhere(&self, flags: crate::OpenFlags) -> Option<Pending<Arc<dyn File>>> {
        let _ = flags;
        None
    }

    /// Asks anew how the file looks, where that has to be waited for: then [`Inode::attributes`] tells what was said last. `None`: that asks
    /// itself.
    fn look_again(&self) -> Option<Pending<()>> {
        None
    }

    /// Changes attributes, and the change time.
    ///
    /// # Errors
    /// `EPERM` where attributes are fixed, `ENOSPC`, `EFBIG`; `ERESTART` if that has to be waited for ([`Inode::set_attributes_elsewhere`]).
    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        let _ = changes;
        Err(Errno::EPERM)
    }

    /// The same, where it has to be waited for.
    fn set_attributes_elsewhere(self: Arc<Self>, changes: SetAttributes) -> Pending<()> {
        let _ = changes;
        Box::pin(ready(Err(Errno::EPERM)))
    }

    /// Whether dentries of this directory's entries may be kept. A directory that is made up on every look says no; its
    /// entries then get a fresh dentry at each lookup.
    fn keeps_entries(&self) -> bool {
        true
    }

    /// Whether the file system with this root is kept elsewhere, so that its entries can change without vfs: each directory
    /// is then asked whether a kept dentry is still good.
    fn changes_outside(&self) -> bool {
        false
    }

    /// Whether `name` still leads to `entry`, which was found or made there before; only asked where the file
    /// system [`changes_outside`](Inode::changes_outside). Linux: `d_revalidate`.
    fn leads_to(&self, name: &[u8], entry: &Arc<dyn Inode>) -> bool {
        let _ = (name, entry);
        true
    }

    /// Whether the file system with this root may have to wait for names: then its directories are `waiting`.
    fn may_wait(&self) -> bool {
        false
    }

    /// The operations of this directory by name, of a file system that [may wait](Inode::may_wait) for them; then `lookup`, `leads_to` and the
    /// functions behind it are not called. `None`: it answers at once, for now.
    fn waiting(&self) -> Option<&dyn WaitingDirectory> {
        None
    }

    /// Whether names can be added to this directory at all. If not, a name that isn't there is `ENOENT` also to those
    /// who want to make it, whatever else is wrong.
    fn takes_names(&self) -> bool {
        true
    }

    /// The entry `name`; never `.` or `..`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOMEM`.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let _ = name;
        Err(Errno::ENOTDIR)
    }

    /// Makes a new file under `name`. Serves open(O_CREAT), mkdir(2), mknod(2) and symlink(2).
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `EPERM` where nothing can be made.
    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let _ = (name, new);
        Err(Errno::EPERM)
    }

    /// Makes a regular file without a name: O_TMPFILE.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENOSPC`.
    fn create_unnamed(&self, new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let _ = new;
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target` another name here. `target` is of the same file system and no directory.
    ///
    /// # Errors
    /// `EMLINK`, `ENOSPC`, `EPERM`.
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, target);
        Err(Errno::EPERM)
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// `ENOENT`, `EPERM`.
    fn unlink(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOTEMPTY`, `ENOENT`, `EPERM`.
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM)
    }

    /// Moves `name` to `new_name` in `new_directory`, of the same file system, replacing what is there (an empty
    /// directory, or no directory) or exchanging the two.
    ///
    /// # Errors
    /// `ENOTEMPTY`, `ENOSPC`, `EPERM`.
    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Result<()> {
        let _ = (name, new_directory, new_name, flags);
        Err(Errno::EPERM)
    }

    /// Where a symbolic link leads, for this caller (`/proc/self` differs).
    ///
    /// # Errors
    /// `EINVAL` when it is no link; `EACCES`, `ENOENT` for links made up on the spot.
    fn read_link(&self, caller: &dyn Caller) -> Result<Link> {
        let _ = caller;
        Err(Errno::EINVAL)
    }

    /// The device a node stands for.
    fn device(&self) -> DeviceNumber {
        DeviceNumber::default()
    }

    /// The pipe behind a FIFO, made when first asked for.
    ///
    /// # Errors
    /// `ENXIO` when it is no FIFO, or one that opens itself; `ENOMEM`.
    fn fifo(self: Arc<Self>) -> Result<Arc<Pipe>> {
        Err(Errno::ENXIO)
    }

    /// What programs map of it. When its length is changed, vfs takes from them what is beyond the new end. `None`: the file system
    /// sees to that itself.
    fn mapped(&self) -> Option<Arc<dyn Pager>> {
        None
    }

    /// What keeps two writes of one file apart, so that neither is seen half done by the other, and each appending one finds
    /// the end. vfs holds it from the first byte of a write to the last, and over changes of the length; its open files have
    /// [`FileTraits::WRITE_LOCK`](crate::FileTraits::WRITE_LOCK). It sleeps, since a long write gives way and may wait
    /// for pages of the program. (A short write that finds one of them missing goes on behind it like another write.) `None`: the file system sees to it itself.
    fn write_lock(&self) -> Option<&Mutex<()>> {
        None
    }

    /// Record locks and flock(2) locks on it, where the file system has room for them.
    fn locks(&self) -> Option<&FileLocks> {
        None
    }

    /// Who writes and who executes it, where the file system has room for that: programs can be executed there.
    fn write_denial(&self) -> Option<&WriteDenial> {
        None
    }

    /// How a file without a path is called in `/proc/PID/fd`: `pipe:[17]`, `anon_inode:[eventfd]`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn anonymous_name(&self) -> Result<String> {
        Ok(String::new())
    }

    /// An extended attribute's value.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`; `ERESTART` if that has to be waited for ([`Inode::xattrs_elsewhere`]).
    fn xattr(&self, name: &[u8]) -> Result<Box<[u8]>> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `ENOSPC`, `EOPNOTSUPP`; `ERESTART` if that has to be waited for ([`Inode::change_xattr_elsewhere`]).
    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let _ = (name, value, flags);
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`; `ERESTART` as for [`Inode::set_xattr`].
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// The names of all extended attributes, each followed by a zero byte.
    ///
    /// # Errors
    /// `EOPNOTSUPP`; `ERESTART` as for [`Inode::xattr`].
    fn list_xattrs(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// An extended attribute's value, or without a name those of all, where that has to be waited for.
    fn xattrs_elsewhere(self: Arc<Self>, name: Option<Vec<u8>>) -> Pending<Vec<u8>> {
        let _ = name;
        Box::pin(ready(Err(Errno::EOPNOTSUPP)))
    }

    /// Sets an extended attribute, or removes it, where that has to be waited for.
    fn change_xattr_elsewhere(self: Arc<Self>, name: Vec<u8>, value: Option<(Vec<u8>, XattrFlags)>) -> Pending<()> {
        let _ = (name, value);
        Box::pin(ready(Err(Errno::EOPNOTSUPP)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_split_as_glibc_does() {
        assert_eq!(DeviceNumber { major: 4, minor: 64 }.encode(), 0x440);
        let large = DeviceNumber { major: 0xfff, minor: 0xf_ffff };
        assert_eq!(DeviceNumber::decode(large.encode()), large);
    }

    #[test]
    fn times_before_the_epoch_keep_positive_nanoseconds() {
        assert_eq!((Time(-1).seconds(), Time(-1).nanoseconds()), (-1, 999_999_999));
        assert_eq!(Time::new(-1, 999_999_999), Time(-1));
    }
}
