//! Clean pages given back when memory is short, by a clock: the hand goes round over a file's pages, and takes those nobody used since it
//! last passed.

use alloc::collections::BTreeMap;

use super::PageCache;

impl PageCache {
    /// Gives up to `wanted` clean pages back, mapped or not, and tells how many. The hand goes round once at most: of pages that were
    /// used all the time it takes none the first time it is asked. Called without locks.
    pub fn give_back(&self, wanted: u64) -> u64 {
        let mut gone = BTreeMap::new();
        loop {
            let came_round = {
                let mut pages = self.pages.lock();
                let hand = pages.hand;
                pages.hand = pages.pass_hand(hand, wanted as usize, &mut gone);
                pages.hand == 0
            };
            if came_round || gone.len() as u64 >= wanted {
                break;
            }
        }
        if !gone.is_empty() {
            drop(self.mappings.evict(self, &gone));
            self.budget.give(gone.len() as u64);
        }
        gone.len() as u64
    }
}
