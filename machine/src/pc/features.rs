//! What the CPU can do, and switching it on.

use core::arch::x86_64::__cpuid_count;
use raw_cpuid::CpuId;
use spin::Once;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

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

static FEATURES: Once<Features> = Once::new();

/// What the CPU can do.
#[inline]
pub fn get() -> &'static Features {
    FEATURES.call_once(detect)
}

fn detect() -> Features {
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
fn usable_components(supported: u64) -> u64 {
    let supported = XCr0Flags::from_bits_truncate(supported);
    let avx512 = XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
    let mut used = XCr0Flags::X87 | XCr0Flags::SSE;
    used |= supported & XCr0Flags::AVX;
    if supported.contains(avx512 | XCr0Flags::AVX) {
        used |= avx512;
    }
    used.bits()
}

/// Switches on, on this CPU, what the kernel uses. NX is on already, since the entry.
pub fn enable() {
    let features = get();
    // SAFETY: all bits are supported by the check. Write protection and caches on; the FPU present and native; SMEP and SMAP
    // are right, since the kernel executes no user page and touches user memory only between stac and clac.
    unsafe {
        Cr0::write(
            Cr0Flags::PROTECTED_MODE_ENABLE
                | Cr0Flags::MONITOR_COPROCESSOR
                | Cr0Flags::EXTENSION_TYPE
                | Cr0Flags::NUMERIC_ERROR
                | Cr0Flags::WRITE_PROTECT
                | Cr0Flags::PAGING,
        );
        let mut flags = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
            | Cr4Flags::MACHINE_CHECK_EXCEPTION
            | Cr4Flags::OSFXSR
            | Cr4Flags::OSXMMEXCPT_ENABLE;
        flags.set(Cr4Flags::PAGE_GLOBAL, features.global_pages);
        flags.set(Cr4Flags::FSGSBASE, features.fsgsbase);
        flags.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
        flags.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
        flags.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
        flags.set(Cr4Flags::OSXSAVE, features.xcr0 != 0);
        Cr4::write(flags);
        if features.xcr0 != 0 {
            XCr0::write(XCr0Flags::from_bits_truncate(features.xcr0));
        }
    }
}
