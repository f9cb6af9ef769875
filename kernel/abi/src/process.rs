//! Structures about processes: clone3(2), capget(2), sched_setparam(2), and the status word of wait(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::signal::Signal;

/// `struct clone_args`, as far as version 2 goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CloneArguments {
    /// `flags`, without the signal
    pub flags: u64,
    /// `pidfd`: where to store a file descriptor
    pub pidfd: u64,
    /// `child_tid`
    pub child_tid: u64,
    /// `parent_tid`
    pub parent_tid: u64,
    /// `exit_signal`
    pub exit_signal: u64,
    /// `stack`: its lowest byte
    pub stack: u64,
    /// `stack_size`
    pub stack_size: u64,
    /// `tls`
    pub tls: u64,
    /// `set_tid`
    pub set_tid: u64,
    /// `set_tid_size`
    pub set_tid_size: u64,
    /// `cgroup`
    pub cgroup: u64,
}

/// `struct __user_cap_header_struct`
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CapabilityHeader {
    /// `version`
    pub version: u32,
    /// `pid`
    pub pid: i32,
}

/// `struct __user_cap_data_struct`: 32 of the capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CapabilityData {
    /// `effective`
    pub effective: u32,
    /// `permitted`
    pub permitted: u32,
    /// `inheritable`
    pub inheritable: u32,
}

/// How a process ended, as wait(2) encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit with this status.
    Exited(u8),
    /// A signal killed it.
    Killed(Signal),
}

impl ExitStatus {
    /// The status word.
    pub const fn wait_status(self) -> i32 {
        match self {
            ExitStatus::Exited(status) => (status as i32) << 8,
            ExitStatus::Killed(signal) => signal.number() as i32,
        }
    }
}

/// The status word of a child that a signal stopped.
pub const fn stopped_status(signal: Signal) -> i32 {
    (signal.number() as i32) << 8 | 0x7f
}

/// The status word of a child that was continued.
pub const CONTINUED_STATUS: i32 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_are_linux_s() {
        assert_eq!(ExitStatus::Exited(3).wait_status(), 0x300);
        assert_eq!(ExitStatus::Killed(Signal::KILL).wait_status(), 9);
        assert_eq!(stopped_status(Signal::TSTP), 0x147f);
        assert_eq!((size_of::<CloneArguments>(), size_of::<CapabilityData>()), (88, 12));
    }
}
