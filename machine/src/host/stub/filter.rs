//! The seccomp filters of the stubs, see seccomp(2).
//!
//! A stub may make the few system calls its own code needs, from that code's page only. Anything else is a system call of
//! the program: it raises `SIGSYS`, and is never executed by the host, not even if nobody traces the stub. What is not listed is refused, whatever its number: with the x32 bit, or not known yet. Guest threads, which
//! run programs untraced, have a second filter on top: a program that jumps into that page finds nothing but waiting
//! and returning from a signal, by which it can only harm itself.

use crate::platform::bpf::{
    ALLOW, ARCHITECTURE, AUDIT_ARCH_X86_64, Instruction, NUMBER, POINTER_HIGH, POINTER_LOW, answer, argument, if_above,
    if_equal, load, mask,
};

/// What the stubs' code calls.
const OF_STUBS: [libc::c_long; 9] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_clone,
    libc::SYS_pause,
    libc::SYS_sigaltstack,
    libc::SYS_futex,
    libc::SYS_rt_sigreturn,
    libc::SYS_getppid,
];

const TRAP: Instruction = answer(libc::SECCOMP_RET_TRAP);

/// Goes on with the next instruction but one if the value is `k`, else with the next.
const fn unless(k: u32) -> Instruction {
    if_equal(k, 1, 0)
}

/// The right architecture and an instruction in the page at `code`, else `SIGSYS`; then the number of the call is loaded.
fn from_page(code: usize) -> Vec<Instruction> {
    vec![
        load(ARCHITECTURE),
        unless(AUDIT_ARCH_X86_64),
        TRAP,
        load(POINTER_HIGH),
        unless((code >> 32) as u32),
        TRAP,
        load(POINTER_LOW),
        mask(!0xfff),
        unless(code as u32),
        TRAP,
        load(NUMBER),
    ]
}

/// The filter of all stubs.
pub fn of_stubs(code: usize) -> Box<[Instruction]> {
    let mut program = from_page(code);
    for number in OF_STUBS {
        program.extend([if_equal(number as u32, 0, 1), ALLOW]);
    }
    // A stub may ask to die with us, and for a second filter; nothing else of prctl(2).
    program.extend([
        unless(libc::SYS_prctl as u32),
        TRAP,
        load(argument(0)),
        if_equal(libc::PR_SET_PDEATHSIG as u32, 1, 0),
        if_equal(libc::PR_SET_SECCOMP as u32, 0, 1),
        ALLOW,
        TRAP,
    ]);
    program.into()
}

/// The filter of guest threads: rt_sigreturn(2), and of futex(2) the operations 0 and 1, wait and wake.
pub fn of_guests(code: usize) -> Box<[Instruction]> {
    let mut program = from_page(code);
    program.extend([
        if_equal(libc::SYS_rt_sigreturn as u32, 0, 1),
        ALLOW,
        unless(libc::SYS_futex as u32),
        TRAP,
        load(argument(1)),
        if_above(libc::FUTEX_WAKE as u32, 1, 0),
        ALLOW,
        TRAP,
    ]);
    program.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::bpf;

    const CODE: usize = 0x7fff_ff00_0000;
    /// The bit by which numbers of calls from 64-bit programs with short pointers differ.
    const X32: libc::c_long = 0x4000_0000;

    /// What the filter returns for a call whose first two arguments are `argument`.
    fn decide(filter: &[Instruction], number: libc::c_long, architecture: u32, pointer: usize, argument: u32) -> u32 {
        let arguments = [argument.into(); 6];
        bpf::Call { architecture, number: number as u32, pointer, arguments }.decide(filter)
    }

    #[test]
    fn only_the_stubs_own_calls_from_their_own_page_pass() {
        let (stubs, guests) = (of_stubs(CODE), of_guests(CODE));
        let (allow, trap) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_TRAP);
        let here = CODE + 0x123;
        for number in 0..500 {
            let stub = decide(&stubs, number, AUDIT_ARCH_X86_64, here, 0);
            assert_eq!(stub, if OF_STUBS.contains(&number) { allow } else { trap }, "{number}");
            let guest = decide(&guests, number, AUDIT_ARCH_X86_64, here, 1);
            let harmless = [libc::SYS_rt_sigreturn, libc::SYS_futex].contains(&number);
            assert_eq!(guest, if harmless { allow } else { trap }, "{number}");
            for filter in [&stubs, &guests] {
                assert_eq!(decide(filter, number | X32, AUDIT_ARCH_X86_64, here, 0), trap, "{number} of x32");
            }
            for (architecture, pointer) in [
                (0x4000_0003, here),
                (AUDIT_ARCH_X86_64, CODE - 1),
                (AUDIT_ARCH_X86_64, CODE + 0x1000),
                (AUDIT_ARCH_X86_64, here & 0xffff_ffff),
                (AUDIT_ARCH_X86_64, 0xffff_ffff_ff60_0000),
            ] {
                for filter in [&stubs, &guests] {
                    assert_eq!(decide(filter, number, architecture, pointer, 0), trap, "{number} at {pointer:#x}");
                }
            }
        }
        assert_eq!(decide(&guests, libc::SYS_futex, AUDIT_ARCH_X86_64, here, 3), trap);
        for option in 0..100 {
            let own = [libc::PR_SET_PDEATHSIG, libc::PR_SET_SECCOMP].contains(&(option as i32));
            let decision = decide(&stubs, libc::SYS_prctl, AUDIT_ARCH_X86_64, here, option);
            assert_eq!(decision, if own { allow } else { trap }, "prctl {option}");
        }
    }
}
