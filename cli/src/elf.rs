//! Whether a file is a program that runs by itself: an ELF file for x86-64 that is whole and asks for no dynamic
//! linker.
//!
//! Only the program headers are looked at, as the kernel does. What is found wrong is told here because here the
//! file has a name the user knows; the guest's kernel would give an errno.

use std::fmt;

/// Why a file cannot be run by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no executable but an object file, a core dump or the like.
    NoExecutable,
    /// It is for another kind of processor: which one.
    OtherProcessor(&'static str),
    /// Its headers make no sense, or parts are missing: what.
    Damaged(&'static str),
    /// It wants this dynamic linker.
    Dynamic(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NoExecutable => f.write_str("is an ELF file, but no program: link it into an executable"),
            Unfit::OtherProcessor(name) => {
                write!(f, "is a program for {name}; Orrery runs 64-bit x86 programs: build it for x86_64")
            }
            Unfit::Damaged(what) => write!(f, "is a damaged program: {what}; build or copy it again"),
            Unfit::Dynamic(linker) => write!(
                f,
                "is linked dynamically: it needs {linker} and libraries, which are not there when it runs alone. Link \
                 it statically (cc -static, Rust's target x86_64-unknown-linux-musl, CGO_ENABLED=0), or give the folder \
                 that holds it and its libraries as the root: orrery run FOLDER -- COMMAND"
            ),
        }
    }
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;

/// Does the file begin as an ELF file does?
pub fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

/// Checks that an ELF file is a program that runs by itself.
pub fn check(file: &[u8]) -> Result<(), Unfit> {
    if file.len() < HEADER {
        return Err(Unfit::Damaged("it ends within its first header"));
    }
    if file.get(4..6) != Some(&[2, 1]) {
        return Err(Unfit::OtherProcessor("another width or byte order"));
    }
    match number(file, 18, 2) {
        Some(62) => {}
        Some(183) => return Err(Unfit::OtherProcessor("ARM (aarch64)")),
        Some(243) => return Err(Unfit::OtherProcessor("RISC-V")),
        _ => return Err(Unfit::OtherProcessor("another processor")),
    }
    if !matches!(number(file, 16, 2), Some(2 | 3)) {
        return Err(Unfit::NoExecutable);
    }
    let cut_off = Unfit::Damaged("it ends within its program headers");
    let (Some(table), Some(size), Some(count)) = (number(file, 32, 8), number(file, 54, 2), number(file, 56, 2)) else {
        return Err(cut_off);
    };
    if size != PROGRAM_HEADER || count == 0 {
        return Err(Unfit::Damaged("it has no program headers"));
    }
    let mut loads = false;
    for index in 0..count {
        let start = table.checked_add(index * PROGRAM_HEADER);
        let header = start.and_then(|start| file.get(start..start.checked_add(PROGRAM_HEADER)?));
        let header = header.ok_or_else(|| cut_off.clone())?;
        let kind = number(header, 0, 4).unwrap_or_default() as u32;
        if kind != LOAD && kind != INTERPRETER {
            continue;
        }
        let (offset, length) = (number(header, 8, 8).unwrap_or_default(), number(header, 32, 8).unwrap_or_default());
        let content = offset.checked_add(length).and_then(|end| file.get(offset..end));
        let content = content.ok_or(Unfit::Damaged("it ends within a segment"))?;
        if kind == INTERPRETER {
            return Err(Unfit::Dynamic(String::from_utf8_lossy(content).trim_end_matches('\0').into()));
        }
        loads = true;
    }
    if loads { Ok(()) } else { Err(Unfit::Damaged("it has nothing to load")) }
}

/// The little-endian number of `size` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, size: usize) -> Option<usize> {
    let bytes = bytes.get(offset..offset + size)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and one segment of this kind with this content.
    fn program(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(HEADER + PROGRAM_HEADER, 0);
        file[16..20].copy_from_slice(&[2, 0, 62, 0]);
        file[32] = HEADER as u8;
        file[54] = PROGRAM_HEADER as u8;
        file[56] = 1;
        file[HEADER..][..4].copy_from_slice(&kind.to_le_bytes());
        file[HEADER + 8] = (HEADER + PROGRAM_HEADER) as u8;
        file[HEADER + 32] = content.len() as u8;
        file.extend(content);
        file
    }

    #[test]
    fn a_static_program_is_fit() {
        assert_eq!(check(&program(LOAD, b"code")), Ok(()));
    }

    #[test]
    fn a_dynamic_program_names_its_linker() {
        let file = program(INTERPRETER, b"/lib64/ld-linux-x86-64.so.2\0");
        assert_eq!(check(&file), Err(Unfit::Dynamic("/lib64/ld-linux-x86-64.so.2".into())));
    }

    #[test]
    fn others_are_told_apart() {
        let mut file = program(LOAD, b"code");
        file[18] = 183;
        assert_eq!(check(&file), Err(Unfit::OtherProcessor("ARM (aarch64)")));
        let mut file = program(LOAD, b"code");
        file[16] = 1;
        assert_eq!(check(&file), Err(Unfit::NoExecutable));
        let mut file = program(LOAD, b"code");
        file[4] = 1;
        assert!(matches!(check(&file), Err(Unfit::OtherProcessor(_))));
        assert!(matches!(check(&program(7, b"")), Err(Unfit::Damaged(_))));
    }

    #[test]
    fn a_program_cut_off_anywhere_is_damaged() {
        let file = program(LOAD, b"code");
        for end in 4..file.len() {
            assert!(matches!(check(&file[..end]), Err(Unfit::Damaged(_))), "{end}");
        }
        let mut file = program(LOAD, b"code");
        file[HEADER + 8..][..8].fill(0xff);
        assert!(matches!(check(&file), Err(Unfit::Damaged(_))));
    }
}
