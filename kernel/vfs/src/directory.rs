//! Reading directories: the sinks that entries are handed to, and getdents64(2).

use abi::Result;

use crate::inode::FileKind;

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its inode number.
    pub number: u64,
    /// Its kind, so that the reader need not stat it.
    pub kind: FileKind,
    /// The position behind this entry: reading goes on there.
    pub next: u64,
}

/// Takes entries while there is room.
pub trait DirectorySink {
    /// Takes one entry. `false`: there is no room, and the entry is to be offered again next time.
    fn entry(&mut self, entry: DirectoryEntry<'_>) -> bool;
}

impl<F: FnMut(DirectoryEntry<'_>) -> bool> DirectorySink for F {
    fn entry(&mut self, entry: DirectoryEntry<'_>) -> bool {
        self(entry)
    }
}

/// Lays entries out as `struct linux_dirent64` in a buffer of the kernel.
pub struct Dirent64Writer<'a> {
    buffer: &'a mut [u8],
    used: usize,
    refused: bool,
}

/// Bytes before the name in `struct linux_dirent64`.
const HEADER: usize = 19;

impl<'a> Dirent64Writer<'a> {
    /// Nothing written yet.
    pub fn new(buffer: &'a mut [u8]) -> Dirent64Writer<'a> {
        Dirent64Writer { buffer, used: 0, refused: false }
    }

    /// How many bytes are laid out.
    pub fn used(&self) -> usize {
        self.used
    }

    /// What getdents64(2) returns.
    ///
    /// # Errors
    /// `EINVAL` when not even the first entry fitted.
    pub fn finish(self) -> Result<usize> {
        if self.used == 0 && self.refused { Err(abi::Errno::EINVAL) } else { Ok(self.used) }
    }
}

impl DirectorySink for Dirent64Writer<'_> {
    fn entry(&mut self, entry: DirectoryEntry<'_>) -> bool {
        // Name, its final zero, and padding to eight bytes.
        let length = (HEADER + entry.name.len() + 1).next_multiple_of(8);
        let end = self.used.saturating_add(length);
        let Some(record) = self.buffer.get_mut(self.used..end) else {
            self.refused = true;
            return false;
        };
        lay_out(record, &entry);
        self.used = end;
        true
    }
}

/// Fills a record, which has room for the name and at least one byte more.
fn lay_out(record: &mut [u8], entry: &DirectoryEntry<'_>) {
    let length = record.len() as u16;
    // The last word holds the name's end and the padding.
    if let Some((_, padding)) = record.split_last_chunk_mut::<8>() {
        *padding = [0; 8];
    }
    let Some((header, rest)) = record.split_first_chunk_mut::<HEADER>() else { return };
    let [number @ .., _, _, _, _, _, _, _, _, _, _, _] = header;
    *number = entry.number.to_le_bytes();
    let [_, _, _, _, _, _, _, _, next @ .., _, _, _] = header;
    *next = entry.next.to_le_bytes();
    let [.., low, high, kind] = header;
    [*low, *high] = length.to_le_bytes();
    *kind = entry.kind.entry_type();
    if let Some(name) = rest.get_mut(..entry.name.len()) {
        name.copy_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_linux_does() {
        let mut buffer = [0xff; 64];
        let mut writer = Dirent64Writer::new(&mut buffer);
        assert!(writer.entry(DirectoryEntry { name: b"abcd", number: 7, kind: FileKind::Directory, next: 3 }));
        assert!(writer.entry(DirectoryEntry { name: b"abcde", number: 8, kind: FileKind::Regular, next: 4 }));
        assert!(!writer.entry(DirectoryEntry { name: b"x", number: 9, kind: FileKind::Regular, next: 5 }));
        assert_eq!(writer.finish(), Ok(24 + 32));
        assert_eq!(&buffer[..24], b"\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x18\0\x04abcd\0");
        assert_eq!(buffer[24 + 16], 32);
        assert_eq!(&buffer[24 + 18..24 + 25], b"\x08abcde\0");
    }

    #[test]
    fn a_buffer_too_small_for_one_entry_is_an_error() {
        let mut buffer = [0; 16];
        let mut writer = Dirent64Writer::new(&mut buffer);
        assert!(!writer.entry(DirectoryEntry { name: b"a", number: 1, kind: FileKind::Regular, next: 1 }));
        assert_eq!(writer.finish(), Err(abi::Errno::EINVAL));
    }
}
