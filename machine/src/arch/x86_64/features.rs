//! What the CPU can do, and switching it on. A CPU that can't after all refuses that: then the machine ends.

use spin::Once;
use x86::features::{Features, detect};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

static FEATURES: Once<Features> = Once::new();

/// What the CPU can do.
#[inline]
pub fn get() -> &'static Features {
    FEATURES.call_once(detect)
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
