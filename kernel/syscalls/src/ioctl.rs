//! ioctl(2).

use alloc::sync::Arc;
use core::pin::pin;

use abi::raw::ioctl as request;
use process::{Failure, Thread};
use vfs::{FileKind, wait};

use crate::argument::{Descriptor, In, Out};
use crate::control::set_signal_driven;

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
