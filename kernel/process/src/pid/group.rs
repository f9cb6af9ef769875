//! Process groups: see credentials(7).
//!
//! A group is in one session for as long as it is there, so a process knows both by its group. **Who synchronises:** a group's lock
//! keeps its members and the signals on their way to them. A process that moves from one group to another has the locks of both,
//! the one of the lower number first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use abi::Pid;
use sync::{SpinGuard, SpinLock};

use super::session::Session;
use crate::Process;

/// A process group.
pub struct ProcessGroup {
    id: Pid,
    session: Arc<Session>,
    members: SpinLock<Members>,
}

/// The members of a group, locked.
#[derive(Default)]
pub struct Members {
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

    /// Lets a child be in the group that its parent is in, if `may` agrees while the members are locked.
    ///
    /// # Errors
    /// That of `may`.
    pub fn join_that_of<E>(
        parent: &Process,
        child: &Arc<Process>,
        may: impl FnOnce(&Members) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let group = parent.group();
            let mut members = group.lock();
            // Somebody may just have moved the parent.
            if !parent.is_in(&group) {
                continue;
            }
            may(&members)?;
            group.session.join();
            if !child.is_in(&group) {
                child.set_group(&group);
            }
            members.insert(child.clone());
            return Ok(());
        }
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
        let stopped = |member: &Arc<Process>| !member.is_zombie() && member.is_stopped();
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
                    !parent.is_unkillable()
                        && parent.group_id() != group.id
                        && parent.session_id() == group.session.id()
                })
        })
    }
}
