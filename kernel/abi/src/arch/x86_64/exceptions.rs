//! Exceptions of the CPU (Intel's manual, volume 3, 6.3) as signals.

use machine::memory::Access;
use machine::user::{Exception, PageFault, Registers};

use crate::arch::Raised;
use crate::raw::general as raw;
use crate::signal::Signal;

const DIVIDE: u8 = 0;
const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;
const INVALID_OPCODE: u8 = 6;
const NO_SEGMENT: u8 = 11;
const STACK: u8 = 12;
const PAGE: u8 = 14;
const FLOATING_POINT: u8 = 16;
const ALIGNMENT: u8 = 17;
const SIMD: u8 = 19;

/// What an exception stands for. None if it has vanished by the time one looks, which to Linux is none.
pub fn raised(exception: &Exception, registers: &mut Registers) -> Option<Raised> {
    let Exception { vector, address, .. } = *exception;
    let at = |signal, code: u32, address| Raised { signal, place: Some((code as i32, address)) };
    let plain = |signal| Raised { signal, place: None };
    Some(match vector {
        DIVIDE => at(Signal::FPE, raw::FPE_INTDIV, address),
        DEBUG => at(Signal::TRAP, raw::TRAP_TRACE, address),
        BREAKPOINT => plain(Signal::TRAP),
        INVALID_OPCODE => at(Signal::ILL, raw::ILL_ILLOPN, address),
        NO_SEGMENT | STACK => plain(Signal::BUS),
        FLOATING_POINT | SIMD => at(Signal::FPE, floating_point_code(registers, vector)?, address),
        ALIGNMENT => at(Signal::BUS, raw::BUS_ADRALN, 0),
        _ => plain(Signal::SEGV),
    })
}

/// The number and the error code of a page fault in a program.
pub fn page_fault(fault: &PageFault) -> (u8, u64) {
    let error = u64::from(fault.present)
        | u64::from(fault.access.contains(Access::WRITE)) << 1
        | 1 << 2
        | u64::from(fault.access.contains(Access::EXECUTE)) << 4;
    (PAGE, error)
}

/// Which floating-point exception it was, from the status and control words; `None` if there is none after all.
fn floating_point_code(registers: &mut Registers, vector: u8) -> Option<u32> {
    let state = registers.extended_state();
    let word = |at: usize| Some(u16::from_le_bytes(state.get(at..at + 2)?.try_into().ok()?));
    let pending = if vector == SIMD {
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
        (INVALID, raw::FPE_FLTINV),
        (DIVIDE, raw::FPE_FLTDIV),
        (OVERFLOW, raw::FPE_FLTOVF),
        (DENORMAL | UNDERFLOW, raw::FPE_FLTUND),
        (INEXACT, raw::FPE_FLTRES),
    ];
    codes.into_iter().find(|(bits, _)| pending & bits != 0).map(|(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::memory::UserAddress;

    /// The code for these pending exceptions, of which some are masked.
    fn code_of(vector: u8, pending: u16, masked: u16) -> Option<u32> {
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
        for vector in [FLOATING_POINT, SIMD] {
            for (pending, masked, expected) in [
                (1, 0, Some(raw::FPE_FLTINV)),
                (2, 0, Some(raw::FPE_FLTUND)),
                (4, 0, Some(raw::FPE_FLTDIV)),
                (8, 0, Some(raw::FPE_FLTOVF)),
                (16, 0, Some(raw::FPE_FLTUND)),
                (32, 0, Some(raw::FPE_FLTRES)),
                (32 | 16 | 8 | 4 | 1, 0, Some(raw::FPE_FLTINV)),
                (32 | 16 | 8 | 4, 0, Some(raw::FPE_FLTDIV)),
                (32 | 16 | 8, 0, Some(raw::FPE_FLTOVF)),
                (32 | 4, 4, Some(raw::FPE_FLTRES)),
                (63, 63, None),
                (0, 0, None),
                (4, 4, None),
                (0, 63, None),
            ] {
                assert_eq!(code_of(vector, pending, masked), expected, "{vector} {pending} {masked}");
            }
        }
    }

    #[test]
    fn exceptions_are_linux_s_signals() {
        let mut registers = Registers::new(0, 0).unwrap();
        let mut signal = |vector| raised(&Exception { vector, error: 0, address: 7 }, &mut registers);
        assert_eq!(signal(DIVIDE), Some(Raised { signal: Signal::FPE, place: Some((1, 7)) }));
        assert_eq!(signal(ALIGNMENT), Some(Raised { signal: Signal::BUS, place: Some((1, 0)) }));
        assert_eq!(signal(13), Some(Raised { signal: Signal::SEGV, place: None }));
        assert_eq!(signal(SIMD), None);
        let fault = PageFault { address: UserAddress::default(), access: Access::WRITE, present: true };
        assert_eq!(page_fault(&fault), (14, 7));
    }
}
