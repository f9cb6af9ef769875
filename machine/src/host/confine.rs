//! What the threads of a machine give up before they deal with what programs say.
//!
//! The kernel is memory-safe and has no reason to do anything but compute, move memory, talk to its stubs and use descriptors
//! that were opened before. So its threads lose the system calls by which a process gets more: new programs, sockets,
//! mounts, namespaces, other processes' memory, new identities, the host kernel's rarer parts. They answer `EPERM`. Capabilities
//! go, too, but for those over files, and these only where a folder is shared.
//!
//! Only a machine's own threads are confined: whoever called [`super::run`] goes on as before.

use super::stub::filter::{Instruction, for_threads};

/// What a confined thread can't call any more.
const DENIED: [libc::c_long; 58] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_mknod,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setuid,
    libc::SYS_setresuid,
    libc::SYS_personality,
    libc::SYS_shmget,
];

/// Capabilities over files, by their numbers: chown, two of dac, fowner, fsetid.
const OVER_FILES: u32 = 0b1_1111;

/// Confines this thread, for good. What the host does not know it can't be used for either: an error is none.
pub fn confine(has_folders: bool) {
    keep_capabilities(if has_folders { OVER_FILES } else { 0 });
    let filter: Box<[Instruction]> = for_threads(&DENIED);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the host copies the filter; without new privileges anybody may set one.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program);
    }
}

/// Gives up every capability but those of a mask that we have.
pub fn keep_capabilities(mask: u32) {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; then the same for capabilities from 32 on.
    let mut sets = [0_u32; 6];
    // SAFETY: capget(2) and capset(2) read the header and read or fill the six words.
    unsafe {
        libc::syscall(libc::SYS_capget, &header, &mut sets);
        let [effective, permitted, ..] = sets;
        sets = [effective & mask, permitted & mask, 0, 0, 0, 0];
        libc::syscall(libc::SYS_capset, &header, &sets);
    }
}
