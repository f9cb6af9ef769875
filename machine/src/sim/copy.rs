//! Copying and clearing untyped memory, in Rust for every target: byte by byte, each loaded once and stored once, by accesses that may meet
//! those of others.

use crate::memory::PAGE_SIZE;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Zeroes a frame.
///
/// # Safety
/// `page` is the alias of a frame.
pub unsafe fn clear_page(page: *mut u8) {
    // SAFETY: by contract of the caller.
    unsafe { zero(page, PAGE_SIZE) }
}

/// Copies a frame.
///
/// # Safety
/// Both are aliases of frames, and different.
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: by contract of the caller.
    unsafe { copy(to, from, PAGE_SIZE) }
}

/// Copies `length` bytes, which may overlap, and may be changed by others meanwhile.
///
/// # Safety
/// Both are valid for `length` bytes, or `length` is 0.
pub unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    let copy_byte = |index| {
        // SAFETY: by contract of the caller. A relaxed load of a byte writes nothing.
        let byte = unsafe { AtomicU8::from_ptr(from.add(index).cast_mut()) }.load(Relaxed);
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(to.add(index)) }.store(byte, Relaxed);
    };
    if to.addr().wrapping_sub(from.addr()) < length {
        (0..length).rev().for_each(copy_byte); // the target begins inside the source
    } else {
        (0..length).for_each(copy_byte);
    }
}

/// Zeroes `length` bytes.
///
/// # Safety
/// `to` is valid for `length` bytes, or `length` is 0.
pub unsafe fn zero(to: *mut u8, length: usize) {
    for index in 0..length {
        // SAFETY: by contract of the caller.
        unsafe { AtomicU8::from_ptr(to.add(index)) }.store(0, Relaxed);
    }
}
