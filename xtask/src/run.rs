//! `x run`: boots Orrery with this terminal as its console, or runs one command there.
//!
//! Standard input reaches the guest through its serial console. From a terminal each key is passed on as it is; Ctrl-A is
//! the escape key, as in QEMU: Ctrl-A x ends the machine, Ctrl-A twice sends Ctrl-A. Input that is no terminal is
//! text for the guest's console, which would take some bytes for keys, so those are quoted with Ctrl-V, and the end of the
//! input becomes Ctrl-D. It waits until the guest has prepared its console, which the session announces; what was printed
//! before the announcement is the boot's, and goes to standard error, so a command's output is its own. Input that is complete before the machine starts travels in the initramfs instead, byte for byte.

use crate::initramfs::{Initramfs, Session};
use crate::qemu::{Accelerator, Guest, Machine, Vm};
use crate::{build, linux, terminal};
use anyhow::{Context, Result, ensure};
use rustix::stdio::{stdin, stdout};
use rustix::termios::isatty;
use std::io::{Read, Write};
use std::process::{ChildStdin, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Our exit status when the user ended the machine with the escape key: that of a program ended with Ctrl-C.
const ENDED_BY_KEY: u8 = 130;

/// The same when nobody reads our output any more: that of a program ended with SIGPIPE.
const ENDED_BY_PIPE: u8 = 141;

/// What `x run` is asked for.
#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub hardware: Hardware,
    /// More words for the kernel's command line.
    #[arg(long, default_value = "", value_name = "WORDS", allow_hyphen_values = true)]
    append: String,
    /// Lets the kernel tell what it does while it boots.
    #[arg(long)]
    verbose: bool,
    /// A command to run instead of a shell; its exit status becomes ours.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The machine to boot on.
#[derive(clap::Args, Clone, Copy)]
pub struct Hardware {
    /// How many CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: u32,
    /// Memory in MiB (64, 64M) or GiB (1G).
    #[arg(long, default_value = "256M", value_parser = mebibytes)]
    pub memory: u32,
    /// QEMU's model of the machine.
    #[arg(long, value_enum, default_value = "q35")]
    pub machine: Machine,
    /// Whose kernel to boot.
    #[arg(long, value_enum, default_value = "orrery")]
    pub kernel: Guest,
    /// Instead of choosing between KVM and translation.
    #[arg(long, value_enum, env = "ORRERY_ACCEL")]
    pub accelerator: Option<Accelerator>,
}

fn mebibytes(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let number: u32 = digits.parse().map_err(|_| format!("'{text}' is no amount of memory: try 64M or 1G"))?;
    number.checked_mul(factor).filter(|&amount| amount > 0).ok_or_else(|| format!("'{text}' is no amount of memory"))
}

impl Hardware {
    /// The machine with this archive and these boot options, before its kernel's own.
    pub fn vm(&self, archive: Initramfs, options: &str) -> Result<Vm> {
        let mut archive = archive;
        let (kernel, own) = match self.kernel {
            Guest::Orrery => (build::kernel()?.image, String::new()),
            Guest::Linux => {
                linux_extras(&mut archive)?;
                (linux::kernel()?, format!("console=ttyS0 panic=-1 {}", linux::clock_hint(self.machine)))
            }
        };
        let mut vm = Vm::new(self.machine, kernel, archive.bytes(), format!("{own}{options}"));
        vm.cpus = self.cpus;
        vm.memory = self.memory;
        if let Some(accelerator) = self.accelerator {
            vm.accelerator = accelerator;
            vm.cpu = if accelerator == Accelerator::Kvm { "host" } else { "max" };
        }
        Ok(vm)
    }
}

/// What only a Linux guest needs: a program that ends the machine with a status.
pub fn linux_extras(archive: &mut Initramfs) -> Result<()> {
    for program in crate::programs::compile("user/linux")? {
        archive.program(&format!("sbin/{}", program.name), &program)?;
    }
    Ok(())
}

impl Run {
    /// Runs the machine to its end.
    pub fn run(self) -> Result<ExitCode> {
        let one_command = !self.command.is_empty();
        let (input, early) = Input::open(one_command)?;
        let archive = {
            let mut archive = Initramfs::standard()?;
            let mut stty = Vec::new();
            if !isatty(stdout()) {
                stty.extend(["-onlcr"]);
            }
            if !isatty(stdin()) {
                stty.extend(["-echo", "-icrnl", "-isig", "-ixon"]);
            }
            let window = terminal::window().filter(|_| self.hardware.kernel == Guest::Linux);
            archive.session(Session {
                command: self.command.clone(),
                input: early,
                terminal: stty,
                announced: one_command,
                window,
            });
            archive
        };
        let mut options = Vec::new();
        options.extend((!self.verbose).then(|| "quiet".to_string()));
        if self.hardware.kernel == Guest::Orrery {
            options.extend(terminal::window().map(|(rows, columns)| format!("console.size={rows}x{columns}")));
        }
        options.extend(std::env::var("TERM").ok().filter(|name| safe_word(name)).map(|name| format!("TERM={name}")));
        options.extend((!self.append.is_empty()).then_some(self.append));
        let vm = self.hardware.vm(archive, &options.join(" "))?;

        let raw = terminal::Raw::enter()?;
        let mut running = vm.start(Stdio::piped(), Stdio::piped())?;
        terminal::end_with_us(running.child.id())?;
        let keyboard = running.child.stdin.take().context("QEMU has no standard input")?;
        let mut screen = running.child.stdout.take().context("QEMU has no standard output")?;
        let pid = running.child.id();
        let escape = Arc::new(AtomicBool::new(false));
        let escaped = Arc::clone(&escape);
        let (ready, prepared) = channel();
        std::thread::spawn(move || {
            if one_command && !input.from_terminal {
                let _ = prepared.recv();
            }
            input.pass_on(keyboard, pid, &escaped);
        });
        if copy_output(&mut screen, one_command, ready)? == Shown::NobodyReads {
            return Ok(ExitCode::from(ENDED_BY_PIPE));
        }
        let status = running.wait();
        drop(raw);
        if escape.load(Ordering::Relaxed) {
            eprintln!("\nx: ended with Ctrl-A x");
            return Ok(ExitCode::from(ENDED_BY_KEY));
        }
        Ok(ExitCode::from(status?))
    }
}

/// May a word stand on the kernel's command line?
fn safe_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
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
            let announcement = text.iter().position(|&byte| byte == Session::ANNOUNCEMENT);
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
struct Input {
    pieces: Receiver<Vec<u8>>,
    /// Already read, not yet passed on.
    read: Vec<u8>,
    from_terminal: bool,
}

impl Input {
    /// Starts reading. When the input is no terminal, belongs to a command, and ends at once (a file, a finished pipe), the
    /// second value is all of it.
    fn open(for_command: bool) -> Result<(Input, Option<Vec<u8>>)> {
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
    fn pass_on(self, mut keyboard: ChildStdin, machine: u32, escape: &AtomicBool) {
        let mut typist = Typist::default();
        let mut escaped = false;
        for piece in std::iter::once(self.read).chain(self.pieces) {
            let keys = if self.from_terminal {
                match unescape(&piece, &mut escaped) {
                    Some(keys) => keys,
                    None => {
                        escape.store(true, Ordering::Relaxed);
                        let pid = i32::try_from(machine).ok().and_then(rustix::process::Pid::from_raw);
                        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
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
    fn memory_has_units() {
        assert_eq!(mebibytes("64"), Ok(64));
        assert_eq!(mebibytes("64M"), Ok(64));
        assert_eq!(mebibytes("2G"), Ok(2048));
        assert!(mebibytes("0").is_err() && mebibytes("x").is_err() && mebibytes("9999999999G").is_err());
    }

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
