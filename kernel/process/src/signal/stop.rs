//! Stopping and continuing whole processes, as job control does.
//!
//! A stop begins when a thread takes a stopping signal whose action is the default. Every thread is told to park; when the
//! last has, the parent is told. `SIGCONT` takes the stop back at the moment it is *sent*, whatever is done with the signal
//! afterwards.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::Poll;

use abi::process::{CONTINUED_STATUS, stopped_status};
use abi::signal::{Signal, action_flags};

use super::{Information, ProcessSignals, attention, code, send};
use crate::{Process, Thread};

/// Where a process stands in being stopped. Under its signals' lock.
#[derive(Default)]
pub(crate) struct GroupStop {
    /// The signal that stops it, from the begin of the stop until it is continued.
    stopped_by: Option<Signal>,
    /// Threads that have not parked yet.
    running: usize,
    /// A thread has taken a stopping signal and is about to begin the stop. Whoever continues the process meanwhile
    /// takes this back.
    intended: bool,
}

/// What a parent can learn with wait(2) about a child that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was stopped by this signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
}

impl Report {
    /// The status word of wait(2).
    pub const fn wait_status(self) -> i32 {
        match self {
            Report::Stopped(signal) => stopped_status(signal),
            Report::Continued => CONTINUED_STATUS,
        }
    }
}

impl GroupStop {
    /// A thread takes a stopping signal.
    pub fn intend(&mut self) {
        self.intended = true;
    }

    /// Whether the process is stopped or stopping.
    pub const fn is_stopped(&self) -> bool {
        self.stopped_by.is_some()
    }
}

impl Process {
    /// Begins the stop a thread intended, unless the process was continued in between.
    pub(crate) fn stop_all(self: &Arc<Self>, signal: Signal) {
        let mut signals = self.signals().lock();
        if !core::mem::take(&mut signals.stop.intended) || signals.stop.is_stopped() || self.exit_status().is_some() {
            return;
        }
        signals.stop.stopped_by = Some(signal);
        signals.stop.running = 0;
        self.each_thread(|thread| {
            signals.stop.running += 1;
            thread.raise_attention(attention::STOP);
            thread.task().interrupt();
        });
    }

    /// `SIGCONT` was sent. True if there was a stop to take back.
    pub(crate) fn continue_all(&self, signals: &mut ProcessSignals) -> bool {
        signals.stop.intended = false;
        if signals.stop.stopped_by.take().is_none() {
            return false;
        }
        self.set_report(Some(Report::Continued));
        self.release_stopped();
        true
    }

    /// The process is to end: it can't stay stopped.
    pub(crate) fn cancel_stop(&self, signals: &mut ProcessSignals) {
        signals.stop = GroupStop::default();
        self.release_stopped();
    }

    fn release_stopped(&self) {
        self.each_thread(|thread| {
            thread.lower_attention(attention::STOP);
            thread.task().interrupt();
        });
    }

    /// A thread parked, or ended, during a stop. The last one completes it.
    pub(crate) fn thread_stopped(self: &Arc<Self>, signals: &mut ProcessSignals) -> Option<Report> {
        let signal = signals.stop.stopped_by?;
        signals.stop.running = signals.stop.running.checked_sub(1)?;
        if signals.stop.running > 0 {
            return None;
        }
        let report = Report::Stopped(signal);
        self.set_report(Some(report));
        Some(report)
    }

    /// Tells the parent that the process was stopped or continued.
    pub(crate) fn notify_parent_of_stop(self: &Arc<Self>, report: Report) {
        let Some(parent) = self.kernel().processes().process(self.parent_pid()) else { return };
        let (code, status) = match report {
            Report::Stopped(signal) => (code::CHILD_STOPPED, i32::from(signal.number())),
            Report::Continued => (code::CHILD_CONTINUED, i32::from(Signal::CONT.number())),
        };
        let quiet = parent.signals().lock().actions.get(Signal::CHLD).has(action_flags::NO_CHILD_STOP);
        if !quiet {
            let times = self.usage().ticks();
            let user = self.credentials().users.real;
            let _ = send::post(&parent, Information::child(Signal::CHLD, code, self.pid(), user, status, times));
        }
        parent.child_event().wake_all();
    }
}

impl Thread {
    /// Parks until the process is continued or has to end.
    pub(crate) async fn park_stopped(&self) {
        let process = self.process();
        let report = {
            let mut signals = process.signals().lock();
            if !self.has_attention(attention::STOP) {
                return;
            }
            self.set_stopped(true);
            process.thread_stopped(&mut signals)
        };
        if let Some(report) = report {
            process.notify_parent_of_stop(report);
        }
        poll_fn(|_| {
            let stays = self.has_attention(attention::STOP) && !self.has_attention(attention::EXIT);
            if stays { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        self.set_stopped(false);
    }
}
