//! Building the texts: bytes, since names of programs and files need not be UTF-8.

use alloc::vec::Vec;
use core::fmt;

/// A text in the making; `write!` works on it.
#[derive(Default)]
pub(super) struct Text(pub Vec<u8>);

impl Text {
    pub fn new() -> Text {
        Text::default()
    }

    /// Appends formatted text.
    pub fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing to a vector does not fail.
        let _ = fmt::write(self, arguments);
    }

    /// Appends bytes, with those in `special` (and the backslash) as octal escapes, as Linux's seq_escape does.
    pub fn escaped(&mut self, bytes: &[u8], special: &[u8]) {
        for &byte in bytes {
            if byte == b'\\' || special.contains(&byte) {
                self.put(format_args!("\\{byte:03o}"));
            } else {
                self.0.push(byte);
            }
        }
    }

    /// Appends spaces until the line that began at `start` is `width` long.
    pub fn pad(&mut self, start: usize, width: usize) {
        let end = start.saturating_add(width);
        if self.0.len() < end {
            self.0.resize(end, b' ');
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Nanoseconds in the ticks of 1/100 s that /proc counts in.
pub(super) const fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / 10_000_000
}

/// Bytes in KiB.
pub(super) const fn kib(bytes: u64) -> u64 {
    bytes / 1024
}

/// Bytes in pages.
pub(super) const fn pages(bytes: u64) -> u64 {
    bytes / 4096
}
