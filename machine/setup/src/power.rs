//! [`Power`]: whether a machine is on.

use crate::StartError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Whether a machine is on, and how it ended.
#[derive(Default)]
pub struct Power {
    /// For a quick look.
    is_off: AtomicBool,
    status: Mutex<Option<u8>>,
    /// It is off for want of what the host refuses.
    refused: Mutex<Option<StartError>>,
    changed: Condvar,
}

/// A thread that unwound with a lock held has left it whole: each guards a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Power {
    /// The machine is off from now on, with this status if it was on until now.
    pub fn switch_off(&self, status: u8) {
        lock(&self.status).get_or_insert(status);
        self.is_off.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// What the host refuses; the first counts.
    pub fn note_refusal(&self, error: StartError) {
        lock(&self.refused).get_or_insert(error);
    }

    /// What [`note_refusal`](Self::note_refusal) was told, once.
    pub fn refusal(&self) -> Option<StartError> {
        lock(&self.refused).take()
    }

    /// Whether the machine is off: then nobody should begin anything.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::SeqCst)
    }

    /// The same for who asks often, and may learn of it a little later.
    #[inline]
    pub fn is_off_by_now(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Waits until the machine is off. Returns the status.
    pub fn wait_until_off(&self) -> u8 {
        let mut status = lock(&self.status);
        loop {
            match *status {
                Some(status) => return status,
                None => status = self.changed.wait(status).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn the_first_who_switches_it_off_says_the_status() {
        let power = Power::default();
        assert!(!power.is_off());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| power.wait_until_off());
            power.switch_off(3);
            power.switch_off(4);
            assert_eq!(waiter.join().unwrap(), 3);
        });
        assert!(power.is_off() && power.is_off_by_now());
    }

    #[test]
    fn the_first_refusal_is_told_once() {
        let power = Power::default();
        let error = |step| StartError { step, advice: "", reason: io::Error::from_raw_os_error(1) };
        power.note_refusal(error("one"));
        power.note_refusal(error("two"));
        assert_eq!(power.refusal().unwrap().step, "one");
        assert!(power.refusal().is_none());
    }
}
