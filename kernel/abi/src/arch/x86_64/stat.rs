//! The structure of stat(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::time::Timespec;

/// `struct stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stat {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
    /// `st_nlink`
    pub links: u64,
    /// `st_mode`
    pub mode: u32,
    /// `st_uid`
    pub user: u32,
    /// `st_gid`
    pub group: u32,
    /// Always 0.
    pub padding: u32,
    /// `st_rdev`
    pub represented: u64,
    /// `st_size`
    pub size: i64,
    /// `st_blksize`
    pub block_size: i64,
    /// `st_blocks`, of 512 bytes
    pub blocks: i64,
    /// `st_atim`
    pub accessed: Timespec,
    /// `st_mtim`
    pub modified: Timespec,
    /// `st_ctim`
    pub changed: Timespec,
    /// Always 0.
    pub unused: [i64; 3],
}

impl Stat {
    /// With those fields whose width depends on the architecture, and zeros.
    #[inline]
    pub fn new(links: u32, block_size: u32) -> Stat {
        Stat { links: links.into(), block_size: block_size.into(), ..Stat::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_layout_is_linux_s() {
        assert_eq!(size_of::<Stat>(), 144);
        assert_eq!((offset_of!(Stat, represented), offset_of!(Stat, accessed)), (40, 72));
    }
}
