//! From the PVH entry to the kernel's main, on CPU 0.
//!
//! `boot.s` has brought the CPU to 64-bit mode and the upper half, on the boot stack, with early tables (see [`super::layout`]).
//!
//! Order of things (each step uses only what is above it):
//! 1. `start_info::read`: memory map, command line, initramfs, RSDP, copied to statics of fixed size
//! 2. `features::detect`, control registers of this CPU (NX before the real tables)
//! 3. `acpi::read` through the early direct map: CPUs, interrupt controllers, power registers
//! 4. `frames::initialise(memory_map(), reserved)`: the frame database and the boot arena; the heap works from here on
//! 5. `paging::initialise()`: builds the kernel's tables from `memory_map()` and `layout::image_parts()` and loads them
//!    (all CPUs later load `paging::kernel_root()`)
//! 6. descriptors, local APIC, secondary CPUs, I/O APICs, clock
//! 7. `kernel_main()` of the image
//!
//! What this room asks of frames/paging:
//! - `frames::initialise(memory: &[Region], reserved: &[Range<usize>])`; `usable` regions are RAM, the others are still
//!   mapped in the direct map when they are below the end of RAM (ACPI tables lie there)
//! - `paging::initialise()`, `paging::kernel_root() -> usize`
//! - `paging::map_device(physical: Range<usize>) -> Option<NonNull<u8>>`: uncached, at `layout::DEVICES`
//! - `paging::map_stack(bytes: usize) -> Option<usize>`: the top of a new stack above an unmapped guard page
//! - `paging::serve_shootdown()`: called by `cpu::relax` and by the shoot-down interrupt
//! - `Space.0.activate()`: called by `enter` when another space was loaded
//!
//! What it gives them: `local_apic::send_shootdown(cpus: u64)` (bits are CPU numbers), `cpu::current()`, `features::get()`.

use core::ops::Range;

/// A range of physical addresses of the memory map.
#[derive(Debug, Clone)]
pub struct Region {
    /// Physical addresses, as the loader said: not necessarily page-aligned, sorted or disjoint.
    pub range: Range<usize>,
    /// It is RAM; otherwise reserved, ACPI tables, broken.
    pub usable: bool,
}
