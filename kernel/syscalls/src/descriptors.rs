//! Descriptors: giving files numbers, duplicating and closing them.

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::general as raw;
use process::limits::Resource;
use process::{Failure, Thread};
use vfs::{NotReady, OpenFile};

use crate::argument::{Descriptor, Flags};
use crate::flags::extended::{CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE};
use crate::flags::{CloseOnExec, CloseRangeFlags};

/// `RLIMIT_NOFILE`: descriptors are below it.
pub(crate) fn descriptor_limit(thread: &Thread) -> u64 {
    thread.process().limits().soft(Resource::Files)
}

/// Gives an open file the lowest free descriptor.
///
/// # Errors
/// `EMFILE`.
pub(crate) fn install(thread: &Arc<Thread>, file: Arc<OpenFile>, close_on_exec: bool) -> Result<usize, Errno> {
    Ok(thread.files().insert(file, close_on_exec, descriptor_limit(thread))? as usize)
}

/// close(2)
pub(crate) fn close(thread: &Arc<Thread>, file: Descriptor) -> Result<(), NotReady> {
    let closed = thread.files().close_quickly(file.0, thread.process().pid())?;
    if closed { Ok(()) } else { Err(NotReady::WouldBlock) }
}

/// close(2) of a file with very many locks.
pub(crate) async fn close_waiting(thread: &Arc<Thread>, file: Descriptor) -> Result<(), Failure> {
    let files = thread.files();
    files.close(file.0, thread.process().pid())?.finish().await;
    Ok(())
}

/// close_range(2)
pub(crate) async fn close_range(
    thread: &Arc<Thread>,
    first: u32,
    last: u32,
    flags: Flags<CloseRangeFlags>,
) -> Result<(), Failure> {
    let given = flags.known()?;
    if first > last {
        return Err(Errno::EINVAL.into());
    }
    if given.has(CLOSE_RANGE_UNSHARE) {
        thread.unshare_files().await?;
    }
    let files = thread.files();
    if given.has(CLOSE_RANGE_CLOEXEC) {
        files.mark_range(first, last).await;
    } else {
        files.close_range(first, last, thread.process().pid()).await;
    }
    Ok(())
}

/// dup(2)
pub(crate) fn dup(thread: &Arc<Thread>, file: Descriptor) -> Result<usize, Errno> {
    let file = thread.files().get(file.0)?;
    install(thread, file, false)
}

/// dup2(2)
pub(crate) fn dup2(thread: &Arc<Thread>, file: Descriptor, new: Descriptor) -> Result<usize, NotReady> {
    let open = thread.files().get(file.0)?;
    if file == new {
        return Ok(new.0 as usize);
    }
    replace_quickly(thread, new, open, false)
}

/// dup2(2) in place of a file with very many locks.
pub(crate) async fn dup2_waiting(thread: &Arc<Thread>, file: Descriptor, new: Descriptor) -> Result<usize, Failure> {
    let open = thread.files().get(file.0)?;
    if file == new {
        return Ok(new.0 as usize);
    }
    replace(thread, new, open, false).await
}

fn replace_quickly(
    thread: &Arc<Thread>,
    new: Descriptor,
    open: Arc<OpenFile>,
    close_on_exec: bool,
) -> Result<usize, NotReady> {
    let files = thread.files();
    if files.closes_slowly(new.0) {
        return Err(NotReady::WouldBlock);
    }
    drop(files.replace(new.0, open, close_on_exec, descriptor_limit(thread))?);
    Ok(new.0 as usize)
}

async fn replace(
    thread: &Arc<Thread>,
    new: Descriptor,
    open: Arc<OpenFile>,
    close_on_exec: bool,
) -> Result<usize, Failure> {
    let files = thread.files();
    files.replace(new.0, open, close_on_exec, descriptor_limit(thread))?.finish().await;
    Ok(new.0 as usize)
}

/// dup3(2)
pub(crate) fn dup3(
    thread: &Arc<Thread>,
    file: Descriptor,
    new: Descriptor,
    flags: Flags<CloseOnExec>,
) -> Result<usize, NotReady> {
    let (open, close_on_exec) = what_to_duplicate(thread, file, new, flags)?;
    replace_quickly(thread, new, open, close_on_exec)
}

/// dup3(2) in place of a file with very many locks.
pub(crate) async fn dup3_waiting(
    thread: &Arc<Thread>,
    file: Descriptor,
    new: Descriptor,
    flags: Flags<CloseOnExec>,
) -> Result<usize, Failure> {
    let (open, close_on_exec) = what_to_duplicate(thread, file, new, flags)?;
    replace(thread, new, open, close_on_exec).await
}

fn what_to_duplicate(
    thread: &Arc<Thread>,
    file: Descriptor,
    new: Descriptor,
    flags: Flags<CloseOnExec>,
) -> Result<(Arc<OpenFile>, bool), Errno> {
    let close_on_exec = flags.known()?.has(raw::O_CLOEXEC);
    if file == new {
        return Err(Errno::EINVAL);
    }
    let limit = descriptor_limit(thread);
    if u64::try_from(new.0).is_ok_and(|number| number >= limit) || new.0 < 0 {
        return Err(Errno::EBADF);
    }
    Ok((thread.files().get(file.0)?, close_on_exec))
}
