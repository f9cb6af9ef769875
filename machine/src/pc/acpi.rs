//! The ACPI tables: read at boot through the early tables, kept in our terms. The reading is in [`crate::format::acpi`].

use super::features;
use super::layout::direct;
use super::start_info::StartInfo;
use spin::Once;

pub use crate::format::acpi::{Platform, Register};

/// What the early tables map.
const EARLY_END: usize = 4 << 30;

static PLATFORM: Once<Platform> = Once::new();

/// What the tables said; nothing before [`read`].
pub fn get() -> Option<&'static Platform> {
    PLATFORM.get()
}

/// Reads the tables and keeps what they say.
///
/// # Safety
/// On the boot CPU, with the early tables loaded, and the firmware's memory untouched.
pub unsafe fn read(info: &StartInfo) {
    PLATFORM.call_once(|| {
        crate::format::acpi::read(info.rsdp, features::get().x2apic, |address, length| {
            address.checked_add(length).filter(|end| address != 0 && *end <= EARLY_END)?;
            // SAFETY: mapped; firmware's memory, which nobody writes while it is looked at.
            Some(unsafe { core::slice::from_raw_parts(direct(address), length) })
        })
    });
}
