//! [`Count`]: how many own a frame, from nobody to too many to be counted.
//!
//! Whoever owns a frame may use its bytes; they may change hands without any other word between the two CPUs. So the count orders the uses: giving up a
//! reference releases what was done with the bytes, and who finds itself alone acquires it: the last one that gives up, before the
//! frame goes back; a sole owner that writes where it would otherwise copy; the next first owner. kernel/models tries that in all orders.

use super::atomic::{AtomicU32, Ordering, fence};

/// A count above this has saturated: the frame stays allocated for good. Reserved frames start here.
pub const SATURATED: u32 = 0xc000_0000;

/// See the module's page.
#[repr(transparent)]
pub struct Count(AtomicU32);

impl Count {
    /// Of a frame that may not be handed out (yet).
    pub const fn reserved() -> Count {
        Count(AtomicU32::new(SATURATED))
    }

    /// Owners now, for who owns none: it may be another number already.
    #[inline]
    pub fn glance(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Owners now, for one of them. If that is 1 the others have finished with the bytes.
    #[inline]
    pub fn owners(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the number of owners of a frame that nobody else can have: 0, or 1.
    #[inline]
    pub fn set(&self, owners: u32) {
        self.0.store(owners, Ordering::Release);
    }

    /// The word itself, for a frame that is a page table: the machine keeps another state there.
    #[cfg(any(all(target_os = "none", target_arch = "x86_64"), test))]
    #[inline]
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Makes the caller the first owner; false if there is one, or the frame is reserved.
    #[inline]
    pub fn claim(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Counts one more owner, by one that stays.
    #[inline]
    pub fn add(&self) {
        // Relaxed suffices: the new reference is made from one that is held.
        if self.0.fetch_add(1, Ordering::Relaxed) >= SATURATED / 2 {
            self.saturate();
        }
    }

    /// As [`add`](Self::add), if nobody else can count another owner by the caller's reference meanwhile.
    #[cfg_attr(not(all(target_os = "none", target_arch = "x86_64")), allow(dead_code, reason = "for page tables"))]
    #[inline]
    pub fn add_alone(&self) {
        // The one owner is the caller: no locked instruction. It acquires what the others did before they left, since nobody finds that
        // behind a plain store.
        if self.0.load(Ordering::Acquire) == 1 {
            self.0.store(2, Ordering::Relaxed);
        } else {
            self.add();
        }
    }

    /// One owner less. True if it was the last: then the frame is free, and the caller's to give back.
    #[inline]
    #[must_use]
    pub fn remove(&self) -> bool {
        // A sole owner cannot gain company from elsewhere, so the last one needs no locked instruction.
        if self.0.load(Ordering::Acquire) == 1 {
            self.0.store(0, Ordering::Release);
            return true;
        }
        match self.0.fetch_sub(1, Ordering::Release) {
            1 => {
                fence(Ordering::Acquire);
                true
            }
            before if before > SATURATED / 2 => {
                self.saturate();
                false
            }
            _ => false,
        }
    }

    #[cold]
    fn saturate(&self) {
        self.0.store(SATURATED, Ordering::Relaxed);
    }
}
