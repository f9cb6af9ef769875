//! The frequency of the time-stamp counter, from who knows it.

use core::arch::x86_64::__cpuid;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Whether KVM tells how the TSC becomes nanoseconds (Linux's Documentation/virt/kvm/x86/cpuid.rst, `KVM_FEATURE_CLOCKSOURCE2`).
pub fn has_kvm_clock() -> bool {
    const HYPERVISOR: u32 = 0x4000_0000;
    const KVM: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
    if __cpuid(1).ecx >> 31 == 0 {
        return false;
    }
    let leaf = __cpuid(HYPERVISOR);
    [leaf.ebx, leaf.ecx, leaf.edx] == KVM && __cpuid(HYPERVISOR + 1).eax & 1 << 3 != 0
}

/// What the CPU says, in Hz.
pub fn by_cpuid() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid(0x15);
    let known = leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0;
    known.then(|| u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax))
}

/// What KVM's numbers say, in Hz: a tick shifted by `shift` and multiplied by `multiplier` / 2^32 is its nanoseconds.
pub fn by_kvm_scale(multiplier: u32, shift: i8) -> Option<u64> {
    let scaled = u128::from(SECOND) << 32;
    let frequency = scaled / u128::from(multiplier).max(1);
    let frequency = if shift < 0 { frequency << shift.unsigned_abs().min(31) } else { frequency >> shift.min(31) };
    u64::try_from(frequency).ok().filter(|frequency| multiplier != 0 && *frequency != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_kvm_says_the_frequency() {
        // 1 GHz: a tick is a nanosecond, which is 2^32 / 2^32, or half of that shifted by one.
        assert_eq!(by_kvm_scale(1 << 31, 1), Some(SECOND));
        assert_eq!(by_kvm_scale(1 << 31, -1), Some(4 * SECOND));
        assert_eq!(by_kvm_scale(0, 0), None);
        assert_eq!(by_kvm_scale(u32::MAX, i8::MAX), None);
    }
}
