//! Process groups and sessions: setpgid(2), setsid(2).

use alloc::sync::Arc;

use abi::Errno;
use process::{Failure, Interrupted, Thread, group};
use vfs::NotReady;

/// setpgid(2)
pub(crate) fn setpgid(thread: &Arc<Thread>, pid: i32, group: i32) -> Result<(), NotReady> {
    group::set_group(thread, pid, group)
}

/// setpgid(2) while a signal is on its way to the group the process leaves.
pub(crate) async fn setpgid_waiting(_thread: &Arc<Thread>, _pid: i32, _group: i32) -> Result<(), Failure> {
    start_again().await
}

/// Lets others run, and begins the call anew.
async fn start_again<T>() -> Result<T, Failure> {
    sync::yield_now().await;
    Err(Interrupted::RestartAlways.into())
}

/// getpgid(2)
pub(crate) fn getpgid(thread: &Arc<Thread>, pid: i32) -> Result<usize, Errno> {
    Ok(thread.pid_number(group::process_of(thread, pid)?.group_id()) as usize)
}

/// getpgrp(2)
pub(crate) fn getpgrp(thread: &Arc<Thread>) -> Result<usize, Errno> {
    getpgid(thread, 0)
}

/// setsid(2)
pub(crate) fn setsid(thread: &Arc<Thread>) -> Result<usize, NotReady> {
    Ok(thread.pid_number(group::set_session(thread)?) as usize)
}

/// setsid(2) while a signal is on its way to the caller's group.
pub(crate) async fn setsid_waiting(_thread: &Arc<Thread>) -> Result<usize, Failure> {
    start_again().await
}

/// getsid(2)
pub(crate) fn getsid(thread: &Arc<Thread>, pid: i32) -> Result<usize, Errno> {
    Ok(thread.pid_number(group::process_of(thread, pid)?.session_id()) as usize)
}
