//! open(2) and its kin.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::files::OpenHow;
use abi::raw::general as raw;
use process::{Failure, Thread};
use vfs::{NotReady, OpenFlags as Open, Opening};

use crate::argument::{CString, Descriptor, Flags, In, Mode};
use crate::descriptors::install;
use crate::flags::OpenFlags;
use crate::place::{HERE, resolve};
use crate::user::{self, PathBuffer};

/// open(2)
pub(crate) fn open(
    thread: &Arc<Thread>,
    path: CString,
    flags: Flags<OpenFlags>,
    mode: Mode,
) -> Result<usize, NotReady> {
    openat(thread, HERE, path, flags, mode)
}

/// open(2) of a FIFO whose other end nobody has open.
pub(crate) async fn open_waiting(
    thread: &Arc<Thread>,
    path: CString,
    flags: Flags<OpenFlags>,
    mode: Mode,
) -> Result<usize, Failure> {
    openat_waiting(thread, HERE, path, flags, mode).await
}

/// What creat(2) means.
const CREAT: u32 = raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC;

/// creat(2)
pub(crate) fn creat(thread: &Arc<Thread>, path: CString, mode: Mode) -> Result<usize, NotReady> {
    openat(thread, HERE, path, Flags::from_bits(CREAT), mode)
}

/// creat(2) of a FIFO nobody reads.
pub(crate) async fn creat_waiting(thread: &Arc<Thread>, path: CString, mode: Mode) -> Result<usize, Failure> {
    openat_waiting(thread, HERE, path, Flags::from_bits(CREAT), mode).await
}

/// openat(2)
pub(crate) fn openat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    flags: Flags<OpenFlags>,
    mode: Mode,
) -> Result<usize, NotReady> {
    match begin_open(thread, directory, path, flags.0, mode.0)? {
        Opening::Done(file) => Ok(install(thread, file, flags.has(raw::O_CLOEXEC))?),
        // Dropped, the file is as it was, and the waiting half begins again.
        Opening::Fifo(_) | Opening::Busy(..) => Err(NotReady::WouldBlock),
    }
}

/// openat(2) of a FIFO whose other end nobody has open.
pub(crate) async fn openat_waiting(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    flags: Flags<OpenFlags>,
    mode: Mode,
) -> Result<usize, Failure> {
    Box::pin(open_slowly(thread, directory, path, flags.0, mode.0)).await
}

async fn open_slowly(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    flags: u32,
    mode: u32,
) -> Result<usize, Failure> {
    let opening = user::fetching(thread, || begin_open(thread, directory, path, flags, mode)).await?;
    let file = match opening {
        Opening::Busy(file, truncation) => {
            thread.interruptible(pin!(truncation.begin())).await??.finish().await?;
            file
        }
        opening => thread.interruptible(pin!(opening.complete())).await??,
    };
    Ok(install(thread, file, flags & raw::O_CLOEXEC != 0)?)
}

fn begin_open(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    flags: u32,
    mode: u32,
) -> Result<Opening, NotReady> {
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    let flags = Open::from_bits_truncate(flags);
    Ok(resolve(thread, directory, path, |context, start| context.open(start, path, flags, mode))?)
}

/// openat2(2). Unlike open(2) it refuses what it doesn't know; limits on resolution are not done.
pub(crate) async fn openat2(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    how: In<OpenHow>,
    size: usize,
) -> Result<usize, Failure> {
    const SIZE: usize = size_of::<OpenHow>();
    if size < SIZE {
        return Err(Errno::EINVAL.into());
    }
    if size > memory::PAGE_SIZE {
        return Err(Errno::E2BIG.into());
    }
    let arguments = how.fetch(thread).await?;
    // A newer program may know more fields than we: as long as they are 0 it doesn't use them.
    let rest = thread.space().read_array::<u8>(how.0 + SIZE, size - SIZE).await?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG.into());
    }
    let flags = u32::try_from(arguments.flags).map_err(|_| Errno::EINVAL)?;
    let known = Open::from_bits(flags).ok_or(Errno::EINVAL)?;
    let creates = known.intersects(Open::CREATE | Open::UNNAMED);
    let mode_fits = if creates { arguments.mode & !0o7777 == 0 } else { arguments.mode == 0 };
    let with_path = Open::PATH | Open::DIRECTORY | Open::NO_FOLLOW | Open::CLOSE_ON_EXEC;
    let path_fits = !known.contains(Open::PATH) || with_path.contains(known);
    if arguments.resolve != 0 || !mode_fits || !path_fits {
        return Err(Errno::EINVAL.into());
    }
    open_slowly(thread, directory, path, flags, arguments.mode as u32).await
}
