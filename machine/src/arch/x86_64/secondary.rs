//! Starting the other CPUs.
//!
//! All are started at once. Each checks in; when all have, or after a while, the boot CPU gives those that did their
//! numbers, in the order of the ACPI tables. Who comes later finds no block and stays halted, so that the number of CPUs
//! never changes while the kernel runs.

use super::block::Block;
use super::descriptors::KERNEL_CODE;
use super::layout::{IMAGE_BASE, STACK, direct};
use super::{acpi, cpu, debug, descriptors, local_apic, paging, time};
use crate::cpu::MAX_CPUS;
use alloc::vec;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::arch::global_asm;
use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Ticks of the TSC that are at least 200 us: the pause the protocol wants between its steps.
const PAUSE: u64 = 1_000_000;
/// Ticks after which a CPU is given up: some seconds, as an emulated CPU may have to wait for a busy host.
const PATIENCE: u64 = 10_000_000_000;

global_asm!(
    include_str!("secondary.s"),
    IMAGE_BASE = const IMAGE_BASE,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const descriptors::KERNEL_DATA,
    STACKS = const MAX_CPUS,
);

unsafe extern "C" {
    static secondary_start: u8;
    static secondary_end: u8;
}

/// The kernel's tables, for `secondary.s`.
#[unsafe(no_mangle)]
static secondary_root: AtomicUsize = AtomicUsize::new(0);
/// The stacks, taken in the order of arrival.
#[unsafe(no_mangle)]
static secondary_stacks: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
#[unsafe(no_mangle)]
static secondary_tickets: AtomicU32 = AtomicU32::new(0);

/// By the index of the ACPI tables: who has come.
static CHECKED_IN: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// And the blocks they are given.
static BLOCKS: [AtomicPtr<Block>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
/// Whether the clocks of those that came agree.
static CLOCKS: clocks::Comparison = clocks::Comparison::new();
/// No more numbers are given out.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Starts all other CPUs of `platform`, copying the start code to physical page `page`, and settles which CPUs there are.
/// `first` is the boot CPU's block.
pub fn start(platform: &acpi::Platform, first: &'static Block, page: Option<u8>) {
    if platform.more_cpus > 0 {
        let (used, found) = (platform.cpus.len(), platform.cpus.len() + platform.more_cpus);
        debug::emergency_print(format_args!("{found} CPUs found, {used} are used\n"));
    }
    let others = || platform.cpus.iter().enumerate().filter(|(_, id)| **id != first.apic_id.get());
    let mut expected = ArrayVec::<usize, MAX_CPUS>::new();
    if let Some(page) = page
        && others().next().is_some()
    {
        for ((index, _), stack) in others().zip(&secondary_stacks) {
            let Some(top) = paging::map_stack(STACK) else { break };
            stack.store(top, Ordering::Relaxed);
            expected.push(index);
        }
        secondary_root.store(paging::kernel_root(), Ordering::Release);
        // SAFETY: the page is RAM reserved for this, the code is shorter than a page.
        unsafe {
            let length = (&raw const secondary_end).offset_from_unsigned(&raw const secondary_start);
            direct(usize::from(page) << 12).copy_from_nonoverlapping(&raw const secondary_start, length);
        }
        wake(others().map(|(_, id)| *id), &expected, page);
    }
    let mut blocks = vec![first];
    for (index, id) in others() {
        let block = Block::new(blocks.len(), *id);
        // SAFETY: the block's CPU has not seen it yet.
        if has_come(index) && unsafe { descriptors::prepare(block) }.is_some() {
            blocks.push(block);
        } else {
            debug::emergency_print(format_args!("CPU with APIC number {id} did not start\n"));
        }
    }
    admit(platform, blocks);
}

/// Whether the CPU of this place in the ACPI tables has checked in.
fn has_come(index: usize) -> bool {
    CHECKED_IN.get(index).is_some_and(|come| come.load(Ordering::Acquire))
}

/// Sends INIT and the start-up interrupt, and waits for the CPUs `expected`.
fn wake(ids: impl Iterator<Item = u32> + Clone, expected: &[usize], page: u8) {
    let all_here = || expected.iter().all(|index| has_come(*index));
    let wait = |ticks| {
        let start = time::ticks();
        while !all_here() && time::ticks().wrapping_sub(start) < ticks {
            spin_loop();
        }
    };
    ids.clone().for_each(local_apic::send_init);
    wait(PAUSE);
    ids.clone().for_each(|id| local_apic::send_startup(id, page));
    wait(PAUSE);
    if !all_here() {
        ids.for_each(|id| local_apic::send_startup(id, page));
        wait(PATIENCE);
    }
}

/// Fixes the CPUs, and lets those that wait go on.
fn admit(platform: &acpi::Platform, blocks: Vec<&'static Block>) {
    let others: Vec<_> = blocks.iter().skip(1).copied().collect();
    cpu::settle(blocks);
    for block in others {
        let index = platform.cpus.iter().position(|id| *id == block.apic_id.get());
        if let Some(slot) = index.and_then(|index| BLOCKS.get(index)) {
            slot.store(ptr::from_ref(block).cast_mut(), Ordering::Release);
        }
    }
    CLOSED.store(true, Ordering::Release);
    if cpu::count() > 1 {
        CLOCKS.take_part(cpu::count(), time::ticks);
    }
    if CLOCKS.worst() > 0 {
        debug::emergency_print(format_args!("the CPUs' clocks differ by {} ticks\n", CLOCKS.worst()));
        time::clock().distrust();
    }
}

/// The first Rust code of another CPU, on its stack, with the kernel's tables.
#[unsafe(no_mangle)]
extern "C" fn secondary_main() -> ! {
    // First of all: copies may use vector registers.
    super::features::enable();
    let id = initial_apic_id();
    let index = acpi::get().and_then(|platform| platform.cpus.iter().position(|found| *found == id));
    let Some((index, slot)) = index.and_then(|index| Some((index, BLOCKS.get(index)?))) else { cpu::halt() };
    if let Some(come) = CHECKED_IN.get(index) {
        come.store(true, Ordering::Release);
    }
    let block = loop {
        let closed = CLOSED.load(Ordering::Acquire);
        // SAFETY: what is stored there is a leaked block that is this CPU's.
        if let Some(block) = unsafe { slot.load(Ordering::Acquire).as_ref() } {
            break block;
        }
        if closed {
            cpu::halt();
        }
        spin_loop();
    };
    CLOCKS.take_part(cpu::count(), time::ticks);
    // SAFETY: its own CPU, once, after `prepare`.
    unsafe { cpu::set_up(block) };
    cpu::run()
}

/// The APIC number by `cpuid`, as the APIC is not in use yet.
pub fn initial_apic_id() -> u32 {
    let id = raw_cpuid::CpuId::new();
    let extended = id.get_extended_topology_info().and_then(|mut levels| levels.next());
    match extended {
        Some(level) => level.x2apic_id(),
        None => id.get_feature_info().map_or(0, |info| info.initial_local_apic_id().into()),
    }
}
