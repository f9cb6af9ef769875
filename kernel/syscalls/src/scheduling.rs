//! Who runs where and how often: sched_setaffinity(2), sched_setscheduler(2), getpriority(2), sched_yield(2).
//!
//! There is one policy, the fair one of `SCHED_OTHER`. Asking for another is `EINVAL`, as for one Linux doesn't have.

use alloc::sync::Arc;

use abi::Errno;
use abi::cpus::CpuSet;
use abi::raw::general as raw;
use abi::time::Timespec;
use process::credentials::{Capability, Credentials};
use process::limits::Resource;
use process::{Failure, Pid, Thread, ThreadState};
use vfs::NotReady;

use crate::argument::{Address, In, Out};
use crate::user;

/// Sets of CPUs come in words of so many bytes.
const WORD: usize = size_of::<u64>();

/// What sched_rr_get_interval(2) tells: about what the fair policy gives at a time.
const SLICE: Timespec = Timespec { seconds: 0, nanoseconds: 3_000_000 };

/// The thread a call names; 0 is the caller.
///
/// # Errors
/// `ESRCH`.
fn thread_of(thread: &Arc<Thread>, tid: i32) -> Result<Arc<ThreadState>, Errno> {
    if tid == 0 {
        return Ok(thread.state().clone());
    }
    let tid = u32::try_from(tid).ok().and_then(|number| thread.pid_of(number)).ok_or(Errno::ESRCH)?;
    thread.kernel().processes().thread(tid).ok_or(Errno::ESRCH)
}

/// As [`thread_of`], for the calls to which a negative number is an error of another kind.
fn scheduled_thread(thread: &Arc<Thread>, tid: i32) -> Result<Arc<ThreadState>, Errno> {
    if tid < 0 { Err(Errno::EINVAL) } else { thread_of(thread, tid) }
}

/// Whether `own` may change how `target` is scheduled.
fn may_schedule(own: &Credentials, target: &Credentials) -> bool {
    let same = [target.users.real, target.users.effective].contains(&own.users.effective);
    same || own.has(Capability::SysNice)
}

/// All CPUs.
fn all_cpus() -> CpuSet {
    CpuSet::first(machine::cpu::count())
}

/// The bytes of a set that tells of all CPUs.
fn mask_size() -> usize {
    machine::cpu::count().div_ceil(u64::BITS as usize) * WORD
}

/// sched_yield(2), if there is nobody to give way to.
pub(crate) fn sched_yield(thread: &Arc<Thread>) -> Result<usize, NotReady> {
    if thread.task().executor().others_wait() { Err(NotReady::WouldBlock) } else { Ok(0) }
}

/// sched_yield(2)
pub(crate) async fn sched_yield_waiting(thread: &Arc<Thread>) -> Result<usize, Failure> {
    thread.task().give_way().await;
    Ok(0)
}

/// sched_getaffinity(2), as the kernel has it: returns the size of the set.
pub(crate) fn sched_getaffinity(thread: &Arc<Thread>, pid: i32, length: u32, mask: Address) -> Result<usize, NotReady> {
    let length = length as usize;
    if length * 8 < machine::cpu::count() || !length.is_multiple_of(WORD) {
        return Err(Errno::EINVAL.into());
    }
    let affinity = thread_of(thread, pid)?.task().affinity().intersection(&all_cpus());
    let size = mask_size().min(length);
    user::write(thread, mask.0, affinity.to_bytes().get(..size).unwrap_or_default())?;
    Ok(size)
}

/// sched_setaffinity(2). A shorter set stands for one that ends in zeros; what is beyond the CPUs doesn't count.
pub(crate) async fn sched_setaffinity(
    thread: &Arc<Thread>,
    pid: i32,
    length: u32,
    mask: Address,
) -> Result<usize, Failure> {
    let mut bytes = [0; CpuSet::CAPACITY / 8];
    let given = bytes.get_mut(..(length as usize).min(mask_size())).unwrap_or_default();
    thread.space().copy_in(mask.0, given).await?;
    let target = thread_of(thread, pid)?;
    if !may_schedule(&thread.credentials(), &target.credentials()) {
        return Err(Errno::EPERM.into());
    }
    let wanted = CpuSet::from_bytes(&bytes).intersection(&all_cpus());
    if wanted.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    target.task().set_affinity(wanted);
    // As on Linux, the call returns when the target, often the caller, has left a CPU that it may not have any more. That
    // is as soon as its CPU has heard of it.
    while target.task().is_misplaced() && !thread.must_end() {
        sched::yield_now().await;
    }
    Ok(0)
}

/// sched_getscheduler(2)
pub(crate) fn sched_getscheduler(thread: &Arc<Thread>, pid: i32) -> Result<usize, Errno> {
    scheduled_thread(thread, pid)?;
    Ok(raw::SCHED_NORMAL as usize)
}

/// sched_setscheduler(2)
pub(crate) fn sched_setscheduler(
    thread: &Arc<Thread>,
    pid: i32,
    policy: i32,
    parameters: In<i32>,
) -> Result<(), NotReady> {
    if policy < 0 {
        return Err(Errno::EINVAL.into());
    }
    set_policy(thread, pid, Some(policy), parameters)
}

/// sched_setparam(2)
pub(crate) fn sched_setparam(thread: &Arc<Thread>, pid: i32, parameters: In<i32>) -> Result<(), NotReady> {
    set_policy(thread, pid, None, parameters)
}

/// Under `SCHED_OTHER` the only priority is 0.
fn set_policy(thread: &Arc<Thread>, pid: i32, policy: Option<i32>, parameters: In<i32>) -> Result<(), NotReady> {
    if pid < 0 || parameters.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let priority = parameters.read(thread)?;
    let target = thread_of(thread, pid)?;
    /// `SCHED_RESET_ON_FORK`, which changes nothing for the only policy.
    const RESET_ON_FORK: i32 = raw::SCHED_RESET_ON_FORK as i32;
    let normal = policy.is_none_or(|policy| policy & !RESET_ON_FORK == raw::SCHED_NORMAL as i32);
    if !normal || priority != 0 {
        return Err(Errno::EINVAL.into());
    }
    if !may_schedule(&thread.credentials(), &target.credentials()) {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}

/// sched_getparam(2)
pub(crate) fn sched_getparam(thread: &Arc<Thread>, pid: i32, parameters: Out<i32>) -> Result<(), NotReady> {
    if parameters.is_null() {
        return Err(Errno::EINVAL.into());
    }
    scheduled_thread(thread, pid)?;
    parameters.write(thread, &0)
}

/// sched_get_priority_max(2)
pub(crate) fn sched_get_priority_max(_: &Arc<Thread>, policy: i32) -> Result<usize, Errno> {
    priority_range(policy).map(|(_, highest)| highest)
}

/// sched_get_priority_min(2)
pub(crate) fn sched_get_priority_min(_: &Arc<Thread>, policy: i32) -> Result<usize, Errno> {
    priority_range(policy).map(|(lowest, _)| lowest)
}

/// The priorities of a policy, which can be asked for every policy of Linux.
fn priority_range(policy: i32) -> Result<(usize, usize), Errno> {
    match u32::try_from(policy).map_err(|_| Errno::EINVAL)? {
        raw::SCHED_FIFO | raw::SCHED_RR => Ok((1, 99)),
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE | raw::SCHED_DEADLINE | raw::SCHED_EXT => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_rr_get_interval(2)
pub(crate) fn sched_rr_get_interval(thread: &Arc<Thread>, pid: i32, interval: Out<Timespec>) -> Result<(), NotReady> {
    scheduled_thread(thread, pid)?;
    interval.write(thread, &SLICE)
}

/// Whom getpriority(2) and setpriority(2) are about.
fn each_of(thread: &Arc<Thread>, which: i32, who: i32, mut act: impl FnMut(&Arc<ThreadState>)) -> Result<(), Errno> {
    let own = thread.process();
    let kernel = thread.kernel();
    let number = who as u32;
    let each_thread = |member: &dyn Fn(&ThreadState) -> bool, act: &mut dyn FnMut(&Arc<ThreadState>)| {
        let mut next = Pid::NOBODY;
        while let Some(process) = kernel.processes().next(next) {
            next = process.pid().next();
            process.each_thread(|thread| {
                if member(thread) {
                    act(thread);
                }
            });
        }
    };
    match u32::try_from(which).map_err(|_| Errno::EINVAL)? {
        raw::PRIO_PROCESS => {
            if let Ok(target) = thread_of(thread, who) {
                act(&target);
            }
        }
        raw::PRIO_PGRP => {
            let group = if who == 0 { own.group_id() } else { thread.pid_of(number).ok_or(Errno::ESRCH)? };
            each_thread(&|thread| thread.process().group_id() == group, &mut act);
        }
        raw::PRIO_USER => {
            let user = if who == 0 { thread.credentials().users.real } else { number };
            each_thread(&|thread| thread.credentials().users.real == user, &mut act);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// getpriority(2), as the kernel has it: 20 minus the nice value of the most favoured.
pub(crate) fn getpriority(thread: &Arc<Thread>, which: i32, who: i32) -> Result<usize, Errno> {
    let mut best = None;
    each_of(thread, which, who, |target| {
        let priority = 20 - i32::from(target.task().nice());
        best = best.max(Some(priority));
    })?;
    best.map(|priority| priority as usize).ok_or(Errno::ESRCH)
}

/// setpriority(2). The result is that of the last one who was found, unless it was an error for an earlier one.
pub(crate) fn setpriority(thread: &Arc<Thread>, which: i32, who: i32, priority: i32) -> Result<(), Errno> {
    let nice = priority.clamp(-20, 19) as i8;
    let own = thread.credentials();
    let mut result = Err(Errno::ESRCH);
    each_of(thread, which, who, |target| {
        let outcome = set_nice(&own, target, nice);
        if outcome.is_err() || result == Err(Errno::ESRCH) {
            result = outcome;
        }
    })?;
    result
}

fn set_nice(own: &Credentials, target: &Arc<ThreadState>, nice: i8) -> Result<(), Errno> {
    if !may_schedule(own, &target.credentials()) {
        return Err(Errno::EPERM);
    }
    // `RLIMIT_NICE` counts from 1 (nice 19) to 40 (nice -20).
    let wanted = (20 - i64::from(nice)) as u64;
    let limit = target.process().limits().soft(Resource::Nice);
    if nice < target.task().nice() && wanted > limit && !own.has(Capability::SysNice) {
        return Err(Errno::EACCES);
    }
    target.task().set_nice(nice);
    Ok(())
}

/// getcpu(2). There is one node.
pub(crate) fn getcpu(thread: &Arc<Thread>, cpu: Out<u32>, node: Out<u32>, _cache: Address) -> Result<(), NotReady> {
    cpu.write_optional(thread, &(machine::cpu::current() as u32))?;
    node.write_optional(thread, &0)
}
