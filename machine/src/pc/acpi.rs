//! The ACPI tables, as far as they are needed: CPUs, interrupt controllers, switching off.
//!
//! The tables come from firmware and may be damaged: every access is checked against the memory the tables may be in and
//! the table's own length, loops are bounded, and what makes no sense is left out.
//!
//! Specification: ACPI 6.5, chapter 5; <https://uefi.org/specs/ACPI/6.5/>.

use super::cpu::MAX_FOUND;
use super::features;
use super::layout::direct;
use super::start_info::StartInfo;
use arrayvec::ArrayVec;
use core::ops::Range;
use spin::Once;

/// What the early tables map.
const EARLY_END: usize = 4 << 30;
/// Where the I/O APIC is on every PC, if the tables do not say.
const USUAL_IO_APIC: usize = 0xfec0_0000;
/// A table longer than this is damaged.
const LONGEST: usize = 1 << 20;

/// A register somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// At a physical address.
    Memory(usize),
    /// A port.
    Port(u16),
}

/// An I/O APIC.
#[derive(Debug, Clone, Copy)]
pub struct IoApic {
    /// The physical address of its registers.
    pub address: usize,
    /// The global number of its first input.
    pub base: u32,
}

/// How an ISA interrupt reaches an I/O APIC, where it is not the obvious way.
#[derive(Debug, Clone, Copy)]
pub struct Override {
    /// The ISA interrupt.
    pub source: u8,
    /// The global input.
    pub input: u32,
    /// Active low.
    pub low: bool,
    /// Level-triggered.
    pub level: bool,
}

/// What the tables say.
#[derive(Debug, Default)]
pub struct Platform {
    /// The APIC numbers of the CPUs that can be used, in the tables' order.
    pub cpus: ArrayVec<u32, MAX_FOUND>,
    /// CPUs found beyond that.
    pub more_cpus: usize,
    /// The I/O APICs.
    pub io_apics: ArrayVec<IoApic, 8>,
    /// The interrupt overrides.
    pub overrides: ArrayVec<Override, 32>,
    /// The registers of the HPET.
    pub hpet: Option<usize>,
    /// The port of the 3.58 MHz timer.
    pub pm_timer: Option<u16>,
    /// Where to write what, to switch off.
    pub off: ArrayVec<(Register, u16), 2>,
    /// Where to write what, to reset.
    pub reset: Option<(Register, u8)>,
}

static PLATFORM: Once<Platform> = Once::new();

/// What the tables said; nothing before [`read`].
pub fn get() -> Option<&'static Platform> {
    PLATFORM.get()
}

/// Reads the tables and keeps what they say.
///
/// # Safety
/// On the boot CPU, with the early tables loaded, and the firmware's memory untouched.
pub unsafe fn read(info: &StartInfo) -> &'static Platform {
    PLATFORM.call_once(|| {
        let mut platform = Platform::default();
        // SAFETY: the caller's promise.
        let root = info.rsdp.or_else(|| unsafe { search_root() });
        // SAFETY: as above.
        if let Some(root) = root.and_then(|root| unsafe { memory(root, 36).or_else(|| memory(root, 20)) }) {
            // SAFETY: as above.
            unsafe { read_tables(root, &mut platform) };
        }
        if platform.io_apics.is_empty() {
            platform.io_apics.push(IoApic { address: USUAL_IO_APIC, base: 0 });
        }
        platform
    })
}

/// The memory of something the tables refer to, if it may be there.
///
/// # Safety
/// The early tables must be loaded.
unsafe fn memory(address: usize, length: usize) -> Option<&'static [u8]> {
    let end = address.checked_add(length)?;
    if address == 0 || length > LONGEST || end > EARLY_END {
        return None;
    }
    // SAFETY: mapped; firmware's memory, which nobody writes.
    Some(unsafe { core::slice::from_raw_parts(direct(address), length) })
}

/// The table at `address` without damage: its signature and the whole of it.
///
/// # Safety
/// As `memory`.
unsafe fn table(address: usize) -> Option<([u8; 4], &'static [u8])> {
    // SAFETY: the caller's promise.
    let bytes = unsafe {
        let header = memory(address, 36)?;
        memory(address, u32_at(header, 4)? as usize).filter(|bytes| bytes.len() >= 36)?
    };
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let signature = bytes.first_chunk::<4>()?;
    (sum == 0).then_some((*signature, bytes))
}

/// Where the BIOS keeps the root pointer, when the loader does not say.
///
/// # Safety
/// As `memory`.
unsafe fn search_root() -> Option<usize> {
    const AREA: Range<usize> = 0xe_0000..0x10_0000;
    // SAFETY: the caller's promise.
    let bytes = unsafe { memory(AREA.start, AREA.len())? };
    let found = bytes.chunks(16).position(|chunk| chunk.starts_with(b"RSD PTR "))?;
    Some(AREA.start + found * 16)
}

fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Walks the list of tables that the root points to.
///
/// # Safety
/// As `memory`.
unsafe fn read_tables(root: &[u8], platform: &mut Platform) {
    let extended = u8_at(root, 15).unwrap_or(0) >= 2 && u64_at(root, 24).unwrap_or(0) != 0;
    let (list, width) = if extended { (u64_at(root, 24), 8) } else { (u32_at(root, 16).map(u64::from), 4) };
    // SAFETY: the caller's promise.
    let Some((_, list)) = list.and_then(|list| unsafe { table(list as usize) }) else { return };
    for entry in list.get(36..).unwrap_or_default().chunks_exact(width) {
        let address = if width == 8 { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) };
        // SAFETY: as above.
        let Some((signature, bytes)) = address.and_then(|address| unsafe { table(address as usize) }) else { continue };
        match &signature {
            b"APIC" => read_interrupts(bytes, platform),
            b"HPET" => {
                platform.hpet = u64_at(bytes, 44).filter(|_| bytes.get(40) == Some(&0)).map(|base| base as usize);
            }
            // SAFETY: as above.
            b"FACP" => unsafe {
                read_power(bytes, platform);
            },
            _ => {}
        }
    }
}

/// The table of CPUs and interrupt controllers (MADT).
fn read_interrupts(bytes: &[u8], platform: &mut Platform) {
    let mut rest = bytes.get(44..).unwrap_or_default();
    while let Some((entry, more)) =
        u8_at(rest, 1).filter(|length| *length >= 2).and_then(|length| rest.split_at_checked(length.into()))
    {
        rest = more;
        let _ = read_interrupt_entry(entry, platform);
    }
}

fn read_interrupt_entry(entry: &[u8], platform: &mut Platform) -> Option<()> {
    const ENABLED: u32 = 1;
    match u8_at(entry, 0)? {
        0 if u32_at(entry, 4)? & ENABLED != 0 => add_cpu(platform, u8_at(entry, 3)?.into()),
        9 if u32_at(entry, 8)? & ENABLED != 0 && features::get().x2apic => add_cpu(platform, u32_at(entry, 4)?),
        1 => {
            let io_apic = IoApic { address: u32_at(entry, 4)? as usize, base: u32_at(entry, 8)? };
            let _ = platform.io_apics.try_push(io_apic);
        }
        2 => {
            let flags = u16_at(entry, 8)?;
            let (low, level) = (flags & 3 == 3, flags >> 2 & 3 == 3);
            let found = Override { source: u8_at(entry, 3)?, input: u32_at(entry, 4)?, low, level };
            let _ = platform.overrides.try_push(found);
        }
        _ => {}
    }
    Some(())
}

fn add_cpu(platform: &mut Platform, id: u32) {
    if !platform.cpus.contains(&id) && platform.cpus.try_push(id).is_err() {
        platform.more_cpus += 1;
    }
}

/// A register by its generic address structure.
fn register(bytes: &[u8], offset: usize) -> Option<Register> {
    let address = u64_at(bytes, offset + 4).filter(|address| *address != 0)?;
    match u8_at(bytes, offset)? {
        0 => usize::try_from(address).ok().map(Register::Memory),
        1 => u16::try_from(address).ok().map(Register::Port),
        _ => None,
    }
}

/// The fixed description (FADT): power and the timer.
///
/// # Safety
/// As `memory`.
unsafe fn read_power(bytes: &[u8], platform: &mut Platform) -> Option<()> {
    const RESET_SUPPORTED: u32 = 1 << 10;
    const HARDWARE_REDUCED: u32 = 1 << 20;
    const SLEEP_ENABLE: u16 = 1 << 13;
    let flags = u32_at(bytes, 112)?;
    if flags & RESET_SUPPORTED != 0
        && let (Some(register), Some(value)) = (register(bytes, 116), u8_at(bytes, 128))
    {
        platform.reset = Some((register, value));
    }
    let definitions = u64_at(bytes, 140).filter(|address| *address != 0).or_else(|| u32_at(bytes, 40).map(u64::from));
    // SAFETY: the caller's promise.
    let definitions = definitions.and_then(|address| unsafe { table(address as usize) });
    let (a, b) = definitions.and_then(|(_, code)| sleep_types(code)).unwrap_or((5, 5));
    if flags & HARDWARE_REDUCED != 0 {
        let control = register(bytes, 244)?;
        platform.off.push((control, u16::from(a) << 2 | 1 << 5));
        return Some(());
    }
    platform.pm_timer = u32_at(bytes, 76).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    for (offset, kind) in [(64, a), (68, b)] {
        if let Some(port) = u32_at(bytes, offset).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0) {
            platform.off.push((Register::Port(port), u16::from(kind) << 10 | SLEEP_ENABLE));
        }
    }
    Some(())
}

/// The values of `\_S5` for the two control registers, found without interpreting the code: `Name (_S5_, Package () { a, b, ...`.
fn sleep_types(code: &[u8]) -> Option<(u8, u8)> {
    const PACKAGE: u8 = 0x12;
    let found = code.windows(5).position(|window| window == b"_S5_\x12")?;
    let package = code.get(found + 4..).filter(|code| code.first() == Some(&PACKAGE))?;
    let length_bytes = usize::from(u8_at(package, 1)? >> 6);
    let mut rest = package.get(3 + length_bytes..)?;
    let mut value = || {
        let (value, used) = match rest {
            [0x0a, value, ..] => (*value, 2),
            [value @ (0 | 1), ..] => (*value, 1),
            _ => return None,
        };
        rest = rest.get(used..)?;
        Some(value & 7)
    };
    let first = value()?;
    Some((first, value().unwrap_or(first)))
}
