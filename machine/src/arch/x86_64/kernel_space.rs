//! The kernel's half of the address space: the same tables in every space, built at boot.
//!
//! Tables are only ever added, never changed or removed, and so are all pages but those of the heap's mapped memory: no CPU
//! has to forget anything else. The entries of the root for all regions of [`super::layout`] exist before the first user space
//! copies them. Made by the boot CPU, but for stacks and devices, which a lock guards, and the heap's memory, whose lock is
//! [`crate::heap::vmalloc`]'s.

use super::boot::memory_map;
use super::layout::{self, DEVICES, DIRECT_MAP, IMAGE_BASE, Rights, STACKS, VMALLOC};
use super::table::{ENTRIES, Entry, Table};
use super::{copy, features, frames};
use crate::heap::{reserve, vmalloc};
use crate::lock::SpinLock;
use crate::memory::{PAGE_SIZE, take_frames, take_refusable_frames};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Once;

const LARGE: usize = 2 << 20;
const HUGE: usize = 1 << 30;

static ROOT: Once<Table> = Once::new();

/// Where the next stack and the next device go.
struct Free {
    stacks: usize,
    devices: usize,
}

static FREE: SpinLock<Free> = SpinLock::new(Free { stacks: STACKS, devices: DEVICES });

/// Frames taken since boot, for statistics.
static STACK_FRAMES: AtomicUsize = AtomicUsize::new(0);
static TABLE_FRAMES: AtomicUsize = AtomicUsize::new(0);

/// Frames that are kernel stacks.
pub fn stack_frames() -> usize {
    STACK_FRAMES.load(Ordering::Relaxed)
}

/// Frames that are tables of mapped memory.
pub fn table_frames() -> usize {
    TABLE_FRAMES.load(Ordering::Relaxed)
}

/// The physical address of the kernel's root table: what a CPU loads that runs no program.
#[inline]
pub fn kernel_root() -> usize {
    ROOT.get().map_or(0, |root| root.physical())
}

/// Copies the kernel's half into a new root.
#[inline]
pub fn share_kernel_half(root: Table) {
    let Some(kernel) = ROOT.get() else { return };
    let half = PAGE_SIZE / 2;
    let from = frames::bytes(kernel.0.get()).wrapping_add(half);
    // SAFETY: both are tables; the kernel's root does not change any more.
    unsafe { copy::copy(frames::bytes(root.0.get()).wrapping_add(half), from, half) };
}

fn flags(rights: Rights) -> u64 {
    let global = if features::get().global_pages { Entry::GLOBAL } else { 0 };
    let flags = Entry::PRESENT | Entry::ACCESSED | global;
    match rights {
        Rights::Text => flags,
        Rights::Constant => flags | Entry::NO_EXECUTE,
        Rights::Data => flags | Entry::NO_EXECUTE | Entry::WRITABLE | Entry::DIRTY,
    }
}

/// A table for the kernel: what can't be refused may need it, and then has the reserve.
fn new_table() -> Option<Table> {
    let frame = if reserve::can_be_refused() { take_refusable_frames(0) } else { take_frames(0) };
    // SAFETY: the frame is ours alone.
    frame.map(|number| unsafe { Table::zeroed(number) })
}

/// The table below `table` at `index`; none if memory is out or a large page is there.
fn lower(table: Table, index: usize) -> Option<Table> {
    let entry = table.get(index);
    if entry.0 == 0 {
        let lower = new_table()?;
        let flags = Entry::PRESENT | Entry::WRITABLE | Entry::ACCESSED;
        table.set(index, Entry(lower.physical() as u64 | flags));
        return Some(lower);
    }
    Table::of(entry).filter(|_| !entry.has(Entry::LARGE))
}

/// Maps `length` bytes at `virtual_start` to `physical`, with pages as large as fit, where nothing is mapped yet.
fn map(root: Table, virtual_start: usize, physical: usize, length: usize, flags: u64) -> Option<()> {
    let mut done = 0;
    while done < length {
        let (address, target, left) = (virtual_start + done, physical + done, length - done);
        let fits = |size: usize| address.is_multiple_of(size) && target.is_multiple_of(size) && left >= size;
        let index = |level| index(address, level);
        let third = lower(root, index(3))?;
        let entry = third.get(index(2));
        if entry.has(Entry::LARGE) {
            done += HUGE - address % HUGE;
        } else if entry.0 == 0 && fits(HUGE) && features::get().gib_pages {
            third.set(index(2), Entry(target as u64 | flags | Entry::LARGE));
            done += HUGE;
        } else {
            let second = lower(third, index(2))?;
            let entry = second.get(index(1));
            if entry.has(Entry::LARGE) {
                done += LARGE - address % LARGE;
            } else if entry.0 == 0 && fits(LARGE) {
                second.set(index(1), Entry(target as u64 | flags | Entry::LARGE));
                done += LARGE;
            } else {
                let first = lower(second, index(1))?;
                if first.get(index(0)).0 == 0 {
                    first.set(index(0), Entry(target as u64 | flags));
                }
                done += PAGE_SIZE;
            }
        }
    }
    Some(())
}

/// Builds the kernel's tables and loads them on this CPU. Fails if memory is out.
///
/// # Safety
/// Called once, on the boot CPU, after [`frames::initialise`], with this CPU's NX and global pages enabled.
pub unsafe fn initialise() -> Result<(), &'static str> {
    let root = build().ok_or("too little memory for the kernel's page tables")?;
    ROOT.call_once(|| root);
    // SAFETY: the tables map the image and the direct map as the early ones did, so what runs goes on.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) root.physical(), options(nostack, preserves_flags)) };
    Ok(())
}

fn build() -> Option<Table> {
    let root = new_table()?;
    for (range, rights) in layout::image_parts() {
        let (physical, length) = (range.start - IMAGE_BASE, range.len());
        map(root, range.start, physical, length, flags(rights))?;
        // The direct map must not let anybody write what is read-only in the image, nor execute anything.
        let rights = if rights == Rights::Text { Rights::Constant } else { rights };
        map(root, DIRECT_MAP + physical, physical, length, flags(rights))?;
    }
    let end = frames::records().len() * PAGE_SIZE;
    for region in memory_map().iter().filter(|region| region.usable || region.range.start < end) {
        let start = region.range.start / PAGE_SIZE * PAGE_SIZE;
        let end = region.range.end.next_multiple_of(PAGE_SIZE).min(STACKS - DIRECT_MAP);
        map(root, DIRECT_MAP + start, start, end.saturating_sub(start), flags(Rights::Data))?;
    }
    let mapped = (VMALLOC..VMALLOC + vmalloc::AREA * PAGE_SIZE).step_by(ENTRIES * HUGE);
    for region in mapped.chain([STACKS, DEVICES]) {
        lower(root, index(region, 3))?;
    }
    Some(root)
}

/// The index of an address in a table of `level`: 0 is the leaf, 3 the root.
#[inline]
const fn index(address: usize, level: usize) -> usize {
    address >> (12 + 9 * level) & (ENTRIES - 1)
}

/// Makes the tables for mapped memory at these addresses. False if memory is out. The heap calls it, one CPU at a time.
pub fn prepare(addresses: Range<usize>) -> bool {
    let make = |address| {
        let mut table = *ROOT.get()?;
        for level in [3, 2, 1] {
            let new = table.get(index(address, level)).0 == 0;
            table = lower(table, index(address, level))?;
            TABLE_FRAMES.fetch_add(usize::from(new), Ordering::Relaxed);
        }
        Some(())
    };
    (addresses.start & !(LARGE - 1)..addresses.end).step_by(LARGE).all(|address| make(address).is_some())
}

/// The leaf table of an address of mapped memory, for which [`prepare`] was called.
#[inline]
fn prepared_leaf(address: usize) -> Option<Table> {
    let third = Table::of(ROOT.get()?.get(index(address, 3)))?;
    let second = Table::of(third.get(index(address, 2)))?;
    Table::of(second.get(index(address, 1)))
}

/// The entry of a page of mapped memory; 0 where no table is.
#[inline]
pub fn entry(address: usize) -> u64 {
    prepared_leaf(address).map_or(0, |leaf| leaf.get(index(address, 0)).0)
}

/// Changes the entry of a page of mapped memory that has a table.
///
/// # Safety
/// What it maps is the caller's, and what it mapped before is not used any more.
#[inline]
pub unsafe fn set_entry(address: usize, entry: u64) {
    if let Some(leaf) = prepared_leaf(address) {
        leaf.set(index(address, 0), Entry(entry));
    }
}

/// An entry by which the kernel reads and writes a frame. Not global: CPUs forget it with the rest of a space.
#[inline]
pub fn data_entry(number: u32) -> u64 {
    u64::from(number) << 12 | flags(Rights::Data) & !Entry::GLOBAL
}

/// The number of the frame that an entry shows.
#[inline]
pub fn frame_of(entry: u64) -> usize {
    Entry(entry).frame().map_or(0, |number| number.get() as usize)
}

/// Maps device registers, uncached. None if memory is out. Asked again for the same device, it maps it again.
pub fn map_device(physical: Range<usize>) -> Option<NonNull<u8>> {
    let root = ROOT.get()?;
    let free = &mut *FREE.lock();
    let start = physical.start / PAGE_SIZE * PAGE_SIZE;
    let length = physical.end.checked_next_multiple_of(PAGE_SIZE)?.checked_sub(start)?;
    let address = free.devices;
    free.devices = address.checked_add(length).filter(|end| end - DEVICES < HUGE * ENTRIES)?;
    map(*root, address, start, length, flags(Rights::Data) | Entry::UNCACHED)?;
    NonNull::new((address + physical.start - start) as *mut u8)
}

/// Maps a new stack of at least `bytes` above a page that is left unmapped; returns its top. None if memory is out.
pub fn map_stack(bytes: usize) -> Option<usize> {
    let root = ROOT.get()?;
    let free = &mut *FREE.lock();
    let start = free.stacks + PAGE_SIZE;
    let top = start + bytes.next_multiple_of(PAGE_SIZE);
    for page in (start..top).step_by(PAGE_SIZE) {
        let frame = take_frames(0)?; // never given back
        map(*root, page, (frame.get() as usize) << 12, PAGE_SIZE, flags(Rights::Data))?;
        STACK_FRAMES.fetch_add(1, Ordering::Relaxed);
    }
    free.stacks = top;
    Some(top)
}
