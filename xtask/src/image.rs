//! From the linker's output to the kernel image: the segments that are loaded, and a table of function names for the
//! kernel's own backtraces. Sections, symbols and line tables stay in the linker's output, for GDB.
//!
//! The format of the table is described in machine/src/bare/symbols.rs, which reads it.

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind, elf};

/// Where the kernel is linked (machine/src/arch/x86_64/layout.rs).
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
const MAGIC: &[u8; 8] = b"ORRERYSY";
const PAGE: usize = 4096;
/// Sizes of ELF64's header and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Makes the image from the ELF file `elf`: its segments, the last of which gets the symbols.
pub fn add_symbols(elf: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<object::Endianness>::parse(elf).context("the linked kernel is no ELF file")?;
    let endian = file.endian();
    let start = file.symbol_by_name("__symbols_start").context("the kernel has no place for symbols")?.address();
    let table = symbol_table(&file)?;

    let headers = file.elf_program_headers();
    let mut image = elf.get(..HEADER).context("short ELF file")?.to_vec();
    image[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes()); // program headers follow; no sections
    image[40..48].fill(0);
    image[58..64].fill(0);
    image.resize(HEADER + headers.len() * PROGRAM_HEADER, 0);
    let mut found = false;
    for (index, header) in headers.iter().enumerate() {
        let is_symbols = header.p_type(endian) == elf::PT_LOAD && header.p_vaddr(endian) == start;
        let data =
            if is_symbols { &table } else { header.data(endian, elf).ok().context("segment beyond the file")? };
        found |= is_symbols;
        let alignment = if header.p_type(endian) == elf::PT_LOAD { PAGE } else { 8 };
        image.resize(image.len().next_multiple_of(alignment), 0);
        let offset = image.len();
        image.extend_from_slice(data);
        let memory = if is_symbols { data.len() as u64 } else { header.p_memsz(endian) };
        let (kind, flags) = (header.p_type(endian), header.p_flags(endian));
        let mut bytes = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        let (virtual_address, physical) = (header.p_vaddr(endian), header.p_paddr(endian));
        let align = header.p_align(endian);
        for word in [offset as u64, virtual_address, physical, data.len() as u64, memory, align] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        image[HEADER + index * PROGRAM_HEADER..][..PROGRAM_HEADER].copy_from_slice(&bytes);
    }
    ensure!(found, "no segment begins at __symbols_start");
    Ok(image)
}

/// The table of the names of all functions.
fn symbol_table(file: &ElfFile64) -> Result<Vec<u8>> {
    let text = file.section_by_name(".text").context("the kernel has no text")?;
    let range = text.address()..text.address() + text.size();
    let is_code = |kind| matches!(kind, SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown);
    let mut functions: Vec<(u32, String)> = Vec::new();
    for symbol in file.symbols().filter(|symbol| range.contains(&symbol.address()) && is_code(symbol.kind())) {
        let name = symbol.name().unwrap_or_default();
        if !name.is_empty() && !name.starts_with(['.', '$']) {
            let address = u32::try_from(symbol.address() - IMAGE_BASE).context("the kernel is linked too high")?;
            functions.push((address, format!("{:#}", rustc_demangle::demangle(name))));
        }
    }
    if functions.is_empty() {
        bail!("the kernel has no symbols: was it stripped?");
    }
    functions.sort();
    functions.dedup_by_key(|(address, _)| *address);

    let mut entries = Vec::new();
    let mut names = Vec::new();
    let names_start = 16 + functions.len() * 8;
    for (address, name) in &functions {
        let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        entries.extend_from_slice(&address.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(names_start + names.len())?.to_le_bytes());
        names.extend_from_slice(&(name.len() as u16).to_le_bytes());
        names.extend_from_slice(name);
    }
    let length = u32::try_from(names_start + names.len())?;
    let count = functions.len() as u32;
    Ok([&MAGIC[..], &length.to_le_bytes(), &count.to_le_bytes(), &entries, &names].concat())
}
