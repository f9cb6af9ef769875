//! Shared folders on a Linux host: descriptors opened beforehand, and from there one name at a time.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | opening a folder to share it; what its nodes have in common |
//! | `node` | [`Node`]: finding, making, moving and changing files by name |
//! | `attributes` | what a node tells of itself, and changes of that |
//! | `opened` | [`OpenNode`]: contents of files, entries of directories |
//! | `helpers` | threads that make calls which may take long |
//! | `requests` | what they are asked for |
//! | `nearness` | which file systems never take long |
//! | `descriptors` | how many descriptors all this may take |
//! | `status` | attributes, and whose they are |
//!
//! **Why nobody gets out.** A name is one component: never empty, `.`, `..`, never with a slash or a zero byte
//! ([`checked`]). It is looked at by calls that don't follow links (`statx` with `AT_SYMLINK_NOFOLLOW`), and opened
//! only by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`, as a mere name (`O_PATH`),
//! which touches neither a device nor a FIFO. What came back is compared with the [`Identity`](crate::Identity)
//! it must have, and only then, and only if it is a regular file or a directory, opened in earnest: through
//! `/proc/self/fd`, so that it is that very file and no other. Swapping a component between two of these calls gives
//! `ESTALE` at worst.
//!
//! Where the folder reaches into one of the host kernel's own file systems (`/proc`, `/sys` and their like, when `/` is
//! shared), it ends: files there are not contents but handles on the host, on this very process too. Opening gives
//! `EACCES`.
//!
//! The system calls used after a folder was opened: openat, openat2, statx, fstatfs, getdents64, lseek, readlinkat,
//! mkdirat, mknodat, symlinkat, linkat, unlinkat, renameat2, fchmod, fchmodat, fchown, fchownat, utimensat, ftruncate,
//! fallocate, preadv2, pread, fcntl, pwrite, pwritev, pwritev2, fsync, fdatasync, syncfs, f*xattr, close.

mod attributes;
mod descriptors;
mod helpers;
mod nearness;
mod node;
mod opened;
mod requests;
mod status;

#[cfg(test)]
mod tests;

pub use helpers::{Handler, Interrupt, Lent};
pub use node::Node;
pub use opened::{OpenNode, Page};
pub use requests::{Held, Opened};

use self::helpers::Helpers;
use crate::{HostError, Result, SharedFolder, Status};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const ENFILE: HostError = HostError(Errno::NFILE.raw_os_error() as u16);
const EROFS: HostError = HostError(Errno::ROFS.raw_os_error() as u16);
const EXDEV: HostError = HostError(Errno::XDEV.raw_os_error() as u16);
const ESTALE: HostError = HostError(Errno::STALE.raw_os_error() as u16);
const EINVAL: HostError = HostError(Errno::INVAL.raw_os_error() as u16);
const ENAMETOOLONG: HostError = HostError(Errno::NAMETOOLONG.raw_os_error() as u16);
const EACCES: HostError = HostError(Errno::ACCESS.raw_os_error() as u16);
const ENXIO: HostError = HostError(Errno::NXIO.raw_os_error() as u16);

/// `NAME_MAX`
const NAME_MAX: usize = 255;

/// Never out of the folder, never through a link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Why a folder can't be shared; each says what to do.
#[derive(Debug)]
pub enum ShareError {
    /// The folder itself.
    Folder(PathBuf, std::io::Error),
    /// It is something else.
    NotAFolder(PathBuf),
    /// It holds no files but what the host's kernel shows of itself.
    Interface(PathBuf),
    /// The path in the guest.
    GuestPath(Vec<u8>),
    /// The host lacks openat2(2).
    NoOpenat2(Errno),
    /// The host's /proc is missing.
    NoProc(Errno),
}

impl fmt::Display for ShareError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Folder(path, error) => {
                write!(formatter, "{} can't be shared: {error}; check the path and its permissions", path.display())
            }
            ShareError::NotAFolder(path) => {
                write!(formatter, "{} is not a folder: name the folder it is in", path.display())
            }
            ShareError::Interface(path) => write!(
                formatter,
                "{} can't be shared: through it a guest could take hold of this host; share folders with files",
                path.display()
            ),
            ShareError::GuestPath(path) => write!(
                formatter,
                "{} can't be a place in the guest: give an absolute path without \"..\"",
                String::from_utf8_lossy(path)
            ),
            ShareError::NoOpenat2(errno) => write!(
                formatter,
                "sharing a folder needs the system call openat2, which this host refuses ({errno}): use Linux 5.8 or \
                 newer, and let the container's seccomp profile allow it"
            ),
            ShareError::NoProc(errno) => {
                write!(formatter, "sharing a folder needs /proc, which this host lacks ({errno}): mount it")
            }
        }
    }
}

impl std::error::Error for ShareError {}

/// What all nodes of one folder have in common.
struct Share {
    read_only: bool,
    /// The host's number of the root's file system.
    device: u64,
    owner: status::Owner,
    /// It lies in an overlay, where files are born again when they are first written.
    layered: bool,
    /// `/proc/self/fd`: by it a descriptor of a mere name becomes one that can be read.
    descriptors: Arc<OwnedFd>,
    /// Held while a directory gets another parent, so that no two make a ring.
    moving: Mutex<()>,
    /// The root's file system is not another machine's, or a program's.
    near: bool,
    /// What is known of others.
    others: nearness::Others,
    helpers: Arc<Helpers>,
}

impl SharedFolder {
    /// Opens the folder `host` to be shown at `guest`. From here on only the descriptor counts: the folder may be
    /// renamed.
    ///
    /// # Errors
    /// What the person who asked for it should know.
    pub fn open(host: &Path, guest: &[u8], read_only: bool) -> Result<SharedFolder, ShareError> {
        SharedFolder::open_as(host, guest, read_only, nearness::is_near)
    }

    /// For tests: the same, whose files are taken for another machine's, so that they are waited for.
    ///
    /// # Errors
    /// As [`SharedFolder::open`].
    #[cfg(feature = "test-hooks")]
    pub fn open_as_far(host: &Path, guest: &[u8], read_only: bool) -> Result<SharedFolder, ShareError> {
        SharedFolder::open_as(host, guest, read_only, |_| false)
    }

    fn open_as(
        host: &Path,
        guest: &[u8],
        read_only: bool,
        is_near: fn(u64) -> bool,
    ) -> Result<SharedFolder, ShareError> {
        let absolute = guest.first() == Some(&b'/') && !guest.contains(&0);
        if !absolute || guest.split(|byte| *byte == b'/').any(|component| component == b"..") {
            return Err(ShareError::GuestPath(guest.to_vec()));
        }
        let folder = |errno: Errno| match errno {
            Errno::NOTDIR if host.exists() => ShareError::NotAFolder(host.into()),
            errno => ShareError::Folder(host.into(), errno.into()),
        };
        let name = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(host.as_os_str().as_bytes(), name, Mode::empty()).map_err(folder)?;
        rustix::fs::openat2(&root, c".", name, Mode::empty(), BENEATH).map_err(|errno| match errno {
            Errno::NOSYS | Errno::PERM => ShareError::NoOpenat2(errno),
            errno => folder(errno),
        })?;
        if is_interface(&root).map_err(folder)? {
            return Err(ShareError::Interface(host.into()));
        }
        let descriptors = rustix::fs::openat(CWD, c"/proc/self/fd", name, Mode::empty()).map_err(ShareError::NoProc)?;
        let status = rustix::fs::statx(&root, c"", AtFlags::EMPTY_PATH, status::WANTED).map_err(folder)?;
        let owner = status::Owner::of_this_process();
        let file_system = rustix::fs::fstatfs(&root).map_err(folder)?.f_type as u64 & 0xffff_ffff;
        let (layered, near) = (file_system == OVERLAY, is_near(file_system));
        let device = owner.status(&status).identity.device;
        let (descriptors, others, moving, helpers) =
            (Arc::new(descriptors), Default::default(), Mutex::new(()), Arc::default());
        let share = Share { read_only, device, owner, layered, descriptors, moving, near, others, helpers };
        let identity = share.status(&status).identity;
        let root = Node::root(Arc::new(share), identity, root);
        Ok(SharedFolder { guest_path: guest.to_vec(), read_only, root })
    }

    /// Lends it what its helpers need of the machine. The first call counts; without one they call handlers themselves.
    pub fn lend(&self, lent: Lent) {
        self.root.lend(lent);
    }
}

impl Share {
    /// What statx told, as the guest sees it.
    fn status(&self, found: &Statx) -> Status {
        let mut status = self.owner.status(found);
        if self.layered {
            status.identity.created = None;
        }
        status
    }

    /// Whether a file system other than the root's never takes long: as the directory where it was met, if the host doesn't say (it may be a part
    /// of that one, with a number of its own).
    fn is_near(&self, device: u64, directory: bool) -> bool {
        if device == self.device { self.near } else { self.others.is_near(device).unwrap_or(directory) }
    }
}

/// A name that leads to an entry of this directory and nowhere else.
fn checked(name: &[u8]) -> Result<&[u8]> {
    match name {
        b"" | b"." | b".." => Err(EINVAL),
        name if name.len() > NAME_MAX => Err(ENAMETOOLONG),
        name if name.contains(&b'/') || name.contains(&0) => Err(EINVAL),
        name => Ok(name),
    }
}

/// `OVERLAYFS_SUPER_MAGIC`
const OVERLAY: u64 = 0x794c_7630;

/// The magic numbers of file systems by which the host's kernel shows and takes settings: statfs(2), linux/magic.h.
const INTERFACES: [u64; 19] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x0765_5821, // resctrl
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
    0x5049_4446, // pidfs
];

/// Whether a file lies in one of them.
fn is_interface(open: &OwnedFd) -> rustix::io::Result<bool> {
    let found = rustix::fs::fstatfs(open)?;
    Ok(INTERFACES.contains(&(found.f_type as u64 & 0xffff_ffff)))
}
