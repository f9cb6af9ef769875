//! [`Failing`]: a request that fails on purpose.
//!
//! The requests of a machine are counted from its start. Of those that can be refused one, said by its number, gets nothing, as if memory had
//! run out at that moment; those before and after it are served. Frames are counted among them. What can't be refused is only counted: it has
//! the reserve.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The requests of one machine, and which of them fails.
#[derive(Debug, Default)]
pub struct Failing {
    requests: AtomicU64,
    refusable: AtomicU64,
    /// 0 for none.
    fails: AtomicU64,
}

impl Failing {
    /// No request fails.
    pub const fn new() -> Failing {
        Failing { requests: AtomicU64::new(0), refusable: AtomicU64::new(0), fails: AtomicU64::new(0) }
    }

    /// Counts a request. True if it is the one that fails.
    pub fn strikes(&self, can_be_refused: bool) -> bool {
        self.requests.fetch_add(1, Relaxed);
        can_be_refused && self.refuses()
    }

    /// Counts a request that can be refused. True if it is.
    pub fn refuses(&self) -> bool {
        self.refusable.fetch_add(1, Relaxed) + 1 == self.fails.load(Relaxed)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Those of them that could be refused.
    pub fn refusable(&self) -> u64 {
        self.refusable.load(Relaxed)
    }

    /// Lets the `nth` request from now on that can be refused fail, from 1 on; 0 for none.
    pub fn fail_nth(&self, nth: u64) {
        let number = if nth == 0 { 0 } else { self.refusable().saturating_add(nth) };
        self.fails.store(number, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_fails_of_those_that_can() {
        let failing = Failing::new();
        let strikes = || failing.strikes(false);
        let refused = || failing.strikes(true);
        failing.fail_nth(3);
        assert_eq!([(); 5].map(|()| refused() || strikes()), [false, false, true, false, false]);
        failing.fail_nth(1);
        assert!((0..10).all(|_| !strikes()));
        failing.fail_nth(0);
        assert!((0..10).all(|_| !refused()));
        assert_eq!((failing.requests(), failing.refusable()), (29, 15));
    }
}
