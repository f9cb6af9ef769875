//! What a node tells of itself, and what of it can be changed without a name: attributes, lengths, extended attributes.

use super::node::Node;
use super::{EINVAL, status};
use crate::{Change, MustBe, Result, Room};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

impl Node {
    /// The text of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` when it is none.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        if self.0.identity.kind != FileType::Symlink.as_raw_mode() {
            return Err(EINVAL);
        }
        Ok(rustix::fs::readlinkat(&*self.0.descriptor()?, c"", Vec::new())?.into_bytes())
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// `EPERM`, `EACCES`, `EROFS`, `EFBIG`, `EINVAL` for the length of what has none.
    pub fn change(&self, change: &Change) -> Result<()> {
        self.check_writable()?;
        if let Some(size) = change.size {
            if self.0.identity.kind != FileType::RegularFile.as_raw_mode() {
                return Err(EINVAL);
            }
            rustix::fs::ftruncate(self.reopen(OFlags::WRONLY)?, size)?;
        }
        self.change_by(&*self.0.descriptor()?, change)
    }

    /// Changes attributes other than the length by a descriptor of the file.
    pub(super) fn change_by(&self, open: &OwnedFd, change: &Change) -> Result<()> {
        let owner = self.0.share.owner;
        if change.user.is_some() || change.group.is_some() {
            let user = change.user.map(|user| Uid::from_raw(owner.real_user(user)));
            let group = change.group.map(|group| Gid::from_raw(owner.real_group(group)));
            rustix::fs::chownat(open, c"", user, group, AtFlags::EMPTY_PATH)?;
        }
        let number = open.as_raw_fd().to_string();
        if let Some(permissions) = change.permissions {
            let mode = Mode::from_raw_mode(permissions & 0o7777);
            rustix::fs::chmodat(&self.0.share.descriptors, number.as_str(), mode, AtFlags::empty())?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times = Timestamps { last_access: time(change.accessed), last_modification: time(change.modified) };
            rustix::fs::utimensat(&self.0.share.descriptors, number.as_str(), &times, AtFlags::empty())?;
        }
        Ok(())
    }

    /// How full the file system is that it lies in.
    ///
    /// # Errors
    /// `ESTALE`, `EIO`.
    pub fn room(&self) -> Result<Room> {
        Ok(status::room(&rustix::fs::fstatfs(&*self.0.descriptor()?)?))
    }

    /// The value of the extended attribute `name`.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`; `ENXIO` for what is neither file nor directory.
    pub fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let open = self.reopen(OFlags::RDONLY)?;
        whole(|buffer| rustix::fs::fgetxattr(&open, name, buffer))
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `ENOSPC`, `EOPNOTSUPP`, `EROFS`.
    pub fn set_xattr(&self, name: &[u8], value: &[u8], must_be: MustBe) -> Result<()> {
        self.check_writable()?;
        let mut flags = rustix::fs::XattrFlags::empty();
        flags.set(rustix::fs::XattrFlags::CREATE, must_be.new);
        flags.set(rustix::fs::XattrFlags::REPLACE, must_be.old);
        Ok(rustix::fs::fsetxattr(self.reopen(OFlags::RDONLY)?, name, value, flags)?)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`, `EROFS`.
    pub fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        Ok(rustix::fs::fremovexattr(self.reopen(OFlags::RDONLY)?, name)?)
    }

    /// The names of all extended attributes, each followed by a zero byte.
    ///
    /// # Errors
    /// `EOPNOTSUPP`.
    pub fn xattrs(&self) -> Result<Vec<u8>> {
        let open = self.reopen(OFlags::RDONLY)?;
        whole(|buffer| rustix::fs::flistxattr(&open, buffer))
    }
}

/// A time to set; none leaves it as it is.
fn time(nanoseconds: Option<i64>) -> Timespec {
    match nanoseconds {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(time) => Timespec { tv_sec: time.div_euclid(1_000_000_000), tv_nsec: time.rem_euclid(1_000_000_000) },
    }
}

/// What a call puts into a buffer that may be too short at first: 64 KiB is the most Linux gives.
fn whole(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 16 => buffer.resize(1 << 16, 0),
            Err(errno) => return Err(errno.into()),
        }
    }
}
