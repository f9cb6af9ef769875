//! Building the texts: bytes, since names of programs and files need not be UTF-8.

use alloc::vec::Vec;
use core::fmt;

use abi::fallible::TryVec;
use abi::{Errno, Result};

/// A text in the making; `write!` works on it. If memory runs out the rest is left out, and [`Text::finish`] says so.
#[derive(Default)]
pub(crate) struct Text {
    bytes: Vec<u8>,
    failed: bool,
}

impl Text {
    pub fn new() -> Text {
        Text::default()
    }

    /// Just these words.
    pub fn of(arguments: fmt::Arguments<'_>) -> Result<Vec<u8>> {
        let mut text = Text::new();
        text.put(arguments);
        text.finish()
    }

    /// What was put together.
    ///
    /// # Errors
    /// `ENOMEM` when it is not whole.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.failed { Err(Errno::ENOMEM) } else { Ok(self.bytes) }
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.failed |= self.bytes.try_extend_from_slice(bytes).is_err();
    }

    /// Appends formatted text.
    pub fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Whether it fails is noted.
        let _ = fmt::write(self, arguments);
    }

    /// Appends bytes, with those in `special` (and the backslash) as octal escapes, as Linux's seq_escape does.
    pub fn escaped(&mut self, bytes: &[u8], special: &[u8]) {
        for &byte in bytes {
            if byte == b'\\' || special.contains(&byte) {
                self.put(format_args!("\\{byte:03o}"));
            } else {
                self.bytes(&[byte]);
            }
        }
    }

    /// Appends spaces until the line that began at `start` is `width` long.
    pub fn pad(&mut self, start: usize, width: usize) {
        let end = start.saturating_add(width);
        if self.len() < end {
            self.failed |= self.bytes.try_resize(end, b' ').is_err();
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        if self.failed { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A number as the name of a directory's entry.
pub(crate) struct Digits {
    digits: [u8; 10],
    start: usize,
}

impl Digits {
    pub fn of(mut number: u32) -> Digits {
        let mut name = Digits { digits: [b'0'; 10], start: 10 };
        while name.start == 10 || number > 0 {
            name.start -= 1;
            if let Some(digit) = name.digits.get_mut(name.start) {
                *digit = b'0' + (number % 10) as u8;
            }
            number /= 10;
        }
        name
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

/// Nanoseconds in the ticks of 1/100 s that /proc counts in.
pub(crate) const fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / 10_000_000
}

/// Bytes in KiB.
pub(crate) const fn kib(bytes: u64) -> u64 {
    bytes / 1024
}

/// Bytes in pages.
pub(crate) const fn pages(bytes: u64) -> u64 {
    bytes / 4096
}
