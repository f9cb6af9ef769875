//! What it means that a program has stopped.

use crate::Gone;
use crate::registers::{Holder, Registers};
use boundary::{Access, Exception, PageFault, Trap};
use libc::c_int;
use x86::exceptions::{PROTECTION, SIMD, X87};
use x86::extended::has_vector_exception;
use x86::general::{General, NO_ANSWER, NO_CALL};
use x86::instruction::{LONGEST, State};
use x86::signals::{self, Meaning, Reason};

/// The number of a call of the host's that means nothing here.
const UPROBE_CALL: usize = 335;

/// A program's memory.
pub trait Memory {
    /// Copies from an address; returns how many bytes were there.
    fn read(&self, address: usize, to: &mut [u8]) -> usize;
    /// Whether the space has a page there.
    fn is_mapped(&self, address: usize) -> bool;
    /// Whether the stub shows that page with the right to execute.
    fn shows_code(&self, address: usize) -> bool;
}

fn exception<S: Holder>(registers: &Registers<S>, vector: u8) -> Trap {
    Trap::Exception(Exception { vector, error: 0, address: registers.general.rip })
}

/// What a stop means. An interrupt is still to be handled.
///
/// # Errors
/// The program can't go on.
pub fn trapped<S: Holder>(registers: &mut Registers<S>, space: &impl Memory, reason: Reason) -> Result<Trap, Gone> {
    match reason {
        Reason::Syscall => {
            registers.general.orig_rax = registers.general.rax;
            registers.general.rax = NO_ANSWER;
            Ok(Trap::Syscall)
        }
        Reason::UprobeCall => {
            registers.general.orig_rax = UPROBE_CALL;
            registers.general.rax = NO_ANSWER;
            Ok(Trap::Syscall)
        }
        Reason::SyscallOrGate if is_syscall_instruction(space, registers.general.rip) => Ok(Trap::Syscall),
        Reason::SyscallOrGate | Reason::Gate => {
            // `int 0x80` and `sysenter`: without that gate, as here, they are protection faults.
            registers.general.rip = registers.general.rip.wrapping_sub(2);
            if reason == Reason::SyscallOrGate {
                registers.general.rax = registers.general.orig_rax;
            }
            registers.general.orig_rax = NO_CALL;
            Ok(exception(registers, PROTECTION))
        }
        Reason::PageFault { address, attempt } => {
            let access = attempt.into();
            let present = space.is_mapped(address);
            Ok(Trap::PageFault(PageFault { address: address.into(), access, present }))
        }
        Reason::Exception(vector) => Ok(exception(registers, vector)),
        Reason::Signal { signal, code, address } => signalled(registers, space, signal, code, address),
        Reason::Interrupt => Ok(Trap::Interrupted),
    }
}

/// What a signal of the host means.
fn signalled<S: Holder>(
    registers: &mut Registers<S>,
    space: &impl Memory,
    signal: c_int,
    code: c_int,
    address: usize,
) -> Result<Trap, Gone> {
    Ok(match signals::meaning(signal, code) {
        Meaning::PageFault => {
            let access = attempted(space, &registers.general, registers.fs_base(), registers.gs_base(), address);
            let present = space.is_mapped(address);
            Trap::PageFault(PageFault { address: address.into(), access, present })
        }
        Meaning::Exception(vector) => exception(registers, vector),
        Meaning::FloatingPoint if has_vector_exception(registers.extended_state()) => exception(registers, SIMD),
        Meaning::FloatingPoint => exception(registers, X87),
        Meaning::Vsyscall => vsyscall(registers, address),
        Meaning::NoMemory => return Err(Gone),
        Meaning::Sent => Trap::Interrupted,
    })
}

/// The program called into the host's vsyscall page, which does not exist here. The host has returned from it already.
fn vsyscall<S: Holder>(registers: &mut Registers<S>, address: usize) -> Trap {
    registers.general.rip = address;
    registers.general.rsp = registers.general.rsp.wrapping_sub(8);
    registers.general.orig_rax = NO_CALL;
    Trap::PageFault(PageFault { address: address.into(), access: Access::EXECUTE, present: false })
}

/// Whether the instruction before `rip` is `syscall`, and not one of the ways into a 32-bit kernel.
fn is_syscall_instruction(space: &impl Memory, rip: usize) -> bool {
    let mut bytes = [0; 2];
    space.read(rip.wrapping_sub(2), &mut bytes) == bytes.len() && bytes == [0x0f, 0x05]
}

/// What the instruction at `rip` tried at `address`: the host says where, but not whether it read, wrote or fetched.
fn attempted(space: &impl Memory, general: &General, fs_base: usize, gs_base: usize, address: usize) -> Access {
    let g = general;
    let numbered =
        [g.rax, g.rcx, g.rdx, g.rbx, g.rsp, g.rbp, g.rsi, g.rdi, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13, g.r14, g.r15];
    let state = State { numbered, rip: g.rip, fs_base, gs_base };
    state.attempted(address, space.shows_code(address), |bytes: &mut [u8; LONGEST]| space.read(g.rip, bytes)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, where it begins.
    struct Code<'a>(usize, &'a [u8]);

    impl Memory for Code<'_> {
        fn read(&self, address: usize, to: &mut [u8]) -> usize {
            let from = address.checked_sub(self.0).and_then(|offset| self.1.get(offset..)).unwrap_or_default();
            to.iter_mut().zip(from).map(|(to, from)| *to = *from).count()
        }

        fn is_mapped(&self, address: usize) -> bool {
            self.read(address, &mut [0]) == 1
        }

        fn shows_code(&self, _address: usize) -> bool {
            true
        }
    }

    /// What a fault at `address` of code that is shown meanwhile is taken for. The code lies at the end of a page, `at` bytes before it.
    fn after_a_race(code: &[u8], at: usize, address: usize) -> Access {
        let general = General { rip: 0x40_1000 - at, rdi: 0x1000, rsi: 0x2000, rsp: 0x9000, ..General::default() };
        attempted(&Code(general.rip, code), &general, 0, 0, address)
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
