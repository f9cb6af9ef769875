//! I/O ports.

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
/// The device behind the port must not break memory safety by being read.
#[inline]
pub unsafe fn read_u8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller vouches for the port; the instruction touches no memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads 32 bits.
///
/// # Safety
/// As `read_u8`.
#[inline]
pub unsafe fn read_u32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte.
///
/// # Safety
/// The device behind the port must not break memory safety by it (DMA, reset of something in use).
#[inline]
pub unsafe fn write_u8(port: u16, value: u8) {
    // SAFETY: as above.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes 16 bits.
///
/// # Safety
/// As `write_u8`.
#[inline]
pub unsafe fn write_u16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}
