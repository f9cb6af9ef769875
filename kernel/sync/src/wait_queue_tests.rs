//! Wait queues: who is woken, in which order, and by whom.

use super::*;
use crate::test_support::{CountingWaker, poll_once};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Wake;

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
    listener.register_with(&waker.waker()).unwrap();
    queue.wake_one();
    assert!(poll_once(&mut Box::pin(listener.woken()), &waker).is_ready());
}

/// Who looks again without having been woken waits on, and is told by the waker it gave last.
#[test]
fn who_was_not_woken_waits_on() {
    let queue = WaitQueue::new();
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    let mut listener = queue.listen();
    listener.register_with(&first.waker()).unwrap();
    assert!(listener.poll_woken(&second.waker()).is_pending());
    queue.wake_one();
    assert_eq!((first.count(), second.count()), (0, 1));
    assert!(listener.poll_woken(&second.waker()).is_ready());
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

/// A listener that stands in `queue`, with what counts its wake-ups.
fn standing(queue: &WaitQueue, kind: Kind, events: Events) -> (Listener<&WaitQueue>, CountingWaker) {
    let waker = CountingWaker::new();
    let mut listener = Listener::new(queue, kind, events);
    listener.register_with(&waker.waker()).unwrap();
    (listener, waker)
}

#[test]
fn who_shares_takes_no_wake_up_from_the_exclusive() {
    let queue = WaitQueue::new();
    let shared: Vec<_> = (0..40).map(|_| standing(&queue, Kind::Shared, Events::INPUT)).collect();
    let exclusive: Vec<_> = (0..3).map(|_| standing(&queue, Kind::Exclusive, Events::INPUT)).collect();
    let counts = |of: &[(Listener<&WaitQueue>, CountingWaker)]| of.iter().map(|(_, waker)| waker.count()).collect();
    assert!(queue.wake_one());
    let (pollers, readers): (Vec<_>, Vec<_>) = (counts(&shared), counts(&exclusive));
    assert_eq!((pollers, readers), (vec![1; 40], vec![1, 0, 0]));
    // One that was woken and did not look again is not woken again.
    assert!(queue.wake_one());
    let (pollers, readers): (Vec<_>, Vec<_>) = (counts(&shared), counts(&exclusive));
    assert_eq!((pollers, readers), (vec![1; 40], vec![1, 1, 0]));
    drop(shared);
    queue.pass_on(Events::OUTPUT);
    assert_eq!(exclusive[2].1.count(), 0);
    // The first gives up: its wake-up goes to the third.
    drop(exclusive.into_iter().next());
    assert!(queue.nobody_waits());
}

#[test]
fn a_wake_up_passed_on_goes_to_the_exclusive_alone() {
    let queue = WaitQueue::new();
    let (first, _) = standing(&queue, Kind::Exclusive, Events::INPUT);
    queue.wake_one();
    let (_poller, poller) = standing(&queue, Kind::Shared, Events::INPUT);
    let (_writer, writer) = standing(&queue, Kind::Exclusive, Events::OUTPUT);
    let (_second, second) = standing(&queue, Kind::Exclusive, Events::ALL);
    drop(first);
    assert_eq!((poller.count(), writer.count(), second.count()), (0, 0, 1));
}

#[test]
fn more_of_the_same_is_told_to_who_stands_there_for_good() {
    let queue = WaitQueue::new();
    let pollers: Vec<_> = (0..40).map(|_| standing(&queue, Kind::Shared, Events::INPUT)).collect();
    let (_reader, reader) = standing(&queue, Kind::Exclusive, Events::INPUT);
    let [(_input, input), (_output, output)] =
        [Events::INPUT, Events::OUTPUT].map(|events| standing(&queue, Kind::Standing, events));
    let later: Vec<_> = (0..40).map(|_| standing(&queue, Kind::Shared, Events::INPUT)).collect();
    queue.wake_standing_for(Events::INPUT);
    queue.wake_standing_for(Events::INPUT);
    assert_eq!((input.count(), output.count(), reader.count()), (2, 0, 0));
    let woken = || pollers.iter().chain(&later).map(|(_, waker)| waker.count()).sum::<usize>();
    assert_eq!(woken(), 0);
    queue.wake_one_for(Events::INPUT);
    assert_eq!((input.count(), reader.count(), woken()), (3, 1, 80));
}

#[test]
fn only_those_who_wait_for_it_are_woken() {
    let queue = WaitQueue::new();
    let kinds = [Events::NONE, Events::INPUT, Events::OUTPUT, Events::ALL];
    for (events, expected) in
        [(Events::INPUT, [0, 1, 0, 1]), (Events::OUTPUT, [0, 0, 1, 1]), (Events::ALL, [1, 1, 1, 1])]
    {
        let waiting = kinds.map(|events| standing(&queue, Kind::Shared, events));
        queue.wake_all_for(events);
        assert_eq!(waiting.each_ref().map(|(_, waker)| waker.count()), expected, "{events:?}");
    }
}

#[test]
fn the_longest_asleep_is_next_whatever_it_waits_for() {
    let queue = WaitQueue::new();
    let both = standing(&queue, Kind::Exclusive, Events::ALL);
    queue.wake_all_for(Events::OUTPUT);
    let input = standing(&queue, Kind::Exclusive, Events::INPUT);
    let mut both = both;
    both.0.register_with(&both.1.waker()).unwrap();
    // It has been woken since, and stands behind the other, as on Linux.
    let before = both.1.count();
    queue.wake_one_for(Events::OUTPUT);
    assert_eq!((both.1.count(), input.1.count()), (before + 1, 0));
    queue.wake_one_for(Events::INPUT);
    assert_eq!((both.1.count(), input.1.count()), (before + 1, 1));
}

#[test]
fn a_standing_waiter_hears_of_everything_until_it_leaves() {
    let queue = Arc::new(WaitQueue::new());
    let waker = CountingWaker::new();
    let mut owned = Listener::new(queue.clone(), Kind::Standing, Events::INPUT);
    owned.register_with(&waker.waker()).unwrap();
    let before = queue.sequence();
    for count in 1..=3 {
        queue.wake_one_for(Events::INPUT);
        assert_eq!(waker.count(), count);
    }
    queue.wake_all_for(Events::OUTPUT);
    assert_eq!((waker.count(), queue.sequence()), (3, before + 4));
    drop(owned);
    queue.wake_all();
    assert_eq!(waker.count(), 3);
}

#[test]
fn a_hundred_thousand_places_of_few_pollers() {
    const POLLERS: usize = 100;
    const PLACES: usize = 1024;
    let queue = WaitQueue::new();
    let wakers: Vec<_> = (0..POLLERS).map(|_| CountingWaker::new()).collect();
    let mut listeners = Vec::new();
    for waker in &wakers {
        let waker = waker.waker();
        for _ in 0..PLACES {
            let mut listener = Listener::new(&queue, Kind::Shared, Events::INPUT);
            listener.register_with(&waker).unwrap();
            listeners.push(listener);
        }
    }
    queue.wake_one();
    // The first who are woken come back, and wake others.
    let mut asleep: Vec<usize> = (0..POLLERS).collect();
    while let Some(woken) = asleep.iter().position(|&poller| wakers[poller].count() > 0) {
        let poller = asleep.remove(woken);
        for listener in &mut listeners[poller * PLACES..][..PLACES] {
            listener.register_with(&wakers[poller].waker()).unwrap();
        }
    }
    for waker in &wakers {
        // Once for each batch its places are in, not once for each place.
        assert!((1..=PLACES / 10).contains(&waker.count()), "{}", waker.count());
    }
    // They leave in another order than they came, and come again.
    let (even, odd): (Vec<_>, Vec<_>) = listeners.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    drop(odd);
    let (again, count) = standing(&queue, Kind::Exclusive, Events::INPUT);
    drop(even);
    assert!(queue.wake_one());
    assert_eq!(count.count(), 1);
    drop(again);
    assert!(queue.nobody_waits());
}

/// A waker that waits again as soon as it is called.
struct Eager {
    queue: Arc<WaitQueue>,
    listener: std::sync::Mutex<Option<Listener<Arc<WaitQueue>>>>,
    count: std::sync::atomic::AtomicUsize,
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let waker = Waker::from(self.clone());
        let mut listener = Listener::new(self.queue.clone(), Kind::Shared, Events::ALL);
        listener.register_with(&waker).unwrap();
        *self.listener.lock().unwrap() = Some(listener);
    }
}

#[test]
fn a_wake_up_reaches_each_once_though_they_come_back_at_once() {
    let queue = Arc::new(WaitQueue::new());
    let eager: Vec<_> = (0..50)
        .map(|_| {
            let new = Eager { queue: queue.clone(), listener: Default::default(), count: Default::default() };
            let eager = Arc::new(new);
            eager.clone().wake();
            eager
        })
        .collect();
    queue.wake_all();
    assert!(eager.iter().all(|eager| eager.count.load(Ordering::Relaxed) == 2));
    eager.iter().for_each(|eager| *eager.listener.lock().unwrap() = None);
}

#[test]
fn random_comings_and_goings_agree_with_a_plain_list() {
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let queue = WaitQueue::new();
    // Who stands in the queue: its listener, its waker, and how often it should have been woken.
    let mut model: Vec<(Listener<&WaitQueue>, CountingWaker, usize, bool)> = Vec::new();
    for _ in 0..20_000 {
        match random(5) {
            0 | 1 if model.len() < 300 => {
                let kind = if random(2) == 0 { Kind::Shared } else { Kind::Exclusive };
                let (listener, waker) = standing(&queue, kind, Events::INPUT);
                model.push((listener, waker, 0, false));
            }
            2 if !model.is_empty() => {
                let index = random(model.len() as u64) as usize;
                let (mut listener, _, _, _) = model.remove(index);
                listener.consume();
            }
            3 => {
                queue.wake_all_for(Events::INPUT);
                for (_, _, count, woken) in &mut model {
                    *count += usize::from(!core::mem::replace(woken, true));
                }
            }
            _ if !model.is_empty() => {
                let index = random(model.len() as u64) as usize;
                let (mut listener, waker, count, _) = model.remove(index);
                listener.register_with(&waker.waker()).unwrap();
                model.push((listener, waker, count, false));
            }
            _ => {}
        }
        assert_eq!(queue.nobody_waits(), model.iter().all(|(.., woken)| *woken));
    }
    assert!(model.iter().all(|(_, waker, count, _)| waker.count() == *count));
}

#[test]
fn a_wake_up_of_many_is_ended_by_those_who_were_woken() {
    const MANY: usize = 3000;
    for (kind, leaves) in
        [(Kind::Exclusive, true), (Kind::Exclusive, false), (Kind::Shared, true), (Kind::Shared, false)]
    {
        let queue = WaitQueue::new();
        let mut all: Vec<_> = (0..MANY).map(|_| standing(&queue, kind, Events::INPUT)).collect();
        let (mut other, other_waker) = standing(&queue, kind, Events::OUTPUT);
        queue.wake_all_for(Events::INPUT);
        let at_once = all.iter().filter(|(_, waker)| waker.count() > 0).count();
        assert!((1..MANY / 4).contains(&at_once), "{at_once} at once");
        let (_late, late_waker) = standing(&queue, kind, Events::INPUT);
        // Each who was woken comes back, the last first, and is counted once more.
        let woken_once =
            |all: &[(Listener<&WaitQueue>, CountingWaker)]| all.iter().any(|(_, waker)| waker.count() == 1);
        while woken_once(&all) {
            for (listener, waker) in all.iter_mut().filter(|(_, waker)| waker.count() == 1).rev() {
                match leaves {
                    true => listener.consume(),
                    false => listener.register_with(&waker.waker()).unwrap(),
                }
                waker.waker().wake();
            }
        }
        assert!(all.iter().all(|(_, waker)| waker.count() == 2), "each was woken once, and noted once");
        assert_eq!((late_waker.count(), other_waker.count()), (0, 0), "those slept for something else, or later");
        assert!(other.poll_woken(&other_waker.waker()).is_pending());
        assert!(!queue.nobody_waits());
    }
}

#[test]
fn who_looks_before_his_turn_finds_that_he_is_woken() {
    let queue = WaitQueue::new();
    let mut all: Vec<_> = (0..3000).map(|_| standing(&queue, Kind::Exclusive, Events::ALL)).collect();
    let (mut late, _) = {
        queue.wake_all();
        standing(&queue, Kind::Exclusive, Events::ALL)
    };
    let (last, waker) = all.last_mut().unwrap();
    assert_eq!(waker.count(), 0, "it is due, and not woken yet");
    for _ in 0..2 {
        assert!(last.poll_woken(&CountingWaker::new().waker()).is_ready(), "or nobody would ever wake it");
    }
    assert!(late.poll_woken(&CountingWaker::new().waker()).is_pending());
}

#[test]
fn who_waits_again_before_his_turn_was_as_good_as_woken() {
    let queue = WaitQueue::new();
    let mut all: Vec<_> = (0..3000).map(|_| standing(&queue, Kind::Shared, Events::INPUT)).collect();
    queue.wake_all();
    let (last, waker) = all.last_mut().unwrap();
    assert_eq!(waker.count(), 0, "it is due, and not woken yet");
    last.register_with(&waker.waker()).unwrap();
    while let Some(woken) = all.iter().position(|(_, waker)| waker.count() > 0) {
        all.remove(woken).0.consume();
    }
    assert_eq!(all.len(), 1, "all others were woken");
    assert_eq!(all[0].1.count(), 0);
}

/// Waits until `count` has reached `wanted`, as read(2) does: it sleeps between two looks, and may be polled for other reasons.
async fn until(queue: &WaitQueue, kind: Kind, count: &std::sync::atomic::AtomicUsize, wanted: usize) {
    let mut listener = Listener::new(queue, kind, Events::INPUT);
    loop {
        listener.register().await;
        if count.load(Ordering::Relaxed) >= wanted {
            return;
        }
        listener.woken().await;
        if count.load(Ordering::Relaxed) >= wanted {
            return listener.consume();
        }
    }
}

#[test]
fn of_very_many_nobody_sleeps_on() {
    const MANY: usize = 1500;
    let mut seed = 11_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (queue, count) = (WaitQueue::new(), std::sync::atomic::AtomicUsize::new(0));
    let waiter = |number: usize, wanted: usize| {
        let kind = if number.is_multiple_of(3) { Kind::Shared } else { Kind::Exclusive };
        let (mut future, waker) = (Box::pin(until(&queue, kind, &count, wanted)), CountingWaker::new());
        assert!(poll_once(&mut future, &waker).is_pending());
        (future, waker, 0)
    };
    // Each with how often its waker had been called when it was polled last.
    let mut all: Vec<_> = (0..MANY).map(|number| waiter(number, 1)).collect();
    for _ in 0..200_000 {
        let (number, now) = (random(MANY), count.load(Ordering::Relaxed));
        let what = random(4000);
        if what == 0 {
            count.store(now + 1, Ordering::Relaxed);
            queue.wake_all_for(Events::INPUT);
        }
        let (future, waker, seen) = &mut all[number];
        let is_woken = waker.count() > *seen;
        *seen = waker.count();
        // Polled when woken, for no reason, or given up.
        let ended = (is_woken || what < 400) && poll_once(future, waker).is_ready();
        if ended || (400..500).contains(&what) {
            all[number] = waiter(number, count.load(Ordering::Relaxed) + 1);
        }
    }
    count.fetch_add(2, Ordering::Relaxed);
    queue.wake_all_for(Events::INPUT);
    while let Some(number) = all.iter().position(|(_, waker, seen)| waker.count() > *seen) {
        let (mut future, waker, _) = all.remove(number);
        assert!(poll_once(&mut future, &waker).is_ready());
        // And one of them looks by himself.
        let number = random(all.len() + 1);
        if all.get_mut(number).is_some_and(|(future, waker, _)| poll_once(future, waker).is_ready()) {
            drop(all.remove(number));
        }
    }
    assert_eq!((all.len(), queue.nobody_waits()), (0, true), "some sleep on");
}
