//! The vDSO: clocks that programs read without a system call. See vdso(7).
//!
//! Two pages lie side by side in every program, the same two frames for all of them:
//!
//! ```text
//!     [vvar]   numbers: how the time-stamp counter becomes time      read only         clocks::Numbers, clock.rs
//!     [vdso]   an ELF shared object with the functions               read, execute     formats::vdso, code.s
//! ```
//!
//! The kernel's own clock computes with the same numbers, so both ways give the same time ([`clocks::Clock`] says why it never goes
//! back between them). Where the TSC does not tell the time the numbers say so, and the functions make the system call.
//!
//! The machine's `time` has the [`Clock`] and sets it; the memory room takes the [`pages`] once, at its start, and maps them
//! into programs. Anybody may call anything at any time; nothing sleeps.

use crate::memory::Frame;
use crate::platform;
use alloc::vec::Vec;
use clocks::Numbers;
use core::mem::offset_of;
#[cfg(test)]
use core::sync::atomic;
use formats::vdso::{CODE, build};

mod clock;
#[cfg(test)]
mod mirror;

pub(crate) use clock::{Clock, ticks};

/// The frames of the vDSO. In a program the page of `code` follows that of `data`.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The numbers. A program that could write them could give others a wrong time: map it for reading only.
    pub data: Frame,
    /// The shared object.
    pub code: Frame,
}

/// The pages of this machine's vDSO, the same at each call. None if memory is out.
pub fn pages() -> Option<Pages> {
    platform::time::clock().pages().cloned()
}

/// `CLOCK_REALTIME`, `CLOCK_REALTIME_COARSE` and `CLOCK_TAI`.
const WALL_CLOCKS: u32 = 1 << 0 | 1 << 5 | 1 << 11;
/// And `CLOCK_MONOTONIC`, `CLOCK_MONOTONIC_RAW`, `CLOCK_MONOTONIC_COARSE`, `CLOCK_BOOTTIME`.
const CLOCKS: u32 = WALL_CLOCKS | 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7;

core::arch::global_asm!(
    include_str!("code.s"),
    code = const CODE,
    page = const crate::memory::PAGE_SIZE,
    sequence = const offset_of!(Numbers, sequence),
    multiplier = const offset_of!(Numbers, multiplier),
    base_ticks = const offset_of!(Numbers, base_ticks),
    base_nanoseconds = const offset_of!(Numbers, base_nanoseconds),
    epoch = const offset_of!(Numbers, epoch),
    clocks = const CLOCKS,
    wall_clocks = const WALL_CLOCKS,
    coarse_clocks = const 1 << 5 | 1 << 6,
    last_clock = const CLOCKS.ilog2(),
    tick = const 4_000_000,
    second = const 1_000_000_000,
    // 2^75 / 10^9 * 2^9, rounded up: x / 10^9 = (x / 2^9 * this) / 2^75, exactly for every 64-bit x.
    reciprocal = const 19_342_813_113_834_067_u64,
);

unsafe extern "C" {
    static orrery_vdso_code: u8;
    static orrery_vdso_end: u8;
    static orrery_vdso_functions: [[u32; 2]; 5];
}

/// The bytes of the shared object.
fn image() -> Vec<u8> {
    let start = &raw const orrery_vdso_code;
    let length = (&raw const orrery_vdso_end).addr() - start.addr();
    // SAFETY: code.s puts bytes that never change between the two symbols, and ten numbers at the third.
    let (code, functions) = unsafe { (core::slice::from_raw_parts(start, length), &orrery_vdso_functions) };
    build(code, functions)
}

#[cfg(test)]
mod tests;
