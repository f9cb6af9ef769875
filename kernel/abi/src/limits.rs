//! What a process may use and what it has used: getrlimit(2), getrusage(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::time::Timeval;

/// `struct rlimit64`, and `struct rlimit`, which is the same on x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ResourceLimit {
    /// `rlim_cur`: what holds
    pub soft: u64,
    /// `rlim_max`: up to where the process may raise it
    pub hard: u64,
}

/// `struct rusage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ResourceUsage {
    /// `ru_utime`: time in user mode
    pub user_time: Timeval,
    /// `ru_stime`: time in the kernel
    pub system_time: Timeval,
    /// `ru_maxrss` in KiB
    pub maximum_resident: i64,
    /// `ru_ixrss`, `ru_idrss`, `ru_isrss`: always 0 on Linux
    pub integral_sizes: [i64; 3],
    /// `ru_minflt`: page faults without I/O
    pub minor_faults: i64,
    /// `ru_majflt`: page faults with I/O
    pub major_faults: i64,
    /// `ru_nswap`: always 0 on Linux
    pub swaps: i64,
    /// `ru_inblock`
    pub blocks_in: i64,
    /// `ru_oublock`
    pub blocks_out: i64,
    /// `ru_msgsnd`, `ru_msgrcv`, `ru_nsignals`: always 0 on Linux
    pub messages: [i64; 3],
    /// `ru_nvcsw`: how often it waited
    pub voluntary_switches: i64,
    /// `ru_nivcsw`: how often it was preempted
    pub involuntary_switches: i64,
}

impl ResourceLimit {
    /// `RLIM64_INFINITY`
    pub const INFINITY: u64 = u64::MAX;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<ResourceLimit>(), size_of::<ResourceUsage>()), (16, 144));
    }
}
