//! Our standard streams connected to the serial console of a virtual machine.
//!
//! From a terminal each key is passed on as it is; Ctrl-A is the escape key, as in QEMU: Ctrl-A x ends the machine,
//! Ctrl-A twice sends Ctrl-A. Input that is no terminal is text for the guest's console, which would take some bytes
//! for keys, so those are quoted with Ctrl-V, and the end of the input becomes Ctrl-D. For one command it waits until
//! the guest has prepared its console, which the guest announces; what was printed before the announcement is the
//! boot's, and goes to standard error, so a command's output is its own. Input that is complete before the machine
//! starts travels in the initramfs instead, byte for byte.

use crate::qemu::Vm;
use crate::terminal::{self, Event};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::stdio::stdin;
use rustix::termios::isatty;
use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Separates what the boot printed from what the command prints: ASCII's record separator.
pub const ANNOUNCEMENT: u8 = 0x1e;

/// The exit status when the user ended the machine with the escape key: that of a program ended with Ctrl-C.
const ENDED_BY_KEY: u8 = 130;

/// The same when nobody reads our output any more: that of a program ended with SIGPIPE.
const ENDED_BY_PIPE: u8 = 141;

/// Starts the machine and stays its console until it ends. `announced`: it runs one command, and says when it begins
/// with [`ANNOUNCEMENT`]. Gives the exit status for us.
///
/// # Errors
/// When QEMU fails, or the machine stops without a status.
pub fn attach(vm: &Vm, input: Input, announced: bool) -> Result<u8> {
    let raw = terminal::Raw::enter()?;
    let mut running = vm.start(Stdio::piped(), Stdio::piped())?;
    let pid = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw).context("QEMU has no process number")?;
    terminal::answer_signals(move |event| {
        if event == Event::Ending {
            let _ = kill_process(pid, Signal::KILL);
        }
    })?;
    let keyboard = running.child.stdin.take().context("QEMU has no standard input")?;
    let mut screen = running.child.stdout.take().context("QEMU has no standard output")?;
    let escape = Arc::new(AtomicBool::new(false));
    let escaped = Arc::clone(&escape);
    let (ready, prepared) = channel();
    std::thread::spawn(move || {
        if announced && !input.from_terminal {
            let _ = prepared.recv();
        }
        input.pass_on(keyboard, pid, &escaped);
    });
    if copy_output(&mut screen, announced, ready)? == Shown::NobodyReads {
        return Ok(ENDED_BY_PIPE);
    }
    let status = running.wait();
    drop(raw);
    if escape.load(Ordering::Relaxed) {
        let _ = writeln!(std::io::stderr(), "\nended with Ctrl-A x");
        return Ok(ENDED_BY_KEY);
    }
    status
}

/// How showing the guest's output ended.
#[derive(PartialEq, Eq)]
enum Shown {
    All,
    NobodyReads,
}

/// Shows what the guest prints, until it ends: what comes before the announcement, if there is to be one, on standard
/// error. Dropping `ready` says that it came.
fn copy_output(screen: &mut impl Read, announced: bool, ready: Sender<()>) -> Result<Shown> {
    let mut ready = announced.then_some(ready);
    let mut buffer = [0; 16384];
    loop {
        let count = screen.read(&mut buffer).context("reading from QEMU")?;
        let Some(mut text) = buffer.get(..count).filter(|text| !text.is_empty()) else { return Ok(Shown::All) };
        if ready.is_some() {
            let announcement = text.iter().position(|&byte| byte == ANNOUNCEMENT);
            let (boot, session) = text.split_at(announcement.unwrap_or(text.len()));
            let _ = std::io::stderr().write_all(boot);
            text = session.get(1..).unwrap_or_default();
            if announcement.is_some() {
                ready = None;
            }
        }
        let mut out = std::io::stdout().lock();
        // As in `x run -- yes | head`: the guest is ended with us.
        if out.write_all(text).and_then(|()| out.flush()).is_err() {
            return Ok(Shown::NobodyReads);
        }
    }
}

/// Our standard input, read by a thread of its own.
#[derive(Debug)]
pub struct Input {
    pieces: Receiver<Vec<u8>>,
    /// Already read, not yet passed on.
    read: Vec<u8>,
    from_terminal: bool,
}

impl Input {
    /// Starts reading. When the input is no terminal, belongs to a command, and ends at once (a file, a finished pipe),
    /// the second value is all of it.
    ///
    /// # Errors
    /// When that is too much for an archive.
    pub fn open(for_command: bool) -> Result<(Input, Option<Vec<u8>>)> {
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = std::io::stdin().read(&mut buffer) {
                let piece = buffer.get(..count).unwrap_or_default().to_vec();
                if piece.is_empty() || sender.send(piece).is_err() {
                    return;
                }
            }
        });
        let mut input = Input { pieces, read: Vec::new(), from_terminal: isatty(stdin()) };
        if input.from_terminal || !for_command {
            return Ok((input, None));
        }
        let deadline = Instant::now() + Duration::from_millis(100);
        loop {
            match input.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => input.read.extend(piece),
                Err(RecvTimeoutError::Disconnected) => {
                    let all = std::mem::take(&mut input.read);
                    ensure!(all.len() < 1 << 30, "more than 1 GiB of input");
                    return Ok((input, Some(all)));
                }
                Err(RecvTimeoutError::Timeout) => return Ok((input, None)),
            }
        }
    }

    /// Passes the input on to the guest until it ends, or the user ends the machine.
    fn pass_on(self, mut keyboard: ChildStdin, machine: Pid, escape: &AtomicBool) {
        let mut typist = Typist::default();
        let mut escaped = false;
        for piece in std::iter::once(self.read).chain(self.pieces) {
            let keys = if self.from_terminal {
                match unescape(&piece, &mut escaped) {
                    Some(keys) => keys,
                    None => {
                        escape.store(true, Ordering::Relaxed);
                        let _ = kill_process(machine, Signal::TERM);
                        return;
                    }
                }
            } else {
                typist.quote(&piece)
            };
            if keyboard.write_all(&keys).is_err() {
                return;
            }
        }
        let _ = keyboard.write_all(&typist.end());
        // Keeps the console connected: the guest may go on printing, and reads what we sent at its own pace.
        std::mem::forget(keyboard);
    }
}

/// Takes the escape key's commands out of what was typed. `None`: the user wants to end the machine.
fn unescape(typed: &[u8], escaped: &mut bool) -> Option<Vec<u8>> {
    const ESCAPE: u8 = 1;
    let mut keys = Vec::new();
    for &key in typed {
        match (std::mem::take(escaped), key) {
            (false, ESCAPE) => *escaped = true,
            (true, b'x') => return None,
            (true, b'h') => eprint!("\r\nCtrl-A x: end the machine   Ctrl-A Ctrl-A: send Ctrl-A\r\n"),
            (_, key) => keys.push(key),
        }
    }
    Some(keys)
}

/// Turns bytes into keys that a terminal in canonical mode reads back as these bytes.
#[derive(Default)]
struct Typist {
    /// Bytes since the line began or was pushed with Ctrl-D.
    pending: usize,
}

impl Typist {
    const END_OF_FILE: u8 = 4;
    const QUOTE: u8 = 0x16;
    /// A terminal holds a line of 4096 bytes; longer ones are pushed to the reader in parts.
    const LONGEST: usize = 1024;

    fn quote(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut keys = Vec::with_capacity(bytes.len() + 16);
        for &byte in bytes {
            if byte == b'\n' {
                keys.push(byte);
                self.pending = 0;
                continue;
            }
            if byte < 0x20 && byte != b'\t' || byte == 0x7f {
                keys.push(Self::QUOTE);
            }
            keys.push(byte);
            self.pending += 1;
            if self.pending == Self::LONGEST {
                keys.push(Self::END_OF_FILE);
                self.pending = 0;
            }
        }
        keys
    }

    /// The end of the input: an unfinished line is pushed first.
    fn end(&self) -> Vec<u8> {
        vec![Self::END_OF_FILE; if self.pending > 0 { 2 } else { 1 }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_ends_and_ctrl_a_twice_is_sent() {
        let mut escaped = false;
        assert_eq!(unescape(b"a\x01", &mut escaped), Some(b"a".to_vec()));
        assert_eq!(unescape(b"\x01b", &mut escaped), Some(b"\x01b".to_vec()));
        assert_eq!(unescape(b"\x01x", &mut escaped), None);
    }

    #[test]
    fn keys_of_a_terminal_are_quoted_and_long_lines_pushed() {
        let mut typist = Typist::default();
        assert_eq!(typist.quote(b"a\x03\n"), b"a\x16\x03\n");
        assert_eq!(typist.end(), b"\x04");
        let long = typist.quote(&[b'x'; 1025]);
        assert_eq!(long.get(1024), Some(&4));
        assert_eq!(typist.end(), b"\x04\x04");
    }
}
