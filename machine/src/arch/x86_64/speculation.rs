//! Carrying out the [mitigations](x86::mitigations).

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use spin::Once;
use x86::mitigations::{Measures, Offers, decide};
use x86_64::registers::model_specific::Msr;

const SPEC_CTRL: u32 = 0x48;
const PRED_CMD: u32 = 0x49;
const ARCH_CAPABILITIES: u32 = 0x10a;
const EFER: u32 = 0xc000_0080;
const EFER_AUTOMATIC_IBRS: u64 = 1 << 21;

static MEASURES: Once<Measures> = Once::new();

fn ask() -> Offers {
    let leaf_7_edx = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).edx } else { 0 };
    let last = __cpuid(0x8000_0000).eax;
    Offers {
        leaf_7_edx,
        // SAFETY: CPUID says that there is such a register.
        capabilities: if leaf_7_edx >> 29 & 1 == 1 { unsafe { Msr::new(ARCH_CAPABILITIES).read() } } else { 0 },
        leaf_8_ebx: if last >= 0x8000_0008 { __cpuid(0x8000_0008).ebx } else { 0 },
        leaf_21_eax: if last >= 0x8000_0021 { __cpuid(0x8000_0021).eax } else { 0 },
    }
}

/// Switches on, on this CPU, what stays on for good.
pub fn enable() {
    let measures = MEASURES.call_once(|| decide(ask()));
    // SAFETY: these registers and bits change what the CPU predicts, and nothing else; one that it has not, though `decide`
    // should know, is a fault that ends the machine.
    unsafe {
        if let Some(control) = measures.speculation_control {
            Msr::new(SPEC_CTRL).write(control);
        }
        if measures.automatic_ibrs {
            let mut efer = Msr::new(EFER);
            efer.write(efer.read() | EFER_AUTOMATIC_IBRS);
        }
    }
}

/// The next program on this CPU is another one than the last: nothing it does is predicted from what that one did.
#[inline]
pub fn between_programs() {
    if let Some(measures) = MEASURES.get().filter(|measures| measures.barrier) {
        forget_predictions(measures);
    }
}

#[cold]
fn forget_predictions(measures: &Measures) {
    // SAFETY: as above; bit 0 empties its predictors of indirect branches.
    unsafe { Msr::new(PRED_CMD).write(1) };
    if measures.fill_return_stack {
        // SAFETY: 32 calls over traps that are only ever run in speculation; the stack is as before.
        unsafe {
            asm!(".rept 32", "call 3f", "2: pause", "lfence", "jmp 2b", "3:", ".endr", "add rsp, 32 * 8",);
        }
    }
}
