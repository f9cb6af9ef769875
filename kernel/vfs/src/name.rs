//! Names of directory entries, their hashes, and the table a directory's cached entries lie in.
//!
//! All of this is on the path walk's hot path: a component's end and its hash are found in one pass, eight bytes at a
//! time, and a look into the table of a directory usually touches one slot.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smallvec::SmallVec;

/// The longest name of an entry: `NAME_MAX`.
pub const NAME_MAX: usize = 255;

/// A name; short ones lie in place.
pub type Name = SmallVec<[u8; 24]>;

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// The hash of a name. `seed` is drawn at random for each super block, so that nobody can prepare names that collide.
#[inline]
pub fn hash(seed: u64, name: &[u8]) -> u64 {
    let (words, tail) = name.as_chunks();
    let state = words.iter().fold(seed, |state, word| mix(state, u64::from_le_bytes(*word)));
    // Names hold no zeros, so a tail is never taken for a shorter one; and none is not mixed in at all.
    if tail.is_empty() { state } else { mix(state, partial_word(tail)) }
}

/// Where the component that begins at `begin` ends (before the next slash, or with the text), and its hash.
#[inline]
pub(crate) fn scan(seed: u64, text: &[u8], begin: usize) -> (usize, u64) {
    let mut state = seed;
    let mut at = begin;
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let slashes = slashes(word);
        if slashes != 0 {
            let length = slashes.trailing_zeros() / 8;
            return (at + length as usize, mix_low(state, word, length));
        }
        state = mix(state, word);
        at += WORD;
    }
    let rest = text.get(at..).unwrap_or_default();
    let word = match text.last_chunk() {
        // The last word of the text, without what lies before `at`.
        Some(last) if !rest.is_empty() => u64::from_le_bytes(*last) >> (8 * (WORD - rest.len())),
        _ => partial_word(rest),
    };
    // Behind the end are zeros, which are no slashes.
    let length = (slashes(word).trailing_zeros() / 8).min(rest.len() as u32);
    (at + length as usize, mix_low(state, word, length))
}

/// A word whose bytes have their high bit set up to and with the lowest that is a slash; higher ones may be set
/// wrongly.
#[inline]
fn slashes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let difference = word ^ (ONES * b'/' as u64);
    difference.wrapping_sub(ONES) & !difference & (ONES << 7)
}

/// Mixes the lowest `length` bytes of a word in, if there are any.
#[inline]
fn mix_low(state: u64, word: u64, length: u32) -> u64 {
    match length {
        0 => state,
        8 => mix(state, word),
        _ => mix(state, word & !(u64::MAX << (8 * length))),
    }
}

/// Up to seven bytes as a word, the first lowest.
#[inline]
fn partial_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte))
}

/// Folds the full product of the two words: every bit of the result depends on every bit of both.
#[inline]
fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Values by name: an open table with linear probing. Slots hold the whole hash, so that names are compared about once.
pub(crate) struct NameTable<T> {
    /// None, or a power of two; never full.
    slots: Box<[Slot<T>]>,
    used: usize,
}

struct Slot<T> {
    hash: u64,
    entry: Option<(Name, T)>,
}

impl<T> Default for NameTable<T> {
    fn default() -> NameTable<T> {
        NameTable { slots: Box::default(), used: 0 }
    }
}

/// The fewest slots, and how many more entries a table may have before it grows: three of four slots are used.
const FEWEST_SLOTS: usize = 8;

impl<T> NameTable<T> {
    /// The value of a name.
    #[inline]
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<&T> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            let (found, value) = slot.entry.as_ref()?;
            if slot.hash == hash && found.as_slice() == name {
                return Some(value);
            }
            at = (at + 1) & mask;
        }
    }

    /// Enters a name that is not there.
    pub fn insert(&mut self, hash: u64, name: Name, value: T) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(FEWEST_SLOTS));
        }
        self.place(Slot { hash, entry: Some((name, value)) });
        self.used += 1;
    }

    /// Takes a name out.
    pub fn remove(&mut self, hash: u64, name: &[u8]) -> Option<T> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut hole = hash as usize & mask;
        let (_, value) = loop {
            let slot = self.slots.get_mut(hole)?;
            let (found, _) = slot.entry.as_ref()?;
            if slot.hash == hash && found.as_slice() == name {
                break slot.entry.take()?;
            }
            hole = (hole + 1) & mask;
        };
        self.used -= 1;
        // What was pushed behind the hole moves up, so that no search ends too early.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(slot) = self.slots.get(at).filter(|slot| slot.entry.is_some()) else { break };
            let home = slot.hash as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots.swap(at, hole);
                hole = at;
            }
        }
        // A directory that was once huge gives its table back.
        if self.slots.len() > 4 * FEWEST_SLOTS && self.used * 8 < self.slots.len() {
            self.resize(self.slots.len() / 4);
        }
        Some(value)
    }

    /// Empties the table.
    pub fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        let table = core::mem::take(self);
        table.slots.into_iter().filter_map(|slot| slot.entry).map(|(_, value)| value)
    }

    fn place(&mut self, slot: Slot<T>) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = slot.hash as usize & mask;
        while let Some(place) = self.slots.get_mut(at) {
            if place.entry.is_none() {
                *place = slot;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn resize(&mut self, slots: usize) {
        let empty: Vec<Slot<T>> = (0..slots).map(|_| Slot { hash: 0, entry: None }).collect();
        let old = core::mem::replace(&mut self.slots, empty.into_boxed_slice());
        old.into_iter().filter(|slot| slot.entry.is_some()).for_each(|slot| self.place(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn similar_names_spread() {
        let names = (0..10_000).flat_map(|i| [format!("file{i}"), format!("{i}.txt"), "a".repeat(i % 255)]);
        let names: HashSet<_> = names.collect();
        let hashes: HashSet<_> = names.iter().map(|name| hash(7, name.as_bytes())).collect();
        assert_eq!(hashes.len(), names.len());
        let low: HashSet<_> = hashes.iter().map(|hash| hash & 0xffff).collect();
        assert!(low.len() > 15_000, "{}", low.len());
    }

    #[test]
    fn the_seed_changes_everything() {
        assert_ne!(hash(1, b"name"), hash(2, b"name"));
    }

    #[test]
    fn scanning_finds_ends_and_hashes() {
        let long = "x".repeat(30);
        for before in ["", "/", "abc/", "longer than a word/"] {
            for length in 0..20 {
                for after in ["", "/", "/y", "/behind it", "//", "\u{ff}/", "0/"] {
                    let text = format!("{before}{}{after}", &long[..length]);
                    let bytes = text.as_bytes();
                    let begin = before.len();
                    let end = bytes[begin..].iter().position(|&byte| byte == b'/').map_or(bytes.len(), |at| begin + at);
                    assert_eq!(scan(5, bytes, begin), (end, hash(5, &bytes[begin..end])), "{text:?} from {begin}");
                }
            }
        }
    }

    #[test]
    fn the_table_is_a_map() {
        let (mut table, mut model) = (NameTable::default(), HashMap::new());
        let mut state = 1_u64;
        for round in 0..200_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Grows at first, shrinks in the end; few different hashes, so that runs get long.
            let number = (state >> 33) % 3000;
            let name = format!("n{number}");
            let hash = hash(3, name.as_bytes()) & 0xffff_ffff_0000_0fff;
            if (state >> 20) % 100 < if round < 100_000 { 60 } else { 40 } {
                if model.insert(name.clone(), round).is_some() {
                    table.remove(hash, name.as_bytes());
                }
                table.insert(hash, Name::from_slice(name.as_bytes()), round);
            } else {
                assert_eq!(table.remove(hash, name.as_bytes()), model.remove(&name));
            }
            assert_eq!(table.find(hash, name.as_bytes()), model.get(&name));
            assert_eq!(table.used, model.len());
        }
        for name in model.keys().cloned().collect::<Vec<_>>() {
            let hash = hash(3, name.as_bytes()) & 0xffff_ffff_0000_0fff;
            assert_eq!(table.remove(hash, name.as_bytes()), model.remove(&name));
        }
        assert!(table.slots.len() <= 4 * FEWEST_SLOTS);
        assert_eq!(table.take().count(), 0);
    }
}
