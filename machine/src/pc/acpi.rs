//! The ACPI tables: read at boot through the early tables, kept in our terms. The reading is in [`formats::acpi`]; what is acted on
//! is checked here ([`vetted`]).

use super::features;
use super::layout::direct;
use super::start_info::StartInfo;
use crate::cpu::MAX_CPUS;
use arrayvec::ArrayVec;
use spin::Once;

pub use formats::acpi::Register;

/// What the tables say.
pub type Platform = formats::acpi::Platform<MAX_CPUS>;

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
        let platform = formats::acpi::read(info.rsdp, features::get().x2apic, |address, length| {
            address.checked_add(length).filter(|end| address != 0 && *end <= EARLY_END)?;
            // SAFETY: mapped; firmware's memory, which nobody writes while it is looked at.
            Some(unsafe { core::slice::from_raw_parts(direct(address), length) })
        });
        vetted(platform, info)
    });
}

/// Leaves out what must not be acted on, whatever the tables say and however they were read: registers that lie in RAM, and
/// a CPU that is named twice.
fn vetted(mut platform: Platform, info: &StartInfo) -> Platform {
    let is_device = |address: usize| {
        let page = address & !0xfff;
        page.checked_add(4096).is_some_and(|end| !info.has_ram(&(page..end)))
    };
    let may_write = |register: &Register| match register {
        Register::Memory(address) => is_device(*address),
        Register::Port(_) => true,
    };
    platform.io_apics.retain(|found| is_device(found.address));
    platform.hpet = platform.hpet.filter(|address| is_device(*address));
    platform.off.retain(|(register, _)| may_write(register));
    platform.reset = platform.reset.filter(|(register, _)| may_write(register));
    let mut known = ArrayVec::<u32, MAX_CPUS>::new();
    platform.cpus.retain(|id| !known.contains(id) && known.try_push(*id).is_ok());
    platform
}
