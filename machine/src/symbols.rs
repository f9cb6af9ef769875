//! The table of names of the kernel's functions, for backtraces, that `xtask/src/image.rs` adds to the image after linking.
//!
//! ```text
//! "ORRERYSY"  length of all: u32  count: u32
//! count times, by address:  address - IMAGE_BASE: u32  offset of the name in the table: u32
//! names:  length: u16  UTF-8
//! ```
//!
//! Without the table (or with a damaged one) backtraces show addresses only.

const MAGIC: &[u8; 8] = b"ORRERYSY";
/// Bytes of the header, which is in every image, if only as zeros.
pub const HEADER: usize = 16;
const ENTRY: usize = 8;
/// A longer table is damaged.
const LONGEST: usize = 16 << 20;

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Bytes of the whole table, by its header: just the header if there is no table.
pub fn length(header: &[u8]) -> usize {
    let length = word(header, 8).unwrap_or(0) as usize;
    if header.starts_with(MAGIC) && (HEADER..LONGEST).contains(&length) { length } else { HEADER }
}

/// The function that contains `address` (without IMAGE_BASE), and the distance from its start.
pub fn find(table: &[u8], address: u32) -> Option<(&str, usize)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        let mut table = [&MAGIC[..], &[0; 8]].concat();
        table[12] = 2;
        for (address, name) in [(0x1000_u32, 32_u32), (0x1100, 37)] {
            table.extend([address.to_le_bytes(), name.to_le_bytes()].concat());
        }
        table.extend(b"\x03\0one\x03\0two");
        let length = table.len() as u32;
        table[8..12].copy_from_slice(&length.to_le_bytes());
        table
    }

    #[test]
    fn functions_are_found_by_their_addresses() {
        let table = table();
        assert_eq!(length(&table), table.len());
        assert_eq!(find(&table, 0xfff), None);
        assert_eq!(find(&table, 0x1000), Some(("one", 0)));
        assert_eq!(find(&table, 0x10ff), Some(("one", 0xff)));
        assert_eq!(find(&table, 0x1234), Some(("two", 0x134)));
    }

    #[test]
    fn a_damaged_table_names_nothing() {
        assert_eq!(length(&[0; HEADER]), HEADER);
        assert_eq!(find(&[0; HEADER], 0x1000), None);
        let good = table();
        for end in 0..good.len() {
            assert_ne!(find(&good[..end], 0x1100), Some(("two", 0)));
        }
        let mut many = good.clone();
        many[12..16].fill(0xff);
        assert_eq!(find(&many, 0x1000), None);
        let mut far = good;
        far[28..32].fill(0xff);
        assert_eq!(find(&far, 0x1100), None);
    }
}
