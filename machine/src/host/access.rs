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
    let is_shown = space.0.is_shown(address & !(PAGE_SIZE - 1), Access::EXECUTE);
    attempted_when(space, general, fs_base, gs_base, address, is_shown)
}

/// The same; `is_shown` says whether the stub shows the page of `address` with the right to execute.
fn attempted_when(
    space: &Space,
    general: &General,
    fs_base: usize,
    gs_base: usize,
    address: usize,
    is_shown: bool,
) -> Access {
    let rip = general.rip;
    let may_be_fetch = address == rip || address.is_multiple_of(PAGE_SIZE) && address > rip && address - rip < LONGEST;
    if may_be_fetch && !is_shown {
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
    let state = State { general, fs_base, gs_base };
    // Shown now, but another CPU may have shown it since it faulted: only an operand that lies there is a reason to take it for one.
    if may_be_fetch && !state.has_operand_at(bytes, address) {
        return Access::EXECUTE;
    }
    if state.writes(bytes, address) { Access::WRITE } else { Access::READ }
}

/// The longest operand: an extended state.
const LONGEST_OPERAND: usize = 16 << 10;

/// A program's registers, by which the operands of its instruction are found.
struct State<'a> {
    general: &'a General,
    fs_base: usize,
    gs_base: usize,
}

impl State<'_> {
    /// Calls `each` with the operands in memory: their first address, if it can be told, their length, and what happens to them.
    fn operands<T>(&self, bytes: &[u8], each: impl FnOnce(&[(Option<usize>, usize, OpAccess)]) -> T) -> T {
        let instruction = Decoder::with_ip(64, bytes, self.general.rip as u64, DecoderOptions::NONE).decode();
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

    fn register(&self, register: Register) -> Option<u64> {
        register_value(register, self.general, self.fs_base, self.gs_base)
    }
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
    use crate::memory::Frame;

    /// What the instruction does at `address`, with rdi = 0x1000, rsi = 0x2000, rsp = 0x9000 and FS at 0x5000.
    fn at(bytes: &[u8], address: usize) -> bool {
        let general = General { rip: 0x40_0000, rdi: 0x1000, rsi: 0x2000, rsp: 0x9000, rcx: 4, ..General::default() };
        State { general: &general, fs_base: 0x5000, gs_base: 0 }.writes(bytes, address)
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

    /// What a fault at `address` of code that is shown meanwhile is taken for. The code lies at the end of a page, `at` bytes before it.
    fn after_a_race(code: &[u8], at: usize, address: usize) -> Access {
        let space = Space::new().unwrap();
        let frames = [Frame::zeroed().unwrap(), Frame::zeroed().unwrap()];
        let split = at.min(code.len());
        frames[0].write(PAGE_SIZE - at, &code[..split]);
        frames[1].write(0, &code[split..]);
        let rights = Access::READ | Access::EXECUTE;
        space.map_batch(0x40_0000, frames.into_iter(), rights).unwrap();
        let general = General { rip: 0x40_1000 - at, rdi: 0x1000, rsi: 0x2000, rsp: 0x9000, ..General::default() };
        attempted_when(&space, &general, 0, 0, address, true)
    }

    #[test]
    fn code_that_another_cpu_showed_meanwhile_was_fetched() {
        let store = [0x48, 0x89, 0x07]; // mov [rdi], rax
        let call = [0xff, 0x17]; // call [rdi], which pushes
        let clear = [0xc6, 0x05, 0xf9, 0xff, 0xff, 0xff, 0]; // mov byte [rip - 7], 0: the instruction itself
        let here = 0x40_1000 - 16;
        assert_eq!(after_a_race(&store, 16, here), Access::EXECUTE);
        assert_eq!(after_a_race(&call, 16, here), Access::EXECUTE);
        assert_eq!(after_a_race(&store, 2, 0x40_1000), Access::EXECUTE, "its second half");
        assert_eq!(after_a_race(&clear, 16, here), Access::WRITE, "it does write there");
        assert_eq!(after_a_race(&store, 16, 0x1000), Access::WRITE);
    }
}
