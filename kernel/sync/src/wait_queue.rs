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

use core::future::{Future, poll_fn};
use core::ops::Deref;
use core::task::{Context, Poll, Waker};

use crate::atomic::{AtomicUsize, Ordering, fence};
use crate::waiters::{Batch, Events, Kind, Waiters};
use crate::{SpinGuard, SpinLock};

/// Tasks waiting for one kind of event, in the order they came. Waking a queue nobody waits in takes no lock.
pub struct WaitQueue {
    /// How many are asleep; read without the lock by wakers.
    asleep: AtomicUsize,
    waiters: SpinLock<Waiters>,
}

/// There is no memory for a place in a queue, or a million stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

/// Whom a wake-up reaches.
#[derive(Clone, Copy)]
enum Reach {
    /// All who share, standing ones among them, and one exclusive waiter.
    One,
    /// Everybody.
    All,
    /// The standing ones.
    Standing,
    /// One exclusive waiter.
    Exclusive,
}

impl WaitQueue {
    /// A queue nobody waits in.
    pub const fn new() -> WaitQueue {
        WaitQueue { asleep: AtomicUsize::new(0), waiters: SpinLock::new(Waiters::new()) }
    }

    /// Waits until `condition` gives a value, as an exclusive waiter. Tries once before it registers: the fast path touches
    /// neither lock nor heap. `condition` must not itself wake this queue. Edge 5 of the life of a thread.
    pub async fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        if let Some(value) = condition() {
            return value;
        }
        let mut listener = self.listen();
        poll_fn(|context| {
            let stands = listener.register_with(context.waker());
            // A wake-up that comes before the listener has left may be for a thing somebody else is to take: it is handed on.
            if let Some(value) = condition() {
                return Poll::Ready(value);
            }
            if stands.is_err() {
                // Without a place in the queue it looks again at its next turn.
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// An exclusive listener for everything, not yet registered.
    pub const fn listen(&self) -> Listener<&WaitQueue> {
        Listener::new(self, Kind::Exclusive, Events::ALL)
    }

    /// Wakes all who share and the exclusive waiter who waits longest. Tells whether there was one of the latter.
    #[inline]
    pub fn wake_one(&self) -> bool {
        self.wake_one_for(Events::ALL)
    }

    /// As [`WaitQueue::wake_one`], of those who wait for `events`.
    #[inline]
    pub fn wake_one_for(&self, events: Events) -> bool {
        self.wake(events, Reach::One)
    }

    /// Wakes everybody who waits.
    #[inline]
    pub fn wake_all(&self) {
        self.wake_all_for(Events::ALL);
    }

    /// Wakes everybody who waits for `events`.
    #[inline]
    pub fn wake_all_for(&self, events: Events) {
        self.wake(events, Reach::All);
    }

    /// Wakes of those who wait for `events` only who stands here for good: more of what was there before has come.
    #[inline]
    pub fn wake_standing_for(&self, events: Events) {
        self.wake(events, Reach::Standing);
    }

    /// Wakes one exclusive waiter for `events` and nobody else: what was there before is left for the next.
    #[inline]
    pub fn pass_on(&self, events: Events) {
        self.wake(events, Reach::Exclusive);
    }

    /// Wakes those of `reach` who are asleep when this begins. Many are woken some at a time, and the last of them by those who were
    /// woken. Returns whether an exclusive waiter was chosen from others.
    #[inline]
    fn wake(&self, events: Events, reach: Reach) -> bool {
        !self.nobody_waits() && self.wake_asleep(events, reach)
    }

    #[inline(never)]
    fn wake_asleep(&self, events: Events, reach: Reach) -> bool {
        let mut batch = Batch::new();
        let mut waiters = self.waiters.lock();
        let before = waiters.begin();
        let alone = matches!(reach, Reach::One | Reach::Exclusive);
        let woken = alone && waiters.wake_exclusive(events, before, &mut batch);
        let due: &[Kind] = match reach {
            Reach::One => &[Kind::Shared, Kind::Standing],
            Reach::All => &[Kind::Shared, Kind::Standing, Kind::Exclusive],
            Reach::Standing => &[Kind::Standing],
            Reach::Exclusive => &[],
        };
        waiters.make_due(events, before, due);
        while self.wake_some(waiters, &mut batch) {
            waiters = self.waiters.lock();
        }
        woken
    }

    /// Wakes a batch of those who are due. The wakers are called outside the lock. Tells whether the caller is to wake more.
    fn wake_some(&self, mut waiters: SpinGuard<'_, Waiters>, batch: &mut Batch) -> bool {
        waiters.wake_due(batch);
        self.asleep.store(waiters.asleep, Ordering::Relaxed);
        drop(waiters);
        batch.call()
    }

    /// Who was woken has come back. If a wake-up of many is under way, he takes part in it.
    #[inline]
    fn come_back(&self, waiters: SpinGuard<'_, Waiters>) {
        self.asleep.store(waiters.asleep, Ordering::Relaxed);
        if waiters.more_due() {
            self.wake_some(waiters, &mut Batch::new());
        }
    }

    /// Whether a wake-up would reach nobody. Orders the caller's change of the condition before the look.
    #[inline]
    pub fn nobody_waits(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) == 0
    }

    /// Counts the wake-ups that anybody stood in the queue for. A standing waiter that finds it unchanged has missed nothing.
    pub fn sequence(&self) -> u64 {
        self.waiters.lock().sequence
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

/// One waiter's place in a [`WaitQueue`], for those who wait in several at once (poll), look at the condition between
/// registering and sleeping, or stand there for good (epoll). `Q` is a reference, or owns the queue: an `Arc`. Dropping it
/// leaves the queue and hands on a wake-up that was meant for one and not used.
pub struct Listener<Q: Deref<Target = WaitQueue>> {
    queue: Q,
    kind: Kind,
    events: Events,
    /// `None` until registered.
    place: Option<u32>,
}

impl<Q: Deref<Target = WaitQueue>> Listener<Q> {
    /// A listener for `events` that is not yet registered.
    pub const fn new(queue: Q, kind: Kind, events: Events) -> Listener<Q> {
        Listener { queue, kind, events, place: None }
    }

    /// Takes a place in the queue for the current task, or does nothing if it has one. Completes at once, or, when there is no
    /// memory for a place, at the task's next turn: then the caller looks again and again.
    pub fn register(&mut self) -> impl Future<Output = ()> + use<'_, Q> {
        let mut waited = false;
        poll_fn(move |context: &mut Context<'_>| {
            if self.register_with(context.waker()).is_ok() || core::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Takes a place in the queue for `waker`. A listener already there only gets the new waker, or, if it was woken
    /// since, is put to wait again: the caller is about to look at the condition.
    ///
    /// # Errors
    /// [`NoPlace`]: it does not stand in the queue.
    pub fn register_with(&mut self, waker: &Waker) -> Result<(), NoPlace> {
        let mut waiters = self.queue.waiters.lock();
        let old = match self.place {
            Some(place) => waiters.renew(place, waker),
            None => {
                self.place = waiters.enter(self.kind, self.events, waker);
                None
            }
        };
        self.queue.come_back(waiters);
        drop(old);
        fence(Ordering::SeqCst);
        self.place.map(|_| ()).ok_or(NoPlace)
    }

    /// Sleeps until woken. One that has no place in the queue does not sleep.
    pub fn woken(&mut self) -> impl Future<Output = ()> + use<'_, Q> {
        poll_fn(|context: &mut Context<'_>| self.poll_woken(context.waker()))
    }

    /// Whether a wake-up came; if not, `waker` is the one to call.
    pub fn poll_woken(&mut self, waker: &Waker) -> Poll<()> {
        let Some(place) = self.place else { return Poll::Ready(()) };
        let mut waiters = self.queue.waiters.lock();
        if waiters.is_woken(place) {
            return Poll::Ready(());
        }
        let old = waiters.renew(place, waker);
        drop(waiters);
        drop(old);
        Poll::Pending
    }

    /// Leaves the queue, keeping the wake-up that came: the caller was [`woken`](Listener::woken), has not registered since, and got
    /// what it waited for.
    pub fn consume(&mut self) {
        self.leave();
    }

    /// Leaves the queue. Tells whether a wake-up for this listener alone was lost with it.
    fn leave(&mut self) -> bool {
        let Some(place) = self.place.take() else { return false };
        let mut waiters = self.queue.waiters.lock();
        let (lost, leavings) = waiters.leave(place);
        self.queue.come_back(waiters);
        drop(leavings);
        lost
    }
}

impl<Q: Deref<Target = WaitQueue>> Drop for Listener<Q> {
    fn drop(&mut self) {
        if self.leave() {
            self.queue.pass_on(self.events);
        }
    }
}

#[cfg(test)]
#[path = "wait_queue_tests.rs"]
mod tests;
