//! How many pages a file system may keep.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::kernel_memory::Memory;
use crate::pager::PagerError;

/// How many pages a file system may use, and uses.
pub struct PageBudget {
    memory: Arc<Memory>,
    limit: AtomicU64,
    used: AtomicU64,
}

impl PageBudget {
    /// A budget of `limit` pages; `u64::MAX` if only the machine's memory is to bound it.
    pub fn new(memory: &Arc<Memory>, limit: u64) -> Arc<PageBudget> {
        Arc::new(PageBudget { memory: memory.clone(), limit: AtomicU64::new(limit), used: AtomicU64::new(0) })
    }

    /// The memory that the pages come from.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Pages in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Pages that may be used.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit (a remount). What is in use stays in use.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Counts one more page.
    ///
    /// # Errors
    /// [`PagerError::OutOfMemory`] when only the kernel's reserve is left, [`PagerError::NoSpace`] at the limit.
    pub fn take(&self) -> Result<(), PagerError> {
        if self.memory.is_scarce() {
            return Err(PagerError::OutOfMemory);
        }
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.limit() {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return Err(PagerError::NoSpace);
        }
        self.memory.add_file_page();
        Ok(())
    }

    /// Counts `pages` pages less.
    pub fn give(&self, pages: u64) {
        if pages > 0 {
            self.used.fetch_sub(pages, Ordering::Relaxed);
            self.memory.remove_file_pages(pages);
        }
    }
}
