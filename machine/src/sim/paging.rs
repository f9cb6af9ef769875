//! A space: that of the crate `simulator`. Copies are in `memory/by_page.rs`.

use crate::memory::{Access, Frame, OutOfMemory, PageNumber, SwapEntries};
use alloc::sync::Arc;
use core::ops::Deref;
use simulator::Space;
pub use simulator::USER_TOP;

/// Addresses as the tables have them: 64 bits, though the kernel's words may be shorter.
pub type Address = u64;

/// See [`crate::memory::FAULT_AROUND`].
pub const FAULT_AROUND: usize = 16;
/// See [`crate::memory::FAULT_AHEAD`].
pub const FAULT_AHEAD: usize = 1;

/// See [`crate::memory::HUGE_PAGE_ORDER`]: no CPU looks into tables here.
pub const HUGE_PAGE_ORDER: Option<u8> = None;

/// See [`crate::memory::huge_pages`].
pub fn huge_pages() -> usize {
    0
}

/// The pages of a space.
pub struct Tables(Space<Frame>);

/// What takes pages and rights out of a space: at once.
pub type MmuGather<'a> = &'a Tables;

impl Deref for Tables {
    type Target = Space<Frame>;

    fn deref(&self) -> &Space<Frame> {
        &self.0
    }
}

impl Tables {
    pub fn new(entries: Option<Arc<dyn SwapEntries>>) -> Result<Tables, OutOfMemory> {
        Ok(Tables(entries.map_or_else(Space::new, Space::with_swap)))
    }

    pub fn gather(&self) -> MmuGather<'_> {
        self
    }

    /// Runs `body`, which finds the bytes of pages that allow an access. None leaves the space meanwhile.
    pub fn with_bytes<R>(&self, body: impl FnOnce(&mut dyn FnMut(PageNumber, Access) -> Option<*mut u8>) -> R) -> R {
        let mut pages = self.lock();
        body(&mut |page, access| pages.touch(page, access).map(Frame::bytes))
    }
}
