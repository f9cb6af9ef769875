//! What goes to the screen: programs' output and echo, processed byte by byte into one ring the line is fed from.
//!
//! To erase a tab from the screen one must know where it began, so the column the cursor stands in is kept.

use alloc::boxed::Box;

use abi::terminal::{InputFlags, LocalFlags, OutputFlags, Termios};

/// Bytes that wait for the line.
pub const OUTPUT_SIZE: usize = 4096;
/// Room that only echo may use, so that one sees what one types while a program floods the screen.
const ECHO_RESERVE: usize = 256;
/// Writers are woken, and poll(2) calls the terminal writable, when fewer bytes than this wait: Linux's `WAKEUP_CHARS`.
pub const WAKE_UP_BELOW: usize = 256;

pub(super) struct Output {
    bytes: Box<[u8; OUTPUT_SIZE]>,
    start: usize,
    length: usize,
    /// A byte that overtakes all others and goes out even when output is held: `VSTOP` or `VSTART`.
    urgent: Option<u8>,
    /// Held by `VSTOP`.
    pub stopped: bool,
    /// Held by `TCOOFF`; no key releases it.
    pub held: bool,
    pub column: usize,
    /// The column in which the line being edited began.
    pub line_column: usize,
}

impl Output {
    pub fn new() -> Output {
        Output {
            bytes: Box::new([0; OUTPUT_SIZE]),
            start: 0,
            length: 0,
            urgent: None,
            stopped: false,
            held: false,
            column: 0,
            line_column: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the line would be given something now.
    pub fn is_ready(&self) -> bool {
        self.urgent.is_some() || (self.length > 0 && !self.stopped && !self.held)
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    pub fn send_urgently(&mut self, byte: u8) {
        self.urgent = Some(byte);
    }

    /// Moves waiting bytes into `buffer`, as far as output is not held.
    pub fn fetch(&mut self, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        for place in buffer {
            let byte = match self.urgent.take() {
                Some(byte) => byte,
                None if self.length == 0 || self.stopped || self.held => break,
                None => {
                    let byte = self.bytes.get(self.start).copied().unwrap_or(0);
                    self.start = (self.start + 1) % OUTPUT_SIZE;
                    self.length -= 1;
                    byte
                }
            };
            *place = byte;
            count += 1;
        }
        count
    }

    fn push(&mut self, byte: u8) {
        let place = (self.start + self.length) % OUTPUT_SIZE;
        if let Some(place) = self.bytes.get_mut(place)
            && self.length < OUTPUT_SIZE
        {
            *place = byte;
            self.length += 1;
        }
    }

    /// Bytes a program may still write, before processing.
    pub fn room(&self) -> usize {
        (OUTPUT_SIZE - ECHO_RESERVE).saturating_sub(self.length)
    }

    /// Takes as much of a program's output as there is room for; returns how many bytes that were.
    pub fn write(&mut self, bytes: &[u8], termios: &Termios) -> usize {
        for (count, &byte) in bytes.iter().enumerate() {
            if !self.put(byte, termios, self.room()) {
                return count;
            }
        }
        bytes.len()
    }

    /// Echoes one byte as if a program had written it. Without room it is lost, as a key pressed at a dead screen.
    pub fn echo(&mut self, byte: u8, termios: &Termios) {
        // Linux's queue of echoes uses 0xff as an escape, so this byte passes unprocessed; it shows in columns.
        if byte == 0xff {
            self.push(byte);
            self.column += 1;
            return;
        }
        self.put(byte, termios, OUTPUT_SIZE - self.length);
    }

    /// Echoes one typed byte; control characters as `^X` under `ECHOCTL`.
    pub fn echo_typed(&mut self, byte: u8, termios: &Termios) {
        if termios.local().contains(LocalFlags::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.push(b'^');
            self.push(byte ^ 0x40);
            self.column += 2;
        } else {
            self.echo(byte, termios);
        }
    }

    /// Echoes one byte past all processing.
    pub fn echo_raw(&mut self, byte: u8) {
        self.push(byte);
    }

    /// Puts the kernel's own text on the screen, whatever the settings; returns how many bytes there was room for.
    pub fn print(&mut self, text: &[u8]) -> usize {
        for (count, &byte) in text.iter().enumerate() {
            if self.length + 2 > OUTPUT_SIZE {
                return count;
            }
            if byte == b'\n' {
                self.push(b'\r');
                self.column = 0;
            }
            self.push(byte);
        }
        text.len()
    }

    /// Moves the cursor back over a tab that followed `width` columns of text, counted from the tab before it or, if
    /// there is none, from the start of the line.
    pub fn erase_tab(&mut self, width: usize, after_tab: bool) {
        let from = if after_tab { width } else { width + self.line_column };
        for _ in 0..8 - from % 8 {
            self.push(b'\x08');
            self.column = self.column.saturating_sub(1);
        }
    }

    /// Puts one byte through output processing. `false`: it needs more than `room` and nothing happened.
    fn put(&mut self, byte: u8, termios: &Termios, room: usize) -> bool {
        if room == 0 {
            return false;
        }
        let flags = termios.output();
        let mut byte = byte;
        if flags.contains(OutputFlags::OPOST) {
            match byte {
                b'\n' => {
                    if flags.contains(OutputFlags::ONLRET) {
                        self.column = 0;
                    }
                    if flags.contains(OutputFlags::ONLCR) {
                        if room < 2 {
                            return false;
                        }
                        self.push(b'\r');
                        self.column = 0;
                    }
                    self.line_column = self.column;
                }
                b'\r' if flags.contains(OutputFlags::ONOCR) && self.column == 0 => return true,
                b'\r' if flags.contains(OutputFlags::OCRNL) => {
                    byte = b'\n';
                    if flags.contains(OutputFlags::ONLRET) {
                        self.column = 0;
                        self.line_column = 0;
                    }
                }
                b'\r' => {
                    self.column = 0;
                    self.line_column = 0;
                }
                b'\t' => {
                    let spaces = 8 - self.column % 8;
                    if flags.contains(OutputFlags::TAB3) {
                        if room < spaces {
                            return false;
                        }
                        self.column += spaces;
                        (0..spaces).for_each(|_| self.push(b' '));
                        return true;
                    }
                    self.column += spaces;
                }
                b'\x08' => self.column = self.column.saturating_sub(1),
                _ if is_control(byte) => {}
                _ => {
                    if flags.contains(OutputFlags::OLCUC) {
                        byte = to_upper(byte);
                    }
                    if !is_continuation(byte, termios) {
                        self.column += 1;
                    }
                }
            }
        }
        self.push(byte);
        true
    }
}

/// Control characters as Linux counts them: the C0 set and DEL.
pub(super) const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Whether a byte goes on with a UTF-8 character and takes no column of its own.
pub(super) const fn is_continuation(byte: u8, termios: &Termios) -> bool {
    termios.input().contains(InputFlags::IUTF8) && byte & 0xc0 == 0x80
}

/// The small letter, in Latin-1 as Linux does it.
pub(super) const fn to_lower(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 0x20,
        _ => byte,
    }
}

/// The capital, in Latin-1 as Linux does it.
const fn to_upper(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | 0xdf..=0xf6 | 0xf8..=0xff => byte - 0x20,
        _ => byte,
    }
}
