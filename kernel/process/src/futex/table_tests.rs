//! The table of waiting threads, entered, woken, moved and left.

use super::*;
use crate::futex::ANY;
use memory::UserFault;
use std::task::Wake;

fn key(address: usize) -> Key {
    Key::Private { space: 1, address }
}

struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(waiting: &mut Waiting<'_>, count: &Arc<Count>) -> bool {
    let waker = Waker::from(count.clone());
    Pin::new(waiting).poll(&mut Context::from_waker(&waker)).is_ready()
}

/// FUTEX_REQUEUE to its end.
fn requeue(futexes: &Futexes, to: Key, wake: usize, carry: usize) -> (usize, usize) {
    let (mut line, mut woken, mut moved) = (Line::default(), 0, 0);
    while !line.is_over() {
        let rest = (wake - woken, carry - moved);
        let some = futexes.requeue(key(8), to, rest, &mut line, || Ok::<_, UserFault>(true)).unwrap().unwrap();
        (woken, moved) = (woken + some.0, moved + some.1);
    }
    (woken, moved)
}

/// FUTEX_WAKE_OP of few waiters of each word.
fn wake_op(futexes: &Futexes, one: (Key, usize), other: (Key, usize), both: bool) -> usize {
    let (changed, [mut first, mut second]) = futexes.change(one.0, other.0, || Ok::<_, UserFault>(both)).unwrap();
    let woken = futexes.wake_some(one.0, one.1, ANY, &mut first);
    if changed { woken + futexes.wake_some(other.0, other.1, ANY, &mut second) } else { woken }
}

fn enter(futexes: &Futexes, key: Key, bits: u32) -> Waiting<'_> {
    futexes.enter(key, bits, || Ok::<_, UserFault>(true)).unwrap().unwrap()
}

#[test]
fn a_changed_word_is_not_waited_for() {
    let futexes = Futexes::new(64);
    assert!(futexes.enter(key(8), ANY, || Ok::<_, UserFault>(false)).unwrap().is_none());
    let fault = UserFault { copied: 0, address: 8_usize.into(), write: false };
    assert!(futexes.enter(key(8), ANY, || Err(fault)).is_err());
    assert_eq!(futexes.wake(key(8), 10, ANY), 0);
}

#[test]
fn waiters_are_woken_in_order_by_key_and_bits() {
    let futexes = Futexes::new(64);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let mut one = enter(&futexes, key(8), 1);
    let mut two = enter(&futexes, key(8), 2);
    let mut other = enter(&futexes, key(12), ANY);
    assert!(!poll(&mut one, &count) && !poll(&mut two, &count) && !poll(&mut other, &count));
    assert_eq!(futexes.wake(key(8), 1, 2), 1);
    assert!(poll(&mut two, &count) && !poll(&mut one, &count));
    assert_eq!(futexes.wake(key(8), usize::MAX, ANY), 1);
    assert!(one.is_woken() && !other.is_woken());
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
}

#[test]
fn who_gives_up_leaves_the_table() {
    let futexes = Futexes::new(64);
    drop(enter(&futexes, key(8), ANY));
    assert_eq!(futexes.wake(key(8), 1, ANY), 0);
    assert!(!enter(&futexes, key(8), ANY).leave());
    let waiting = enter(&futexes, key(8), ANY);
    assert_eq!(futexes.wake(key(8), 2, ANY), 1);
    assert!(waiting.leave(), "it was woken before it left");
}

#[test]
fn moved_waiters_wait_for_the_other_word() {
    let futexes = Futexes::new(64);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    // Many targets: some are in the same bucket, most are not.
    for target in (100..2000).step_by(4) {
        let mut waiters: Vec<_> = (0..4).map(|_| enter(&futexes, key(8), ANY)).collect();
        assert!(waiters.iter_mut().all(|waiter| !poll(waiter, &count)));
        assert_eq!(requeue(&futexes, key(target), 1, 2), (1, 2));
        assert!(waiters[0].is_woken() && !waiters[1].is_woken());
        drop(waiters.remove(1));
        assert_eq!(futexes.wake(key(target), 9, ANY), 1);
        assert!(waiters[1].is_woken());
        assert_eq!(futexes.wake(key(8), 9, ANY), 1);
    }
    let refused = futexes.requeue(key(8), key(16), (1, 1), &mut Line::default(), || Ok::<_, UserFault>(false));
    assert_eq!(refused, Ok(None));
}

#[test]
fn wake_op_wakes_the_second_word_only_if_told() {
    let futexes = Futexes::new(64);
    let (one, two) = (enter(&futexes, key(8), ANY), enter(&futexes, key(16), ANY));
    assert_eq!(wake_op(&futexes, (key(8), 1), (key(16), 1), false), 1);
    assert!(one.is_woken() && !two.is_woken());
    assert_eq!(wake_op(&futexes, (key(8), 1), (key(16), 1), true), 1);
    assert!(two.is_woken());
    let (three, four) = (enter(&futexes, key(8), ANY), enter(&futexes, key(8), ANY));
    assert_eq!(wake_op(&futexes, (key(8), 1), (key(8), 1), true), 2);
    assert!(three.is_woken() && four.is_woken());
}

#[test]
fn any_number_is_woken_in_batches_and_no_more_than_asked() {
    for waiters in [1, 15, 16, 17, 32, 33, 50] {
        for count in [0, 1, 16, 17, 32, 40, usize::MAX] {
            let futexes = Futexes::new(64);
            let counter = Arc::new(Count(AtomicUsize::new(0)));
            let mut all: Vec<_> = (0..waiters).map(|_| enter(&futexes, key(8), ANY)).collect();
            assert!(all.iter_mut().all(|waiting| !poll(waiting, &counter)));
            let woken = waiters.min(count);
            assert_eq!(futexes.wake(key(8), count, ANY), woken, "{waiters} {count}");
            assert_eq!(counter.0.load(Ordering::Relaxed), woken);
            assert!(all.iter().enumerate().all(|(index, waiting)| waiting.is_woken() == (index < woken)));
            assert_eq!(futexes.wake(key(8), usize::MAX, ANY), waiters - woken);
        }
    }
}

#[test]
fn as_many_are_moved_as_asked_whichever_buckets_they_are_in() {
    let same = Futexes::new(1);
    let many = Futexes::new(64);
    for futexes in [&same, &many] {
        for target in (100..400).step_by(4) {
            // Others stand between them.
            let all: Vec<_> = (0..12).map(|index| enter(futexes, key(8 + 8 * (index % 2)), ANY)).collect();
            assert_eq!(requeue(futexes, key(target), 2, 3), (2, 3));
            let woken: Vec<usize> = (0..12).filter(|index| all[*index].is_woken()).collect();
            assert_eq!(woken, [0, 2]);
            assert_eq!(futexes.wake(key(8), 9, ANY), 1, "the last of six stayed");
            assert_eq!((futexes.wake(key(target), 2, ANY), all[4].is_woken(), all[6].is_woken()), (2, true, true));
            assert_eq!((futexes.wake(key(target), 9, ANY), futexes.wake(key(16), 9, ANY)), (1, 6));
            assert!(all.iter().all(Waiting::is_woken));
        }
    }
}

#[test]
fn both_words_of_wake_op_count() {
    for futexes in [Futexes::new(1), Futexes::new(64)] {
        let ones: Vec<_> = (0..3).map(|_| enter(&futexes, key(8), ANY)).collect();
        let others: Vec<_> = (0..4).map(|_| enter(&futexes, key(16), ANY)).collect();
        assert_eq!(wake_op(&futexes, (key(8), 2), (key(16), 3), true), 5);
        assert_eq!(ones.iter().filter(|waiting| waiting.is_woken()).count(), 2);
        assert_eq!(others.iter().filter(|waiting| waiting.is_woken()).count(), 3);
    }
}

#[test]
fn many_are_woken_and_moved_some_at_a_time() {
    const MANY: usize = 3000;
    let futexes = Futexes::new(1);
    let others: Vec<_> = (0..MANY).map(|_| enter(&futexes, key(24), ANY)).collect();
    let waiters: Vec<_> = (0..MANY).map(|_| enter(&futexes, key(8), ANY)).collect();
    assert!(futexes.is_crowded(key(8)));
    let mut line = Line::default();
    assert_eq!(futexes.wake_some(key(8), usize::MAX, ANY, &mut line), BATCH, "those of another word are not looked at");
    let late = enter(&futexes, key(8), ANY);
    let (mut woken, mut rounds) = (BATCH, 1);
    while !line.is_over() {
        woken += futexes.wake_some(key(8), usize::MAX, ANY, &mut line);
        rounds += 1;
    }
    assert!(woken == MANY && rounds >= MANY / BATCH, "{woken} in {rounds} rounds");
    assert!(waiters.iter().all(Waiting::is_woken) && !late.is_woken(), "who came later was not there");
    assert_eq!(requeue(&futexes, key(16), 0, usize::MAX), (0, 1));
    assert_eq!(futexes.wake(key(16), usize::MAX, ANY) + futexes.wake(key(24), usize::MAX, ANY), MANY + 1);
    assert!(others.iter().all(Waiting::is_woken) && !futexes.is_crowded(key(8)));
}

#[test]
fn those_who_are_not_wanted_are_looked_at_some_at_a_time() {
    let futexes = Futexes::new(1);
    let others: Vec<_> = (0..LOOKS).map(|_| enter(&futexes, key(8), 2)).collect();
    let wanted = enter(&futexes, key(8), 1);
    let mut line = Line::default();
    assert_eq!((futexes.wake_some(key(8), 1, 1, &mut line), line.is_over()), (0, false));
    assert_eq!((futexes.wake_some(key(8), 1, 1, &mut line), line.is_over()), (1, true));
    assert!(wanted.is_woken() && !others.iter().any(Waiting::is_woken));
}
