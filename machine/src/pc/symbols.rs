//! The names of the kernel's functions, for backtraces: a table that `xtask/src/image.rs` adds to the image after linking.
//!
//! ```text
//! "ORRERYSY"  length of all: u32  count: u32
//! count times, by address:  address - IMAGE_BASE: u32  offset of the name in the table: u32
//! names:  length: u16  UTF-8
//! ```
//!
//! Without the table (or with a damaged one) backtraces show addresses only.

use super::layout::{IMAGE_BASE, symbols_start};

const MAGIC: &[u8; 8] = b"ORRERYSY";
const HEADER: usize = 16;
const ENTRY: usize = 8;
/// The image ends below 1 GiB; a longer table is damaged.
const LONGEST: usize = 16 << 20;

/// Bytes of the table; at least its header, which is in every image.
pub fn length() -> usize {
    // SAFETY: the linker script reserves the header there, in read-only memory that is mapped from the entry on.
    let header = unsafe { core::slice::from_raw_parts(symbols_start() as *const u8, HEADER) };
    let length = word(header, 8).unwrap_or(0) as usize;
    if header.starts_with(MAGIC) && (HEADER..LONGEST).contains(&length) { length } else { HEADER }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The function that contains `address`, and the distance from its start.
pub fn find(address: usize) -> Option<(&'static str, usize)> {
    // SAFETY: `length` bytes are part of the image: loaded, mapped read-only, never written.
    let table = unsafe { core::slice::from_raw_parts(symbols_start() as *const u8, length()) };
    find_in(table, u32::try_from(address.checked_sub(IMAGE_BASE)?).ok()?)
}

fn find_in(table: &[u8], address: u32) -> Option<(&str, usize)> {
    let count = word(table, 12)? as usize;
    let entries = table.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)?;
    let entry = |index: usize| Some((word(entries, index * ENTRY)?, word(entries, index * ENTRY + 4)? as usize));
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if entry(middle)?.0 <= address { low = middle + 1 } else { high = middle }
    }
    let (start, name) = entry(low.checked_sub(1)?)?;
    let length = usize::from(u16::from_le_bytes(*table.get(name..)?.first_chunk()?));
    let name = table.get(name + 2..)?.get(..length)?;
    Some((core::str::from_utf8(name).ok()?, (address - start) as usize))
}
