//! Bytes in sequence.

use super::{Reason, UnpackError};

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
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, position: 0 }
    }

    pub fn offset(&self) -> u64 {
        self.position as u64
    }

    /// All that is to come.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    pub fn error_at(&self, offset: u64, reason: Reason) -> UnpackError {
        UnpackError { offset, unpacked_offset: None, reason }
    }
}

impl Stream for Input<'_> {
    fn ahead(&mut self) -> Result<&[u8], UnpackError> {
        Ok(self.rest())
    }

    fn consume(&mut self, length: usize) {
        self.position = self.position.saturating_add(length).min(self.bytes.len());
    }

    fn position(&self) -> u64 {
        self.offset()
    }

    fn error(&self, reason: Reason) -> UnpackError {
        self.error_at(self.offset(), reason)
    }
}
