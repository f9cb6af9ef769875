//! Bytes in sequence.

use alloc::vec;
use alloc::vec::Vec;

use super::{Reason, UnpackError};

/// How much of the input is looked at at a time.
const BUFFER: usize = 64 * 1024;

/// A sequence of bytes with a known position.
pub(super) trait Stream {
    /// What comes next, as much as is at hand; empty only at the end.
    fn ahead(&mut self) -> Result<&[u8], UnpackError>;

    /// Moves over bytes that were seen ahead.
    fn consume(&mut self, length: usize);

    /// How many bytes have been moved over.
    fn position(&self) -> u64;

    /// An error at the current position.
    fn error(&self, reason: Reason) -> UnpackError;

    /// The next byte.
    fn peek(&mut self) -> Result<Option<u8>, UnpackError> {
        Ok(self.ahead()?.first().copied())
    }

    /// Moves over zeros, to the next byte that is none.
    fn skip_zeros(&mut self) -> Result<(), UnpackError> {
        loop {
            let ahead = self.ahead()?;
            let zeros = ahead.iter().take_while(|&&byte| byte == 0).count();
            let all = zeros == ahead.len();
            self.consume(zeros);
            if !all || zeros == 0 {
                return Ok(());
            }
        }
    }

    /// Takes exactly as many bytes as `to` has.
    fn take(&mut self, mut to: &mut [u8]) -> Result<(), UnpackError> {
        while !to.is_empty() {
            let ahead = self.ahead()?;
            let length = ahead.len().min(to.len());
            if length == 0 {
                return Err(self.error(Reason::Truncated));
            }
            let (now, later) = to.split_at_mut(length);
            now.copy_from_slice(ahead.get(..length).unwrap_or_default());
            self.consume(length);
            to = later;
        }
        Ok(())
    }

    /// Hands the next `length` bytes to `body` in pieces, and moves over them.
    fn each(&mut self, mut length: u64, mut body: impl FnMut(&[u8]) -> Result<(), Reason>) -> Result<(), UnpackError> {
        while length > 0 {
            let ahead = self.ahead()?;
            let part = ahead.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            if part == 0 {
                return Err(self.error(Reason::Truncated));
            }
            let done = body(ahead.get(..part).unwrap_or_default());
            done.map_err(|reason| self.error(reason))?;
            self.consume(part);
            length -= part as u64;
        }
        Ok(())
    }

    /// Moves over bytes up to the next position that is a multiple of four from `base`. As Linux, it takes their end
    /// for the end of the archive's last entry.
    fn align(&mut self, base: u64) -> Result<(), UnpackError> {
        let padding = (self.position() - base).wrapping_neg() % 4;
        self.each(padding, |_| Ok(()))
    }
}

/// The input itself.
pub(super) struct Input<'a> {
    read: &'a mut dyn FnMut(u64, &mut [u8]) -> usize,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// The position of the buffer's first byte.
    base: u64,
}

impl<'a> Input<'a> {
    pub fn new(read: &'a mut dyn FnMut(u64, &mut [u8]) -> usize) -> Input<'a> {
        Input { read, buffer: vec![0; BUFFER], begin: 0, end: 0, base: 0 }
    }

    pub fn offset(&self) -> u64 {
        self.base + self.begin as u64
    }

    /// Copies what lies ahead without moving, and returns how much.
    pub fn copy_ahead(&mut self, to: &mut [u8]) -> Result<usize, UnpackError> {
        let ahead = self.ahead()?;
        let length = ahead.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..length), ahead.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    pub fn error_at(&self, offset: u64, reason: Reason) -> UnpackError {
        UnpackError { offset, unpacked_offset: None, reason }
    }
}

impl Stream for Input<'_> {
    fn ahead(&mut self) -> Result<&[u8], UnpackError> {
        if self.begin == self.end {
            self.base += self.end as u64;
            self.begin = 0;
            self.end = (self.read)(self.base, &mut self.buffer).min(self.buffer.len());
        }
        Ok(self.buffer.get(self.begin..self.end).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        self.begin = (self.begin + length).min(self.end);
    }

    fn position(&self) -> u64 {
        self.offset()
    }

    fn error(&self, reason: Reason) -> UnpackError {
        self.error_at(self.offset(), reason)
    }
}
