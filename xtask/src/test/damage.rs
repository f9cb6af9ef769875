//! An initramfs with one thing wrong, and what must be said of it: what is wrong, and at which byte.

use anyhow::{Context, Result};

/// One way to damage an archive.
pub struct Damage {
    pub name: &'static str,
    /// Does it, and tells at which byte it must be seen.
    pub inflict: fn(&mut Vec<u8>) -> Result<usize>,
    /// What must be said to be wrong there; none if nobody can see it, and the machine starts.
    pub complaint: Option<&'static str>,
}

/// The length of an entry's header.
const HEADER: usize = 110;

/// Fields of a header, by their place in it: see cpio(5).
const MODE: usize = 1;
const SIZE: usize = 6;
const NAME_SIZE: usize = 11;

/// Entries every archive of ours has: a folder, a file, a link.
const FOLDER: &str = "etc";
const FILE: &str = "etc/passwd";
const LINK: &str = "bin/ls";

const BAD_NAME: Option<&str> = Some("the entry's name is empty, too long or not terminated");
const BAD_LINK: Option<&str> = Some("the symbolic link's target is empty or too long");
const CUT_OFF: Option<&str> = Some("the archive is cut off here");
const NO_ENTRY: Option<&str> = Some("no cpio entry begins here (070701 expected)");

pub const DAMAGES: &[Damage] = &[
    Damage { name: "an unknown format", inflict: |bytes| replace(bytes, FILE, 0, b"070703"), complaint: NO_ENTRY },
    Damage { name: "a bit of the magic number", inflict: |bytes| replace(bytes, LINK, 2, b"1"), complaint: NO_ENTRY },
    Damage {
        name: "a letter in the first field",
        inflict: |bytes| replace(bytes, FILE, 6, b"g"),
        complaint: Some("the field ino is no hexadecimal number"),
    },
    Damage {
        name: "a sign in the size",
        inflict: |bytes| set(bytes, FILE, SIZE, "+0000001"),
        complaint: Some("the field filesize is no hexadecimal number"),
    },
    Damage {
        name: "a zero byte in the last field",
        inflict: |bytes| replace(bytes, FOLDER, HEADER - 1, b"\0"),
        complaint: Some("the field check is no hexadecimal number"),
    },
    Damage { name: "no name", inflict: |bytes| set(bytes, FILE, NAME_SIZE, "00000000"), complaint: BAD_NAME },
    Damage { name: "an endless name", inflict: |bytes| set(bytes, FILE, NAME_SIZE, "ffffffff"), complaint: BAD_NAME },
    Damage {
        name: "a name without its end",
        inflict: |bytes| replace(bytes, FILE, HEADER + FILE.len(), b"x"),
        complaint: BAD_NAME,
    },
    Damage { name: "a name in two", inflict: |bytes| replace(bytes, FILE, HEADER + 3, b"\0"), complaint: BAD_NAME },
    Damage {
        name: "no kind of file",
        inflict: |bytes| set(bytes, FILE, MODE, "0000f1a4"),
        complaint: Some("the mode 170644 is of no kind of file"),
    },
    Damage {
        name: "a folder with contents",
        inflict: |bytes| set(bytes, FOLDER, SIZE, "00000004"),
        complaint: Some("an entry that can't have contents has some"),
    },
    Damage { name: "a link to nothing", inflict: |bytes| set(bytes, LINK, SIZE, "00000000"), complaint: BAD_LINK },
    Damage { name: "an endless link", inflict: |bytes| set(bytes, LINK, SIZE, "00001000"), complaint: BAD_LINK },
    Damage {
        name: "a file larger than all",
        inflict: |bytes| set(bytes, FILE, SIZE, "ffffffff").map(|_| bytes.len()),
        complaint: CUT_OFF,
    },
    Damage {
        name: "a size too large by four",
        inflict: |bytes| {
            let header = find(bytes, FILE)?;
            let size = field(bytes, header, SIZE)?;
            set(bytes, FILE, SIZE, &format!("{:08x}", size + 4))?;
            // The next entry is looked for within this one's successor.
            Ok((header + HEADER + FILE.len() + 1).next_multiple_of(4) + (size + 4).next_multiple_of(4))
        },
        complaint: NO_ENTRY,
    },
    Damage { name: "an end in a header", inflict: |bytes| cut(bytes, FILE, HEADER / 2), complaint: CUT_OFF },
    Damage { name: "an end in a name", inflict: |bytes| cut(bytes, FILE, HEADER + 2), complaint: CUT_OFF },
    Damage { name: "an end in contents", inflict: |bytes| cut(bytes, FILE, HEADER + 20), complaint: CUT_OFF },
    Damage { name: "no trailer", inflict: |bytes| cut(bytes, "TRAILER!!!", 0), complaint: CUT_OFF },
    Damage {
        name: "noise after the end",
        inflict: |bytes| {
            bytes.push(b'x');
            Ok(bytes.len() - 1)
        },
        complaint: Some("neither a cpio archive nor gzip data begins here"),
    },
    Damage { name: "another owner", inflict: |bytes| set(bytes, FILE, 2, "0000FFFE"), complaint: None },
    Damage { name: "other contents", inflict: |bytes| replace(bytes, FILE, HEADER + 20, b"R"), complaint: None },
    Damage { name: "a time in the far future", inflict: |bytes| set(bytes, FOLDER, 5, "ffffffff"), complaint: None },
];

/// Where the entry of this name begins.
fn find(bytes: &[u8], name: &str) -> Result<usize> {
    let named = |at: &usize| {
        bytes.get(at + HEADER..).is_some_and(|rest| rest.starts_with(name.as_bytes()))
            && bytes.get(at + HEADER + name.len()) == Some(&0)
    };
    let mut headers = bytes.windows(6).enumerate().filter(|(_, text)| text == b"070701").map(|(at, _)| at);
    headers.find(named).with_context(|| format!("the archive has no {name}"))
}

/// The number in a field.
fn field(bytes: &[u8], header: usize, field: usize) -> Result<usize> {
    let begin = header + 6 + 8 * field;
    let digits = bytes.get(begin..begin + 8).context("no such field")?;
    Ok(usize::from_str_radix(std::str::from_utf8(digits)?, 16)?)
}

/// Overwrites bytes so far from the entry's beginning, where it must be seen.
fn replace(bytes: &mut [u8], name: &str, distance: usize, with: &[u8]) -> Result<usize> {
    let header = find(bytes, name)?;
    let place = bytes.get_mut(header + distance..).and_then(|rest| rest.get_mut(..with.len()));
    place.context("beyond the end")?.copy_from_slice(with);
    Ok(header)
}

/// Overwrites a field of a header.
fn set(bytes: &mut [u8], name: &str, field: usize, digits: &str) -> Result<usize> {
    replace(bytes, name, 6 + 8 * field, digits.as_bytes())
}

/// Ends the archive so far behind an entry's beginning. It must be seen at the end.
fn cut(bytes: &mut Vec<u8>, name: &str, distance: usize) -> Result<usize> {
    let end = find(bytes, name)? + distance;
    bytes.truncate(end);
    Ok(end)
}
