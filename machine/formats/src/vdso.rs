//! The vDSO's file: a little ELF shared object of one page, as the C libraries of Linux look for it.
//!
//! ```text
//!     0x000    ELF header, program headers: load, dynamic, unwinding
//!              hash tables, symbols, their names and versions, the dynamic section, unwinding tables
//!     CODE     the functions
//! ```
//!
//! Addresses are offsets into the page. Each function has its name with `__vdso_`, on x86-64 also without as a weak one, all of them with
//! the version that Linux gives them on the architecture. The hash tables have a single bucket: a list of eleven names is short.

use alloc::vec::Vec;
use core::ops::Range;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SYMBOL: usize = 24;
/// What comes before the tables: room for the most headers there are.
const HEADERS: usize = ELF_HEADER + 3 * PROGRAM_HEADER;

const LIBRARY: &str = "linux-vdso.so.1";
/// The version's number in this file; 1 is the file itself.
const VERSION_INDEX: u16 = 2;

/// What differs from one architecture to the other.
struct Architecture {
    /// `e_machine`
    machine: u16,
    /// The version of the names.
    version: &'static str,
    /// Functions, in the order of the code.
    functions: &'static [&'static str],
    /// What stands before a name, and what kind of symbol that is.
    prefixes: &'static [(&'static str, u8)],
    /// Whether there are tables that tell how to leave the functions.
    unwinding: bool,
}

const GLOBAL_FUNCTION: u8 = 1 << 4 | 2;
const WEAK_FUNCTION: u8 = 2 << 4 | 2;

/// With the functions in the order of code.s.
const X86_64: Architecture = Architecture {
    machine: 62,
    version: "LINUX_2.6",
    functions: &["clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"],
    prefixes: &[("__vdso_", GLOBAL_FUNCTION), ("", WEAK_FUNCTION)],
    unwinding: true,
};

/// With what a signal handler returns to, and nothing that reads a clock.
const RISCV64: Architecture = Architecture {
    machine: 243,
    version: "LINUX_4.15",
    functions: &["rt_sigreturn"],
    prefixes: &[("__vdso_", GLOBAL_FUNCTION)],
    unwinding: false,
};

/// The size of the file.
const PAGE: usize = 4096;

/// Where in its page the code begins; the tables of the shared object lie before.
pub const CODE: usize = 0x800;

/// Where each of the functions of x86-64 lies in the code: its first byte, and how many it has.
pub type Functions = [[u32; 2]; X86_64.functions.len()];

/// The bytes of a page under construction.
struct Image(Vec<u8>);

impl Image {
    /// Where the next byte goes, at a multiple of `alignment`.
    fn align(&mut self, alignment: usize) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self.0.len() as u64
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn halves(&mut self, values: &[u16]) {
        values.iter().for_each(|value| self.bytes(&value.to_le_bytes()));
    }

    fn words(&mut self, values: &[u32]) {
        values.iter().for_each(|value| self.bytes(&value.to_le_bytes()));
    }

    fn longs(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.bytes(&value.to_le_bytes()));
    }
}

/// The names of the file, one after the other, each ended by a zero; the first is empty.
struct Names(Vec<u8>);

impl Names {
    /// Adds a name, given in two parts, and returns where it is.
    fn add(&mut self, prefix: &str, name: &str) -> u32 {
        let at = self.0.len() as u32;
        for part in [prefix, name, "\0"] {
            self.0.extend_from_slice(part.as_bytes());
        }
        at
    }
}

/// The hash of the System V ABI, which versions have.
fn system_v_hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

/// The hash of `DT_GNU_HASH`.
fn gnu_hash(name: &str, hash: u32) -> u32 {
    name.bytes().fold(hash, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// What [`gnu_hash`] begins with.
const GNU_HASH_START: u32 = 5381;

/// The symbols, each with the hash of its name; the first, which stands for none, is not among them.
fn symbols(names: &mut Names, architecture: &Architecture, functions: &[[u32; 2]]) -> Vec<(Symbol, u32)> {
    const GLOBAL_OBJECT: u8 = 1 << 4 | 1;
    /// The code has no section of its own to name: any that is neither undefined nor special will do.
    const SECTION: u16 = 1;
    const ABSOLUTE: u16 = 0xfff1;
    let mut symbols = Vec::new();
    for (name, [start, length]) in architecture.functions.iter().zip(functions) {
        let (value, size) = (CODE as u64 + u64::from(*start), u64::from(*length));
        for &(prefix, kind) in architecture.prefixes {
            let symbol = Symbol { name: names.add(prefix, name), kind, section: SECTION, value, size };
            symbols.push((symbol, gnu_hash(name, gnu_hash(prefix, GNU_HASH_START))));
        }
    }
    let version =
        Symbol { name: names.add("", architecture.version), kind: GLOBAL_OBJECT, section: ABSOLUTE, value: 0, size: 0 };
    symbols.push((version, gnu_hash(architecture.version, GNU_HASH_START)));
    symbols
}

/// `Elf64_Sym`
struct Symbol {
    name: u32,
    kind: u8,
    section: u16,
    value: u64,
    size: u64,
}

/// The page for x86-64, of the code and where each function lies in it.
pub fn build(code: &[u8], functions: &Functions) -> Vec<u8> {
    build_for(&X86_64, code, functions)
}

/// The page for riscv64, whose code is what signal handlers return to.
pub fn build_for_riscv64(signal_return: &[u8]) -> Vec<u8> {
    build_for(&RISCV64, signal_return, &[[0, signal_return.len() as u32]])
}

fn build_for(architecture: &Architecture, code: &[u8], functions: &[[u32; 2]]) -> Vec<u8> {
    let mut image = Image(Vec::with_capacity(PAGE));
    image.0.resize(HEADERS, 0);
    let mut names = Names(alloc::vec![0]);
    let symbols = symbols(&mut names, architecture, functions);
    let library = names.add("", LIBRARY);
    let count = symbols.len() as u32;

    // One bucket with the first symbol; each leads to the next, the last to none.
    let hash = image.align(8);
    image.words(&[1, count + 1, 1, 0]);
    image.words(&(2..=count).chain([0]).collect::<Vec<u32>>());

    // One bucket here too, and a filter of one word. The hash of the last symbol of a bucket has its lowest bit set.
    let gnu_hash = image.align(8);
    const FILTER_SHIFT: u32 = 6;
    let filter =
        symbols.iter().fold(0, |filter, (_, hash)| filter | 1 << (hash % 64) | 1 << ((hash >> FILTER_SHIFT) % 64));
    image.words(&[1, 1, 1, FILTER_SHIFT]);
    image.longs(&[filter]);
    image.words(&[1]);
    for (index, (_, hash)) in (1..).zip(&symbols) {
        image.words(&[hash & !1 | u32::from(index == count)]);
    }

    let symbol_table = image.align(8);
    image.bytes(&[0; SYMBOL]);
    for (symbol, _) in &symbols {
        image.words(&[symbol.name]);
        image.bytes(&[symbol.kind, 0]);
        image.halves(&[symbol.section]);
        image.longs(&[symbol.value, symbol.size]);
    }
    let version_name = symbols.last().map_or(0, |(symbol, _)| symbol.name);

    let string_table = image.align(1);
    image.bytes(&names.0);

    let versions = image.align(2);
    image.halves(&[0]);
    symbols.iter().for_each(|_| image.halves(&[VERSION_INDEX]));

    // Two definitions, each 20 bytes and a name of 8: the file, then the version.
    let definitions = image.align(8);
    const IS_FILE: u16 = 1;
    image.halves(&[1, IS_FILE, 1, 1]);
    image.words(&[system_v_hash(LIBRARY), 20, 28, library, 0]);
    image.halves(&[1, 0, VERSION_INDEX, 1]);
    image.words(&[system_v_hash(architecture.version), 20, 0, version_name, 0]);

    let dynamic = image.align(8);
    for entry in [
        [14, library.into()],                // DT_SONAME
        [4, hash],                           // DT_HASH
        [0x6fff_fef5, gnu_hash],             // DT_GNU_HASH
        [5, string_table],                   // DT_STRTAB
        [10, names.0.len() as u64],          // DT_STRSZ
        [6, symbol_table],                   // DT_SYMTAB
        [11, SYMBOL as u64],                 // DT_SYMENT
        [0x6fff_fff0, versions],             // DT_VERSYM
        [0x6fff_fffc, definitions],          // DT_VERDEF
        [0x6fff_fffd, VERSION_INDEX.into()], // DT_VERDEFNUM
        [0, 0],
    ] {
        image.longs(&entry);
    }
    let dynamic = dynamic..image.align(8);
    let unwinding = architecture.unwinding.then(|| unwinding(&mut image, code.len()));

    image.0.resize(CODE, 0);
    image.bytes(code);
    image.0.resize(PAGE, 0);
    let body = image.0.split_off(HEADERS);
    image.0.clear();
    headers(&mut image, architecture.machine, dynamic, unwinding);
    image.0.resize(HEADERS, 0);
    image.bytes(&body);
    image.0
}

/// Tells debuggers and exception handlers how to leave the functions: all of them have nothing but their return address on the
/// stack. Returns where the header of these tables is.
fn unwinding(image: &mut Image, code: usize) -> Range<u64> {
    const RELATIVE: u8 = 0x1b; // 32 bits with sign, relative to where they stand
    const UNSIGNED: u8 = 0x03;
    const RELATIVE_TO_HEADER: u8 = 0x3b;
    const HEADER: u32 = 20;
    let header = image.align(4);
    let start = header as u32;
    let frames = start + HEADER;
    let description = frames + 24;
    let distance = |from: u32, to: u32| to.wrapping_sub(from);
    image.bytes(&[1, RELATIVE, UNSIGNED, RELATIVE_TO_HEADER]);
    image.words(&[distance(start + 4, frames), 1, distance(start, CODE as u32), distance(start, description)]);
    let end = image.align(4);
    // What is common: code in bytes, data in steps of -8, return address in column 16; the caller's frame is at rsp + 8, and
    // the return address just below it.
    image.words(&[20, 0]);
    image.bytes(b"\x01zR\0\x01\x78\x10\x01");
    image.bytes(&[RELATIVE, 0x0c, 7, 8, 0x90, 1, 0, 0]);
    // One description for all functions.
    image.words(&[20, distance(frames, description + 4)]);
    image.words(&[distance(description + 8, CODE as u32), code as u32, 0, 0]);
    image.words(&[0]);
    header..end
}

fn headers(image: &mut Image, machine: u16, dynamic: Range<u64>, unwinding: Option<Range<u64>>) {
    const SHARED_OBJECT: u16 = 3;
    const READ: u32 = 4;
    const EXECUTE: u32 = 1;
    image.bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.halves(&[SHARED_OBJECT, machine]);
    image.words(&[1]);
    image.longs(&[0, ELF_HEADER as u64, 0]);
    image.words(&[0]);
    image.halves(&[ELF_HEADER as u16, PROGRAM_HEADER as u16, 2 + u16::from(unwinding.is_some()), 0, 0, 0]);
    let page = PAGE as u64;
    let needed = [
        (1, READ | EXECUTE, 0..page, page), // PT_LOAD
        (2, READ, dynamic, 8),              // PT_DYNAMIC
    ];
    let unwinding = unwinding.map(|range| (0x6474_e550, READ, range, 4)); // PT_GNU_EH_FRAME
    for (kind, flags, range, alignment) in needed.into_iter().chain(unwinding) {
        let length = range.end - range.start;
        image.words(&[kind, flags]);
        image.longs(&[range.start, range.start, range.start, length, length, alignment]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number of so many bytes.
    fn number(image: &[u8], at: usize, bytes: usize) -> usize {
        image[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Where the dynamic section says a thing is.
    fn dynamic(image: &[u8], tag: usize) -> usize {
        // The second program header.
        let section = number(image, ELF_HEADER + PROGRAM_HEADER + 8, 8);
        let entry = (section..).step_by(16).find(|entry| number(image, *entry, 8) == tag).unwrap();
        number(image, entry + 8, 8)
    }

    /// The name at this place in the table of names.
    fn name(image: &[u8], at: usize) -> &str {
        let bytes = &image[dynamic(image, 5) + at..];
        core::str::from_utf8(&bytes[..bytes.iter().position(|byte| *byte == 0).unwrap()]).unwrap()
    }

    #[test]
    fn a_handler_of_riscv64_finds_what_it_returns_to() {
        let image = build_for_riscv64(b"codecode");
        assert_eq!((image.len(), &image[..6]), (PAGE, b"\x7fELF\x02\x01".as_slice()));
        // EM_RISCV; two program headers.
        assert_eq!((number(&image, 18, 2), number(&image, 56, 2)), (243, 2));
        let symbol = dynamic(&image, 6) + SYMBOL;
        assert_eq!(name(&image, number(&image, symbol, 4)), "__vdso_rt_sigreturn");
        assert_eq!((number(&image, symbol + 8, 8), number(&image, symbol + 16, 8)), (CODE, 8));
        assert_eq!(&image[CODE..CODE + 8], b"codecode");
        assert_eq!(name(&image, number(&image, symbol + SYMBOL, 4)), "LINUX_4.15");
    }
}
