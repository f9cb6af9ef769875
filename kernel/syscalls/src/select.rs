//! The three sets of select(2): which descriptors are asked about, and which have something.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use abi::Errno;
use smallvec::{SmallVec, smallvec};
use vfs::{OpenFile, PollEvents, Stop};
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
    /// `EINVAL` for a negative count.
    pub(crate) fn new(count: i32, capacity: usize, addresses: [Address; 3]) -> Result<Selection, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(capacity);
        let words = count.div_ceil(u64::BITS as usize);
        let sets = addresses.map(|Address(address)| {
            let length = if address == 0 { 0 } else { words };
            Set { address, wanted: smallvec![0; length], found: smallvec![0; length] }
        });
        Ok(Selection { sets, count })
    }

    /// Fetches the sets from the program.
    pub(crate) fn read(&mut self, mut read: impl FnMut(usize, &mut [u8]) -> Result<(), Stop>) -> Result<(), Stop> {
        for set in &mut self.sets {
            read(set.address, set.wanted.as_mut_slice().as_mut_bytes())?;
        }
        Ok(())
    }

    /// Hands the sets of what was found to the program.
    pub(crate) fn write(&self, mut write: impl FnMut(usize, &[u8]) -> Result<(), Stop>) -> Result<(), Stop> {
        for set in &self.sets {
            write(set.address, set.found.as_slice().as_bytes())?;
        }
        Ok(())
    }

    /// Looks at every descriptor of the sets, and returns how many answers are yes.
    ///
    /// # Errors
    /// `EBADF` if one is not open.
    pub(crate) fn look<F: Deref<Target = OpenFile>>(
        &mut self,
        file_of: impl Fn(i32) -> Option<F>,
    ) -> Result<usize, Errno> {
        let mut answers = 0;
        for index in 0..self.words() {
            let mut found = [0; 3];
            let mut rest = self.anywhere(index);
            while rest != 0 {
                let bit = rest & rest.wrapping_neg();
                rest ^= bit;
                let descriptor = index * 64 + bit.trailing_zeros() as usize;
                let file = file_of(descriptor as i32).ok_or(Errno::EBADF)?;
                let ready = file.usable()?.poll();
                for ((set, events), found) in self.sets.iter().zip(EVENTS).zip(&mut found) {
                    let asked = set.wanted.get(index).is_some_and(|word| word & bit != 0);
                    if asked && ready.intersects(events) {
                        *found |= bit;
                        answers += 1;
                    }
                }
            }
            for (set, found) in self.sets.iter_mut().zip(found) {
                if let Some(word) = set.found.get_mut(index) {
                    *word = found;
                }
            }
        }
        Ok(answers)
    }

    /// Every descriptor of the sets in ascending order, with its file and what is asked about it.
    ///
    /// # Errors
    /// `EBADF` if one is not open.
    pub(crate) fn hold(
        &self,
        file_of: impl Fn(i32) -> Option<Arc<OpenFile>>,
    ) -> Result<Vec<(i32, Arc<OpenFile>, PollEvents)>, Errno> {
        let mut held = Vec::new();
        for index in 0..self.words() {
            let mut rest = self.anywhere(index);
            while rest != 0 {
                let bit = rest & rest.wrapping_neg();
                rest ^= bit;
                let descriptor = (index * 64 + bit.trailing_zeros() as usize) as i32;
                let asked = |set: &Set| set.wanted.get(index).is_some_and(|word| word & bit != 0);
                let events = self.sets.iter().zip(EVENTS).filter(|(set, _)| asked(set));
                let events = events.fold(PollEvents::empty(), |all, (_, events)| all | events);
                held.push((descriptor, file_of(descriptor).ok_or(Errno::EBADF)?, events));
            }
        }
        Ok(held)
    }

    fn words(&self) -> usize {
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
