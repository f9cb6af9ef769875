//! Descriptors: opening, duplicating and closing them, and what fcntl(2) and ioctl(2) do to them.

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::{general as raw, ioctl as requests};
use process::{Failure, Thread};
use vfs::{Opening, OpenFlags as Open, Stop};

use crate::argument::{CString, Descriptor, Flags, In, Mode, Out};
use crate::flags::{CloseOnExec, CloseRangeFlags, OpenFlags, PipeFlags};
use crate::place::{HERE, resolve};
use crate::user;

/// open(2)
pub(crate) fn open(thread: &Arc<Thread>, path: CString, flags: Flags<OpenFlags>, mode: Mode) -> Result<usize, Stop> {
    openat(thread, HERE, path, flags, mode)
}

/// open(2) of a FIFO nobody has open at its other end.
pub(crate) async fn open_waiting(
    thread: &Arc<Thread>, path: CString, flags: Flags<OpenFlags>, mode: Mode,
) -> Result<usize, Failure> {
    openat_waiting(thread, HERE, path, flags, mode).await
}

/// creat(2)
pub(crate) fn creat(thread: &Arc<Thread>, path: CString, mode: Mode) -> Result<usize, Stop> {
    openat(thread, HERE, path, Flags::from_bits(CREAT), mode)
}

/// creat(2) of a FIFO nobody reads.
pub(crate) async fn creat_waiting(thread: &Arc<Thread>, path: CString, mode: Mode) -> Result<usize, Failure> {
    openat_waiting(thread, HERE, path, Flags::from_bits(CREAT), mode).await
}

/// What creat(2) means.
const CREAT: u32 = raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC;

/// openat(2)
pub(crate) fn openat(
    thread: &Arc<Thread>, directory: Descriptor, path: CString, flags: Flags<OpenFlags>, mode: Mode,
) -> Result<usize, Stop> {
    match begin_open(thread, directory, path, flags, mode)? {
        Opening::Done(file) => Ok(thread.files().insert(file, flags.has(raw::O_CLOEXEC))?),
        // Dropped, the FIFO is as it was: the waiting half begins again.
        Opening::Fifo(_) => Err(Stop::WouldBlock),
    }
}

/// openat(2) of a FIFO nobody has open at its other end.
pub(crate) async fn openat_waiting(
    thread: &Arc<Thread>, directory: Descriptor, path: CString, flags: Flags<OpenFlags>, mode: Mode,
) -> Result<usize, Failure> {
    let opening = loop {
        match begin_open(thread, directory, path, flags, mode) {
            Ok(opening) => break opening,
            Err(Stop::Fault(fault)) => user::fetch(thread, fault).await?,
            Err(Stop::Error(errno)) => return Err(errno.into()),
            Err(Stop::WouldBlock | Stop::Signalled) => return Err(Errno::EAGAIN.into()),
        }
    };
    let file = thread.interruptible(opening.complete()).await??;
    Ok(thread.files().insert(file, flags.has(raw::O_CLOEXEC))?)
}

fn begin_open(
    thread: &Arc<Thread>, directory: Descriptor, path: CString, flags: Flags<OpenFlags>, mode: Mode,
) -> Result<Opening, Stop> {
    let path = path.path(thread)?;
    let flags = Open::from_bits_truncate(flags.0);
    Ok(resolve(thread, directory, &path, |context, start| context.open(start, &path, flags, mode.0))?)
}
