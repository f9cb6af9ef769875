//! Terminals: termios(3) and the structures of ioctl_tty(2).
//!
//! [`Termios`] is the kernel's structure (19 control characters), not the C library's (32). The flag words are kept as
//! plain numbers so that bits Linux has no name for survive a `TCGETS` after a `TCSETS`; the accessors give them as
//! named sets.

use bitflags::bitflags;
use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `c_cc` of the kernel's structure.
pub const CONTROL_CHARACTERS: usize = raw::NCCS as usize;
/// The value of a control character that is switched off, `_POSIX_VDISABLE`.
pub const DISABLED_CHARACTER: u8 = 0;

bitflags! {
    /// `c_iflag`: what happens to a byte on its way in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InputFlags: u32 {
        /// Ignore a break.
        const IGNBRK = raw::IGNBRK;
        /// A break is an interrupt key.
        const BRKINT = raw::BRKINT;
        /// Drop bytes with parity or framing errors.
        const IGNPAR = raw::IGNPAR;
        /// Mark bytes with errors by `\377 \0`.
        const PARMRK = raw::PARMRK;
        /// Check parity of input.
        const INPCK = raw::INPCK;
        /// Clear the eighth bit.
        const ISTRIP = raw::ISTRIP;
        /// Newline becomes carriage return.
        const INLCR = raw::INLCR;
        /// Ignore carriage return.
        const IGNCR = raw::IGNCR;
        /// Carriage return becomes newline.
        const ICRNL = raw::ICRNL;
        /// Capitals become small letters.
        const IUCLC = raw::IUCLC;
        /// `VSTOP` and `VSTART` hold and release output.
        const IXON = raw::IXON;
        /// Any key releases output.
        const IXANY = raw::IXANY;
        /// Send `VSTOP` when the input buffer fills up.
        const IXOFF = raw::IXOFF;
        /// Ring the bell when the input buffer is full.
        const IMAXBEL = raw::IMAXBEL;
        /// Input is UTF-8: erase takes whole characters.
        const IUTF8 = raw::IUTF8;
    }

    /// `c_oflag`: what happens to a byte on its way out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OutputFlags: u32 {
        /// Process output at all.
        const OPOST = raw::OPOST;
        /// Small letters become capitals.
        const OLCUC = raw::OLCUC;
        /// Newline becomes carriage return and newline.
        const ONLCR = raw::ONLCR;
        /// Carriage return becomes newline.
        const OCRNL = raw::OCRNL;
        /// No carriage return at column 0.
        const ONOCR = raw::ONOCR;
        /// Newline returns the carriage by itself.
        const ONLRET = raw::ONLRET;
        /// Tabs become spaces (all bits of `TABDLY`).
        const TAB3 = raw::TAB3;
    }

    /// `c_lflag`: how the line is edited, echoed and what its keys do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LocalFlags: u32 {
        /// `VINTR`, `VQUIT` and `VSUSP` send signals.
        const ISIG = raw::ISIG;
        /// Line by line, with editing.
        const ICANON = raw::ICANON;
        /// Echo input.
        const ECHO = raw::ECHO;
        /// `VERASE` rubs out on the screen.
        const ECHOE = raw::ECHOE;
        /// `VKILL` starts a new line on the screen.
        const ECHOK = raw::ECHOK;
        /// Echo newline even without `ECHO`.
        const ECHONL = raw::ECHONL;
        /// Signals from keys discard nothing.
        const NOFLSH = raw::NOFLSH;
        /// Writing from the background sends `SIGTTOU`.
        const TOSTOP = raw::TOSTOP;
        /// Echo control characters as `^X`.
        const ECHOCTL = raw::ECHOCTL;
        /// Erase as on a printing terminal: `\erased/`.
        const ECHOPRT = raw::ECHOPRT;
        /// `VKILL` rubs the whole line out.
        const ECHOKE = raw::ECHOKE;
        /// Output is being discarded (not done by Linux).
        const FLUSHO = raw::FLUSHO;
        /// Retype pending input (not done by Linux).
        const PENDIN = raw::PENDIN;
        /// `VWERASE`, `VREPRINT`, `VLNEXT`, `VEOL2` and `IUCLC` work.
        const IEXTEN = raw::IEXTEN;
        /// The line is edited at the other end of a pseudoterminal.
        const EXTPROC = raw::EXTPROC;
    }
}

/// A place in `c_cc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)] // The names are termios(3)'s.
pub enum ControlCharacter {
    Intr = raw::VINTR as usize,
    Quit = raw::VQUIT as usize,
    Erase = raw::VERASE as usize,
    Kill = raw::VKILL as usize,
    Eof = raw::VEOF as usize,
    Time = raw::VTIME as usize,
    Min = raw::VMIN as usize,
    Start = raw::VSTART as usize,
    Stop = raw::VSTOP as usize,
    Susp = raw::VSUSP as usize,
    Eol = raw::VEOL as usize,
    Reprint = raw::VREPRINT as usize,
    Werase = raw::VWERASE as usize,
    Lnext = raw::VLNEXT as usize,
    Eol2 = raw::VEOL2 as usize,
}

/// `struct termios` as `TCGETS` and `TCSETS` carry it: 36 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The fields are termios(3)'s.
pub struct Termios {
    pub c_iflag: u32,
    pub c_oflag: u32,
    pub c_cflag: u32,
    pub c_lflag: u32,
    pub c_line: u8,
    pub c_cc: [u8; CONTROL_CHARACTERS],
}

/// `struct termios2` as `TCGETS2` and `TCSETS2` carry it: the speeds follow as numbers. 44 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The fields are termios(3)'s and ioctl_tty(2)'s.
pub struct Termios2 {
    pub termios: Termios,
    pub c_ispeed: u32,
    pub c_ospeed: u32,
}

/// `struct winsize`: the size of the window a terminal is shown in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WindowSize {
    /// `ws_row`: lines of text.
    pub rows: u16,
    /// `ws_col`: characters in a line.
    pub columns: u16,
    /// `ws_xpixel`: usually 0.
    pub pixels_wide: u16,
    /// `ws_ypixel`: usually 0.
    pub pixels_high: u16,
}

impl Default for Termios {
    /// Linux's `tty_std_termios`.
    fn default() -> Termios {
        let mut termios = Termios {
            c_iflag: (InputFlags::ICRNL | InputFlags::IXON).bits(),
            c_oflag: (OutputFlags::OPOST | OutputFlags::ONLCR).bits(),
            c_cflag: raw::B38400 | raw::CS8 | raw::CREAD | raw::HUPCL,
            c_lflag: (LocalFlags::ISIG
                | LocalFlags::ICANON
                | LocalFlags::ECHO
                | LocalFlags::ECHOE
                | LocalFlags::ECHOK
                | LocalFlags::ECHOCTL
                | LocalFlags::ECHOKE
                | LocalFlags::IEXTEN)
                .bits(),
            c_line: 0,
            c_cc: [DISABLED_CHARACTER; CONTROL_CHARACTERS],
        };
        let characters = [
            (ControlCharacter::Intr, control(b'C')),
            (ControlCharacter::Quit, control(b'\\')),
            (ControlCharacter::Erase, 0x7f),
            (ControlCharacter::Kill, control(b'U')),
            (ControlCharacter::Eof, control(b'D')),
            (ControlCharacter::Min, 1),
            (ControlCharacter::Start, control(b'Q')),
            (ControlCharacter::Stop, control(b'S')),
            (ControlCharacter::Susp, control(b'Z')),
            (ControlCharacter::Reprint, control(b'R')),
            (ControlCharacter::Werase, control(b'W')),
            (ControlCharacter::Lnext, control(b'V')),
        ];
        for (which, value) in characters {
            termios.set_character(which, value);
        }
        if let Some(discard) = termios.c_cc.get_mut(raw::VDISCARD as usize) {
            *discard = control(b'O');
        }
        termios
    }
}

impl Termios {
    /// `c_iflag` as a set; bits without a name are kept.
    pub const fn input(&self) -> InputFlags {
        InputFlags::from_bits_retain(self.c_iflag)
    }

    /// `c_oflag` as a set; bits without a name are kept.
    pub const fn output(&self) -> OutputFlags {
        OutputFlags::from_bits_retain(self.c_oflag)
    }

    /// `c_lflag` as a set; bits without a name are kept.
    pub const fn local(&self) -> LocalFlags {
        LocalFlags::from_bits_retain(self.c_lflag)
    }

    /// A control character as it stands in `c_cc`, [`DISABLED_CHARACTER`] if it is off.
    pub fn character(&self, which: ControlCharacter) -> u8 {
        self.c_cc.get(which as usize).copied().unwrap_or(DISABLED_CHARACTER)
    }

    /// Sets a control character.
    pub fn set_character(&mut self, which: ControlCharacter, value: u8) {
        if let Some(place) = self.c_cc.get_mut(which as usize) {
            *place = value;
        }
    }

    /// Whether `byte` is this control character. One that is off matches nothing, not even a zero byte.
    pub fn is(&self, which: ControlCharacter, byte: u8) -> bool {
        let character = self.character(which);
        character != DISABLED_CHARACTER && character == byte
    }

    /// The line speed in bits per second that `CBAUD` names; `None` for `BOTHER`, whose speed stands elsewhere.
    pub fn named_speed(&self) -> Option<u32> {
        let code = self.c_cflag & raw::CBAUD;
        SPEEDS.iter().find(|(name, _)| *name == code).map(|(_, speed)| *speed)
    }

    /// Sets `CBAUD` to the name of a speed, or to `BOTHER` if it has none.
    pub fn set_speed(&mut self, speed: u32) {
        let code = SPEEDS.iter().find(|(_, known)| *known == speed).map_or(raw::BOTHER, |(name, _)| *name);
        self.c_cflag = (self.c_cflag & !raw::CBAUD) | code;
    }
}

/// The character a key gives together with Control.
pub const fn control(key: u8) -> u8 {
    key & 0x1f
}

/// The codes of `CBAUD` and the speeds they stand for.
const SPEEDS: [(u32, u32); 31] = [
    (raw::B0, 0),
    (raw::B50, 50),
    (raw::B75, 75),
    (raw::B110, 110),
    (raw::B134, 134),
    (raw::B150, 150),
    (raw::B200, 200),
    (raw::B300, 300),
    (raw::B600, 600),
    (raw::B1200, 1200),
    (raw::B1800, 1800),
    (raw::B2400, 2400),
    (raw::B4800, 4800),
    (raw::B9600, 9600),
    (raw::B19200, 19200),
    (raw::B38400, 38400),
    (raw::B57600, 57600),
    (raw::B115200, 115_200),
    (raw::B230400, 230_400),
    (raw::B460800, 460_800),
    (raw::B500000, 500_000),
    (raw::B576000, 576_000),
    (raw::B921600, 921_600),
    (raw::B1000000, 1_000_000),
    (raw::B1152000, 1_152_000),
    (raw::B1500000, 1_500_000),
    (raw::B2000000, 2_000_000),
    (raw::B2500000, 2_500_000),
    (raw::B3000000, 3_000_000),
    (raw::B3500000, 3_500_000),
    (raw::B4000000, 4_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_linux_s_sizes() {
        assert_eq!(size_of::<Termios>(), 36);
        assert_eq!(size_of::<Termios2>(), 44);
        assert_eq!(size_of::<WindowSize>(), 8);
    }

    #[test]
    fn default_is_what_a_fresh_linux_terminal_has() {
        let termios = Termios::default();
        assert_eq!((termios.c_iflag, termios.c_oflag, termios.c_cflag, termios.c_lflag), (0x500, 0x5, 0x4bf, 0x8a3b));
        assert_eq!(
            termios.c_cc,
            [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0] // stty -a, in order
        );
    }

    #[test]
    fn speeds_have_names() {
        let mut termios = Termios::default();
        assert_eq!(termios.named_speed(), Some(38400));
        termios.set_speed(115_200);
        assert_eq!((termios.named_speed(), termios.c_cflag & raw::CBAUD), (Some(115_200), raw::B115200));
        termios.set_speed(12345);
        assert_eq!(termios.named_speed(), None);
    }

    #[test]
    fn a_disabled_character_matches_nothing() {
        assert!(!Termios::default().is(ControlCharacter::Eol, 0));
        assert!(Termios::default().is(ControlCharacter::Intr, 3));
    }
}
