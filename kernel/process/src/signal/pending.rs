//! Signals that wait.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::signal::{Signal, SignalSet};
use abi::{Errno, Result};
use machine::memory::fallible;
use smallvec::SmallVec;
use sync::Budget;

use super::{Information, code};
use crate::ucounts::{QueuedSignal, UserCounts};

/// Pending signals of a thread or a process: which, and why. A standard signal is pending once or not at all; real-time
/// signals queue up in the order they came. The first standard one needs no heap.
#[derive(Default)]
pub struct Pending {
    set: SignalSet,
    /// Each at most once.
    standard: SmallVec<[Queued; 1]>,
    /// Those of each number, in the order they came.
    real_time: Vec<(Signal, Fifo)>,
}

/// A reason that waits, counted for its user.
struct Queued {
    information: Information,
    _counted: QueuedSignal,
}

/// Whose queue a signal joins.
pub(crate) struct Queue<'a> {
    /// For whom it is counted: the real user of who gets it.
    pub user: &'a Arc<UserCounts>,
    /// `RLIMIT_SIGPENDING`
    pub limit: u64,
}

impl Queue<'_> {
    /// Counts a signal, if the user may have one more. Standard signals of the kernel and of kill(2) always fit.
    fn join(&self, information: Information) -> Option<Queued> {
        let always = !information.signal.is_real_time() && information.code >= code::USER;
        let counted = QueuedSignal::count(self.user, if always { u64::MAX } else { self.limit })?;
        Some(Queued { information, _counted: counted })
    }
}

/// Signals of one number in the order they came. In pieces below a page, so that no long one needs neighbouring memory.
#[derive(Default)]
struct Fifo {
    /// None but the last has room, and none but the only one is empty.
    pieces: VecDeque<VecDeque<Queued>>,
}

impl Fifo {
    /// The most in a piece.
    const PIECE: usize = 64;

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn push(&mut self, queued: Queued) -> Result<()> {
        if self.pieces.back().is_none_or(|piece| piece.len() == Self::PIECE) {
            fallible(|| self.pieces.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            self.pieces.push_back(VecDeque::new());
        }
        let piece = self.pieces.back_mut().ok_or(Errno::ENOMEM)?;
        let pushed = fallible(|| piece.try_reserve(1)).map(|()| piece.push_back(queued)).map_err(|_| Errno::ENOMEM);
        self.trim();
        pushed
    }

    fn pop(&mut self) -> Option<Queued> {
        let first = self.pieces.front_mut()?.pop_front();
        self.trim();
        first
    }

    /// Lets go of empty pieces but for one.
    fn trim(&mut self) {
        if self.pieces.len() > 1 && self.pieces.front().is_some_and(VecDeque::is_empty) {
            self.pieces.pop_front();
        }
        if self.pieces.len() > 1 && self.pieces.back().is_some_and(VecDeque::is_empty) {
            self.pieces.pop_back();
        }
    }

    fn is_empty(&self) -> bool {
        self.pieces.front().is_none_or(VecDeque::is_empty)
    }
}

impl Pending {
    /// Which are pending.
    pub const fn set(&self) -> SignalSet {
        self.set
    }

    /// Adds a signal. False if a standard one was pending already: it is the same one still.
    ///
    /// # Errors
    /// `EAGAIN` for a real-time signal with a reason, if its user has too many or memory is out. Any other signal, and one of
    /// kill(2), is pending all the same then; its reason is lost, as on Linux.
    pub(crate) fn add(&mut self, information: Information, queue: &Queue<'_>) -> Result<bool> {
        let signal = information.signal;
        if !signal.is_real_time() && self.set.contains(signal) {
            return Ok(false);
        }
        let queued = queue.join(information).is_some_and(|queued| self.push(queued).is_ok());
        let has_reason = information.code != code::USER && information.code != code::KERNEL;
        if !queued && signal.is_real_time() && has_reason {
            return Err(Errno::EAGAIN);
        }
        self.set.insert(signal);
        Ok(true)
    }

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn push(&mut self, queued: Queued) -> Result<()> {
        let signal = queued.information.signal;
        if !signal.is_real_time() {
            fallible(|| self.standard.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            self.standard.push(queued);
            return Ok(());
        }
        if self.queue_of(signal).is_none() {
            fallible(|| self.real_time.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            self.real_time.push((signal, Fifo::default()));
        }
        self.queue_of(signal).ok_or(Errno::ENOMEM)?.push(queued)
    }

    fn queue_of(&mut self, signal: Signal) -> Option<&mut Fifo> {
        self.real_time.iter_mut().find(|(of, _)| *of == signal).map(|(_, queue)| queue)
    }

    /// Frees what nobody will take: so many may be queued that it takes long.
    pub(crate) async fn forget(mut self) {
        let mut budget = Budget::new();
        while let Some((_, queue)) = self.real_time.last_mut() {
            if queue.pieces.pop_back().is_none() {
                self.real_time.pop();
            }
            budget.pace(Fifo::PIECE).await;
        }
    }

    /// Takes out the signal that is to be delivered first of those in `wanted`: what the CPU caused before anything else,
    /// then by number.
    pub fn take(&mut self, wanted: SignalSet) -> Option<Information> {
        let candidates = self.set.intersection(wanted);
        let signal = candidates.intersection(SignalSet::SYNCHRONOUS).first().or_else(|| candidates.first())?;
        let queued = if signal.is_real_time() { self.take_real_time(signal) } else { self.take_standard(signal) };
        Some(queued.map_or_else(|| Information::user(signal, code::USER, 0, 0), |queued| queued.information))
    }

    fn take_standard(&mut self, signal: Signal) -> Option<Queued> {
        self.set.remove(signal);
        let place = self.standard.iter().position(|queued| queued.information.signal == signal)?;
        Some(self.standard.swap_remove(place))
    }

    fn take_real_time(&mut self, signal: Signal) -> Option<Queued> {
        let (taken, empty) = self.queue_of(signal).map_or((None, true), |queue| (queue.pop(), queue.is_empty()));
        if empty {
            self.set.remove(signal);
        }
        taken
    }

    /// Forgets the signals of a set.
    pub fn discard(&mut self, signals: SignalSet) {
        if !self.set.intersection(signals).is_empty() {
            self.set = self.set.without(signals);
            self.standard.retain(|queued| !signals.contains(queued.information.signal));
            self.real_time.retain(|(signal, _)| !signals.contains(*signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(signal: i32, sender: u32) -> Information {
        Information::user(Signal::new(signal).unwrap(), 0, sender, 0)
    }

    /// Adds for a user without a limit.
    fn add(pending: &mut Pending, information: Information) -> bool {
        pending.add(information, &Queue { user: &UserCounts::new(1), limit: u64::MAX }).unwrap()
    }

    const ALL: SignalSet = SignalSet(u64::MAX);

    #[test]
    fn standard_signals_merge_and_real_time_ones_queue() {
        let mut pending = Pending::default();
        assert!(add(&mut pending, from(10, 1)) && !add(&mut pending, from(10, 2)));
        assert!(add(&mut pending, from(40, 3)) && add(&mut pending, from(40, 4)));
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
            add(&mut pending, from(signal, 0));
        }
        let order: Vec<u8> = core::iter::from_fn(|| pending.take(ALL)).map(|taken| taken.signal.number()).collect();
        assert_eq!(order, [11, 2, 15]);
    }

    #[test]
    fn only_wanted_signals_are_taken_and_discarded_ones_are_gone() {
        let mut pending = Pending::default();
        add(&mut pending, from(20, 0));
        add(&mut pending, from(21, 0));
        add(&mut pending, from(1, 0));
        assert_eq!(pending.take(SignalSet::of(&[Signal::INT])), None);
        pending.discard(SignalSet::STOPPING);
        assert_eq!(pending.set(), SignalSet::of(&[Signal::HUP]));
        assert_eq!(pending.take(ALL), Some(from(1, 0)));
    }

    #[test]
    fn at_the_limit_reasons_are_lost_and_programs_queues_are_full() {
        let user = UserCounts::new(1);
        let queue = Queue { user: &user, limit: 2 };
        let mut pending = Pending::default();
        let queued = |signal| Information { code: code::QUEUE, ..from(signal, 9) };
        let add = |pending: &mut Pending, information| pending.add(information, &queue);
        assert_eq!((add(&mut pending, queued(40)), add(&mut pending, queued(40))), (Ok(true), Ok(true)));
        assert_eq!(add(&mut pending, queued(40)), Err(Errno::EAGAIN));
        // kill(2) is pending all the same; a standard signal of kill(2) or the kernel even with its reason.
        assert_eq!(add(&mut pending, from(41, 7)), Ok(true));
        assert_eq!(add(&mut pending, Information { code: code::TKILL, ..from(10, 7) }), Ok(true));
        assert_eq!(add(&mut pending, from(12, 7)), Ok(true));
        assert_eq!(add(&mut pending, Information::kernel(Signal::ALRM)), Ok(true));
        assert_eq!(user.signals(), 4);
        let taken: Vec<Information> = core::iter::from_fn(|| pending.take(ALL)).collect();
        let expected =
            [from(10, 0), from(12, 7), Information::kernel(Signal::ALRM), queued(40), queued(40), from(41, 0)];
        assert_eq!(taken, expected);
        assert_eq!(user.signals(), 0);
    }

    #[test]
    fn discarded_and_forgotten_signals_count_no_more() {
        let user = UserCounts::new(1);
        let queue = Queue { user: &user, limit: u64::MAX };
        let mut pending = Pending::default();
        for signal in [20, 33, 33, 34, 35] {
            pending.add(from(signal, 0), &queue).unwrap();
        }
        pending.discard(SignalSet::of(&[Signal::TSTP, Signal::new(33).unwrap()]));
        assert_eq!(user.signals(), 2);
        drop(pending);
        assert_eq!(user.signals(), 0);
    }

    #[test]
    fn many_are_taken_in_the_order_they_came() {
        let mut pending = Pending::default();
        for count in [1, 63, 64, 65, 1000, 100_000] {
            (0..count).for_each(|sender| assert!(add(&mut pending, from(40, sender))));
            // Some come while others go.
            (0..count).for_each(|sender| {
                assert_eq!(pending.take(ALL), Some(from(40, sender)));
                assert!(add(&mut pending, from(40, count + sender)));
            });
            (0..count).for_each(|sender| assert_eq!(pending.take(ALL), Some(from(40, count + sender))));
            assert_eq!((pending.take(ALL), pending.set()), (None, SignalSet::EMPTY));
            assert_eq!(pending.real_time[0].1.pieces.len(), 1);
        }
    }
}
