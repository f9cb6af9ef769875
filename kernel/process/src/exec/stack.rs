//! The stack a program starts with: strings, and below them what `_start` finds at the stack pointer.
//!
//! ```text
//!     top      8 zero bytes
//!              name of the executed file               AT_EXECFN
//!              environment strings
//!              argument strings                        <- Strings::bottom
//!              (random gap)
//!              "x86_64", 16 random bytes               AT_PLATFORM, AT_RANDOM
//!              auxiliary vector, 0 0
//!              pointers to the environment, 0
//!              pointers to the arguments, 0
//!     sp       number of arguments                     aligned to 16
//! ```
//!
//! Strings are written from the top downwards as they come in, so that a script's interpreter can put its own arguments
//! in front of those that are there already.

use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::memory::fallible;
use memory::AddressSpace;
use sync::Budget;
use zerocopy::IntoBytes;

use crate::limits::{Limits, Resource};

/// The longest argument or environment string, with its zero: `MAX_ARG_STRLEN`.
pub const LONGEST_STRING: usize = 32 * 4096;

/// All strings and pointers together may always take this much: `ARG_MAX`.
const ALWAYS_ALLOWED: u64 = 128 << 10;
/// And never more than this, whatever the stack's limit: three quarters of 8 MiB.
const NEVER_ALLOWED: u64 = 6 << 20;

/// Where strings come from.
#[derive(Clone, Copy)]
pub enum Strings<'a> {
    /// An array of pointers in the memory of the calling program, ended by a null pointer; 0 for none.
    Program(&'a AddressSpace, usize),
    /// The kernel's own.
    Kernel(&'a [Vec<u8>]),
}

impl Strings<'_> {
    /// How many there are. No more than `most`, or `E2BIG`.
    ///
    /// # Errors
    /// `E2BIG`, `EFAULT`.
    pub async fn count(&self, most: usize) -> Result<usize> {
        match *self {
            Strings::Kernel(strings) => Ok(strings.len()),
            Strings::Program(_, 0) => Ok(0),
            Strings::Program(space, array) => {
                let mut count = 0_usize;
                let mut budget = Budget::new();
                while pointer(space, array, count).await? != 0 {
                    count += 1;
                    if count > most {
                        return Err(Errno::E2BIG);
                    }
                    budget.pace(1).await;
                }
                Ok(count)
            }
        }
    }
}

async fn pointer(space: &AddressSpace, array: usize, index: usize) -> Result<usize> {
    let address = index.checked_mul(size_of::<usize>()).and_then(|offset| array.checked_add(offset));
    space.read_value(address.ok_or(Errno::EFAULT)?).await
}

/// The strings of a program to be, in its own new memory.
pub struct StackStrings<'a> {
    space: &'a AddressSpace,
    /// The lowest byte in use.
    bottom: usize,
    /// How far down strings may go.
    limit: usize,
    /// Bytes on their way from one program's memory to the other's.
    buffer: Vec<u8>,
}

impl<'a> StackStrings<'a> {
    /// Begins below `top`. Room for the pointers to so many strings is taken off the limit.
    ///
    /// # Errors
    /// `E2BIG`, `ENOMEM`.
    pub fn new(space: &'a AddressSpace, top: usize, limits: &Limits, strings: usize) -> Result<StackStrings<'a>> {
        let allowed = (limits.soft(Resource::Stack) / 4).clamp(ALWAYS_ALLOWED, NEVER_ALLOWED);
        let pointers = (strings as u64).saturating_mul(size_of::<usize>() as u64);
        let left = allowed.checked_sub(pointers).filter(|left| *left > 0).ok_or(Errno::E2BIG)?;
        let bottom = top - size_of::<usize>();
        let mut buffer = Vec::new();
        fallible(|| buffer.try_reserve_exact(4096)).map_err(|_| Errno::ENOMEM)?;
        Ok(StackStrings { space, bottom, limit: bottom.saturating_sub(left as usize), buffer })
    }

    /// The lowest byte in use: the string that was put there last.
    pub const fn bottom(&self) -> usize {
        self.bottom
    }

    /// Puts a string of the kernel's below the others.
    ///
    /// # Errors
    /// `E2BIG`, `ENOMEM`.
    pub async fn push(&mut self, string: &[u8]) -> Result<()> {
        self.make_room(string.len() + 1)?;
        self.space.copy_out(self.bottom, string).await?;
        self.space.copy_out(self.bottom + string.len(), &[0]).await
    }

    fn make_room(&mut self, length: usize) -> Result<()> {
        if length > LONGEST_STRING {
            return Err(Errno::E2BIG);
        }
        let bottom = self.bottom.checked_sub(length).filter(|bottom| *bottom >= self.limit).ok_or(Errno::E2BIG)?;
        self.bottom = bottom;
        Ok(())
    }

    /// Puts `count` strings below the others, the first lowest.
    ///
    /// # Errors
    /// `E2BIG`, `EFAULT`, `ENOMEM`.
    pub async fn push_all(&mut self, strings: Strings<'_>, count: usize) -> Result<()> {
        let mut budget = Budget::new();
        for index in (0..count).rev() {
            budget.pace(1).await;
            match strings {
                Strings::Kernel(strings) => self.push(strings.get(index).ok_or(Errno::EFAULT)?).await?,
                Strings::Program(space, array) => {
                    let address = pointer(space, array, index).await?;
                    self.push_from(space, address).await?;
                }
            }
        }
        Ok(())
    }

    /// Copies a string from one program's memory into the other's: its length first, so that it can be put in its place.
    #[expect(clippy::disallowed_methods, reason = "a page at most, or as many as there are kinds of entries")]
    async fn push_from(&mut self, from: &AddressSpace, address: usize) -> Result<()> {
        let length = string_length(from, address).await?;
        self.make_room(length + 1)?;
        let mut done = 0;
        while done <= length {
            let part = (length + 1 - done).min(self.buffer.capacity().max(1));
            self.buffer.resize(part, 0);
            from.copy_in(address + done, &mut self.buffer).await?;
            if done + part == length + 1
                && let Some(last) = self.buffer.last_mut()
            {
                // Another thread may have written there since the string was measured.
                *last = 0;
            }
            self.space.copy_out(self.bottom + done, &self.buffer).await?;
            done += part;
        }
        Ok(())
    }

    /// Forgets the lowest string, the first argument.
    ///
    /// # Errors
    /// `EFAULT`.
    pub async fn pop(&mut self) -> Result<()> {
        self.bottom += string_length(self.space, self.bottom).await? + 1;
        Ok(())
    }
}

/// How many bytes there are before the zero.
///
/// # Errors
/// `E2BIG` if there are too many, `EFAULT`.
async fn string_length(space: &AddressSpace, address: usize) -> Result<usize> {
    const PIECE: usize = 64;
    let mut length = 0;
    let mut budget = Budget::new();
    while length < LONGEST_STRING {
        budget.pace(1).await;
        let at = address.checked_add(length).ok_or(Errno::EFAULT)?;
        // Never beyond a piece that begins on its own multiple: the next page may not be there.
        let mut piece = [0; PIECE];
        let wanted = PIECE - at % PIECE;
        let piece = piece.get_mut(..wanted).unwrap_or_default();
        space.copy_in(at, piece).await?;
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            return Ok(length + end);
        }
        length += wanted;
    }
    Err(Errno::E2BIG)
}

/// What the kernel tells a program about itself and the machine: getauxval(3).
#[derive(Default)]
pub struct AuxiliaryVector(Vec<[usize; 2]>);

impl AuxiliaryVector {
    /// Adds an entry.
    #[expect(clippy::disallowed_methods, reason = "a page at most, or as many as there are kinds of entries")]
    pub fn push(&mut self, kind: u32, value: usize) {
        self.0.push([kind as usize, value]);
    }

    /// Its bytes, with the end.
    #[expect(clippy::disallowed_methods, reason = "a page at most, or as many as there are kinds of entries")]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.as_bytes().to_vec();
        bytes.resize(bytes.len() + 2 * size_of::<usize>(), 0);
        bytes
    }
}

/// Where the pieces of the finished stack are.
pub struct Finished {
    /// The stack pointer to start with.
    pub pointer: usize,
    /// Addresses of the argument strings.
    pub arguments: core::ops::Range<usize>,
    /// Addresses of the environment strings.
    pub environment: core::ops::Range<usize>,
}

/// Writes the number of arguments, the pointers and the auxiliary vector below `below`. The strings begin at `strings`.
///
/// # Errors
/// `EFAULT`, `ENOMEM`.
pub async fn finish(
    space: &AddressSpace,
    below: usize,
    strings: usize,
    counts: (usize, usize),
    auxiliary: &[u8],
) -> Result<Finished> {
    let (arguments, environment) = counts;
    let words = 1 + arguments + 1 + environment + 1;
    let length = words * size_of::<usize>() + auxiliary.len();
    let pointer = below.checked_sub(length).ok_or(Errno::ENOMEM)? & !15;
    let mut writer = Writer { space, at: pointer, buffer: Vec::new() };
    writer.word(arguments).await?;
    let mut string = strings;
    let mut budget = Budget::new();
    for _ in 0..arguments {
        budget.pace(1).await;
        writer.word(string).await?;
        string += string_length(space, string).await? + 1;
    }
    let between = string;
    writer.word(0).await?;
    for _ in 0..environment {
        budget.pace(1).await;
        writer.word(string).await?;
        string += string_length(space, string).await? + 1;
    }
    writer.word(0).await?;
    writer.flush().await?;
    space.copy_out(writer.at, auxiliary).await?;
    Ok(Finished { pointer, arguments: strings..between, environment: between..string })
}

/// Writes words upwards, many at once.
struct Writer<'a> {
    space: &'a AddressSpace,
    at: usize,
    buffer: Vec<usize>,
}

impl Writer<'_> {
    #[expect(clippy::disallowed_methods, reason = "a page at most, or as many as there are kinds of entries")]
    async fn word(&mut self, word: usize) -> Result<()> {
        self.buffer.push(word);
        if self.buffer.len() == 64 { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        self.space.copy_out(self.at, self.buffer.as_slice().as_bytes()).await?;
        self.at += self.buffer.len() * size_of::<usize>();
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_vector_ends_with_one_empty_entry() {
        let mut vector = AuxiliaryVector::default();
        vector.push(abi::raw::auxvec::AT_PAGESZ, 4096);
        vector.push(abi::raw::auxvec::AT_UID, 7);
        let words: Vec<u8> = [6_u64, 4096, 11, 7, 0, 0].into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(vector.bytes(), words);
    }
}
