//! Copying and clearing memory, with the widest stores that pay on this CPU.
//!
//! `rep movsb` is best on new silicon and worst under emulation; vector moves are good everywhere but need a register of the
//! program's, which is live in the CPU and so kept on the stack meanwhile: all of it that the move changes. [`choose`] decides once, at boot. The assembler
//! also gives the compiler its `memcpy`, `memmove`, `memset` and `memcmp`, and the guarded copies of [`super::usercopy`].
//!
//! Until `choose` has run strings are used. It must not run before the boot CPU has enabled its vector state (XCR0), and no other
//! CPU may copy before it has done the same.

use super::{copy_method, features};
use crate::memory::PAGE_SIZE;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU8, Ordering};

core::arch::global_asm!(
    ".macro exception at, fixup",
    ".pushsection .exception_table, \"a\", @progbits",
    ".balign 8",
    ".quad \\at, \\fixup",
    ".popsection",
    ".endm",
    ".macro label name",
    ".global \\name",
    ".type \\name, @function",
    "\\name:",
    ".endm",
    include_str!("copy.s"),
);

/// The [`copy_method`]. Read by the assembler.
#[unsafe(export_name = "machine_copy_method")]
static METHOD: AtomicU8 = AtomicU8::new(copy_method::STRINGS);

unsafe extern "C" {
    fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
}

/// Decides how this machine copies. On the boot CPU, when its vector state is enabled.
pub fn choose() {
    let leaf = __cpuid_count(7, 0);
    let strings = __cpuid(0).eax >= 7 && leaf.ebx >> 9 & leaf.edx >> 4 & 1 == 1; // ERMS and FSRM
    let hypervisor = __cpuid(1).ecx >> 31 == 1;
    let emulated = hypervisor && __cpuid(0x4000_0000).ebx.to_le_bytes() == *b"TCGT";
    let method = copy_method::choose(strings, emulated, features::get().xcr0);
    METHOD.store(method, Ordering::Relaxed);
}

/// Zeroes a frame.
///
/// # Safety
/// `page` is the alias of a frame.
#[inline]
pub unsafe fn clear_page(page: *mut u8) {
    // SAFETY: by contract of the caller.
    unsafe { zero(page, PAGE_SIZE) }
}

/// Copies a frame.
///
/// # Safety
/// Both are aliases of frames, and different.
#[inline]
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: by contract of the caller.
    unsafe { copy(to, from, PAGE_SIZE) }
}

/// Copies `length` bytes, which may overlap, and may be changed by others meanwhile.
///
/// # Safety
/// Both are valid for `length` bytes, or `length` is 0.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: by contract of the caller. It is assembler, so bytes that change are just bytes.
    unsafe { memmove(to, from, length) };
}

/// Zeroes `length` bytes.
///
/// # Safety
/// `to` is valid for `length` bytes, or `length` is 0.
#[inline]
pub unsafe fn zero(to: *mut u8, length: usize) {
    // SAFETY: by contract of the caller.
    unsafe { memset(to, 0, length) };
}
