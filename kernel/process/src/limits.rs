//! Resource limits: getrlimit(2), prlimit(2).

use abi::limits::ResourceLimit;
use abi::raw::general as raw;
use abi::{Errno, Result};

use crate::Thread;
use crate::credentials::Capability;
use crate::group::Target;

/// A limit, by its `RLIMIT_` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "see getrlimit(2)")]
pub enum Resource {
    Cpu = 0,
    FileSize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Resident = 5,
    Processes = 6,
    Files = 7,
    LockedMemory = 8,
    AddressSpace = 9,
    Locks = 10,
    PendingSignals = 11,
    MessageQueues = 12,
    Nice = 13,
    RealTimePriority = 14,
    RealTimeTime = 15,
}

/// How many limits there are.
pub const RESOURCES: usize = 16;

impl Resource {
    const ALL: [Resource; RESOURCES] = [
        Resource::Cpu,
        Resource::FileSize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Resident,
        Resource::Processes,
        Resource::Files,
        Resource::LockedMemory,
        Resource::AddressSpace,
        Resource::Locks,
        Resource::PendingSignals,
        Resource::MessageQueues,
        Resource::Nice,
        Resource::RealTimePriority,
        Resource::RealTimeTime,
    ];

    /// The limit of a number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn new(number: u32) -> Result<Resource> {
        Self::ALL.get(number as usize).copied().ok_or(Errno::EINVAL)
    }
}

/// The highest `RLIMIT_NOFILE` anybody may have: /proc/sys/fs/nr_open.
const MOST_FILES: u64 = 1 << 20;

const INFINITY: u64 = ResourceLimit::INFINITY;

/// The limits of a process.
#[derive(Clone, Copy, Debug)]
pub struct Limits([ResourceLimit; RESOURCES]);

impl Limits {
    /// Those of the first process, as Linux gives them on a machine of so many frames.
    pub fn initial(frames: usize) -> Limits {
        // Half of what fills an eighth of the memory with thread structures.
        let processes = (frames as u64 / 32).max(64);
        let mut limits = Limits([ResourceLimit { soft: INFINITY, hard: INFINITY }; RESOURCES]);
        limits.put(Resource::Stack, u64::from(raw::_STK_LIM), INFINITY);
        limits.put(Resource::Core, 0, INFINITY);
        limits.put(Resource::Processes, processes, processes);
        limits.put(Resource::Files, 1024, 4096);
        limits.put(Resource::LockedMemory, 8 << 20, 8 << 20);
        limits.put(Resource::PendingSignals, processes, processes);
        limits.put(Resource::MessageQueues, 819_200, 819_200);
        limits.put(Resource::Nice, 0, 0);
        limits.put(Resource::RealTimePriority, 0, 0);
        limits
    }

    fn put(&mut self, resource: Resource, soft: u64, hard: u64) {
        if let Some(limit) = self.0.get_mut(resource as usize) {
            *limit = ResourceLimit { soft, hard };
        }
    }

    /// A limit.
    pub fn get(&self, resource: Resource) -> ResourceLimit {
        self.0.get(resource as usize).copied().unwrap_or(ResourceLimit { soft: INFINITY, hard: INFINITY })
    }

    /// What holds.
    pub fn soft(&self, resource: Resource) -> u64 {
        self.get(resource).soft
    }

    /// All, by number, as (soft, hard).
    pub fn all(&self) -> [(u64, u64); RESOURCES] {
        self.0.map(|limit| (limit.soft, limit.hard))
    }

    /// The soft limit of processor time was reached: the next warning comes a second later.
    pub(crate) fn extend_processor_time(&mut self) {
        let limit = self.get(Resource::Cpu);
        self.put(Resource::Cpu, limit.soft.saturating_add(1), limit.hard);
    }

    /// What concerns memory.
    pub fn memory(&self) -> memory::Limits {
        memory::Limits {
            address_space: self.soft(Resource::AddressSpace),
            data: self.soft(Resource::Data),
            stack: self.soft(Resource::Stack),
            locked: self.soft(Resource::LockedMemory),
        }
    }
}

/// prlimit(2): returns the old limit of the process of `target`, and sets a new one if there is one.
///
/// # Errors
/// `EINVAL` if soft is above hard, `EPERM` for raising the hard limit without `CAP_SYS_RESOURCE`, or for another's process.
pub fn change(
    thread: &Thread,
    target: &Target,
    resource: Resource,
    new: Option<ResourceLimit>,
) -> Result<ResourceLimit> {
    let (own, process) = (thread.credentials(), &target.process);
    if target.tid != thread.tid() {
        let target = &target.credentials;
        let (ids, groups) = (target.users, target.groups);
        let same = [ids.real, ids.effective, ids.saved].iter().all(|&id| id == own.users.real)
            && [groups.real, groups.effective, groups.saved].iter().all(|&id| id == own.groups.real);
        if !same && !own.has(Capability::SysResource) {
            return Err(Errno::EPERM);
        }
    }
    let mut limits = process.lock_limits();
    let old = limits.get(resource);
    let Some(new) = new else { return Ok(old) };
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    let raises = new.hard > old.hard;
    if resource == Resource::Files && new.hard > MOST_FILES || raises && !own.has(Capability::SysResource) {
        return Err(Errno::EPERM);
    }
    limits.put(resource, new.soft, new.hard);
    let memory = limits.memory();
    drop(limits);
    if let Some(space) = process.space() {
        space.set_limits(memory);
    }
    if resource == Resource::Cpu {
        process.begin_watching_processor_time();
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_linux_s_numbers_and_defaults() {
        for (number, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource as usize, number);
            assert_eq!(Resource::new(number as u32), Ok(resource));
        }
        assert_eq!(Resource::new(16), Err(Errno::EINVAL));
        assert_eq!((Resource::Files as u32, Resource::AddressSpace as u32), (raw::RLIMIT_NOFILE, raw::RLIMIT_AS));
        let limits = Limits::initial(65536);
        assert_eq!(limits.soft(Resource::Stack), 8 << 20);
        assert_eq!(limits.get(Resource::Files), ResourceLimit { soft: 1024, hard: 4096 });
        assert_eq!(limits.soft(Resource::Cpu), u64::MAX);
    }

    #[test]
    fn the_first_process_has_linux_s_limits_by_its_memory() {
        for (frames, threads) in [(0, 64), (64 * 32, 64), (65 * 32, 65), (65536, 2048)] {
            let limits = Limits::initial(frames);
            let same = |limit| ResourceLimit { soft: limit, hard: limit };
            assert_eq!(
                (limits.get(Resource::Processes), limits.get(Resource::PendingSignals)),
                (same(threads), same(threads))
            );
            assert_eq!(limits.get(Resource::LockedMemory), same(8 << 20));
            assert_eq!(limits.get(Resource::MessageQueues), same(819_200));
            assert_eq!(limits.get(Resource::Core), ResourceLimit { soft: 0, hard: INFINITY });
            assert_eq!((limits.get(Resource::Nice), limits.get(Resource::RealTimePriority)), (same(0), same(0)));
            let memory = limits.memory();
            assert_eq!((memory.stack, memory.locked), (8 << 20, 8 << 20));
            assert_eq!((memory.data, memory.address_space), (INFINITY, INFINITY));
            assert_eq!(limits.all()[Resource::Files as usize], (1024, 4096));
        }
    }

    #[test]
    fn a_warning_moves_the_soft_limit_of_time_a_second_on() {
        let mut limits = Limits::initial(1);
        limits.put(Resource::Cpu, 3, 10);
        limits.extend_processor_time();
        assert_eq!(limits.get(Resource::Cpu), ResourceLimit { soft: 4, hard: 10 });
        assert_eq!(limits.soft(Resource::FileSize), INFINITY);
    }
}
