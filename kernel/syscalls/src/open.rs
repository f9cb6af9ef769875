//! Descriptors: opening, duplicating and closing them, pipes, eventfd(2), ioctl(2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::files::OpenHow;
use abi::raw::general as raw;
use abi::raw::ioctl as request;
use process::limits::Resource;
use process::{Failure, Thread};
use vfs::{FileKind, NotReady, OpenFile, OpenFlags as Open, Opening, wait};

use crate::argument::{CString, Descriptor, Flags, In, Mode, Out};
use crate::control::set_signal_driven;
use crate::flags::extended::{CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE};
use crate::flags::{CloseOnExec, CloseRangeFlags, EventFlags, OpenFlags, PipeFlags};
use crate::place::{HERE, resolve};
use crate::user::{self, PathBuffer};

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

/// pipe(2)
pub(crate) fn pipe(thread: &Arc<Thread>, ends: Out<[i32; 2]>) -> Result<(), NotReady> {
    pipe2(thread, ends, Flags::from_bits(0))
}

/// pipe2(2)
pub(crate) fn pipe2(thread: &Arc<Thread>, ends: Out<[i32; 2]>, flags: Flags<PipeFlags>) -> Result<(), NotReady> {
    let flags = Open::from_bits(flags.known()?.0).ok_or(Errno::EINVAL)?;
    let files = thread.files();
    let pair = vfs::pipe(flags, thread.credentials().for_files(), &**thread)?;
    let (read, write) = files.insert_two(pair, flags.contains(Open::CLOSE_ON_EXEC), descriptor_limit(thread))?;
    ends.write(thread, &[read, write]).inspect_err(|_| {
        // Nobody was told of them: as if they had never been.
        for end in [read, write] {
            drop(files.close(end, thread.process().pid()));
        }
    })
}

/// eventfd(2)
pub(crate) fn eventfd(thread: &Arc<Thread>, initial: u32) -> Result<usize, Errno> {
    eventfd2(thread, initial, Flags::from_bits(0))
}

/// eventfd2(2)
pub(crate) fn eventfd2(thread: &Arc<Thread>, initial: u32, flags: Flags<EventFlags>) -> Result<usize, Errno> {
    let flags = flags.known()?;
    install(thread, vfs::event(initial, flags.0, &**thread)?, flags.has(raw::EFD_CLOEXEC))
}

/// ioctl(2): what is the same for all files is done here, the rest is the file's.
pub(crate) async fn ioctl(
    thread: &Arc<Thread>,
    file: Descriptor,
    number: u32,
    argument: usize,
) -> Result<usize, Failure> {
    let open = thread.files().get(file.0)?;
    open.usable()?;
    match number {
        request::FIOCLEX => thread.files().set_close_on_exec(file.0, true)?,
        request::FIONCLEX => thread.files().set_close_on_exec(file.0, false)?,
        request::FIONBIO => open.set_non_blocking(In::<i32>::at(argument).fetch(thread).await? != 0),
        request::FIOASYNC => {
            let on = In::<i32>::at(argument).fetch(thread).await? != 0;
            set_signal_driven(thread, file, &open, on)?;
        }
        request::FIONREAD if open.kind() == Some(FileKind::Regular) => {
            let position = open.position_now().unwrap_or(0);
            let left = open.attributes().size.saturating_sub(position) as i32;
            Out::at(argument).store(thread, &left).await?;
        }
        _ => return Ok(thread.interruptible(pin!(wait::ioctl(&open, number, argument, &**thread))).await??),
    }
    Ok(0)
}
