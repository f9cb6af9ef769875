//! Wait queues: a condition somebody sleeps for, and the people who make it true.
//!
//! Whoever waits registers *first* and looks at the condition *afterwards*; whoever makes it true changes the condition
//! first and looks at the queue afterwards. Either the waker sees the registration or the waiter sees the condition:
//!
//! ```text
//!     waiter                               waker
//!     push entry, count += 1               make the condition true
//!     fence                                fence
//!     condition true? -> do not sleep      count == 0? -> nobody to wake
//! ```
//!
//! Without the fences both could look too early (each CPU's store still in its buffer) and the wake-up would be lost.

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use core::task::{Context, Poll, Waker};

use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::SpinLock;

/// Tasks waiting for one kind of event, in the order they came. Waking a queue nobody waits in takes no lock.
#[derive(Default)]
pub struct WaitQueue {
    /// How many entries stand in the list; read without the lock by wakers.
    waiting: AtomicUsize,
    list: SpinLock<Waiters>,
}

#[derive(Default)]
struct Waiters {
    /// Sorted by ticket, since tickets only grow and entries join at the end.
    entries: SmallVec<[Entry; 2]>,
    last_ticket: u64,
}

struct Entry {
    ticket: u64,
    state: EntryState,
}

enum EntryState {
    Asleep(Waker),
    /// Woken, and not polled since. `alone` tells that the wake-up was given to this entry only.
    Woken {
        alone: bool,
    },
}

impl Waiters {
    fn position(&self, ticket: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()
    }
}

impl WaitQueue {
    /// A queue nobody waits in.
    pub const fn new() -> WaitQueue {
        WaitQueue {
            waiting: AtomicUsize::new(0),
            list: SpinLock::new(Waiters { entries: SmallVec::new_const(), last_ticket: 0 }),
        }
    }

    /// Waits until `condition` gives a value. Tries once before it registers: the fast path touches neither lock nor heap.
    /// `condition` must not itself wake this queue.
    pub async fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        if let Some(value) = condition() {
            return value;
        }
        let mut listener = self.listen();
        loop {
            listener.register().await;
            if let Some(value) = condition() {
                listener.consume();
                return value;
            }
            listener.woken().await;
        }
    }

    /// A listener that is not yet registered.
    pub const fn listen(&self) -> Listener<'_> {
        Listener { queue: self, ticket: None }
    }

    /// Wakes the one who waits longest. Tells whether there was one.
    pub fn wake_one(&self) -> bool {
        if self.nobody_waits() {
            return false;
        }
        let waker = {
            let mut list = self.list.lock();
            let Some(entry) = list.entries.iter_mut().find(|entry| matches!(entry.state, EntryState::Asleep(_))) else {
                return false;
            };
            wake_entry(entry, true)
        };
        waker.inspect(Waker::wake_by_ref).is_some()
    }

    /// Wakes everybody who waits.
    pub fn wake_all(&self) {
        if self.nobody_waits() {
            return;
        }
        // One waiter is the usual case and needs no list to carry the wakers out of the lock.
        let mut first = None;
        let mut others = Vec::new();
        for entry in &mut self.list.lock().entries {
            let waker = wake_entry(entry, false);
            if first.is_none() {
                first = waker;
            } else {
                others.extend(waker);
            }
        }
        first.into_iter().chain(others).for_each(Waker::wake);
    }

    /// Whether a wake-up would reach nobody. Orders the caller's change of the condition before the look.
    #[inline]
    pub fn nobody_waits(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) == 0
    }
}

/// Marks an entry as woken; the waker is to be called outside the list's lock.
fn wake_entry(entry: &mut Entry, alone: bool) -> Option<Waker> {
    match core::mem::replace(&mut entry.state, EntryState::Woken { alone }) {
        EntryState::Asleep(waker) => Some(waker),
        earlier @ EntryState::Woken { .. } => {
            entry.state = earlier;
            None
        }
    }
}

/// One waiter's place in a [`WaitQueue`], for those who wait in several at once (poll) or look at the condition between
/// registering and sleeping. Dropping it leaves the queue and hands on a wake-up that was meant for one and not used.
pub struct Listener<'a> {
    queue: &'a WaitQueue,
    /// `None` until registered.
    ticket: Option<u64>,
}

impl<'a> Listener<'a> {
    /// Takes a place in the queue for the current task, or does nothing if it has one. Completes at once.
    pub fn register(&mut self) -> impl Future<Output = ()> + Send + use<'_, 'a> {
        core::future::poll_fn(move |context| {
            self.register_with(context.waker());
            Poll::Ready(())
        })
    }

    /// Takes a place in the queue for `waker`. A listener already there only gets the new waker, or, if it was woken
    /// since, is put to wait again: the caller is about to look at the condition.
    pub fn register_with(&mut self, waker: &Waker) {
        let mut list = self.queue.list.lock();
        let place = self.ticket.and_then(|ticket| list.position(ticket)).and_then(|index| list.entries.get_mut(index));
        if let Some(entry) = place {
            match &mut entry.state {
                EntryState::Asleep(old) if old.will_wake(waker) => {}
                state => *state = EntryState::Asleep(waker.clone()),
            }
        } else {
            list.last_ticket += 1;
            let ticket = list.last_ticket;
            list.entries.push(Entry { ticket, state: EntryState::Asleep(waker.clone()) });
            self.ticket = Some(ticket);
            self.queue.waiting.fetch_add(1, Ordering::Relaxed);
        }
        drop(list);
        fence(Ordering::SeqCst);
    }

    /// Sleeps until woken. A listener that never registered would sleep for ever, so it registers.
    pub fn woken(&mut self) -> Woken<'_, 'a> {
        Woken { listener: self }
    }

    /// Whether a wake-up came; if not, `waker` is the one to call.
    pub fn poll_woken(&mut self, waker: &Waker) -> Poll<()> {
        let mut list = self.queue.list.lock();
        let place = self.ticket.and_then(|ticket| list.position(ticket)).and_then(|index| list.entries.get_mut(index));
        match place.map(|entry| &mut entry.state) {
            Some(EntryState::Woken { .. }) => Poll::Ready(()),
            Some(EntryState::Asleep(old)) => {
                if !old.will_wake(waker) {
                    *old = waker.clone();
                }
                Poll::Pending
            }
            None => {
                drop(list);
                self.register_with(waker);
                Poll::Pending
            }
        }
    }

    /// Leaves the queue, keeping a wake-up that came: the caller got what it waited for.
    pub fn consume(&mut self) {
        self.leave();
    }

    /// Leaves the queue. Tells whether a wake-up for this listener alone was lost with it.
    fn leave(&mut self) -> bool {
        let Some(ticket) = self.ticket.take() else { return false };
        let mut list = self.queue.list.lock();
        let Some(index) = list.position(ticket) else { return false };
        let entry = list.entries.remove(index);
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
        drop(list);
        matches!(entry.state, EntryState::Woken { alone: true })
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if self.leave() {
            self.queue.wake_one();
        }
    }
}

/// The future of [`Listener::woken`].
pub struct Woken<'a, 'q> {
    listener: &'a mut Listener<'q>,
}

impl Future for Woken<'_, '_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.listener.poll_woken(context.waker())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{CountingWaker, poll_once};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_true_condition_never_registers() {
        let queue = WaitQueue::new();
        let mut wait = Box::pin(queue.wait_until(|| Some(7)));
        assert_eq!(poll_once(&mut wait, &CountingWaker::new()), Poll::Ready(7));
        assert!(queue.nobody_waits());
    }

    #[test]
    fn waking_one_wakes_the_first_that_waits() {
        let queue = WaitQueue::new();
        let wakers = [CountingWaker::new(), CountingWaker::new()];
        let open = AtomicBool::new(false);
        let condition = || open.load(Ordering::Relaxed).then_some(());
        let mut first = Box::pin(queue.wait_until(condition));
        let mut second = Box::pin(queue.wait_until(condition));
        assert!(poll_once(&mut first, &wakers[0]).is_pending());
        assert!(poll_once(&mut second, &wakers[1]).is_pending());
        assert!(queue.wake_one());
        assert_eq!((wakers[0].count(), wakers[1].count()), (1, 0));
        // Spurious: the condition is still false, so the first waits again and can be woken again.
        assert!(poll_once(&mut first, &wakers[0]).is_pending());
        open.store(true, Ordering::Relaxed);
        queue.wake_all();
        assert_eq!((wakers[0].count(), wakers[1].count()), (2, 1));
        assert!(poll_once(&mut first, &wakers[0]).is_ready());
        assert!(poll_once(&mut second, &wakers[1]).is_ready());
        assert!(queue.nobody_waits());
    }

    #[test]
    fn a_dropped_waiter_hands_its_wake_up_on() {
        let queue = WaitQueue::new();
        let wakers = [CountingWaker::new(), CountingWaker::new()];
        let mut first = Box::pin(queue.wait_until(|| None::<()>));
        let mut second = Box::pin(queue.wait_until(|| None::<()>));
        assert!(poll_once(&mut first, &wakers[0]).is_pending());
        assert!(poll_once(&mut second, &wakers[1]).is_pending());
        queue.wake_one();
        drop(first);
        assert_eq!(wakers[1].count(), 1, "the wake-up went to the next in line");
        drop(second);
        assert!(queue.nobody_waits());
        assert!(!queue.wake_one());
    }

    #[test]
    fn a_wake_up_between_registering_and_sleeping_is_not_lost() {
        let queue = WaitQueue::new();
        let waker = CountingWaker::new();
        let mut listener = queue.listen();
        listener.register_with(&waker.waker());
        queue.wake_one();
        assert!(poll_once(&mut Box::pin(listener.woken()), &waker).is_ready());
    }

    #[test]
    fn threads_that_race_never_sleep_through_a_wake_up() {
        for _ in 0..2_000 {
            let shared = Arc::new((WaitQueue::new(), AtomicBool::new(false)));
            let other = shared.clone();
            let setter = std::thread::spawn(move || {
                other.1.store(true, Ordering::Relaxed);
                other.0.wake_one();
            });
            crate::test_support::block_on(shared.0.wait_until(|| shared.1.load(Ordering::Relaxed).then_some(())));
            setter.join().unwrap();
        }
    }
}
