//! The end of the machine: nobody is left to run it, so whoever started it gets a panic that says how it ended.

/// Ends the machine with `status`.
#[allow(clippy::panic, reason = "the machine is off, and its thread is not: there is no other way out")]
pub fn off(status: u8) -> ! {
    panic!("the machine is off, with status {status}")
}

/// There is nobody to start it again.
/// # Panics
/// Always.
pub fn reset() -> ! {
    off(0)
}
