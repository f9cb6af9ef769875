//! What was typed and not yet read: a ring of 4096 bytes, some of which end a line.
//!
//! ```text
//!      tail            edited             head
//!       | line \n line \n | the line being edited |
//! ```
//!
//! Bytes before `edited` are what a canonical reader may have; those behind it can still be erased. The ends of lines are
//! marked apart from the bytes: an end of file is a marked zero byte, and a newline typed literally is not marked.

use alloc::boxed::Box;

/// Size of the buffer, and so of the longest line with its end: Linux's `N_TTY_BUF_SIZE`.
pub const INPUT_SIZE: usize = 4096;

/// The byte that, marked as an end, is the end of file. It is never given to a reader.
pub const END_OF_FILE: u8 = 0;

pub(super) struct Input {
    bytes: Box<[u8; INPUT_SIZE]>,
    /// One bit for every place of `bytes`: it ends a line.
    ends: Box<[u64; INPUT_SIZE / 64]>,
    // Running counters; their place in the ring is the remainder by its size.
    tail: u64,
    edited: u64,
    head: u64,
}

impl Input {
    pub fn new() -> Input {
        Input { bytes: Box::new([0; INPUT_SIZE]), ends: Box::new([0; INPUT_SIZE / 64]), tail: 0, edited: 0, head: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// All bytes in the buffer.
    pub fn len(&self) -> usize {
        (self.head - self.tail) as usize
    }

    /// Bytes of finished lines, their ends included.
    pub fn finished_len(&self) -> usize {
        (self.edited - self.tail) as usize
    }

    /// Bytes of the line being edited.
    pub fn edited_len(&self) -> usize {
        (self.head - self.edited) as usize
    }

    fn place(position: u64) -> usize {
        (position % INPUT_SIZE as u64) as usize
    }

    fn at(&self, position: u64) -> u8 {
        self.bytes.get(Self::place(position)).copied().unwrap_or(0)
    }

    fn is_end(&self, position: u64) -> bool {
        let place = Self::place(position);
        self.ends.get(place / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn set_end(&mut self, position: u64, is_end: bool) {
        let place = Self::place(position);
        if let Some(word) = self.ends.get_mut(place / 64) {
            *word = (*word & !(1 << (place % 64))) | (u64::from(is_end) << (place % 64));
        }
    }

    /// Adds a byte; a full buffer drops it.
    pub fn push(&mut self, byte: u8) {
        if self.len() < INPUT_SIZE {
            if let Some(place) = self.bytes.get_mut(Self::place(self.head)) {
                *place = byte;
            }
            self.set_end(self.head, false);
            self.head += 1;
        }
    }

    /// Adds a byte that ends the line being edited.
    pub fn push_end(&mut self, byte: u8) {
        if self.len() < INPUT_SIZE {
            self.push(byte);
            self.set_end(self.head - 1, true);
            self.edited = self.head;
        }
    }

    /// Byte `index` of the line being edited.
    pub fn edited(&self, index: usize) -> u8 {
        self.at(self.edited + index as u64)
    }

    /// Cuts the line being edited to `length` bytes.
    pub fn cut_edited(&mut self, length: usize) {
        self.head = self.head.min(self.edited + length as u64);
    }

    pub fn clear(&mut self) {
        self.tail = self.head;
        self.edited = self.head;
    }

    /// Everything becomes one finished line: the mode changed from bytes to lines.
    pub fn finish(&mut self) {
        self.ends.fill(0);
        self.edited = self.head;
        if !self.is_empty() {
            self.set_end(self.head - 1, true);
        }
    }

    /// Nothing is a line any more: the mode changed from lines to bytes.
    pub fn unfinish(&mut self) {
        self.ends.fill(0);
        self.edited = self.tail;
    }

    /// How many of the bytes of finished lines a reader will get: ends of file do not count.
    pub fn deliverable(&self) -> usize {
        (self.tail..self.edited)
            .filter(|&position| !(self.is_end(position) && self.at(position) == END_OF_FILE))
            .count()
    }

    /// The first finished line, as far as `limit` goes: how many bytes it gives the reader, and whether an end of file
    /// comes right behind them.
    pub fn line(&self, limit: usize) -> (usize, bool) {
        for position in self.tail..self.edited {
            let length = (position - self.tail) as usize;
            if self.is_end(position) && self.at(position) == END_OF_FILE {
                return (length, true);
            }
            if length == limit {
                return (length, false);
            }
            if self.is_end(position) {
                return (length + 1, false);
            }
        }
        (self.finished_len(), false)
    }

    /// The first `length` bytes, in at most two pieces.
    pub fn front(&self, length: usize) -> [&[u8]; 2] {
        let length = length.min(self.len());
        let start = Self::place(self.tail);
        let first = length.min(INPUT_SIZE - start);
        let piece = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        [piece(start, start + first), piece(0, length - first)]
    }

    /// Takes `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.tail = (self.tail + count as u64).min(self.head);
        self.edited = self.edited.max(self.tail);
    }
}
