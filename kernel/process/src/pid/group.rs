//! Process groups and sessions: see credentials(7).
//!
//! A group is in one session for as long as it is there, so a process knows both by its group. **Who synchronises:** a group's lock
//! keeps its members and the signals on their way to them; a session's its count and terminal. A process that moves from
//! one group to another has the locks of both, the one of the lower number first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use sync::{SpinGuard, SpinLock};
use tty::Terminal;

use crate::Process;
use abi::Pid;

/// A session.
pub(crate) struct Session {
    id: Pid,
    state: SpinLock<SessionState>,
}

#[derive(Default)]
struct SessionState {
    processes: usize,
    /// Its controlling terminal.
    terminal: Option<Arc<Terminal>>,
}

impl Session {
    pub fn new(id: Pid) -> Arc<Session> {
        Arc::new(Session { id, state: SpinLock::default() })
    }

    pub fn id(&self) -> Pid {
        self.id
    }

    /// A process is in it from now on.
    pub fn join(&self) {
        self.state.lock().processes += 1;
    }

    /// A process is in it no more. True if it was the last: the session is over, and without a terminal.
    pub fn leave(&self) -> bool {
        let mut state = self.state.lock();
        state.processes -= 1;
        let terminal = if state.processes == 0 { state.terminal.take() } else { None };
        let last = state.processes == 0;
        drop(state);
        drop(terminal);
        last
    }

    pub fn terminal(&self) -> Option<Arc<Terminal>> {
        self.state.lock().terminal.clone()
    }

    /// Sets or takes away the terminal. Returns the old one.
    pub fn set_terminal(&self, terminal: Option<Arc<Terminal>>) -> Option<Arc<Terminal>> {
        core::mem::replace(&mut self.state.lock().terminal, terminal)
    }
}

/// A process group.
pub(crate) struct ProcessGroup {
    id: Pid,
    session: Arc<Session>,
    members: SpinLock<Members>,
}

/// The members of a group, locked.
#[derive(Default)]
pub(crate) struct Members {
    list: BTreeMap<Pid, Arc<Process>>,
    /// Signals on their way to all of them.
    signals: usize,
    /// It was found orphaned, with members that are stopped, and that was told.
    hung_up: bool,
}

impl ProcessGroup {
    pub fn new(id: Pid, session: Arc<Session>) -> Arc<ProcessGroup> {
        Arc::new(ProcessGroup { id, session, members: SpinLock::default() })
    }

    pub fn id(&self) -> Pid {
        self.id
    }

    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub fn lock(&self) -> SpinGuard<'_, Members> {
        self.members.lock()
    }

    /// The member with the smallest number from `from` on.
    pub fn next_member(&self, from: Pid) -> Option<Arc<Process>> {
        self.members.lock().list.range(from..).next().map(|(_, process)| process.clone())
    }

    /// Whether no member has a parent in another group of the same session: nobody would continue it. An init does not count;
    /// a first process that is an ordinary program does.
    pub fn is_orphaned(&self) -> bool {
        self.members.lock().are_orphaned(self)
    }

    /// Whether the group is orphaned now and has members that are stopped, and nobody was told yet. The caller tells them: of several
    /// who make it so at the same time only one is told this.
    pub fn is_newly_orphaned_and_stopped(&self) -> bool {
        let mut members = self.members.lock();
        let stopped = |member: &Arc<Process>| !member.is_zombie() && member.signals().lock().stop.is_stopped();
        let now = members.list.values().any(stopped) && members.are_orphaned(self);
        now && !core::mem::replace(&mut members.hung_up, now)
    }
}

impl Members {
    /// Nobody is in the group: it is over.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether nothing needs the group any more.
    pub fn is_unused(&self) -> bool {
        self.list.is_empty() && self.signals == 0
    }

    pub fn contains(&self, process: &Process) -> bool {
        self.list.contains_key(&process.pid())
    }

    pub fn insert(&mut self, process: Arc<Process>) {
        self.list.insert(process.pid(), process);
        self.hung_up = false;
    }

    pub fn remove(&mut self, pid: Pid) -> Option<Arc<Process>> {
        self.list.remove(&pid)
    }

    /// Whether a signal is on its way to them: none of them forks or leaves the group until it has reached all.
    pub fn are_signalled(&self) -> bool {
        self.signals > 0
    }

    /// A signal begins its way to all. False if there is nobody.
    pub fn begin_signalling(&mut self) -> bool {
        let any = !self.list.is_empty();
        self.signals += usize::from(any);
        any
    }

    /// The signal has reached all.
    pub fn end_signalling(&mut self) {
        self.signals -= 1;
    }

    fn are_orphaned(&self, group: &ProcessGroup) -> bool {
        !self.list.values().any(|member| {
            !member.is_zombie()
                && member.parent().is_some_and(|parent| {
                    !parent.is_unkillable() && parent.group_id() != group.id && parent.session_id() == group.session.id
                })
        })
    }
}
