//! A shard of the process table: what has the numbers that are the same modulo the number of shards.
//!
//! Entries lie in pieces of 16, made when first needed and freed when nothing has their numbers: a number is found in two steps.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::memory::fallible;

use super::group::ProcessGroup;
use super::session::Session;
use crate::ucounts::CountedThread;
use crate::{Process, ThreadState};

/// Entries in a piece.
const PIECE: usize = 16;

/// Everything that can have a number.
#[derive(Default)]
pub(super) struct Entry {
    pub thread: Option<Arc<ThreadState>>,
    pub process: Option<Arc<Process>>,
    pub group: Option<Arc<ProcessGroup>>,
    pub session: Option<Arc<Session>>,
    /// The user the thread is counted for; a process's leader until the process is collected.
    pub counted: Option<CountedThread>,
    /// Promised to a thread that is being made.
    pub reserved: bool,
    /// Which of all that had the number has it: see [`super::Processes::life`].
    pub life: u64,
}

impl Entry {
    pub fn is_free(&self) -> bool {
        let named = self.group.is_some() || self.session.is_some();
        self.thread.is_none() && self.process.is_none() && !self.reserved && !named
    }
}

#[derive(Default)]
struct Piece {
    entries: [Entry; PIECE],
    /// How many of them are not free.
    taken: usize,
}

/// See the module's page. Numbers count from 0 here.
#[derive(Default)]
pub(super) struct Entries {
    pieces: Vec<Option<Box<Piece>>>,
    /// The piece in which a number was given last. It stays: most processes are short, and begin and end in it.
    last: usize,
    /// How many numbers were given here, ever.
    lives: u64,
}

impl Entries {
    /// The entry of a number that something has.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Entry> {
        self.pieces.get(index / PIECE)?.as_ref()?.entries.get(index % PIECE).filter(|entry| !entry.is_free())
    }

    /// Reserves a number that nothing has.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn reserve(&mut self, index: usize) -> Result<()> {
        let number = index / PIECE;
        if number >= self.pieces.len() {
            fallible(|| self.pieces.try_reserve(number + 1 - self.pieces.len())).map_err(|_| Errno::ENOMEM)?;
            self.pieces.resize_with(number + 1, || None);
        }
        if let Some(piece) = self.pieces.get_mut(number) {
            let piece = piece.get_or_insert_default();
            if let Some(entry) = piece.entries.get_mut(index % PIECE) {
                self.lives += 1;
                (entry.reserved, entry.life) = (true, self.lives);
                piece.taken += 1;
            }
        }
        let before = core::mem::replace(&mut self.last, number);
        self.free_piece(before);
        Ok(())
    }

    /// Changes an entry that is not free, and tells whether it is then.
    pub fn change<R>(&mut self, index: usize, change: impl FnOnce(&mut Entry) -> R) -> Option<(R, bool)> {
        let piece = self.pieces.get_mut(index / PIECE)?.as_mut()?;
        let entry = piece.entries.get_mut(index % PIECE).filter(|entry| !entry.is_free())?;
        let result = change(entry);
        let is_free = entry.is_free();
        if is_free {
            piece.taken -= 1;
            self.free_piece(index / PIECE);
        }
        Some((result, is_free))
    }

    fn free_piece(&mut self, number: usize) {
        if number != self.last
            && let Some(piece) = self.pieces.get_mut(number)
        {
            drop(piece.take_if(|piece| piece.taken == 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_whose_numbers_are_all_free_is_freed_but_for_the_one_in_use() {
        let mut entries = Entries::default();
        let pieces = |entries: &Entries| entries.pieces.iter().map(Option::is_some).collect::<Vec<_>>();
        let release = |entries: &mut Entries, index| entries.change(index, |entry| entry.reserved = false).unwrap().1;
        for index in 0..33 {
            entries.reserve(index).unwrap();
        }
        assert_eq!(pieces(&entries), [true, true, true]);
        assert!((17..32).all(|index| release(&mut entries, index)));
        assert_eq!(pieces(&entries), [true, true, true], "one is left in the second");
        assert!(release(&mut entries, 16) && entries.change(16, |_| ()).is_none());
        assert_eq!(pieces(&entries), [true, false, true]);
        assert!(release(&mut entries, 32));
        assert_eq!(pieces(&entries), [true, false, true], "the one that gives numbers stays");
        release(&mut entries, 1);
        entries.reserve(1).unwrap();
        assert_eq!(pieces(&entries), [true, false, false]);
        assert!(entries.get(0).is_some() && entries.get(32).is_none() && entries.get(1000).is_none());
    }
}
