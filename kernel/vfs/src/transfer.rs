//! From file to file without the program in between: sendfile(2), copy_file_range(2).

use abi::fallible::try_zeroed;
use abi::{Errno, Result};
use memory::{Destination, PAGE_SIZE, Source};
use sync::Budget;

use crate::caller::Caller;
use crate::file::FileTraits;
use crate::inode::FileKind;
use crate::open::OpenFlags;
use crate::open_file::OpenFile;
use crate::wait::{self, At};

/// How much is moved at a time.
const CHUNK: usize = 16 * 1024;

/// Where a transfer has come in one of its files.
pub struct End<'a> {
    open: &'a OpenFile,
    /// Where it goes on; nothing for a file without positions.
    at: Option<i64>,
    /// Whether that is the file's own position, which moves when the transfer is over.
    own: bool,
}

impl<'a> End<'a> {
    /// At `offset`, or else at the file's own position as it is now. The position is not held until the end: both ends may be
    /// one open file, and other transfers go the other way. So two of them may move the same bytes, as on Linux.
    ///
    /// # Errors
    /// `EOVERFLOW` for a position that is no offset.
    pub async fn new(open: &'a OpenFile, offset: Option<i64>) -> Result<End<'a>> {
        let own = offset.is_none() && open.has_position();
        let at =
            if own { Some(i64::try_from(*open.position.lock().await).map_err(|_| Errno::EOVERFLOW)?) } else { offset };
        Ok(End { open, at, own })
    }

    /// The offset that the transfer has reached.
    pub fn reached(&self) -> Option<i64> {
        self.at
    }

    fn advance(&mut self, length: usize) {
        self.at = self.at.map(|at| at + length as i64);
    }

    /// Moves the file's own position behind what was transferred, if the transfer began there. To be called however it ended,
    /// so that nothing is transferred twice.
    pub async fn finish(&self) {
        if self.own
            && let Some(Ok(at)) = self.at.map(u64::try_from)
        {
            *self.open.position.lock().await = at;
        }
    }
}

/// Sends up to `count` bytes from `input` to `output`: sendfile(2). Dropped, it leaves in both, and in `sent`, what was sent.
///
/// # Errors
/// `EBADF`, `EINVAL` when `input` can't be read at a position or `output` appends, and those of reading and writing.
pub async fn sendfile(
    output: &mut End<'_>,
    input: &mut End<'_>,
    count: usize,
    sent: &mut usize,
    caller: &dyn Caller,
) -> Result<()> {
    input.open.check(crate::Access::READ)?;
    output.open.check(crate::Access::WRITE)?;
    if !input.open.traits().contains(FileTraits::SEEKABLE) {
        return Err(if input.at.is_some() { Errno::ESPIPE } else { Errno::EINVAL });
    }
    if output.open.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    copy(output, input, count, sent, caller).await
}

/// Copies a range between two regular files: copy_file_range(2). Dropped, it leaves in both, and in `copied`, what was copied.
///
/// # Errors
/// `EINVAL` for what is no regular file or a range that overlaps itself, `EISDIR`, `EBADF`.
pub async fn copy_file_range(
    input: &mut End<'_>,
    output: &mut End<'_>,
    count: usize,
    copied: &mut usize,
    caller: &dyn Caller,
) -> Result<()> {
    input.open.check(crate::Access::READ)?;
    output.open.check(crate::Access::WRITE)?;
    if output.open.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    for open in [input.open, output.open] {
        match open.kind() {
            Some(FileKind::Regular) => {}
            Some(FileKind::Directory) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let (from, to) = (input.at.unwrap_or_default(), output.at.unwrap_or_default());
    if from < 0 || to < 0 {
        return Err(Errno::EINVAL);
    }
    let same = alloc::sync::Arc::ptr_eq(input.open.inode(), output.open.inode());
    if same && from.abs_diff(to) < count as u64 {
        return Err(Errno::EINVAL);
    }
    copy(output, input, count, copied, caller).await
}

/// Moves bytes chunk by chunk. Nothing is consumed that could not be delivered: `input` moves by what was written.
async fn copy(
    output: &mut End<'_>,
    input: &mut End<'_>,
    count: usize,
    done: &mut usize,
    caller: &dyn Caller,
) -> Result<()> {
    let mut buffer = try_zeroed(CHUNK.min(count))?;
    let mut budget = Budget::new();
    while *done < count {
        let wanted = CHUNK.min(count - *done);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        let from = input.at.unwrap_or_default();
        let read = wait::read(input.open, At::Offset(from), &mut Destination::kernel(chunk), caller).await;
        let read = match read {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(_) if *done > 0 => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let mut source = Source::kernel(chunk.get(..read).unwrap_or_default());
        let to = output.at.map_or(At::Position, At::Offset);
        let written = match wait::write(output.open, to, &mut source, caller).await {
            Ok(written) => written,
            Err(_) if *done > 0 => return Ok(()),
            Err(errno) => return Err(errno),
        };
        input.advance(written);
        output.advance(written);
        *done += written;
        if written < read {
            return Ok(());
        }
        // Read and written.
        budget.pace(2 * written / PAGE_SIZE).await;
    }
    Ok(())
}
