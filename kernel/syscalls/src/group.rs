//! Process groups and sessions: setpgid(2), setsid(2).

use alloc::sync::Arc;

use abi::Errno;
use process::{Thread, group};

/// setpgid(2)
pub(crate) fn setpgid(thread: &Arc<Thread>, pid: i32, group: i32) -> Result<(), Errno> {
    group::set_group(thread, pid, group)
}

/// getpgid(2)
pub(crate) fn getpgid(thread: &Arc<Thread>, pid: i32) -> Result<usize, Errno> {
    Ok(group::process_of(thread, pid)?.group_id() as usize)
}

/// getpgrp(2)
pub(crate) fn getpgrp(thread: &Arc<Thread>) -> Result<usize, Errno> {
    getpgid(thread, 0)
}

/// setsid(2)
pub(crate) fn setsid(thread: &Arc<Thread>) -> Result<usize, Errno> {
    Ok(group::set_session(thread)? as usize)
}

/// getsid(2)
pub(crate) fn getsid(thread: &Arc<Thread>, pid: i32) -> Result<usize, Errno> {
    Ok(group::process_of(thread, pid)?.session_id() as usize)
}
