//! The names of the kernel's functions, in the image. The format is in [`crate::symbols`].

use super::layout::{IMAGE_BASE, symbols_start};
use crate::symbols::{self, HEADER};

/// Bytes of the table; at least its header, which is in every image.
pub fn length() -> usize {
    // SAFETY: the linker script reserves the header there, in read-only memory that is mapped from the entry on.
    symbols::length(unsafe { core::slice::from_raw_parts(symbols_start() as *const u8, HEADER) })
}

/// The function that contains `address`, and the distance from its start.
pub fn find(address: usize) -> Option<(&'static str, usize)> {
    // SAFETY: `length` bytes are part of the image: loaded, mapped read-only, never written.
    let table = unsafe { core::slice::from_raw_parts(symbols_start() as *const u8, length()) };
    symbols::find(table, u32::try_from(address.checked_sub(IMAGE_BASE)?).ok()?)
}
