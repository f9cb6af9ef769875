//! The system calls a machine's threads make: the list of what is allowed.
//!
//! What is not here is refused; nothing here reaches out of what the machine was given, but for:
//! - `ptrace`: which process is meant can't be told from a number. Its stubs are the machine's children; any other process of the same
//!   user is in reach as far as the host's own rules (`kernel.yama.ptrace_scope`) let it. Reading and writing memory by it is refused,
//!   registers are what the engines need.
//! - `kill` and `tgkill`, for the same reason: with the signals named here only.
//! - `openat` and `openat2` where a folder is shared: the host looks paths up after the filter. The folder's own code opens names beneath
//!   descriptors only.

use libc::{c_int, c_long};

/// An allowed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: c_long,
    /// In which forms.
    pub form: Form,
}

/// In which forms a call is allowed. Arguments are looked at as 64 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// In all.
    Any,
    /// An argument, by its place, is one of these.
    OneOf(u32, Vec<u64>),
    /// An argument has all the bits of a mask.
    With(u32, u32),
    /// An argument has none of the bits of a mask.
    Without(u32, u32),
    /// It answers `ENOSYS`, so that its caller uses an older call whose arguments can be seen.
    Missing,
}

const fn any(number: c_long) -> Call {
    Call { number, form: Form::Any }
}

fn one_of(number: c_long, argument: u32, values: &[u64]) -> Call {
    Call { number, form: Form::OneOf(argument, values.to_vec()) }
}

/// What a machine's threads may call. What is called most comes first: the host goes through the list in order.
/// `interrupt` is the signal that makes programs come back.
pub fn allowed(has_folders: bool, interrupt: c_int) -> Vec<Call> {
    // What interrupts programs, what ends their threads, and abort(3).
    let signals = [interrupt, libc::SIGKILL, libc::SIGABRT];
    let mut calls = vec![
        one_of(libc::SYS_ptrace, 0, &PTRACE.map(u64::from)),
        any(libc::SYS_wait4),
        any(libc::SYS_futex),
        any(libc::SYS_waitid),
        one_of(libc::SYS_tgkill, 2, &signals.map(|signal| signal as u64)),
        one_of(libc::SYS_kill, 1, &[libc::SIGKILL as u64]),
        // Memory is never code. Flags are 32 bits on the host, too.
        Call { number: libc::SYS_mmap, form: Form::Without(2, libc::PROT_EXEC as u32) },
        Call { number: libc::SYS_mprotect, form: Form::Without(2, libc::PROT_EXEC as u32) },
        // Threads, no processes. The flags of clone3 lie in memory.
        Call { number: libc::SYS_clone, form: Form::With(0, libc::CLONE_THREAD as u32) },
        Call { number: libc::SYS_clone3, form: Form::Missing },
        // A thread's name.
        one_of(libc::SYS_prctl, 0, &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64]),
        // Limits are asked for, not set.
        one_of(libc::SYS_prlimit64, 2, &[0]),
        one_of(libc::SYS_ioctl, 1, &IOCTLS),
        one_of(libc::SYS_fcntl, 1, &FCNTLS.map(|command| command as u64)),
    ];
    calls.extend(PLAIN.map(any));
    if has_folders {
        calls.extend(OF_FOLDERS.map(any));
    }
    calls
}

/// Requests of ptrace(2): see machine/src/host/stub/trace.rs.
const PTRACE: [libc::c_uint; 11] = [
    libc::PTRACE_SYSEMU,
    libc::PTRACE_CONT,
    libc::PTRACE_GETREGS,
    libc::PTRACE_SETREGS,
    libc::PTRACE_GETREGSET,
    libc::PTRACE_SETREGSET,
    libc::PTRACE_GETSIGINFO,
    libc::PTRACE_SEIZE,
    libc::PTRACE_INTERRUPT,
    libc::PTRACE_SETOPTIONS,
    libc::PTRACE_DETACH,
];

/// Looking at terminals and pipes. TIOCSTI, which types on a terminal, is not among them.
const IOCTLS: [u64; 4] = [libc::TCGETS, libc::TCGETS2, libc::TIOCGWINSZ, libc::FIONREAD];

const FCNTLS: [libc::c_int; 5] = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];

/// Calls that reach nothing but this process and its descriptors.
const PLAIN: [c_long; 53] = [
    libc::SYS_clock_gettime,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_fallocate,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_fstat,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_capget,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls of shared folders.
const OF_FOLDERS: [c_long; 28] = [
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
];
