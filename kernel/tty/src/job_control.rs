//! What a terminal must know about processes, stated here and implemented by the process room.
//!
//! A terminal belongs to at most one session; one process group of that session is in the foreground: it may read, and
//! it gets the signals of the keys. Everything else (who is in which group, who leads) the process room knows.
//!
//! The terminal calls these with none of its locks held, so an implementation may take the process table's. Some calls
//! come from an interrupt handler (a key was pressed): [`JobControl::signal_group`] must not sleep and must not
//! allocate without a fallback.

use alloc::sync::Arc;

use abi::Pid;
use abi::raw::general as raw;

use crate::Terminal;

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its process number.
    pub process: Pid,
    /// Its process group.
    pub group: Pid,
    /// Its session. The leader's process number is the session's number.
    pub session: Pid,
}

impl Member {
    /// Whether it leads its session: only a leader acquires a controlling terminal.
    pub fn leads_session(&self) -> bool {
        self.process == self.session
    }
}

/// The signals a terminal sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalSignal {
    /// `SIGHUP`: the terminal went away, or the leader of its session did.
    Hangup,
    /// `SIGCONT`: so that stopped processes notice the hangup.
    Continue,
    /// `SIGINT`: the key `VINTR`, or a break.
    Interrupt,
    /// `SIGQUIT`: the key `VQUIT`.
    Quit,
    /// `SIGTSTP`: the key `VSUSP`.
    Suspend,
    /// `SIGTTIN`: a background process reads.
    BackgroundRead,
    /// `SIGTTOU`: a background process writes under `TOSTOP`, or changes the terminal.
    BackgroundWrite,
    /// `SIGWINCH`: the window has another size.
    WindowChange,
}

impl TerminalSignal {
    /// The number, see signal(7).
    pub const fn number(self) -> u32 {
        match self {
            TerminalSignal::Hangup => raw::SIGHUP,
            TerminalSignal::Continue => raw::SIGCONT,
            TerminalSignal::Interrupt => raw::SIGINT,
            TerminalSignal::Quit => raw::SIGQUIT,
            TerminalSignal::Suspend => raw::SIGTSTP,
            TerminalSignal::BackgroundRead => raw::SIGTTIN,
            TerminalSignal::BackgroundWrite => raw::SIGTTOU,
            TerminalSignal::WindowChange => raw::SIGWINCH,
        }
    }
}

/// Processes as a terminal sees them. See credentials(7), "Process groups and sessions".
pub trait JobControl: Send + Sync {
    /// Group and session of a process (as `vfs::Caller::process` gives it); `None` for the kernel's 0 and the dead.
    fn member(&self, process: Pid) -> Option<Member>;

    /// Whether a thread blocks a signal, or its process ignores it: then `SIGTTIN` and `SIGTTOU` stop nobody.
    fn blocks_or_ignores(&self, thread: Pid, signal: TerminalSignal) -> bool;

    /// Whether a thread may take a terminal from another session (`CAP_SYS_ADMIN`).
    fn is_administrator(&self, thread: Pid) -> bool;

    /// The controlling terminal of a session, what `/dev/tty` opens for its members.
    fn controlling_terminal(&self, session: Pid) -> Option<Arc<Terminal>>;

    /// Makes a terminal the controlling one of a session, or takes it away from it.
    fn set_controlling_terminal(&self, session: Pid, terminal: Option<Arc<Terminal>>);

    /// The session a process group is part of; `None` if there is no such group.
    fn session_of_group(&self, group: Pid) -> Option<Pid>;

    /// Whether a process group is orphaned: no member has a parent in another group of the same session, so nobody
    /// would ever continue it.
    fn is_orphaned(&self, group: Pid) -> bool;

    /// Sends a signal, as from the kernel, to every process of a group. A group that is gone is no error.
    fn signal_group(&self, group: Pid, signal: TerminalSignal);

    /// Sends a signal, as from the kernel, to the leader of a session. A leader that is gone is no error.
    fn signal_leader(&self, session: Pid, signal: TerminalSignal);
}
