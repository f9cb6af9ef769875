//! From file to file without the program in between: sendfile(2), copy_file_range(2).

use alloc::vec;

use abi::{Errno, Result};
use memory::{Destination, Source};

use crate::caller::Caller;
use crate::file::FileTraits;
use crate::inode::FileKind;
use crate::open::OpenFlags;
use crate::open_file::OpenFile;
use crate::wait;

/// How much is moved at a time.
const CHUNK: usize = 16 * 1024;

/// Sends up to `count` bytes from `input` to `output`: sendfile(2). With `offset` it reads from there, and leaves it
/// behind what was sent; else from the file's position. When a signal drops it, what was sent stands in `sent`.
///
/// # Errors
/// `EBADF`, `EINVAL` when `input` can't be read at a position or `output` appends, and those of reading and writing.
pub async fn sendfile(
    output: &OpenFile,
    input: &OpenFile,
    offset: Option<&mut i64>,
    count: usize,
    sent: &mut usize,
    caller: &dyn Caller,
) -> Result<()> {
    input.check(crate::Access::READ)?;
    output.check(crate::Access::WRITE)?;
    if !input.traits().contains(FileTraits::SEEKABLE) {
        return Err(if offset.is_some() { Errno::ESPIPE } else { Errno::EINVAL });
    }
    if output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    match offset {
        Some(offset) => copy(output, None, input, offset, count, sent, caller).await,
        None => {
            let mut position = input.position.lock().await;
            let mut at = i64::try_from(*position).map_err(|_| Errno::EOVERFLOW)?;
            let advance = Advance { position: &mut position, at: &mut at };
            copy(output, None, input, advance.at, count, sent, caller).await
        }
    }
}

/// Writes the offset reached into the file's position however the copying ends, so that what was sent before a signal
/// is not sent again.
struct Advance<'a> {
    position: &'a mut u64,
    at: &'a mut i64,
}

impl Drop for Advance<'_> {
    fn drop(&mut self) {
        *self.position = u64::try_from(*self.at).unwrap_or(*self.position);
    }
}

/// Copies a range between two regular files: copy_file_range(2). Offsets that are `None` are the files' positions.
///
/// # Errors
/// `EINVAL` for what is no regular file or a range that overlaps itself, `EISDIR`, `EBADF`.
pub async fn copy_file_range(
    (input, input_offset): (&OpenFile, Option<&mut i64>),
    (output, output_offset): (&OpenFile, Option<&mut i64>),
    count: usize,
    copied: &mut usize,
    caller: &dyn Caller,
) -> Result<()> {
    input.check(crate::Access::READ)?;
    output.check(crate::Access::WRITE)?;
    if output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    for open in [input, output] {
        match open.kind() {
            Some(FileKind::Regular) => {}
            Some(FileKind::Directory) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let mut from = start(input, &input_offset).await?;
    let mut to = start(output, &output_offset).await?;
    let same = alloc::sync::Arc::ptr_eq(input.inode(), output.inode());
    if same && from.abs_diff(to) < count as u64 {
        return Err(Errno::EINVAL);
    }
    let result = copy(output, Some(&mut to), input, &mut from, count, copied, caller).await;
    for (open, offset, reached) in [(input, input_offset, from), (output, output_offset, to)] {
        match offset {
            Some(offset) => *offset = reached,
            None => *open.position.lock().await = u64::try_from(reached).unwrap_or_default(),
        }
    }
    result
}

async fn start(open: &OpenFile, offset: &Option<&mut i64>) -> Result<i64> {
    match offset {
        Some(offset) if **offset < 0 => Err(Errno::EINVAL),
        Some(offset) => Ok(**offset),
        None => i64::try_from(*open.position.lock().await).map_err(|_| Errno::EOVERFLOW),
    }
}

/// Moves bytes chunk by chunk. Nothing is consumed that could not be delivered: `from` moves by what was written.
async fn copy(
    output: &OpenFile,
    mut to: Option<&mut i64>,
    input: &OpenFile,
    from: &mut i64,
    count: usize,
    done: &mut usize,
    caller: &dyn Caller,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK.min(count)];
    while *done < count {
        let wanted = CHUNK.min(count - *done);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        let read = wait::read_at(input, *from, &mut Destination::kernel(chunk), caller).await;
        let read = match read {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(_) if *done > 0 => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let mut source = Source::kernel(chunk.get(..read).unwrap_or_default());
        let written = match to.as_deref_mut() {
            Some(to) => wait::write_at(output, *to, &mut source, caller).await,
            None => wait::write(output, &mut source, caller).await,
        };
        let written = match written {
            Ok(written) => written,
            Err(_) if *done > 0 => return Ok(()),
            Err(errno) => return Err(errno),
        };
        *from += written as i64;
        if let Some(to) = to.as_deref_mut() {
            *to += written as i64;
        }
        *done += written;
        if written < read {
            return Ok(());
        }
    }
    Ok(())
}
