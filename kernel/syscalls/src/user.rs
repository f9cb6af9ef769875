//! Structures, strings and paths in the memory of the calling program.
//!
//! Plain functions of calls use `read`, `write` and [`CString::path`]: they make missing pages present on the spot where
//! that needs no waiting (a fresh stack page, a copy after fork), and otherwise say [`NotReady::Fault`], upon which the dispatch
//! waits and runs the call again. Functions that may wait use `fetch` and `store`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use abi::fallible::TryVec;
use abi::raw::general::PATH_MAX;
use abi::{Errno, Result};
use machine::memory::fallible;
use memory::{PAGE_SIZE, Space, UserFault};
use process::Thread;
use vfs::NotReady;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::argument::{CString, In, InOut, Out};

/// A path or name; short ones need no heap.
pub(crate) struct PathBuffer {
    short: [u8; 2 * PIECE],
    length: usize,
    /// All of it, if it is longer.
    long: Vec<u8>,
}

impl PathBuffer {
    /// An empty one.
    #[inline]
    pub(crate) const fn new() -> PathBuffer {
        PathBuffer { short: [0; 2 * PIECE], length: 0, long: Vec::new() }
    }
}

impl Deref for PathBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if self.long.is_empty() { self.short.get(..self.length).unwrap_or_default() } else { &self.long }
    }
}

/// How many bytes of a string are read at once. A string may end just before a page the program doesn't have, so a
/// piece never crosses the border of a page: it starts on a multiple of its length.
const PIECE: usize = 64;

impl<T: FromBytes + IntoBytes> In<T> {
    /// Whether it is the null pointer.
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The structure.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) fn read(self, thread: &Arc<Thread>) -> Result<T, NotReady> {
        read(thread, self.0)
    }

    /// The structure, or `None` for a null pointer.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) fn read_optional(self, thread: &Arc<Thread>) -> Result<Option<T>, NotReady> {
        if self.is_null() { Ok(None) } else { self.read(thread).map(Some) }
    }

    /// The structure; may wait for its page.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) async fn fetch(self, thread: &Arc<Thread>) -> Result<T> {
        thread.space().read_value(self.0).await
    }

    /// The structure, or `None` for a null pointer; may wait for its page.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) async fn fetch_optional(self, thread: &Arc<Thread>) -> Result<Option<T>> {
        if self.is_null() { Ok(None) } else { self.fetch(thread).await.map(Some) }
    }
}

impl<T: IntoBytes + Immutable> Out<T> {
    /// Whether it is the null pointer.
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Fills the structure.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) fn write(self, thread: &Arc<Thread>, value: &T) -> Result<(), NotReady> {
        write(thread, self.0, value.as_bytes())
    }

    /// Fills the structure if the program gave one.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) fn write_optional(self, thread: &Arc<Thread>, value: &T) -> Result<(), NotReady> {
        if self.is_null() { Ok(()) } else { self.write(thread, value) }
    }

    /// Fills the structure, if the program gave one, with what was before `change` is made; then makes it. The other way round a call that
    /// has to wait for the structure's page, and is run again, would tell what it has changed itself. For what nobody else
    /// changes meanwhile.
    ///
    /// # Errors
    /// `EFAULT`. As on Linux, the change is made all the same.
    pub(crate) fn tell_and(self, thread: &Arc<Thread>, before: &T, change: impl FnOnce()) -> Result<(), NotReady> {
        let told = self.write_optional(thread, before);
        if !matches!(told, Err(NotReady::Fault(_))) {
            change();
        }
        told
    }

    /// Makes the pages of the structure present, for calls that fill it when they have changed something: they must not have to
    /// wait then, and be run again.
    ///
    /// # Errors
    /// [`NotReady::Fault`] only. A bad address is found when the structure is filled.
    pub(crate) fn make_present(self, thread: &Arc<Thread>) -> Result<(), NotReady> {
        if self.is_null() { Ok(()) } else { make_present(thread, self.0, size_of::<T>()) }
    }

    /// Fills the structure; may wait for its page.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) async fn store(self, thread: &Arc<Thread>, value: &T) -> Result<()> {
        thread.space().write_value(self.0, value).await
    }

    /// Fills the structure if the program gave one; may wait for its page.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) async fn store_optional(self, thread: &Arc<Thread>, value: &T) -> Result<()> {
        if self.is_null() { Ok(()) } else { self.store(thread, value).await }
    }
}

impl<T> InOut<T> {
    /// The same place, to read from.
    pub(crate) fn input(self) -> In<T> {
        In::at(self.0)
    }

    /// The same place, to write to.
    pub(crate) fn output(self) -> Out<T> {
        Out::at(self.0)
    }
}

impl CString {
    /// The string as a path, in `room`: 1 to `PATH_MAX - 1` bytes and a zero. Empty paths are left to the walk, which gives `ENOENT`.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub(crate) fn path<'a>(self, thread: &Arc<Thread>, room: &'a mut PathBuffer) -> Result<&'a [u8], NotReady> {
        self.read(thread, room, PATH_MAX as usize, Errno::ENAMETOOLONG)?;
        Ok(room)
    }

    /// The string as a path; may wait for its page.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub(crate) async fn fetch_path(self, thread: &Arc<Thread>) -> Result<PathBuffer> {
        fetching(thread, || self.string(thread, PATH_MAX as usize, Errno::ENAMETOOLONG)).await
    }

    /// The string, which with its zero must fit in `most` bytes.
    ///
    /// # Errors
    /// `EFAULT`; `too_long`.
    pub(crate) fn string(self, thread: &Arc<Thread>, most: usize, too_long: Errno) -> Result<PathBuffer, NotReady> {
        let mut string = PathBuffer::new();
        self.read(thread, &mut string, most, too_long)?;
        Ok(string)
    }

    /// Reads the string into `string`, which is new. Paths are read so: a buffer that is returned is copied at each return.
    fn read(self, thread: &Arc<Thread>, string: &mut PathBuffer, most: usize, too_long: Errno) -> Result<(), NotReady> {
        let mut length = 0;
        let mut address = self.0;
        while let Some(piece) = string.short.get_mut(length..length + piece_at(address)) {
            read_bytes(thread, address, piece)?;
            if let Some(end) = position_of_zero(piece) {
                string.length = length + end;
                return if string.length < most { Ok(()) } else { Err(too_long.into()) };
            }
            length += piece.len();
            address = self.0.checked_add(length).ok_or(Errno::EFAULT)?;
        }
        string.long.try_extend_from_slice(string.short.get(..length).unwrap_or_default())?;
        self.read_on(thread, &mut string.long, most, too_long)
    }

    /// The rest of a string that is not short.
    #[cold]
    fn read_on(self, thread: &Arc<Thread>, string: &mut Vec<u8>, most: usize, too_long: Errno) -> Result<(), NotReady> {
        while string.len() < most {
            let mut piece = [0; PIECE];
            let address = self.0.checked_add(string.len()).ok_or(Errno::EFAULT)?;
            let wanted = piece_at(address).min(most - string.len());
            let piece = piece.get_mut(..wanted).unwrap_or_default();
            read_bytes(thread, address, piece)?;
            let end = position_of_zero(piece);
            string.try_extend_from_slice(piece.get(..end.unwrap_or(wanted)).unwrap_or_default())?;
            if end.is_some() {
                return Ok(());
            }
        }
        Err(too_long.into())
    }
}

/// How many bytes from `address` on are one piece.
const fn piece_at(address: usize) -> usize {
    PIECE - address % PIECE
}

/// Where the first zero is, eight bytes at a time.
#[inline]
fn position_of_zero(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, tail) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set belongs to the first zero; those above it may be wrong.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let last = tail.iter().position(|&byte| byte == 0)?;
    Some(words.len() * 8 + last)
}

/// Reads the structure at `address`.
pub(crate) fn read<T: FromBytes + IntoBytes>(thread: &Arc<Thread>, address: usize) -> Result<T, NotReady> {
    let mut value = T::new_zeroed();
    read_bytes(thread, address, value.as_mut_bytes())?;
    Ok(value)
}

/// Reads `count` structures that lie behind one another. The caller has bounded `count`.
#[expect(clippy::disallowed_methods, reason = "room was made before")]
pub(crate) fn read_array<T>(thread: &Arc<Thread>, address: usize, count: usize) -> Result<Vec<T>, NotReady>
where
    T: FromBytes + IntoBytes,
{
    let mut values = Vec::new();
    fallible(|| values.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
    values.resize_with(count, T::new_zeroed);
    read_bytes(thread, address, values.as_mut_slice().as_mut_bytes())?;
    Ok(values)
}

/// Fills `to` from `address`.
pub(crate) fn read_bytes(thread: &Arc<Thread>, address: usize, to: &mut [u8]) -> Result<(), NotReady> {
    access(thread, |space| space.read(address, to))
}

/// Writes `from` to `address`.
pub(crate) fn write(thread: &Arc<Thread>, address: usize, from: &[u8]) -> Result<(), NotReady> {
    access(thread, |space| space.write(address, from))
}

/// Makes the pages of `length` bytes at `address` present, to be written. A bad address is no error here.
pub(crate) fn make_present(thread: &Arc<Thread>, address: usize, length: usize) -> Result<(), NotReady> {
    let end = address.saturating_add(length);
    let mut next = address;
    while next < end {
        let fault = UserFault { copied: 0, address: next.into(), write: true };
        if thread.space().fault_in_now(fault) == Ok(false) {
            return Err(NotReady::Fault(fault));
        }
        next = (next | (PAGE_SIZE - 1)).saturating_add(1);
    }
    Ok(())
}

/// Copies what is present of the bytes at `address`, and nothing more: for tracing.
pub(crate) fn peek(thread: &Arc<Thread>, address: usize, to: &mut [u8]) -> usize {
    match thread.space().space().read(address, to) {
        Ok(()) => to.len(),
        Err(fault) => fault.copied,
    }
}

/// Makes the page of a fault present, waiting for it if need be.
///
/// # Errors
/// `EFAULT`.
pub(crate) async fn fetch(thread: &Arc<Thread>, fault: UserFault) -> Result<()> {
    thread.space().fault_in(fault).await
}

/// Repeats what a call does at first until every page it needs is present, waiting for them, and its paths are resolved.
///
/// # Errors
/// Those of `attempt`, `EFAULT`.
pub(crate) async fn fetching<T>(thread: &Arc<Thread>, attempt: impl Fn() -> Result<T, NotReady>) -> Result<T> {
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(NotReady::Fault(fault)) => fetch(thread, fault).await?,
            Err(NotReady::Yield) => thread.resume_walks().await.map_err(|_| Errno::EINTR)?,
            Err(NotReady::Error(errno)) => return Err(errno),
            Err(NotReady::WouldBlock | NotReady::Page(_) | NotReady::Elsewhere | NotReady::Signalled) => {
                return Err(Errno::EAGAIN);
            }
        }
    }
}

/// Repeats an access until every page it needs is present.
#[inline]
fn access(thread: &Arc<Thread>, mut attempt: impl FnMut(&Space) -> Result<(), UserFault>) -> Result<(), NotReady> {
    let space = thread.space();
    while let Err(fault) = attempt(space.space()) {
        if !space.fault_in_now(fault)? {
            return Err(NotReady::Fault(fault));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_zero_is_found_wherever_it_is() {
        for length in 0..40 {
            for zero in 0..=length {
                for other in [1, 0x80, 0xff] {
                    let mut bytes = vec![other; length];
                    bytes.iter_mut().skip(zero).step_by(3).for_each(|byte| *byte = 0);
                    assert_eq!(position_of_zero(&bytes), (zero < length).then_some(zero));
                }
            }
        }
    }
}
