//! The names of the flags that are done, for the types of the table's arguments.
//!
//! A name here is a promise: the call's function does what Linux does with that flag. Names come first that cover
//! others' bits, so that a trace shows `O_SYNC` and not `O_DSYNC|0x100000`; a name of value 0 is shown when nothing is set.

use abi::raw::general;

use crate::argument::FlagNames;

/// What `linux-raw-sys` has no module for.
pub(crate) mod extended {
    pub const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
    pub const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
    pub const XATTR_CREATE: u32 = 1;
    pub const XATTR_REPLACE: u32 = 2;
}

macro_rules! flags {
    ($($(#[$note:meta])* $set:ident in $module:ident { $($(#[$only:meta])? $flag:ident)* })*) => {$(
        $(#[$note])*
        pub struct $set;

        impl FlagNames for $set {
            const NAMES: &'static [(u32, &'static str)] = &[$($(#[$only])? ($module::$flag as u32, stringify!($flag))),*];
        }
    )*};
}

flags! {
    /// clone(2); the low byte is the signal that tells of the child's exit.
    CloneFlags in general {
        CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_SYSVSEM CLONE_SETTLS
        CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED CLONE_CHILD_SETTID
    }
    /// execveat(2)
    ExecFlags in general { AT_EMPTY_PATH AT_SYMLINK_NOFOLLOW }
    /// wait4(2)
    WaitOptions in general { WNOHANG WUNTRACED WCONTINUED __WALL __WCLONE __WNOTHREAD }
    /// waitid(2)
    WaitIdOptions in general { WNOHANG WSTOPPED WEXITED WCONTINUED WNOWAIT __WALL __WCLONE __WNOTHREAD }
    /// mmap(2), mprotect(2)
    Protections in general { PROT_NONE PROT_READ PROT_WRITE PROT_EXEC PROT_SEM PROT_GROWSDOWN }
    /// mmap(2)
    MapFlags in general {
        MAP_SHARED_VALIDATE MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS #[cfg(of_x86)] MAP_32BIT MAP_GROWSDOWN
        MAP_DENYWRITE MAP_EXECUTABLE MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_FIXED_NOREPLACE
    }
    /// mremap(2)
    RemapFlags in general { MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP }
    /// msync(2)
    SyncFlags in general { MS_ASYNC MS_INVALIDATE MS_SYNC }
    /// mlockall(2)
    LockFlags in general { MCL_CURRENT MCL_FUTURE MCL_ONFAULT }
    /// open(2)
    OpenFlags in general {
        O_RDONLY O_WRONLY O_RDWR O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_TMPFILE O_DIRECTORY O_NOFOLLOW
        O_NOATIME O_CLOEXEC O_PATH O_LARGEFILE
    }
    /// close_range(2)
    CloseRangeFlags in extended { CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC }
    /// dup3(2)
    CloseOnExec in general { O_CLOEXEC }
    /// pipe2(2)
    PipeFlags in general { O_CLOEXEC O_NONBLOCK }
    /// eventfd2(2)
    EventFlags in general { EFD_SEMAPHORE EFD_CLOEXEC EFD_NONBLOCK }
    /// preadv2(2), pwritev2(2)
    TransferFlags in general { RWF_HIPRI RWF_DSYNC RWF_SYNC }
    /// newfstatat(2), statx(2), utimensat(2)
    StatFlags in general { AT_SYMLINK_NOFOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH AT_STATX_FORCE_SYNC AT_STATX_DONT_SYNC }
    /// faccessat2(2)
    AccessFlags in general { AT_EACCESS AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH }
    /// fchownat(2)
    ChownFlags in general { AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH }
    /// setxattr(2)
    XattrFlags in extended { XATTR_CREATE XATTR_REPLACE }
    /// unlinkat(2)
    UnlinkFlags in general { AT_REMOVEDIR }
    /// renameat2(2)
    RenameFlags in general { RENAME_NOREPLACE RENAME_EXCHANGE }
    /// linkat(2)
    LinkFlags in general { AT_SYMLINK_FOLLOW AT_EMPTY_PATH }
    /// mount(2)
    MountFlags in general {
        MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_REMOUNT MS_NOATIME MS_NODIRATIME MS_BIND MS_MOVE MS_REC MS_SILENT
        MS_PRIVATE MS_RELATIME MS_STRICTATIME
    }
    /// umount2(2)
    UnmountFlags in general { MNT_FORCE MNT_DETACH UMOUNT_NOFOLLOW }
    /// clock_nanosleep(2)
    ClockFlags in general { TIMER_ABSTIME }
    /// getrandom(2)
    RandomFlags in general { GRND_NONBLOCK GRND_RANDOM GRND_INSECURE }
}
