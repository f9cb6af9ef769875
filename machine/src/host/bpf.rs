//! Programs of seccomp filters, see seccomp(2): the instructions that the machine's own filter and the stubs' are made of, and what they look at.

#[cfg(test)]
mod interpreter;

#[cfg(test)]
pub use interpreter::Call;

/// One instruction, `struct sock_filter`.
pub type Instruction = libc::sock_filter;

/// Offsets in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
pub const POINTER_LOW: u32 = 8;
pub const POINTER_HIGH: u32 = 12;
const ARGUMENTS: u32 = 16;

pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// Loads the word at an offset of `struct seccomp_data`.
pub const fn load(offset: u32) -> Instruction {
    statement(LOAD, offset)
}

/// The offset of the lower half of an argument, counted from 0; the upper half is four bytes on.
pub const fn argument(number: u32) -> u32 {
    ARGUMENTS + 8 * number
}

/// Leaves of the word loaded what is in the mask.
pub const fn mask(mask: u32) -> Instruction {
    statement(AND, mask)
}

/// Skips so many instructions if the word is `k`, and so many others if it is not.
pub const fn if_equal(k: u32, then: u8, otherwise: u8) -> Instruction {
    Instruction { code: IF_EQUAL, jt: then, jf: otherwise, k }
}

/// The same for a word above `k`.
pub const fn if_above(k: u32, then: u8, otherwise: u8) -> Instruction {
    Instruction { code: IF_ABOVE, jt: then, jf: otherwise, k }
}

/// Ends the program with an action, `SECCOMP_RET_...`.
pub const fn answer(action: u32) -> Instruction {
    statement(RETURN, action)
}

/// The call is made.
pub const ALLOW: Instruction = answer(libc::SECCOMP_RET_ALLOW);
