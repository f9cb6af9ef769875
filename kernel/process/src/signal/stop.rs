//! Stopping and continuing whole processes, as job control does.
//!
//! A stop begins when a thread takes a stopping signal whose action is the default. Every thread is told to look, and parks; when
//! the last has, the parent is told. `SIGCONT` takes the stop back at the moment it is *sent*, whatever is done with the signal
//! afterwards: the threads are told to look again, and find the process not stopped. Very many are told in slices.
//!
//! Stops are numbered, and each thread notes the last one it was counted in. A thread that is still parked from one stop when the next
//! begins is counted anew, though it never ran in between; one that ends after it was counted is not counted twice.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::Poll;

use abi::process::{CONTINUED_STATUS, stopped_status};
use abi::signal::{Signal, action_flags};

use super::deferred::AT_ONCE;
use super::{Information, ProcessSignals, attention, code, send};
use crate::{Process, Thread, ThreadState};

/// Where a process stands in being stopped. Under its signals' lock.
#[derive(Clone, Default)]
pub(crate) struct GroupStop {
    /// The signal that stops it, from the begin of the stop until it is continued.
    stopped_by: Option<Signal>,
    /// Threads that have not parked yet.
    running: usize,
    /// How many stops there have been, this one included.
    number: u64,
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

    /// The stop that `signal` causes begins, with no thread counted yet.
    fn begin(&mut self, signal: Signal) {
        self.stopped_by = Some(signal);
        self.number += 1;
        self.running = 0;
    }

    /// A thread shares in the stop: it is to park. One that is counted already, or comes when the stop is complete, is not waited
    /// for.
    fn count_in(&mut self, joined: &mut u64) {
        if *joined != self.number {
            self.running += 1;
        }
    }

    /// A thread has parked, or ends. True if that completes the stop.
    fn count_out(&mut self, joined: &mut u64) -> bool {
        if self.stopped_by.is_none() || core::mem::replace(joined, self.number) == self.number {
            return false;
        }
        self.running -= 1;
        self.running == 0
    }

    /// The stop is over: what is counted in it counts no more. True if there was one.
    fn end(&mut self) -> bool {
        self.intended = false;
        self.stopped_by.take().is_some()
    }

    /// A new thread shares in a stop.
    pub fn join(&mut self, thread: &ThreadState) {
        if !self.is_stopped() {
            return;
        }
        let mut own = thread.signals().lock();
        if self.running == 0 {
            own.joined_stop = self.number;
        }
        self.count_in(&mut own.joined_stop);
        thread.raise_attention(attention::STOP);
    }
}

/// How many threads are told to look in a slice.
pub(super) const NUDGED: usize = 16;

impl Process {
    /// Begins the stop a thread intended, unless the process was continued in between.
    pub(crate) fn stop_all(self: &Arc<Self>, signal: Signal) {
        let mut signals = self.signals().lock();
        if !core::mem::take(&mut signals.stop.intended) || signals.stop.is_stopped() || self.exit_status().is_some() {
            return;
        }
        signals.stop.begin(signal);
        self.each_thread(|thread| {
            let mut own = thread.signals().lock();
            if !own.ending {
                signals.stop.count_in(&mut own.joined_stop);
                thread.raise_attention(attention::STOP);
            }
        });
        self.nudge_all();
    }

    /// `SIGCONT` was sent. True if there was a stop to take back. Edge 9 of the life of a thread.
    pub(crate) fn continue_all(self: &Arc<Self>, signals: &mut ProcessSignals) -> bool {
        if !signals.stop.end() {
            return false;
        }
        self.set_report(Some(Report::Continued));
        self.nudge_all();
        true
    }

    /// The process is to end: it can't stay stopped.
    pub(crate) fn cancel_stop(self: &Arc<Self>, signals: &mut ProcessSignals) {
        if signals.stop.end() {
            self.nudge_all();
        }
    }

    /// Every thread is to look whether the process is stopped: some hundred are told now, the others by a task of the kernel.
    fn nudge_all(self: &Arc<Self>) {
        if self.begin_nudging(AT_ONCE) {
            self.kernel().deferred().stop(self);
        }
    }

    /// Tells some more. False if that were all.
    pub(super) fn nudge_some(&self) -> bool {
        self.nudge(NUDGED)
    }

    /// A thread parked, or ended, during a stop. The last one completes it.
    pub(crate) fn thread_stopped(&self, signals: &mut ProcessSignals, thread: &ThreadState) -> Option<Report> {
        if !signals.stop.count_out(&mut thread.signals().lock().joined_stop) {
            return None;
        }
        let report = Report::Stopped(signals.stop.stopped_by?);
        self.set_report(Some(report));
        Some(report)
    }

    /// Tells the parent that the process was stopped or continued.
    pub(crate) fn notify_parent_of_stop(self: &Arc<Self>, report: Report) {
        let Some(parent) = self.parent() else { return };
        let (code, status) = match report {
            Report::Stopped(signal) => (code::CHILD_STOPPED, i32::from(signal.number())),
            Report::Continued => (code::CHILD_CONTINUED, i32::from(Signal::CONT.number())),
        };
        let quiet = parent.signals().lock().actions.get(Signal::CHLD).has(action_flags::NO_CHILD_STOP);
        if !quiet {
            let times = self.usage().ticks();
            let user = self.credentials().users.real;
            let _ = send::post(
                &parent,
                Information::child(Signal::CHLD, code, parent.pid_number(self.pid()), user, status, times),
            );
        }
        parent.child_event().wake_all();
    }
}

impl Thread {
    /// Parks until the process is continued or has to end. A stop that follows at once finds the thread parked, and counts it all
    /// the same. Edge 8 of the life of a thread.
    pub(crate) async fn park_stopped(&self) {
        poll_fn(|_| {
            let report = {
                let mut signals = self.process().signals().lock();
                let stays = signals.stop.is_stopped() && !self.has_attention(attention::EXIT);
                self.set_stopped(stays);
                if !stays {
                    self.lower_attention(attention::STOP);
                    return Poll::Ready(());
                }
                self.process().thread_stopped(&mut signals, self)
            };
            if let Some(report) = report {
                self.process().notify_parent_of_stop(report);
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
#[path = "stop_tests.rs"]
mod tests;
