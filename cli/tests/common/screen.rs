//! A terminal with a person before it: a pseudoterminal whose other side is typed at and looked at.

use super::{PATIENCE, Run, Tool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub struct Screen {
    master: OwnedFd,
    slave: OwnedFd,
    first_settings: Termios,
    shown: Vec<u8>,
    /// How much of it earlier waits have passed.
    seen: usize,
    pub child: Child,
    pub tool: Tool,
}

/// Whether two settings are the same, as far as they can be set.
pub fn same(left: &Termios, right: &Termios) -> bool {
    (left.input_modes, left.output_modes, left.control_modes, left.local_modes)
        == (right.input_modes, right.output_modes, right.control_modes, right.local_modes)
}

impl Screen {
    /// Starts a command with the terminal as its streams and its controlling terminal. setsid(1) makes the session.
    pub fn start(run: Run) -> Screen {
        let Run { command, tool } = run;
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudoterminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("its other side");
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");

        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args()).env("TERM", "dumb");
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(&mut session, slave.try_clone().expect("a descriptor"));
        }
        let first_settings = tcgetattr(slave.as_fd()).expect("the terminal's settings");
        let child = session.spawn().expect("the tests need setsid(1), of util-linux");
        Screen { master, slave, first_settings, shown: Vec::new(), seen: 0, child, tool }
    }

    /// Looks at what is shown within this time.
    fn look(&mut self, patience: Duration) {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        let patience = Timespec::try_from(patience).expect("a time");
        if poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0) {
            let mut buffer = [0; 4096];
            let count = rustix::io::read(&self.master, &mut buffer).unwrap_or(0);
            self.shown.extend(&buffer[..count]);
        }
    }

    /// The terminal's settings before the command had it.
    pub fn first_settings(&self) -> Termios {
        self.first_settings.clone()
    }

    pub fn settings(&self) -> Termios {
        tcgetattr(self.slave.as_fd()).expect("the terminal's settings")
    }

    pub fn type_keys(&self, keys: &str) {
        let mut left = keys.as_bytes();
        while !left.is_empty() {
            let count = rustix::io::write(&self.master, left).expect("typing");
            left = &left[count..];
        }
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a size");
    }

    /// Waits until this is shown, after what was waited for before.
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fresh = &self.shown[self.seen..];
            if let Some(at) = fresh.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("'{text}' was not shown. The screen:\n{}", String::from_utf8_lossy(&self.shown));
            }
            self.look(Duration::from_millis(100));
        }
    }

    /// Waits for the end of the command; gives its status. Nothing is left of it.
    pub fn end(self) -> Option<i32> {
        self.end_with_settings().0
    }

    /// The same, with the settings the terminal has then.
    pub fn end_with_settings(mut self) -> (Option<i32>, Termios) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            // What is still printed must be taken, or the command waits for that.
            self.look(Duration::from_millis(5));
            if let Some(status) = self.child.try_wait().expect("waiting") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("it did not end. The screen:\n{}", String::from_utf8_lossy(&self.shown));
            }
        };
        self.tool.nothing_is_left();
        (status.code(), self.settings())
    }

    /// The terminal goes away, as when its window is closed.
    pub fn close(self) -> (Child, Tool) {
        (self.child, self.tool)
    }
}
