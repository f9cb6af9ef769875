//! [`Patience`]: how long a guest thread is waited for after it was interrupted.
//!
//! A program may have blocked the signal for that, or say nothing when it gets it: then it is not waited for twice, but for the host's
//! processors that others keep busy, and in no case for longer than the deadline.

use std::time::{Duration, Instant};

/// See the module's page.
pub struct Patience {
    turns: u32,
    /// Its time on processors when this was last asked.
    ran: u64,
    due_since: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { turns: 2, ran: 0, due_since: None }
    }
}

impl Patience {
    /// Beyond what a processor that the host is short of, or a stopped process, could explain.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// Whether to wait on for a thread that was interrupted. `state` is the host's letter for what it does (proc_pid_stat(5)), None if it is
    /// gone; `processor_time` says how many nanoseconds it has had a processor.
    pub fn lasts(&mut self, state: Option<u8>, processor_time: impl FnOnce() -> u64) -> bool {
        let since = *self.due_since.get_or_insert_with(Instant::now);
        if self.had_its_chance(state, processor_time) {
            self.turns = self.turns.saturating_sub(1);
        }
        self.turns > 0 && since.elapsed() < Self::DEADLINE
    }

    /// Whether it could have come back by now: it sleeps, or had a processor since this was last asked.
    fn had_its_chance(&mut self, state: Option<u8>, processor_time: impl FnOnce() -> u64) -> bool {
        /// Nanoseconds in which a signal is delivered for sure.
        const ENOUGH: u64 = 20_000_000;
        match state {
            Some(b'R') => {
                let before = std::mem::replace(&mut self.ran, processor_time());
                self.ran.saturating_sub(before) > ENOUGH
            }
            // The host does something for it, or somebody stopped it.
            Some(b'D' | b'T' | b't') => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_is_waited_for_once_more() {
        let mut patience = Patience::default();
        assert!(patience.lasts(Some(b'S'), || 0));
        assert!(!patience.lasts(Some(b'S'), || 0));
    }

    #[test]
    fn who_gets_no_processor_is_waited_for() {
        let mut patience = Patience::default();
        assert!((0..100).all(|turn| patience.lasts(Some(b'R'), || turn * 1000)));
        assert!((0..100).all(|_| patience.lasts(Some(b'D'), || 0) && patience.lasts(Some(b't'), || 0)));
        assert!(patience.lasts(Some(b'R'), || 1_000_000_000));
        assert!(!patience.lasts(Some(b'R'), || 2_000_000_000), "it had two chances");
    }
}
