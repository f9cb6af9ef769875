//! What an instruction that faulted was about to do: the host says where, but not whether it read, wrote or fetched.

use crate::memory::{Access, PAGE_SIZE, Space};
use crate::user::General;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register};

/// The longest instruction.
const LONGEST: usize = 15;

/// Whether the instruction before `rip` is `syscall`, and not one of the ways into a 32-bit kernel.
pub fn is_syscall_instruction(space: &Space, rip: usize) -> bool {
    let mut bytes = [0; 2];
    space.read(rip.wrapping_sub(2), &mut bytes).is_ok() && bytes == [0x0f, 0x05]
}

/// What the instruction at `rip` tried at `address`.
pub fn attempted(space: &Space, general: &General, fs_base: usize, gs_base: usize, address: usize) -> Access {
    let rip = general.rip;
    let fetched = address == rip || address.is_multiple_of(PAGE_SIZE) && address > rip && address - rip < LONGEST;
    if fetched && !space.0.is_shown(address & !(PAGE_SIZE - 1), Access::EXECUTE) {
        return Access::EXECUTE;
    }
    let mut bytes = [0; LONGEST];
    let length = match space.read(rip, &mut bytes) {
        Ok(()) => LONGEST,
        Err(fault) => fault.copied,
    };
    let bytes = bytes.get(..length).unwrap_or_default();
    if bytes.is_empty() {
        return Access::EXECUTE; // its page has gone from the stub
    }
    if writes(bytes, general, fs_base, gs_base, address) { Access::WRITE } else { Access::READ }
}

/// Whether the instruction writes at `address`: of its operands in memory, the one nearest below decides.
fn writes(bytes: &[u8], general: &General, fs_base: usize, gs_base: usize, address: usize) -> bool {
    let instruction = Decoder::with_ip(64, bytes, general.rip as u64, DecoderOptions::NONE).decode();
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    let operands = info.used_memory().iter().map(|memory| {
        let start = memory.virtual_address(0, |register, _, _| register_value(register, general, fs_base, gs_base));
        (start.map(|start| address.wrapping_sub(start as usize)), memory.access())
    });
    let is_write = |access: OpAccess| {
        matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
    };
    // An operand whose address can't be told (scattered vectors) counts as far away.
    operands.min_by_key(|(distance, _)| distance.unwrap_or(usize::MAX)).is_some_and(|(_, access)| is_write(access))
}

/// What a register holds, for the address of an operand.
fn register_value(register: Register, general: &General, fs_base: usize, gs_base: usize) -> Option<u64> {
    let whole = match register {
        Register::ES | Register::CS | Register::SS | Register::DS => 0,
        Register::FS => fs_base,
        Register::GS => gs_base,
        _ => match register.full_register() {
            Register::RAX => general.rax,
            Register::RBX => general.rbx,
            Register::RCX => general.rcx,
            Register::RDX => general.rdx,
            Register::RSI => general.rsi,
            Register::RDI => general.rdi,
            Register::RBP => general.rbp,
            Register::RSP => general.rsp,
            Register::R8 => general.r8,
            Register::R9 => general.r9,
            Register::R10 => general.r10,
            Register::R11 => general.r11,
            Register::R12 => general.r12,
            Register::R13 => general.r13,
            Register::R14 => general.r14,
            Register::R15 => general.r15,
            Register::RIP => general.rip,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the instruction does at `address`, with rdi = 0x1000, rsi = 0x2000, rsp = 0x9000 and FS at 0x5000.
    fn at(bytes: &[u8], address: usize) -> bool {
        let general = General { rip: 0x40_0000, rdi: 0x1000, rsi: 0x2000, rsp: 0x9000, rcx: 4, ..General::default() };
        writes(bytes, &general, 0x5000, 0, address)
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
