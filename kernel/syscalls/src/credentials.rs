//! Who a thread is: getuid(2), setresuid(2), getgroups(2), capget(2) and their kin.

use alloc::sync::Arc;

use abi::Errno;
use abi::process::{CapabilityData, CapabilityHeader};
use abi::raw::general as raw;
use process::Thread;
use process::credentials::{Capability, Credentials};
use process::group::Target;
use vfs::NotReady;
use zerocopy::IntoBytes;

use crate::argument::{In, InOut, Out};
use crate::user;

/// `NGROUPS_MAX`
const MOST_GROUPS: usize = raw::NGROUPS_MAX as usize;

/// getuid(2)
pub(crate) fn getuid(thread: &Arc<Thread>) -> usize {
    thread.credentials().users.real as usize
}

/// geteuid(2)
pub(crate) fn geteuid(thread: &Arc<Thread>) -> usize {
    thread.credentials().users.effective as usize
}

/// getgid(2)
pub(crate) fn getgid(thread: &Arc<Thread>) -> usize {
    thread.credentials().groups.real as usize
}

/// getegid(2)
pub(crate) fn getegid(thread: &Arc<Thread>) -> usize {
    thread.credentials().groups.effective as usize
}

/// Replaces the calling thread's credentials by what `change` makes of them.
fn change(thread: &Arc<Thread>, change: impl FnOnce(&Credentials) -> Result<Credentials, Errno>) -> Result<(), Errno> {
    let new = change(&thread.credentials())?;
    thread.set_credentials(new)
}

/// setuid(2)
pub(crate) fn setuid(thread: &Arc<Thread>, user: u32) -> Result<(), Errno> {
    change(thread, |old| old.set_user(user))
}

/// setgid(2)
pub(crate) fn setgid(thread: &Arc<Thread>, group: u32) -> Result<(), Errno> {
    change(thread, |old| old.set_group(group))
}

/// setreuid(2)
pub(crate) fn setreuid(thread: &Arc<Thread>, real: u32, effective: u32) -> Result<(), Errno> {
    change(thread, |old| old.set_real_effective_user(real, effective))
}

/// setregid(2)
pub(crate) fn setregid(thread: &Arc<Thread>, real: u32, effective: u32) -> Result<(), Errno> {
    change(thread, |old| old.set_real_effective_group(real, effective))
}

/// setresuid(2)
pub(crate) fn setresuid(thread: &Arc<Thread>, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    change(thread, |old| old.set_users(real, effective, saved))
}

/// setresgid(2)
pub(crate) fn setresgid(thread: &Arc<Thread>, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    change(thread, |old| old.set_groups(real, effective, saved))
}

/// getresuid(2)
pub(crate) fn getresuid(
    thread: &Arc<Thread>,
    real: Out<u32>,
    effective: Out<u32>,
    saved: Out<u32>,
) -> Result<(), NotReady> {
    let ids = thread.credentials().users;
    real.write(thread, &ids.real)?;
    effective.write(thread, &ids.effective)?;
    saved.write(thread, &ids.saved)
}

/// getresgid(2)
pub(crate) fn getresgid(
    thread: &Arc<Thread>,
    real: Out<u32>,
    effective: Out<u32>,
    saved: Out<u32>,
) -> Result<(), NotReady> {
    let ids = thread.credentials().groups;
    real.write(thread, &ids.real)?;
    effective.write(thread, &ids.effective)?;
    saved.write(thread, &ids.saved)
}

/// setfsuid(2). Returns the old id, whether it changed or not.
pub(crate) fn setfsuid(thread: &Arc<Thread>, user: u32) -> usize {
    let old = thread.credentials();
    // The real user stays, so nothing can be missing.
    let _ = thread.set_credentials(old.set_file_user(user));
    old.users.files as usize
}

/// setfsgid(2)
pub(crate) fn setfsgid(thread: &Arc<Thread>, group: u32) -> usize {
    let old = thread.credentials();
    let _ = thread.set_credentials(old.set_file_group(group));
    old.groups.files as usize
}

/// getgroups(2)
pub(crate) fn getgroups(thread: &Arc<Thread>, size: i32, list: Out<u32>) -> Result<usize, NotReady> {
    let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let credentials = thread.credentials();
    let groups = credentials.supplementary();
    if room > 0 {
        if room < groups.len() {
            return Err(Errno::EINVAL.into());
        }
        user::write(thread, list.0, groups.as_bytes())?;
    }
    Ok(groups.len())
}

/// setgroups(2). Linux keeps the groups in ascending order, and shows them so.
pub(crate) fn setgroups(thread: &Arc<Thread>, size: i32, list: In<u32>) -> Result<(), NotReady> {
    thread.credentials().require(Capability::SetGid)?;
    let size = usize::try_from(size).ok().filter(|&size| size <= MOST_GROUPS).ok_or(Errno::EINVAL)?;
    let mut groups = user::read_array::<u32>(thread, list.0, size)?;
    groups.sort_unstable();
    let groups = Arc::new(groups);
    Ok(change(thread, |old| old.set_supplementary(groups))?)
}

/// How many elements of data belong to a version of the capability interface: one of 32 bits, or two.
///
/// # Errors
/// `EINVAL` for a version Linux doesn't know; the newest is then written to the header, so that programs can ask.
fn elements(thread: &Arc<Thread>, header: InOut<CapabilityHeader>) -> Result<(CapabilityHeader, usize), NotReady> {
    let given = header.input().read(thread)?;
    match given.version {
        raw::_LINUX_CAPABILITY_VERSION_1 => Ok((given, 1)),
        raw::_LINUX_CAPABILITY_VERSION_2 | raw::_LINUX_CAPABILITY_VERSION_3 => Ok((given, 2)),
        _ => {
            let newest = CapabilityHeader { version: raw::_LINUX_CAPABILITY_VERSION_3, ..given };
            header.output().write(thread, &newest)?;
            Err(Errno::EINVAL.into())
        }
    }
}

/// capget(2)
pub(crate) fn capget(
    thread: &Arc<Thread>,
    header: InOut<CapabilityHeader>,
    data: Out<CapabilityData>,
) -> Result<(), NotReady> {
    let (header, count) = match elements(thread, header) {
        // Asking for the version alone is no error.
        Err(NotReady::Error(Errno::EINVAL)) if data.is_null() => return Ok(()),
        elements => elements?,
    };
    if header.pid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let sets = Target::new(thread, header.pid)?.credentials.capabilities;
    if data.is_null() {
        return Ok(());
    }
    for index in 0..count {
        let part = |set: u64| (set >> (32 * index)) as u32;
        let element = CapabilityData {
            effective: part(sets.effective),
            permitted: part(sets.permitted),
            inheritable: part(sets.inheritable),
        };
        data.element(index).write(thread, &element)?;
    }
    Ok(())
}

/// capset(2). Only the caller's own can be set.
pub(crate) fn capset(
    thread: &Arc<Thread>,
    header: InOut<CapabilityHeader>,
    data: In<CapabilityData>,
) -> Result<(), NotReady> {
    let (header, count) = elements(thread, header)?;
    if header.pid != 0 && header.pid != thread.pid_number(thread.tid()) as i32 {
        return Err(Errno::EPERM.into());
    }
    let mut sets = [0u64; 3];
    for index in 0..count {
        let element = data.element(index).read(thread)?;
        let parts = [element.effective, element.permitted, element.inheritable];
        for (set, part) in sets.iter_mut().zip(parts) {
            *set |= u64::from(part) << (32 * index);
        }
    }
    // Bits no capability has are dropped.
    let [effective, permitted, inheritable] = sets.map(|set| set & process::credentials::ALL_CAPABILITIES);
    Ok(change(thread, |old| old.set_capabilities(effective, permitted, inheritable))?)
}
