//! The line discipline: Linux's `N_TTY` as a pure state machine.
//!
//! Bytes from the line go in at [`Discipline::receive`]; lines or bytes for readers come out of [`Discipline::front`], echo and
//! processed output out of [`Discipline::fetch`], and what the terminal must do about it (send a signal, wake somebody)
//! as [`Effects`]. It knows no processes, no clock and no lock, so a test can feed it anything and compare with Linux.
//!
//! ```text
//!   line -> receive -> [input: lines | line being edited] -> front/consume -> reader
//!                |  echo
//!                v
//!   line <- fetch <- [output ring] <- write <- writer
//! ```
//!
//! | file | what it holds |
//! | --- | --- |
//! | `input` | what was typed and not read |
//! | `output` | what was written or echoed and not yet sent; columns |
//! | `edit` | erase, word erase, kill, reprint |
//!
//! It is owned by [`Terminal`](crate::Terminal), under its lock. All buffers are allocated at creation and never grow: it
//! may run in an interrupt handler.

#[cfg(test)]
mod against_linux;
mod edit;
mod input;
mod output;
#[cfg(test)]
mod tests;

use abi::terminal::{ControlCharacter, InputFlags, LocalFlags, Termios};
use bitflags::bitflags;
use drivers::Received;

use edit::Erase;
use input::{END_OF_FILE, Input};
use output::Output;

pub use input::INPUT_SIZE;
#[cfg(test)]
pub use output::OUTPUT_SIZE;

/// Room below which `IXOFF` asks the other side to be quiet, and waiting bytes below which it may go on.
const THROTTLE: usize = 128;

bitflags! {
    /// What the terminal has to do after bytes were received or settings changed.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Effects: u8 {
        /// Send `SIGINT` to the foreground group.
        const INTERRUPT = 1 << 0;
        /// Send `SIGQUIT` to the foreground group.
        const QUIT = 1 << 1;
        /// Send `SIGTSTP` to the foreground group.
        const SUSPEND = 1 << 2;
        /// There is something new to read.
        const READABLE = 1 << 3;
        /// The line has something to fetch.
        const OUTPUT = 1 << 4;
        /// Output was thrown away or set free: writers may go on.
        const WRITABLE = 1 << 5;
        /// Input was thrown away: the line may be given room.
        const ROOM = 1 << 6;
    }
}

/// What a reader may have at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// [`Discipline::front`] gives what the read returns, perhaps nothing: the end of file, or `MIN` and `TIME` both 0.
    Now,
    /// Nothing yet. At the given time, if there is one, the read is over with what is there then.
    Later(Option<u64>),
}

/// What a read is to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// How many bytes of the front.
    pub length: usize,
    /// Whether an end of file behind them is taken together with the last of them.
    pub end_of_file: bool,
}

/// Line editing, echo, signals from keys and flow control of one terminal.
pub struct Discipline {
    termios: Termios,
    input: Input,
    output: Output,
    /// The next byte is taken literally: `VLNEXT` was typed.
    literal: bool,
    /// `ECHOPRT` has opened a `\` that is not closed yet.
    erasing: bool,
    /// Under `IXOFF` the other side was asked to be quiet.
    asked_for_quiet: bool,
    /// When bytes last arrived, for the timer between bytes.
    last_arrival: u64,
}

impl Discipline {
    /// A discipline with empty buffers.
    pub fn new(termios: Termios) -> Discipline {
        Discipline {
            termios,
            input: Input::new(),
            output: Output::new(),
            literal: false,
            erasing: false,
            asked_for_quiet: false,
            last_arrival: 0,
        }
    }

    /// The settings.
    pub const fn termios(&self) -> &Termios {
        &self.termios
    }

    fn local(&self, flag: LocalFlags) -> bool {
        self.termios.local().contains(flag)
    }

    fn flag(&self, flag: InputFlags) -> bool {
        self.termios.input().contains(flag)
    }

    fn is_canonical(&self) -> bool {
        self.local(LocalFlags::ICANON) && !self.local(LocalFlags::EXTPROC)
    }

    /// Changes the settings. Going from bytes to lines makes what is there one finished line; going from lines to bytes gives
    /// the unfinished line to readers.
    pub fn set_termios(&mut self, termios: Termios) -> Effects {
        let before = core::mem::replace(&mut self.termios, termios);
        let mut effects = Effects::READABLE;
        if (before.local() ^ termios.local()).intersects(LocalFlags::ICANON | LocalFlags::EXTPROC) {
            if self.local(LocalFlags::ICANON) {
                self.input.finish()
            } else {
                self.input.unfinish()
            }
            self.erasing = false;
            self.literal = false;
        }
        if before.input().contains(InputFlags::IXON) && !self.flag(InputFlags::IXON) {
            effects |= self.release_output();
        }
        effects
    }

    // ---- from the line --------------------------------------------------------------------------------------------

    /// How many more bytes [`Discipline::receive`] would take. A line being edited that filled the buffer leaves room for one
    /// byte, for ever: keys still erase, interrupt or end it. Finished lines that nobody reads leave none.
    pub fn room(&self) -> usize {
        let widest = if self.flag(InputFlags::PARMRK) { 3 } else { 1 };
        let room = (INPUT_SIZE - 1).saturating_sub(self.input.len()) / widest;
        let overflows = self.is_canonical() && self.input.finished_len() == 0;
        room.max(usize::from(overflows))
    }

    /// Takes bytes from the line, as many as there is [room](Discipline::room) for; returns how many, and what to do.
    pub fn receive(&mut self, received: &[Received], now: u64) -> (usize, Effects) {
        let mut effects = Effects::empty();
        let mut taken = 0;
        for &item in received {
            if self.room() == 0 {
                break;
            }
            // A full line keeps its first bytes; each further one takes the place of the last.
            if self.input.len() == INPUT_SIZE {
                self.input.cut_edited(self.input.edited_len().saturating_sub(1));
            }
            effects |= match item {
                Received::Byte(byte) => self.receive_byte(byte),
                Received::Damaged(byte) => self.receive_damaged(byte),
                Received::Break => self.receive_break(),
            };
            taken += 1;
        }
        self.last_arrival = now;
        self.throttle();
        if self.is_readable() {
            effects |= Effects::READABLE;
        }
        if self.output.is_ready() {
            effects |= Effects::OUTPUT;
        }
        (taken, effects)
    }

    fn receive_byte(&mut self, byte: u8) -> Effects {
        let mut byte = byte;
        if self.flag(InputFlags::ISTRIP) {
            byte &= 0x7f;
        }
        if self.flag(InputFlags::IUCLC) && self.local(LocalFlags::IEXTEN) {
            byte = output::to_lower(byte);
        }
        if self.literal {
            self.literal = false;
            return self.take(byte, false);
        }
        if self.local(LocalFlags::EXTPROC) {
            self.input.push(byte);
            return Effects::empty();
        }
        if self.flag(InputFlags::IXON) {
            if self.termios.is(ControlCharacter::Start, byte) {
                return self.release_output();
            }
            if self.termios.is(ControlCharacter::Stop, byte) {
                self.output.stopped = true;
                return Effects::empty();
            }
        }
        if self.local(LocalFlags::ISIG)
            && let Some(signal) = self.signal_of(byte)
        {
            return self.signal_key(byte, signal);
        }
        let released =
            if self.flag(InputFlags::IXON | InputFlags::IXANY) { self.release_output() } else { Effects::empty() };
        let typed = byte;
        match byte {
            b'\r' if self.flag(InputFlags::IGNCR) => return released,
            b'\r' if self.flag(InputFlags::ICRNL) => byte = b'\n',
            b'\n' if self.flag(InputFlags::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.local(LocalFlags::ICANON) && self.edit_key(byte) {
            return released;
        }
        released | self.take(byte, byte != typed)
    }

    /// A byte without meaning of its own, or with its meaning switched off: echo it and keep it. A newline that was
    /// `translated` from a carriage return shows as one; a newline typed as such shows as `^J`.
    fn take(&mut self, byte: u8, translated: bool) -> Effects {
        if self.local(LocalFlags::ECHO) {
            self.finish_erasing();
            if byte == b'\n' && translated {
                self.output.echo(b'\n', &self.termios);
            } else {
                self.remember_line_column();
                self.echo_typed(byte);
            }
        }
        if byte == 0xff && self.flag(InputFlags::PARMRK) {
            self.input.push(byte);
        }
        self.input.push(byte);
        Effects::empty()
    }

    /// A key of line editing. `false`: it is none.
    fn edit_key(&mut self, byte: u8) -> bool {
        let extended = self.local(LocalFlags::IEXTEN);
        let echo = self.local(LocalFlags::ECHO);
        let is = |which| self.termios.is(which, byte);
        if is(ControlCharacter::Erase) {
            self.erase(Erase::Character);
        } else if is(ControlCharacter::Kill) {
            self.erase(Erase::Line);
        } else if extended && is(ControlCharacter::Werase) {
            self.erase(Erase::Word);
        } else if extended && is(ControlCharacter::Lnext) {
            self.literal = true;
            if echo {
                self.finish_erasing();
                if self.local(LocalFlags::ECHOCTL) {
                    self.output.echo_raw(b'^');
                    self.output.echo_raw(b'\x08');
                }
            }
        } else if extended && echo && is(ControlCharacter::Reprint) {
            self.reprint();
        } else if byte == b'\n' {
            if echo || self.local(LocalFlags::ECHONL) {
                self.output.echo(b'\n', &self.termios);
            }
            self.input.push_end(b'\n');
        } else if is(ControlCharacter::Eof) {
            self.input.push_end(END_OF_FILE);
        } else if is(ControlCharacter::Eol) || (extended && is(ControlCharacter::Eol2)) {
            if echo {
                self.remember_line_column();
                self.echo_typed(byte);
            }
            if byte == 0xff && self.flag(InputFlags::PARMRK) {
                self.input.push(byte);
            }
            self.input.push_end(byte);
        } else {
            return false;
        }
        true
    }

    fn receive_damaged(&mut self, byte: u8) -> Effects {
        if !self.flag(InputFlags::INPCK) {
            self.input.push(byte);
        } else if self.flag(InputFlags::IGNPAR) {
            return Effects::empty();
        } else if self.flag(InputFlags::PARMRK) {
            [0xff, 0, byte].into_iter().for_each(|byte| self.input.push(byte));
        } else {
            self.input.push(0);
        }
        Effects::empty()
    }

    fn receive_break(&mut self) -> Effects {
        if self.flag(InputFlags::IGNBRK) {
            return Effects::empty();
        }
        if self.flag(InputFlags::BRKINT) {
            return self.signal(Effects::INTERRUPT);
        }
        if self.flag(InputFlags::PARMRK) {
            [0xff, 0].into_iter().for_each(|byte| self.input.push(byte));
        }
        self.input.push(0);
        Effects::empty()
    }

    fn signal_of(&self, byte: u8) -> Option<Effects> {
        [
            (ControlCharacter::Intr, Effects::INTERRUPT),
            (ControlCharacter::Quit, Effects::QUIT),
            (ControlCharacter::Susp, Effects::SUSPEND),
        ]
        .into_iter()
        .find(|(key, _)| self.termios.is(*key, byte))
        .map(|(_, signal)| signal)
    }

    fn signal_key(&mut self, byte: u8, signal: Effects) -> Effects {
        let mut effects = self.signal(signal);
        if self.flag(InputFlags::IXON) {
            effects |= self.release_output();
        }
        if self.local(LocalFlags::ECHO) {
            self.echo_typed(byte);
        }
        effects
    }

    /// A signal from the line discards what was typed and what waits to be shown, unless `NOFLSH`.
    fn signal(&mut self, signal: Effects) -> Effects {
        if self.local(LocalFlags::NOFLSH) {
            return signal;
        }
        signal | self.discard_output() | self.discard_input()
    }

    fn echo_typed(&mut self, byte: u8) {
        self.output.echo_typed(byte, &self.termios);
    }

    fn remember_line_column(&mut self) {
        if self.input.edited_len() == 0 {
            self.output.line_column = self.output.column;
        }
    }

    fn throttle(&mut self) {
        let waits_for_line = self.is_canonical() && self.input.finished_len() == 0;
        if self.flag(InputFlags::IXOFF) && !self.asked_for_quiet && !waits_for_line && self.room() < THROTTLE {
            self.asked_for_quiet = true;
            self.output.send_urgently(self.termios.character(ControlCharacter::Stop));
        }
    }

    // ---- to the reader --------------------------------------------------------------------------------------------

    /// Whether a read would find something at this moment, the timers left aside.
    fn is_readable(&self) -> bool {
        if self.is_canonical() { self.input.finished_len() > 0 } else { !self.input.is_empty() }
    }

    fn minimum(&self) -> usize {
        usize::from(self.termios.character(ControlCharacter::Min))
    }

    /// `VTIME` in nanoseconds; it counts tenths of a second.
    fn time(&self) -> u64 {
        u64::from(self.termios.character(ControlCharacter::Time)) * 100_000_000
    }

    /// Whether poll(2) calls the terminal readable: `MIN` bytes, unless `TIME` makes a read return with fewer.
    pub fn is_readable_for_poll(&self) -> bool {
        let enough = if self.time() == 0 { self.minimum().max(1) } else { 1 };
        self.is_readable() && (self.is_canonical() || self.input.len() >= enough)
    }

    /// Whether a read for `wanted` bytes that began at `started` returns at `now`. See termios(3), "Canonical and
    /// noncanonical mode". `patient` is false under `O_NONBLOCK`, which takes what is there.
    pub fn availability(&self, wanted: usize, started: u64, now: u64, patient: bool) -> Availability {
        if self.is_canonical() {
            return if self.is_readable() { Availability::Now } else { Availability::Later(None) };
        }
        let (minimum, time, length) = (self.minimum(), self.time(), self.input.len());
        let enough = if patient { minimum.min(wanted).max(1) } else { 1 };
        if length >= enough {
            return Availability::Now;
        }
        let deadline = match (minimum, time) {
            (0, 0) => return Availability::Now,
            (0, time) => Some(started.saturating_add(time)),
            (_, 0) => None,
            // The timer between bytes runs from the first byte on.
            (_, time) if length > 0 => Some(started.max(self.last_arrival).saturating_add(time)),
            _ => None,
        };
        match deadline {
            Some(deadline) if now >= deadline => Availability::Now,
            deadline => Availability::Later(deadline),
        }
    }

    /// What a read for `wanted` bytes delivers: at most one line, or as many bytes as there are.
    pub fn front(&self, wanted: usize) -> Front {
        if self.is_canonical() {
            let (length, end_of_file) = self.input.line(wanted);
            Front { length, end_of_file }
        } else {
            Front { length: self.input.len().min(wanted), end_of_file: false }
        }
    }

    /// The first `length` bytes, in two pieces (the buffer is a ring).
    pub fn bytes(&self, length: usize) -> [&[u8]; 2] {
        self.input.front(length)
    }

    /// Takes `count` bytes of `front` that were delivered; with the last of them goes the end of file behind it.
    pub fn consume(&mut self, front: Front, count: usize) -> Effects {
        let end_of_file = front.end_of_file && count == front.length;
        self.input.consume(count + usize::from(end_of_file));
        let mut effects = Effects::ROOM;
        if self.asked_for_quiet && self.input.len() <= THROTTLE {
            self.asked_for_quiet = false;
            self.output.send_urgently(self.termios.character(ControlCharacter::Start));
            effects |= Effects::OUTPUT;
        }
        effects
    }

    /// What `FIONREAD` tells.
    pub fn input_waiting(&self) -> usize {
        if self.is_canonical() { self.input.deliverable() } else { self.input.len() }
    }

    /// Forgets what was received and not read: `TCIFLUSH`.
    pub fn discard_input(&mut self) -> Effects {
        self.input.clear();
        self.literal = false;
        self.erasing = false;
        Effects::ROOM
    }

    // ---- from the writer ------------------------------------------------------------------------------------------

    /// Takes a program's output as far as there is room; returns how many bytes.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.output.write(bytes, &self.termios)
    }

    /// The most bytes [`Discipline::write`] could take now.
    pub fn write_room(&self) -> usize {
        self.output.room()
    }

    /// Bytes processed and not yet fetched by the line: `TIOCOUTQ`.
    pub fn output_waiting(&self) -> usize {
        self.output.len()
    }

    /// Whether poll(2) calls the terminal writable.
    pub fn is_writable(&self) -> bool {
        self.output.len() < output::WAKE_UP_BELOW
    }

    /// Takes a message of the kernel, past all settings; returns how many bytes there was room for.
    pub fn print(&mut self, text: &[u8]) -> usize {
        self.output.print(text)
    }

    // ---- to the line ----------------------------------------------------------------------------------------------

    /// Moves bytes for the line into `buffer`; returns how many.
    pub fn fetch(&mut self, buffer: &mut [u8]) -> usize {
        self.output.fetch(buffer)
    }

    /// Whether [`Discipline::fetch`] would give something.
    pub fn output_ready(&self) -> bool {
        self.output.is_ready()
    }

    /// Forgets what waits for the line: `TCOFLUSH`.
    pub fn discard_output(&mut self) -> Effects {
        self.output.clear();
        Effects::WRITABLE
    }

    /// `TCOOFF`.
    pub fn hold_output(&mut self) {
        self.output.held = true;
        self.output.stopped = true;
    }

    /// `TCOON`: undoes [`Discipline::hold_output`].
    pub fn resume_output(&mut self) -> Effects {
        self.output.held = false;
        self.release_output()
    }

    /// Sends `VSTOP` or `VSTART` to the other side: `TCIOFF`, `TCION`.
    pub fn send_flow_control(&mut self, quiet: bool) -> Effects {
        let which = if quiet { ControlCharacter::Stop } else { ControlCharacter::Start };
        let character = self.termios.character(which);
        if character != abi::terminal::DISABLED_CHARACTER {
            self.output.send_urgently(character);
        }
        Effects::OUTPUT
    }

    fn release_output(&mut self) -> Effects {
        if self.output.held || !self.output.stopped {
            return Effects::empty();
        }
        self.output.stopped = false;
        Effects::OUTPUT | Effects::WRITABLE
    }
}
