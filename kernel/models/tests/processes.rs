//! Numbers are given once, and a signal to all passes over nobody: every order of two and three threads.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use models::every_order;
use models::pid::Errno;
use models::pid::broadcast::Broadcasts;
use models::pid::numbers::{FIRST_REUSED, Numbers};

/// Numbers of which only so many are left; every place was used once before there are other threads.
fn numbers(left: u32) -> Arc<Numbers> {
    let numbers = Numbers::new(FIRST_REUSED + left);
    numbers.set_last(FIRST_REUSED - 1);
    assert_eq!(numbers.take(), Ok(FIRST_REUSED));
    numbers.free(FIRST_REUSED);
    numbers.set_last(FIRST_REUSED - 1);
    Arc::new(numbers)
}

#[test]
fn nobody_gets_a_number_that_another_has() {
    every_order(Some(3), || {
        let numbers = numbers(3);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let numbers = numbers.clone();
                thread::spawn(move || numbers.take().unwrap())
            })
            .collect();
        let mut taken: Vec<_> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [FIRST_REUSED, FIRST_REUSED + 1]);
        assert_eq!(numbers.last(), FIRST_REUSED + 1, "the later one");
        assert_eq!((numbers.take(), numbers.take()), (Ok(FIRST_REUSED + 2), Err(Errno::EAGAIN)));
    });
}

#[test]
fn a_number_given_back_is_taken_or_missed() {
    every_order(Some(3), || {
        let numbers = numbers(1);
        let own = numbers.take().unwrap();
        let other = numbers.clone();
        let taker = thread::spawn(move || other.take().is_ok());
        numbers.free(own);
        let taken = taker.join().unwrap();
        assert_eq!(numbers.next_taken(0), taken.then_some(own));
    });
}

/// fork(2) against kill(2) of all: the child is signalled, or the fork begins again.
#[test]
fn a_signal_to_all_passes_over_nobody() {
    every_order(None, || {
        struct World {
            broadcasts: Broadcasts,
            /// The child is in the table.
            entered: AtomicBool,
        }
        let world = World { broadcasts: Broadcasts::default(), entered: AtomicBool::new(false) };
        assert!(!world.broadcasts.any());
        let world = Arc::new(world);
        let other = world.clone();
        let fork = thread::spawn(move || {
            other.entered.store(true, Ordering::Relaxed);
            !other.broadcasts.any()
        });
        world.broadcasts.begin();
        let seen = world.entered.load(Ordering::Relaxed);
        // It goes on its way for as long as the fork takes.
        let forked = fork.join().unwrap();
        assert!(seen || !forked);
        world.broadcasts.end();
        assert!(!world.broadcasts.any());
    });
}
