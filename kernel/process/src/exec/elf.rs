//! ELF, as far as executing needs it: the header and the program headers of a 64-bit file for this architecture. See elf(5).
//!
//! Everything here is arithmetic on bytes a stranger wrote: no sum overflows, no index is trusted, and what Linux refuses
//! before it gives up the old program is refused with its errno.

use alloc::vec::Vec;
use core::ops::Range;

use abi::arch::ELF_MACHINE;
use abi::fallible::TryVec;
use abi::memory::Protection;
use abi::{Errno, Result};
use memory::{PAGE_SIZE, USER_TOP};

/// Bytes of the header.
pub const HEADER: usize = 64;
/// Bytes of a program header.
pub const PROGRAM_HEADER: usize = 56;
/// Program headers may take this much in all.
const MOST_PROGRAM_HEADERS: usize = 65536;
/// The longest name of an interpreter, with its zero.
const LONGEST_INTERPRETER: u64 = 4096;

const EXECUTABLE: u16 = 2;
const SHARED_OBJECT: u16 = 3;

const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const GNU_STACK: u32 = 0x6474_e551;

/// The flag of a program header whose memory is executed.
const EXECUTED: u32 = 1;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// May be loaded anywhere.
    pub relocatable: bool,
    /// Where it starts.
    pub entry: u64,
    /// Where in the file the program headers are.
    pub headers: u64,
    /// How many there are.
    pub count: u16,
}

/// A part of the file that is to be in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where, before relocation.
    pub address: usize,
    /// How long.
    pub memory_length: usize,
    /// From where in the file.
    pub offset: u64,
    /// How much of it.
    pub file_length: usize,
    /// With what rights.
    pub protection: Protection,
    /// A power of two it wants to be aligned to; at least a page.
    pub alignment: usize,
}

impl Segment {
    /// The address behind it.
    pub const fn end(&self) -> usize {
        self.address.saturating_add(self.memory_length)
    }
}

/// What the program headers say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// What is to be loaded, in the order of the file.
    pub segments: Vec<Segment>,
    /// Where in the file the interpreter's name is.
    pub interpreter: Option<Range<u64>>,
    /// Where the program headers are in memory, before relocation; 0 if they are not.
    pub headers: usize,
    /// It executes code on its stack.
    pub executable_stack: bool,
    /// Some segment can't be mapped: Linux finds out when the old program is gone already.
    pub broken: bool,
}

impl Header {
    /// Reads the header. The slice holds the first bytes of the file, followed by zeros.
    ///
    /// # Errors
    /// `ENOEXEC`.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let class_64 = 2;
        if bytes.get(..4) != Some(b"\x7fELF".as_slice()) || bytes.get(4) != Some(&class_64) {
            return Err(Errno::ENOEXEC);
        }
        let kind = u16_at(bytes, 16)?;
        let (entry, headers) = (u64_at(bytes, 24)?, u64_at(bytes, 32)?);
        let (size, count) = (u16_at(bytes, 54)?, u16_at(bytes, 56)?);
        let total = usize::from(count) * PROGRAM_HEADER;
        let good = matches!(kind, EXECUTABLE | SHARED_OBJECT)
            && u16_at(bytes, 18)? == ELF_MACHINE
            && usize::from(size) == PROGRAM_HEADER
            && (1..=MOST_PROGRAM_HEADERS).contains(&total);
        if !good {
            return Err(Errno::ENOEXEC);
        }
        Ok(Header { relocatable: kind == SHARED_OBJECT, entry, headers, count })
    }

    /// How many bytes the program headers take.
    pub fn headers_length(&self) -> usize {
        usize::from(self.count) * PROGRAM_HEADER
    }
}

impl Program {
    /// Reads the program headers.
    ///
    /// # Errors
    /// `ENOEXEC` for an impossible interpreter, `EINVAL` for a relocatable file without segments.
    pub fn parse(header: &Header, bytes: &[u8]) -> Result<Program> {
        let mut program = Program::default();
        for entry in bytes.chunks_exact(PROGRAM_HEADER).take(header.count.into()) {
            match u32_at(entry, 0)? {
                LOAD => program.add_segment(header, entry)?,
                INTERPRETER if program.interpreter.is_none() => {
                    let (offset, length) = (u64_at(entry, 8)?, u64_at(entry, 32)?);
                    if !(2..=LONGEST_INTERPRETER).contains(&length) {
                        return Err(Errno::ENOEXEC);
                    }
                    let end = offset.checked_add(length).ok_or(Errno::ENOEXEC)?;
                    program.interpreter = Some(offset..end);
                }
                GNU_STACK => program.executable_stack = u32_at(entry, 4)? & EXECUTED != 0,
                _ => {}
            }
        }
        if program.segments.is_empty() {
            program.broken = true;
        }
        Ok(program)
    }

    fn add_segment(&mut self, header: &Header, entry: &[u8]) -> Result<()> {
        let flags = u32_at(entry, 4)?;
        let offset = u64_at(entry, 8)?;
        let address = usize_at(entry, 16)?;
        let file_length = usize_at(entry, 32)?;
        let memory_length = usize_at(entry, 40)?;
        let alignment = usize_at(entry, 48)?;
        if memory_length == 0 && file_length == 0 {
            return Ok(());
        }
        let fits = address.checked_add(memory_length).is_some_and(|end| end <= USER_TOP);
        let aligned = offset % PAGE_SIZE as u64 == (address % PAGE_SIZE) as u64;
        let mapped = offset.checked_add((file_length as u64).saturating_add(PAGE_SIZE as u64));
        if !fits || !aligned || file_length > memory_length || mapped.is_none() {
            self.broken = true;
            return Ok(());
        }
        let mut protection = Protection::empty();
        for (bit, right) in [(4, Protection::READ), (2, Protection::WRITE), (1, Protection::EXECUTE)] {
            if flags & bit != 0 {
                protection |= right;
            }
        }
        if self.headers == 0 && (offset..offset.saturating_add(file_length as u64)).contains(&header.headers) {
            self.headers = address.saturating_add((header.headers - offset) as usize);
        }
        let alignment = if alignment.is_power_of_two() { alignment.max(PAGE_SIZE) } else { PAGE_SIZE };
        self.segments.try_push(Segment { address, memory_length, offset, file_length, protection, alignment })
    }

    /// The addresses it takes, from the first page to the end of the last segment.
    pub fn extent(&self) -> Range<usize> {
        let start = self.segments.iter().map(|segment| segment.address).min().unwrap_or(0);
        let end = self.segments.iter().map(Segment::end).max().unwrap_or(0);
        start & !(PAGE_SIZE - 1)..end
    }

    /// The alignment its place in memory needs.
    pub fn alignment(&self) -> usize {
        self.segments.iter().map(|segment| segment.alignment).max().unwrap_or(PAGE_SIZE)
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|slice| slice.try_into().ok()).ok_or(Errno::ENOEXEC)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Result<usize> {
    u64_at(bytes, at).map(|value| value as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest file that has everything: a header, one segment.
    fn tiny() -> Vec<u8> {
        let mut file = vec![0; 0x1000];
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        file[16..18].copy_from_slice(&EXECUTABLE.to_le_bytes());
        file[18..20].copy_from_slice(&ELF_MACHINE.to_le_bytes());
        file[24..32].copy_from_slice(&0x40_0078_u64.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        let header = &mut file[64..120];
        header[..4].copy_from_slice(&LOAD.to_le_bytes());
        header[4..8].copy_from_slice(&5_u32.to_le_bytes());
        header[16..24].copy_from_slice(&0x40_0000_u64.to_le_bytes());
        header[32..40].copy_from_slice(&0x100_u64.to_le_bytes());
        header[40..48].copy_from_slice(&0x2100_u64.to_le_bytes());
        header[48..56].copy_from_slice(&0x1000_u64.to_le_bytes());
        file
    }

    fn parse(file: &[u8]) -> Result<(Header, Program)> {
        let mut first = [0; HEADER];
        let length = file.len().min(HEADER);
        first[..length].copy_from_slice(&file[..length]);
        let header = Header::parse(&first)?;
        let start = usize::try_from(header.headers).map_err(|_| Errno::ENOEXEC)?;
        let end = start.checked_add(header.headers_length()).ok_or(Errno::ENOEXEC)?;
        let bytes = file.get(start..end).ok_or(Errno::ENOEXEC)?;
        Program::parse(&header, bytes).map(|program| (header, program))
    }

    #[test]
    fn a_tiny_file_is_understood() {
        let (header, program) = parse(&tiny()).unwrap();
        assert_eq!((header.entry, header.relocatable, header.count), (0x40_0078, false, 1));
        assert_eq!(program.extent(), 0x40_0000..0x40_2100);
        assert_eq!(program.headers, 0x40_0040);
        assert_eq!(program.segments[0].protection, Protection::READ | Protection::EXECUTE);
        assert!(!program.broken && program.interpreter.is_none());
    }

    #[test]
    fn what_is_no_x86_64_program_is_refused() {
        for (at, value) in [(0, 0), (4, 1), (16, 1), (18, 3), (54, 32), (56, 0)] {
            let mut file = tiny();
            file[at] = value;
            assert_eq!(parse(&file).unwrap_err(), Errno::ENOEXEC, "byte {at}");
        }
        assert_eq!(Header::parse(b"\x7fELF").unwrap_err(), Errno::ENOEXEC);
    }

    #[test]
    fn a_header_asks_for_an_executable_stack() {
        for (flags, expected) in [(6_u32, false), (7, true)] {
            let mut file = tiny();
            file[56..58].copy_from_slice(&2_u16.to_le_bytes());
            file[120..124].copy_from_slice(&GNU_STACK.to_le_bytes());
            file[124..128].copy_from_slice(&flags.to_le_bytes());
            assert_eq!(parse(&file).unwrap().1.executable_stack, expected);
        }
        assert!(!parse(&tiny()).unwrap().1.executable_stack, "without the header, none");
    }

    #[test]
    fn impossible_segments_are_found_out() {
        let put = |at: usize, value: u64| {
            let mut file = tiny();
            file[64 + at..72 + at].copy_from_slice(&value.to_le_bytes());
            parse(&file).unwrap().1.broken
        };
        assert!(put(16, u64::MAX - 0xfff), "beyond the end of memory");
        assert!(put(16, USER_TOP as u64), "beyond user space");
        assert!(put(40, 0x10), "shorter in memory than in the file");
        assert!(put(8, 0x10), "offset and address disagree");
        assert!(put(8, u64::MAX - 0xfff), "beyond the end of any file");
        assert!(!put(48, 3), "an odd alignment is ignored, as by Linux");
    }

    /// 500 damaged copies of each file: nothing may panic, and what is accepted keeps the promises later steps rely on.
    #[test]
    fn damaged_files_are_refused_or_make_sense() {
        let mut files = vec![tiny()];
        files.extend(["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok()));
        assert!(files.len() > 1, "busybox-static is needed for this test");
        let (mut accepted, mut refused) = (0, 0);
        for file in files {
            assert!(parse(&file).is_ok());
            let interesting = file.len().min(HEADER + 16 * PROGRAM_HEADER);
            for seed in 0..500_u64 {
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let mut next = || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random
                };
                let mut damaged = file[..file.len().min(65536)].to_vec();
                for _ in 0..=next() % 8 {
                    let at = 4 + next() as usize % (interesting - 4);
                    damaged[at] = if next() % 3 == 0 { 0xff } else { next() as u8 };
                }
                if next() % 10 == 0 {
                    damaged.truncate(next() as usize % interesting);
                }
                match parse(&damaged) {
                    Err(errno) => {
                        assert_eq!(errno, Errno::ENOEXEC);
                        refused += 1;
                    }
                    Ok((_, program)) => {
                        accepted += 1;
                        for segment in &program.segments {
                            assert!(segment.end() <= USER_TOP && segment.file_length <= segment.memory_length);
                            assert_eq!(segment.offset as usize % PAGE_SIZE, segment.address % PAGE_SIZE);
                            assert!(segment.alignment.is_power_of_two());
                        }
                        assert!(program.extent().end <= USER_TOP);
                        let interpreter = program.interpreter.unwrap_or(0..2);
                        assert!(interpreter.end - interpreter.start <= LONGEST_INTERPRETER);
                    }
                }
            }
        }
        assert!(accepted > 50 && refused > 50, "{accepted} accepted, {refused} refused: both sides are tested");
    }

    /// Changes eight bytes of the program header.
    fn with(changes: &[(usize, u64)]) -> Vec<u8> {
        let mut file = tiny();
        for &(at, value) in changes {
            file[64 + at..72 + at].copy_from_slice(&value.to_le_bytes());
        }
        file
    }

    #[test]
    fn the_limits_of_a_segment_are_exact() {
        let broken = |changes: &[(usize, u64)]| parse(&with(changes)).unwrap().1.broken;
        let top = USER_TOP as u64;
        assert!(!broken(&[(16, top - 0x3000), (40, 0x3000)]) && broken(&[(16, top - 0x3000), (40, 0x3001)]));
        assert!(!broken(&[(32, 0x2100)]) && broken(&[(32, 0x2101)]), "the file may fill it, no more");
        assert!(!broken(&[(8, 0x123), (16, 0x40_0123)]), "both a little beyond a page");
        assert!(broken(&[(8, 0x123), (16, 0x40_0122)]));
        let last = u64::MAX - 0xfff;
        assert!(!broken(&[(8, last - 0x1000), (32, 0xfff)]) && broken(&[(8, last - 0x1000), (32, 0x1000)]));
        let (_, empty) = parse(&with(&[(32, 0), (40, 0)])).unwrap();
        assert!(empty.segments.is_empty() && empty.broken);
        assert_eq!(parse(&with(&[(32, 0)])).unwrap().1.segments.len(), 1, "memory without a file");
    }

    #[test]
    fn rights_alignment_and_place_are_what_the_header_says() {
        for (flags, right) in [(4_u32, Protection::READ), (2, Protection::WRITE), (1, Protection::EXECUTE)] {
            let mut file = tiny();
            file[68..72].copy_from_slice(&flags.to_le_bytes());
            assert_eq!(parse(&file).unwrap().1.segments[0].protection, right);
        }
        for (alignment, expected) in [(0, 0x1000), (0x800, 0x1000), (0x20_0000, 0x20_0000), (0x3000, 0x1000)] {
            let program = parse(&with(&[(48, alignment)])).unwrap().1;
            assert_eq!((program.segments[0].alignment, program.alignment()), (expected, expected));
        }
        assert_eq!(Program::default().alignment(), PAGE_SIZE);
        let program = parse(&with(&[(16, 0x40_0000), (40, 0x2abc)])).unwrap().1;
        assert_eq!(program.extent(), 0x40_0000..0x40_2abc);
        // The headers' place in memory, if a segment has them.
        assert_eq!(parse(&with(&[(8, 0x1000)])).unwrap().1.headers, 0);
        assert_eq!(parse(&with(&[(32, 64)])).unwrap().1.headers, 0, "it ends before them");
        assert_eq!(parse(&with(&[(32, 65)])).unwrap().1.headers, 0x40_0040);
    }

    #[test]
    fn an_interpreter_has_a_name_that_fits() {
        let interpreter = |offset: u64, length: u64| {
            let mut file = with(&[(8, offset), (32, length)]);
            file[64..68].copy_from_slice(&INTERPRETER.to_le_bytes());
            parse(&file).map(|(_, program)| program.interpreter)
        };
        assert_eq!([interpreter(0x200, 1), interpreter(0x200, 4097)], [const { Err(Errno::ENOEXEC) }; 2]);
        assert_eq!(
            (interpreter(0x200, 2), interpreter(0x200, 4096)),
            (Ok(Some(0x200..0x202)), Ok(Some(0x200..0x1200)))
        );
        assert_eq!(interpreter(u64::MAX, 2), Err(Errno::ENOEXEC));
        // The first one counts.
        let mut file = with(&[(8, 0x200), (32, 9)]);
        file[56..58].copy_from_slice(&2_u16.to_le_bytes());
        file[64..68].copy_from_slice(&INTERPRETER.to_le_bytes());
        let second: Vec<u8> = file[64..120].to_vec();
        file[120..176].copy_from_slice(&second);
        file[128..136].copy_from_slice(&0x300_u64.to_le_bytes());
        assert_eq!(parse(&file).unwrap().1.interpreter, Some(0x200..0x209));
    }

    #[test]
    fn program_headers_are_counted() {
        let header = |count: u16| {
            let mut file = tiny();
            file[56..58].copy_from_slice(&count.to_le_bytes());
            Header::parse(&file[..HEADER]).map(|header| header.headers_length())
        };
        assert_eq!((header(1), header(1170), header(1171)), (Ok(56), Ok(65520), Err(Errno::ENOEXEC)));
        let mut file = tiny();
        file[16..18].copy_from_slice(&SHARED_OBJECT.to_le_bytes());
        assert!(parse(&file).unwrap().0.relocatable);
    }
}
