//! Copying and clearing untyped memory.

use crate::memory::PAGE_SIZE;
use core::ptr;

/// Zeroes a frame.
///
/// # Safety
/// `page` is the alias of a frame.
pub unsafe fn clear_page(page: *mut u8) {
    // SAFETY: by contract of the caller.
    unsafe { ptr::write_bytes(page, 0, PAGE_SIZE) }
}

/// Copies a frame.
///
/// # Safety
/// Both are aliases of frames, and different.
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: by contract of the caller.
    unsafe { ptr::copy_nonoverlapping(from, to, PAGE_SIZE) }
}

/// Copies `length` bytes, which may overlap.
///
/// # Safety
/// Both are valid for `length` bytes, or `length` is 0.
pub unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: by contract of the caller.
    unsafe { ptr::copy(from, to, length) }
}

/// Zeroes `length` bytes.
///
/// # Safety
/// `to` is valid for `length` bytes, or `length` is 0.
pub unsafe fn zero(to: *mut u8, length: usize) {
    // SAFETY: by contract of the caller.
    unsafe { ptr::write_bytes(to, 0, length) }
}
