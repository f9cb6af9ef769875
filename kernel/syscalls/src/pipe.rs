//! Files without a path: pipe(2), eventfd(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::general as raw;
use process::Thread;
use vfs::{NotReady, OpenFlags as Open};

use crate::argument::{Flags, Out};
use crate::descriptors::{descriptor_limit, install};
use crate::flags::{EventFlags, PipeFlags};

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
