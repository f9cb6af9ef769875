//! Who acts: the part of a thread's credentials that files look at, and the permission rules of inode(7).

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::raw::general as raw;
use abi::{Errno, Result};
use bitflags::bitflags;

use crate::inode::{FileKind, Permissions};

/// Who acts on files. The process room keeps one of these in each thread's credentials.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user files are accessed as (`fsuid`, which follows the effective uid).
    pub user: u32,
    /// The group files are accessed as (`fsgid`).
    pub group: u32,
    /// The supplementary groups, see getgroups(2).
    pub groups: Arc<Vec<u32>>,
    /// The effective capabilities.
    pub capabilities: Capabilities,
}

bitflags! {
    /// Capabilities that matter to files, with the bit positions of capabilities(7). Other bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capabilities: u64 {
        /// Change any file's owner.
        const CHOWN = 1 << 0;
        /// Read, write and execute whatever the mode says.
        const DAC_OVERRIDE = 1 << 1;
        /// Read files and search directories whatever the mode says.
        const DAC_READ_SEARCH = 1 << 2;
        /// Act as the owner of any file.
        const FOWNER = 1 << 3;
        /// Keep set-group-ID bits of groups one is not in.
        const FSETID = 1 << 4;
        /// Override resource limits.
        const SYS_RESOURCE = 1 << 24;
        /// Mount, set trusted attributes and much more.
        const SYS_ADMIN = 1 << 21;
        /// chroot(2).
        const SYS_CHROOT = 1 << 18;
        /// Make device nodes.
        const MKNOD = 1 << 27;
        const _ = !0;
    }

    /// What somebody wants to do with a file: the three bits of a mode, in their usual places.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Run a program, or search a directory.
        const EXECUTE = raw::X_OK;
        /// Change the contents.
        const WRITE = raw::W_OK;
        /// See the contents.
        const READ = raw::R_OK;
    }
}

impl Credentials {
    /// The superuser with every capability: the kernel itself, and init.
    pub fn superuser() -> Credentials {
        Credentials { user: 0, group: 0, groups: Arc::default(), capabilities: Capabilities::all() }
    }

    /// Whether all of `capability` is effective.
    pub fn has(&self, capability: Capabilities) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether `group` is the file group or a supplementary one.
    pub fn in_group(&self, group: u32) -> bool {
        self.group == group || self.groups.contains(&group)
    }

    /// Whether this is the owner of a file, or may act as if.
    pub fn owns(&self, permissions: Permissions) -> bool {
        self.user == permissions.user || self.has(Capabilities::FOWNER)
    }

    /// The permission check of path_resolution(7).
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, permissions: Permissions, wanted: Access) -> Result<()> {
        let mode = permissions.mode;
        let granted = if self.user == permissions.user {
            mode >> 6
        } else if self.in_group(permissions.group) {
            mode >> 3
        } else {
            mode
        };
        if wanted.bits() & !granted == 0 || self.overrides(mode, wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// What capabilities grant beyond the mode bits.
    #[cold]
    fn overrides(&self, mode: u32, wanted: Access) -> bool {
        let directory = FileKind::of_mode(mode) == Some(FileKind::Directory);
        let harmless = if directory { Access::READ | Access::EXECUTE } else { Access::READ };
        if harmless.contains(wanted) && self.has(Capabilities::DAC_READ_SEARCH) {
            return true;
        }
        // A file nobody may execute is no program, not even for the superuser.
        let executable = directory || mode & 0o111 != 0;
        self.has(Capabilities::DAC_OVERRIDE) && (executable || !wanted.contains(Access::EXECUTE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: u32, groups: &[u32]) -> Credentials {
        Credentials { user, group: user, groups: Arc::new(groups.to_vec()), capabilities: Capabilities::empty() }
    }

    fn file(mode: u32) -> Permissions {
        Permissions { mode: raw::S_IFREG | mode, user: 10, group: 20 }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let (owner, member, other) = (user(10, &[20]), user(11, &[19, 20]), user(12, &[]));
        // The owner gets the owner's bits, even where the group has more.
        assert_eq!(owner.check(file(0o077), Access::READ), Err(Errno::EACCES));
        assert_eq!(member.check(file(0o707), Access::READ), Err(Errno::EACCES));
        assert_eq!(other.check(file(0o770), Access::READ), Err(Errno::EACCES));
        assert_eq!(owner.check(file(0o700), Access::all()), Ok(()));
        assert_eq!(member.check(file(0o050), Access::READ | Access::EXECUTE), Ok(()));
        assert_eq!(member.check(file(0o050), Access::WRITE), Err(Errno::EACCES));
        assert_eq!(other.check(file(0o002), Access::WRITE), Ok(()));
    }

    #[test]
    fn capabilities_override_but_make_no_programs() {
        let root = Credentials::superuser();
        assert_eq!(root.check(file(0), Access::READ | Access::WRITE), Ok(()));
        assert_eq!(root.check(file(0o600), Access::EXECUTE), Err(Errno::EACCES));
        assert_eq!(root.check(file(0o001), Access::EXECUTE), Ok(()));
        let directory = Permissions { mode: raw::S_IFDIR, user: 10, group: 20 };
        assert_eq!(root.check(directory, Access::EXECUTE | Access::WRITE), Ok(()));
        let reader = Credentials { capabilities: Capabilities::DAC_READ_SEARCH, ..user(5, &[]) };
        assert_eq!(reader.check(directory, Access::EXECUTE), Ok(()));
        assert_eq!(reader.check(directory, Access::WRITE), Err(Errno::EACCES));
        assert_eq!(reader.check(file(0o100), Access::EXECUTE), Err(Errno::EACCES));
    }
}
