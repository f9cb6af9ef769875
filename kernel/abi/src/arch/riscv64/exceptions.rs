//! Exceptions of the CPU as signals: the causes in `scause` (RISC-V privileged architecture, 10.1.8).

use machine::memory::Access;
use machine::user::{Exception, PageFault, Registers};

use crate::arch::Raised;
use crate::raw::general as raw;
use crate::signal::Signal;

const FETCH_MISALIGNED: u8 = 0;
const FETCH_ACCESS: u8 = 1;
const ILLEGAL: u8 = 2;
const BREAKPOINT: u8 = 3;
const LOAD_MISALIGNED: u8 = 4;
const LOAD_ACCESS: u8 = 5;
const STORE_MISALIGNED: u8 = 6;
const STORE_ACCESS: u8 = 7;
const FETCH_PAGE: u8 = 12;
const LOAD_PAGE: u8 = 13;
const STORE_PAGE: u8 = 15;

/// What an exception stands for.
pub fn raised(exception: &Exception, _: &mut Registers) -> Option<Raised> {
    Some(meaning(exception))
}

/// Linux's arch/riscv/kernel/traps.c: each says where the program was, not what it touched.
fn meaning(exception: &Exception) -> Raised {
    let (signal, code) = match exception.vector {
        FETCH_MISALIGNED | LOAD_MISALIGNED | STORE_MISALIGNED => (Signal::BUS, raw::BUS_ADRALN),
        FETCH_ACCESS | LOAD_ACCESS | STORE_ACCESS => (Signal::SEGV, raw::SEGV_ACCERR),
        ILLEGAL => (Signal::ILL, raw::ILL_ILLOPC),
        BREAKPOINT => (Signal::TRAP, raw::TRAP_BRKPT),
        _ => (Signal::ILL, raw::ILL_ILLTRP),
    };
    Raised { signal, place: Some((code as i32, exception.address)) }
}

/// The number of a page fault in a program. There is no code beside it.
pub fn page_fault(fault: &PageFault) -> (u8, u64) {
    let cause = if fault.access.contains(Access::EXECUTE) {
        FETCH_PAGE
    } else if fault.access.contains(Access::WRITE) {
        STORE_PAGE
    } else {
        LOAD_PAGE
    };
    (cause, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::memory::UserAddress;

    #[test]
    fn exceptions_are_linux_s_signals() {
        let signal = |vector| meaning(&Exception { vector, error: 0, address: 7 });
        let raised = |signal, code| Raised { signal, place: Some((code, 7)) };
        assert_eq!(signal(ILLEGAL), raised(Signal::ILL, 1));
        assert_eq!(signal(BREAKPOINT), raised(Signal::TRAP, 1));
        assert_eq!(signal(LOAD_MISALIGNED), raised(Signal::BUS, 1));
        assert_eq!(signal(STORE_ACCESS), raised(Signal::SEGV, 2));
        assert_eq!(signal(10), raised(Signal::ILL, 4));
    }

    #[test]
    fn a_page_fault_says_what_was_tried() {
        let fault = |access| page_fault(&PageFault { address: UserAddress::default(), access, present: true });
        assert_eq!([Access::EXECUTE, Access::READ, Access::WRITE].map(fault), [(12, 0), (13, 0), (15, 0)]);
    }
}
