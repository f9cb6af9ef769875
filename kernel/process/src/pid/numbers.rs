//! Which numbers are taken: a bitmap, as Linux had it for its pids, that is read and changed without a lock.
//!
//! A number is taken by setting its bit, which only one can do, and searched for from the one that was given last, so that
//! numbers are not reused soon. Bits come in pieces of 16,384, made when first needed.

use alloc::boxed::Box;

use sync::Once;

use super::{Errno, Result};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// After the highest number, numbers start here again: the low ones are the system's first processes'.
pub const FIRST_REUSED: u32 = 300;

/// Below this all numbers are, whatever /proc/sys/kernel/pid_max says: Linux's `PID_MAX_LIMIT`.
pub const HIGHEST_LIMIT: u32 = 1 << 22;

/// Bits in a word of the map, and words in a page of it: half a page of memory.
const WORD: u32 = 64;
const WORDS: usize = 256;
const PAGES: usize = (HIGHEST_LIMIT / WORD) as usize / WORDS;

type Page = Box<[AtomicU64; WORDS]>;

/// See the module's page.
pub struct Numbers {
    pages: [Once<Page>; PAGES],
    /// The number that was given last.
    last: AtomicU32,
    /// Numbers are below this: /proc/sys/kernel/pid_max.
    limit: AtomicU32,
}

impl Numbers {
    /// All are free.
    pub fn new(limit: u32) -> Numbers {
        Numbers { pages: [const { Once::new() }; PAGES], last: AtomicU32::new(0), limit: AtomicU32::new(limit) }
    }

    pub fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    /// Begins again behind this number.
    pub fn set_last(&self, pid: u32) {
        self.last.store(pid, Ordering::Relaxed);
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Numbers that are given from now on are below this.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a number nobody has, the next after the last one given.
    ///
    /// # Errors
    /// `EAGAIN`: all are taken. `ENOMEM`.
    pub fn take(&self) -> Result<u32> {
        let (last, limit) = (self.last(), self.limit());
        let next = if last + 1 < limit { last + 1 } else { FIRST_REUSED };
        let pid = match self.take_between(next, limit)? {
            Some(pid) => pid,
            None => self.take_between(FIRST_REUSED, limit.min(next))?.ok_or(Errno::EAGAIN)?,
        };
        self.note_last(last, pid);
        Ok(pid)
    }

    /// `pid` was found from `first` on. Who was faster may have found a later one.
    fn note_last(&self, first: u32, pid: u32) {
        let distance = |pid: u32| pid.wrapping_sub(first);
        let mut last = first;
        while let Err(other) = self.last.compare_exchange(last, pid, Ordering::Relaxed, Ordering::Relaxed) {
            if distance(other) >= distance(pid) {
                return;
            }
            last = other;
        }
    }

    fn take_between(&self, from: u32, to: u32) -> Result<Option<u32>> {
        let mut at = from;
        while at < to {
            let word = self.word(at)?;
            let free = !word.load(Ordering::Relaxed) & (u64::MAX << (at % WORD));
            if free == 0 {
                at = (at / WORD + 1) * WORD;
                continue;
            }
            at = at / WORD * WORD + free.trailing_zeros();
            let bit = 1 << (at % WORD);
            // Another may have been faster: then this looks on from here.
            if at < to && word.fetch_or(bit, Ordering::Acquire) & bit == 0 {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Frees a number.
    pub fn free(&self, pid: u32) {
        if let Some(word) = self.known_word(pid) {
            word.fetch_and(!(1 << (pid % WORD)), Ordering::Release);
        }
    }

    /// The first number from `from` on that is taken.
    pub fn next_taken(&self, from: u32) -> Option<u32> {
        let mut at = from;
        while at < HIGHEST_LIMIT {
            let Some(word) = self.known_word(at) else {
                at = (at / PAGE + 1) * PAGE;
                continue;
            };
            let taken = word.load(Ordering::Acquire) & (u64::MAX << (at % WORD));
            if taken != 0 {
                return Some(at / WORD * WORD + taken.trailing_zeros());
            }
            at = (at / WORD + 1) * WORD;
        }
        None
    }

    fn known_word(&self, pid: u32) -> Option<&AtomicU64> {
        self.pages.get((pid / PAGE) as usize)?.get()?.get((pid / WORD) as usize % WORDS)
    }

    fn word(&self, pid: u32) -> Result<&AtomicU64> {
        let page = self.pages.get((pid / PAGE) as usize).ok_or(Errno::EAGAIN)?;
        let page = page.get_or_try(make_page)?;
        page.get((pid / WORD) as usize % WORDS).ok_or(Errno::EAGAIN)
    }
}

/// Numbers in a page.
const PAGE: u32 = WORD * WORDS as u32;

/// A page of free numbers.
fn make_page() -> Result<Page> {
    Ok(Box::new([const { AtomicU64::new(0) }; WORDS]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 32768;

    #[test]
    fn numbers_go_up_to_the_limit_and_begin_again_behind_the_system_s() {
        let numbers = Numbers::new(LIMIT);
        assert_eq!([(); 3].map(|()| numbers.take().unwrap()), [1, 2, 3]);
        numbers.free(2);
        assert_eq!(numbers.take(), Ok(4), "not reused soon");
        numbers.set_last(LIMIT - 2);
        assert_eq!(numbers.take(), Ok(LIMIT - 1));
        assert_eq!([(); 2].map(|()| numbers.take().unwrap()), [FIRST_REUSED, FIRST_REUSED + 1]);
        numbers.set_last(LIMIT - 1);
        assert_eq!(numbers.take(), Ok(FIRST_REUSED + 2), "those are taken");
        numbers.set_last(0);
        assert_eq!(numbers.take(), Ok(2), "what was given back is free");
    }

    #[test]
    fn when_all_numbers_are_taken_there_is_none() {
        let numbers = Numbers::new(LIMIT);
        let mut count = 0;
        while numbers.take().is_ok() {
            count += 1;
        }
        assert_eq!((count, numbers.take()), (LIMIT - 1, Err(Errno::EAGAIN)));
        numbers.free(FIRST_REUSED + 7);
        assert_eq!((numbers.take(), numbers.take()), (Ok(FIRST_REUSED + 7), Err(Errno::EAGAIN)));
        // Low numbers are for the first round only.
        numbers.free(5);
        assert_eq!(numbers.take(), Err(Errno::EAGAIN));
        numbers.set_limit(HIGHEST_LIMIT);
        assert_eq!((numbers.take(), numbers.take()), (Ok(LIMIT), Ok(LIMIT + 1)));
    }

    #[test]
    fn those_that_are_taken_are_found_in_order() {
        let numbers = Numbers::new(HIGHEST_LIMIT);
        assert_eq!(numbers.next_taken(0), None);
        for last in [0, 62, 63, 40_000, HIGHEST_LIMIT - 2] {
            numbers.set_last(last);
            assert_eq!(numbers.take(), Ok(last + 1));
        }
        let mut found = [0; 5];
        let mut from = 0;
        for found in &mut found {
            *found = numbers.next_taken(from).unwrap();
            from = *found + 1;
        }
        assert_eq!((found, numbers.next_taken(from)), ([1, 63, 64, 40_001, HIGHEST_LIMIT - 1], None));
    }

    #[test]
    fn the_number_given_last_never_goes_back() {
        let numbers = Numbers::new(LIMIT);
        numbers.set_last(10);
        numbers.note_last(8, 9);
        assert_eq!(numbers.last(), 10, "who was faster took a later one");
        numbers.note_last(8, 11);
        assert_eq!(numbers.last(), 11);
        numbers.set_last(FIRST_REUSED);
        numbers.note_last(LIMIT - 3, LIMIT - 1);
        assert_eq!(numbers.last(), FIRST_REUSED, "that is behind the end");
    }
}
