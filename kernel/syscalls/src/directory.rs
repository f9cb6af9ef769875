//! Reading directories: getdents64(2) and its elder, getdents(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::fallible::try_zeroed;
use process::{Failure, Thread};
use sync::Budget;
use vfs::{DirectoryEntry, DirectorySink, Dirent64Writer, OpenFile};

use crate::argument::{Address, Descriptor};

/// How much is laid out in the kernel at once, before it is copied to the program. Room for the longest name seven times.
const PIECE: usize = 2048;

/// getdents64(2)
pub(crate) async fn getdents64(
    thread: &Arc<Thread>,
    directory: Descriptor,
    buffer: Address,
    size: u32,
) -> Result<usize, Failure> {
    read_entries(thread, directory, buffer, size, async |file, room| {
        let mut writer = Dirent64Writer::new(room);
        file.read_directory(&mut writer).await?;
        writer.finish()
    })
    .await
}

/// getdents(2): the type stands behind the name's zero, at the end of the record.
pub(crate) async fn getdents(
    thread: &Arc<Thread>,
    directory: Descriptor,
    buffer: Address,
    size: u32,
) -> Result<usize, Failure> {
    read_entries(thread, directory, buffer, size, async |file, room| {
        let mut writer = OldWriter { room, used: 0, refused: false };
        file.read_directory(&mut writer).await?;
        if writer.used == 0 && writer.refused { Err(Errno::EINVAL) } else { Ok(writer.used) }
    })
    .await
}

/// Fills the program's buffer piece by piece. `lay_out` fills a piece, and fails with `EINVAL` if not one entry fits.
async fn read_entries(
    thread: &Arc<Thread>,
    directory: Descriptor,
    buffer: Address,
    size: u32,
    lay_out: impl AsyncFn(&OpenFile, &mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Failure> {
    let file = thread.files().get(directory.0)?;
    let size = size as usize;
    let mut room = try_zeroed(size.min(PIECE))?;
    let mut done = 0;
    let mut budget = Budget::new();
    loop {
        // An entry takes longer than its bytes.
        budget.pace(PIECE / 64).await;
        let piece = room.get_mut(..(size - done).min(PIECE)).unwrap_or_default();
        let length = match lay_out(&file, piece).await {
            Ok(0) => return Ok(done),
            Ok(length) => length,
            // The rest of the buffer is too small for the next entry.
            Err(Errno::EINVAL) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno.into()),
        };
        thread.space().copy_out(buffer.0.wrapping_add(done), piece.get(..length).unwrap_or_default()).await?;
        done += length;
    }
}

/// Lays entries out as `struct linux_dirent`.
struct OldWriter<'a> {
    room: &'a mut [u8],
    used: usize,
    refused: bool,
}

impl DirectorySink for OldWriter<'_> {
    fn entry(&mut self, entry: DirectoryEntry<'_>) -> bool {
        let taken = self.room.get_mut(self.used..).and_then(|rest| lay_out_old(&entry, rest));
        self.refused |= taken.is_none();
        self.used += taken.unwrap_or(0);
        taken.is_some()
    }
}

/// Writes one `struct linux_dirent` at the start of `to` and returns its length; `None` if it does not fit.
fn lay_out_old(entry: &DirectoryEntry<'_>, to: &mut [u8]) -> Option<usize> {
    const NAME: usize = 18;
    let length = (NAME + entry.name.len() + 2).next_multiple_of(8);
    let record = to.get_mut(..length)?;
    record.fill(0);
    record.get_mut(..8)?.copy_from_slice(&entry.number.to_le_bytes());
    record.get_mut(8..16)?.copy_from_slice(&entry.next.to_le_bytes());
    record.get_mut(16..NAME)?.copy_from_slice(&(length as u16).to_le_bytes());
    record.get_mut(NAME..NAME + entry.name.len())?.copy_from_slice(entry.name);
    *record.last_mut()? = entry.kind.entry_type();
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfs::FileKind;

    #[test]
    fn old_records_end_in_the_type() {
        let mut room = [0xff; 32];
        let entry = DirectoryEntry { name: b"abcd", number: 7, kind: FileKind::Directory, next: 3 };
        assert_eq!(lay_out_old(&entry, &mut room), Some(24));
        assert_eq!(&room[..24], b"\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x18\0abcd\0\x04");
        assert_eq!(lay_out_old(&entry, &mut room[..16]), None);
    }
}
