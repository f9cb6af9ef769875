//! The kernel heap: slabs with a stock on every CPU, over runs of frames.
//!
//! | file | |
//! | --- | --- |
//! | `slab` | size classes, blocks of objects, [`slab::Heap`]: logic only, tested over pages of its own |
//! | `vmalloc` | large memory from single frames, mapped side by side: logic only, tested over a map |
//! | `global` | on `pc`: the `#[global_allocator]`, its pages from the frame source, its stocks in static memory |
//! | `host/heap` | the same on the host machine: a heap for each machine |
//! | `reserve` | which requests can be refused, and what those that can't may draw |
//!
//! Everything the kernel boxes comes through here, and counts as the machine's memory. Callers synchronise with nobody: the stock
//! is this CPU's alone, since interrupts are off whenever the kernel runs; behind it each size class has a spin lock, and
//! behind that is the frame source. An allocation that fails returns null.

use boundary::HeapUsage;
#[cfg(feature = "fail-allocations")]
use {
    crate::cpu::{self, MAX_CPUS},
    shortage::{Drawn, Failing},
};

#[cfg(machine = "pc")]
mod global;
pub(crate) mod reserve;
#[cfg_attr(
    machine = "sim",
    allow(dead_code, reason = "its heap is the target's: only the size of a block is asked for")
)]
pub(crate) mod slab;
#[cfg(any(machine = "pc", test))]
pub(crate) mod vmalloc;

pub use reserve::{MOST_DRAWN, MOST_FRAMES_DRAWN, fallible};

/// What the heap of this machine holds now.
pub fn heap_usage() -> HeapUsage {
    #[cfg(machine = "pc")]
    return global::usage();
    #[cfg(not(machine = "pc"))]
    crate::platform::heap::usage()
}

/// What was drawn on the reserve, by all machines of this process.
#[cfg(feature = "fail-allocations")]
pub(crate) static DRAWN: Drawn<MAX_CPUS> = Drawn::new();

/// Counts a request of so many bytes. True if it is the one that fails.
#[cfg(feature = "fail-allocations")]
pub(crate) fn strikes(failing: &Failing, bytes: usize) -> bool {
    let can_be_refused = reserve::can_be_refused();
    if !can_be_refused {
        DRAWN.add(cpu::current(), bytes);
    }
    failing.strikes(can_be_refused)
}

/// Lets the `nth` request for kernel memory from now on that can be refused fail, from 1 on, on this machine; 0 for none.
#[cfg(feature = "fail-allocations")]
pub fn fail_nth_allocation(nth: u64) {
    failing().fail_nth(nth);
}

/// What this CPU has drawn on the reserve since the last such call was for work of this kind (a number below 512).
#[inline]
pub fn end_draw(kind: u32) {
    let _ = kind;
    #[cfg(feature = "fail-allocations")]
    DRAWN.end(cpu::current(), kind);
}

/// The most bytes that were drawn on the reserve for each kind of work, by all machines of this process.
#[cfg(feature = "fail-allocations")]
pub fn most_drawn(tell: impl FnMut(u32, u32)) {
    DRAWN.each(tell);
}

/// Requests for kernel memory on this machine so far; in a test without a machine, those of its thread.
#[cfg(feature = "fail-allocations")]
pub fn allocations() -> u64 {
    #[cfg(machine = "pc")]
    return failing().requests();
    #[cfg(not(machine = "pc"))]
    crate::platform::heap::requests()
}

/// Requests on this machine so far that could be refused.
#[cfg(feature = "fail-allocations")]
pub fn refusable_allocations() -> u64 {
    failing().refusable()
}

/// Counts a request for frames. True if it fails.
#[cfg(feature = "fail-allocations")]
pub(crate) fn refuses_frames() -> bool {
    #[cfg(not(machine = "pc"))]
    return crate::platform::heap::is_of_a_machine() && failing().refuses();
    #[cfg(machine = "pc")]
    failing().refuses()
}

#[cfg(feature = "fail-allocations")]
fn failing() -> &'static Failing {
    #[cfg(machine = "pc")]
    return &global::FAILING;
    #[cfg(not(machine = "pc"))]
    crate::platform::heap::failing()
}
