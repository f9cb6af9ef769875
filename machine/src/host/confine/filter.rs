//! The list of calls as a seccomp filter, see seccomp(2).
//!
//! Another architecture than x86-64 ends the process. A number that is not in the list, those of the x32 interface (which have bit 30
//! set) among them, is refused.

use crate::platform::bpf::{
    ALLOW, ARCHITECTURE, AUDIT_ARCH_X86_64, Instruction, NUMBER, answer, argument, if_equal, load, mask,
};
use setup::calls::{Call, Form};

const REFUSE: Instruction = answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
const MISSING: Instruction = answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);

/// Skips `others` instructions unless the value is `k`.
const fn unless_skip(k: u32, others: usize) -> Instruction {
    if_equal(k, 0, others as u8)
}

/// The filter that allows these calls.
pub fn of(calls: &[Call]) -> Box<[Instruction]> {
    let kill = answer(libc::SECCOMP_RET_KILL_PROCESS);
    let mut program = vec![load(ARCHITECTURE), if_equal(AUDIT_ARCH_X86_64, 1, 0), kill, load(NUMBER)];
    for call in calls {
        let decision = decision(&call.form);
        program.push(unless_skip(call.number as u32, decision.len()));
        program.extend(decision);
    }
    program.push(REFUSE);
    program.into()
}

/// What follows when the number was found: it ends in a decision on all ways.
fn decision(form: &Form) -> Vec<Instruction> {
    match form {
        Form::Any => vec![ALLOW],
        Form::Missing => vec![MISSING],
        Form::With(number, bits) => vec![load(argument(*number)), mask(*bits), unless_skip(*bits, 1), ALLOW, REFUSE],
        Form::Without(number, bits) => vec![load(argument(*number)), mask(*bits), unless_skip(0, 1), ALLOW, REFUSE],
        Form::OneOf(number, values) => {
            // The upper half once: all values are 32 bits.
            let mut program = vec![load(argument(*number) + 4), unless_skip(0, 2 * values.len() + 1)];
            program.push(load(argument(*number)));
            program.extend(values.iter().flat_map(|value| [unless_skip(*value as u32, 1), ALLOW]));
            program.push(REFUSE);
            program
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::bpf;
    use crate::platform::cpu::INTERRUPT;
    use setup::calls::allowed;

    const X32: u32 = 1 << 30;

    /// What the filter returns for a call.
    fn decide(filter: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        bpf::Call { architecture, number, pointer: 0, arguments }.decide(filter)
    }

    fn here(has_folders: bool) -> impl Fn(libc::c_long, [u64; 6]) -> bool {
        let filter = of(&allowed(has_folders, INTERRUPT));
        move |number, arguments| decide(&filter, AUDIT_ARCH_X86_64, number as u32, arguments) == libc::SECCOMP_RET_ALLOW
    }

    #[test]
    fn what_is_not_in_the_list_is_refused() {
        for has_folders in [false, true] {
            let calls = allowed(has_folders, INTERRUPT);
            let filter = of(&calls);
            for number in 0..1000_u32 {
                let known = calls.iter().any(|call| call.number == i64::from(number));
                let decision = decide(&filter, AUDIT_ARCH_X86_64, number, [0; 6]);
                assert!(known || decision == REFUSE.k, "{number}");
                assert_eq!(decide(&filter, AUDIT_ARCH_X86_64, number | X32, [0; 6]), REFUSE.k, "x32 {number}");
                assert_eq!(decide(&filter, 0x4000_0003, number, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
            }
            let numbers: std::collections::BTreeSet<_> = calls.iter().map(|call| call.number).collect();
            assert_eq!(numbers.len(), calls.len(), "each call once");
        }
    }

    #[test]
    fn nothing_in_the_list_gets_more_than_the_machine_has() {
        for has_folders in [false, true] {
            let is_allowed = here(has_folders);
            for number in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_fork,
                libc::SYS_vfork,
                libc::SYS_clone3,
                libc::SYS_socket,
                libc::SYS_socketpair,
                libc::SYS_connect,
                libc::SYS_open,
                libc::SYS_process_vm_readv,
                libc::SYS_process_vm_writev,
                libc::SYS_process_madvise,
                libc::SYS_pidfd_open,
                libc::SYS_pidfd_getfd,
                libc::SYS_io_uring_setup,
                libc::SYS_bpf,
                libc::SYS_perf_event_open,
                libc::SYS_userfaultfd,
                libc::SYS_mount,
                libc::SYS_unshare,
                libc::SYS_setns,
                libc::SYS_setuid,
                libc::SYS_memfd_create,
                libc::SYS_seccomp,
                libc::SYS_pkey_mprotect,
                libc::SYS_shmat,
                libc::SYS_arch_prctl,
                libc::SYS_tkill,
                libc::SYS_rt_sigqueueinfo,
                libc::SYS_capset,
                libc::SYS_sendfile,
                libc::SYS_splice,
            ] {
                assert!((0..64).all(|argument| !is_allowed(number, [argument; 6])), "{number}");
            }
            for number in [libc::SYS_openat, libc::SYS_openat2, libc::SYS_linkat, libc::SYS_ftruncate] {
                assert_eq!(is_allowed(number, [0; 6]), has_folders, "{number}");
            }
        }
    }

    #[test]
    fn forms_are_told_apart() {
        let is_allowed = here(false);
        let with = |place: usize, value: u64| {
            let mut arguments = [0; 6];
            arguments[place] = value;
            arguments
        };
        let thread = libc::CLONE_THREAD as u64;
        assert!(is_allowed(libc::SYS_clone, with(0, thread | libc::CLONE_VM as u64)));
        assert!(!is_allowed(libc::SYS_clone, with(0, libc::SIGCHLD as u64)) && !is_allowed(libc::SYS_clone, [0; 6]));
        for number in [libc::SYS_mmap, libc::SYS_mprotect] {
            assert!(
                is_allowed(number, with(2, 3)) && !is_allowed(number, with(2, 7)) && !is_allowed(number, with(2, 4))
            );
        }
        for (request, may) in
            [(libc::PTRACE_SYSEMU, true), (libc::PTRACE_PEEKDATA, false), (libc::PTRACE_ATTACH, false)]
        {
            assert_eq!(is_allowed(libc::SYS_ptrace, with(0, request.into())), may, "{request}");
        }
        assert!(!is_allowed(libc::SYS_ptrace, with(0, 1 << 32 | u64::from(libc::PTRACE_SYSEMU))), "64 bits");
        for (signal, may) in [(libc::SIGKILL, true), (libc::SIGSTOP, false), (libc::SIGURG, false), (0, false)] {
            assert_eq!(is_allowed(libc::SYS_kill, with(1, signal as u64)), may, "{signal}");
        }
        assert!(is_allowed(libc::SYS_tgkill, with(2, libc::SIGURG as u64)));
        assert!(!is_allowed(libc::SYS_tgkill, with(2, libc::SIGSEGV as u64)));
        assert!(is_allowed(libc::SYS_prlimit64, [0; 6]) && !is_allowed(libc::SYS_prlimit64, with(2, 1 << 32)));
        assert!(
            is_allowed(libc::SYS_ioctl, with(1, libc::TIOCGWINSZ))
                && !is_allowed(libc::SYS_ioctl, with(1, libc::TIOCSTI))
        );
        assert!(
            is_allowed(libc::SYS_fcntl, with(1, 3)) && !is_allowed(libc::SYS_fcntl, with(1, libc::F_SETOWN as u64))
        );
        assert!(
            is_allowed(libc::SYS_prctl, with(0, 15))
                && !is_allowed(libc::SYS_prctl, with(0, libc::PR_SET_DUMPABLE as u64))
        );
        let filter = of(&allowed(false, INTERRUPT));
        assert_eq!(decide(&filter, AUDIT_ARCH_X86_64, libc::SYS_clone3 as u32, [0; 6]), MISSING.k);
    }
}
