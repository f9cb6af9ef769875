//! The structure of stat(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::time::Timespec;

/// `struct stat`, as asm-generic/stat.h has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stat {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
    /// `st_mode`
    pub mode: u32,
    /// `st_nlink`
    pub links: u32,
    /// `st_uid`
    pub user: u32,
    /// `st_gid`
    pub group: u32,
    /// `st_rdev`
    pub represented: u64,
    /// Always 0.
    pub padding: u64,
    /// `st_size`
    pub size: i64,
    /// `st_blksize`
    pub block_size: i32,
    /// Always 0.
    pub padding2: i32,
    /// `st_blocks`, of 512 bytes
    pub blocks: i64,
    /// `st_atim`
    pub accessed: Timespec,
    /// `st_mtim`
    pub modified: Timespec,
    /// `st_ctim`
    pub changed: Timespec,
    /// Always 0.
    pub unused: [u32; 2],
}

impl Stat {
    /// With those fields whose width depends on the architecture, and zeros.
    #[inline]
    pub fn new(links: u32, block_size: u32) -> Stat {
        Stat { links, block_size: block_size as i32, ..Stat::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_layout_is_linux_s() {
        assert_eq!(size_of::<Stat>(), 128);
        assert_eq!((offset_of!(Stat, mode), offset_of!(Stat, links), offset_of!(Stat, represented)), (16, 20, 32));
        assert_eq!((offset_of!(Stat, size), offset_of!(Stat, block_size), offset_of!(Stat, blocks)), (48, 56, 64));
        assert_eq!((offset_of!(Stat, accessed), offset_of!(Stat, changed), offset_of!(Stat, unused)), (72, 104, 120));
    }
}
