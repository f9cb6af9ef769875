//! The table of system calls: the single source of what Orrery answers.
//!
//! A row is Linux's number, the manner of the call, the function that does it, and its arguments with their types:
//!
//! - `now f(...)`: a plain function that never waits. Should a page of user memory have to be fetched first, it is run
//!   again from its start once the page is there, so it touches user memory before it changes anything, or undoes it.
//! - `try f then g(...)`: the plain function `f` is tried first and says `NotReady::WouldBlock` when it cannot finish;
//!   then the `async` function `g` does the call from its start, and may wait.
//! - `part f then g(...)`: likewise for transfers, of which `f` may have done a part: `g` is told how many bytes were moved.
//! - `wait f(...)`: an `async` function.
//! - `rare f(...)`: an `async` function whose state is large or which is called seldom: it waits in a box of its own, to
//!   keep the future of a thread small.
//!
//! A row that not every architecture has says so by a `cfg` (`machine/build.rs`).
//!
//! The rows become the dispatch (lib.rs), the trace (trace.rs) and the coverage page (coverage.rs): each hands a macro
//! to `system_calls!`, and gets all the rows. A new call is one row here and one function in the file of its topic. The
//! name of a call is the name of its number without `__NR_`.
//!
//! Calls Linux has and Orrery has not are listed in [`ABSENT`] by name, so that traces and reports can name them; they
//! answer `ENOSYS`, like numbers Linux does not know.

use abi::raw::general as number;

/// Hands all rows to the macro `$generate`.
macro_rules! system_calls {
    ($generate:ident) => {
        $generate! {
            process {
                #[cfg(old_calls)]
                __NR_fork: rare fork();
                #[cfg(old_calls)]
                __NR_vfork: rare vfork();
                __NR_clone: rare clone(flags: Flags<CloneFlags>, stack: Address, parent_tid: Out<i32>, child_tid: Out<i32>, tls: Address);
                __NR_clone3: rare clone3(arguments: In<CloneArguments>, size: usize);
                __NR_execve: rare execve(path: CString, argv: CStrings, envp: CStrings);
                __NR_execveat: rare execveat(directory: Descriptor, path: CString, argv: CStrings, envp: CStrings, flags: Flags<ExecFlags>);
                __NR_exit: now exit(status: i32);
                __NR_exit_group: now exit_group(status: i32);
                __NR_wait4: wait wait4(pid: i32, status: Out<i32>, options: Flags<WaitOptions>, usage: Out<ResourceUsage>);
                __NR_waitid: rare waitid(kind: u32, id: i32, information: Out<SignalInfo>, options: Flags<WaitIdOptions>, usage: Out<ResourceUsage>);
                __NR_getpid: now getpid();
                __NR_getppid: now getppid();
                __NR_gettid: now gettid();
                __NR_set_tid_address: now set_tid_address(address: Address);
                __NR_set_robust_list: now set_robust_list(head: Address, length: usize);
                __NR_get_robust_list: now get_robust_list(pid: i32, head: Out<usize>, length: Out<usize>);
                __NR_personality: now personality(persona: u32);
            }
            attributes {
                __NR_prctl: now prctl(option: i32, argument: usize, third: usize, fourth: usize, fifth: usize);
                #[cfg(of_x86)]
                __NR_arch_prctl: now arch_prctl(code: i32, argument: Address);
            }
            scheduling {
                __NR_sched_yield: try sched_yield then sched_yield_waiting();
                __NR_sched_getaffinity: now sched_getaffinity(pid: i32, length: u32, mask: Address);
                __NR_sched_setaffinity: wait sched_setaffinity(pid: i32, length: u32, mask: Address);
                __NR_sched_getscheduler: now sched_getscheduler(pid: i32);
                __NR_sched_setscheduler: now sched_setscheduler(pid: i32, policy: i32, parameters: In<i32>);
                __NR_sched_getparam: now sched_getparam(pid: i32, parameters: Out<i32>);
                __NR_sched_setparam: now sched_setparam(pid: i32, parameters: In<i32>);
                __NR_sched_get_priority_max: now sched_get_priority_max(policy: i32);
                __NR_sched_get_priority_min: now sched_get_priority_min(policy: i32);
                __NR_sched_rr_get_interval: now sched_rr_get_interval(pid: i32, interval: Out<Timespec>);
                __NR_getpriority: now getpriority(which: i32, who: i32);
                __NR_setpriority: now setpriority(which: i32, who: i32, priority: i32);
                __NR_getcpu: now getcpu(cpu: Out<u32>, node: Out<u32>, cache: Address);
            }
            limits {
                __NR_getrlimit: now getrlimit(resource: u32, limit: Out<ResourceLimit>);
                __NR_setrlimit: now setrlimit(resource: u32, limit: In<ResourceLimit>);
                __NR_prlimit64: now prlimit64(pid: i32, resource: u32, new: In<ResourceLimit>, old: Out<ResourceLimit>);
                __NR_getrusage: now getrusage(who: i32, usage: Out<ResourceUsage>);
                __NR_times: now times(times: Out<ProcessTimes>);
            }
            credentials {
                __NR_getuid: now getuid();
                __NR_getgid: now getgid();
                __NR_geteuid: now geteuid();
                __NR_getegid: now getegid();
                __NR_setuid: now setuid(user: u32);
                __NR_setgid: now setgid(group: u32);
                __NR_setreuid: now setreuid(real: u32, effective: u32);
                __NR_setregid: now setregid(real: u32, effective: u32);
                __NR_setresuid: now setresuid(real: u32, effective: u32, saved: u32);
                __NR_setresgid: now setresgid(real: u32, effective: u32, saved: u32);
                __NR_getresuid: now getresuid(real: Out<u32>, effective: Out<u32>, saved: Out<u32>);
                __NR_getresgid: now getresgid(real: Out<u32>, effective: Out<u32>, saved: Out<u32>);
                __NR_setfsuid: now setfsuid(user: u32);
                __NR_setfsgid: now setfsgid(group: u32);
                __NR_getgroups: now getgroups(size: i32, list: Out<u32>);
                __NR_setgroups: now setgroups(size: i32, list: In<u32>);
                __NR_capget: now capget(header: InOut<CapabilityHeader>, data: Out<CapabilityData>);
                __NR_capset: now capset(header: InOut<CapabilityHeader>, data: In<CapabilityData>);
            }
            group {
                __NR_setpgid: try setpgid then setpgid_waiting(pid: i32, group: i32);
                __NR_getpgid: now getpgid(pid: i32);
                #[cfg(old_calls)]
                __NR_getpgrp: now getpgrp();
                __NR_setsid: try setsid then setsid_waiting();
                __NR_getsid: now getsid(pid: i32);
            }
            signal {
                __NR_rt_sigaction: now rt_sigaction(signal: SignalNumber, new: In<SignalAction>, old: Out<SignalAction>, size: usize);
                __NR_rt_sigprocmask: now rt_sigprocmask(how: i32, new: In<SignalSet>, old: Out<SignalSet>, size: usize);
                __NR_rt_sigreturn: now rt_sigreturn();
                __NR_rt_sigpending: now rt_sigpending(set: Out<SignalSet>, size: usize);
                __NR_rt_sigtimedwait: wait rt_sigtimedwait(set: In<SignalSet>, information: Out<SignalInfo>, timeout: In<Timespec>, size: usize);
                __NR_rt_sigqueueinfo: now rt_sigqueueinfo(pid: i32, signal: SignalNumber, information: In<SignalInfo>);
                __NR_rt_tgsigqueueinfo: now rt_tgsigqueueinfo(tgid: i32, tid: i32, signal: SignalNumber, information: In<SignalInfo>);
                __NR_rt_sigsuspend: wait rt_sigsuspend(mask: In<SignalSet>, size: usize);
                __NR_sigaltstack: now sigaltstack(new: In<SignalStack>, old: Out<SignalStack>);
                __NR_kill: try kill then kill_waiting(pid: i32, signal: SignalNumber);
                __NR_tkill: now tkill(tid: i32, signal: SignalNumber);
                __NR_tgkill: now tgkill(tgid: i32, tid: i32, signal: SignalNumber);
                #[cfg(old_calls)]
                __NR_pause: wait pause();
                __NR_restart_syscall: rare restart_syscall();
            }
            timer {
                #[cfg(old_calls)]
                __NR_alarm: now alarm(seconds: u32);
                __NR_getitimer: now getitimer(which: i32, value: Out<IntervalTimer>);
                __NR_setitimer: now setitimer(which: i32, new: In<IntervalTimer>, old: Out<IntervalTimer>);
            }
            futex {
                __NR_futex: try futex then futex_waiting(word: Address, operation: i32, value: u32, timeout: usize, second: Address, third: u32);
            }
            memory {
                __NR_brk: wait brk(end: Address);
                __NR_mmap: wait mmap(address: Address, length: usize, protection: Flags<Protections>, flags: Flags<MapFlags>, file: Descriptor, offset: usize);
                __NR_munmap: wait munmap(address: Address, length: usize);
                __NR_mprotect: wait mprotect(address: Address, length: usize, protection: Flags<Protections>);
                __NR_mremap: rare mremap(address: Address, old_length: usize, new_length: usize, flags: Flags<RemapFlags>, new_address: Address);
                __NR_madvise: wait madvise(address: Address, length: usize, advice: i32);
                __NR_msync: wait msync(address: Address, length: usize, flags: Flags<SyncFlags>);
                __NR_mincore: wait mincore(address: Address, length: usize, vector: Address);
                __NR_mlock: wait mlock(address: Address, length: usize);
                __NR_mlock2: wait mlock2(address: Address, length: usize, flags: u32);
                __NR_munlock: wait munlock(address: Address, length: usize);
                __NR_mlockall: wait mlockall(flags: Flags<LockFlags>);
                __NR_munlockall: wait munlockall();
            }
            open {
                #[cfg(old_calls)]
                __NR_open: try open then open_waiting(path: CString, flags: Flags<OpenFlags>, mode: Mode);
                __NR_openat: try openat then openat_waiting(directory: Descriptor, path: CString, flags: Flags<OpenFlags>, mode: Mode);
                __NR_openat2: rare openat2(directory: Descriptor, path: CString, how: In<OpenHow>, size: usize);
                #[cfg(old_calls)]
                __NR_creat: try creat then creat_waiting(path: CString, mode: Mode);
            }
            descriptors {
                __NR_close: try close then close_waiting(file: Descriptor);
                __NR_close_range: wait close_range(first: u32, last: u32, flags: Flags<CloseRangeFlags>);
                __NR_dup: now dup(file: Descriptor);
                #[cfg(old_calls)]
                __NR_dup2: try dup2 then dup2_waiting(file: Descriptor, new: Descriptor);
                __NR_dup3: try dup3 then dup3_waiting(file: Descriptor, new: Descriptor, flags: Flags<CloseOnExec>);
            }
            ioctl {
                __NR_ioctl: wait ioctl(file: Descriptor, request: u32, argument: usize);
            }
            pipe {
                #[cfg(old_calls)]
                __NR_eventfd: now eventfd(initial: u32);
                __NR_eventfd2: now eventfd2(initial: u32, flags: Flags<EventFlags>);
                #[cfg(old_calls)]
                __NR_pipe: now pipe(ends: Out<[i32; 2]>);
                __NR_pipe2: now pipe2(ends: Out<[i32; 2]>, flags: Flags<PipeFlags>);
            }
            control {
                __NR_fcntl: try fcntl then fcntl_waiting(file: Descriptor, command: u32, argument: usize);
                __NR_flock: wait flock(file: Descriptor, operation: u32);
            }
            transfer {
                __NR_read: part read then read_waiting(file: Descriptor, buffer: OutBuffer<2>, count: usize);
                __NR_write: part write then write_waiting(file: Descriptor, buffer: InBuffer<2>, count: usize);
                __NR_pread64: part pread64 then pread64_waiting(file: Descriptor, buffer: OutBuffer<2>, count: usize, offset: i64);
                __NR_pwrite64: part pwrite64 then pwrite64_waiting(file: Descriptor, buffer: InBuffer<2>, count: usize, offset: i64);
                __NR_readv: part readv then readv_waiting(file: Descriptor, vectors: In<IoVector>, count: usize);
                __NR_writev: part writev then writev_waiting(file: Descriptor, vectors: In<IoVector>, count: usize);
                __NR_preadv: rare preadv(file: Descriptor, vectors: In<IoVector>, count: usize, low: i64, high: usize);
                __NR_pwritev: rare pwritev(file: Descriptor, vectors: In<IoVector>, count: usize, low: i64, high: usize);
                __NR_preadv2: rare preadv2(file: Descriptor, vectors: In<IoVector>, count: usize, low: i64, high: usize, flags: Flags<TransferFlags>);
                __NR_pwritev2: rare pwritev2(file: Descriptor, vectors: In<IoVector>, count: usize, low: i64, high: usize, flags: Flags<TransferFlags>);
                __NR_lseek: try lseek then lseek_waiting(file: Descriptor, offset: i64, whence: u32);
                __NR_sendfile: rare sendfile(to: Descriptor, from: Descriptor, offset: InOut<i64>, count: usize);
                __NR_copy_file_range: rare copy_file_range(from: Descriptor, from_offset: InOut<i64>, to: Descriptor, to_offset: InOut<i64>, count: usize, flags: u32);
                __NR_truncate: try truncate then truncate_waiting(path: CString, length: i64);
                __NR_ftruncate: try ftruncate then ftruncate_waiting(file: Descriptor, length: i64);
                __NR_fallocate: rare fallocate(file: Descriptor, mode: u32, offset: i64, length: i64);
                __NR_fadvise64: now fadvise64(file: Descriptor, offset: i64, length: i64, advice: i32);
                __NR_readahead: now readahead(file: Descriptor, offset: i64, count: usize);
                __NR_fsync: wait fsync(file: Descriptor);
                __NR_fdatasync: wait fdatasync(file: Descriptor);
                __NR_sync: wait sync();
                __NR_syncfs: wait syncfs(file: Descriptor);
            }
            status {
                #[cfg(old_calls)]
                __NR_stat: now stat(path: CString, status: Out<Stat>);
                #[cfg(old_calls)]
                __NR_lstat: now lstat(path: CString, status: Out<Stat>);
                __NR_fstat: now fstat(file: Descriptor, status: Out<Stat>);
                __NR_newfstatat: now newfstatat(directory: Descriptor, path: CString, status: Out<Stat>, flags: Flags<StatFlags>);
                __NR_statx: now statx(directory: Descriptor, path: CString, flags: Flags<StatFlags>, mask: u32, status: Out<Statx>);
                __NR_statfs: now statfs(path: CString, status: Out<StatFs>);
                __NR_fstatfs: now fstatfs(file: Descriptor, status: Out<StatFs>);
                #[cfg(old_calls)]
                __NR_access: now access(path: CString, mode: i32);
                __NR_faccessat: now faccessat(directory: Descriptor, path: CString, mode: i32);
                __NR_faccessat2: now faccessat2(directory: Descriptor, path: CString, mode: i32, flags: Flags<AccessFlags>);
                #[cfg(old_calls)]
                __NR_chmod: now chmod(path: CString, mode: Mode);
                __NR_fchmod: now fchmod(file: Descriptor, mode: Mode);
                __NR_fchmodat: now fchmodat(directory: Descriptor, path: CString, mode: Mode);
                __NR_fchmodat2: now fchmodat2(directory: Descriptor, path: CString, mode: Mode, flags: Flags<ChownFlags>);
                #[cfg(old_calls)]
                __NR_chown: now chown(path: CString, user: u32, group: u32);
                #[cfg(old_calls)]
                __NR_lchown: now lchown(path: CString, user: u32, group: u32);
                __NR_fchown: now fchown(file: Descriptor, user: u32, group: u32);
                __NR_fchownat: now fchownat(directory: Descriptor, path: CString, user: u32, group: u32, flags: Flags<ChownFlags>);
                #[cfg(old_calls)]
                __NR_utime: now utime(path: CString, times: In<[i64; 2]>);
                #[cfg(old_calls)]
                __NR_utimes: now utimes(path: CString, times: In<[Timeval; 2]>);
                #[cfg(old_calls)]
                __NR_futimesat: now futimesat(directory: Descriptor, path: CString, times: In<[Timeval; 2]>);
                __NR_utimensat: now utimensat(directory: Descriptor, path: CString, times: In<[Timespec; 2]>, flags: Flags<StatFlags>);
            }
            xattr {
                __NR_setxattr: now setxattr(path: CString, name: CString, value: InBuffer<3>, size: usize, flags: Flags<XattrFlags>);
                __NR_lsetxattr: now lsetxattr(path: CString, name: CString, value: InBuffer<3>, size: usize, flags: Flags<XattrFlags>);
                __NR_fsetxattr: now fsetxattr(file: Descriptor, name: CString, value: InBuffer<3>, size: usize, flags: Flags<XattrFlags>);
                __NR_getxattr: now getxattr(path: CString, name: CString, value: OutBuffer<3>, size: usize);
                __NR_lgetxattr: now lgetxattr(path: CString, name: CString, value: OutBuffer<3>, size: usize);
                __NR_fgetxattr: now fgetxattr(file: Descriptor, name: CString, value: OutBuffer<3>, size: usize);
                __NR_listxattr: now listxattr(path: CString, list: OutBuffer<2>, size: usize);
                __NR_llistxattr: now llistxattr(path: CString, list: OutBuffer<2>, size: usize);
                __NR_flistxattr: now flistxattr(file: Descriptor, list: OutBuffer<2>, size: usize);
                __NR_removexattr: now removexattr(path: CString, name: CString);
                __NR_lremovexattr: now lremovexattr(path: CString, name: CString);
                __NR_fremovexattr: now fremovexattr(file: Descriptor, name: CString);
            }
            path {
                #[cfg(old_calls)]
                __NR_mkdir: now mkdir(path: CString, mode: Mode);
                __NR_mkdirat: now mkdirat(directory: Descriptor, path: CString, mode: Mode);
                #[cfg(old_calls)]
                __NR_mknod: now mknod(path: CString, mode: Mode, device: u32);
                __NR_mknodat: now mknodat(directory: Descriptor, path: CString, mode: Mode, device: u32);
                #[cfg(old_calls)]
                __NR_rmdir: now rmdir(path: CString);
                #[cfg(old_calls)]
                __NR_unlink: now unlink(path: CString);
                __NR_unlinkat: now unlinkat(directory: Descriptor, path: CString, flags: Flags<UnlinkFlags>);
                #[cfg(old_calls)]
                __NR_rename: now rename(old: CString, new: CString);
                #[cfg(old_calls)]
                __NR_renameat: now renameat(old_directory: Descriptor, old: CString, new_directory: Descriptor, new: CString);
                __NR_renameat2: now renameat2(old_directory: Descriptor, old: CString, new_directory: Descriptor, new: CString, flags: Flags<RenameFlags>);
                #[cfg(old_calls)]
                __NR_link: now link(old: CString, new: CString);
                __NR_linkat: now linkat(old_directory: Descriptor, old: CString, new_directory: Descriptor, new: CString, flags: Flags<LinkFlags>);
                #[cfg(old_calls)]
                __NR_symlink: now symlink(target: CString, link: CString);
                __NR_symlinkat: now symlinkat(target: CString, directory: Descriptor, link: CString);
                #[cfg(old_calls)]
                __NR_readlink: now readlink(path: CString, buffer: OutBuffer<2>, size: i32);
                __NR_readlinkat: now readlinkat(directory: Descriptor, path: CString, buffer: OutBuffer<3>, size: i32);
                __NR_chdir: now chdir(path: CString);
                __NR_fchdir: now fchdir(directory: Descriptor);
                __NR_chroot: now chroot(path: CString);
                __NR_getcwd: now getcwd(buffer: OutBuffer<1>, size: usize);
                __NR_umask: now umask(mask: Mode);
            }
            directory {
                #[cfg(old_calls)]
                __NR_getdents: wait getdents(directory: Descriptor, buffer: Address, size: u32);
                __NR_getdents64: wait getdents64(directory: Descriptor, buffer: Address, size: u32);
            }
            poll {
                #[cfg(old_calls)]
                __NR_poll: try poll then poll_waiting(files: InOut<PollDescriptor>, count: u32, timeout: i32);
                __NR_ppoll: wait ppoll(files: InOut<PollDescriptor>, count: u32, timeout: InOut<Timespec>, mask: In<SignalSet>, size: usize);
                #[cfg(old_calls)]
                __NR_select: try select then select_waiting(count: i32, read: Address, write: Address, except: Address, timeout: InOut<Timeval>);
                __NR_pselect6: try pselect6 then pselect6_waiting(count: i32, read: Address, write: Address, except: Address, timeout: InOut<Timespec>, mask: In<[usize; 2]>);
            }
            mount {
                __NR_mount: try mount then mount_waiting(source: CString, target: CString, kind: CString, flags: Flags<MountFlags>, data: CString);
                __NR_umount2: try umount2 then umount2_waiting(target: CString, flags: Flags<UnmountFlags>);
            }
            time {
                __NR_clock_gettime: now clock_gettime(clock: i32, time: Out<Timespec>);
                __NR_clock_settime: now clock_settime(clock: i32, time: In<Timespec>);
                __NR_clock_getres: now clock_getres(clock: i32, resolution: Out<Timespec>);
                __NR_clock_nanosleep: wait clock_nanosleep(clock: i32, flags: Flags<ClockFlags>, request: In<Timespec>, remaining: Out<Timespec>);
                __NR_nanosleep: wait nanosleep(request: In<Timespec>, remaining: Out<Timespec>);
                __NR_gettimeofday: now gettimeofday(time: Out<Timeval>, zone: Out<TimeZone>);
                __NR_settimeofday: now settimeofday(time: In<Timeval>, zone: In<TimeZone>);
                #[cfg(old_calls)]
                __NR_time: now time(time: Out<i64>);
            }
            system {
                __NR_uname: now uname(name: Out<UtsName>);
                __NR_sethostname: now sethostname(name: InBuffer<1>, length: i32);
                __NR_setdomainname: now setdomainname(name: InBuffer<1>, length: i32);
                __NR_sysinfo: now sysinfo(information: Out<SystemInformation>);
                __NR_syslog: rare syslog(action: i32, buffer: OutBuffer<2>, length: i32);
                __NR_getrandom: rare getrandom(buffer: Address, count: usize, flags: Flags<RandomFlags>);
                __NR_reboot: now reboot(magic: u32, magic2: u32, command: u32, argument: Address);
            }
        }
    };
}

/// What the rows name: the types of arguments.
pub(crate) mod types {
    pub(crate) use crate::argument::{
        Address, CString, CStrings, Descriptor, Flags, In, InBuffer, InOut, Mode, Out, OutBuffer, SignalNumber,
    };
    pub(crate) use crate::flags::*;
    pub(crate) use crate::transfer::IoVector;
    pub(crate) use abi::files::{OpenHow, PollDescriptor};
    pub(crate) use abi::limits::{ResourceLimit, ResourceUsage};
    pub(crate) use abi::process::{CapabilityData, CapabilityHeader, CloneArguments};
    pub(crate) use abi::signal::{SignalAction, SignalInfo, SignalSet, SignalStack};
    pub(crate) use abi::status::{Stat, StatFs, Statx};
    pub(crate) use abi::system::{SystemInformation, UtsName};
    pub(crate) use abi::time::{IntervalTimer, ProcessTimes, TimeZone, Timespec, Timeval};
}

/// A number's constant without its prefix: the call's name.
pub(crate) const fn strip(constant: &'static str) -> &'static str {
    match constant.as_bytes() {
        [b'_', b'_', b'N', b'R', b'_', ..] => constant.split_at(5).1,
        _ => constant,
    }
}

macro_rules! absent {
    ($($(#[$only:meta])? $absent:ident)*) => {
        /// The calls Linux has and Orrery has not.
        pub(crate) const ABSENT: &[u32] = &[$($(#[$only])? number::$absent),*];

        fn absent_name(call: u32) -> Option<&'static str> {
            match call {
                $($(#[$only])? number::$absent => Some(strip(stringify!($absent))),)*
                _ => None,
            }
        }
    };
}
absent! {
    #[cfg(old_calls)] __NR__sysctl __NR_accept __NR_accept4 __NR_acct __NR_add_key __NR_adjtimex
    #[cfg(old_calls)] __NR_afs_syscall __NR_bind __NR_bpf __NR_cachestat __NR_clock_adjtime __NR_connect
    #[cfg(old_calls)] __NR_create_module __NR_delete_module #[cfg(old_calls)] __NR_epoll_create __NR_epoll_create1
    __NR_epoll_ctl #[cfg(old_calls)] __NR_epoll_ctl_old __NR_epoll_pwait __NR_epoll_pwait2
    #[cfg(old_calls)] __NR_epoll_wait #[cfg(old_calls)] __NR_epoll_wait_old __NR_fanotify_init __NR_fanotify_mark
    __NR_file_getattr __NR_file_setattr __NR_finit_module __NR_fsconfig __NR_fsmount __NR_fsopen __NR_fspick
    __NR_futex_requeue __NR_futex_wait __NR_futex_waitv __NR_futex_wake #[cfg(old_calls)] __NR_get_kernel_syms
    __NR_get_mempolicy #[cfg(old_calls)] __NR_get_thread_area __NR_getpeername #[cfg(old_calls)] __NR_getpmsg
    __NR_getsockname __NR_getsockopt __NR_getxattrat __NR_init_module __NR_inotify_add_watch
    #[cfg(old_calls)] __NR_inotify_init __NR_inotify_init1 __NR_inotify_rm_watch __NR_io_cancel __NR_io_destroy
    __NR_io_getevents __NR_io_pgetevents __NR_io_setup __NR_io_submit __NR_io_uring_enter __NR_io_uring_register
    __NR_io_uring_setup #[cfg(old_calls)] __NR_ioperm #[cfg(old_calls)] __NR_iopl __NR_ioprio_get __NR_ioprio_set
    __NR_kcmp __NR_kexec_file_load __NR_kexec_load __NR_keyctl __NR_landlock_add_rule __NR_landlock_create_ruleset
    __NR_landlock_restrict_self __NR_listen __NR_listmount __NR_listxattrat __NR_lookup_dcookie __NR_lsm_get_self_attr
    __NR_lsm_list_modules __NR_lsm_set_self_attr __NR_map_shadow_stack __NR_mbind __NR_membarrier __NR_memfd_create
    __NR_memfd_secret __NR_migrate_pages #[cfg(old_calls)] __NR_modify_ldt __NR_mount_setattr __NR_move_mount
    __NR_move_pages __NR_mq_getsetattr __NR_mq_notify __NR_mq_open __NR_mq_timedreceive __NR_mq_timedsend
    __NR_mq_unlink __NR_mseal __NR_msgctl __NR_msgget __NR_msgrcv __NR_msgsnd __NR_name_to_handle_at __NR_nfsservctl
    __NR_open_by_handle_at __NR_open_tree __NR_open_tree_attr __NR_perf_event_open __NR_pidfd_getfd __NR_pidfd_open
    __NR_pidfd_send_signal __NR_pivot_root __NR_pkey_alloc __NR_pkey_free __NR_pkey_mprotect __NR_process_madvise
    __NR_process_mrelease __NR_process_vm_readv __NR_process_vm_writev __NR_ptrace #[cfg(old_calls)] __NR_putpmsg
    #[cfg(old_calls)] __NR_query_module __NR_quotactl __NR_quotactl_fd __NR_recvfrom __NR_recvmmsg __NR_recvmsg
    __NR_remap_file_pages __NR_removexattrat __NR_request_key __NR_rseq __NR_sched_getattr __NR_sched_setattr
    __NR_seccomp #[cfg(old_calls)] __NR_security __NR_semctl __NR_semget __NR_semop __NR_semtimedop __NR_sendmmsg
    __NR_sendmsg __NR_sendto __NR_set_mempolicy __NR_set_mempolicy_home_node #[cfg(old_calls)] __NR_set_thread_area
    __NR_setns __NR_setsockopt __NR_setxattrat __NR_shmat __NR_shmctl __NR_shmdt __NR_shmget __NR_shutdown
    #[cfg(old_calls)] __NR_signalfd __NR_signalfd4 __NR_socket __NR_socketpair __NR_splice __NR_statmount __NR_swapoff
    __NR_swapon __NR_sync_file_range #[cfg(old_calls)] __NR_sysfs __NR_tee __NR_timer_create __NR_timer_delete
    __NR_timer_getoverrun __NR_timer_gettime __NR_timer_settime __NR_timerfd_create __NR_timerfd_gettime
    __NR_timerfd_settime #[cfg(old_calls)] __NR_tuxcall __NR_unshare #[cfg(old_calls)] __NR_uretprobe
    #[cfg(old_calls)] __NR_uselib __NR_userfaultfd __NR_vhangup __NR_vmsplice #[cfg(old_calls)] __NR_vserver
}

macro_rules! names {
    ($($topic:ident { $($(#[$only:meta])? $number:ident: $kind:ident $function:ident $(then $waiting:ident)? ($($argument:ident: $type:ty),*);)* })*) => {
        /// The name of a call, done or absent; `None` for a number Linux doesn't know.
        pub fn name_of(call: usize) -> Option<&'static str> {
            match call as u32 {
                $($($(#[$only])? number::$number => Some(strip(stringify!($number))),)*)*
                other => absent_name(other),
            }
        }

        /// Every row: number, name of the number, name of the function, how many arguments.
        #[cfg(test)]
        const ROWS: &[(u32, &str, &str, usize)] = &[$($(
            $(#[$only])?
            (number::$number, strip(stringify!($number)), stringify!($function), <[&str]>::len(&[$(stringify!($argument)),*]))
        ),*),*];
    };
}
system_calls!(names);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_number_has_two_rows_and_none_is_both_done_and_absent() {
        let mut seen = HashSet::new();
        for number in ROWS.iter().map(|row| row.0).chain(ABSENT.iter().copied()) {
            assert!(seen.insert(number), "number {number} appears twice");
        }
    }

    #[test]
    fn every_row_calls_the_function_of_its_name() {
        for (number, name, function, arguments) in ROWS {
            assert_eq!(name, function, "number {number}");
            assert!(*arguments <= 6, "{name} has {arguments} arguments");
        }
    }

    #[test]
    fn names_are_those_of_linux() {
        assert_eq!(name_of(0), Some("read"));
        assert_eq!(name_of(231), Some("exit_group"));
        assert_eq!(name_of(41), Some("socket"));
        assert_eq!(name_of(999), None);
    }
}
