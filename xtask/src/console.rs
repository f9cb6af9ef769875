//! A console driven as a person does: type, then wait until something appears on the screen.
//!
//! It is a serial line of a virtual machine, or a terminal around the host machine. A thread reads what the guest prints; every wait has a time limit, and its failure shows the end of the screen.

use crate::hosted::{self, Hosted};
use crate::qemu::{self, Vm};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A running machine and its screen.
pub struct Console {
    machine: Running,
    keyboard: Box<dyn Write + Send>,
    pieces: Receiver<Vec<u8>>,
    /// Everything printed so far.
    screen: Vec<u8>,
    /// How much of it earlier waits have passed.
    seen: usize,
    started: Instant,
}

/// The process of a machine. Dropping it ends the machine.
enum Running {
    Vm(qemu::Running),
    Hosted(hosted::Running),
}

impl Running {
    fn id(&self) -> u32 {
        match self {
            Running::Vm(vm) => vm.child.id(),
            Running::Hosted(machine) => machine.child.id(),
        }
    }

    /// The guest's exit status, after its end.
    fn wait(self) -> Result<u8> {
        match self {
            Running::Vm(vm) => vm.wait(),
            Running::Hosted(mut machine) => {
                let ended = machine.child.wait().context("waiting for orrery")?;
                ended.code().map(|code| code as u8).with_context(|| format!("orrery ended without a status: {ended}"))
            }
        }
    }
}

/// Keys that are no letters.
pub mod key {
    pub const CTRL_C: &str = "\x03";
    pub const CTRL_D: &str = "\x04";
    pub const CTRL_Z: &str = "\x1a";
    pub const CTRL_BACKSLASH: &str = "\x1c";
    pub const CTRL_U: &str = "\x15";
    pub const TAB: &str = "\t";
    pub const ENTER: &str = "\r";
    pub const ESCAPE: &str = "\x1b";
    pub const BACKSPACE: &str = "\x7f";
    pub const UP: &str = "\x1b[A";
    pub const LEFT: &str = "\x1b[D";
}

impl Console {
    /// Starts a virtual machine.
    pub fn start(vm: &Vm) -> Result<Console> {
        let started = Instant::now();
        let mut machine = vm.start(Stdio::piped(), Stdio::piped())?;
        let keyboard = machine.child.stdin.take().context("QEMU has no standard input")?;
        let output = machine.child.stdout.take().context("QEMU has no standard output")?;
        Ok(Console::new(Running::Vm(machine), keyboard, output, started))
    }

    /// Starts the host machine.
    pub fn start_on_host(machine: &Hosted) -> Result<Console> {
        let started = Instant::now();
        let (running, terminal) = machine.start()?;
        Ok(Console::new(Running::Hosted(running), terminal.try_clone()?, terminal, started))
    }

    fn new(
        machine: Running,
        keyboard: impl Write + Send + 'static,
        mut output: impl Read + Send + 'static,
        started: Instant,
    ) -> Console {
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 16384];
            while let Ok(count) = output.read(&mut buffer) {
                let piece = buffer.get(..count).unwrap_or_default().to_vec();
                if piece.is_empty() || sender.send(piece).is_err() {
                    return;
                }
            }
        });
        Console { machine, keyboard: Box::new(keyboard), pieces, screen: Vec::new(), seen: 0, started }
    }

    /// Types this.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("the machine takes no more keys")
    }

    /// Waits until `text` appears after what earlier waits have seen; gives what came before it.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let length = text.len();
        self.wait(&format!("{text:?}"), limit, |screen| Some((find(screen, text.as_bytes())?, length)))
    }

    /// Waits for the shell's prompt: a last line such as `/root # `. Gives what came before it.
    pub fn expect_prompt(&mut self, limit: Duration) -> Result<String> {
        self.wait("a prompt", limit, |screen| {
            let line = screen.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            let last = without_escapes(screen.get(line..)?);
            let prompt = matches!(last.first(), Some(b'/' | b'~')) && last.ends_with(b"# ");
            prompt.then(|| (line, screen.len() - line))
        })
    }

    /// Types a command at the prompt, waits for the next prompt, and gives what was printed between, without the echo.
    pub fn command(&mut self, command: &str, limit: Duration) -> Result<String> {
        self.send(command)?;
        self.send(key::ENTER)?;
        self.expect("\n", limit)?;
        let output = self.expect_prompt(limit).with_context(|| format!("after the command {command:?}"))?;
        Ok(output.replace('\r', ""))
    }

    /// Waits until the machine has ended by itself; gives its exit status and everything it printed.
    pub fn end(mut self, limit: Duration) -> Result<(u8, String)> {
        let deadline = Instant::now() + limit;
        loop {
            match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.screen.extend(piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the machine has not ended after {limit:?}; the screen's end:\n{}", self.tail())
                }
            }
        }
        let screen = String::from_utf8_lossy(&self.screen).replace('\r', "");
        let tail = self.tail();
        let status = self.machine.wait().with_context(|| format!("the screen's end:\n{tail}"))?;
        Ok((status, screen))
    }

    /// Everything the machine prints until it has ended or time is up, whatever its exit status.
    pub fn screen_at_end(mut self, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.screen.extend(piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.screen.extend(format!("\n[the machine has not ended after {limit:?}]\n").bytes());
                    break;
                }
            }
        }
        String::from_utf8_lossy(&self.screen).replace('\r', "")
    }

    /// Time since the machine was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The machine's process.
    pub fn process(&self) -> u32 {
        self.machine.id()
    }

    /// Processor time that the machine's process has used so far.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process()))?;
        // Fields 14 and 15 of proc(5), counted after the name in parentheses; in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).context("/proc's stat");
        Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    /// Waits until `matched` finds something in what is new on the screen: where it begins and how long it is.
    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        matched: impl Fn(&[u8]) -> Option<(usize, usize)>,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let new = self.screen.get(self.seen..).unwrap_or_default();
            if let Some((begin, length)) = matched(new) {
                let before = String::from_utf8_lossy(new.get(..begin).unwrap_or_default()).into_owned();
                self.seen += begin + length;
                return Ok(before);
            }
            match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.screen.extend(piece),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("waited {limit:?} for {what}; the screen's end:\n{}", self.tail())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the machine ended while we waited for {what}; the screen's end:\n{}", self.tail())
                }
            }
        }
    }

    /// The last lines of the screen, for messages.
    fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.screen).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(40);
        lines.get(from..).unwrap_or_default().iter().map(|line| format!("    | {line}\n")).collect()
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// What a person sees: without the sequences that move the cursor or ask the terminal where it is.
fn without_escapes(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            0x1b => {
                let _ = bytes.next();
                // Where the cursor is moved to, another line begins.
                if bytes.by_ref().find(u8::is_ascii_alphabetic) == Some(b'H') {
                    shown.clear();
                }
            }
            b'\r' => {}
            _ => shown.push(byte),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_seen_through_escapes() {
        assert_eq!(without_escapes(b"/ # \x1b[6n"), b"/ # ");
        assert_eq!(without_escapes(b"\r\x1b[Ja\x1b[1;32mb"), b"ab");
        assert_eq!(without_escapes(b"(END)\x1b[24;0H\x1b[K/ # "), b"/ # ");
        assert_eq!(find(b"abcabd", b"abd"), Some(3));
    }
}
