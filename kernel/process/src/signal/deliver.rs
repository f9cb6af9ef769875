//! What a thread does with its signals on its way to user mode.

use alloc::sync::Arc;

use abi::signal::{Signal, SignalAction, SignalSet, action_flags};

use super::action::{DefaultAction, default_of};
use super::{Information, frame, send};
use crate::process::ExitStatus;
use crate::run::resume_call;
use crate::{Interrupted, Thread};

/// What is to be done about a signal that was taken.
enum Delivery {
    /// Call the program's handler.
    Handle(Information, SignalAction),
    /// Stop the process.
    Stop(Signal),
    /// End the process.
    Terminate(Signal),
    /// Nothing is pending.
    Nothing,
}

impl Thread {
    /// Takes the next signal that isn't blocked and decides what it does.
    fn take_signal(&self) -> Delivery {
        let process = self.process();
        let mut signals = process.signals().lock();
        loop {
            let taken = {
                let mut own = self.signals().lock();
                let open = SignalSet(!own.mask.0);
                own.pending.take(open).or_else(|| signals.pending.take(open))
            };
            process.publish_pending(&signals);
            let Some(information) = taken else {
                self.review_attention();
                return Delivery::Nothing;
            };
            let signal = information.signal;
            let action = signals.actions.get(signal);
            match action.handler {
                SignalAction::IGNORE => {}
                SignalAction::DEFAULT if process.is_unkillable() => {}
                SignalAction::DEFAULT => match default_of(signal) {
                    DefaultAction::Ignore => {}
                    DefaultAction::Stop => {
                        signals.stop.intend();
                        return Delivery::Stop(signal);
                    }
                    DefaultAction::Terminate => return Delivery::Terminate(signal),
                },
                _ => {
                    if action.has(action_flags::RESET_HANDLER) {
                        Arc::make_mut(&mut signals.actions).set(signal, SignalAction::default());
                    }
                    return Delivery::Handle(information, action);
                }
            }
        }
    }

    /// Delivers one signal. `interrupted` is the call that a signal interrupted, if one did: whether it fails or starts
    /// again is decided here. Returns whether to look again.
    pub(crate) async fn deliver(self: &Arc<Self>, interrupted: &mut Option<Interrupted>) -> bool {
        match self.take_signal() {
            Delivery::Nothing => return false,
            Delivery::Terminate(signal) => {
                let _signals = self.process().signals().lock();
                self.process().begin_exit(ExitStatus::Killed(signal));
            }
            Delivery::Stop(signal) => {
                // Nobody would ever continue a group that no shell looks after; SIGSTOP alone stops even there.
                let process = self.process();
                if signal == Signal::STOP || !process.group().is_orphaned() {
                    process.stop_all(signal);
                }
            }
            Delivery::Handle(information, action) => {
                if let Some(interrupted) = interrupted.take() {
                    let restarts = match interrupted {
                        Interrupted::RestartAlways => true,
                        Interrupted::Restart => action.has(action_flags::RESTART),
                        Interrupted::Eintr | Interrupted::RestartUnlessHandled | Interrupted::RestartBlock(_) => false,
                    };
                    self.with_registers(|registers| resume_call(registers, restarts));
                }
                if frame::call_handler(self, &information, &action).await.is_err() {
                    self.fail_delivery(information.signal);
                }
            }
        }
        true
    }

    /// The stack can't take a frame: `SIGSEGV`, which ends the process if it was that very signal.
    fn fail_delivery(self: &Arc<Self>, signal: Signal) {
        if signal == Signal::SEGV {
            send::force_fatal(self, Signal::SEGV);
        } else {
            send::force(self, Information::kernel(Signal::SEGV));
        }
    }
}
