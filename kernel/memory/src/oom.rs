//! When memory is out.
//!
//! The allocator keeps a reserve for the kernel ([`FrameAllocator`](crate::FrameAllocator)), and says in steps that the
//! end is near: no new processes, no more pages for programs, and last nothing at all until somebody has given memory
//! back. Who that is to be is not this room's to know: a [`OomKiller`] chooses. Whoever needs memory waits here meanwhile.
//! Before anybody has to go, pages go that can be had again: those that a [`Cache`] keeps of files which lie elsewhere.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use sync::yield_now;

use crate::address_space::AddressSpace;
use crate::kernel_memory::Memory;

/// Pages asked back at once. A cache draws some 40 bytes on the kernel's reserve for each, until they are gone.
const BATCH: u64 = 256;

/// What becomes of somebody who needs memory when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomOutcome {
    /// Somebody is giving memory back: try again, and again.
    Wait,
    /// There is nobody left to take memory from, or it is the asker who has to go.
    GiveUp,
}

/// Who keeps pages that can be had again: a file system whose files lie elsewhere.
pub trait Cache: Send + Sync {
    /// Gives up to so many pages back, and tells how many. `None`: it has found none yet and has not looked everywhere, but a slice's work
    /// is done. Called without locks.
    fn give_back(&self, pages: u64) -> Option<u64>;

    /// Whether it keeps pages that can be given back once they are written.
    fn has_to_write(&self) -> bool {
        false
    }

    /// Begins to write some of those, and resolves when a part of that has come to its end. False if it can't.
    fn write_some(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(core::future::ready(false))
    }
}

/// Who makes room when memory is out: the process room, which knows who has how much.
pub trait OomKiller: Send + Sync {
    /// Memory is out for `space`. Makes somebody give it back, unless somebody is at it.
    fn out_of_memory(&self, space: &AddressSpace) -> OomOutcome;
}

impl AddressSpace {
    /// Lets others run while one of them gives memory back. True if it is worth trying again.
    #[cold]
    pub(crate) async fn wait_for_memory(&self) -> bool {
        let memory = self.memory();
        let mut has_given = memory.free_slice() || memory.give_back(BATCH) != Some(0);
        if !has_given && let Some(written) = memory.write_some() {
            has_given = written.await;
        }
        let out_of_memory =
            || self.memory().oom_killer().map_or(OomOutcome::GiveUp, |oom_killer| oom_killer.out_of_memory(self));
        if !has_given && out_of_memory() == OomOutcome::GiveUp {
            return false;
        }
        // Also after what was freed here: it may take very many slices until one of them gives a frame back.
        yield_now().await;
        true
    }

    /// Waits while the kernel itself is short of memory, before its program may ask for anything more.
    pub async fn wait_for_reserve(&self) {
        while self.memory().frames().is_critical() && self.wait_for_memory().await {}
    }
}

impl Memory {
    /// One more cache to be asked when memory is out, for as long as it lives.
    #[expect(clippy::disallowed_methods, reason = "as many as there are file systems of that kind")]
    pub fn add_cache(&self, cache: Weak<dyn Cache>) {
        let mut caches = self.caches().write();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// Asks the caches for so many pages, and returns how many they gave; `None` if one of them has to be asked again, when others have
    /// run, before it can be said that there are none.
    #[expect(clippy::disallowed_methods, reason = "as many as there are file systems of that kind")]
    pub(crate) fn give_back(&self, pages: u64) -> Option<u64> {
        let caches: Vec<Arc<dyn Cache>> = self.caches().read().iter().filter_map(Weak::upgrade).collect();
        let mut given = Some(self.swap().shrink());
        for cache in &caches {
            given = match (given, cache.give_back(pages.saturating_sub(given.unwrap_or(0)))) {
                (Some(given), Some(more)) => Some(given + more),
                (Some(given), None) | (None, Some(given)) if given > 0 => Some(given),
                _ => None,
            };
            if given.is_some_and(|given| given >= pages) {
                break;
            }
        }
        given
    }

    /// Lets a cache write pages that it can give back then. `None` if none has any.
    fn write_some(&self) -> Option<Pin<Box<dyn Future<Output = bool> + Send>>> {
        let cache = self.caches().read().iter().filter_map(Weak::upgrade).find(|cache| cache.has_to_write())?;
        Some(Box::pin(async move { cache.write_some().await }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    /// A cache with so many pages.
    struct Pages(AtomicU64);

    impl Cache for Pages {
        fn give_back(&self, pages: u64) -> Option<u64> {
            let given = pages.min(self.0.load(Ordering::Relaxed));
            self.0.fetch_sub(given, Ordering::Relaxed);
            Some(given)
        }
    }

    #[test]
    fn each_cache_is_asked_for_what_those_before_it_did_not_give() {
        let kernel = crate::tests::kernel();
        let caches = [3, 5, 20].map(|pages| Arc::new(Pages(AtomicU64::new(pages))));
        for cache in &caches {
            let weak = Arc::downgrade(cache);
            kernel.memory.add_cache(weak);
        }
        let left = || caches.each_ref().map(|cache| cache.0.load(Ordering::Relaxed));
        assert_eq!((kernel.memory.give_back(2), left()), (Some(2), [1, 5, 20]));
        assert_eq!((kernel.memory.give_back(10), left()), (Some(10), [0, 0, 16]));
        assert_eq!((kernel.memory.give_back(100), left()), (Some(16), [0, 0, 0]));
        drop(caches);
        assert_eq!(kernel.memory.give_back(1), Some(0), "they are gone");
    }
}
