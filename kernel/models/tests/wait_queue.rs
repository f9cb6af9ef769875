//! No wake-up of a wait queue is lost: every order of two and three threads.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use models::every_order;
use models::wait_queue::{Listener, WaitQueue};
use models::waiters::{Events, Kind};

/// A queue, made before there are other threads.
fn queue() -> WaitQueue {
    let queue = WaitQueue::new();
    assert!(queue.nobody_waits() && queue.sequence() == 0);
    queue
}

/// A queue with the condition its waiters wait for. The condition itself orders nothing: that is the queue's task.
struct Gate {
    queue: WaitQueue,
    open: AtomicBool,
}

impl Gate {
    fn new() -> Arc<Gate> {
        Arc::new(Gate { queue: queue(), open: AtomicBool::new(false) })
    }

    fn look(&self) -> Option<()> {
        self.open.load(Ordering::Relaxed).then_some(())
    }
}

#[test]
fn a_waiter_and_a_waker() {
    every_order(None, || {
        let gate = Gate::new();
        let other = gate.clone();
        let waker = thread::spawn(move || {
            other.open.store(true, Ordering::Relaxed);
            other.queue.wake_one();
        });
        block_on(gate.queue.wait_until(|| gate.look()));
        waker.join().unwrap();
        assert!(gate.queue.nobody_waits());
    });
}

#[test]
fn all_are_woken() {
    every_order(Some(2), || {
        let gate = Gate::new();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                thread::spawn(move || block_on(gate.queue.wait_until(|| gate.look())))
            })
            .collect();
        gate.open.store(true, Ordering::Relaxed);
        gate.queue.wake_all();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// A number of things; each waiter takes one.
struct Store {
    queue: WaitQueue,
    things: AtomicUsize,
}

impl Store {
    fn new() -> Arc<Store> {
        Arc::new(Store { queue: queue(), things: AtomicUsize::new(0) })
    }

    fn take(&self) -> Option<()> {
        let taken = self.things.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |things| things.checked_sub(1));
        taken.ok().map(|_| ())
    }

    fn add(&self) {
        self.things.fetch_add(1, Ordering::Relaxed);
        self.queue.wake_one_for(Events::INPUT);
    }

    fn take_one(&self) {
        block_on(self.queue.wait_until(|| self.take()));
    }
}

#[test]
fn two_who_take_and_one_who_gives_twice() {
    every_order(Some(2), || {
        let store = Store::new();
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let store = store.clone();
                thread::spawn(move || store.take_one())
            })
            .collect();
        store.add();
        store.add();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
    });
}

/// One who looks, takes nothing and wants to see something else stands before one who takes, or behind.
#[test]
fn a_poller_takes_no_wake_up_from_a_reader() {
    every_order(Some(2), || {
        let store = Store::new();
        let seen = Arc::new(AtomicBool::new(false));
        let (reads, polls, sees) = (store.clone(), store.clone(), seen.clone());
        let poller = thread::spawn(move || {
            let mut listener = Listener::new(&polls.queue, Kind::Shared, Events::INPUT);
            block_on(std::future::poll_fn(|context| {
                listener.register_with(context.waker()).unwrap();
                if sees.load(Ordering::Relaxed) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            }));
        });
        let reader = thread::spawn(move || reads.take_one());
        store.add();
        reader.join().unwrap();
        seen.store(true, Ordering::Relaxed);
        store.queue.wake_one_for(Events::INPUT);
        poller.join().unwrap();
    });
}

/// The first in line gives up when it has been woken, or is just being woken: the other gets what was meant for it.
#[test]
fn who_gives_up_hands_on() {
    every_order(Some(2), || {
        let store = Store::new();
        let (reads, gives_up) = (store.clone(), store.clone());
        let quitter = thread::spawn(move || {
            let mut listener = gives_up.queue.listen();
            block_on(listener.register());
            drop(listener);
        });
        let reader = thread::spawn(move || reads.take_one());
        store.add();
        reader.join().unwrap();
        quitter.join().unwrap();
    });
}

/// A standing waiter is called for what came about after it began to stand, or finds it when it looks.
#[test]
fn a_standing_waiter_misses_nothing() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    every_order(Some(3), || {
        let store = Store::new();
        let gives = store.clone();
        let giver = thread::spawn(move || gives.add());
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        let mut listener = Listener::new(&store.queue, Kind::Standing, Events::INPUT);
        listener.register_with(&count.clone().into()).unwrap();
        let seen = store.things.load(Ordering::Relaxed);
        giver.join().unwrap();
        assert!(seen + count.0.load(Ordering::Relaxed) > 0);
    });
}
