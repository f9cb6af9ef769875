//! The three sets of select(2): which descriptors are asked about, and which have something.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use abi::Errno;
use abi::fallible::TryVec;
use machine::memory::fallible;
use smallvec::SmallVec;
use vfs::{NotReady, OpenFile, PollEvents};
use zerocopy::IntoBytes;

use crate::argument::Address;

/// A set of descriptors; `FD_SETSIZE` of them fit without the heap.
type Words = SmallVec<[u64; 16]>;

/// What makes a descriptor ready for reading, for writing, exceptionally.
const EVENTS: [PollEvents; 3] = [
    PollEvents::READABLE.union(PollEvents::READ_BAND).union(PollEvents::HANG_UP).union(PollEvents::ERROR),
    PollEvents::WRITABLE.union(PollEvents::WRITE_BAND).union(PollEvents::ERROR),
    PollEvents::PRIORITY,
];

/// One of the three sets.
struct Set {
    /// Where the program has it; null if it doesn't ask.
    address: usize,
    wanted: Words,
    found: Words,
}

impl Set {
    fn asks(&self, word: usize, bit: u64) -> bool {
        self.wanted.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// A descriptor, its file, and what is asked about it.
pub(crate) type Held = (i32, Arc<OpenFile>, PollEvents);

/// A call of select(2).
pub(crate) struct Selection {
    sets: [Set; 3],
    /// How many descriptors are looked at.
    count: usize,
}

impl Selection {
    /// Three sets of `count` descriptors, of which there can be no more than `capacity` open.
    ///
    /// # Errors
    /// `EINVAL` for a negative count, `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub(crate) fn new(count: i32, capacity: usize, addresses: [Address; 3]) -> Result<Selection, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(capacity);
        let words = count.div_ceil(u64::BITS as usize);
        let mut sets = addresses.map(|Address(address)| Set { address, wanted: Words::new(), found: Words::new() });
        for set in sets.iter_mut().filter(|set| set.address != 0) {
            for words_of in [&mut set.wanted, &mut set.found] {
                fallible(|| words_of.try_reserve_exact(words)).map_err(|_| Errno::ENOMEM)?;
                words_of.resize(words, 0);
            }
        }
        Ok(Selection { sets, count })
    }

    /// Fetches the sets from the program.
    pub(crate) fn read(
        &mut self,
        mut read: impl FnMut(usize, &mut [u8]) -> Result<(), NotReady>,
    ) -> Result<(), NotReady> {
        for set in &mut self.sets {
            read(set.address, set.wanted.as_mut_slice().as_mut_bytes())?;
        }
        Ok(())
    }

    /// Hands the sets of what was found to the program.
    pub(crate) fn write(&self, mut write: impl FnMut(usize, &[u8]) -> Result<(), NotReady>) -> Result<(), NotReady> {
        for set in &self.sets {
            write(set.address, set.found.as_slice().as_bytes())?;
        }
        Ok(())
    }

    /// Puts back what was asked, as far as answers were written over it.
    pub(crate) fn ask_again(&self, mut write: impl FnMut(usize, &[u8]) -> Result<(), NotReady>) {
        for set in &self.sets {
            if write(set.address, set.wanted.as_slice().as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Looks at the descriptors of one word of the sets, and returns how many answers are yes.
    ///
    /// # Errors
    /// `EBADF` if one is not open.
    pub(crate) fn look<F: Deref<Target = OpenFile>>(
        &mut self,
        word: usize,
        file_of: impl Fn(i32) -> Option<F>,
    ) -> Result<usize, Errno> {
        let mut answers = 0;
        let mut found = [0; 3];
        for (bit, descriptor) in self.descriptors(word) {
            let file = file_of(descriptor).ok_or(Errno::EBADF)?;
            let ready = file.usable()?.poll();
            for ((set, events), found) in self.sets.iter().zip(EVENTS).zip(&mut found) {
                if set.asks(word, bit) && ready.intersects(events) {
                    *found |= bit;
                    answers += 1;
                }
            }
        }
        for (set, found) in self.sets.iter_mut().zip(found) {
            if let Some(place) = set.found.get_mut(word) {
                *place = found;
            }
        }
        Ok(answers)
    }

    /// How many answers are yes.
    pub(crate) fn found(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.found).map(|word| word.count_ones() as usize).sum()
    }

    /// Adds the descriptors of one word of the sets in ascending order, with their files and what is asked about them.
    ///
    /// # Errors
    /// `EBADF` if one is not open, `ENOMEM`.
    pub(crate) fn hold(
        &self,
        word: usize,
        held: &mut Vec<Held>,
        file_of: impl Fn(i32) -> Option<Arc<OpenFile>>,
    ) -> Result<(), Errno> {
        for (bit, descriptor) in self.descriptors(word) {
            let events = self.sets.iter().zip(EVENTS).filter(|(set, _)| set.asks(word, bit));
            let events = events.fold(PollEvents::empty(), |all, (_, events)| all | events);
            held.try_push((descriptor, file_of(descriptor).ok_or(Errno::EBADF)?, events))?;
        }
        Ok(())
    }

    /// The descriptors of one word that any set asks about, each with its bit.
    fn descriptors(&self, word: usize) -> impl Iterator<Item = (u64, i32)> + use<> {
        let mut rest = self.anywhere(word);
        core::iter::from_fn(move || {
            let bit = rest & rest.wrapping_neg();
            rest ^= bit;
            (bit != 0).then(|| (bit, (word * 64 + bit.trailing_zeros() as usize) as i32))
        })
    }

    /// How many words the sets have.
    pub(crate) fn words(&self) -> usize {
        self.count.div_ceil(64)
    }

    /// The descriptors of one word that any set asks about; those at `count` and beyond don't count.
    fn anywhere(&self, index: usize) -> u64 {
        let all = self.sets.iter().fold(0, |all, set| all | set.wanted.get(index).copied().unwrap_or(0));
        match self.count - index * 64 {
            count @ 0..64 => all & ((1 << count) - 1),
            _ => all,
        }
    }
}
