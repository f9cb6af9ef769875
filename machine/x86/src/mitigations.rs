//! What the CPU offers against speculation across borders, and what we use of it: see docs/src/side-channels.md.
//!
//! What to do is decided once from what the boot CPU says ([`decide`], which is logic only); a CPU that needs nothing, or offers
//! nothing, pays for nothing but a test when it changes from one program to another.

/// What a CPU says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// CPUID 7.0 EDX: bits 26 (IBRS and IBPB), 27 (STIBP), 29 (there is ARCH_CAPABILITIES).
    pub leaf_7_edx: u32,
    /// IA32_ARCH_CAPABILITIES, or 0.
    pub capabilities: u64,
    /// CPUID 8000_0008 EBX, AMD's: bits 12 (IBPB), 15 (STIBP), 17 (STIBP is best always on).
    pub leaf_8_ebx: u32,
    /// CPUID 8000_0021 EAX, AMD's: bit 8 (automatic IBRS).
    pub leaf_21_eax: u32,
}

/// What is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// What IA32_SPEC_CTRL is set to for good, on each CPU; none if it is left alone.
    pub speculation_control: Option<u64>,
    /// EFER.AIBRSE is set.
    pub automatic_ibrs: bool,
    /// The predictors of indirect branches are emptied between two programs (IA32_PRED_CMD).
    pub barrier: bool,
    /// The return stack is filled between two programs.
    pub fill_return_stack: bool,
}

/// IA32_SPEC_CTRL: indirect branches of the kernel are not predicted from what programs did.
const IBRS: u64 = 1;
/// IA32_SPEC_CTRL: nor from what the other thread of the core does.
const STIBP: u64 = 1 << 1;
/// IA32_ARCH_CAPABILITIES: IBRS may stay on for good ("enhanced").
const IBRS_ALL: u64 = 1 << 1;

const fn bit(word: u32, bit: u32) -> bool {
    word >> bit & 1 == 1
}

/// What to do on such a CPU.
///
/// IBRS is used only where it may stay on: switching it at every entry costs more than all the rest of a system call.
pub fn decide(offers: Offers) -> Measures {
    let intel = bit(offers.leaf_7_edx, 26);
    let enhanced = intel && offers.capabilities & IBRS_ALL != 0;
    let automatic_ibrs = bit(offers.leaf_21_eax, 8);
    let barrier = intel || bit(offers.leaf_8_ebx, 12);
    let mut control = 0;
    if enhanced {
        control |= IBRS;
    }
    if bit(offers.leaf_7_edx, 27) && enhanced || bit(offers.leaf_8_ebx, 15) && bit(offers.leaf_8_ebx, 17) {
        control |= STIBP;
    }
    Measures {
        speculation_control: (control != 0).then_some(control),
        automatic_ibrs,
        barrier,
        fill_return_stack: barrier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_offers_nothing_is_left_alone() {
        assert_eq!(decide(Offers::default()), Measures::default());
        // ARCH_CAPABILITIES alone says nothing of SPEC_CTRL: writing it would fault.
        let offers = Offers { capabilities: u64::MAX, leaf_7_edx: 1 << 29, ..Offers::default() };
        assert_eq!(decide(offers), Measures::default());
    }

    #[test]
    fn what_may_stay_on_is_on() {
        let intel = Offers { leaf_7_edx: 0b1001 << 26 | 1 << 27, capabilities: 2, ..Offers::default() };
        let measures = decide(intel);
        assert_eq!((measures.speculation_control, measures.barrier), (Some(3), true));
        // Older: IBRS would have to be switched at every entry.
        let older = decide(Offers { capabilities: 0, ..intel });
        assert_eq!((older.speculation_control, older.barrier, older.fill_return_stack), (None, true, true));
        let amd = Offers { leaf_8_ebx: 1 << 12 | 1 << 15 | 1 << 17, leaf_21_eax: 1 << 8, ..Offers::default() };
        let measures = decide(amd);
        assert_eq!((measures.speculation_control, measures.automatic_ibrs, measures.barrier), (Some(2), true, true));
    }
}
