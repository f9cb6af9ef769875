//! The seccomp filters of the stubs, see seccomp(2).
//!
//! A stub may make the few system calls its own code needs, from that code's page only. Anything else is a system call of
//! the program: it raises `SIGSYS`, and is never executed by the host, not even if nobody traces the stub. Guest threads, which
//! run programs untraced, have a second filter on top: a program that jumps into that page finds nothing but waiting
//! and returning from a signal, by which it can only harm itself.

/// One instruction of the filter's program, `struct sock_filter`.
pub type Instruction = libc::sock_filter;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const POINTER_LOW: u32 = 8;
const POINTER_HIGH: u32 = 12;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// What the stubs' code calls.
const OF_STUBS: [libc::c_long; 10] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_clone,
    libc::SYS_pause,
    libc::SYS_sigaltstack,
    libc::SYS_futex,
    libc::SYS_rt_sigreturn,
    libc::SYS_getppid,
    libc::SYS_exit_group,
];

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const TRAP: Instruction = statement(RETURN, libc::SECCOMP_RET_TRAP);
const ALLOW: Instruction = statement(RETURN, libc::SECCOMP_RET_ALLOW);

/// Goes on with the next instruction but one if the value is `k`, else with the next.
const fn unless(k: u32) -> Instruction {
    Instruction { code: IF_EQUAL, jt: 1, jf: 0, k }
}

/// The right architecture and an instruction in the page at `code`, else `SIGSYS`; then the number of the call is loaded.
fn from_page(code: usize) -> Vec<Instruction> {
    vec![
        statement(LOAD, ARCHITECTURE),
        unless(AUDIT_ARCH_X86_64),
        TRAP,
        statement(LOAD, POINTER_HIGH),
        unless((code >> 32) as u32),
        TRAP,
        statement(LOAD, POINTER_LOW),
        statement(AND, !0xfff),
        unless(code as u32),
        TRAP,
        statement(LOAD, NUMBER),
    ]
}

/// The filter of all stubs.
pub fn of_stubs(code: usize) -> Box<[Instruction]> {
    let mut program = from_page(code);
    for number in OF_STUBS {
        program.extend([Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: number as u32 }, ALLOW]);
    }
    // A stub may ask to die with us, and for a second filter; nothing else of prctl(2).
    program.extend([
        unless(libc::SYS_prctl as u32),
        TRAP,
        statement(LOAD, FIRST_ARGUMENT),
        Instruction { code: IF_EQUAL, jt: 1, jf: 0, k: libc::PR_SET_PDEATHSIG as u32 },
        Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: libc::PR_SET_SECCOMP as u32 },
        ALLOW,
        TRAP,
    ]);
    program.into()
}

/// The filter of guest threads: rt_sigreturn(2), and of futex(2) the operations 0 and 1, wait and wake.
pub fn of_guests(code: usize) -> Box<[Instruction]> {
    let mut program = from_page(code);
    program.extend([
        Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: libc::SYS_rt_sigreturn as u32 },
        ALLOW,
        unless(libc::SYS_futex as u32),
        TRAP,
        statement(LOAD, SECOND_ARGUMENT),
        Instruction { code: IF_ABOVE, jt: 1, jf: 0, k: libc::FUTEX_WAKE as u32 },
        ALLOW,
        TRAP,
    ]);
    program.into()
}

/// The filter of a machine's own threads: none of `denied`, which fail with `EPERM`.
pub fn for_threads(denied: &[libc::c_long]) -> Box<[Instruction]> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        unless(AUDIT_ARCH_X86_64),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    program.push(statement(LOAD, NUMBER));
    let refuse = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    for number in denied {
        program.extend([Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: *number as u32 }, refuse]);
    }
    program.push(ALLOW);
    program.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: usize = 0x7fff_ff00_0000;

    /// What the filter returns for a call whose first two arguments are `argument`.
    fn decide(filter: &[Instruction], number: libc::c_long, architecture: u32, pointer: usize, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = &filter[at];
            at += 1;
            let jump = |taken| usize::from(if taken { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => {
                    value = match instruction.k {
                        NUMBER => number as u32,
                        ARCHITECTURE => architecture,
                        POINTER_LOW => pointer as u32,
                        POINTER_HIGH => (pointer >> 32) as u32,
                        _ => argument,
                    }
                }
                AND => value &= instruction.k,
                IF_EQUAL => at += jump(value == instruction.k),
                IF_ABOVE => at += jump(value > instruction.k),
                _ => return instruction.k,
            }
        }
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
