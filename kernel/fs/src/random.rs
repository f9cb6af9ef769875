//! Randomness: what /dev/random, /dev/urandom and getrandom(2) give, random(7).
//!
//! Every CPU has a ChaCha20 key of its own (RFC 8439) and never waits for another. A request takes whole blocks from
//! it; the first half of the first block becomes the next key at once, so what was given out can't be worked out later
//! ("fast key erasure"). Keys are mixed anew with the machine's entropy from time to time, and with whatever is written
//! to the device.

use alloc::sync::Arc;

use machine::cpu::PerCpuCell;

/// How many requests a key's line serves before the machine is asked for fresh entropy.
const RESEED_AFTER: u32 = 1 << 16;

const KEY_WORDS: usize = 8;
const BLOCK: usize = 64;

type Key = [u32; KEY_WORDS];

/// The generator.
pub struct Random {
    states: PerCpuCell<State>,
}

struct State {
    key: Key,
    requests: u32,
}

impl Random {
    /// Seeds every CPU's state from the machine.
    pub fn new() -> Arc<Random> {
        let seed = words(machine::device::random_seed());
        // From one seed, each CPU gets the block with its own number.
        let state = |cpu: usize| State { key: halves(block(&seed, cpu as u64)).0, requests: 0 };
        Arc::new(Random { states: PerCpuCell::new(state) })
    }

    /// Fills `to`.
    pub fn fill(&self, to: &mut [u8]) {
        let stream = self.states.with(State::next);
        let (first, rest) = to.split_at_mut(to.len().min(BLOCK / 2));
        copy(first, &stream.1);
        for (counter, chunk) in (0..).zip(rest.chunks_mut(BLOCK)) {
            copy(chunk, &block(&stream.0, counter));
        }
    }

    /// One random number.
    pub fn word(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Adds what may be entropy. It can't make anything less random.
    pub fn mix(&self, bytes: &[u8]) {
        self.states.with(|state| {
            for chunk in bytes.chunks(KEY_WORDS * 4) {
                let mut padded = [0; KEY_WORDS * 4];
                for (place, byte) in padded.iter_mut().zip(chunk) {
                    *place = *byte;
                }
                state.absorb(words(padded));
            }
        });
    }
}

impl State {
    /// A key for the request's further blocks, and the bytes that serve a short request whole.
    fn next(&mut self) -> (Key, [u32; KEY_WORDS]) {
        self.requests += 1;
        if self.requests >= RESEED_AFTER {
            self.requests = 0;
            self.absorb(words(machine::device::random_seed()));
        }
        let (next, given) = halves(block(&self.key, 0));
        let (stream, _) = halves(block(&self.key, 1));
        self.key = next;
        (stream, given)
    }

    fn absorb(&mut self, input: Key) {
        for (word, mixed) in self.key.iter_mut().zip(input) {
            *word ^= mixed;
        }
        self.key = halves(block(&self.key, 2)).0;
    }
}

fn words(bytes: [u8; KEY_WORDS * 4]) -> Key {
    let mut words = bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
    core::array::from_fn(|_| words.next().unwrap_or_default())
}

fn halves(block: [u32; 16]) -> (Key, [u32; KEY_WORDS]) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = block;
    ([a, b, c, d, e, f, g, h], rest)
}

fn copy(to: &mut [u8], from: &[u32]) {
    for (place, byte) in to.iter_mut().zip(from.iter().flat_map(|word| word.to_le_bytes())) {
        *place = byte;
    }
}

/// The ChaCha20 block function with a nonce of zeros and a counter of 64 bits.
fn block(key: &Key, counter: u64) -> [u32; 16] {
    let [a, b, c, d, e, f, g, h] = *key;
    let (low, high) = (counter as u32, (counter >> 32) as u32);
    rounds([0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, a, b, c, d, e, f, g, h, low, high, 0, 0])
}

/// Twenty rounds over the state, and the state added again.
fn rounds(start: [u32; 16]) -> [u32; 16] {
    let [
        mut x0,
        mut x1,
        mut x2,
        mut x3,
        mut x4,
        mut x5,
        mut x6,
        mut x7,
        mut x8,
        mut x9,
        mut x10,
        mut x11,
        mut x12,
        mut x13,
        mut x14,
        mut x15,
    ] = start;
    for _ in 0..10 {
        quarter(&mut x0, &mut x4, &mut x8, &mut x12);
        quarter(&mut x1, &mut x5, &mut x9, &mut x13);
        quarter(&mut x2, &mut x6, &mut x10, &mut x14);
        quarter(&mut x3, &mut x7, &mut x11, &mut x15);
        quarter(&mut x0, &mut x5, &mut x10, &mut x15);
        quarter(&mut x1, &mut x6, &mut x11, &mut x12);
        quarter(&mut x2, &mut x7, &mut x8, &mut x13);
        quarter(&mut x3, &mut x4, &mut x9, &mut x14);
    }
    let mut mixed = [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15];
    for (word, first) in mixed.iter_mut().zip(start) {
        *word = word.wrapping_add(first);
    }
    mixed
}

#[inline]
fn quarter(a: &mut u32, b: &mut u32, c: &mut u32, d: &mut u32) {
    *a = a.wrapping_add(*b);
    *d = (*d ^ *a).rotate_left(16);
    *c = c.wrapping_add(*d);
    *b = (*b ^ *c).rotate_left(12);
    *a = a.wrapping_add(*b);
    *d = (*d ^ *a).rotate_left(8);
    *c = c.wrapping_add(*d);
    *b = (*b ^ *c).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_those_of_rfc_8439() {
        // Section 2.3.2: key 00..1f, counter 1, nonce 00 00 00 09 00 00 00 4a 00 00 00 00.
        let key: [u8; 32] = core::array::from_fn(|index| index as u8);
        let [a, b, c, d, e, f, g, h] = words(key);
        let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
        let [k0, k1, k2, k3] = constants;
        let out = rounds([k0, k1, k2, k3, a, b, c, d, e, f, g, h, 1, 0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(out[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
        assert_eq!(out[12..], [0xd19c_12b5, 0xb94e_16de, 0xe883_d0cb, 0x4e3c_50a2]);
    }

    #[test]
    fn requests_of_any_length_are_filled_and_differ() {
        let random = Random::new();
        for length in [0, 1, 31, 32, 33, 64, 95, 96, 97, 1000] {
            let (mut first, mut second) = (vec![0; length], vec![0; length]);
            random.fill(&mut first);
            random.fill(&mut second);
            assert!(length < 8 || first != second);
            // A tail that was forgotten would be zeros.
            assert!(length < 16 || first[length - 16..].iter().any(|&byte| byte != 0));
        }
        let before = random.word();
        random.mix(b"something");
        assert_ne!(before, random.word());
    }

    #[test]
    fn what_is_mixed_in_makes_a_difference() {
        let state = |input: Option<u32>| {
            let mut state = State { key: [5; KEY_WORDS], requests: 0 };
            input.into_iter().for_each(|word| state.absorb([word; KEY_WORDS]));
            state.next()
        };
        assert_eq!((state(None), state(Some(1))), (state(None), state(Some(1))));
        assert!(state(None) != state(Some(1)) && state(Some(1)) != state(Some(3)));
        assert_ne!(state(Some(0)), state(None), "nothing known is better than the key that was there");
    }

    #[test]
    fn bits_are_balanced() {
        let mut bytes = vec![0; 1 << 16];
        Random::new().fill(&mut bytes);
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        // Six standard deviations around one half of 2^19 bits.
        assert!(ones.abs_diff(1 << 18) < 2200, "{ones}");
    }
}
