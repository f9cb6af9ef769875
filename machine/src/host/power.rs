//! The end of a host machine is the end of the process.

/// Ends the process with `status`.
pub fn off(status: u8) -> ! {
    std::process::exit(i32::from(status))
}

/// A process cannot reset itself: it ends, successfully, as a machine without a reset line does.
pub fn reset() -> ! {
    off(0)
}
