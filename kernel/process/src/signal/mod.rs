//! Signals: what is pending, who gets it, and what it does. See signal(7).
//!
//! | module | holds |
//! | --- | --- |
//! | `information` | [`Information`]: why a signal was sent, the kernel's part of `siginfo_t` |
//! | `pending` | [`Pending`]: signals that wait, of a thread or of a process |
//! | `action` | [`Actions`]: what the program wants done with each; sigaction(2) |
//! | `send` | posting a signal: ignored, coalesced, queued, or fatal at once; kill(2) and its kin |
//! | `owner` | [`FileOwner`]: who gets the signals of a file that became ready; fcntl(F_SETOWN) |
//! | `mask` | blocking and waiting: sigprocmask(2), sigsuspend(2), sigtimedwait(2), sigaltstack(2) |
//! | `deliver` | what a thread does with its signals on its way to user mode |
//! | `frame` | the stack frame of a handler, and rt_sigreturn(2) |
//! | `stop` | stopping and continuing whole processes |
//! | `deferred` | what is left to a task of the kernel, because it concerns very many |
//! | `fault` | exceptions of the CPU as signals |
//!
//! **How a thread notices.** Each task has a word of attention bits ([`attention`]). Whoever posts a signal changes the state
//! below under its locks, sets a bit, and interrupts the task: it leaves user mode or its waiting future is polled, finds
//! the bit, and settles. A thread with no bit set goes to user mode after one relaxed load.
//!
//! **Who synchronises.** [`ProcessSignals`] under the process's lock, [`ThreadSignals`] under the thread's; the process's comes
//! first. A thread's mask is changed only by itself. The set of shared pending signals is also kept in an atomic, so that
//! changing a mask takes the thread's lock only: the thread changes its mask and then looks at the atomic, the sender
//! stores the atomic and then looks at the mask, both under the thread's lock, so one sees the other.
//!
//! **Nothing is stranded.** A signal for the process alerts one thread. If that one blocks it before it was taken, gives up waiting for
//! it or ends, it passes it on ([`send::retarget`]).

use alloc::sync::Arc;

use abi::signal::{Signal, SignalSet, SignalStack};

pub mod action;
pub(crate) mod deferred;
mod deliver;
mod fault;
pub mod frame;
mod information;
pub mod mask;
pub mod owner;
mod pending;
pub mod send;
mod stop;

pub use action::Actions;
pub use information::{Information, code};
pub use pending::Pending;
pub(crate) use stop::GroupStop;
pub use stop::Report;

/// Bits of a task's attention word: reasons not to go to user mode yet.
pub mod attention {
    /// A signal that is not blocked may be pending.
    pub const SIGNAL: u32 = 1;
    /// The process was stopped: the thread is to look whether it is still.
    pub const STOP: u32 = 2;
    /// The thread has to end: the process exits, or another thread executes a new program.
    pub const EXIT: u32 = 4;
    /// A mask was set for the time of one call and has to be put back.
    pub const RESTORE_MASK: u32 = 8;
    /// Nobody watches the process's timers of processor time, because it slept: whoever runs again does.
    pub const PROCESSOR_TIMERS: u32 = 32;
}

/// The signals of a process, under its lock.
pub(crate) struct ProcessSignals {
    /// Shared with the parent until one of them changes something.
    pub actions: Arc<Actions>,
    /// For any thread.
    pub pending: Pending,
    pub stop: GroupStop,
}

impl ProcessSignals {
    pub fn new(actions: Arc<Actions>) -> ProcessSignals {
        ProcessSignals { actions, pending: Pending::default(), stop: GroupStop::default() }
    }
}

/// The signals of a thread, under its lock.
#[derive(Default)]
pub(crate) struct ThreadSignals {
    /// Blocked.
    pub mask: SignalSet,
    /// The mask to return to, while sigsuspend(2) and its like have another one in place.
    pub saved_mask: Option<SignalSet>,
    /// What sigtimedwait(2) waits for: blocked, and yet worth a wake-up.
    pub awaited: SignalSet,
    /// For this thread alone.
    pub pending: Pending,
    /// The alternate stack.
    pub stack: SignalStack,
    /// The stop of its process it was counted in last: it has parked or ended since.
    pub joined_stop: u64,
    /// It is ending and takes nothing more.
    pub ending: bool,
}

impl ThreadSignals {
    /// Whether posting `signal` should wake the thread.
    pub fn wants(&self, signal: Signal) -> bool {
        !self.ending && (!self.mask.contains(signal) || self.awaited.contains(signal))
    }
}
