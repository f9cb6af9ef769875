//! gzip (RFC 1952) as a stream, on miniz_oxide's inflate.

#![expect(clippy::disallowed_macros, reason = "at boot, before there are programs")]

use alloc::boxed::Box;
use alloc::vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::stream::{Input, Stream};
use super::{Reason, UnpackError};

/// What deflate can refer back to; the decompressor writes around in it.
const WINDOW: usize = 32 * 1024;

/// Flags of the header.
const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// One member of gzip, decompressed.
pub(super) struct Gzip<'i, 'r> {
    input: &'i mut Input<'r>,
    inflate: Box<DecompressorOxide>,
    window: Box<[u8]>,
    /// What was decompressed and not consumed yet: this part of the window.
    begin: usize,
    end: usize,
    /// The compressed data is at its end.
    done: bool,
    position: u64,
    produced: u64,
    checksum: Crc32,
}

impl<'i, 'r> Gzip<'i, 'r> {
    /// Reads the header.
    pub fn new(input: &'i mut Input<'r>) -> Result<Gzip<'i, 'r>, UnpackError> {
        let begin = input.offset();
        let mut header = [0; 10];
        input.take(&mut header)?;
        let [0x1f, 0x8b, 8, flags, ..] = header else { return Err(input.error_at(begin, Reason::BadGzipHeader)) };
        if flags & EXTRA != 0 {
            let mut length = [0; 2];
            input.take(&mut length)?;
            input.each(u64::from(u16::from_le_bytes(length)), |_| Ok(()))?;
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                let mut byte = [1];
                while byte != [0] {
                    input.take(&mut byte)?;
                }
            }
        }
        if flags & HEADER_CHECKSUM != 0 {
            input.each(2, |_| Ok(()))?;
        }
        Ok(Gzip {
            input,
            inflate: Box::default(),
            window: vec![0; WINDOW].into_boxed_slice(),
            begin: 0,
            end: 0,
            done: false,
            position: 0,
            produced: 0,
            checksum: Crc32::new(),
        })
    }

    /// Reads the trailer, when everything has been consumed.
    pub fn finish(self) -> Result<(), UnpackError> {
        let mut trailer = [0; 8];
        self.input.take(&mut trailer)?;
        let [a, b, c, d, e, f, g, h] = trailer;
        let (checksum, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if checksum != self.checksum.value() || length != self.produced as u32 {
            return Err(self.input.error(Reason::BadChecksum));
        }
        Ok(())
    }

    /// Decompresses more, up to the end of the window.
    fn refill(&mut self) -> Result<(), UnpackError> {
        if self.end == WINDOW {
            (self.begin, self.end) = (0, 0);
        }
        while self.begin == self.end && !self.done {
            let ahead = self.input.ahead()?;
            if ahead.is_empty() {
                return Err(self.input.error(Reason::Truncated));
            }
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) = decompress(&mut self.inflate, ahead, &mut self.window, self.end, flags);
            self.input.consume(read);
            match status {
                TINFLStatus::Done => self.done = true,
                TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput if read + written > 0 => {}
                _ => return Err(self.error(Reason::BadGzipData)),
            }
            let end = (self.end + written).min(WINDOW);
            self.checksum.add(self.window.get(self.end..end).unwrap_or_default());
            self.produced += written as u64;
            self.end = end;
        }
        Ok(())
    }
}

impl Stream for Gzip<'_, '_> {
    fn ahead(&mut self) -> Result<&[u8], UnpackError> {
        if self.begin == self.end {
            self.refill()?;
        }
        Ok(self.window.get(self.begin..self.end).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        let length = length.min(self.end - self.begin);
        self.begin += length;
        self.position += length as u64;
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn error(&self, reason: Reason) -> UnpackError {
        UnpackError { unpacked_offset: Some(self.position), ..self.input.error(reason) }
    }
}

/// The checksum of gzip, a byte a step.
struct Crc32 {
    state: u32,
    table: [u32; 256],
}

impl Crc32 {
    fn new() -> Crc32 {
        let entry =
            |index: usize| (0..8).fold(index as u32, |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()));
        Crc32 { state: u32::MAX, table: core::array::from_fn(entry) }
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let index = (self.state ^ u32::from(byte)) & 0xff;
            self.state = (self.state >> 8) ^ self.table.get(index as usize).copied().unwrap_or_default();
        }
    }

    fn value(&self) -> u32 {
        !self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        let mut crc = Crc32::new();
        crc.add(b"123456789");
        assert_eq!(crc.value(), 0xcbf4_3926);
    }
}
