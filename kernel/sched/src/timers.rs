//! Timers: a waker called at a time.
//!
//! Each CPU has a heap of timers and one alarm (`machine::time`), set to the earliest of them and the end of the running
//! task's slice. A timer belongs to the CPU it was armed on; dropping it, anywhere, takes it away.
//!
//! The heap keeps its memory and every timer knows its place in it, so cancelling costs a few steps and the alarm's
//! handler allocates nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use machine::memory::{OutOfMemory, fallible};
use machine::time;

use crate::Executor;

/// The timers of one CPU, the earliest first.
#[derive(Default)]
pub(crate) struct TimerHeap {
    /// A binary heap by deadline.
    heap: Vec<Entry>,
    slots: Vec<Slot>,
    /// Slots that are not in use.
    free: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry {
    deadline: u64,
    slot: u32,
}

/// What stays in one place while the timer moves through the heap.
struct Slot {
    state: TimerState,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TimerState {
    Heap(u32),
    /// It went off; its owner has not dropped it yet.
    Fired,
    Free,
}

impl TimerHeap {
    /// Adds a timer; returns its slot.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn insert(&mut self, deadline: u64, waker: Waker) -> Result<u32, OutOfMemory> {
        fallible(|| self.heap.try_reserve(1)).map_err(|_| OutOfMemory)?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                fallible(|| self.slots.try_reserve(1)).map_err(|_| OutOfMemory)?;
                let room = self.slots.len() + 1;
                fallible(|| self.free.try_reserve(room)).map_err(|_| OutOfMemory)?;
                self.slots.push(Slot { state: TimerState::Free, waker: None });
                (self.slots.len() - 1) as u32
            }
        };
        let place = self.heap.len();
        self.heap.push(Entry { deadline, slot });
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            *slot = Slot { state: TimerState::Heap(place as u32), waker: Some(waker) };
        }
        self.rise(place);
        Ok(slot)
    }

    /// Takes a timer away. Its waker is returned, to be dropped outside the lock.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn remove(&mut self, slot: u32) -> Option<Waker> {
        let entry = self.slots.get_mut(slot as usize)?;
        let waker = entry.waker.take();
        let place = core::mem::replace(&mut entry.state, TimerState::Free);
        if place != TimerState::Free {
            self.free.push(slot);
        }
        if let TimerState::Heap(place) = place {
            self.take_out(place as usize);
        }
        waker
    }

    /// Whether the timer went off; if not, `waker` is the one to call.
    pub fn poll(&mut self, slot: u32, waker: &Waker) -> bool {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return true };
        match &mut entry.waker {
            Some(old) if !old.will_wake(waker) => *old = waker.clone(),
            _ => {}
        }
        entry.state == TimerState::Fired
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.deadline)
    }

    /// The waker of a timer that is due, which has then fired.
    pub fn expire(&mut self, now: u64) -> Option<Waker> {
        let entry = *self.heap.first().filter(|entry| entry.deadline <= now)?;
        self.take_out(0);
        let slot = self.slots.get_mut(entry.slot as usize)?;
        slot.state = TimerState::Fired;
        slot.waker.take()
    }

    fn take_out(&mut self, place: usize) {
        if place >= self.heap.len() {
            return;
        }
        self.heap.swap_remove(place);
        self.sink(place);
        self.rise(place);
    }

    fn deadline(&self, place: usize) -> u64 {
        self.heap.get(place).map_or(u64::MAX, |entry| entry.deadline)
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.deadline(parent) <= self.deadline(place) {
                break;
            }
            self.heap.swap(parent, place);
            self.note(place);
            place = parent;
        }
        self.note(place);
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let child = if self.deadline(right) < self.deadline(left) { right } else { left };
            if child >= self.heap.len() || self.deadline(place) <= self.deadline(child) {
                break;
            }
            self.heap.swap(child, place);
            self.note(place);
            place = child;
        }
        self.note(place);
    }

    /// Tells the timer at `place` where it is.
    fn note(&mut self, place: usize) {
        let Some(entry) = self.heap.get(place) else { return };
        if let Some(slot) = self.slots.get_mut(entry.slot as usize) {
            slot.state = TimerState::Heap(place as u32);
        }
    }
}

/// An armed timer: its waker is called once, at the deadline, in the alarm's handler unless it was already past. Dropping
/// it takes it away.
pub struct Timer {
    executor: Arc<Executor>,
    cpu: usize,
    slot: u32,
    deadline: u64,
}

impl Timer {
    /// When it goes off.
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Arms a timer on this CPU.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn arm(executor: Arc<Executor>, deadline: u64, waker: Waker) -> Result<Timer, OutOfMemory> {
        let cpu = machine::cpu::current();
        let slot = executor.arm_timer(cpu, deadline, waker)?;
        Ok(Timer { executor, cpu, slot, deadline })
    }

    fn has_fired(&self, waker: &Waker) -> bool {
        self.executor.timers(self.cpu).is_none_or(|timers| timers.lock().poll(self.slot, waker))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let waker = self.executor.timers(self.cpu).and_then(|timers| timers.lock().remove(self.slot));
        drop(waker);
    }
}

/// The future of [`Executor::sleep_until`].
pub struct Sleep {
    executor: Arc<Executor>,
    deadline: u64,
    timer: Option<Timer>,
}

impl Sleep {
    pub(crate) const fn new(executor: Arc<Executor>, deadline: u64) -> Sleep {
        Sleep { executor, deadline, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if time::now() >= self.deadline || self.timer.as_ref().is_some_and(|timer| timer.has_fired(context.waker())) {
            self.timer = None;
            return Poll::Ready(());
        }
        if self.timer.is_none() {
            let timer = Timer::arm(self.executor.clone(), self.deadline, context.waker().clone());
            if timer.is_err() {
                // No memory for a timer: look at the clock again each time the others have run.
                context.waker().wake_by_ref();
            }
            self.timer = timer.ok();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    struct Note {
        number: u64,
        order: Arc<AtomicU64>,
    }

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            assert!(self.order.swap(self.number, Ordering::Relaxed) <= self.number, "out of order");
        }
    }

    #[test]
    fn timers_fire_in_order_and_cancelled_ones_do_not() {
        let mut heap = TimerHeap::default();
        let order = Arc::new(AtomicU64::new(0));
        let mut random = 1u64;
        let mut slots = Vec::new();
        for _ in 0..1000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let deadline = random >> 50;
            let waker = Waker::from(Arc::new(Note { number: deadline, order: order.clone() }));
            slots.push((deadline, heap.insert(deadline, waker).unwrap()));
        }
        for (_, slot) in slots.iter().step_by(3) {
            assert!(heap.remove(*slot).is_some());
        }
        let left = slots.len() - slots.len().div_ceil(3);
        let mut fired = 0;
        for now in (0..=1 << 14).step_by(64) {
            while let Some(waker) = heap.expire(now) {
                waker.wake();
                fired += 1;
            }
            assert!(heap.next().is_none_or(|next| next > now));
        }
        assert_eq!(fired, left);
        for (_, slot) in slots {
            heap.remove(slot);
        }
        assert_eq!(heap.free.len(), heap.slots.len(), "every slot is free again, once");
    }

    #[test]
    fn a_timer_that_fired_says_so_until_it_is_dropped() {
        let mut heap = TimerHeap::default();
        let slot = heap.insert(5, Waker::noop().clone()).unwrap();
        assert!(!heap.poll(slot, Waker::noop()));
        assert!(heap.expire(4).is_none() && heap.expire(5).is_some());
        assert!(heap.poll(slot, Waker::noop()));
        heap.remove(slot);
        assert_eq!(heap.insert(6, Waker::noop().clone()).unwrap(), slot, "the slot is used again");
    }
}
