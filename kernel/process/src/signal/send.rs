//! Posting signals: kill(2), tgkill(2), rt_sigqueueinfo(2), and the kernel's own.
//!
//! Posting decides at once what can be decided: a signal that is ignored is dropped, one that will kill the process makes all
//! its threads end. What remains is pending, and one thread that doesn't block it is interrupted.

use alloc::sync::Arc;

use abi::signal::{Signal, SignalAction, SignalInfo, SignalSet};
use abi::{Errno, Result};

use sync::Budget;

use super::action::{DefaultAction, default_of};
use super::deferred::AT_ONCE;
use super::pending::Queue;
use super::{Information, attention, code};
use crate::group::Target;
use crate::limits::Resource;
use crate::pid::{ProcessGroup, Processes};
use crate::process::ExitStatus;
use crate::{Credentials, Kernel, Pid, Process, Thread, ThreadState};

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
pub fn post_thread(thread: &ThreadState, information: Information) -> Result<()> {
    post_to(thread.process(), Some(thread), information)
}

fn post_to(process: &Arc<Process>, target: Option<&ThreadState>, information: Information) -> Result<()> {
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
    target: Option<&ThreadState>,
    information: Information,
) -> Result<()> {
    let signal = information.signal;
    let action = signals.actions.get(signal);
    let is_default = action.handler == SignalAction::DEFAULT;
    let useless = is_default && process.is_unkillable() || signals.actions.ignores(signal);
    // A blocked signal is kept even if it is ignored now: the action may change before it is unblocked.
    let blocked = |thread: &ThreadState| thread.signals().lock().mask.contains(signal);
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
    // Signals of a process are counted for its leader's user.
    let credentials = target.map_or_else(|| process.credentials(), |thread| thread.credentials());
    let queue = Queue { user: credentials.counts(), limit: process.lock_limits().soft(Resource::PendingSignals) };
    match target {
        Some(thread) => {
            let mut own = thread.signals().lock();
            if own.pending.add(information, &queue)? && own.wants(signal) {
                alert(thread, &own, signal);
            }
        }
        None => {
            if signals.pending.add(information, &queue)? {
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
fn alert(thread: &ThreadState, own: &super::ThreadSignals, signal: Signal) {
    if !own.mask.contains(signal) {
        thread.raise_attention(attention::SIGNAL);
    }
    thread.task().interrupt();
}

/// Whether a thread would take the signal now, so that its default action can be taken at once.
fn would_take(process: &Process, target: Option<&ThreadState>, signal: Signal) -> bool {
    let open = |thread: &ThreadState| {
        let own = thread.signals().lock();
        !own.ending && !own.mask.contains(signal) && !own.awaited.contains(signal)
    };
    match target {
        Some(thread) => open(thread),
        None => process.find_thread(|thread| open(thread)),
    }
}

/// A thread takes none of the signals `left` any more: those of them that were sent to its process and that others take, others are
/// to look at. Linux's `retarget_shared_pending`.
pub(crate) fn retarget(thread: &ThreadState, left: SignalSet) {
    let process = thread.process();
    if process.shared_pending().intersection(left).is_empty() {
        return;
    }
    let signals = process.signals().lock();
    let mut rest = signals.pending.set().intersection(left);
    process.find_thread(|other| {
        let own = other.signals().lock();
        if core::ptr::eq(&**other, thread) || own.ending {
            return rest.is_empty();
        }
        let open = SignalSet(!own.mask.0);
        if !rest.intersection(open).is_empty() {
            other.raise_attention(attention::SIGNAL);
        }
        let wanted = open.union(own.awaited);
        if !rest.intersection(wanted).is_empty() {
            other.task().interrupt();
        }
        rest = rest.without(wanted);
        rest.is_empty()
    });
}

/// Posts a signal the thread can't avoid: a fault. If it is blocked or ignored, its action becomes the default.
pub fn force(thread: &ThreadState, information: Information) {
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
    /// Whether it may signal a thread of `target` that is who `credentials` say.
    fn check(&self, target: &Process, credentials: &Credentials) -> Result<()> {
        let own = self.thread.process();
        if own.pid() == target.pid() {
            return Ok(());
        }
        let continues = self.signal == Some(Signal::CONT) && own.session_id() == target.session_id();
        if continues || self.thread.credentials().may_signal(credentials) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// What `target` learns of the sender.
    fn information(&self, target: &Process, signal: Signal, code: i32) -> Information {
        let sender = target.pid_number(self.thread.process().pid());
        Information::user(signal, code, sender, self.thread.credentials().users.real)
    }

    fn send(&self, target: &Arc<Process>, information: Option<Information>) -> Result<()> {
        self.send_as(target, &target.credentials(), information)
    }

    fn send_as(
        &self,
        target: &Arc<Process>,
        credentials: &Credentials,
        information: Option<Information>,
    ) -> Result<()> {
        self.check(target, credentials)?;
        match information {
            Some(information) => post(target, information),
            None => Ok(()),
        }
    }
}

/// kill(2) of one process. `signal` is `None` for 0: only the checks are made.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub fn kill(thread: &Thread, pid: i32, signal: Option<Signal>) -> Result<()> {
    let sender = Sender { thread, signal };
    // The number of a thread stands for its process here, but who may signal it is for the thread to say.
    let target = Target::new(thread, pid)?;
    let information = signal.map(|signal| sender.information(&target.process, signal, code::USER));
    sender.send_as(&target.process, &target.credentials, information)
}

/// kill(2) of many: of the caller's group (0), of all processes but the first and its own (-1), or of the group whose number
/// `pid` is the negative of. Others run meanwhile; nobody who is to get the signal forks or leaves the group before everybody has it.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub async fn kill_many(thread: &Thread, pid: i32, signal: Option<Signal>) -> Result<()> {
    let sender = Sender { thread, signal };
    let (own, group) = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => (thread.process().pid(), None),
        0 => (Pid::NOBODY, Some(thread.process().group())),
        _ => {
            let group = thread.pid_of(pid.unsigned_abs()).ok_or(Errno::ESRCH)?;
            (Pid::NOBODY, Some(thread.kernel().processes().group(group).ok_or(Errno::ESRCH)?))
        }
    };
    // Whatever comes after KILL changes nothing; anything else must not overtake what a terminal has sent.
    if let Some(group) = &group
        && signal != Some(Signal::KILL)
    {
        let _ = thread.killable(thread.kernel().deferred().passed(group.id())).await;
    }
    let all = group.is_none();
    let mut outcomes = Outcomes::default();
    let mut budget = Budget::new();
    for target in Recipients::new(thread.kernel(), group).filter(|target| target.pid() != own) {
        let information = signal.map(|signal| sender.information(&target, signal, code::USER));
        outcomes.note(sender.send(&target, information));
        budget.pace(1).await;
    }
    if all && outcomes.any {
        // Unlike with a group, somebody who may not be signalled is no error: Linux reports the last failure only.
        return outcomes.last_failure.filter(|errno| *errno != Errno::EPERM).map_or(Ok(()), Err);
    }
    if outcomes.success { Ok(()) } else { Err(outcomes.last_failure.unwrap_or(Errno::ESRCH)) }
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

/// The processes a signal is on its way to, one after the other, without a lock held and without memory needed. None of them
/// forks as long as this lives, where the child could have a number that was passed already, or leaves the group.
pub(crate) struct Recipients<'a> {
    processes: &'a Processes,
    walk: Walk,
    /// They are there, and it is noted that a signal is on its way to them.
    noted: bool,
}

/// How far a signal has come on its way.
pub(crate) struct Walk {
    /// `None`: all processes.
    group: Option<Arc<ProcessGroup>>,
    first: Pid,
    next: Pid,
}

impl Walk {
    /// The number of the group, if it is one.
    pub fn group(&self) -> Option<Pid> {
        self.group.as_ref().map(|group| group.id())
    }

    /// Whether it may have reached somebody.
    pub fn has_begun(&self) -> bool {
        self.next != self.first
    }

    /// Goes on where [`Recipients::suspend`] ended.
    pub fn resume(self, kernel: &Kernel) -> Recipients<'_> {
        Recipients { processes: kernel.processes(), walk: self, noted: true }
    }
}

impl Recipients<'_> {
    /// Those of a group, or all but the first process.
    pub fn new(kernel: &Kernel, group: Option<Arc<ProcessGroup>>) -> Recipients<'_> {
        let processes = kernel.processes();
        let noted = processes.begin_signalling(group.as_ref());
        // The first process of the system is spared.
        let first = Pid::new(if group.is_none() { 2 } else { 1 });
        Recipients { processes, walk: Walk { group, first, next: first }, noted }
    }

    /// The rest is for another to go on with, and none of them forks until he has. `None` if there is nobody.
    pub fn suspend(mut self) -> Option<Walk> {
        if !core::mem::take(&mut self.noted) {
            return None;
        }
        let walk = &mut self.walk;
        Some(Walk { group: walk.group.take(), first: walk.first, next: walk.next })
    }
}

impl Iterator for Recipients<'_> {
    type Item = Arc<Process>;

    fn next(&mut self) -> Option<Arc<Process>> {
        if !self.noted {
            return None;
        }
        let process = match &self.walk.group {
            Some(group) => group.next_member(self.walk.next)?,
            None => self.processes.next(self.walk.next)?,
        };
        self.walk.next = process.pid().next();
        Some(process)
    }
}

impl Drop for Recipients<'_> {
    fn drop(&mut self) {
        if self.noted {
            self.processes.end_signalling(self.walk.group.as_ref());
        }
    }
}

/// Sends a signal of the kernel to a whole group. Others run meanwhile.
pub(crate) async fn post_group_slowly(kernel: &Kernel, group: &Arc<ProcessGroup>, signal: Signal) {
    kernel.deferred().passed(group.id()).await;
    post_to_all_slowly(Recipients::new(kernel, Some(group.clone())), signal).await;
}

pub(super) async fn post_to_all_slowly(recipients: Recipients<'_>, signal: Signal) {
    let mut budget = Budget::new();
    for process in recipients {
        let _ = post(&process, Information::kernel(signal));
        budget.pace(1).await;
    }
}

pub(super) fn post_to_all(recipients: Recipients<'_>, signal: Signal) {
    for process in recipients {
        let _ = post(&process, Information::kernel(signal));
    }
}

/// As [`post_group_slowly`], for who can't wait: all but the first some hundred may get it later.
pub(crate) fn post_group(kernel: &Kernel, group: &Arc<ProcessGroup>, signal: Signal) {
    // None that is on its way is overtaken.
    let at_once = if kernel.deferred().concerns(group.id()) { 0 } else { AT_ONCE };
    let mut recipients = Recipients::new(kernel, Some(group.clone()));
    let mut told = 0;
    for process in recipients.by_ref().take(at_once) {
        let _ = post(&process, Information::kernel(signal));
        told += 1;
    }
    if told == at_once {
        kernel.deferred().signal(kernel, signal, recipients);
    }
}

/// tgkill(2), and tkill(2) without a process number.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`, `EAGAIN`.
pub fn tgkill(thread: &Thread, process: Option<i32>, tid: i32, signal: Option<Signal>) -> Result<()> {
    let sender = Sender { thread, signal };
    send_to_thread(&sender, process, tid, |target, signal| sender.information(target, signal, code::TKILL))
}

/// Sends a signal with what `reason` says to the target's process.
fn send_to_thread(
    sender: &Sender<'_>,
    process: Option<i32>,
    tid: i32,
    reason: impl FnOnce(&Process, Signal) -> Information,
) -> Result<()> {
    if tid <= 0 || process.is_some_and(|pid| pid <= 0) {
        return Err(Errno::EINVAL);
    }
    let named = |number: i32| sender.thread.pid_of(number as u32);
    let target = named(tid).and_then(|tid| sender.thread.kernel().processes().thread(tid)).ok_or(Errno::ESRCH)?;
    if process.is_some_and(|number| named(number) != Some(target.process().pid())) {
        return Err(Errno::ESRCH);
    }
    sender.check(target.process(), &target.credentials())?;
    match sender.signal {
        Some(signal) => post_thread(&target, reason(target.process(), signal)),
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
    let target = thread.pid_of(pid.max(0) as u32);
    if (given.code >= 0 || given.code == code::TKILL) && target != Some(thread.process().pid()) {
        return Err(Errno::EPERM);
    }
    let sender = Sender { thread, signal };
    match tid {
        Some(tid) => send_to_thread(&sender, Some(pid), tid, |_, signal| Information::from_program(signal, given)),
        None => {
            let target = target.and_then(|pid| thread.kernel().processes().process(pid)).ok_or(Errno::ESRCH)?;
            sender.send(&target, signal.map(|signal| Information::from_program(signal, given)))
        }
    }
}
