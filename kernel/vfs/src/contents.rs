//! What every change of a regular file's contents respects: the longest file the caller may make (`RLIMIT_FSIZE`), the
//! set-ID bits, which must not arm what somebody else wrote, and that a running program stays as it is (`ETXTBSY`).
//!
//! `open` claims a file for writing or executing; `wait` and `attributes` ask for the rest before they change it.

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
pub struct Claims(AtomicI32);

impl Claims {
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
pub(crate) struct Claim {
    inode: Arc<dyn Inode>,
    step: i32,
}

impl Claim {
    /// To write it. `None` for files that nobody can execute.
    ///
    /// # Errors
    /// `ETXTBSY` while it is executed.
    pub fn to_write(inode: &Arc<dyn Inode>) -> Result<Option<Claim>> {
        Claim::new(inode, 1)
    }

    /// To execute it.
    ///
    /// # Errors
    /// `ETXTBSY` while it is written.
    pub fn to_execute(inode: &Arc<dyn Inode>) -> Result<Option<Claim>> {
        Claim::new(inode, -1)
    }

    fn new(inode: &Arc<dyn Inode>, step: i32) -> Result<Option<Claim>> {
        match inode.claims() {
            None => Ok(None),
            Some(claims) if claims.add(step) => Ok(Some(Claim { inode: inode.clone(), step })),
            Some(_) => Err(Errno::ETXTBSY),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(claims) = self.inode.claims() {
            claims.remove(self.step);
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
        let claims = Claims::default();
        assert!(claims.add(1) && claims.add(1) && !claims.add(-1));
        claims.remove(1);
        assert!(!claims.add(-1));
        claims.remove(1);
        assert!(claims.add(-1) && claims.add(-1) && !claims.add(1));
        claims.remove(-1);
        claims.remove(-1);
        assert!(claims.add(1));
    }
}
