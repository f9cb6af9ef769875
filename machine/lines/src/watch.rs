//! Who looks at the clock for CPUs that run programs.

use crate::line::{Place, World};
use crate::{Lines, lock, wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

/// When to look.
pub struct Watch {
    /// When it looks next; `u64::MAX` for never.
    next: Mutex<u64>,
    changed: Condvar,
    /// The CPUs' threads have ended. Written under the lock above.
    is_over: AtomicBool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { next: Mutex::new(u64::MAX), changed: Condvar::new(), is_over: AtomicBool::new(false) }
    }
}

impl Watch {
    /// Makes the watch look at `deadline` at the latest.
    pub fn until(&self, deadline: u64) {
        let mut next = lock(&self.next);
        if deadline < *next {
            *next = deadline;
            drop(next);
            self.changed.notify_all();
        }
    }
}

impl<W: World> Lines<W> {
    /// Looks at the clock until [`Lines::end_watch`]: what the watch's thread does.
    pub fn watch(&self) {
        let watch = &self.watch;
        let mut next = lock(&watch.next);
        while !watch.is_over.load(Ordering::Relaxed) {
            let left = next.saturating_sub(W::now());
            if left > 0 {
                let limit = (*next != u64::MAX).then_some(left);
                next = wait(&watch.changed, next, limit);
                continue;
            }
            // A CPU that enters a program meanwhile with an earlier alarm says so after this.
            *next = u64::MAX;
            drop(next);
            let found = self.look();
            next = lock(&watch.next);
            *next = found.min(*next);
        }
    }

    /// The CPUs' threads have ended: nobody need look any more.
    pub fn end_watch(&self) {
        let next = lock(&self.watch.next);
        self.watch.is_over.store(true, Ordering::Relaxed);
        drop(next);
        self.watch.changed.notify_all();
    }

    /// Interrupts the programs of CPUs whose alarm is due, and ends what is late; returns when there is something to do next.
    fn look(&self) -> u64 {
        let now = W::now();
        let mut next = u64::MAX;
        for line in self.lines.iter().take(self.count()) {
            line.end_late(now);
            let mut pending = lock(&line.pending);
            if let (Place::User(thread), Some(alarm)) = (pending.place, pending.alarm) {
                if alarm <= now {
                    pending.interrupt::<W>(thread);
                } else {
                    next = next.min(alarm);
                }
            }
            if let Some(deadline) = pending.deadline {
                // One that is late already was killed, or is back: its CPU will see.
                next = next.min(deadline.max(now + W::patience() / 2));
            }
        }
        next
    }
}
