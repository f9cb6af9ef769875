//! Giving way in the middle of long work.
//!
//! There is no preemption inside a poll, so whatever may take long (copying, zeroing, tearing down, looking through)
//! counts its work in a [`Budget`], and returns to the executor when the budget is spent: others run, interrupts are
//! taken, and who waits for the work to end may find that its thread was killed.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use machine::time;

/// How long work goes on before it gives way, in nanoseconds.
const SLICE: u64 = 100_000;

/// Units of work between two looks at the clock.
const LOOK_AFTER: usize = 16;

/// What long work may do before it lets others run: about 100 microseconds. A unit of work is what takes about as long as
/// the copying of a page, or less. Work of few units never asks for the time.
#[derive(Debug, Default)]
pub struct Budget {
    /// Units since the last look at the clock.
    units: usize,
    /// When the slice is over, once the clock has been looked at.
    end: u64,
}

impl Budget {
    /// A whole slice, which begins with the first look at the clock.
    pub const fn new() -> Budget {
        Budget { units: 0, end: 0 }
    }

    /// Counts so many units. True when the slice is over: then give way. The next slice begins with the next unit.
    #[inline]
    #[must_use = "when it is true, give way"]
    pub fn spend(&mut self, units: usize) -> bool {
        self.units = self.units.saturating_add(units);
        self.units >= LOOK_AFTER && self.look()
    }

    fn look(&mut self) -> bool {
        let now = time::now();
        self.units = 0;
        if self.end == 0 {
            self.end = now + SLICE;
        }
        let over = now >= self.end;
        if over {
            self.end = 0;
        }
        over
    }

    /// Counts so many units, and gives way when the slice is over.
    pub async fn pace(&mut self, units: usize) {
        if self.spend(units) {
            yield_now().await;
        }
    }
}

/// Lets whoever is more urgent run first, and interrupts be taken.
pub const fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{CountingWaker, poll_once};

    #[test]
    fn few_units_take_no_time_and_many_end_the_slice() {
        let mut budget = Budget::new();
        assert!(!budget.spend(LOOK_AFTER - 1) && budget.end == 0, "nobody asked for the time");
        assert!(!budget.spend(1) && budget.end != 0);
        let (start, mut over) = (time::now(), false);
        while !over && time::now() < start + 60_000_000_000 {
            over = budget.spend(1);
        }
        assert!(over && time::now() >= start + SLICE / 2);
        assert_eq!((budget.units, budget.end), (0, 0), "the next slice is whole");
    }

    #[test]
    fn the_end_of_a_slice_returns_to_the_executor_once() {
        let waker = CountingWaker::new();
        let mut budget = Budget { units: LOOK_AFTER, end: 1 };
        let mut pacing = Box::pin(budget.pace(1));
        assert!(poll_once(&mut pacing, &waker).is_pending());
        assert_eq!(waker.count(), 1);
        assert!(poll_once(&mut pacing, &waker).is_ready());
    }
}
