//! Names of directory entries, and their hashes.

use smallvec::SmallVec;

/// The longest name of an entry: `NAME_MAX`.
pub const NAME_MAX: usize = 255;

/// A name; short ones lie in place.
pub type Name = SmallVec<[u8; 24]>;

/// The hash of a name, computed once for each component of a path. `seed` is drawn at random for each super block, so that
/// nobody can prepare names that collide.
#[inline]
pub fn hash(seed: u64, name: &[u8]) -> u64 {
    let mut state = seed ^ (name.len() as u64);
    let mut chunks = name.chunks_exact(8);
    for chunk in &mut chunks {
        state = mix(state, chunk.try_into().map_or(0, u64::from_le_bytes));
    }
    let tail = chunks.remainder().iter().fold(0, |tail, &byte| (tail << 8) | u64::from(byte));
    mix(mix(state, tail), seed.rotate_left(32))
}

/// Folds the full product of the two words: every bit of the result depends on every bit of both.
#[inline]
fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64)
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
    fn the_seed_changes_everything() {
        assert_ne!(hash(1, b"name"), hash(2, b"name"));
        assert_ne!(hash(1, b"a\0"), hash(1, b"a"));
    }
}
