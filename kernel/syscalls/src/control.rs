//! fcntl(2) and flock(2): what is done to a descriptor, to the open file behind it, and to locks on it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::Pid;
use abi::files::FileLock;
use abi::raw::general as raw;
use process::signal::owner::FileOwner;
use process::{Failure, Thread};
use vfs::{
    FileLocks, FlockKind, LockOwner, NotReady, OpenFile, OpenFlags, OwnerKind, RecordLock, RecordLockKind, Setting,
};

use crate::argument::{Descriptor, In, Out};
use crate::descriptors::descriptor_limit;

/// fcntl(2), but for what looks into the program's memory.
pub(crate) fn fcntl(thread: &Arc<Thread>, file: Descriptor, command: u32, argument: usize) -> Result<usize, NotReady> {
    let files = thread.files();
    let open = files.get(file.0)?;
    match command {
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC => {
            let close_on_exec = command == raw::F_DUPFD_CLOEXEC;
            return Ok(files.insert_from(argument as i32, open, close_on_exec, descriptor_limit(thread))? as usize);
        }
        raw::F_GETFD => return Ok(usize::from(files.closes_on_exec(file.0)?)),
        raw::F_SETFD => {
            files.set_close_on_exec(file.0, argument as u32 & raw::FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        raw::F_GETFL => return Ok(open.flags().bits() as usize),
        _ => {}
    }
    // All else O_PATH doesn't allow.
    open.usable()?;
    match command {
        raw::F_SETFL => {
            let flags = OpenFlags::from_bits_truncate(argument as u32);
            open.set_flags(flags, thread.credentials().for_files())?;
            match set_signal_driven(thread, file, &open, flags.contains(OpenFlags::ASYNC)) {
                Ok(()) | Err(Errno::ENOTTY) => Ok(0),
                Err(errno) => Err(errno.into()),
            }
        }
        raw::F_SETOWN => {
            let number = argument as i32;
            let kind = if number < 0 { OwnerKind::Group } else { OwnerKind::Process };
            let number = number.checked_abs().ok_or(Errno::EINVAL)?;
            Ok(set_owner(thread, &open, kind, number)?)
        }
        raw::F_GETOWN => Ok(match owner_of(thread, &open) {
            (OwnerKind::Group, number) => (number as isize).wrapping_neg() as usize,
            (_, number) => number as usize,
        }),
        raw::F_SETSIG => {
            let signal = argument as u32;
            if signal > raw::_NSIG {
                return Err(Errno::EINVAL.into());
            }
            open.set_signal(signal);
            Ok(0)
        }
        raw::F_GETSIG => Ok(open.signal() as usize),
        raw::F_GETPIPE_SZ => Ok(open.file().pipe().ok_or(Errno::EBADF)?.capacity()),
        raw::F_SETPIPE_SZ => {
            let pipe = open.file().pipe().ok_or(Errno::EBADF)?;
            // The argument is an `unsigned int`.
            Ok(pipe.set_capacity(argument as u32 as usize, thread.credentials().for_files())?)
        }
        raw::F_GETLK | raw::F_SETLK | raw::F_SETLKW => Err(NotReady::WouldBlock),
        raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW => Err(NotReady::WouldBlock),
        raw::F_SETOWN_EX | raw::F_GETOWN_EX | raw::F_GETOWNER_UIDS => Err(NotReady::WouldBlock),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Begins or ends to send signals when a file becomes ready: `O_ASYNC`.
///
/// # Errors
/// `ENOTTY`: the file can't. `ENOMEM`.
pub(crate) fn set_signal_driven(
    thread: &Arc<Thread>,
    file: Descriptor,
    open: &OpenFile,
    on: bool,
) -> Result<(), Errno> {
    if on == open.is_signal_driven() {
        return Ok(());
    }
    open.set_signal_driven(on, file.0)?;
    if on && open.owner().is_none() {
        // None for most files, which tell nobody then.
        if let Some(owner) = FileOwner::by_default(thread, open.file().default_owner()) {
            open.set_owner(Some(owner));
        }
    }
    Ok(())
}

/// Names who gets the signals of a file; nobody for 0.
fn set_owner(thread: &Arc<Thread>, open: &OpenFile, kind: OwnerKind, number: i32) -> Result<usize, Errno> {
    let owner: Option<Arc<dyn vfs::FileOwner>> = match number {
        0 => None,
        _ => {
            let number = u32::try_from(number).map_err(|_| Errno::ESRCH)?;
            Some(FileOwner::new(thread, kind, thread.pid_of(number).ok_or(Errno::ESRCH)?)?)
        }
    };
    open.set_owner(owner);
    Ok(0)
}

/// Who gets the signals of a file, by the number the caller knows him by; 0 for nobody.
fn owner_of(thread: &Thread, open: &OpenFile) -> (OwnerKind, u32) {
    let (kind, pid) = open.owner().map_or((OwnerKind::Thread, None), |owner| owner.identity());
    (kind, pid.map_or(0, |pid| thread.pid_number(pid)))
}

/// `F_SETOWN_EX`
async fn set_described_owner(thread: &Arc<Thread>, open: &OpenFile, argument: usize) -> Result<usize, Failure> {
    let described = In::<abi::files::FileOwner>::at(argument).fetch(thread).await?;
    let kinds = [OwnerKind::Thread, OwnerKind::Process, OwnerKind::Group];
    let kind = kinds.into_iter().find(|kind| *kind as i32 == described.kind).ok_or(Errno::EINVAL)?;
    Ok(set_owner(thread, open, kind, described.number)?)
}

/// `F_GETOWN_EX`
async fn describe_owner(thread: &Arc<Thread>, open: &OpenFile, argument: usize) -> Result<usize, Failure> {
    let (kind, number) = owner_of(thread, open);
    let described = abi::files::FileOwner { kind: kind as i32, number: number as i32 };
    Out::at(argument).store(thread, &described).await?;
    Ok(0)
}

/// fcntl(2) with locks and structures.
pub(crate) async fn fcntl_waiting(
    thread: &Arc<Thread>,
    file: Descriptor,
    command: u32,
    argument: usize,
) -> Result<usize, Failure> {
    // Held for the whole call: an owner must not go while a lock is waited for in its name.
    let files = thread.files();
    let open = files.get(file.0)?;
    let of_process = Owner { lock: LockOwner::of_table(&files), process: Some(thread.process().pid()) };
    let of_description = Owner { lock: LockOwner::of_open_file(&open), process: None };
    let result = match command {
        raw::F_SETOWN_EX => return set_described_owner(thread, &open, argument).await,
        raw::F_GETOWN_EX => return describe_owner(thread, &open, argument).await,
        raw::F_GETOWNER_UIDS => {
            let (real, effective) = open.owner().map_or((0, 0), |owner| owner.users());
            Out::at(argument).store(thread, &[real, effective]).await?;
            return Ok(0);
        }
        raw::F_GETLK => get_lock(thread, &open, of_process, argument).await,
        raw::F_SETLK => set_lock(thread, &open, of_process, false, argument).await,
        raw::F_SETLKW => set_lock(thread, &open, of_process, true, argument).await,
        raw::F_OFD_GETLK => get_lock(thread, &open, of_description, argument).await,
        raw::F_OFD_SETLK => set_lock(thread, &open, of_description, false, argument).await,
        raw::F_OFD_SETLKW => set_lock(thread, &open, of_description, true, argument).await,
        _ => Err(Errno::EINVAL.into()),
    };
    if matches!(command, raw::F_SETLK | raw::F_SETLKW) && result.is_ok() && !files.holds(file.0, &open) {
        // Another thread closed the descriptor meanwhile, and the locks it dropped did not have this one among them.
        Box::pin(locks_of(&open)?.release_slowly(of_process.lock)).await;
        return Err(Errno::EBADF.into());
    }
    result
}

/// Who asks for a lock.
#[derive(Clone, Copy)]
struct Owner {
    lock: LockOwner,
    /// What F_GETLK tells of it; `None` for an open file description.
    process: Option<Pid>,
}

/// What F_GETLK tells in place of a process where an open file description holds the lock.
const OF_DESCRIPTION: i32 = -1;

/// The lock a program describes.
fn record_lock(open: &OpenFile, owner: Owner, lock: &FileLock) -> Result<RecordLock, Errno> {
    let kind = match lock.kind as u32 {
        raw::F_RDLCK => RecordLockKind::Read,
        raw::F_WRLCK => RecordLockKind::Write,
        raw::F_UNLCK => RecordLockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let signed = |position: u64| i64::try_from(position).map_err(|_| Errno::EOVERFLOW);
    let base = match lock.whence as u32 {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => signed(open.position_now().unwrap_or(0))?,
        raw::SEEK_END => signed(open.attributes().size)?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = RecordLock::range(start, lock.length)?;
    if owner.process.is_none() && lock.process != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(RecordLock { kind, first, last, owner: owner.lock, process: owner.process })
}

/// The locks of a file; only those of few file systems have none.
fn locks_of(open: &OpenFile) -> Result<&FileLocks, Errno> {
    open.inode().locks().ok_or(Errno::ENOLCK)
}

async fn get_lock(thread: &Arc<Thread>, open: &OpenFile, owner: Owner, argument: usize) -> Result<usize, Failure> {
    let mut lock = In::<FileLock>::at(argument).fetch(thread).await?;
    let wanted = record_lock(open, owner, &lock)?;
    if wanted.kind == RecordLockKind::Unlock {
        return Err(Errno::EINVAL.into());
    }
    match locks_of(open)?.conflict(&wanted) {
        Some(held) => {
            let writes = held.kind == RecordLockKind::Write;
            let endless = held.last == i64::MAX as u64;
            lock.kind = if writes { raw::F_WRLCK } else { raw::F_RDLCK } as i16;
            lock.whence = raw::SEEK_SET as i16;
            lock.start = held.first as i64;
            lock.length = if endless { 0 } else { (held.last - held.first) as i64 + 1 };
            lock.process = held.process.map_or(OF_DESCRIPTION, |process| thread.pid_number(process) as i32);
        }
        None => lock.kind = raw::F_UNLCK as i16,
    }
    Out::at(argument).store(thread, &lock).await?;
    Ok(0)
}

async fn set_lock(
    thread: &Arc<Thread>,
    open: &OpenFile,
    owner: Owner,
    waits: bool,
    argument: usize,
) -> Result<usize, Failure> {
    let lock = In::<FileLock>::at(argument).fetch(thread).await?;
    let wanted = record_lock(open, owner, &lock)?;
    let allowed = match wanted.kind {
        RecordLockKind::Read => open.flags().readable(),
        RecordLockKind::Write => open.flags().writable(),
        RecordLockKind::Unlock => true,
    };
    if !allowed {
        return Err(Errno::EBADF.into());
    }
    let locks = locks_of(open)?;
    if waits {
        thread.interruptible(pin!(locks.set(wanted, &thread.kernel().vfs().lock_waits))).await??;
    } else {
        match locks.try_set(wanted)? {
            Setting::Done => {}
            Setting::Conflict(_) => return Err(Errno::EAGAIN.into()),
            Setting::Begun(change) => thread.killable(Box::pin(change.finish())).await??,
        }
    }
    Ok(0)
}

/// flock(2)
pub(crate) async fn flock(thread: &Arc<Thread>, file: Descriptor, operation: u32) -> Result<usize, Failure> {
    if operation & raw::LOCK_MAND != 0 {
        // Mandatory locks are no more, and asking for one has always succeeded.
        return Ok(0);
    }
    let kind = match operation & !raw::LOCK_NB {
        raw::LOCK_SH => FlockKind::Shared,
        raw::LOCK_EX => FlockKind::Exclusive,
        raw::LOCK_UN => FlockKind::Unlock,
        _ => return Err(Errno::EINVAL.into()),
    };
    let open = thread.files().get(file.0)?;
    open.usable()?;
    let owner = LockOwner::of_open_file(&open);
    let locks = locks_of(&open)?;
    if operation & raw::LOCK_NB != 0 || kind == FlockKind::Unlock {
        locks.try_flock(owner, kind)?;
    } else {
        thread.interruptible(pin!(locks.flock(owner, kind))).await??;
    }
    Ok(0)
}
