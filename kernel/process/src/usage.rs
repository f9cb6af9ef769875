//! What processes have used: getrusage(2), times(2).

use abi::limits::ResourceUsage;
use abi::time::{ProcessTimes, Timeval};

/// Nanoseconds in a clock tick of times(2): 1/100 s.
pub const TICK: u64 = 10_000_000;

/// What a thread, a process, or a process's dead children have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds in user mode.
    pub user: u64,
    /// Nanoseconds in the kernel.
    pub system: u64,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that had to wait for a device.
    pub major_faults: u64,
    /// Times it waited.
    pub voluntary_switches: u64,
    /// Times it was preempted.
    pub involuntary_switches: u64,
    /// The most memory it had, in KiB.
    pub peak_resident: u64,
}

impl Usage {
    /// Adds what another one used. The peak is the greater of the two.
    pub fn add(&mut self, other: &Usage) {
        self.user += other.user;
        self.system += other.system;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.peak_resident = self.peak_resident.max(other.peak_resident);
    }

    /// User and system time in ticks.
    pub const fn ticks(&self) -> (u64, u64) {
        (self.user / TICK, self.system / TICK)
    }

    /// As getrusage(2) and wait4(2) tell it.
    pub fn to_program(&self) -> ResourceUsage {
        ResourceUsage {
            user_time: Timeval::from_nanoseconds(self.user),
            system_time: Timeval::from_nanoseconds(self.system),
            maximum_resident: self.peak_resident as i64,
            minor_faults: self.minor_faults as i64,
            major_faults: self.major_faults as i64,
            voluntary_switches: self.voluntary_switches as i64,
            involuntary_switches: self.involuntary_switches as i64,
            ..ResourceUsage::default()
        }
    }
}

/// times(2).
pub fn times(process: &crate::Process) -> ProcessTimes {
    let (user, system) = process.usage().ticks();
    let (children_user, children_system) = process.children_usage().ticks();
    ProcessTimes {
        user: user as i64,
        system: system as i64,
        children_user: children_user as i64,
        children_system: children_system as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_adds_up_but_for_the_peak() {
        let one = Usage { user: 25_000_000, minor_faults: 3, peak_resident: 100, ..Usage::default() };
        let mut sum = Usage { system: 7, peak_resident: 40, ..one };
        sum.add(&one);
        assert_eq!((sum.user, sum.system, sum.minor_faults, sum.peak_resident), (50_000_000, 7, 6, 100));
        assert_eq!(sum.ticks(), (5, 0));
        assert_eq!(sum.to_program().user_time, Timeval { seconds: 0, microseconds: 50_000 });
    }

    #[test]
    fn each_number_is_added_to_its_own() {
        let one = Usage {
            user: 1 << 40,
            system: 3_000_000_001,
            minor_faults: 3,
            major_faults: 4,
            voluntary_switches: 5,
            involuntary_switches: 6,
            peak_resident: 7,
        };
        let mut sum = one;
        sum.add(&one);
        let program = sum.to_program();
        assert_eq!((program.minor_faults, program.major_faults), (6, 8));
        assert_eq!((program.voluntary_switches, program.involuntary_switches, program.maximum_resident), (10, 12, 7));
        assert_eq!((sum.user, sum.system), (2 << 40, 6_000_000_002));
        assert_eq!(sum.ticks(), ((2 << 40) / TICK, 600));
        assert_eq!(program.system_time, Timeval { seconds: 6, microseconds: 0 });
    }
}
