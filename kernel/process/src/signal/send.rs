//! Posting signals: kill(2), tgkill(2), rt_sigqueueinfo(2), and the kernel's own.
//!
//! Posting decides at once what can be decided: a signal that is ignored is dropped, one that will kill the process makes all
//! its threads end. What remains is pending, and one thread that doesn't block it is interrupted.

use alloc::sync::Arc;

use abi::signal::{Signal, SignalAction, SignalInfo, SignalSet};
use abi::{Errno, Result};

use super::action::{DefaultAction, default_of};
use super::{Information, attention, code};
use crate::limits::Resource;
use crate::process::ExitStatus;
use crate::{Kernel, Pid, Process, Thread};

/// Posts a signal to a process: to whichever of its threads takes it.
///
/// # Errors
/// `EAGAIN`: a real-time signal a program queued, and there are too many.
pub fn post(process: &Arc<Process>, information: Information) -> Result<()> {
    post_to(process, None, information)
}

/// Posts a signal to one thread.
///
/// # Errors
/// As [`post`].
pub fn post_thread(thread: &Thread, information: Information) -> Result<()> {
    post_to(thread.process(), Some(thread), information)
}

fn post_to(process: &Arc<Process>, target: Option<&Thread>, information: Information) -> Result<()> {
    let signal = information.signal;
    let mut signals = process.signals().lock();
    if process.is_dead() {
        return Ok(());
    }
    // A stop and a continuation each take back what is pending of the other.
    let gone = match signal {
        Signal::CONT => SignalSet::STOPPING,
        _ if SignalSet::STOPPING.contains(signal) => SignalSet::of(&[Signal::CONT]),
        _ => SignalSet::EMPTY,
    };
    if !gone.is_empty() {
        signals.pending.discard(gone);
        process.each_thread(|thread| thread.signals().lock().pending.discard(gone));
        process.publish_pending(&signals);
    }
    let continued = signal == Signal::CONT && process.continue_all(&mut signals);
    if signal == Signal::KILL {
        process.cancel_stop(&mut signals);
    }
    let result = queue(process, &mut signals, target, information);
    drop(signals);
    if continued {
        process.notify_parent_of_stop(super::Report::Continued);
    }
    result
}

fn queue(
    process: &Arc<Process>,
    signals: &mut super::ProcessSignals,
    target: Option<&Thread>,
    information: Information,
) -> Result<()> {
    let signal = information.signal;
    let action = signals.actions.get(signal);
    let is_default = action.handler == SignalAction::DEFAULT;
    let useless = is_default && process.is_unkillable() || signals.actions.ignores(signal);
    // A blocked signal is kept even if it is ignored now: the action may change before it is unblocked.
    let blocked = |thread: &Thread| thread.signals().lock().mask.contains(signal);
    let first_blocks = match target {
        Some(thread) => blocked(thread),
        None => process.first_thread().is_some_and(|thread| blocked(&thread)),
    };
    if useless && !first_blocks {
        return Ok(());
    }
    let fatal = is_default && default_of(signal) == DefaultAction::Terminate;
    // Who is stopped takes nothing before it goes on, except for KILL.
    let takes = !signals.stop.is_stopped() && would_take(process, target, signal);
    if fatal && (signal == Signal::KILL || takes) {
        process.begin_exit(ExitStatus::Killed(signal));
        return Ok(());
    }
    let limited = signal.is_real_time() && information.code != code::USER && !information.is_from_kernel();
    match target {
        Some(thread) => {
            let mut own = thread.signals().lock();
            if limited && own.pending.queued() as u64 >= process.limits().soft(Resource::PendingSignals) {
                return Err(Errno::EAGAIN);
            }
            if own.pending.add(information) && own.wants(signal) {
                alert(thread, &own, signal);
            }
        }
        None => {
            if limited && signals.pending.queued() as u64 >= process.limits().soft(Resource::PendingSignals) {
                return Err(Errno::EAGAIN);
            }
            if signals.pending.add(information) {
                process.publish_pending(signals);
                process.find_thread(|thread| {
                    let own = thread.signals().lock();
                    let wants = own.wants(signal);
                    if wants {
                        alert(thread, &own, signal);
                    }
                    wants
                });
            }
        }
    }
    Ok(())
}

/// Makes a thread look. The caller holds its signals' lock.
fn alert(thread: &Thread, own: &super::ThreadSignals, signal: Signal) {
    if !own.mask.contains(signal) {
        thread.raise_attention(attention::SIGNAL);
    }
    thread.task().interrupt();
}

/// Whether a thread would take the signal now, so that its default action can be taken at once.
fn would_take(process: &Process, target: Option<&Thread>, signal: Signal) -> bool {
    let open = |thread: &Thread| {
        let own = thread.signals().lock();
        !own.mask.contains(signal) && !own.awaited.contains(signal)
    };
    match target {
        Some(thread) => open(thread),
        None => process.find_thread(|thread| open(thread)),
    }
}

/// Posts a signal the thread can't avoid: a fault. If it is blocked or ignored, its action becomes the default.
pub fn force(thread: &Thread, information: Information) {
    let signal = information.signal;
    let process = thread.process();
    {
        let mut signals = process.signals().lock();
        let mut own = thread.signals().lock();
        let action = signals.actions.get(signal);
        let blocked = own.mask.contains(signal);
        if blocked || action.handler == SignalAction::IGNORE {
            own.mask.remove(signal);
            Arc::make_mut(&mut signals.actions).set(signal, SignalAction::default());
        }
        if signals.actions.get(signal).handler == SignalAction::DEFAULT {
            process.set_unkillable(false);
        }
    }
    let _ = post_thread(thread, information);
}

/// Ends the process with `SIGSEGV`, whatever it wants done with it: its stack can't take a frame.
pub(crate) fn force_fatal(thread: &Thread, signal: Signal) {
    let process = thread.process();
    process.set_unkillable(false);
    let _signals = process.signals().lock();
    process.begin_exit(ExitStatus::Killed(signal));
}

/// Who sends a signal, and may he.
struct Sender<'a> {
    thread: &'a Thread,
    signal: Option<Signal>,
}

impl Sender<'_> {
    fn check(&self, target: &Process) -> Result<()> {
        let own = self.thread.process();
        if own.pid() == target.pid() {
            return Ok(());
        }
        let continues = self.signal == Some(Signal::CONT) && own.session_id() == target.session_id();
        if continues || self.thread.credentials().may_signal(&target.credentials()) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn information(&self, signal: Signal, code: i32) -> Information {
        Information::user(signal, code, self.thread.process().pid(), self.thread.credentials().users.real)
    }

    fn send(&self, target: &Arc<Process>, information: Option<Information>) -> Result<()> {
        self.check(target)?;
        match information {
            Some(information) => post(target, information),
            None => Ok(()),
        }
    }
}

/// kill(2). `signal` is `None` for 0: only the checks are made.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub fn kill(thread: &Thread, pid: i32, signal: Option<Signal>) -> Result<()> {
    let sender = Sender { thread, signal };
    let information = signal.map(|signal| sender.information(signal, code::USER));
    let processes = thread.kernel().processes();
    match pid {
        1.. => {
            let target = processes.process(pid as Pid).or_else(|| {
                // The number of a thread stands for its process here.
                processes.thread(pid as Pid).map(|thread| thread.process().clone())
            });
            sender.send(&target.ok_or(Errno::ESRCH)?, information)
        }
        0 => kill_group(&sender, thread.process().group_id(), information),
        -1 => {
            let own = thread.process().pid();
            let mut all = Outcomes::default();
            let mut next = 2;
            while let Some(target) = processes.next(next) {
                next = target.pid() + 1;
                if target.pid() != own {
                    all.note(sender.send(&target, information));
                }
            }
            // Unlike with a group, somebody who may not be signalled is no error: Linux reports the last failure only.
            if all.any {
                all.last_failure.filter(|errno| *errno != Errno::EPERM).map_or(Ok(()), Err)
            } else {
                Err(Errno::ESRCH)
            }
        }
        i32::MIN => Err(Errno::ESRCH),
        _ => kill_group(&sender, pid.unsigned_abs(), information),
    }
}

/// What sending to many gave.
#[derive(Default)]
struct Outcomes {
    any: bool,
    success: bool,
    last_failure: Option<Errno>,
}

impl Outcomes {
    fn note(&mut self, result: Result<()>) {
        self.any = true;
        match result {
            Ok(()) => self.success = true,
            Err(errno) => self.last_failure = Some(errno),
        }
    }
}

fn kill_group(sender: &Sender<'_>, group: Pid, information: Option<Information>) -> Result<()> {
    let mut outcomes = Outcomes::default();
    each_of_group(sender.thread.kernel(), group, |target| outcomes.note(sender.send(target, information)));
    if outcomes.success { Ok(()) } else { Err(outcomes.last_failure.unwrap_or(Errno::ESRCH)) }
}

/// Calls `act` for every process of a group, without a lock held and without memory needed.
fn each_of_group(kernel: &Kernel, group: Pid, mut act: impl FnMut(&Arc<Process>)) {
    let mut next = 1;
    loop {
        let member = {
            let family = kernel.processes().lock();
            if !family.has_group(group) {
                return;
            }
            family.from(next).find(|process| process.group_id() == group).cloned()
        };
        let Some(member) = member else { return };
        next = member.pid() + 1;
        act(&member);
    }
}

/// Sends a signal of the kernel to a whole group.
pub fn post_group(kernel: &Kernel, group: Pid, signal: Signal) {
    each_of_group(kernel, group, |process| {
        let _ = post(process, Information::kernel(signal));
    });
}

/// tgkill(2), and tkill(2) without a process number.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`, `EAGAIN`.
pub fn tgkill(thread: &Thread, process: Option<i32>, tid: i32, signal: Option<Signal>) -> Result<()> {
    let sender = Sender { thread, signal };
    let information = signal.map(|signal| sender.information(signal, code::TKILL));
    send_to_thread(&sender, process, tid, information)
}

fn send_to_thread(sender: &Sender<'_>, process: Option<i32>, tid: i32, information: Option<Information>) -> Result<()> {
    if tid <= 0 || process.is_some_and(|pid| pid <= 0) {
        return Err(Errno::EINVAL);
    }
    let target = sender.thread.kernel().processes().thread(tid as Pid).ok_or(Errno::ESRCH)?;
    if process.is_some_and(|pid| target.process().pid() != pid as Pid) {
        return Err(Errno::ESRCH);
    }
    sender.check(target.process())?;
    match information {
        Some(information) => post_thread(&target, information),
        None => Ok(()),
    }
}

/// rt_sigqueueinfo(2), and with a thread number rt_tgsigqueueinfo(2): a signal with the program's own reason.
///
/// # Errors
/// `EPERM` if the reason pretends to come from the kernel or kill(2); as [`kill`].
pub fn queue_information(
    thread: &Thread,
    pid: i32,
    tid: Option<i32>,
    signal: Option<Signal>,
    given: &SignalInfo,
) -> Result<()> {
    let processes = thread.kernel().processes();
    if (given.code >= 0 || given.code == code::TKILL) && pid as Pid != thread.process().pid() {
        return Err(Errno::EPERM);
    }
    let sender = Sender { thread, signal };
    let information = signal.map(|signal| Information::from_program(signal, given));
    match tid {
        Some(tid) => send_to_thread(&sender, Some(pid), tid, information),
        None => {
            let target = processes.process(pid.max(0) as Pid).ok_or(Errno::ESRCH)?;
            sender.send(&target, information)
        }
    }
}
