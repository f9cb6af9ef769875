//! The user's terminal: made raw while a guest has it, and put back whatever happens.
//!
//! The saved settings are in one place that every way out can reach: the guard's drop, the panic hook (a panic may
//! abort, so that drops do not run), and the thread that waits for signals. A terminal that another process of the same
//! name left raw is not repaired: what is put back is what was found.

use anyhow::{Context, Result};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH, SIGXFSZ};
use std::sync::{Mutex, PoisonError};

static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// While it lives the terminal is raw: each key goes to the guest.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    ///
    /// # Errors
    /// When the terminal does not let itself be set: it may have gone away.
    pub fn enter() -> Result<Option<Raw>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let saved = tcgetattr(stdin()).context("cannot read the terminal's settings")?;
        let raw = raw_form(&saved);
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        let guard = Raw(());
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("cannot make the terminal raw")?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn raw_form(settings: &Termios) -> Termios {
    let mut raw = settings.clone();
    raw.make_raw();
    raw
}

/// Puts the terminal back as it was; once. Does not wait for output to be shown, which may never happen.
pub fn restore() {
    if let Some(saved) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &saved);
    }
}

/// What a signal told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The window has these rows and columns now.
    Resized(u16, u16),
    /// We are to end; the terminal is already as it was. After the call the process exits with 128 and the signal's
    /// number.
    Ending,
}

/// Starts the thread that answers signals: those that end a program, a resized window, and going on after a stop.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn answer_signals(mut on: impl FnMut(Event) + Send + 'static) -> Result<()> {
    let kinds = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH, SIGCONT, SIGXFSZ];
    let mut signals = signal_hook::iterator::Signals::new(kinds).context("cannot handle signals")?;
    let answer = move || {
        for signal in signals.forever() {
            match signal {
                SIGWINCH => {
                    if let Some((rows, columns)) = window() {
                        on(Event::Resized(rows, columns));
                    }
                }
                SIGCONT => raw_again(),
                // A file would have become larger than our limit. The call that tried says so too, to whom it concerns.
                SIGXFSZ => {}
                ending => {
                    restore();
                    on(Event::Ending);
                    std::process::exit(128 + ending);
                }
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(answer).context("cannot start a thread")?;
    Ok(())
}

/// A shell gives its own settings to the terminal while we are stopped.
fn raw_again() {
    if let Some(saved) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &raw_form(saved));
    }
}

/// Rows and columns of the terminal we are on, if any.
pub fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
