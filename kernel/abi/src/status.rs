//! What a file is: stat(2), statx(2), statfs(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::arch::Stat;

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatxTime {
    /// `tv_sec`
    pub seconds: i64,
    /// `tv_nsec`
    pub nanoseconds: u32,
    /// Always 0.
    pub padding: i32,
}

/// `struct statx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Statx {
    /// `stx_mask`: which fields are filled in
    pub mask: u32,
    /// `stx_blksize`
    pub block_size: u32,
    /// `stx_attributes`
    pub attributes: u64,
    /// `stx_nlink`
    pub links: u32,
    /// `stx_uid`
    pub user: u32,
    /// `stx_gid`
    pub group: u32,
    /// `stx_mode`
    pub mode: u16,
    /// Always 0.
    pub padding: u16,
    /// `stx_ino`
    pub inode: u64,
    /// `stx_size`
    pub size: u64,
    /// `stx_blocks`, of 512 bytes
    pub blocks: u64,
    /// `stx_attributes_mask`: which attributes the file system knows
    pub attributes_mask: u64,
    /// `stx_atime`
    pub accessed: StatxTime,
    /// `stx_btime`
    pub created: StatxTime,
    /// `stx_ctime`
    pub changed: StatxTime,
    /// `stx_mtime`
    pub modified: StatxTime,
    /// `stx_rdev_major`
    pub represented_major: u32,
    /// `stx_rdev_minor`
    pub represented_minor: u32,
    /// `stx_dev_major`
    pub device_major: u32,
    /// `stx_dev_minor`
    pub device_minor: u32,
    /// `stx_mnt_id`
    pub mount: u64,
    /// What later versions of Linux tell: 0.
    pub unused: [u64; 13],
}

/// `struct statfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatFs {
    /// `f_type`: the magic number of the file system
    pub kind: i64,
    /// `f_bsize`: its block size
    pub block_size: i64,
    /// `f_blocks`: its size in blocks
    pub blocks: u64,
    /// `f_bfree`: unused blocks
    pub free: u64,
    /// `f_bavail`: unused blocks for ordinary users
    pub available: u64,
    /// `f_files`: how many inodes it can have
    pub files: u64,
    /// `f_ffree`: how many of them are unused
    pub free_files: u64,
    /// `f_fsid`
    pub identity: [i32; 2],
    /// `f_namelen`: the longest name
    pub name_length: i64,
    /// `f_frsize`
    pub fragment_size: i64,
    /// `f_flags`: `ST_*` of the mount
    pub flags: i64,
    /// Always 0.
    pub spare: [i64; 4],
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<Statx>(), size_of::<StatFs>()), (256, 120));
        assert_eq!((offset_of!(Statx, accessed), offset_of!(Statx, mount)), (64, 144));
        assert_eq!((offset_of!(StatFs, identity), offset_of!(StatFs, flags)), (56, 80));
    }
}
