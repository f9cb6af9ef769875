//! Processes: what runs, who is whose parent, and what signals do to them.
//!
//! | module | holds |
//! | --- | --- |
//! | `kernel` | [`Kernel`]: the value everything hangs from: executor, memory, files, process table, names, hooks |
//! | `process`, `thread` | [`Process`], a group of threads; [`Thread`], one future and one set of registers |
//! | `run` | the heart: enter user mode, answer the trap, settle what is due, again. [`SystemCalls`], [`Outcome`] |
//! | `pid` | [`Processes`]: who has which number, groups and sessions; no lock over all of it |
//! | `namespaces` | [`Namespaces`]: what of the system a process sees, and which number means whom |
//! | [`clone`], [`exec`], [`exit`], [`wait`] | the life of a process |
//! | [`signal`] | sets, queues, actions, sending, delivery, frames, stopping |
//! | [`group`] | sessions and groups; job control for terminals |
//! | [`credentials`], [`limits`], [`usage`], [`timers`] | who it is, what it may use, what it has used, its timers |
//! | `ucounts` | [`UserCounts`]: what is counted for a user over all his processes |
//! | `oom` | who has to end when memory is out |
//! | [`futex`] | sleeping until a word of memory changes |
//! | `stage` | for tests, of rooms above this one too: a whole kernel whose programs are played |
//!
//! **Who calls.** kernel/syscalls parses arguments and calls the plain functions of these modules, one a system call; the terminal
//! room asks [`group`] through its trait; kernel/procfs shows processes in /proc; kernel/orrery makes the [`Kernel`] and starts init.
//!
//! **Who synchronises.** The order of locks, outermost first: the children of a process, its group (see `pid`), a process's signals, its
//! list of threads, a thread's signals, the scheduler's queues. Everything else is locked alone. A thread's registers are touched by its own
//! future only.
//!
//! **The life of a thread.** [`clone::clone`] makes a [`Thread`] and its task; the task's future (`run`) loops until the attention
//! word says that it has to end; then [`exit`] takes it apart. What a signal, a stop or the end of the process wants of
//! a thread is a bit in that word: a thread without any goes back to user mode after one load. docs/src/life-of-a-thread.md draws it, and
//! comments name its edges.

#![cfg_attr(not(any(test, feature = "test-hooks")), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

pub mod clone;
pub mod credentials;
pub mod exec;
pub mod exit;
pub mod futex;
pub mod group;
mod init;
mod kernel;
pub mod limits;
mod namespaces;
mod oom;
mod pid;
mod process;
mod run;
pub mod signal;
mod thread;
pub mod timers;
mod ucounts;
pub mod usage;
pub mod wait;

pub use abi::Pid;
pub use abi::process::ExitStatus;
pub use credentials::Credentials;
pub use init::{FirstProgram, Role};
pub use kernel::{Hooks, Kernel, Parts, Shutdown};
pub use namespaces::{
    HostName, IpcNamespace, NAME_LENGTH, Namespaces, NetworkNamespace, PidNamespace, UserNamespace, UtsNamespace,
};
pub use pid::Processes;
pub use process::{Image, Process, Program};
pub use run::{Attempt, Call, Failure, Interrupted, NewImage, Outcome, Resume, SystemCalls, activity};
pub use thread::{Name, RunState, Thread, ThreadState};
pub use ucounts::UserCounts;

/// Where the atomics of the futexes' table, of numbers and of broadcasts come from: the models put others in their place.
mod atomic {
    pub use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

#[cfg(test)]
mod scenarios;
#[cfg(any(test, feature = "test-hooks"))]
pub mod stage;
