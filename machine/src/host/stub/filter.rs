//! The seccomp filter of the stubs, see seccomp(2).
//!
//! A stub may make the few system calls its own code needs, from that code's page only. Anything else is a system call of
//! the program: it raises `SIGSYS`, and is never executed by the host, not even if nobody traces the stub.

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
const ALLOWED: [libc::c_long; 6] =
    [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_clone, libc::SYS_pause, libc::SYS_exit_group];

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// The filter: the right architecture, an instruction in the page at `code`, and one of the calls; else `SIGSYS`.
pub fn of_stubs(code: usize) -> Box<[Instruction]> {
    let mut program = Vec::new();
    let must_be = |program: &mut Vec<Instruction>, value: u32| {
        program.push(Instruction { code: IF_EQUAL, jt: 1, jf: 0, k: value });
        program.push(statement(RETURN, libc::SECCOMP_RET_TRAP));
    };
    program.push(statement(LOAD, ARCHITECTURE));
    must_be(&mut program, AUDIT_ARCH_X86_64);
    program.push(statement(LOAD, POINTER_HIGH));
    must_be(&mut program, (code >> 32) as u32);
    program.push(statement(LOAD, POINTER_LOW));
    program.push(statement(AND, !0xfff));
    must_be(&mut program, code as u32);
    program.push(statement(LOAD, NUMBER));
    for number in ALLOWED {
        program.push(Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: number as u32 });
        program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    // A stub may ask to die with us, and nothing else of prctl(2).
    must_be(&mut program, libc::SYS_prctl as u32);
    for (argument, value) in [(FIRST_ARGUMENT, libc::PR_SET_PDEATHSIG), (SECOND_ARGUMENT, libc::SIGKILL)] {
        program.push(statement(LOAD, argument));
        must_be(&mut program, value as u32);
        program.push(statement(LOAD, argument + 4));
        must_be(&mut program, 0);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    program.into()
}
