//! No wake-up of a futex is lost, and none is given twice: every order of two and three threads.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use models::every_order;
use models::futex::{ANY, Futexes, Line};

const ONE: usize = 8;
const OTHER: usize = 16;

struct World {
    futexes: Futexes,
    word: AtomicU32,
}

impl World {
    /// A table of one bucket for both words, or of more, with one for each.
    fn new(buckets: usize) -> Arc<World> {
        let futexes = Futexes::new(buckets);
        // Every lock is used once before there are other threads.
        for key in [ONE, OTHER] {
            assert_eq!(futexes.wake(key, 1, ANY), 0);
        }
        Arc::new(World { futexes, word: AtomicU32::new(0) })
    }

    /// futex(FUTEX_REQUEUE) of one waiter. How many were woken, and moved.
    fn requeue(&self) -> (usize, usize) {
        self.futexes.requeue(ONE, OTHER, (0, 1), &mut Line::default(), || Ok::<_, ()>(true)).unwrap().unwrap()
    }

    /// futex(FUTEX_WAIT): sleeps while the word is 0. Whether it slept.
    fn wait(&self) -> bool {
        let unchanged = || Ok::<_, ()>(self.word.load(Ordering::Relaxed) == 0);
        match self.futexes.enter(ONE, ANY, unchanged).unwrap() {
            Some(waiting) => {
                block_on(waiting);
                true
            }
            None => false,
        }
    }
}

#[test]
fn a_waiter_and_a_waker() {
    every_order(Some(3), || {
        let world = World::new(1);
        let other = world.clone();
        let waiter = thread::spawn(move || usize::from(other.wait()));
        world.word.store(1, Ordering::Relaxed);
        let woken = world.futexes.wake(ONE, 1, ANY);
        assert_eq!(waiter.join().unwrap(), woken);
    });
}

#[test]
fn two_waiters_are_woken_one_by_one() {
    every_order(Some(2), || {
        let world = World::new(1);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || usize::from(world.wait()))
            })
            .collect();
        world.word.store(1, Ordering::Relaxed);
        let woken = world.futexes.wake(ONE, 1, ANY) + world.futexes.wake(ONE, 1, ANY);
        assert_eq!(waiters.into_iter().map(|waiter| waiter.join().unwrap()).sum::<usize>(), woken);
    });
}

/// A waiter is moved to another word while it falls asleep, gives up, or is woken there.
#[test]
fn a_waiter_that_is_moved() {
    for buckets in [1, 8] {
        every_order(Some(2), move || {
            let world = World::new(buckets);
            let (waits, wakes) = (world.clone(), world.clone());
            let waiter = thread::spawn(move || usize::from(waits.wait()));
            let waker = thread::spawn(move || wakes.futexes.wake(OTHER, 1, ANY));
            world.word.store(1, Ordering::Relaxed);
            let (woken, moved) = world.requeue();
            assert_eq!(woken, 0);
            let early = waker.join().unwrap();
            let late = world.futexes.wake(OTHER, 1, ANY);
            assert_eq!(early + late, moved);
            assert_eq!(waiter.join().unwrap(), moved);
        });
    }
}

/// Who gives up either leaves before it is woken, or was woken and says so.
#[test]
fn who_gives_up_is_woken_or_not() {
    every_order(Some(3), || {
        let world = World::new(1);
        let other = world.clone();
        let quitter = thread::spawn(move || {
            let waiting = other.futexes.enter(ONE, ANY, || Ok::<_, ()>(true)).unwrap().unwrap();
            let mut woken = waiting.is_woken();
            woken |= waiting.leave();
            usize::from(woken)
        });
        let woken = world.futexes.wake(ONE, 1, ANY);
        assert_eq!(quitter.join().unwrap(), woken);
    });
}
