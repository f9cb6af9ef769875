//! The user's terminal: made raw while a guest has it, and put back whatever happens.
//!
//! The saved settings are in one place that every way out can reach: the guard's drop, the panic hook (panics abort here,
//! so drops do not run), and the thread that waits for signals.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::sync::Mutex;

static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// While it lives the terminal is raw: each key goes to the guest.
pub struct Raw(());

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    pub fn enter() -> Result<Option<Raw>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let saved = tcgetattr(stdin()).context("cannot read the terminal's settings")?;
        let mut raw = saved.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(saved);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        tcsetattr(stdin(), OptionalActions::Drain, &raw).context("cannot make the terminal raw")?;
        Ok(Some(Raw(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was; once.
fn restore() {
    if let Some(saved) = SAVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &saved);
    }
}

/// From now on a signal that ends this program ends `child` first and puts the terminal back.
pub fn end_with_us(child: u32) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            restore();
            if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Rows and columns of the terminal we are on, if any.
pub fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
