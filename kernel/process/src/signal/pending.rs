//! Signals that wait.

use abi::signal::{Signal, SignalSet};
use smallvec::SmallVec;

use super::Information;

/// Pending signals of a thread or a process: which, and why. A standard signal is pending once or not at all; real-time
/// signals queue up in the order they came. The first few need no heap.
#[derive(Default)]
pub struct Pending {
    set: SignalSet,
    /// In the order they came.
    queue: SmallVec<[Information; 1]>,
}

impl Pending {
    /// Which are pending.
    pub const fn set(&self) -> SignalSet {
        self.set
    }

    /// How many are queued.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Adds a signal. False if a standard one was pending already: it is the same one still.
    pub fn add(&mut self, information: Information) -> bool {
        let signal = information.signal;
        if !signal.is_real_time() && self.set.contains(signal) {
            return false;
        }
        self.set.insert(signal);
        // Without memory the signal is pending all the same; its reason is lost, as on Linux.
        if self.queue.try_reserve(1).is_ok() {
            self.queue.push(information);
        }
        true
    }

    /// Takes out the signal that is to be delivered first of those in `wanted`: what the CPU caused before anything else,
    /// then by number.
    pub fn take(&mut self, wanted: SignalSet) -> Option<Information> {
        let candidates = self.set.intersection(wanted);
        let signal = candidates.intersection(SignalSet::SYNCHRONOUS).first().or_else(|| candidates.first())?;
        Some(self.take_signal(signal))
    }

    fn take_signal(&mut self, signal: Signal) -> Information {
        let place = self.queue.iter().position(|information| information.signal == signal);
        let information = match place {
            Some(place) => self.queue.remove(place),
            None => Information::user(signal, super::code::USER, 0, 0),
        };
        if !signal.is_real_time() || !self.queue.iter().any(|information| information.signal == signal) {
            self.set.remove(signal);
        }
        information
    }

    /// Forgets the signals of a set.
    pub fn discard(&mut self, signals: SignalSet) {
        if !self.set.intersection(signals).is_empty() {
            self.set = self.set.without(signals);
            self.queue.retain(|information| !signals.contains(information.signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(signal: i32, sender: u32) -> Information {
        Information::user(Signal::new(signal).unwrap(), 0, sender, 0)
    }

    const ALL: SignalSet = SignalSet(u64::MAX);

    #[test]
    fn standard_signals_merge_and_real_time_ones_queue() {
        let mut pending = Pending::default();
        assert!(pending.add(from(10, 1)) && !pending.add(from(10, 2)));
        assert!(pending.add(from(40, 3)) && pending.add(from(40, 4)));
        assert_eq!(pending.take(ALL), Some(from(10, 1)));
        assert_eq!(pending.take(ALL), Some(from(40, 3)));
        assert!(pending.set().contains(Signal::new(40).unwrap()));
        assert_eq!(pending.take(ALL), Some(from(40, 4)));
        assert_eq!(pending.take(ALL), None);
        assert!(pending.set().is_empty());
    }

    #[test]
    fn the_cpu_s_signals_come_first_then_the_lowest() {
        let mut pending = Pending::default();
        for signal in [15, 11, 2] {
            pending.add(from(signal, 0));
        }
        let order: Vec<u8> = core::iter::from_fn(|| pending.take(ALL)).map(|taken| taken.signal.number()).collect();
        assert_eq!(order, [11, 2, 15]);
    }

    #[test]
    fn only_wanted_signals_are_taken_and_discarded_ones_are_gone() {
        let mut pending = Pending::default();
        pending.add(from(20, 0));
        pending.add(from(21, 0));
        pending.add(from(1, 0));
        assert_eq!(pending.take(SignalSet::of(&[Signal::INT])), None);
        pending.discard(SignalSet::STOPPING);
        assert_eq!((pending.set(), pending.queued()), (SignalSet::of(&[Signal::HUP]), 1));
    }
}
