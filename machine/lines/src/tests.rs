//! Lines of CPUs in a world of its own for each test, with the host's clock.

use super::*;
use cores::{Number, ProcessorTime};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Instant;

const MILLISECOND: u64 = 1_000_000;

/// A world that notes what is done to threads.
macro_rules! world {
    ($name:ident, $interrupted:ident, $killed:ident, $away:ident) => {
        static $interrupted: AtomicUsize = AtomicUsize::new(0);
        static $killed: AtomicUsize = AtomicUsize::new(0);
        static $away: AtomicBool = AtomicBool::new(true);

        struct $name;

        impl ProcessorTime for $name {
            type Clock = ();

            fn of_process(_: Number) -> Option<u64> {
                None
            }

            fn of_this_thread() -> Option<()> {
                None
            }

            fn read((): ()) -> Option<u64> {
                None
            }
        }

        impl World for $name {
            fn now() -> u64 {
                static START: LazyLock<Instant> = LazyLock::new(Instant::now);
                START.elapsed().as_nanos() as u64
            }

            fn interrupt(_: HostThread) {
                $interrupted.fetch_add(1, Ordering::SeqCst);
            }

            fn is_away(_: Number) -> bool {
                $away.load(Ordering::SeqCst)
            }

            fn kill(thread: Number) {
                $killed.store(thread as usize, Ordering::SeqCst);
            }

            fn patience() -> u64 {
                20 * MILLISECOND
            }
        }
    };
}

fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never comes");
        thread::yield_now();
    }
}

/// A program's thread, with a number that no thread of the host has.
fn program(is_traced: bool) -> HostThread {
    HostThread { process: Number::MAX, thread: Number::MAX, is_traced }
}

world!(Waiting, WAITING_INTERRUPTED, _WAITING_KILLED, _WAITING_AWAY);

#[test]
fn who_waits_is_woken_by_a_kick_an_interrupt_and_the_alarm() {
    let lines = Lines::<Waiting>::new(2, 4);
    thread::scope(|scope| {
        for step in 0..3 {
            let waits = scope.spawn(|| {
                lines.wait_for_interrupt(1, || false);
                lines.take(1)
            });
            match step {
                0 => lines.kick(1),
                1 => lines.raise(1, Arc::new(|| ())),
                _ => lines.set_alarm(1, Some(Waiting::now() + MILLISECOND)),
            }
            let Due { kicked, alarm, handlers } = waits.join().unwrap();
            assert_eq!((kicked, alarm, handlers.len()), (step == 0, step == 2, usize::from(step == 1)));
            assert!(!lines.is_due(1), "it was taken");
        }
    });
    lines.kick(7);
    assert!(!lines.is_due(7), "there is no such CPU");
    assert_eq!(WAITING_INTERRUPTED.load(Ordering::SeqCst), 0, "no program ran");
}

world!(Running, RUNNING_INTERRUPTED, RUNNING_KILLED, _RUNNING_AWAY);

#[test]
fn programs_are_interrupted_by_kicks_and_alarms_and_not_entered_when_something_is_due() {
    let lines = Lines::<Running>::new(1, 1);
    lines.kick(0);
    assert!(!lines.enter_user(0, program(false)));
    lines.take(0);
    assert!(lines.enter_user(0, program(false)));
    lines.kick(0);
    assert_eq!(RUNNING_INTERRUPTED.load(Ordering::SeqCst), 1);
    lines.leave_user(0);
    lines.take(0);
    thread::scope(|scope| {
        scope.spawn(|| lines.watch());
        lines.set_alarm(0, Some(Running::now() + 10 * MILLISECOND));
        assert!(lines.enter_user(0, program(false)));
        until(|| RUNNING_INTERRUPTED.load(Ordering::SeqCst) > 1);
        lines.leave_user(0);
        assert!(lines.take(0).alarm);
        lines.end_watch();
    });
    assert_eq!(RUNNING_KILLED.load(Ordering::SeqCst), 0, "nobody waits by ptrace");
}

world!(Late, LATE_INTERRUPTED, LATE_KILLED, LATE_AWAY);

#[test]
fn a_traced_thread_that_does_not_come_back_is_killed_and_one_that_is_back_is_not() {
    let lines = Lines::<Late>::new(1, 1);
    LATE_AWAY.store(false, Ordering::SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| lines.watch());
        lines.with_deadline(0, 5, || thread::sleep(Duration::from_millis(100)));
        assert_eq!(LATE_KILLED.load(Ordering::SeqCst), 0, "it was back, only its CPU had not come to see it");
        LATE_AWAY.store(true, Ordering::SeqCst);
        lines.with_deadline(0, 6, || until(|| LATE_KILLED.load(Ordering::SeqCst) == 6));
        LATE_KILLED.store(0, Ordering::SeqCst);
        assert!(lines.enter_user(0, program(true)));
        lines.kick(0);
        assert_eq!(LATE_INTERRUPTED.load(Ordering::SeqCst), 1);
        until(|| LATE_KILLED.load(Ordering::SeqCst) == Number::MAX as usize);
        lines.leave_user(0);
        lines.end_watch();
    });
}
