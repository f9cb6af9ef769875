//! Clean pages given back when memory is short, by a clock: the hand goes round over a file's pages, and takes those nobody used since it
//! last passed.
//!
//! A use by read(2) or a fault is noted with the page. One through a mapping is seen by the mark that the processor leaves in the page table: a
//! page that has it is taken out of there, so that the next use is seen too, and stays in the cache for one round more.

use super::PageCache;
use super::pages::Reclaimed;
use crate::pager::Candidates;

/// Pages let go of at once.
const BATCH: usize = 256;

impl PageCache {
    /// Gives up to `wanted` clean pages back, mapped or not, and tells how many. The hand goes round once at most: of pages that were
    /// used all the time it takes none the first time it is asked. Called without locks.
    pub fn give_back(&self, wanted: u64) -> u64 {
        if !self.mappings.is_empty() {
            self.note_mapped_uses(wanted);
        }
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

    /// Looks which of the next `wanted` pages that the hand would take were used through mappings, and notes it.
    fn note_mapped_uses(&self, wanted: u64) {
        let mut candidates = Candidates::new();
        let mut hand = self.lock().hand;
        loop {
            hand = self.lock().candidates(hand, wanted as usize, &mut candidates);
            if hand == 0 || candidates.len() as u64 >= wanted {
                break;
            }
        }
        if !candidates.is_empty() {
            drop(self.mappings.take_used(self, &mut candidates));
            self.lock().note_uses(candidates.into_iter().filter(|(_, page)| page.is_used).map(|(index, _)| index));
        }
    }

    fn let_go(&self, gone: &Reclaimed) {
        if !gone.pages.is_empty() {
            drop(self.mappings.evict(self, &gone.pages));
            self.budget.give(gone.pages.len() as u64);
        }
    }
}
