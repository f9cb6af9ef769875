//! The ACPI tables, as far as they are needed: CPUs, interrupt controllers, switching off.
//!
//! The tables come from firmware and may be damaged: every access is checked against the memory the tables may be in and
//! the table's own length, loops are bounded, and what makes no sense is left out.
//!
//! Specification: ACPI 6.5, chapter 5; <https://uefi.org/specs/ACPI/6.5/>.

use arrayvec::ArrayVec;
use core::ops::Range;

/// Where the I/O APIC is on every PC, if the tables do not say.
const USUAL_IO_APIC: usize = 0xfec0_0000;
/// A longer table is damaged.
const LONGEST: usize = 1 << 20;
/// The header all tables have.
const HEADER: usize = 36;

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
pub struct Platform<const CPUS: usize> {
    /// The APIC numbers of the CPUs that can be used, in the tables' order.
    pub cpus: ArrayVec<u32, CPUS>,
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

/// Reads the tables from `root`, or from where the BIOS keeps it. `memory(address, length)` gives the bytes at a physical address
/// if they may be looked at.
pub fn read<'a, const CPUS: usize>(
    root: Option<usize>,
    x2apic: bool,
    memory: impl Fn(usize, usize) -> Option<&'a [u8]>,
) -> Platform<CPUS> {
    let mut platform = Platform::default();
    let root = root.or_else(|| search_root(&memory));
    if let Some(root) = root.and_then(|root| memory(root, 36).or_else(|| memory(root, 20))) {
        read_tables(root, x2apic, &mut platform, &memory);
    }
    if platform.io_apics.is_empty() {
        platform.io_apics.push(IoApic { address: USUAL_IO_APIC, base: 0 });
    }
    platform
}

/// The table at `address` without damage: its signature and the whole of it.
fn table<'a>(address: usize, memory: &impl Fn(usize, usize) -> Option<&'a [u8]>) -> Option<([u8; 4], &'a [u8])> {
    let header = memory(address, HEADER)?;
    let length = u32_at(header, 4)? as usize;
    let bytes = memory(address, length).filter(|_| (HEADER..LONGEST).contains(&length))?;
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let signature = bytes.first_chunk::<4>()?;
    (sum == 0).then_some((*signature, bytes))
}

/// Where the BIOS keeps the root pointer, when the loader does not say.
fn search_root<'a>(memory: &impl Fn(usize, usize) -> Option<&'a [u8]>) -> Option<usize> {
    const AREA: Range<usize> = 0xe_0000..0x10_0000;
    let bytes = memory(AREA.start, AREA.len())?;
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
fn read_tables<'a, const CPUS: usize>(
    root: &[u8],
    x2apic: bool,
    platform: &mut Platform<CPUS>,
    memory: &impl Fn(usize, usize) -> Option<&'a [u8]>,
) {
    let extended = u8_at(root, 15).unwrap_or(0) >= 2 && u64_at(root, 24).unwrap_or(0) != 0;
    let (list, width) = if extended { (u64_at(root, 24), 8) } else { (u32_at(root, 16).map(u64::from), 4) };
    let Some((_, list)) = list.and_then(|list| table(list as usize, memory)) else { return };
    for entry in list.get(HEADER..).unwrap_or_default().chunks_exact(width) {
        let address = if width == 8 { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) };
        let Some((signature, bytes)) = address.and_then(|address| table(address as usize, memory)) else { continue };
        match &signature {
            b"APIC" => read_interrupts(bytes, x2apic, platform),
            b"HPET" if bytes.get(40) == Some(&0) => platform.hpet = u64_at(bytes, 44).map(|base| base as usize),
            b"FACP" => {
                read_power(bytes, platform, memory);
            }
            _ => {}
        }
    }
}

/// The table of CPUs and interrupt controllers (MADT).
fn read_interrupts<const CPUS: usize>(bytes: &[u8], x2apic: bool, platform: &mut Platform<CPUS>) {
    let mut rest = bytes.get(44..).unwrap_or_default();
    while let Some((entry, more)) =
        u8_at(rest, 1).filter(|length| *length >= 2).and_then(|length| rest.split_at_checked(length.into()))
    {
        rest = more;
        let _ = read_interrupt_entry(entry, x2apic, platform);
    }
}

fn read_interrupt_entry<const CPUS: usize>(entry: &[u8], x2apic: bool, platform: &mut Platform<CPUS>) -> Option<()> {
    const ENABLED: u32 = 1;
    match u8_at(entry, 0)? {
        0 if u32_at(entry, 4)? & ENABLED != 0 => add_cpu(platform, u8_at(entry, 3)?.into()),
        9 if u32_at(entry, 8)? & ENABLED != 0 && x2apic => add_cpu(platform, u32_at(entry, 4)?),
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

fn add_cpu<const CPUS: usize>(platform: &mut Platform<CPUS>, id: u32) {
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
fn read_power<'a, const CPUS: usize>(
    bytes: &[u8],
    platform: &mut Platform<CPUS>,
    memory: &impl Fn(usize, usize) -> Option<&'a [u8]>,
) -> Option<()> {
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
    let definitions = definitions.and_then(|address| table(address as usize, memory));
    let (a, b) = definitions.and_then(|(_, code)| sleep_types(code)).unwrap_or((5, 5));
    if flags & HARDWARE_REDUCED != 0 {
        let control = register(bytes, 244)?;
        let _ = platform.off.try_push((control, u16::from(a) << 2 | 1 << 5));
        return Some(());
    }
    platform.pm_timer = u32_at(bytes, 76).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    for (offset, kind) in [(64, a), (68, b)] {
        if let Some(port) = u32_at(bytes, offset).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0) {
            let _ = platform.off.try_push((Register::Port(port), u16::from(kind) << 10 | SLEEP_ENABLE));
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: usize = 0x1000;
    const SIZE: usize = 0x8000;
    const MOST_CPUS: usize = 64;

    /// Puts a table of `body` with a right header and sum at `address`.
    fn put(memory: &mut [u8], address: usize, signature: &[u8; 4], body: &[u8]) {
        let length = HEADER + body.len();
        memory[address..address + 4].copy_from_slice(signature);
        memory[address + 4..address + 8].copy_from_slice(&(length as u32).to_le_bytes());
        memory[address + HEADER..address + length].copy_from_slice(body);
        let sum = memory[address..address + length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        memory[address + 9] = memory[address + 9].wrapping_sub(sum);
    }

    /// A machine like q35 with two CPUs.
    fn machine() -> Vec<u8> {
        let mut memory = vec![0; SIZE];
        memory[ROOT..ROOT + 8].copy_from_slice(b"RSD PTR ");
        memory[ROOT + 16..ROOT + 20].copy_from_slice(&0x2000_u32.to_le_bytes());
        let list: Vec<u8> = [0x3000_u32, 0x4000, 0x5000].iter().flat_map(|address| address.to_le_bytes()).collect();
        put(&mut memory, 0x2000, b"RSDT", &list);
        let mut interrupts = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
        interrupts.extend([0, 8, 0, 0, 1, 0, 0, 0]); // CPU with APIC number 0
        interrupts.extend([0, 8, 1, 7, 1, 0, 0, 0]); // and one with 7
        interrupts.extend([0, 8, 2, 9, 0, 0, 0, 0]); // one that is not there
        interrupts.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        interrupts.extend([2, 10, 0, 9, 9, 0, 0, 0, 0xf, 0]); // interrupt 9: low, level
        put(&mut memory, 0x3000, b"APIC", &interrupts);
        let mut fixed = vec![0; 244 - HEADER];
        fixed[40 - HEADER..44 - HEADER].copy_from_slice(&0x6000_u32.to_le_bytes());
        fixed[64 - HEADER..68 - HEADER].copy_from_slice(&0x604_u32.to_le_bytes());
        fixed[76 - HEADER..80 - HEADER].copy_from_slice(&0x608_u32.to_le_bytes());
        fixed[112 - HEADER..116 - HEADER].copy_from_slice(&(1_u32 << 10).to_le_bytes());
        fixed[116 - HEADER..128 - HEADER].copy_from_slice(&[1, 8, 0, 1, 0xf9, 0xc, 0, 0, 0, 0, 0, 0]);
        fixed[128 - HEADER] = 0xf;
        put(&mut memory, 0x4000, b"FACP", &fixed);
        put(&mut memory, 0x5000, b"HPET", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0]);
        put(&mut memory, 0x6000, b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x03\x01\x00\x00");
        memory
    }

    fn read_from(memory: &[u8]) -> Platform<MOST_CPUS> {
        read(Some(ROOT), false, |address, length| memory.get(address..address.checked_add(length)?))
    }

    #[test]
    fn tables_of_a_pc() {
        let platform = read_from(&machine());
        assert_eq!(platform.cpus.as_slice(), [0, 7]);
        assert_eq!((platform.io_apics[0].address, platform.io_apics[0].base), (0xfec0_0000, 0));
        let exception = platform.overrides[0];
        assert_eq!((exception.source, exception.input, exception.low, exception.level), (9, 9, true, true));
        assert_eq!(platform.hpet, Some(0xfed0_0000));
        assert_eq!(platform.pm_timer, Some(0x608));
        assert_eq!(platform.reset, Some((Register::Port(0xcf9), 0xf)));
        assert_eq!(platform.off.as_slice(), [(Register::Port(0x604), 3 << 10 | 1 << 13)]);
    }

    #[test]
    fn more_cpus_than_supported_are_counted() {
        let mut memory = machine();
        let mut interrupts = vec![0; 8];
        (0..=255).for_each(|id| interrupts.extend([0, 8, id, id, 1, 0, 0, 0]));
        memory[0x3000..0x4000].fill(0);
        put(&mut memory, 0x3000, b"APIC", &interrupts);
        let platform = read_from(&memory);
        assert_eq!((platform.cpus.len(), platform.more_cpus), (MOST_CPUS, 256 - MOST_CPUS));
    }

    #[test]
    fn without_tables_there_is_a_usual_pc() {
        let platform = read_from(&[]);
        assert!(platform.cpus.is_empty());
        assert_eq!(platform.io_apics[0].address, USUAL_IO_APIC);
    }

    /// Damage anywhere, with sums made right again so that it is looked at, ends in some platform and nothing worse.
    #[test]
    fn damaged_tables_are_survived() {
        let mut random = 1_u64;
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize
        };
        let good = machine();
        let mut differing = 0;
        for _ in 0..20_000 {
            let mut memory = good.clone();
            let table = [0x2000, 0x3000, 0x4000, 0x5000, 0x6000][next() % 5];
            for _ in 0..1 + next() % 4 {
                memory[table + next() % 0x70] = next() as u8;
            }
            let length = (u32_at(&memory, table + 4).unwrap_or(0) as usize).min(SIZE - table);
            let sum = memory[table..table + length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            memory[table + 9] = memory[table + 9].wrapping_sub(sum);
            memory.truncate(SIZE - next() % 0x3000);
            let platform = read_from(&memory);
            differing += usize::from(platform.cpus.as_slice() != [0, 7]);
        }
        assert!(differing > 1000, "the damage was not looked at");
    }
}
