//! Paths as calls give them: a directory to start at and a text.

use alloc::sync::Arc;

use abi::raw::general::AT_FDCWD;
use abi::{Errno, Result};
use process::Thread;
use vfs::{Context, Path};

use crate::argument::Descriptor;

/// Where a relative path begins: the current directory.
pub(crate) const HERE: Descriptor = Descriptor(AT_FDCWD);

/// The directory a path is resolved from.
pub(crate) enum Start {
    /// The path is absolute, or begins at the working directory.
    Working,
    /// It begins at an open file, which need not be a directory if the path is empty (`AT_EMPTY_PATH`).
    File(Path),
}

impl Start {
    /// The start a call means with `directory` and `text`.
    ///
    /// # Errors
    /// `EBADF`; not for an absolute path, whose directory is not looked at.
    pub(crate) fn new(thread: &Arc<Thread>, directory: Descriptor, text: &[u8]) -> Result<Start> {
        if directory == HERE || text.first() == Some(&b'/') {
            return Ok(Start::Working);
        }
        Ok(Start::File(thread.files().get(directory.0)?.path()?))
    }

    /// The path it is, of a process whose working directory is `working`.
    pub(crate) fn path<'a>(&'a self, working: &'a Path) -> &'a Path {
        match self {
            Start::Working => working,
            Start::File(path) => path,
        }
    }
}

/// Calls `act` with the caller's view of the tree and its working directory.
pub(crate) fn with_view<R>(thread: &Arc<Thread>, act: impl FnOnce(&Context<'_>, &Path) -> Result<R>) -> Result<R> {
    let fs = thread.fs_context();
    let credentials = thread.credentials();
    let paths = fs.paths();
    let context =
        Context { root: &paths.root, credentials: credentials.for_files(), caller: &**thread, umask: fs.umask() };
    act(&context, &paths.working)
}

/// Calls `act` with the caller's view of the tree and the path a relative `text` begins at.
pub(crate) fn resolve<R>(
    thread: &Arc<Thread>,
    directory: Descriptor,
    text: &[u8],
    act: impl FnOnce(&Context<'_>, &Path) -> Result<R>,
) -> Result<R, Errno> {
    let start = Start::new(thread, directory, text)?;
    with_view(thread, |context, working| act(context, start.path(working)))
}

/// Calls `act` with the caller's view of the tree and the path of an open file, which `O_PATH` doesn't allow.
pub(crate) fn with_file<R>(
    thread: &Arc<Thread>,
    file: Descriptor,
    act: impl FnOnce(&Context<'_>, &Path) -> Result<R>,
) -> Result<R, Errno> {
    let file = thread.files().get(file.0)?;
    file.usable()?;
    let path = file.path()?;
    with_view(thread, |context, _| act(context, &path))
}
