//! The memory a process executes in.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use memory::AddressSpace;

/// An address space and how many processes execute in it: after vfork(2) two do. The last one out clears it.
pub struct Image {
    space: Arc<AddressSpace>,
    users: AtomicU32,
}

impl Image {
    pub(crate) fn new(space: Arc<AddressSpace>) -> Arc<Image> {
        Arc::new(Image { space, users: AtomicU32::new(1) })
    }

    #[inline]
    pub(crate) const fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// One more process executes in it.
    pub(crate) fn join(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// The process that was to join will not come to be.
    pub(crate) fn unjoin(&self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// A process left it. The last one frees the memory, letting others run meanwhile.
    pub(crate) async fn leave(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.space.clear().await;
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 1
    }
}
