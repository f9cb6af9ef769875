//! Copying under Miri, which runs no assembler, and no program that could write meanwhile.

/// Copies bytes.
///
/// # Safety
/// Both are valid for `length` bytes, or `length` is 0.
pub unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: by contract of the caller.
    unsafe { std::ptr::copy(from, to, length) }
}

/// Zeroes bytes.
///
/// # Safety
/// `to` is valid for `length` bytes, or `length` is 0.
pub unsafe fn zero(to: *mut u8, length: usize) {
    // SAFETY: by contract of the caller.
    unsafe { to.write_bytes(0, length) }
}
