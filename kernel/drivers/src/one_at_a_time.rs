//! [`OneAtATime`]: work that whoever comes wants done, and one of them does.
//!
//! An interrupt's handler and a reader who made room may both want a device's input seen to. Two at once would mix it up, and
//! neither may wait for the other. So each leaves a note; the first does the work, and once more for notes that came meanwhile.

use core::sync::atomic::{AtomicU32, Ordering};

/// How many want the work done; who raises it from 0 does it.
#[derive(Debug, Default)]
pub struct OneAtATime(AtomicU32);

impl OneAtATime {
    /// Sees to it that `work` is done after this call began: by this caller, or by the one who is at it.
    pub fn run(&self, mut work: impl FnMut()) {
        if self.0.fetch_add(1, Ordering::Acquire) > 0 {
            return; // The one who works now sees the note before it leaves.
        }
        let mut notes = 1;
        loop {
            work();
            match self.0.compare_exchange(notes, 0, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(more) => notes = more,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_meanwhile_leaves_it_to_the_first() {
        let (work, mut times) = (OneAtATime::default(), 0);
        work.run(|| {
            times += 1;
            if times == 1 {
                work.run(|| unreachable!("two at once"));
                work.run(|| unreachable!("two at once"));
            }
        });
        assert_eq!(times, 2, "once, and once more for both notes");
        work.run(|| times += 1);
        assert_eq!(times, 3);
    }
}
