//! What system calls do to a file itself: stat(2), access(2), chmod(2), chown(2), utimensat(2), truncate(2), xattr(7).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::{try_collect, try_to_box, try_to_vec};
use abi::raw::general as raw;
use abi::status::{Stat, StatFs, Statx, StatxTime};
use abi::time::Timespec;
use abi::{Errno, Result};

use crate::caller::Caller;
use crate::contents::WriteAccess;
use crate::credentials::{Access, Capabilities};
use crate::filesystem::Statistics;
use crate::inode::{Attributes, DeviceNumber, FileKind, Inode, Link, Permissions, SetAttributes, Time, XattrFlags};
use crate::mount::{MountFlags, Path};
use crate::paused_walk::Wait;
use crate::truncate::Truncation;
use crate::waiting::Pending;
use crate::walk::Context;

/// The longest value of an extended attribute: `XATTR_SIZE_MAX`.
const XATTR_SIZE_MAX: usize = 65_536;

/// A time utimensat(2) is to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    /// `UTIME_OMIT`: leave it.
    Keep,
    /// `UTIME_NOW`.
    Now,
    /// This one.
    At(Time),
}

/// Has the file looked at anew, if that has to be waited for.
///
/// # Errors
/// `ERESTART` until that was done; then the call is made again.
#[inline]
pub(crate) fn look_again(inode: &Arc<dyn Inode>, caller: &dyn Caller) -> Result<()> {
    match inode.look_again() {
        None => Ok(()),
        Some(looking) => wait_to_see(inode, looking, caller),
    }
}

#[cold]
fn wait_to_see(inode: &Arc<dyn Inode>, looking: Pending<()>, caller: &dyn Caller) -> Result<()> {
    let Some(walks) = caller.paused_walks() else { return Ok(()) };
    if walks.has_seen(inode) {
        return Ok(());
    }
    Err(walks.wait_for(Wait::Look(inode.clone(), looking), None))
}

impl Context<'_> {
    /// Everything about the file at a path that was just looked up: stat(2).
    ///
    /// # Errors
    /// `ERESTART` until the file was looked at, where that has to be waited for.
    #[inline]
    pub fn attributes(&self, path: &Path) -> Result<Attributes> {
        if path.dentry.is_elsewhere() {
            look_again(path.inode(), self.caller)?;
        }
        Ok(path.attributes())
    }
}

impl Context<'_> {
    /// How full the file system is in which the file lies: statfs(2).
    ///
    /// # Errors
    /// `ERESTART` until that was asked for, where it has to be waited for.
    pub fn statistics(&self, path: &Path) -> Result<StatFs> {
        let filesystem = path.mount.super_block().filesystem();
        if let Some(looking) = filesystem.look_at_room() {
            wait_to_see(&filesystem.root(), looking, self.caller)?;
        }
        Ok(path.statistics())
    }
}

impl Path {
    /// Everything about the file here: stat(2).
    pub fn attributes(&self) -> Attributes {
        let mut attributes = self.inode().attributes();
        if attributes.device == 0 {
            attributes.device = self.mount.super_block().device();
        }
        attributes
    }

    /// The same, as far as it is known.
    fn statistics(&self) -> StatFs {
        let super_block = self.mount.super_block();
        let Statistics { magic, block_size, blocks, free_blocks, available_blocks, inodes, free_inodes, name_length } =
            super_block.filesystem().statistics();
        let mut flags = self.mount.flags();
        flags.set(MountFlags::READ_ONLY, self.mount.check_writable().is_err());
        let device = super_block.device();
        StatFs {
            kind: magic as i64,
            block_size: block_size as i64,
            blocks,
            free: free_blocks,
            available: available_blocks,
            files: inodes,
            free_files: free_inodes,
            identity: [device as i32, (device >> 32) as i32],
            name_length: name_length as i64,
            fragment_size: block_size as i64,
            flags: statfs_flags(flags),
            ..StatFs::default()
        }
    }
}

/// `ST_VALID`, and the mount's flags in statfs(2)'s values.
fn statfs_flags(flags: MountFlags) -> i64 {
    let table = [
        (MountFlags::READ_ONLY, 1),
        (MountFlags::NO_SET_USER_ID, 2),
        (MountFlags::NO_DEVICES, 4),
        (MountFlags::NO_EXECUTE, 8),
        (MountFlags::NO_ACCESS_TIMES, 1024),
        (MountFlags::NO_DIRECTORY_ACCESS_TIMES, 2048),
        (MountFlags::RELATIVE_ACCESS_TIMES, 4096),
    ];
    table.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0x20, |bits, (_, bit)| bits | bit)
}

impl From<Time> for Timespec {
    fn from(time: Time) -> Timespec {
        Timespec { seconds: time.seconds(), nanoseconds: i64::from(time.nanoseconds()) }
    }
}

impl From<Time> for StatxTime {
    fn from(time: Time) -> StatxTime {
        StatxTime { seconds: time.seconds(), nanoseconds: time.nanoseconds(), padding: 0 }
    }
}

impl From<Attributes> for Stat {
    fn from(from: Attributes) -> Stat {
        Stat {
            device: from.device,
            inode: from.number,
            mode: from.mode,
            user: from.user,
            group: from.group,
            represented: from.represented.encode(),
            size: from.size as i64,
            blocks: from.blocks as i64,
            accessed: from.accessed.into(),
            modified: from.modified.into(),
            changed: from.changed.into(),
            ..Stat::new(from.links, from.block_size)
        }
    }
}

impl From<Attributes> for Statx {
    fn from(from: Attributes) -> Statx {
        let device = DeviceNumber::decode(from.device);
        let created = if from.created.is_some() { raw::STATX_BTIME } else { 0 };
        Statx {
            mask: raw::STATX_BASIC_STATS | created,
            block_size: from.block_size,
            links: from.links,
            user: from.user,
            group: from.group,
            mode: from.mode as u16,
            inode: from.number,
            size: from.size,
            blocks: from.blocks,
            accessed: from.accessed.into(),
            created: from.created.unwrap_or_default().into(),
            changed: from.changed.into(),
            modified: from.modified.into(),
            represented_major: from.represented.major,
            represented_minor: from.represented.minor,
            device_major: device.major,
            device_minor: device.minor,
            ..Statx::default()
        }
    }
}

impl Context<'_> {
    /// Whether the file may be used so; for access(2) the credentials are those of the real user.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`.
    pub fn check_access(&self, path: &Path, wanted: Access) -> Result<()> {
        let kind = path.dentry.kind();
        if wanted.contains(Access::EXECUTE)
            && kind == FileKind::Regular
            && path.mount.flags().contains(MountFlags::NO_EXECUTE)
        {
            return Err(Errno::EACCES);
        }
        let stored = matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink);
        if wanted.contains(Access::WRITE) && stored && path.mount.super_block().is_read_only() {
            return Err(Errno::EROFS);
        }
        self.credentials.check(path.inode().permissions(), wanted)?;
        if wanted.contains(Access::WRITE) && stored { path.mount.check_writable() } else { Ok(()) }
    }

    /// Whether a process may make this its working directory: chdir(2).
    ///
    /// # Errors
    /// `ENOTDIR`, `EACCES`.
    pub fn check_directory(&self, path: &Path) -> Result<()> {
        if !path.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.check_access(path, Access::EXECUTE)
    }

    /// The text of a symbolic link: readlink(2).
    ///
    /// # Errors
    /// `EINVAL` when it is none, and the link's own.
    pub fn read_link(&self, path: &Path) -> Result<Vec<u8>> {
        if path.dentry.kind() != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        match path.inode().read_link(self.caller)? {
            Link::Text(text) => try_to_vec(&text),
            Link::Path(target) => target.short_text(self.root),
        }
    }

    /// Changes the permission bits.
    ///
    /// # Errors
    /// chmod(2).
    pub fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        path.mount.check_writable()?;
        let permissions = path.inode().permissions();
        if path.dentry.kind() == FileKind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.credentials.owns(permissions) {
            return Err(Errno::EPERM);
        }
        let mut mode = mode & 0o7777;
        if !self.may_set_group_id(permissions) {
            mode &= !raw::S_ISGID;
        }
        self.set_attributes(path, SetAttributes { permissions: Some(mode), ..Default::default() })
    }

    /// Changes the owner and the group; `None` leaves them. Set-ID bits are cleared, as a program must not change hands
    /// armed.
    ///
    /// # Errors
    /// chown(2).
    pub fn chown(&self, path: &Path, user: Option<u32>, group: Option<u32>) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        path.mount.check_writable()?;
        let old = path.inode().permissions();
        let privileged = self.credentials.has(Capabilities::CHOWN);
        let is_owner = self.credentials.user == old.user;
        let user_allowed = user.is_none_or(|user| privileged || (is_owner && user == old.user));
        let group_allowed = group
            .is_none_or(|group| privileged || (is_owner && (group == old.group || self.credentials.in_group(group))));
        if !user_allowed || !group_allowed {
            return Err(Errno::EPERM);
        }
        let mut changes = SetAttributes { user, group, ..Default::default() };
        if !path.dentry.is_directory() {
            let mode = without_set_id(old.mode, self.may_set_group_id(old));
            changes.permissions = Some(mode).filter(|&mode| mode != old.mode & 0o7777);
        }
        self.set_attributes(path, changes)
    }

    /// Changes attributes, at once or when that was waited for.
    fn set_attributes(&self, path: &Path, changes: SetAttributes) -> Result<()> {
        match path.inode().set_attributes(&changes) {
            Err(Errno::ERESTART) => {
                let inode = path.inode().clone();
                let changed = async move { inode.set_attributes_elsewhere(changes).await.map(|()| None) };
                Err(self.wait_for_change(&path.mount, changed))
            }
            result => result,
        }
    }

    fn may_set_group_id(&self, permissions: Permissions) -> bool {
        self.credentials.in_group(permissions.group) || self.credentials.has(Capabilities::FSETID)
    }

    /// Changes access and modification time.
    ///
    /// # Errors
    /// utimensat(2).
    pub fn set_times(&self, path: &Path, accessed: NewTime, modified: NewTime) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        if (accessed, modified) == (NewTime::Keep, NewTime::Keep) {
            return Ok(());
        }
        path.mount.check_writable()?;
        let permissions = path.inode().permissions();
        if !self.credentials.owns(permissions) {
            // Who may write may touch, but not invent times.
            if (accessed, modified) != (NewTime::Now, NewTime::Now) {
                return Err(Errno::EPERM);
            }
            self.credentials.check(permissions, Access::WRITE)?;
        }
        let now = Time::now();
        let time = |new| match new {
            NewTime::Keep => None,
            NewTime::Now => Some(now),
            NewTime::At(time) => Some(time),
        };
        let (accessed, modified) = (time(accessed), time(modified));
        self.set_attributes(path, SetAttributes { accessed, modified, ..Default::default() })
    }

    /// A change of the length of a file by name.
    ///
    /// # Errors
    /// truncate(2).
    pub fn truncate(&self, path: &Path, size: u64) -> Result<Truncation> {
        match path.dentry.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        path.mount.check_writable()?;
        self.credentials.check(path.inode().permissions(), Access::WRITE)?;
        let claim = WriteAccess::get(path.inode())?;
        Truncation::new(path.inode(), size, claim, self.caller)
    }

    /// An extended attribute's value.
    ///
    /// # Errors
    /// getxattr(2).
    pub fn xattr(&self, path: &Path, name: &[u8]) -> Result<Box<[u8]>> {
        self.check_xattr(path, name, Access::READ)?;
        if let Some(said) = self.take_xattrs() {
            return try_to_box(&said?);
        }
        match path.inode().xattr(name) {
            Err(Errno::ERESTART) => Err(self.wait_for_xattrs(path, Some(try_to_vec(name)?))),
            result => result,
        }
    }

    fn take_xattrs(&self) -> Option<Result<Vec<u8>>> {
        self.caller.paused_walks()?.take_xattrs()
    }

    /// Has the call wait for what the file's extended attributes are, or for the value of the one of that name.
    fn wait_for_xattrs(&self, path: &Path, name: Option<Vec<u8>>) -> Errno {
        let Some(walks) = self.caller.paused_walks() else { return Errno::EAGAIN };
        walks.wait_for(Wait::Xattrs(path.inode().clone().xattrs_elsewhere(name)), None)
    }

    /// Has the call wait for a change of an extended attribute: a new value, or its removal.
    fn wait_for_xattr_change(&self, path: &Path, name: &[u8], value: Option<(&[u8], XattrFlags)>) -> Result<()> {
        let value = value.map(|(value, flags)| try_to_vec(value).map(|value| (value, flags))).transpose()?;
        let changing = path.inode().clone().change_xattr_elsewhere(try_to_vec(name)?, value);
        Err(self.wait_for_change(&path.mount, async move { changing.await.map(|()| None) }))
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// setxattr(2).
    pub fn set_xattr(&self, path: &Path, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno::E2BIG);
        }
        path.mount.check_writable()?;
        self.check_xattr(path, name, Access::WRITE)?;
        match path.inode().set_xattr(name, value, flags) {
            Err(Errno::ERESTART) => self.wait_for_xattr_change(path, name, Some((value, flags))),
            result => result,
        }
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// removexattr(2).
    pub fn remove_xattr(&self, path: &Path, name: &[u8]) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        path.mount.check_writable()?;
        self.check_xattr(path, name, Access::WRITE)?;
        match path.inode().remove_xattr(name) {
            Err(Errno::ERESTART) => self.wait_for_xattr_change(path, name, None),
            result => result,
        }
    }

    /// The names of all extended attributes the caller may know of, each followed by a zero byte.
    ///
    /// # Errors
    /// listxattr(2).
    pub fn list_xattrs(&self, path: &Path) -> Result<Vec<u8>> {
        let all = match self.take_xattrs() {
            Some(said) => said?,
            None => match path.inode().list_xattrs() {
                Err(Errno::ERESTART) => return Err(self.wait_for_xattrs(path, None)),
                result => result?,
            },
        };
        if self.credentials.has(Capabilities::SYS_ADMIN) {
            return Ok(all);
        }
        let names = all.split_inclusive(|&byte| byte == 0).filter(|name| !name.starts_with(b"trusted."));
        try_collect(names.flatten().copied())
    }

    /// The rules of xattr(7) for the three name spaces there are.
    fn check_xattr(&self, path: &Path, name: &[u8], wanted: Access) -> Result<()> {
        if name.is_empty() || name.len() > 255 {
            return Err(Errno::ERANGE);
        }
        if name.starts_with(b"trusted.") {
            let refusal = if wanted == Access::WRITE { Errno::EPERM } else { Errno::ENODATA };
            return if self.credentials.has(Capabilities::SYS_ADMIN) { Ok(()) } else { Err(refusal) };
        }
        if name.starts_with(b"security.") {
            let allowed = wanted == Access::READ || self.credentials.has(Capabilities::SYS_ADMIN);
            return if allowed { Ok(()) } else { Err(Errno::EPERM) };
        }
        if !name.starts_with(b"user.") {
            return Err(Errno::EOPNOTSUPP);
        }
        if !matches!(path.dentry.kind(), FileKind::Regular | FileKind::Directory) {
            return Err(if wanted == Access::WRITE { Errno::EPERM } else { Errno::ENODATA });
        }
        let permissions = path.inode().permissions();
        if wanted == Access::WRITE
            && path.dentry.is_directory()
            && permissions.mode & raw::S_ISVTX != 0
            && !self.credentials.owns(permissions)
        {
            return Err(Errno::EPERM);
        }
        self.credentials.check(permissions, wanted)
    }
}

/// The permission bits of a program that must not keep its powers: without set-user-ID, and without set-group-ID unless its
/// group can't execute it and whoever changes it may set the bit (`in_group`).
pub(crate) fn without_set_id(mode: u32, in_group: bool) -> u32 {
    let mode = mode & 0o7777 & !raw::S_ISUID;
    if mode & raw::S_IXGRP != 0 || !in_group { mode & !raw::S_ISGID } else { mode }
}
