//! Names: making, removing and moving them, and the directories a process stands in.
//!
//! The old calls are the new ones (`...at`) from the working directory.

use alloc::sync::Arc;

use abi::Errno;
use abi::fallible::TryVec;
use abi::raw::general as raw;
use process::Thread;
use process::credentials::Capability;
use vfs::{Lookup, NotReady, RenameFlags as Rename};

use crate::argument::{CString, Descriptor, Flags, Mode, OutBuffer};
use crate::flags::{LinkFlags, RenameFlags, UnlinkFlags};
use crate::place::{HERE, Start, resolve, with_view};
use crate::user::{self, PathBuffer};

/// mkdir(2)
pub(crate) fn mkdir(thread: &Arc<Thread>, path: CString, mode: Mode) -> Result<(), NotReady> {
    mkdirat(thread, HERE, path, mode)
}

/// mkdirat(2)
pub(crate) fn mkdirat(thread: &Arc<Thread>, directory: Descriptor, path: CString, mode: Mode) -> Result<(), NotReady> {
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    Ok(resolve(thread, directory, path, |context, start| context.mkdir(start, path, mode.0))?)
}

/// mknod(2)
pub(crate) fn mknod(thread: &Arc<Thread>, path: CString, mode: Mode, device: u32) -> Result<(), NotReady> {
    mknodat(thread, HERE, path, mode, device)
}

/// mknodat(2)
pub(crate) fn mknodat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    mode: Mode,
    device: u32,
) -> Result<(), NotReady> {
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    // The mode is a `umode_t`: 16 bits.
    let mode = mode.0 & 0xffff;
    Ok(resolve(thread, directory, path, |context, start| context.mknod(start, path, mode, u64::from(device)))?)
}

/// rmdir(2)
pub(crate) fn rmdir(thread: &Arc<Thread>, path: CString) -> Result<(), NotReady> {
    unlinkat(thread, HERE, path, Flags::from_bits(raw::AT_REMOVEDIR))
}

/// unlink(2)
pub(crate) fn unlink(thread: &Arc<Thread>, path: CString) -> Result<(), NotReady> {
    unlinkat(thread, HERE, path, Flags::from_bits(0))
}

/// unlinkat(2)
pub(crate) fn unlinkat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    flags: Flags<UnlinkFlags>,
) -> Result<(), NotReady> {
    let remove_directory = flags.known()?.has(raw::AT_REMOVEDIR);
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    Ok(resolve(thread, directory, path, |context, start| {
        if remove_directory { context.rmdir(start, path) } else { context.unlink(start, path) }
    })?)
}

/// rename(2)
pub(crate) fn rename(thread: &Arc<Thread>, old: CString, new: CString) -> Result<(), NotReady> {
    renameat2(thread, HERE, old, HERE, new, Flags::from_bits(0))
}

/// renameat(2)
pub(crate) fn renameat(
    thread: &Arc<Thread>,
    old_directory: Descriptor,
    old: CString,
    new_directory: Descriptor,
    new: CString,
) -> Result<(), NotReady> {
    renameat2(thread, old_directory, old, new_directory, new, Flags::from_bits(0))
}

/// renameat2(2)
pub(crate) fn renameat2(
    thread: &Arc<Thread>,
    old_directory: Descriptor,
    old: CString,
    new_directory: Descriptor,
    new: CString,
    flags: Flags<RenameFlags>,
) -> Result<(), NotReady> {
    let flags = Rename::from_bits(flags.known()?.0).ok_or(Errno::EINVAL)?;
    if flags.contains(Rename::NO_REPLACE | Rename::EXCHANGE) {
        return Err(Errno::EINVAL.into());
    }
    let mut room = (PathBuffer::new(), PathBuffer::new());
    let (old, new) = (old.path(thread, &mut room.0)?, new.path(thread, &mut room.1)?);
    let from = Start::new(thread, old_directory, old)?;
    let to = Start::new(thread, new_directory, new)?;
    Ok(with_view(thread, |context, working| context.rename((from.path(working), old), (to.path(working), new), flags))?)
}

/// link(2)
pub(crate) fn link(thread: &Arc<Thread>, old: CString, new: CString) -> Result<(), NotReady> {
    linkat(thread, HERE, old, HERE, new, Flags::from_bits(0))
}

/// linkat(2)
pub(crate) fn linkat(
    thread: &Arc<Thread>,
    old_directory: Descriptor,
    old: CString,
    new_directory: Descriptor,
    new: CString,
    flags: Flags<LinkFlags>,
) -> Result<(), NotReady> {
    let flags = flags.known()?;
    let mut how = Lookup::empty();
    if flags.has(raw::AT_EMPTY_PATH) {
        // A file without a name may be given one only by who may read any file.
        thread.credentials().require(Capability::DacReadSearch).map_err(|_| Errno::ENOENT)?;
        how |= Lookup::EMPTY_PATH;
    }
    how.set(Lookup::FOLLOW, flags.has(raw::AT_SYMLINK_FOLLOW));
    let mut room = (PathBuffer::new(), PathBuffer::new());
    let (old, new) = (old.path(thread, &mut room.0)?, new.path(thread, &mut room.1)?);
    let from = Start::new(thread, old_directory, old)?;
    let to = Start::new(thread, new_directory, new)?;
    Ok(with_view(thread, |context, working| {
        if let Some(linked) = context.take_changed() {
            return linked.map(drop);
        }
        let old = context.lookup(from.path(working), old, how)?;
        context.link(&old, to.path(working), new)
    })?)
}

/// symlink(2)
pub(crate) fn symlink(thread: &Arc<Thread>, target: CString, link: CString) -> Result<(), NotReady> {
    symlinkat(thread, target, HERE, link)
}

/// symlinkat(2)
pub(crate) fn symlinkat(
    thread: &Arc<Thread>,
    target: CString,
    directory: Descriptor,
    link: CString,
) -> Result<(), NotReady> {
    let mut room = (PathBuffer::new(), PathBuffer::new());
    let (target, link) = (target.path(thread, &mut room.0)?, link.path(thread, &mut room.1)?);
    Ok(resolve(thread, directory, link, |context, start| context.symlink(target, start, link))?)
}

/// readlink(2)
pub(crate) fn readlink(
    thread: &Arc<Thread>,
    path: CString,
    buffer: OutBuffer<2>,
    size: i32,
) -> Result<usize, NotReady> {
    read_link(thread, HERE, path, buffer.0, size)
}

/// readlinkat(2)
pub(crate) fn readlinkat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    buffer: OutBuffer<3>,
    size: i32,
) -> Result<usize, NotReady> {
    read_link(thread, directory, path, buffer.0, size)
}

/// The text is cut to `size`, and has no zero at its end.
fn read_link(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    buffer: usize,
    size: i32,
) -> Result<usize, NotReady> {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    let text = resolve(thread, directory, path, |context, start| {
        let found = context.lookup(start, path, Lookup::EMPTY_PATH)?;
        context.read_link(&found).map_err(|errno| {
            // An empty path that leads to no link is, as everywhere, no path.
            if path.is_empty() && errno == Errno::EINVAL { Errno::ENOENT } else { errno }
        })
    })?;
    let text = text.get(..size).unwrap_or(&text);
    user::write(thread, buffer, text)?;
    Ok(text.len())
}

/// chdir(2)
pub(crate) fn chdir(thread: &Arc<Thread>, path: CString) -> Result<(), NotReady> {
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    let found = with_view(thread, |context, working| {
        let found = context.lookup(working, path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
        context.check_directory(&found)?;
        Ok(found)
    })?;
    thread.fs_context().set_working(found);
    Ok(())
}

/// fchdir(2)
pub(crate) fn fchdir(thread: &Arc<Thread>, directory: Descriptor) -> Result<(), Errno> {
    let path = thread.files().get(directory.0)?.path()?;
    with_view(thread, |context, _| context.check_directory(&path))?;
    thread.fs_context().set_working(path);
    Ok(())
}

/// chroot(2)
pub(crate) fn chroot(thread: &Arc<Thread>, path: CString) -> Result<(), NotReady> {
    let mut room = PathBuffer::new();
    let path = path.path(thread, &mut room)?;
    let found = with_view(thread, |context, working| {
        let found = context.lookup(working, path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
        context.check_directory(&found)?;
        Ok(found)
    })?;
    thread.credentials().require(Capability::SysChroot)?;
    thread.fs_context().set_root(found);
    Ok(())
}

/// getcwd(2), as the kernel has it: returns the length with the final zero.
pub(crate) fn getcwd(thread: &Arc<Thread>, buffer: OutBuffer<1>, size: usize) -> Result<usize, NotReady> {
    let fs = thread.fs_context();
    let mut text = fs.working().working_directory(&fs.root())?;
    text.try_push(0)?;
    if text.len() > abi::raw::general::PATH_MAX as usize {
        return Err(Errno::ENAMETOOLONG.into());
    }
    if text.len() > size {
        return Err(Errno::ERANGE.into());
    }
    user::write(thread, buffer.0, &text)?;
    Ok(text.len())
}

/// umask(2)
pub(crate) fn umask(thread: &Arc<Thread>, mask: Mode) -> usize {
    thread.fs_context().set_umask(mask.0) as usize
}
