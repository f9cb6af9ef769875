//! Whom a file of /proc/PID is about: a process, or one of its threads, without keeping it alive. And what is asked of it that is more
//! than one question to the process.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Pid, Result};
use process::{Credentials, PidNamespace, Process, ThreadState};
use vfs::Caller;

/// See the module's page.
#[derive(Clone)]
pub(crate) struct Subject {
    process: Weak<Process>,
    /// The number of the thread that is asked: the leader, but for directories below `task/` and for `/proc/TID`.
    pub thread: u32,
    /// Below `task/`.
    pub is_thread: bool,
}

impl Subject {
    /// `/proc/NUMBER`: the process that has this number, or a thread with it.
    pub fn new(process: &Arc<Process>, thread: u32) -> Subject {
        Subject { process: Arc::downgrade(process), thread, is_thread: false }
    }

    /// `task/NUMBER` of its process.
    pub fn task(&self, thread: u32) -> Subject {
        Subject { process: self.process.clone(), thread, is_thread: true }
    }

    /// Its process.
    ///
    /// # Errors
    /// `ESRCH` once that is collected.
    pub fn process(&self) -> Result<Arc<Process>> {
        self.process.upgrade().ok_or(Errno::ESRCH)
    }

    /// The thread itself; `None` when it has ended.
    pub fn find_thread(&self, process: &Process) -> Option<Arc<ThreadState>> {
        let tid = pids(process).pid(self.thread)?;
        process.kernel().processes().thread(tid).filter(|thread| core::ptr::eq(&**thread.process(), process))
    }

    /// Whether it is the leader, whose number is its process's, and who is there until that is collected.
    pub fn is_leader(&self, process: &Process) -> bool {
        self.thread == number(process, process.pid())
    }

    /// Who it is; a leader also when it has ended.
    fn credentials(&self, process: &Process) -> Arc<Credentials> {
        let thread = if self.is_leader(process) { None } else { self.find_thread(process) };
        thread.map_or_else(|| process.credentials(), |thread| thread.credentials())
    }

    /// Who owns its files, (user, group): its effective ids, or root if others may not look into it and not `always` is asked for.
    pub fn owner(&self, always: bool) -> (u32, u32) {
        match self.process() {
            Ok(process) if always || process.dumpable() == 1 => {
                let credentials = self.credentials(&process);
                (credentials.users.effective, credentials.groups.effective)
            }
            _ => (0, 0),
        }
    }

    /// Whether `caller` may look into it as `PTRACE_MODE_READ` asks; guards `exe`, `cwd`, `fd`, `maps`, `environ`.
    pub fn may_be_inspected_by(&self, caller: &dyn Caller) -> bool {
        let Ok(process) = self.process() else { return false };
        if caller.process().is_nobody() || caller.process() == process.pid() {
            return true;
        }
        let Some(asking) = process.kernel().processes().thread(caller.thread()) else { return false };
        asking.credentials().may_inspect(&self.credentials(&process), process.dumpable() == 1)
    }
}

/// The pid namespace that /proc shows.
pub(crate) fn pids(process: &Process) -> &PidNamespace {
    process.kernel().namespaces().pids()
}

/// Somebody's number there; 0 for who is not in it.
pub(crate) fn number(process: &Process, pid: Pid) -> u32 {
    pids(process).number(pid)
}
