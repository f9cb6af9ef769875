//! What processes may use and have used: getrlimit(2), prlimit(2), getrusage(2), times(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::limits::{ResourceLimit, ResourceUsage};
use abi::raw::general as raw;
use abi::time::ProcessTimes;
use process::Thread;
use process::group::Target;
use process::limits::{self, Resource};
use process::usage::{self, Usage};
use vfs::NotReady;

use crate::argument::{In, Out};

/// getrlimit(2)
pub(crate) fn getrlimit(thread: &Arc<Thread>, resource: u32, limit: Out<ResourceLimit>) -> Result<(), NotReady> {
    let now = thread.process().limits().get(Resource::new(resource)?);
    limit.write(thread, &now)
}

/// setrlimit(2)
pub(crate) fn setrlimit(thread: &Arc<Thread>, resource: u32, limit: In<ResourceLimit>) -> Result<(), NotReady> {
    let new = limit.read(thread)?;
    limits::change(thread, &Target::new(thread, 0)?, Resource::new(resource)?, Some(new))?;
    Ok(())
}

/// prlimit(2)
pub(crate) fn prlimit64(
    thread: &Arc<Thread>,
    pid: i32,
    resource: u32,
    new: In<ResourceLimit>,
    old: Out<ResourceLimit>,
) -> Result<(), NotReady> {
    let new = new.read_optional(thread)?;
    let target = Target::new(thread, pid)?;
    old.make_present(thread)?;
    let before = limits::change(thread, &target, Resource::new(resource)?, new)?;
    old.write_optional(thread, &before)
}

/// getrusage(2)
pub(crate) fn getrusage(thread: &Arc<Thread>, who: i32, usage: Out<ResourceUsage>) -> Result<(), NotReady> {
    let used = match who {
        raw::RUSAGE_CHILDREN => thread.process().children_usage(),
        SELF => thread.process().usage(),
        // The memory is the process's, as on Linux.
        THREAD => Usage { peak_resident: thread.process().usage().peak_resident, ..thread.usage() },
        _ => return Err(Errno::EINVAL.into()),
    };
    usage.write(thread, &used.to_program())
}

/// `RUSAGE_SELF`
const SELF: i32 = raw::RUSAGE_SELF as i32;
/// `RUSAGE_THREAD`
const THREAD: i32 = raw::RUSAGE_THREAD as i32;

/// times(2). Returns the ticks since boot.
pub(crate) fn times(thread: &Arc<Thread>, times: Out<ProcessTimes>) -> Result<usize, NotReady> {
    if !times.is_null() {
        times.write(thread, &usage::times(thread.process()))?;
    }
    Ok((machine::time::now() / usage::TICK) as usize)
}
