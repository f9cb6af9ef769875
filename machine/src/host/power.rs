//! The end of a host machine: its CPUs unwind, and the caller of [`super::run`] has the status.

use super::machine;

/// Ends the machine with `status`.
pub fn off(status: u8) -> ! {
    machine::current().off(status)
}

/// There is nobody to start it again: it ends, successfully, as a machine without a reset line does.
pub fn reset() -> ! {
    off(0)
}
