//! Changing a file's length: truncate(2), ftruncate(2), `O_TRUNC`.
//!
//! A length is not changed in the middle of a write: it waits for the file's [`Inode::write_lock`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use memory::{PAGE_SIZE, Pager, PagerError};
use sync::{Mutex, MutexGuard};

use crate::caller::Caller;
use crate::contents::{WriteAccess, check_length, new_permissions};
use crate::inode::{Inode, SetAttributes};

/// The write lock of a file, held; nothing if it has none.
pub(crate) type Exclusion<'a> = Option<MutexGuard<'a, ()>>;

/// Holds `lock`, if there is one and nobody holds it.
#[inline]
pub(crate) fn try_exclude(lock: Option<&Mutex<()>>) -> Option<Exclusion<'_>> {
    match lock {
        Some(lock) => lock.try_lock().map(Some),
        None => Some(None),
    }
}

/// Holds `lock`, if there is one, once nobody else does.
pub(crate) async fn exclude(lock: Option<&Mutex<()>>) -> Exclusion<'_> {
    match lock {
        Some(lock) => Some(lock.lock().await),
        None => None,
    }
}

/// A file is to have another length, and everything that speaks against it has been asked. Somebody else's program is
/// disarmed.
pub struct Truncation {
    inode: Arc<dyn Inode>,
    changes: SetAttributes,
    /// Nobody executes it meanwhile.
    _claim: Option<WriteAccess>,
}

impl Truncation {
    /// Of a file that was opened or `claim`ed for writing.
    ///
    /// # Errors
    /// `EINVAL` for a length below 0, `EFBIG` beyond the caller's limit.
    pub(crate) fn new(
        inode: &Arc<dyn Inode>,
        size: u64,
        claim: Option<WriteAccess>,
        caller: &dyn Caller,
    ) -> Result<Truncation> {
        if size > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if caller.file_size_limit() != u64::MAX && size > inode.attributes().size {
            check_length(size, caller)?;
        }
        let permissions = new_permissions(inode, caller);
        let changes = SetAttributes { size: Some(size), permissions, ..Default::default() };
        Ok(Truncation { inode: inode.clone(), changes, _claim: claim })
    }

    /// Changes the length now; `None` while somebody writes, or if that may take long since others map the file, or it lies elsewhere.
    ///
    /// # Errors
    /// The file system's.
    pub fn try_now(&self) -> Option<Result<()>> {
        let _exclusion = try_exclude(self.inode.write_lock())?;
        let mapped = self.inode.mapped();
        if mapped.as_deref().is_some_and(Pager::has_backing) {
            return None;
        }
        if mapped.as_deref().and_then(Pager::mappings).is_some_and(|mappings| !mappings.is_empty()) {
            return None;
        }
        match self.inode.set_attributes(&self.changes) {
            Ok(()) => {}
            Err(Errno::ERESTART) => return None,
            Err(errno) => return Some(Err(errno)),
        }
        // Hardly anybody began to map it in this instant.
        if let Some((mappings, pages)) = mapped.as_deref().and_then(|pager| Some((pager.mappings()?, pager))) {
            mappings.unmap(pages, self.first_gone()..u64::MAX);
        }
        Some(Ok(()))
    }

    /// Changes the length once nobody writes. Cancel-safe until then. What is cut off is still mapped.
    ///
    /// # Errors
    /// The file system's.
    pub async fn begin(&self) -> Result<Cut<'_>> {
        let exclusion = exclude(self.inode.write_lock()).await;
        match self.inode.set_attributes(&self.changes) {
            Err(Errno::ERESTART) => self.inode.clone().set_attributes_elsewhere(self.changes).await?,
            result => result?,
        }
        Ok(Cut { truncation: self, _exclusion: exclusion })
    }

    /// The first page that is not the file's any more.
    fn first_gone(&self) -> u64 {
        self.changes.size.unwrap_or(u64::MAX).div_ceil(PAGE_SIZE as u64)
    }
}

/// A file has its new length, and nobody writes. What programs map beyond it is still to go.
#[must_use = "what is cut off is still mapped"]
pub struct Cut<'a> {
    truncation: &'a Truncation,
    _exclusion: Exclusion<'a>,
}

impl Cut<'_> {
    /// Takes from all programs what they map of the part that is cut off, and cuts the file where it lies. Not to be given up.
    ///
    /// # Errors
    /// `EIO`; what could be cut off is.
    pub async fn finish(self) -> Result<()> {
        let Some(pager) = self.truncation.inode.mapped() else { return Ok(()) };
        if let Some(mappings) = pager.mappings() {
            mappings.unmap_slowly(&*pager, self.truncation.first_gone()..u64::MAX).await;
        }
        if !pager.has_backing() {
            return Ok(());
        }
        pager.finish_cut().await.map_err(PagerError::errno)
    }
}
