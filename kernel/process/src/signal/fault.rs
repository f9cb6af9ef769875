//! Exceptions of the CPU as signals.

use alloc::sync::Arc;

use abi::signal::Signal;
use machine::memory::Access;
use machine::user::{Exception, PageFault, Registers};
use memory::MemoryFault;

use super::{Information, attention, code, send};
use crate::thread::LastTrap;
use crate::{Thread, oom};

/// Numbers of exceptions, by Intel's manual.
mod vector {
    pub const DIVIDE: u8 = 0;
    pub const DEBUG: u8 = 1;
    pub const BREAKPOINT: u8 = 3;
    pub const INVALID_OPCODE: u8 = 6;
    pub const NO_SEGMENT: u8 = 11;
    pub const STACK: u8 = 12;
    pub const PAGE: u8 = 14;
    pub const FLOATING_POINT: u8 = 16;
    pub const ALIGNMENT: u8 = 17;
    pub const SIMD: u8 = 19;
}

impl Thread {
    /// Sends the signal an exception stands for.
    pub(crate) fn raise_exception(self: &Arc<Self>, exception: Exception) {
        let Exception { vector, error, address } = exception;
        self.set_last_trap(LastTrap { vector: vector.into(), error, address: 0 });
        let information = match vector {
            vector::DIVIDE => Information::fault(Signal::FPE, code::FPE_INTEGER_DIVIDE, address),
            vector::DEBUG => Information::fault(Signal::TRAP, code::TRAP_TRACE, address),
            vector::BREAKPOINT => Information::kernel(Signal::TRAP),
            vector::INVALID_OPCODE => Information::fault(Signal::ILL, code::ILL_OPERAND, address),
            vector::NO_SEGMENT | vector::STACK => Information::kernel(Signal::BUS),
            vector::FLOATING_POINT | vector::SIMD => {
                let code = self.with_registers(|registers| floating_point_code(registers, vector));
                // Linux: an exception that has vanished by the time one looks is none.
                let Some(code) = code else { return };
                Information::fault(Signal::FPE, code, address)
            }
            vector::ALIGNMENT => Information::fault(Signal::BUS, code::BUS_ALIGNMENT, 0),
            _ => Information::kernel(Signal::SEGV),
        };
        send::force(self, information);
    }

    /// The machine has lost the program: nothing of the process can go on.
    #[cold]
    pub(crate) fn raise_loss(self: &Arc<Self>) {
        send::force(self, Information::kernel(Signal::KILL));
    }

    /// Sends the signal a page fault that can't be resolved stands for.
    pub(crate) fn raise_fault(self: &Arc<Self>, fault: &PageFault, reason: &MemoryFault) {
        let error = u64::from(fault.present)
            | u64::from(fault.access.contains(Access::WRITE)) << 1
            | 1 << 2
            | u64::from(fault.access.contains(Access::EXECUTE)) << 4;
        self.set_last_trap(LastTrap { vector: vector::PAGE.into(), error, address: fault.address });
        let (signal, code) = match reason {
            MemoryFault::NotPermitted => (Signal::SEGV, code::SEGV_NO_ACCESS),
            MemoryFault::Bus => (Signal::BUS, code::BUS_ADDRESS),
            // It is who was chosen, and has been told of.
            MemoryFault::OutOfMemory if self.has_attention(attention::EXIT) => return,
            // Nobody could be ended instead.
            MemoryFault::OutOfMemory => {
                oom::tell(self.kernel(), self.process());
                return send::force(self, Information::kernel(Signal::KILL));
            }
            MemoryFault::NotMapped | MemoryFault::Wait(_) | MemoryFault::Busy => (Signal::SEGV, code::SEGV_NOT_MAPPED),
        };
        send::force(self, Information::fault(signal, code, fault.address));
    }
}

/// Which floating-point exception it was, from the status and control words; `None` if there is none after all.
fn floating_point_code(registers: &mut Registers, vector: u8) -> Option<i32> {
    let state = registers.extended_state();
    let word = |at: usize| Some(u16::from_le_bytes(state.get(at..at + 2)?.try_into().ok()?));
    let pending = if vector == vector::SIMD {
        let control = u32::from(word(24)?);
        !(control >> 7) & control
    } else {
        u32::from(word(2)? & !word(0)?)
    };
    const INVALID: u32 = 1;
    const DENORMAL: u32 = 2;
    const DIVIDE: u32 = 4;
    const OVERFLOW: u32 = 8;
    const UNDERFLOW: u32 = 16;
    const INEXACT: u32 = 32;
    let codes = [
        (INVALID, code::FPE_INVALID),
        (DIVIDE, code::FPE_DIVIDE),
        (OVERFLOW, code::FPE_OVERFLOW),
        (DENORMAL | UNDERFLOW, code::FPE_UNDERFLOW),
        (INEXACT, code::FPE_INEXACT),
    ];
    codes.into_iter().find(|(bits, _)| pending & bits != 0).map(|(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code for these pending exceptions, of which some are masked.
    fn code_of(vector: u8, pending: u16, masked: u16) -> Option<i32> {
        let mut registers = Registers::new(0, 0).unwrap();
        let mut state = registers.extended_state().to_vec();
        state[0..2].copy_from_slice(&(masked | 0x0340).to_le_bytes());
        state[2..4].copy_from_slice(&pending.to_le_bytes());
        // MXCSR has the flags below and the masks from bit 7 on.
        state[24..26].copy_from_slice(&(pending | masked << 7).to_le_bytes());
        assert!(registers.set_extended_state(&state));
        floating_point_code(&mut registers, vector)
    }

    /// `fpu__exception_code` of Linux.
    #[test]
    fn the_first_unmasked_exception_names_the_code() {
        for vector in [vector::FLOATING_POINT, vector::SIMD] {
            for (pending, masked, expected) in [
                (1, 0, Some(code::FPE_INVALID)),
                (2, 0, Some(code::FPE_UNDERFLOW)),
                (4, 0, Some(code::FPE_DIVIDE)),
                (8, 0, Some(code::FPE_OVERFLOW)),
                (16, 0, Some(code::FPE_UNDERFLOW)),
                (32, 0, Some(code::FPE_INEXACT)),
                (32 | 16 | 8 | 4 | 1, 0, Some(code::FPE_INVALID)),
                (32 | 16 | 8 | 4, 0, Some(code::FPE_DIVIDE)),
                (32 | 16 | 8, 0, Some(code::FPE_OVERFLOW)),
                (32 | 4, 4, Some(code::FPE_INEXACT)),
                (63, 63, None),
                (0, 0, None),
                (4, 4, None),
                (0, 63, None),
            ] {
                assert_eq!(code_of(vector, pending, masked), expected, "{vector} {pending} {masked}");
            }
        }
    }
}
