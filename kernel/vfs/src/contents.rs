//! What every change of a regular file's contents respects: the longest file the caller may make (`RLIMIT_FSIZE`), the
//! set-ID bits, which must not arm what somebody else wrote, and that a running program stays as it is (`ETXTBSY`).
//!
//! `open` denial a file for writing or executing; `wait` and `attributes` ask for the rest before they change it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};

use abi::raw::general as raw;
use abi::{Errno, Result};
use memory::Source;

use crate::attributes::without_set_id;
use crate::caller::Caller;
use crate::inode::{Inode, Permissions, SetAttributes};

/// Who has a file open: so many that write it if above 0, so many that execute it if below. Never both.
#[derive(Default)]
pub struct WriteDenial(AtomicI32);

impl WriteDenial {
    /// One more user of a kind, `step` being 1 or -1; false if there are users of the other kind.
    fn add(&self, step: i32) -> bool {
        let add = |count: i32| if count.signum() == -step { None } else { count.checked_add(step) };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
    }

    fn remove(&self, step: i32) {
        self.0.fetch_sub(step, Ordering::AcqRel);
    }
}

/// A file is being written, or executed, for as long as this lives.
pub(crate) struct WriteAccess {
    inode: Arc<dyn Inode>,
    step: i32,
}

impl WriteAccess {
    /// To write it. `None` for files that nobody can execute.
    ///
    /// # Errors
    /// `ETXTBSY` while it is executed.
    pub fn get(inode: &Arc<dyn Inode>) -> Result<Option<WriteAccess>> {
        WriteAccess::new(inode, 1)
    }

    /// To execute it.
    ///
    /// # Errors
    /// `ETXTBSY` while it is written.
    pub fn deny(inode: &Arc<dyn Inode>) -> Result<Option<WriteAccess>> {
        WriteAccess::new(inode, -1)
    }

    fn new(inode: &Arc<dyn Inode>, step: i32) -> Result<Option<WriteAccess>> {
        match inode.write_denial() {
            None => Ok(None),
            Some(denial) if denial.add(step) => Ok(Some(WriteAccess { inode: inode.clone(), step })),
            Some(_) => Err(Errno::ETXTBSY),
        }
    }
}

impl Drop for WriteAccess {
    fn drop(&mut self) {
        if let Some(denial) = self.inode.write_denial() {
            denial.remove(self.step);
        }
    }
}

/// Whether the caller may make a file this long.
///
/// # Errors
/// `EFBIG`; the caller was sent `SIGXFSZ`.
pub(crate) fn check_length(length: u64, caller: &dyn Caller) -> Result<()> {
    if length <= caller.file_size_limit() {
        return Ok(());
    }
    caller.file_too_large();
    Err(Errno::EFBIG)
}

/// Before a write at `position`: cuts it to what the caller's limit leaves, and takes set-ID bits away.
///
/// # Errors
/// `EFBIG` when nothing is left; the caller was sent `SIGXFSZ`.
pub(crate) fn before_write(
    inode: &Arc<dyn Inode>,
    position: u64,
    source: &mut Source<'_>,
    caller: &dyn Caller,
) -> Result<()> {
    if source.remaining() == 0 {
        return Ok(());
    }
    let limit = caller.file_size_limit();
    if limit != u64::MAX {
        check_length(position.saturating_add(1), caller)?;
        source.limit(usize::try_from(limit - position).unwrap_or(usize::MAX));
    }
    match new_permissions(inode, caller) {
        None => Ok(()),
        permissions => inode.set_attributes(&SetAttributes { permissions, ..Default::default() }),
    }
}

/// The permissions a file has to get because `caller` changes its contents; `None` if they stay.
#[inline]
pub(crate) fn new_permissions(inode: &Arc<dyn Inode>, caller: &dyn Caller) -> Option<u32> {
    let Permissions { mode, group, .. } = inode.permissions();
    let set_id = mode & (raw::S_ISUID | raw::S_ISGID);
    if set_id == 0 || caller.keeps_set_id() {
        return None;
    }
    Some(without_set_id(mode, caller.in_group(group))).filter(|&new| new != mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_or_executed() {
        let denial = WriteDenial::default();
        assert!(denial.add(1) && denial.add(1) && !denial.add(-1));
        denial.remove(1);
        assert!(!denial.add(-1));
        denial.remove(1);
        assert!(denial.add(-1) && denial.add(-1) && !denial.add(1));
        denial.remove(-1);
        denial.remove(-1);
        assert!(denial.add(1));
    }
}
