//! What names stand for: status, permissions, owners and times of files.

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::general as raw;
use abi::status::{Stat, StatFs, Statx};
use abi::time::{Timespec, Timeval};
use process::Thread;
use vfs::{Access, Context, Lookup, NewTime, NotReady, Path, Time};

use crate::argument::{CString, Descriptor, Flags, In, Mode, Out};
use crate::flags::{AccessFlags, ChownFlags, StatFlags};
use crate::place::{HERE, resolve, with_file, with_view};
use crate::user::PathBuffer;

/// How a path with these `AT_*` flags is looked up.
fn lookup_of(flags: u32) -> Lookup {
    let mut how = Lookup::empty();
    how.set(Lookup::FOLLOW, flags & raw::AT_SYMLINK_NOFOLLOW == 0);
    how.set(Lookup::EMPTY_PATH, flags & raw::AT_EMPTY_PATH != 0);
    how
}

/// Looks a path up and does something with what is there.
fn on_path<R>(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    how: Lookup,
    act: impl FnOnce(&Context<'_>, &Path) -> Result<R, Errno>,
) -> Result<R, NotReady> {
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    Ok(resolve(thread, directory, path, |context, start| act(context, &context.lookup(start, path, how)?))?)
}

/// stat(2)
pub(crate) fn stat(thread: &Arc<Thread>, path: CString, status: Out<Stat>) -> Result<(), NotReady> {
    let attributes = on_path(thread, HERE, path, Lookup::FOLLOW, |context, found| context.attributes(found))?;
    status.write(thread, &attributes.into())
}

/// lstat(2)
pub(crate) fn lstat(thread: &Arc<Thread>, path: CString, status: Out<Stat>) -> Result<(), NotReady> {
    let attributes = on_path(thread, HERE, path, Lookup::empty(), |context, found| context.attributes(found))?;
    status.write(thread, &attributes.into())
}

/// fstat(2)
pub(crate) fn fstat(thread: &Arc<Thread>, file: Descriptor, status: Out<Stat>) -> Result<(), NotReady> {
    let open = thread.files().get(file.0)?;
    open.look_again(&**thread)?;
    let attributes = open.attributes();
    status.write(thread, &attributes.into())
}

/// fstatat(2)
pub(crate) fn newfstatat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    status: Out<Stat>,
    flags: Flags<StatFlags>,
) -> Result<(), NotReady> {
    let how = lookup_of(flags.known()?.0);
    let attributes = on_path(thread, directory, path, how, |context, found| context.attributes(found))?;
    status.write(thread, &attributes.into())
}

/// statx(2)
pub(crate) fn statx(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    flags: Flags<StatFlags>,
    mask: u32,
    status: Out<Statx>,
) -> Result<(), NotReady> {
    /// `STATX_ATTR_MOUNT_ROOT`
    const MOUNT_ROOT: u64 = 0x2000;
    let both = raw::AT_STATX_FORCE_SYNC | raw::AT_STATX_DONT_SYNC;
    if mask & raw::STATX__RESERVED != 0 || flags.has(both) {
        return Err(Errno::EINVAL.into());
    }
    let how = lookup_of(flags.known()?.0);
    let answer = on_path(thread, directory, path, how, |context, found| {
        let mut answer = Statx::from(context.attributes(found)?);
        answer.mask |= raw::STATX_MNT_ID;
        answer.mount = found.mount.id();
        answer.attributes_mask |= MOUNT_ROOT;
        if Arc::ptr_eq(&found.dentry, found.mount.root()) {
            answer.attributes |= MOUNT_ROOT;
        }
        Ok(answer)
    })?;
    status.write(thread, &answer)
}

/// statfs(2)
pub(crate) fn statfs(thread: &Arc<Thread>, path: CString, status: Out<StatFs>) -> Result<(), NotReady> {
    let answer = on_path(thread, HERE, path, Lookup::FOLLOW, |context, found| context.statistics(found))?;
    status.write(thread, &answer)
}

/// fstatfs(2)
pub(crate) fn fstatfs(thread: &Arc<Thread>, file: Descriptor, status: Out<StatFs>) -> Result<(), NotReady> {
    let path = thread.files().get(file.0)?.path()?;
    let answer = with_view(thread, |context, _| context.statistics(&path))?;
    status.write(thread, &answer)
}

/// access(2)
pub(crate) fn access(thread: &Arc<Thread>, path: CString, mode: i32) -> Result<(), NotReady> {
    faccessat2(thread, HERE, path, mode, Flags::from_bits(0))
}

/// faccessat(2) as the kernel has it: without flags.
pub(crate) fn faccessat(thread: &Arc<Thread>, directory: Descriptor, path: CString, mode: i32) -> Result<(), NotReady> {
    faccessat2(thread, directory, path, mode, Flags::from_bits(0))
}

/// faccessat2(2). Asks for the real user, so that a set-user-ID program can ask on behalf of who started it.
pub(crate) fn faccessat2(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    mode: i32,
    flags: Flags<AccessFlags>,
) -> Result<(), NotReady> {
    let wanted = u32::try_from(mode).ok().and_then(Access::from_bits).ok_or(Errno::EINVAL)?;
    let flags = flags.known()?;
    on_path_as(thread, directory, path, lookup_of(flags.0), flags.has(raw::AT_EACCESS), |context, found| {
        if wanted.is_empty() { Ok(()) } else { context.check_access(found, wanted) }
    })
}

/// As [`on_path`], with the rights of the real user unless `effective`.
fn on_path_as<R>(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    how: Lookup,
    effective: bool,
    act: impl FnOnce(&Context<'_>, &Path) -> Result<R, Errno>,
) -> Result<R, NotReady> {
    if effective {
        return on_path(thread, directory, path, how, act);
    }
    let real = thread.credentials().for_access();
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    Ok(resolve(thread, directory, path, |context, start| {
        let context = Context { credentials: &real, ..*context };
        act(&context, &context.lookup(start, path, how)?)
    })?)
}

/// chmod(2)
pub(crate) fn chmod(thread: &Arc<Thread>, path: CString, mode: Mode) -> Result<(), NotReady> {
    fchmodat2(thread, HERE, path, mode, Flags::from_bits(0))
}

/// fchmod(2)
pub(crate) fn fchmod(thread: &Arc<Thread>, file: Descriptor, mode: Mode) -> Result<(), Errno> {
    with_file(thread, file, |context, path| context.chmod(path, mode.0))
}

/// fchmodat(2) as the kernel has it: without flags.
pub(crate) fn fchmodat(thread: &Arc<Thread>, directory: Descriptor, path: CString, mode: Mode) -> Result<(), NotReady> {
    fchmodat2(thread, directory, path, mode, Flags::from_bits(0))
}

/// fchmodat2(2)
pub(crate) fn fchmodat2(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    mode: Mode,
    flags: Flags<ChownFlags>,
) -> Result<(), NotReady> {
    let how = lookup_of(flags.known()?.0);
    on_path(thread, directory, path, how, |context, found| context.chmod(found, mode.0))
}

/// An owner as chown(2) gives it: -1 leaves it as it is.
fn owner(id: u32) -> Option<u32> {
    Some(id).filter(|&id| id != u32::MAX)
}

/// chown(2)
pub(crate) fn chown(thread: &Arc<Thread>, path: CString, user: u32, group: u32) -> Result<(), NotReady> {
    fchownat(thread, HERE, path, user, group, Flags::from_bits(0))
}

/// lchown(2)
pub(crate) fn lchown(thread: &Arc<Thread>, path: CString, user: u32, group: u32) -> Result<(), NotReady> {
    fchownat(thread, HERE, path, user, group, Flags::from_bits(raw::AT_SYMLINK_NOFOLLOW))
}

/// fchown(2)
pub(crate) fn fchown(thread: &Arc<Thread>, file: Descriptor, user: u32, group: u32) -> Result<(), Errno> {
    with_file(thread, file, |context, path| context.chown(path, owner(user), owner(group)))
}

/// fchownat(2)
pub(crate) fn fchownat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    user: u32,
    group: u32,
    flags: Flags<ChownFlags>,
) -> Result<(), NotReady> {
    let how = lookup_of(flags.known()?.0);
    on_path(thread, directory, path, how, |context, found| context.chown(found, owner(user), owner(group)))
}

/// utime(2)
pub(crate) fn utime(thread: &Arc<Thread>, path: CString, times: In<[i64; 2]>) -> Result<(), NotReady> {
    let times = times.read_optional(thread)?.map(|times| times.map(|seconds| NewTime::At(Time::new(seconds, 0))));
    set_times(thread, HERE, path, times, Lookup::FOLLOW)
}

/// utimes(2)
pub(crate) fn utimes(thread: &Arc<Thread>, path: CString, times: In<[Timeval; 2]>) -> Result<(), NotReady> {
    futimesat(thread, HERE, path, times)
}

/// futimesat(2)
pub(crate) fn futimesat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    times: In<[Timeval; 2]>,
) -> Result<(), NotReady> {
    let times = match times.read_optional(thread)? {
        Some([accessed, modified]) => Some([from_timeval(accessed)?, from_timeval(modified)?]),
        None => None,
    };
    set_times(thread, directory, path, times, Lookup::FOLLOW)
}

/// utimensat(2)
pub(crate) fn utimensat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    times: In<[Timespec; 2]>,
    flags: Flags<StatFlags>,
) -> Result<(), NotReady> {
    let times = match times.read_optional(thread)? {
        Some([accessed, modified]) => {
            let times = [from_timespec(accessed)?, from_timespec(modified)?];
            if times == [NewTime::Keep; 2] {
                return Ok(());
            }
            Some(times)
        }
        None => None,
    };
    if flags.0 & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    set_times(thread, directory, path, times, lookup_of(flags.0))
}

/// Sets times; `None` is now. A null path with a descriptor is the open file itself: futimens(3).
fn set_times(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    times: Option<[NewTime; 2]>,
    how: Lookup,
) -> Result<(), NotReady> {
    let [accessed, modified] = times.unwrap_or([NewTime::Now; 2]);
    if path.0 != 0 || directory == HERE {
        return on_path(thread, directory, path, how, |context, found| context.set_times(found, accessed, modified));
    }
    if how != Lookup::FOLLOW {
        return Err(Errno::EINVAL.into());
    }
    Ok(with_file(thread, directory, |context, path| context.set_times(path, accessed, modified))?)
}

fn from_timeval(time: Timeval) -> Result<NewTime, Errno> {
    if !(0..1_000_000).contains(&time.microseconds) {
        return Err(Errno::EINVAL);
    }
    Ok(NewTime::At(Time::new(time.seconds, time.microseconds as u32 * 1000)))
}

fn from_timespec(time: Timespec) -> Result<NewTime, Errno> {
    match time.nanoseconds {
        UTIME_NOW => Ok(NewTime::Now),
        UTIME_OMIT => Ok(NewTime::Keep),
        nanoseconds @ 0..1_000_000_000 => Ok(NewTime::At(Time::new(time.seconds, nanoseconds as u32))),
        _ => Err(Errno::EINVAL),
    }
}

/// `UTIME_NOW`
const UTIME_NOW: i64 = (1 << 30) - 1;
/// `UTIME_OMIT`
const UTIME_OMIT: i64 = (1 << 30) - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_special_values_and_a_range() {
        let time = |nanoseconds| from_timespec(Timespec { seconds: 5, nanoseconds });
        assert_eq!(time(UTIME_NOW), Ok(NewTime::Now));
        assert_eq!(time(UTIME_OMIT), Ok(NewTime::Keep));
        assert_eq!(time(7), Ok(NewTime::At(Time::new(5, 7))));
        assert_eq!(time(-1), Err(Errno::EINVAL));
        assert_eq!(time(1_000_000_000), Err(Errno::EINVAL));
        assert_eq!(from_timeval(Timeval { seconds: 1, microseconds: 1_000_000 }), Err(Errno::EINVAL));
    }

    #[test]
    fn an_owner_of_minus_one_stays() {
        assert_eq!((owner(u32::MAX), owner(0)), (None, Some(0)));
    }
}
