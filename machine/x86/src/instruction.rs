//! What an instruction is about to do to memory: for who is told where it faulted, but not whether it read, wrote or fetched.

use crate::exceptions::Attempt;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register};

/// The longest instruction.
pub const LONGEST: usize = 15;

/// The smallest page.
const PAGE: usize = 4096;

/// A program's registers, by which the operands of its instruction are found.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// The general ones by their numbers: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub numbered: [usize; 16],
    /// Where the instruction is.
    pub rip: usize,
    /// Where FS begins,
    pub fs_base: usize,
    /// and GS.
    pub gs_base: usize,
}

/// The longest operand: an extended state.
const LONGEST_OPERAND: usize = 16 << 10;

impl State {
    /// What the instruction, whose bytes `fetch` gets (as many as there are, and says how many), tried at `address`. `is_code`: at
    /// this moment programs may execute what lies there.
    pub fn attempted(&self, address: usize, is_code: bool, fetch: impl FnOnce(&mut [u8; LONGEST]) -> usize) -> Attempt {
        let rip = self.rip;
        let may_be_fetch = address == rip || address.is_multiple_of(PAGE) && address > rip && address - rip < LONGEST;
        if may_be_fetch && !is_code {
            return Attempt::Fetch;
        }
        let mut bytes = [0; LONGEST];
        let length = fetch(&mut bytes);
        let bytes = bytes.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Attempt::Fetch; // its page has gone
        }
        // Code now, but it may have become so since the fault: only an operand that lies there is a reason to take it for one.
        if may_be_fetch && !self.has_operand_at(bytes, address) {
            return Attempt::Fetch;
        }
        if self.writes(bytes, address) { Attempt::Write } else { Attempt::Read }
    }

    /// Calls `each` with the operands in memory: their first address, if it can be told, their length, and what happens to them.
    fn operands<T>(&self, bytes: &[u8], each: impl FnOnce(&[(Option<usize>, usize, OpAccess)]) -> T) -> T {
        let instruction = Decoder::with_ip(64, bytes, self.rip as u64, DecoderOptions::NONE).decode();
        let mut factory = InstructionInfoFactory::new();
        let operands: Vec<_> = factory
            .info(&instruction)
            .used_memory()
            .iter()
            .map(|memory| {
                let start = memory.virtual_address(0, |register, _, _| self.register(register));
                let length = match memory.memory_size().size() {
                    0 => LONGEST_OPERAND,
                    length => length,
                };
                (start.map(|start| start as usize), length, memory.access())
            })
            .collect();
        each(&operands)
    }

    /// Whether an operand of the instruction may lie at `address`. One whose address can't be told (scattered vectors) may.
    fn has_operand_at(&self, bytes: &[u8], address: usize) -> bool {
        self.operands(bytes, |operands| {
            operands.iter().any(|(start, length, _)| start.is_none_or(|start| address.wrapping_sub(start) < *length))
        })
    }

    /// Whether the instruction writes at `address`: of its operands in memory, the one nearest below decides.
    fn writes(&self, bytes: &[u8], address: usize) -> bool {
        let is_write = |access: OpAccess| {
            matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
        };
        // An operand whose address can't be told counts as far away.
        let distance = |start: Option<usize>| start.map_or(usize::MAX, |start| address.wrapping_sub(start));
        self.operands(bytes, |operands| {
            operands.iter().min_by_key(|(start, ..)| distance(*start)).is_some_and(|(.., access)| is_write(*access))
        })
    }

    /// What a register holds, for the address of an operand.
    fn register(&self, register: Register) -> Option<u64> {
        let whole = match register {
            Register::ES | Register::CS | Register::SS | Register::DS => 0,
            Register::FS => self.fs_base,
            Register::GS => self.gs_base,
            _ => match register.full_register() {
                Register::RIP => self.rip,
                full if full.is_gpr64() => *self.numbered.get(full.number())?,
                _ => return None,
            },
        };
        let mask = match register.size() {
            1 => 0xff,
            2 if register.is_segment_register() => usize::MAX,
            2 => 0xffff,
            4 => 0xffff_ffff,
            _ => usize::MAX,
        };
        Some((whole & mask) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the instruction does at `address`, with rdi = 0x1000, rsi = 0x2000, rsp = 0x9000 and FS at 0x5000.
    fn at(bytes: &[u8], address: usize) -> bool {
        let mut numbered = [0; 16];
        (numbered[7], numbered[6], numbered[4], numbered[1]) = (0x1000, 0x2000, 0x9000, 4);
        State { numbered, rip: 0x40_0000, fs_base: 0x5000, gs_base: 0 }.writes(bytes, address)
    }

    #[test]
    fn the_operand_that_faulted_decides() {
        assert!(at(&[0x48, 0x89, 0x07], 0x1000), "mov [rdi], rax");
        assert!(!at(&[0x48, 0x8b, 0x07], 0x1000), "mov rax, [rdi]");
        assert!(at(&[0xf3, 0xa4], 0x1000) && !at(&[0xf3, 0xa4], 0x2000), "rep movsb");
        assert!(at(&[0xff, 0x37], 0x8ff8) && !at(&[0xff, 0x37], 0x1000), "push [rdi]");
        assert!(at(&[0xf0, 0x48, 0xff, 0x07], 0x1000), "lock inc [rdi]");
        assert!(at(&[0x64, 0xc7, 0x04, 0x25, 0x10, 0, 0, 0, 1, 0, 0, 0], 0x5010), "mov dword fs:[0x10], 1");
        assert!(!at(&[0x83, 0x3f, 0x00], 0x1000), "cmp dword [rdi], 0");
        assert!(at(&[0xe8, 0, 0, 0, 0], 0x8ff8), "call");
        assert!(at(&[0xc5, 0xfc, 0x29, 0x07], 0x1010), "vmovaps [rdi], ymm0, the second half");
    }
}
