//! Clean pages given back when memory is short, by a clock: the hand goes round over a file's pages, and takes those nobody used since it
//! last passed.

use super::PageCache;
use super::pages::Reclaimed;

/// Pages let go of at once.
const BATCH: usize = 256;

impl PageCache {
    /// Gives up to `wanted` clean pages back, mapped or not, and tells how many. The hand goes round once at most: of pages that were
    /// used all the time it takes none the first time it is asked. Called without locks.
    pub fn give_back(&self, wanted: u64) -> u64 {
        let mut gone = Reclaimed::default();
        loop {
            let came_round = {
                let mut pages = self.lock();
                let hand = pages.hand;
                pages.hand = pages.pass_hand(hand, wanted as usize, &mut gone);
                pages.hand == 0
            };
            if came_round || gone.pages.len() as u64 >= wanted {
                break;
            }
        }
        self.let_go(&gone);
        gone.pages.len() as u64
    }

    /// Lets go of all clean pages, mapped or not: what the file has may be something else by now. Reads under way are for nobody.
    pub fn forget_clean(&self) {
        let mut hand = 0;
        loop {
            let mut gone = Reclaimed::default();
            {
                let mut pages = self.lock();
                if hand == 0 {
                    pages.in_flight.overtake_from(0);
                    pages.forget_uses();
                }
                hand = pages.pass_hand(hand, BATCH, &mut gone);
            }
            self.let_go(&gone);
            if hand == 0 {
                break;
            }
        }
        self.wake();
    }

    fn let_go(&self, gone: &Reclaimed) {
        if !gone.pages.is_empty() {
            drop(self.mappings.evict(self, &gone.pages));
            self.budget.give(gone.pages.len() as u64);
        }
    }
}
