//! Editing the line: what the erase keys take back, in the buffer and on the screen.

use abi::terminal::{ControlCharacter, LocalFlags};

use super::Discipline;
use super::output::{is_continuation, is_control};

/// How much an erase key takes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Erase {
    Character,
    Word,
    Line,
}

impl Discipline {
    /// Takes back a character, a word or the line being edited, and rubs it out on the screen as the flags ask.
    pub(super) fn erase(&mut self, what: Erase) {
        let local = self.termios.local();
        if self.input.edited_len() == 0 {
            return;
        }
        if what == Erase::Line {
            if !local.contains(LocalFlags::ECHO) {
                self.input.cut_edited(0);
                return;
            }
            if !local.contains(LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE) {
                self.input.cut_edited(0);
                self.finish_erasing();
                self.echo_typed(self.termios.character(ControlCharacter::Kill));
                if local.contains(LocalFlags::ECHOK) {
                    self.output.echo(b'\n', &self.termios);
                }
                return;
            }
        }
        let mut in_word = false;
        while self.input.edited_len() > 0 {
            // A character is its first byte and the continuation bytes behind it; never half of one is erased.
            let mut start = self.input.edited_len() - 1;
            while is_continuation(self.input.edited(start), &self.termios) && start > 0 {
                start -= 1;
            }
            let first = self.input.edited(start);
            if is_continuation(first, &self.termios) {
                break;
            }
            if what == Erase::Word {
                if is_word(first) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            if local.contains(LocalFlags::ECHO) {
                self.show_erased(start, first, what);
            }
            self.input.cut_edited(start);
            if what == Erase::Character {
                break;
            }
        }
        if self.input.edited_len() == 0 && local.contains(LocalFlags::ECHO) {
            self.finish_erasing();
        }
    }

    /// Shows that the character at `start`, the last of the line, is going.
    fn show_erased(&mut self, start: usize, first: u8, what: Erase) {
        let local = self.termios.local();
        if local.contains(LocalFlags::ECHOPRT) {
            if !self.erasing {
                self.output.echo(b'\\', &self.termios);
                self.erasing = true;
            }
            self.echo_typed(first);
            for index in start + 1..self.input.edited_len() {
                self.output.echo(self.input.edited(index), &self.termios);
            }
        } else if what == Erase::Character && !local.contains(LocalFlags::ECHOE) {
            self.echo_typed(self.termios.character(ControlCharacter::Erase));
        } else if first == b'\t' {
            let (width, after_tab) = self.width_before(start);
            self.output.erase_tab(width, after_tab);
        } else if !is_control(first) {
            self.rub_out();
        } else if local.contains(LocalFlags::ECHOCTL) {
            self.rub_out();
            self.rub_out();
        }
    }

    /// The columns the line takes from its last tab before `end` (or its beginning) up to `end`, and whether there is
    /// such a tab.
    fn width_before(&self, end: usize) -> (usize, bool) {
        let mut width = 0;
        for index in (0..end).rev() {
            let byte = self.input.edited(index);
            if byte == b'\t' {
                return (width, true);
            }
            if is_control(byte) {
                width += if self.termios.local().contains(LocalFlags::ECHOCTL) { 2 } else { 0 };
            } else if !is_continuation(byte, &self.termios) {
                width += 1;
            }
        }
        (width, false)
    }

    fn rub_out(&mut self) {
        for byte in *b"\x08 \x08" {
            self.output.echo(byte, &self.termios);
        }
    }

    /// Closes what `ECHOPRT` opened.
    pub(super) fn finish_erasing(&mut self) {
        if self.erasing {
            self.output.echo(b'/', &self.termios);
            self.erasing = false;
        }
    }

    /// Types the line being edited again, on a new line.
    pub(super) fn reprint(&mut self) {
        self.finish_erasing();
        self.echo_typed(self.termios.character(ControlCharacter::Reprint));
        self.output.echo(b'\n', &self.termios);
        for index in 0..self.input.edited_len() {
            self.echo_typed(self.input.edited(index));
        }
    }
}

/// Letters, digits and underscores make words; bytes above ASCII count as Latin-1, as in Linux.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}
