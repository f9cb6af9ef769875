//! What the loader says: memory map, command line, initramfs, ACPI root. Copied out of its memory at once, so that memory
//! can be used, and with fixed bounds, so that no heap is needed.
//!
//! Format: xen/include/public/arch-x86/hvm/start_info.h.

use super::boot::Region;
use super::layout::direct;
use arrayvec::ArrayVec;
use core::ops::Range;
use spin::Once;

/// The longest command line kept, as Linux's COMMAND_LINE_SIZE on x86.
const COMMAND_LINE: usize = 2048;
/// Regions of the memory map kept.
const REGIONS: usize = 128;
/// What the early tables map.
const EARLY_END: usize = 4 << 30;

const MAGIC: u32 = 0x336e_c578;
const TYPE_RAM: u32 = 1;

/// `struct hvm_start_info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    magic: u32,
    version: u32,
    _flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    _reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    address: u64,
    size: u64,
    _command_line: u64,
    _reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MemoryEntry {
    address: u64,
    size: u64,
    kind: u32,
    _reserved: u32,
}

/// What was said, in our terms.
pub struct StartInfo {
    /// The memory map.
    pub regions: ArrayVec<Region, REGIONS>,
    /// The command line, without the end mark.
    pub command_line: ArrayVec<u8, COMMAND_LINE>,
    /// The first module.
    pub initramfs: Option<Range<usize>>,
    /// The physical address of the ACPI root, if it was said.
    pub rsdp: Option<usize>,
}

static START_INFO: Once<StartInfo> = Once::new();

/// What the loader said. Empty before [`read`].
pub fn get() -> Option<&'static StartInfo> {
    START_INFO.get()
}

/// Reads `T` at a physical address.
///
/// # Safety
/// The early tables must be loaded. `T` must be valid for any bytes.
unsafe fn read_physical<T: Copy>(address: u64) -> Option<T> {
    let address = usize::try_from(address).ok().filter(|address| *address != 0)?;
    address.checked_add(size_of::<T>()).filter(|end| *end <= EARLY_END)?;
    // SAFETY: below 4 GiB, which the early tables map; the caller vouches for the rest.
    Some(unsafe { direct(address).cast::<T>().read_unaligned() })
}

/// Keeps what the start info at `address` says. None if it is not one.
///
/// # Safety
/// On the boot CPU, with the early tables loaded.
pub unsafe fn read(address: usize) -> Option<&'static StartInfo> {
    // SAFETY: all types read are plain integers; the caller vouches for the tables.
    let (raw, read_module, read_entry, read_byte) = unsafe {
        (
            read_physical::<Raw>(address as u64).filter(|raw| raw.magic == MAGIC)?,
            |address| read_physical::<Module>(address),
            |address| read_physical::<MemoryEntry>(address),
            |address| read_physical::<u8>(address),
        )
    };
    let entries = if raw.version >= 1 { raw.memory_map_entries as u64 } else { 0 };
    let regions = (0..entries.min(REGIONS as u64)).filter_map(|index| {
        let entry = read_entry(raw.memory_map.checked_add(index * size_of::<MemoryEntry>() as u64)?)?;
        Some(Region { range: range(entry.address, entry.size)?, usable: entry.kind == TYPE_RAM })
    });
    let command_line = (0..COMMAND_LINE as u64)
        .map_while(|index| read_byte(raw.command_line.checked_add(index)?).filter(|byte| *byte != 0));
    let module = if raw.modules > 0 { read_module(raw.module_list) } else { None };
    let info = StartInfo {
        regions: regions.collect(),
        command_line: command_line.collect(),
        initramfs: module.and_then(|module| range(module.address, module.size)),
        rsdp: Some(raw.rsdp as usize).filter(|address| *address != 0),
    };
    Some(START_INFO.call_once(|| info))
}

/// The range of addresses, if there is such a range and it is not empty.
fn range(start: u64, size: u64) -> Option<Range<usize>> {
    let end = start.checked_add(size)?;
    (size > 0).then_some(start as usize..usize::try_from(end).ok()?)
}

impl StartInfo {
    /// True if some of `range` is RAM by the memory map.
    pub fn has_ram(&self, range: &Range<usize>) -> bool {
        let meets = |region: &Region| region.range.start < range.end && range.start < region.range.end;
        self.regions.iter().any(|region| region.usable && meets(region))
    }

    /// True if all of `range` is RAM by the memory map.
    pub fn is_ram(&self, range: &Range<usize>) -> bool {
        let mut from = range.start;
        // Each turn goes on to the end of a region; there are finitely many.
        for _ in 0..=REGIONS {
            if from >= range.end {
                return true;
            }
            let holds = |region: &&Region| region.usable && region.range.contains(&from);
            match self.regions.iter().find(holds) {
                Some(region) => from = region.range.end,
                None => return false,
            }
        }
        false
    }
}
