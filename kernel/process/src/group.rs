//! Sessions and process groups, and what terminals ask about them: setsid(2), setpgid(2), credentials(7).

use alloc::sync::Arc;

use abi::signal::{Signal, SignalAction};
use abi::{Errno, Result};
use tty::{JobControl, Member, Terminal, TerminalSignal};
use vfs::NotReady;

use crate::credentials::Capability;
use crate::pid::{Members, ProcessGroup, Session};
use crate::signal::{Information, send};
use crate::{Credentials, Kernel, Pid, Process, Thread};

/// setsid(2): a new session, and in it a new group, led by the caller.
///
/// # Errors
/// `EPERM` if the caller leads a group. [`NotReady::WouldBlock`] while a signal is on its way to the group it leaves.
pub fn set_session(thread: &Thread) -> Result<Pid, NotReady> {
    let process = thread.process();
    let pid = process.pid();
    let processes = thread.kernel().processes();
    processes.begin_group(process, Some(Session::new(pid)), |group, members| {
        if group.session().id() == pid || group.id() == pid || processes.has_group(pid) {
            return Err(Errno::EPERM.into());
        }
        may_leave(members)
    })?;
    Ok(pid)
}

/// Whether a process may leave its group: not before it has the signals that are on their way there.
fn may_leave(members: &Members) -> Result<(), NotReady> {
    if members.are_signalled() { Err(NotReady::WouldBlock) } else { Ok(()) }
}

/// Makes the first process the leader of a session, with `terminal` as the controlling one and itself in the foreground.
///
/// # Errors
/// `EPERM` if it leads a group.
pub(crate) fn begin_session(thread: &Thread, terminal: Option<&Arc<Terminal>>) -> Result<()> {
    // No signal is on its way to anybody yet.
    let process = set_session(thread).map_err(|_| Errno::EPERM)?;
    if let Some(terminal) = terminal {
        terminal.become_controlling(Member { process, group: process, session: process });
    }
    Ok(())
}

/// setpgid(2). Both numbers may be 0: the caller, and the process's own number.
///
/// # Errors
/// `EINVAL` for a negative group, `ESRCH` if it is neither the caller nor his child, `EACCES` if the child has executed
/// a program, `EPERM` for session leaders and across sessions. [`NotReady::WouldBlock`] while a signal is on its way to the group it
/// leaves.
pub fn set_group(thread: &Thread, pid: i32, group: i32) -> Result<(), NotReady> {
    let own = thread.process();
    let pid = if pid == 0 { thread.pid_number(own.pid()) as i32 } else { pid };
    let group = if group == 0 { pid } else { group };
    if group < 0 {
        return Err(Errno::EINVAL.into());
    }
    let named = |number: i32| thread.pid_of(number as u32).ok_or(Errno::ESRCH);
    let (pid, group) = (named(pid)?, named(group)?);
    let processes = thread.kernel().processes();
    let process = processes.process(pid).ok_or(Errno::ESRCH)?;
    if process.parent_pid() == own.pid() {
        if process.session_id() != own.session_id() {
            return Err(Errno::EPERM.into());
        }
        if process.has_executed() {
            return Err(Errno::EACCES.into());
        }
    } else if process.pid() != own.pid() {
        return Err(Errno::ESRCH.into());
    }
    if process.session_id() == pid {
        return Err(Errno::EPERM.into());
    }
    // It may begin a session at this moment.
    let may = |from: &ProcessGroup, members: &Members| {
        if from.session().id() == pid { Err(Errno::EPERM.into()) } else { may_leave(members) }
    };
    if group != pid || processes.has_group(pid) {
        let to = processes.group(group).filter(|group| group.session().id() == own.session_id());
        return processes.change_group(&process, &to.ok_or(Errno::EPERM)?, may);
    }
    processes.begin_group(&process, None, may)
}

/// The process a call like getpgid(2) is about: 0 is the caller.
///
/// # Errors
/// `ESRCH`.
pub fn process_of(thread: &Thread, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 {
        return Ok(thread.process().clone());
    }
    let processes = thread.kernel().processes();
    let pid = thread.pid_of(pid as u32).ok_or(Errno::ESRCH)?;
    processes.process(pid).or_else(|| Some(processes.thread(pid)?.process().clone())).ok_or(Errno::ESRCH)
}

/// Whom a call that takes the number of a thread is about. The number of a process means its leader, which can still be
/// asked for when it has ended.
pub struct Target {
    /// The number.
    pub tid: Pid,
    /// The thread's process.
    pub process: Arc<Process>,
    /// Who the thread is.
    pub credentials: Arc<Credentials>,
}

impl Target {
    /// The target of a number; 0 is the caller.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn new(thread: &Thread, pid: i32) -> Result<Target> {
        let tid = if pid == 0 { thread.tid() } else { thread.pid_of(pid as u32).ok_or(Errno::ESRCH)? };
        let processes = thread.kernel().processes();
        if let Some(found) = processes.thread(tid) {
            return Ok(Target { tid, process: found.process().clone(), credentials: found.credentials() });
        }
        let process = processes.process(tid).ok_or(Errno::ESRCH)?;
        Ok(Target { tid, credentials: process.credentials(), process })
    }
}

const fn signal_of(signal: TerminalSignal) -> Signal {
    match signal {
        TerminalSignal::Hangup => Signal::HUP,
        TerminalSignal::Continue => Signal::CONT,
        TerminalSignal::Interrupt => Signal::INT,
        TerminalSignal::Quit => Signal::QUIT,
        TerminalSignal::Suspend => Signal::TSTP,
        TerminalSignal::BackgroundRead => Signal::TTIN,
        TerminalSignal::BackgroundWrite => Signal::TTOU,
        TerminalSignal::WindowChange => Signal::WINCH,
    }
}

impl JobControl for Kernel {
    fn member(&self, process: Pid) -> Option<Member> {
        let process = self.processes().process(process)?;
        Some(Member { process: process.pid(), group: process.group_id(), session: process.session_id() })
    }

    fn blocks_or_ignores(&self, thread: Pid, signal: TerminalSignal) -> bool {
        let Some(thread) = self.processes().thread(thread) else { return false };
        let signal = signal_of(signal);
        let ignored = thread.process().signals().lock().actions.get(signal).handler == SignalAction::IGNORE;
        ignored || thread.signals().lock().mask.contains(signal)
    }

    fn is_administrator(&self, thread: Pid) -> bool {
        self.processes().thread(thread).is_some_and(|thread| thread.credentials().has(Capability::SysAdmin))
    }

    fn controlling_terminal(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.processes().terminal(session)
    }

    fn set_controlling_terminal(&self, session: Pid, terminal: Option<Arc<Terminal>>) {
        let old = self.processes().set_terminal(session, terminal);
        drop(old);
    }

    fn session_of_group(&self, group: Pid) -> Option<Pid> {
        self.processes().group(group).filter(|group| !group.lock().is_empty()).map(|group| group.session().id())
    }

    fn is_orphaned(&self, group: Pid) -> bool {
        self.processes().group(group).is_none_or(|group| group.is_orphaned())
    }

    fn signal_group(&self, group: Pid, signal: TerminalSignal) {
        if let Some(group) = self.processes().group(group) {
            send::post_group(self, &group, signal_of(signal));
        }
    }

    fn signal_leader(&self, session: Pid, signal: TerminalSignal) {
        if let Some(leader) = self.processes().process(session) {
            let _ = send::post(&leader, Information::kernel(signal_of(signal)));
        }
    }
}
