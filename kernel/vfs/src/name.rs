//! Names of directory entries, and their hashes.
//!
//! All of this is on the path walk's hot path: a component's end and its hash are found in one pass, eight bytes at a
//! time.

use abi::{Errno, Result};
use machine::memory::fallible;
use smallvec::SmallVec;

/// The longest name of an entry: `NAME_MAX`.
pub const NAME_MAX: usize = 255;

/// How long a name may be that lies in place.
const IN_PLACE: usize = 24;

/// A name; short ones lie in place.
pub type Name = SmallVec<[u8; IN_PLACE]>;

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

/// Whether two names are the same: in place, since most are too short to be worth a call.
#[inline]
pub(crate) fn same(first: &[u8], second: &[u8]) -> bool {
    if first.len() != second.len() {
        return false;
    }
    let word = |bytes: &[u8; WORD]| u64::from_le_bytes(*bytes);
    match (first.last_chunk(), second.last_chunk()) {
        // The last words, and then those before, as far as they are not in the last ones.
        (Some(last), Some(other)) => {
            let (words, _) = first.as_chunks();
            let (others, _) = second.as_chunks();
            word(last) == word(other) && words.iter().zip(others).all(|(word_of, other)| word(word_of) == word(other))
        }
        _ => first.iter().zip(second).all(|(byte, other)| byte == other),
    }
}

/// A name of its own.
///
/// # Errors
/// `ENOMEM` for a long one.
#[expect(clippy::disallowed_methods, reason = "room was made before")]
pub fn to_name(bytes: &[u8]) -> Result<Name> {
    if bytes.len() <= IN_PLACE {
        return Ok(Name::from_slice(bytes));
    }
    let mut name = Name::new();
    fallible(|| name.try_reserve_exact(bytes.len())).map_err(|_| Errno::ENOMEM)?;
    name.extend_from_slice(bytes);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

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
    fn names_are_the_same_byte_by_byte() {
        let name: Vec<u8> = (1..=40).collect();
        for length in 0..40 {
            let first = &name[..length];
            assert!(same(first, first) && !same(first, &name[..=length]));
            for other in 0..length {
                let mut second = first.to_vec();
                second[other] ^= 0x80;
                assert!(!same(first, &second), "{length} {other}");
            }
        }
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
}
