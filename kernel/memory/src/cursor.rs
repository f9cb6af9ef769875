//! Where the bytes of a file operation come from or go to: user memory, an iovec list, or a slice of the kernel's.
//!
//! A cursor remembers how far it got. File operations never sleep, so a copy that meets a page fault stops: the cursor
//! stands exactly behind the last byte copied, the operation commits as much as that and reports the fault, and the
//! caller resolves it ([`Destination::fault_in`]) and calls the operation again with the same cursor.
//! [`Source::peek`] copies without moving, for operations that must not consume what they can't keep.

use abi::Errno;
use machine::memory::{Frame, PAGE_SIZE, Space, USER_TOP, UserFault};

use crate::address_space::AddressSpace;

/// A piece of user memory: an element of an iovec list, checked by no one yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSlice {
    /// Where it starts.
    pub address: usize,
    /// Its length in bytes.
    pub length: usize,
}

/// A place in user memory, moving through a list of slices.
#[derive(Clone, Copy)]
struct UserCursor<'a> {
    space: &'a AddressSpace,
    current: UserSlice,
    rest: &'a [UserSlice],
    remaining: usize,
}

impl<'a> UserCursor<'a> {
    fn new(space: &'a AddressSpace, slices: &'a [UserSlice]) -> UserCursor<'a> {
        let remaining = slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.length));
        UserCursor { space, current: UserSlice::default(), rest: slices, remaining }
    }

    /// Goes on by `length` bytes, at most to the end of the current slice.
    fn step(&mut self, length: usize) {
        self.current.address = self.current.address.wrapping_add(length);
        self.current.length = self.current.length.saturating_sub(length);
        self.remaining = self.remaining.saturating_sub(length);
    }

    /// Cuts it to `length` bytes, and returns how many that cost.
    fn hide(&mut self, length: usize) -> usize {
        let hidden = self.remaining.saturating_sub(length);
        self.remaining -= hidden;
        hidden
    }

    /// Goes on by `length` bytes, through as many slices as that takes.
    fn advance(&mut self, mut length: usize) {
        while length > 0 && self.enter_slice() {
            let part = length.min(self.current.length);
            self.step(part);
            length -= part;
        }
    }

    /// Makes the current slice one that isn't used up; false at the end.
    fn enter_slice(&mut self) -> bool {
        while self.current.length == 0 {
            let Some((next, rest)) = self.rest.split_first() else { return false };
            self.current = *next;
            self.rest = rest;
        }
        true
    }

    /// Runs `copy(space, address, done, length)` for each piece of the next `length` bytes.
    #[inline]
    fn each(
        &mut self,
        length: usize,
        write: bool,
        mut copy: impl FnMut(&Space, usize, usize, usize) -> Result<(), UserFault>,
    ) -> Result<usize, UserFault> {
        let length = length.min(self.remaining);
        let mut done = 0;
        while done < length && self.enter_slice() {
            let part = self.current.length.min(length - done);
            // What reaches beyond user space is copied up to there, and then faults for good.
            let inside = part.min(USER_TOP.saturating_sub(self.current.address));
            let copied = match inside {
                0 => Err(UserFault { copied: 0, address: self.current.address.max(USER_TOP).into(), write }),
                _ => copy(self.space.space(), self.current.address, done, inside),
            };
            match copied {
                Ok(()) => {
                    self.step(inside);
                    done += inside;
                }
                Err(fault) => {
                    let copied = fault.copied.min(inside);
                    self.step(copied);
                    return Err(UserFault { copied: done + copied, ..fault });
                }
            }
        }
        Ok(done)
    }
}

/// Where a read puts its bytes.
pub struct Destination<'a> {
    place: To<'a>,
    progress: usize,
}

enum To<'a> {
    User(UserCursor<'a>),
    Kernel(&'a mut [u8]),
}

impl<'a> Destination<'a> {
    /// `length` bytes of user memory at `address`.
    #[inline]
    pub fn user(space: &'a AddressSpace, address: usize, length: usize) -> Destination<'a> {
        let current = UserSlice { address, length };
        Destination { place: To::User(UserCursor { space, current, rest: &[], remaining: length }), progress: 0 }
    }

    /// User memory in pieces: readv(2).
    pub fn vector(space: &'a AddressSpace, slices: &'a [UserSlice]) -> Destination<'a> {
        Destination { place: To::User(UserCursor::new(space, slices)), progress: 0 }
    }

    /// Memory of the kernel's own.
    pub fn kernel(to: &'a mut [u8]) -> Destination<'a> {
        Destination { place: To::Kernel(to), progress: 0 }
    }

    /// Bytes that still fit.
    #[inline]
    pub fn remaining(&self) -> usize {
        match &self.place {
            To::User(cursor) => cursor.remaining,
            To::Kernel(slice) => slice.len() - self.progress,
        }
    }

    /// Bytes written since the cursor was made.
    #[inline]
    pub fn progress(&self) -> usize {
        self.progress
    }

    /// Hides all but the next `length` bytes, and returns how many it hid: for [`Destination::show`].
    pub fn hide(&mut self, length: usize) -> usize {
        let To::User(cursor) = &mut self.place else { return 0 };
        cursor.hide(length)
    }

    /// Shows what was hidden.
    pub fn show(&mut self, hidden: usize) {
        if let To::User(cursor) = &mut self.place {
            cursor.remaining += hidden;
        }
    }

    /// Writes as many bytes as fit and returns how many. On a fault `copied` bytes were written, and the cursor stands
    /// behind them.
    #[inline]
    pub fn write(&mut self, from: &[u8]) -> Result<usize, UserFault> {
        let part = |done: usize, length: usize| from.get(done..done + length).unwrap_or_default();
        self.copy(
            from.len(),
            |space, address, done, length| space.write(address, part(done, length)),
            |to| to.copy_from_slice(part(0, to.len())),
        )
    }

    /// Writes up to `length` bytes of a frame from `offset`. As [`Destination::write`].
    #[inline]
    pub fn write_frame(&mut self, frame: &Frame, offset: usize, length: usize) -> Result<usize, UserFault> {
        self.copy(
            length.min(PAGE_SIZE.saturating_sub(offset)),
            |space, address, done, length| space.write_from_frame(address, frame, offset + done, length),
            |to| {
                frame.read(offset, to);
            },
        )
    }

    /// Writes up to `length` zeros. As [`Destination::write`].
    pub fn zero(&mut self, length: usize) -> Result<usize, UserFault> {
        self.copy(length, |space, address, _, length| space.zero(address, length), |to| to.fill(0))
    }

    /// Resolves the fault a write stopped at. Then the operation is to be called again. `EFAULT`.
    pub async fn fault_in(&self, fault: UserFault) -> Result<(), Errno> {
        match &self.place {
            To::User(cursor) => cursor.space.fault_in(fault).await,
            To::Kernel(_) => Err(Errno::EFAULT),
        }
    }

    /// As [`settle`](Self::fault_in), but without waiting: false if the page has to be fetched first. `EFAULT`.
    pub fn fault_in_now(&self, fault: UserFault) -> Result<bool, Errno> {
        match &self.place {
            To::User(cursor) => cursor.space.fault_in_now(fault),
            To::Kernel(_) => Err(Errno::EFAULT),
        }
    }

    #[inline]
    fn copy(
        &mut self,
        length: usize,
        to_user: impl FnMut(&Space, usize, usize, usize) -> Result<(), UserFault>,
        to_kernel: impl FnOnce(&mut [u8]),
    ) -> Result<usize, UserFault> {
        let result = match &mut self.place {
            To::User(cursor) => cursor.each(length, true, to_user),
            To::Kernel(slice) => {
                let length = length.min(slice.len() - self.progress);
                to_kernel(slice.get_mut(self.progress..self.progress + length).unwrap_or_default());
                Ok(length)
            }
        };
        self.progress += match &result {
            Ok(copied) => *copied,
            Err(fault) => fault.copied,
        };
        result
    }
}

/// Where a write takes its bytes from.
pub struct Source<'a> {
    place: From<'a>,
    progress: usize,
}

enum From<'a> {
    User(UserCursor<'a>),
    Kernel(&'a [u8]),
}

impl<'a> Source<'a> {
    /// `length` bytes of user memory at `address`.
    #[inline]
    pub fn user(space: &'a AddressSpace, address: usize, length: usize) -> Source<'a> {
        let current = UserSlice { address, length };
        Source { place: From::User(UserCursor { space, current, rest: &[], remaining: length }), progress: 0 }
    }

    /// User memory in pieces: writev(2).
    pub fn vector(space: &'a AddressSpace, slices: &'a [UserSlice]) -> Source<'a> {
        Source { place: From::User(UserCursor::new(space, slices)), progress: 0 }
    }

    /// Memory of the kernel's own.
    pub fn kernel(from: &'a [u8]) -> Source<'a> {
        Source { place: From::Kernel(from), progress: 0 }
    }

    /// Bytes still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        match &self.place {
            From::User(cursor) => cursor.remaining,
            From::Kernel(slice) => slice.len() - self.progress,
        }
    }

    /// Bytes consumed since the cursor was made.
    #[inline]
    pub fn progress(&self) -> usize {
        self.progress
    }

    /// Fills `to` as far as there are bytes, and returns how many. On a fault `copied` bytes were read, and the cursor
    /// stands behind them.
    #[inline]
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, UserFault> {
        let result = self.peek(to);
        self.advance(match &result {
            Ok(copied) => *copied,
            Err(fault) => fault.copied,
        });
        result
    }

    /// As [`Source::read`], but the cursor doesn't move.
    pub fn peek(&self, to: &mut [u8]) -> Result<usize, UserFault> {
        match &self.place {
            From::User(cursor) => cursor.clone().each(to.len(), false, |space, address, done, length| {
                space.read(address, to.get_mut(done..done + length).unwrap_or_default())
            }),
            From::Kernel(slice) => {
                let rest = slice.get(self.progress..).unwrap_or_default();
                let length = to.len().min(rest.len());
                if let (Some(to), Some(rest)) = (to.get_mut(..length), rest.get(..length)) {
                    to.copy_from_slice(rest);
                }
                Ok(length)
            }
        }
    }

    /// Reads up to `length` bytes into a frame at `offset`. As [`Source::read`].
    #[inline]
    pub fn read_to_frame(&mut self, frame: &Frame, offset: usize, length: usize) -> Result<usize, UserFault> {
        let result = self.peek_to_frame(frame, offset, length);
        self.advance(match &result {
            Ok(copied) => *copied,
            Err(fault) => fault.copied,
        });
        result
    }

    /// As [`Source::read_to_frame`], but the cursor doesn't move.
    pub fn peek_to_frame(&self, frame: &Frame, offset: usize, length: usize) -> Result<usize, UserFault> {
        let length = length.min(PAGE_SIZE.saturating_sub(offset));
        match &self.place {
            From::User(cursor) => cursor.clone().each(length, false, |space, address, done, length| {
                space.read_to_frame(address, frame, offset + done, length)
            }),
            From::Kernel(slice) => {
                let rest = slice.get(self.progress..).unwrap_or_default();
                Ok(frame.write(offset, rest.get(..length).unwrap_or(rest)))
            }
        }
    }

    /// Hides all but the next `length` bytes, and returns how many it hid: for [`Source::show`].
    pub fn hide(&mut self, length: usize) -> usize {
        let From::User(cursor) = &mut self.place else { return 0 };
        cursor.hide(length)
    }

    /// Shows what was hidden.
    pub fn show(&mut self, hidden: usize) {
        if let From::User(cursor) = &mut self.place {
            cursor.remaining += hidden;
        }
    }

    /// Gives up all but the next `length` bytes.
    pub fn limit(&mut self, length: usize) {
        match &mut self.place {
            From::User(cursor) => cursor.remaining = cursor.remaining.min(length),
            From::Kernel(slice) => *slice = slice.get(..self.progress.saturating_add(length)).unwrap_or(slice),
        }
    }

    /// Consumes `length` bytes without looking at them.
    pub fn advance(&mut self, length: usize) {
        let length = length.min(self.remaining());
        if let From::User(cursor) = &mut self.place {
            cursor.advance(length);
        }
        self.progress += length;
    }

    /// Resolves the fault a read stopped at. Then the operation is to be called again. `EFAULT`.
    pub async fn fault_in(&self, fault: UserFault) -> Result<(), Errno> {
        match &self.place {
            From::User(cursor) => cursor.space.fault_in(fault).await,
            From::Kernel(_) => Err(Errno::EFAULT),
        }
    }

    /// As [`settle`](Self::fault_in), but without waiting: false if the page has to be fetched first. `EFAULT`.
    pub fn fault_in_now(&self, fault: UserFault) -> Result<bool, Errno> {
        match &self.place {
            From::User(cursor) => cursor.space.fault_in_now(fault),
            From::Kernel(_) => Err(Errno::EFAULT),
        }
    }
}
