//! Signals on their way to all processes, against those that fork meanwhile.
//!
//! Who signals all begins here, and then looks through the table; who forks enters the child in the table, and then asks here. Of two
//! that do so at the same time at least one sees the other: either the walk finds the child, or the fork is tried again.

use crate::atomic::{AtomicUsize, Ordering, fence};

/// See the module's page.
#[derive(Default)]
pub struct Broadcasts(AtomicUsize);

impl Broadcasts {
    /// A signal begins its way to all: before the first look at the table.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It has reached everybody. Whoever hears of that also sees what was done to them.
    pub fn end(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Whether one is on its way: asked after a process was entered.
    pub fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Acquire) > 0
    }
}
