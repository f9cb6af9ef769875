//! The CPU's exceptions, by their numbers (Intel's manual, volume 3, 6.3), and the page about one.

use boundary::Access;
use core::fmt;

/// A division by zero.
pub const DIVIDE: u8 = 0;
/// A step, or a hardware breakpoint.
pub const DEBUG: u8 = 1;
/// `int3`.
pub const BREAKPOINT: u8 = 3;
/// `into`.
pub const OVERFLOW: u8 = 4;
/// An instruction that doesn't exist.
pub const INVALID_OPCODE: u8 = 6;
/// A stack segment, or an address that is not canonical on the stack.
pub const STACK: u8 = 12;
/// General protection.
pub const PROTECTION: u8 = 13;
/// A page fault.
pub const PAGE_FAULT: u8 = 14;
/// Floating point, of the x87.
pub const X87: u8 = 16;
/// An address that is not aligned.
pub const ALIGNMENT: u8 = 17;
/// Floating point, of SSE and AVX.
pub const SIMD: u8 = 19;

/// What an access to memory was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It is to be executed.
    Fetch,
}

impl From<Attempt> for Access {
    #[inline]
    fn from(attempt: Attempt) -> Access {
        match attempt {
            Attempt::Read => Access::READ,
            Attempt::Write => Access::WRITE,
            Attempt::Fetch => Access::EXECUTE,
        }
    }
}

impl Attempt {
    /// By the error code of a page fault.
    #[inline]
    pub const fn of_fault(error: u64) -> Attempt {
        const WRITE: u64 = 1 << 1;
        const FETCH: u64 = 1 << 4;
        match error {
            error if error & FETCH != 0 => Attempt::Fetch,
            error if error & WRITE != 0 => Attempt::Write,
            _ => Attempt::Read,
        }
    }
}

/// What an exception of the kernel's own code is called on its last page.
pub const fn name(vector: u8) -> &'static str {
    match vector {
        DIVIDE => "divide error",
        INVALID_OPCODE => "invalid opcode",
        8 => "double fault (a stack overflow?)",
        STACK => "stack fault",
        PROTECTION => "general protection fault",
        PAGE_FAULT => "page fault",
        18 => "machine check",
        _ => "exception",
    }
}

/// Writes the registers at an exception; the general ones by their numbers in instructions.
pub fn write_registers(out: &mut dyn fmt::Write, rip: usize, flags: usize, segment: usize, numbered: &[usize; 16]) {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = numbered;
    let _ = write!(
        out,
        "    rip {rip:016x} rsp {rsp:016x} flg {flags:016x} cs {segment:04x}\n\
         \x20   rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}\n\
         \x20   rsi {rsi:016x} rdi {rdi:016x} rbp {rbp:016x} r8  {r8:016x}\n\
         \x20   r9  {r9:016x} r10 {r10:016x} r11 {r11:016x} r12 {r12:016x}\n\
         \x20   r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fault_says_what_was_tried() {
        let attempts = [4, 5, 6, 7, 0x14, 0x15].map(Attempt::of_fault);
        let [read, write, fetch] = [Attempt::Read, Attempt::Write, Attempt::Fetch];
        assert_eq!(attempts, [read, read, write, write, fetch, fetch]);
    }

    #[test]
    fn each_register_is_shown_under_its_name() {
        let mut out = String::new();
        write_registers(&mut out, 0xa0, 0xa1, 8, &core::array::from_fn(|number| number + 0x100));
        let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r15"];
        for (name, value) in names.into_iter().zip((0x100..0x10b).chain([0x10f])) {
            assert!(out.contains(&format!("{name} {value:016x}")), "{name} in {out}");
        }
        assert!(out.starts_with("    rip 00000000000000a0 ") && out.contains("flg 00000000000000a1 cs 0008\n"));
    }
}
