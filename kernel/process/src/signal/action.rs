//! What is done with each signal: sigaction(2).

use alloc::sync::Arc;

use abi::signal::{MAXIMUM, Signal, SignalAction, SignalSet, action_flags};
use abi::{Errno, Result};

use crate::Thread;

/// An action for each signal.
#[derive(Clone)]
pub struct Actions([SignalAction; MAXIMUM as usize]);

impl Default for Actions {
    fn default() -> Self {
        Actions([SignalAction::default(); MAXIMUM as usize])
    }
}

/// What happens to a process that has no handler for a signal, signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// It ends.
    Terminate,
    /// Nothing.
    Ignore,
    /// It stops.
    Stop,
}

/// The default action of a signal. A core dump is not written yet, so "core" is "terminate".
pub const fn default_of(signal: Signal) -> DefaultAction {
    match signal {
        Signal::CHLD | Signal::CONT | Signal::URG | Signal::WINCH => DefaultAction::Ignore,
        Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => DefaultAction::Stop,
        _ => DefaultAction::Terminate,
    }
}

impl Actions {
    /// The action of a signal.
    pub fn get(&self, signal: Signal) -> SignalAction {
        self.0.get(usize::from(signal.number()) - 1).copied().unwrap_or_default()
    }

    /// Sets the action of a signal.
    pub fn set(&mut self, signal: Signal, action: SignalAction) {
        if let Some(place) = self.0.get_mut(usize::from(signal.number()) - 1) {
            *place = action;
        }
    }

    /// Whether a signal does nothing: ignored, or by default and without consequence.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).handler {
            SignalAction::IGNORE => true,
            SignalAction::DEFAULT => default_of(signal) == DefaultAction::Ignore,
            _ => false,
        }
    }

    /// The signals that are ignored on request, and those that have handlers: `SigIgn` and `SigCgt` of /proc/PID/status.
    pub fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let (mut ignored, mut caught) = (SignalSet::EMPTY, SignalSet::EMPTY);
        for signal in SignalSet(u64::MAX).iter() {
            match self.get(signal).handler {
                SignalAction::DEFAULT => {}
                SignalAction::IGNORE => ignored.insert(signal),
                _ => caught.insert(signal),
            }
        }
        (ignored, caught)
    }

    /// What execve(2) leaves: handlers are gone, ignored signals stay ignored. `None` if that changes nothing.
    pub fn executed(&self) -> Option<Actions> {
        let keep = |action: &SignalAction| *action == SignalAction::default() || *action == IGNORED;
        if self.0.iter().all(keep) {
            return None;
        }
        let reset = |action: SignalAction| {
            if action.handler == SignalAction::IGNORE { IGNORED } else { SignalAction::default() }
        };
        Some(Actions(self.0.map(reset)))
    }
}

const IGNORED: SignalAction = SignalAction { handler: SignalAction::IGNORE, ..SignalAction::NONE };

/// rt_sigaction(2): returns the old action, and sets a new one if there is one.
///
/// # Errors
/// `EINVAL` for a new action of `SIGKILL` or `SIGSTOP`.
pub fn set(thread: &Thread, signal: Signal, new: Option<SignalAction>) -> Result<SignalAction> {
    let process = thread.process();
    let mut signals = process.signals().lock();
    let old = signals.actions.get(signal);
    let Some(mut new) = new else { return Ok(old) };
    if SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    new.flags &= action_flags::KNOWN;
    new.mask = new.mask.without(SignalSet::UNBLOCKABLE);
    if new == old {
        return Ok(old);
    }
    let actions = Arc::make_mut(&mut signals.actions);
    actions.set(signal, new);
    // POSIX: a signal that is pending when it becomes ignored is gone, blocked or not.
    if actions.ignores(signal) {
        let gone = SignalSet::of(&[signal]);
        signals.pending.discard(gone);
        process.publish_pending(&signals);
        process.each_thread(|thread| thread.signals().lock().pending.discard(gone));
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn execve_keeps_only_what_is_ignored() {
        let mut actions = Actions::default();
        assert!(actions.executed().is_none());
        actions.set(Signal::INT, SignalAction { handler: 0x1000, flags: 4, ..SignalAction::default() });
        actions.set(Signal::HUP, SignalAction { handler: 1, flags: 4, ..SignalAction::default() });
        let (ignored, caught) = actions.ignored_and_caught();
        assert_eq!((ignored, caught), (SignalSet::of(&[Signal::HUP]), SignalSet::of(&[Signal::INT])));
        let executed = actions.executed().unwrap();
        assert_eq!(executed.get(Signal::INT), SignalAction::default());
        assert_eq!(executed.get(Signal::HUP), IGNORED);
        assert!(executed.executed().is_none());
    }

    #[test]
    fn what_is_harmless_by_default_is_ignored() {
        let actions = Actions::default();
        assert!(actions.ignores(Signal::CHLD) && actions.ignores(Signal::CONT));
        assert!(!actions.ignores(Signal::TSTP) && !actions.ignores(Signal::new(40).unwrap()));
    }
}
