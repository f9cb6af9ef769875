//! Which of the host's file systems never take long: those that are not another machine's, or a program's.
//!
//! Asking such a file system itself may take as long as anything else there. So the root of a folder is asked, when it is opened; of
//! those that are met in it the host's list of mounts tells the kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The magic numbers of file systems whose files lie elsewhere, or with a program: statfs(2), linux/magic.h.
const FAR: [u64; 10] = [
    0x6573_5546, // fuse
    0x6969,      // nfs
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x0102_1997, // 9p
    0x00c3_6400, // ceph
    0x5346_414f, // afs
    0x7375_7245, // coda
    0x786f_4256, // vboxsf
];

/// What the list of mounts calls them. FUSE's are `fuse` and `fuse.` with the name of a program.
const FAR_NAMES: [&str; 13] =
    ["fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "smb3", "cifs", "9p", "ceph", "afs", "coda", "vboxsf", "autofs"];

/// Whether the file system with this magic number never takes long.
pub fn is_near(magic: u64) -> bool {
    !FAR.contains(&magic)
}

/// What is known of file systems by their numbers.
#[derive(Default)]
pub struct Others(Mutex<BTreeMap<u64, Option<bool>>>);

impl Others {
    /// Whether the one with this number never takes long; none if there is no mount of it.
    pub fn is_near(&self, device: u64) -> Option<bool> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(device).or_insert_with(|| {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
            Some(!is_far_name(kind_of(&mounts, device)?))
        })
    }
}

fn is_far_name(kind: &str) -> bool {
    FAR_NAMES.contains(&kind) || kind.starts_with("fuse.")
}

/// The kind of the file system with this number, by a list as in /proc/self/mountinfo, see proc_pid_mountinfo(5).
fn kind_of(mounts: &str, device: u64) -> Option<&str> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&number))?;
    line.split_once(" - ")?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_mounts_tells_what_is_far() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      40 22 0:33 / /far rw - fuse.sshfs host: rw\n41 22 0:34 / /net rw master:2 shared:3 - nfs4 h:/x rw\n";
        let kind = |minor| kind_of(mounts, rustix::fs::makedev(0, minor));
        assert_eq!(kind_of(mounts, rustix::fs::makedev(8, 1)), Some("ext4"));
        assert_eq!((kind(33), kind(34), kind(35)), (Some("fuse.sshfs"), Some("nfs4"), None));
        assert!(is_far_name("fuse.sshfs") && is_far_name("nfs4") && !is_far_name("ext4") && !is_far_name("fusectl"));
    }
}
