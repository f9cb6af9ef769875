//! fcntl(2) and flock(2): what is done to a descriptor, to the open file behind it, and to locks on it.

use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::files::FileLock;
use abi::raw::general as raw;
use process::{Failure, Thread};
use vfs::{FileLocks, FlockKind, LockOwner, OpenFile, OpenFlags, RecordLock, RecordLockKind, Stop};

use crate::argument::{Descriptor, In, Out};
use crate::open::descriptor_limit;

/// fcntl(2), but for locks.
pub(crate) fn fcntl(thread: &Arc<Thread>, file: Descriptor, command: u32, argument: usize) -> Result<usize, Stop> {
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
            open.set_flags(OpenFlags::from_bits_truncate(argument as u32), thread.credentials().for_files())?;
            Ok(0)
        }
        raw::F_GETPIPE_SZ => Ok(open.file().pipe().ok_or(Errno::EBADF)?.capacity()),
        raw::F_SETPIPE_SZ => {
            let pipe = open.file().pipe().ok_or(Errno::EBADF)?;
            // The argument is an `unsigned int`.
            Ok(pipe.set_capacity(argument as u32 as usize, thread.credentials().for_files())?)
        }
        raw::F_GETLK | raw::F_SETLK | raw::F_SETLKW => Err(Stop::WouldBlock),
        raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW => Err(Stop::WouldBlock),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// fcntl(2) with locks.
pub(crate) async fn fcntl_waiting(
    thread: &Arc<Thread>,
    file: Descriptor,
    command: u32,
    argument: usize,
) -> Result<usize, Failure> {
    let open = thread.files().get(file.0)?;
    match command {
        raw::F_GETLK => get_lock(thread, &open, false, argument).await,
        raw::F_SETLK => set_lock(thread, &open, false, false, argument).await,
        raw::F_SETLKW => set_lock(thread, &open, false, true, argument).await,
        raw::F_OFD_GETLK => get_lock(thread, &open, true, argument).await,
        raw::F_OFD_SETLK => set_lock(thread, &open, true, false, argument).await,
        raw::F_OFD_SETLKW => set_lock(thread, &open, true, true, argument).await,
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The lock a program describes. With `of_file` it belongs to the open file description, else to the process.
fn record_lock(thread: &Thread, open: &OpenFile, of_file: bool, lock: &FileLock) -> Result<RecordLock, Errno> {
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
    let (owner, process) = if of_file {
        if lock.process != 0 {
            return Err(Errno::EINVAL);
        }
        (LockOwner::of_open_file(open), -1)
    } else {
        (LockOwner::of_table(&thread.files()), thread.process().pid() as i32)
    };
    Ok(RecordLock { kind, first, last, owner, process })
}

/// The locks of a file; only those of few file systems have none.
fn locks_of(open: &OpenFile) -> Result<&FileLocks, Errno> {
    open.inode().locks().ok_or(Errno::ENOLCK)
}

async fn get_lock(thread: &Arc<Thread>, open: &OpenFile, of_file: bool, argument: usize) -> Result<usize, Failure> {
    let mut lock = In::<FileLock>::at(argument).fetch(thread).await?;
    let wanted = record_lock(thread, open, of_file, &lock)?;
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
            lock.process = held.process;
        }
        None => lock.kind = raw::F_UNLCK as i16,
    }
    Out::at(argument).store(thread, &lock).await?;
    Ok(0)
}

async fn set_lock(
    thread: &Arc<Thread>,
    open: &OpenFile,
    of_file: bool,
    waits: bool,
    argument: usize,
) -> Result<usize, Failure> {
    let lock = In::<FileLock>::at(argument).fetch(thread).await?;
    let wanted = record_lock(thread, open, of_file, &lock)?;
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
        locks.try_set(wanted)?;
    }
    Ok(0)
}

/// flock(2)
pub(crate) async fn flock(thread: &Arc<Thread>, file: Descriptor, operation: u32) -> Result<usize, Failure> {
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
