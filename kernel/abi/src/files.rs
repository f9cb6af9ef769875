//! Structures of calls on open files: fcntl(2)'s locks, openat2(2), poll(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct f_owner_ex`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileOwner {
    /// `type`: `F_OWNER_TID`, `F_OWNER_PID` or `F_OWNER_PGRP`
    pub kind: i32,
    /// `pid`
    pub number: i32,
}

/// `struct flock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileLock {
    /// `l_type`: `F_RDLCK`, `F_WRLCK` or `F_UNLCK`
    pub kind: i16,
    /// `l_whence`: what the start counts from
    pub whence: i16,
    /// Always 0.
    pub padding: u32,
    /// `l_start`
    pub start: i64,
    /// `l_len`: 0 for up to the end, wherever that may be
    pub length: i64,
    /// `l_pid`: who holds it
    pub process: i32,
    /// Always 0.
    pub padding2: u32,
}

/// `struct open_how`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenHow {
    /// `flags`: as those of open(2)
    pub flags: u64,
    /// `mode`: of a file that is made
    pub mode: u64,
    /// `resolve`: limits on where the path may lead
    pub resolve: u64,
}

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PollDescriptor {
    /// `fd`: a negative one is skipped
    pub descriptor: i32,
    /// `events`: what is waited for
    pub events: u16,
    /// `revents`: what is there
    pub ready: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<FileLock>(), size_of::<OpenHow>(), size_of::<PollDescriptor>()), (32, 24, 8));
    }
}
