//! What a CPU can do, by its own word (CPUID).

use crate::extended::X87_AND_SSE;
use core::arch::x86_64::__cpuid_count;
use raw_cpuid::CpuId;

/// What the boot CPU can do; the others are taken to be its equals, as on every PC.
#[derive(Debug, Clone, Copy, Default)]
pub struct Features {
    /// Writing FS and GS bases without MSRs.
    pub fsgsbase: bool,
    /// Supervisor-mode access prevention: `stac`, `clac` exist.
    pub smap: bool,
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// User-mode instruction prevention: programs cannot read descriptor tables.
    pub umip: bool,
    /// Global pages.
    pub global_pages: bool,
    /// 1 GiB pages.
    pub gib_pages: bool,
    /// x2APIC.
    pub x2apic: bool,
    /// The local APIC's timer compares with the TSC.
    pub tsc_deadline: bool,
    /// `rdrand`.
    pub rdrand: bool,
    /// `rdseed`.
    pub rdseed: bool,
    /// The components of the extended state in use (XCR0); 0 without XSAVE.
    pub xcr0: u64,
    /// `xsaveopt`.
    pub xsaveopt: bool,
}

/// What the CPU says it can do.
pub fn detect() -> Features {
    let id = CpuId::new();
    let mut features = Features::default();
    if let Some(info) = id.get_feature_info() {
        features.global_pages = info.has_pge();
        features.x2apic = info.has_x2apic();
        features.tsc_deadline = info.has_tsc_deadline();
        features.rdrand = info.has_rdrand();
    }
    if let Some(info) = id.get_extended_feature_info() {
        features.fsgsbase = info.has_fsgsbase();
        features.smap = info.has_smap();
        features.smep = info.has_smep();
        features.umip = info.has_umip();
        features.rdseed = info.has_rdseed();
    }
    if let Some(info) = id.get_extended_processor_and_feature_identifiers() {
        features.gib_pages = info.has_1gib_pages();
    }
    if id.get_feature_info().is_some_and(|info| info.has_xsave()) {
        features.xcr0 = usable_components(__cpuid_count(0xd, 0).eax.into());
        features.xsaveopt = __cpuid_count(0xd, 1).eax & 1 != 0;
    }
    features
}

/// Of the components of the extended state the CPU has, those we use: x87, SSE, AVX, AVX-512. Each needs those before it.
const fn usable_components(supported: u64) -> u64 {
    const AVX: u64 = 1 << 2;
    /// Masks, the upper halves of 16 registers, and 16 more registers.
    const AVX512: u64 = 1 << 5 | 1 << 6 | 1 << 7;
    let with_avx = supported & AVX != 0;
    let with_avx512 = with_avx && supported & AVX512 == AVX512;
    X87_AND_SSE | if with_avx { AVX } else { 0 } | if with_avx512 { AVX512 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_used_with_those_they_need() {
        for (supported, used) in
            [(0, 3), (3, 3), (7, 7), (0xe7, 0xe7), (0xe3, 3), (0x67, 7), (0x2_02e7, 0xe7), (u64::MAX, 0xe7)]
        {
            assert_eq!(usable_components(supported), used, "{supported:#x}");
        }
    }

    #[test]
    fn this_cpu_has_what_it_runs_with() {
        let features = detect();
        assert!(features.global_pages);
        assert_eq!(features.xcr0 & 3, if features.xcr0 == 0 { 0 } else { 3 });
    }
}
