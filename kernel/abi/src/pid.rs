//! Pids: which thread, process, process group or session is meant. See pid_namespaces(7).
//!
//! A [`Pid`] is the same everywhere in the kernel, as Linux's `struct pid` is. The number that a program sees for it is a matter of the
//! program's pid namespace, which turns one into the other where a call's arguments come in and its results go out.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// A thread, a process, a process group or a session; a process is known by the thread it began with, a group and a session by the
/// process that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pid(u32);

impl Pid {
    /// Nobody: the kernel itself, and who is outside of a program's sight.
    pub const NOBODY: Pid = Pid(0);

    /// The pid of an index in the kernel's table of processes. Not to be made of what a program says: its namespace knows whom it means.
    pub const fn new(index: u32) -> Pid {
        Pid(index)
    }

    /// The index in the kernel's table of processes. Not to be told to a program: its namespace knows the number.
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Whether this is nobody.
    pub const fn is_nobody(self) -> bool {
        self.0 == 0
    }

    /// The first pid after this one in the table's order.
    pub const fn next(self) -> Pid {
        Pid(self.0.saturating_add(1))
    }
}

/// In the kernel's own messages.
impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A [`Pid`] that is read and replaced without a lock. What was written before it was stored is seen by who loads it.
#[derive(Debug, Default)]
pub struct AtomicPid(AtomicU32);

impl AtomicPid {
    /// One that holds `pid`.
    pub const fn new(pid: Pid) -> AtomicPid {
        AtomicPid(AtomicU32::new(pid.0))
    }

    /// What it holds.
    pub fn load(&self) -> Pid {
        Pid(self.0.load(Ordering::Acquire))
    }

    /// Replaces what it holds.
    pub fn store(&self, pid: Pid) {
        self.0.store(pid.0, Ordering::Release);
    }

    /// Stores `pid` where it held nobody. False if it held somebody.
    pub fn store_if_nobody(&self, pid: Pid) -> bool {
        self.0.compare_exchange(0, pid.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
