//! Attributes of host files as the guest sees them, and whose they are.

use crate::{Identity, Room, Status};
use rustix::fs::{StatFs, Statx, StatxFlags, StatxTimestamp};

/// What statx is asked for.
pub const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Who runs the machine, and so owns what it makes.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// The user and group of this process.
    pub fn of_this_process() -> Owner {
        Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    /// Root can give files away.
    pub fn is_privileged(self) -> bool {
        self.user == 0
    }

    /// A user of the host as the guest sees it.
    pub fn shown_user(self, user: u32) -> u32 {
        if user == self.user { 0 } else { user }
    }

    /// A group of the host as the guest sees it. Root sees groups as they are.
    pub fn shown_group(self, group: u32) -> u32 {
        if group == self.group && !self.is_privileged() { 0 } else { group }
    }

    /// The way back.
    pub fn real_user(self, user: u32) -> u32 {
        if user == 0 { self.user } else { user }
    }

    /// The way back.
    pub fn real_group(self, group: u32) -> u32 {
        if group == 0 && !self.is_privileged() { self.group } else { group }
    }

    /// What statx told, as the guest sees it.
    pub fn status(self, from: &Statx) -> Status {
        let made = StatxFlags::from_bits_retain(from.stx_mask).contains(StatxFlags::BTIME);
        let mode = u32::from(from.stx_mode);
        Status {
            identity: Identity {
                device: rustix::fs::makedev(from.stx_dev_major, from.stx_dev_minor),
                number: from.stx_ino,
                kind: mode & 0o170_000,
                created: made.then(|| nanoseconds(&from.stx_btime)),
            },
            mode,
            links: from.stx_nlink,
            user: self.shown_user(from.stx_uid),
            group: self.shown_group(from.stx_gid),
            represented: (from.stx_rdev_major, from.stx_rdev_minor),
            size: from.stx_size,
            block_size: from.stx_blksize,
            blocks: from.stx_blocks,
            accessed: nanoseconds(&from.stx_atime),
            modified: nanoseconds(&from.stx_mtime),
            changed: nanoseconds(&from.stx_ctime),
        }
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

/// What statfs told.
pub fn room(from: &StatFs) -> Room {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Room {
        block_size: number(from.f_bsize),
        blocks: from.f_blocks,
        free_blocks: from.f_bfree,
        available_blocks: from.f_bavail,
        inodes: from.f_files,
        free_inodes: from.f_ffree,
        name_length: number(from.f_namelen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_the_machine_is_root_in_it() {
        let owner = Owner { user: 1000, group: 100 };
        assert_eq!((owner.shown_user(1000), owner.shown_group(100)), (0, 0));
        assert_eq!((owner.real_user(0), owner.real_group(0)), (1000, 100));
        assert_eq!((owner.shown_user(1001), owner.real_user(1001)), (1001, 1001));
    }

    #[test]
    fn root_sees_owners_as_they_are() {
        let owner = Owner { user: 0, group: 5 };
        assert_eq!((owner.shown_user(1000), owner.shown_group(5), owner.real_group(0)), (1000, 5, 0));
        assert_eq!((owner.shown_user(0), owner.real_user(0)), (0, 0));
    }
}
