//! The state of a task: who may poll it, and who puts it in a queue.
//!
//! ```text
//!             start
//!    New  ------------> Queued
//!
//!             wake                    taken from a queue               Ready
//!    Idle ------------> Queued ---------------------------> Running ---------> Done
//!     ^                   ^                                  |   |
//!     |   Pending         |   Pending, or gave way           |   | wake
//!     +-------------------|----------------------------------+   v
//!                         +---------------------------------- Notified
//! ```
//!
//! A new task has no future yet: a wake-up that comes before the start is noted by it and no more, since the start queues it.
//!
//! Every arrow is one atomic read-modify-write on the same word. That is what makes a wake-up impossible to lose: the
//! waker makes its condition true and then adds `DUE`; the executor takes `DUE` away and then polls. Whichever comes second
//! on that word sees the first: either the poll sees the condition, or the executor sees `DUE` when the poll is over.

use crate::atomic::{AtomicU8, Ordering};

/// Somebody wants the task polled.
pub const DUE: u8 = 1;
/// The task stands in a queue or is being polled: whoever adds this bit puts the task in a queue.
pub const ACTIVE: u8 = 2;
/// A CPU is polling the task.
const POLLING: u8 = 4;
/// The future has completed.
pub const FINISHED: u8 = 8;

/// Has no future yet. `ACTIVE`, so no waker queues it.
const NEW: u8 = ACTIVE;
/// Waits to be woken.
const IDLE: u8 = 0;
/// Stands in a queue.
const QUEUED: u8 = ACTIVE | DUE;
/// Is being polled.
const RUNNING: u8 = ACTIVE | POLLING;
/// Over. `ACTIVE`, so no waker ever queues it again.
const DONE: u8 = ACTIVE | FINISHED;

/// The state word of a task. Only the transitions of the picture above can be made.
#[derive(Debug)]
pub struct State(AtomicU8);

impl State {
    /// Has no future yet.
    pub fn new() -> State {
        State(AtomicU8::new(NEW))
    }

    /// New or Notified -> Queued: the caller puts it in a queue.
    pub fn enqueue(&self) {
        self.0.swap(QUEUED, Ordering::AcqRel);
    }

    /// A wake-up. True when the caller must put the task in a queue.
    pub fn wake(&self) -> Woken {
        let before = self.0.fetch_or(ACTIVE | DUE, Ordering::AcqRel);
        match before {
            IDLE => Woken::MustQueue,
            _ if before & POLLING != 0 => Woken::BeingPolled,
            _ => Woken::Already,
        }
    }

    /// Queued -> Running.
    pub fn begin(&self) {
        self.0.swap(RUNNING, Ordering::AcqRel);
    }

    /// Running -> Idle; false when a wake-up came during the poll (Notified -> Queued).
    pub fn end(&self) -> bool {
        if self.0.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.enqueue();
        false
    }

    /// Running or Notified -> Done.
    pub fn finish(&self) {
        self.0.swap(DONE, Ordering::AcqRel);
    }

    /// The bits now.
    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a wake-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It slept: the caller puts it in a queue.
    MustQueue,
    /// It is polled, and will be polled once more.
    BeingPolled,
    /// It stands in a queue, or is over.
    Already,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arrow_of_the_picture_leads_where_it_should() {
        let state = State::new();
        assert_eq!((state.get(), state.wake()), (NEW, Woken::Already));
        state.enqueue();
        assert_eq!((state.get(), state.wake(), state.get()), (QUEUED, Woken::Already, QUEUED));
        state.begin();
        assert_eq!(state.get(), RUNNING);
        assert!(state.end());
        assert_eq!((state.get(), state.wake(), state.get()), (IDLE, Woken::MustQueue, QUEUED));
        state.begin();
        assert_eq!((state.wake(), state.get()), (Woken::BeingPolled, RUNNING | DUE));
        assert_eq!((state.wake(), state.get()), (Woken::BeingPolled, RUNNING | DUE));
        assert!(!state.end());
        assert_eq!(state.get(), QUEUED);
        state.begin();
        state.wake();
        state.enqueue();
        assert_eq!(state.get(), QUEUED);
        state.begin();
        state.finish();
        assert_eq!((state.get(), state.wake(), state.get() & FINISHED), (DONE, Woken::Already, FINISHED));
    }
}
