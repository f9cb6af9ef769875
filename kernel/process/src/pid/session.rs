//! Sessions: see credentials(7). **Who synchronises:** a session's lock keeps its count and its terminal.

use alloc::sync::Arc;

use abi::Pid;
use sync::SpinLock;
use tty::Terminal;

/// A session.
pub struct Session {
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
