//! Linux is the oracle: the same settings and keys go to a pseudoterminal of the host and to ours, and what is shown, what
//! waits and what a reader gets must be equal.
//!
//! Linux processes keys in a worker, so an answer that differs is asked for once more, with more patience.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use abi::terminal::{ControlCharacter, InputFlags, LocalFlags, OutputFlags, Termios};
use drivers::Received;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex};

use super::tests::Dice;
use super::{Availability, Discipline, OUTPUT_SIZE};

/// What can be seen of a terminal after some keys.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    screen: String,
    waiting: usize,
    reads: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn ours(termios: Termios, output: &[u8], keys: &[u8], wanted: usize) -> Seen {
    let mut discipline = Discipline::new(termios);
    let mut buffer = [0; OUTPUT_SIZE];
    discipline.write(output);
    let mut length = discipline.fetch(&mut buffer);
    let keys: Vec<_> = keys.iter().copied().map(Received::Byte).collect();
    discipline.receive(&keys, 0);
    length += discipline.fetch(&mut buffer[length..]);
    let waiting = discipline.input_waiting();
    let mut reads = Vec::new();
    while discipline.availability(wanted, 0, 0, false) == Availability::Now && reads.len() < 100 {
        let front = discipline.front(wanted);
        reads.push(text(&discipline.bytes(front.length).concat()));
        discipline.consume(front, front.length);
    }
    Seen { screen: text(&buffer[..length]), waiting, reads }
}

fn set(terminal: &File, termios: Termios) {
    let mut theirs = rustix::termios::tcgetattr(terminal).unwrap();
    theirs.input_modes = InputModes::from_bits_retain(termios.c_iflag);
    theirs.output_modes = OutputModes::from_bits_retain(termios.c_oflag);
    theirs.local_modes = LocalModes::from_bits_retain(termios.c_lflag);
    theirs.control_modes |= ControlModes::CREAD;
    use SpecialCodeIndex as Code;
    for (which, code) in [
        (ControlCharacter::Intr, Code::VINTR),
        (ControlCharacter::Quit, Code::VQUIT),
        (ControlCharacter::Erase, Code::VERASE),
        (ControlCharacter::Kill, Code::VKILL),
        (ControlCharacter::Eof, Code::VEOF),
        (ControlCharacter::Time, Code::VTIME),
        (ControlCharacter::Min, Code::VMIN),
        (ControlCharacter::Start, Code::VSTART),
        (ControlCharacter::Stop, Code::VSTOP),
        (ControlCharacter::Susp, Code::VSUSP),
        (ControlCharacter::Eol, Code::VEOL),
        (ControlCharacter::Reprint, Code::VREPRINT),
        (ControlCharacter::Werase, Code::VWERASE),
        (ControlCharacter::Lnext, Code::VLNEXT),
        (ControlCharacter::Eol2, Code::VEOL2),
    ] {
        theirs.special_codes[code] = termios.character(which);
    }
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &theirs).unwrap();
}

fn drain(master: &mut File, into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        into.extend_from_slice(&buffer[..count]);
    }
}

/// The same on a pseudoterminal of the host; `None` if it has none.
fn linux(termios: Termios, output: &[u8], keys: &[u8], wanted: usize, patience: Duration) -> Option<Seen> {
    let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok()?;
    grantpt(&master).ok()?;
    unlockpt(&master).ok()?;
    let name = ptsname(&master, Vec::new()).ok()?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut slave = File::from(rustix::fs::open(name, flags, Mode::empty()).ok()?);
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).ok()?;
    let mut master = File::from(master);
    set(&slave, termios);
    let mut screen = Vec::new();
    slave.write_all(output).unwrap();
    std::thread::sleep(patience);
    drain(&mut master, &mut screen);
    master.write_all(keys).unwrap();
    std::thread::sleep(patience);
    drain(&mut master, &mut screen);
    let waiting = rustix::io::ioctl_fionread(&slave).unwrap() as usize;
    let mut reads = Vec::new();
    let mut buffer = vec![0; wanted];
    while reads.len() < 100 {
        match slave.read(&mut buffer) {
            Ok(count) => reads.push(text(&buffer[..count])),
            Err(_) => break,
        }
    }
    Some(Seen { screen: text(&screen), waiting, reads })
}

fn compare(termios: Termios, output: &[u8], keys: &[u8], wanted: usize) -> bool {
    let ours = ours(termios, output, keys, wanted);
    for patience in [1, 20, 200] {
        match linux(termios, output, keys, wanted, Duration::from_millis(patience)) {
            None => return false,
            Some(theirs) if theirs == ours => return true,
            Some(theirs) if patience == 200 => {
                panic!(
                    "settings {termios:?}\noutput {}\nkeys {}\nwanted {wanted}\nLinux {theirs:#?}\nours {ours:#?}",
                    text(output),
                    text(keys)
                );
            }
            Some(_) => {}
        }
    }
    true
}

/// Keys that mean something, and some that don't.
const KEYS: &[u8] =
    b"abc  _9\t\t\n\n\r\x7f\x7f\x7f\x15\x17\x17\x04\x16\x12\x01\x1b\xc3\xa9\xe2\x82\xac\xff\x08\0A\xd7\xde\xdf\xf7";
const OUTPUT: &[u8] = b"ab \t\n\r\x08\xc3\xa9\x07X\xdf\xf7\xff";

#[test]
fn random_keys_do_what_they_do_on_linux() {
    let mut dice = Dice(20_260_101);
    for round in 0..300 {
        let mut termios = Termios::default();
        for flag in [
            InputFlags::ICRNL,
            InputFlags::INLCR,
            InputFlags::IGNCR,
            InputFlags::ISTRIP,
            InputFlags::IUCLC,
            InputFlags::IUTF8,
            InputFlags::IXON,
        ] {
            termios.c_iflag ^= if dice.roll(4) == 0 { flag.bits() } else { 0 };
        }
        for flag in [
            OutputFlags::OPOST,
            OutputFlags::ONLCR,
            OutputFlags::OCRNL,
            OutputFlags::ONOCR,
            OutputFlags::ONLRET,
            OutputFlags::OLCUC,
            OutputFlags::TAB3,
        ] {
            termios.c_oflag ^= if dice.roll(4) == 0 { flag.bits() } else { 0 };
        }
        for flag in [
            LocalFlags::ECHO,
            LocalFlags::ECHOE,
            LocalFlags::ECHOK,
            LocalFlags::ECHOKE,
            LocalFlags::ECHONL,
            LocalFlags::ECHOCTL,
            LocalFlags::ECHOPRT,
            LocalFlags::ICANON,
            LocalFlags::IEXTEN,
        ] {
            termios.c_lflag ^= if dice.roll(6) == 0 { flag.bits() } else { 0 };
        }
        // Linux loses count of columns here: it steps back for bytes of a character that took no column.
        if termios.input().contains(InputFlags::IUTF8) {
            termios.c_lflag &= !LocalFlags::ECHOPRT.bits();
        }
        if dice.roll(3) == 0 {
            termios.set_character(ControlCharacter::Eol, b'c');
        }
        let mut pick = |from: &[u8], most| -> Vec<u8> {
            (0..dice.roll(most)).map(|_| from[dice.roll(from.len() as u64) as usize]).collect()
        };
        let (output, keys) = (pick(OUTPUT, 12), pick(KEYS, 40));
        let wanted = [1, 2, 3, 5, 100][dice.roll(5) as usize];
        if !compare(termios, &output, &keys, wanted) {
            eprintln!("skipped after {round} rounds: this host has no pseudoterminals");
            return;
        }
    }
}

#[test]
fn long_lines_are_cut_as_on_linux() {
    let mut termios = Termios::default();
    termios.c_lflag &= !LocalFlags::ECHO.bits();
    for length in [4094, 4095, 4096, 4097, 5000] {
        let mut keys = vec![b'a'; length];
        keys.extend_from_slice(b"bc\n");
        compare(termios, b"", &keys, 10_000);
    }
}
