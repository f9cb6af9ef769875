//! From the PVH entry to the kernel's main, on CPU 0.
//!
//! `boot.s` brings the CPU to 64-bit mode and the upper half, on the boot stack, with the early tables (see
//! [`super::layout`]), and calls [`boot_start`]. Each step uses only what the steps before it have made.

use super::descriptors::{self, KERNEL_CODE, KERNEL_DATA};
use super::layout::{self, BOOT_STACK, IMAGE_BASE, STACK};
use super::start_info::{self, StartInfo};
use super::{
    acpi, block, cpu, debug, extended, features, frames, io_apic, local_apic, paging, power, secondary, time, traps,
};
use arrayvec::ArrayVec;
use core::arch::{asm, global_asm};
use core::ops::Range;

/// The status of a machine that could not start.
const FAILED: u8 = 1;

global_asm!(
    include_str!("boot.s"),
    IMAGE_BASE = const IMAGE_BASE,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    BOOT_STACK = const BOOT_STACK,
    FAILED = const FAILED,
    DEBUG_EXIT = const power::DEBUG_EXIT,
);

/// A range of physical addresses of the memory map.
#[derive(Debug, Clone)]
pub struct Region {
    /// Physical addresses, as the loader said: not necessarily page-aligned, sorted or disjoint.
    pub range: Range<usize>,
    /// It is RAM; otherwise reserved, ACPI tables, broken.
    pub usable: bool,
}

/// The memory map.
pub fn memory_map() -> &'static [Region] {
    start_info::get().map_or(&[], |info| &info.regions)
}

/// The first Rust code. `start_info` is the physical address the loader gave.
#[unsafe(no_mangle)]
extern "C" fn boot_start(start_info: usize) -> ! {
    let block = block::first();
    // SAFETY: the boot CPU's block, before anything uses it; GS is free; the code segment is the kernel's.
    unsafe {
        block.adopt();
        features::enable();
        descriptors::load_interrupt_table();
    }
    time::start();
    // SAFETY: the boot CPU with the early tables, and the loader's memory untouched.
    let Some(info) = (unsafe { start_info::read(start_info) }) else { fail("not started by the PVH protocol") };
    // SAFETY: as above.
    unsafe { acpi::read(info) };
    if let Err(reason) = set_up_memory(info) {
        fail(reason);
    }
    let Some(stack) = paging::map_stack(STACK) else { fail("too little memory for a stack") };
    // SAFETY: the stack is fresh; nothing on the old one is used again. A return address of 0 ends backtraces.
    unsafe {
        asm!("mov rsp, {}", "xor ebp, ebp", "call {}", "ud2", in(reg) stack, sym boot_on_stack, options(noreturn));
    }
}

/// The frame database, the heap and the kernel's tables.
fn set_up_memory(info: &StartInfo) -> Result<(), &'static str> {
    let mut reserved = ArrayVec::<_, 2>::new();
    reserved.push(layout::image());
    match &info.initramfs {
        Some(range) if info.is_ram(range) => reserved.push(range.clone()),
        Some(range) => debug::emergency_print(format_args!("the initramfs is not in memory: {range:#x?}\n")),
        None => {}
    }
    // SAFETY: once, with the early tables, before any allocation; the reserved ranges are all that is used: start info and
    // ACPI were copied, and the boot stack is part of the image.
    unsafe {
        frames::initialise(&info.regions, &reserved)?;
        paging::initialise()
    }
}

/// The rest, on the boot CPU's own stack.
extern "C" fn boot_on_stack() -> ! {
    let Some(platform) = acpi::get() else { fail("no platform") };
    let block = block::first();
    extended::initialise();
    traps::initialise();
    power::initialise(platform);
    if !local_apic::initialise() {
        fail("too little memory for the local APIC");
    }
    block.apic_id.set(secondary::initial_apic_id());
    // SAFETY: the boot CPU's block, prepared once, loaded on its CPU.
    let prepared = unsafe { descriptors::prepare(block).map(|()| cpu::set_up(block)) };
    if prepared.is_none() {
        fail("too little memory for interrupt stacks");
    }
    let comparison = time::begin(platform);
    io_apic::initialise(platform);
    secondary::start(platform, block, start_page());
    time::finish(comparison);
    unsafe extern "C" {
        /// The kernel's main, in the image.
        safe fn kernel_main() -> !;
    }
    kernel_main()
}

/// A page of RAM below 1 MiB for the start of other CPUs, above what firmware uses and below what it keeps at the top. The frame
/// database leaves low memory alone.
fn start_page() -> Option<u8> {
    let free = |page: &u8| {
        start_info::get().is_some_and(|info| info.is_ram(&(usize::from(*page) << 12..(usize::from(*page) + 1) << 12)))
    };
    (0x08..0x90).find(free)
}

/// Cannot go on: says why.
fn fail(reason: &str) -> ! {
    debug::emergency_print(format_args!("Orrery cannot start: {reason}\n"));
    power::off(FAILED)
}
