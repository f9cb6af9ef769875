//! The end: switch off or start again.

use crate::platform;

/// Switches the machine off. `status` reaches whoever started it, where there is a way (QEMU's `isa-debug-exit` and
/// `debugcon`, the exit status of a host process).
pub fn off(status: u8) -> ! {
    platform::power::off(status)
}

/// Starts the machine again.
pub fn reset() -> ! {
    platform::power::reset()
}
