//! The executor on the host: one CPU stepped by hand, and four threads playing four CPUs.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::yield_now;
use machine::cpu::Handler;

/// Runs CPU 0 until it has nothing to do. Returns how many polls that took.
fn drain(executor: &Executor) -> usize {
    let here = &executor.cpus[0];
    executor.online.fetch_or(1, Ordering::Relaxed);
    let (mut ran, mut polls) = (None, 0);
    while let Some((task, now)) = executor.next(here, ran.take()) {
        ran = Some(executor.poll(here, task, now));
        polls += 1;
    }
    polls
}

fn spawn(executor: &Arc<Executor>, future: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
    executor.spawn(&Parameters::default(), future).unwrap()
}

#[test]
fn a_task_runs_to_its_end_and_is_forgotten() {
    let executor = Executor::new(1);
    let done = Arc::new(AtomicUsize::new(0));
    let task = spawn(&executor, {
        let done = done.clone();
        async move {
            yield_now().await;
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(drain(&executor), 2);
    assert_eq!(done.load(Ordering::Relaxed), 1);
    assert!(task.is_done() && !task.is_runnable());
    assert_eq!(executor.tasks.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&done), 1, "the future is gone with what it held");
    assert_eq!(Arc::strong_count(&task), 1, "and so is the ring of task and waker");
}

#[test]
fn waking_a_waiting_task_queues_it_once() {
    let executor = Executor::new(1);
    let polls = Arc::new(AtomicUsize::new(0));
    let task = spawn(&executor, {
        let polls = polls.clone();
        core::future::poll_fn(move |_| {
            polls.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        })
    });
    drain(&executor);
    task.interrupt();
    task.interrupt();
    assert_eq!(executor.running(), 1);
    assert_eq!(drain(&executor), 1);
    assert_eq!(polls.load(Ordering::Relaxed), 2);
    assert_eq!((task.clock().voluntary_switches(), task.clock().involuntary_switches()), (2, 0));
}

#[test]
fn a_wake_up_during_the_poll_is_not_lost() {
    let executor = Executor::new(1);
    let mut first = true;
    let task = spawn(&executor, {
        core::future::poll_fn(move |context| {
            if core::mem::take(&mut first) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    });
    assert_eq!(drain(&executor), 2);
    assert!(task.is_done());
    task.interrupt();
    assert_eq!(drain(&executor), 0, "what is over is never queued");
}

#[test]
fn tasks_of_equal_nice_take_turns_when_they_give_way() {
    let executor = Executor::new(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    for name in 0..3 {
        let order = order.clone();
        let task = executor.task(&Parameters { identity: name, ..Parameters::default() });
        let this = task.clone();
        executor
            .start(&task, async move {
                for _ in 0..3 {
                    order.lock().unwrap().push(name);
                    this.give_way().await;
                }
            })
            .unwrap();
    }
    drain(&executor);
    let order = order.lock().unwrap();
    for round in order.chunks(3) {
        let mut round = round.to_vec();
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2], "{order:?}");
    }
}

#[test]
fn sleeping_takes_its_time_and_can_be_given_up() {
    let executor = Executor::new(1);
    let result = Arc::new(Mutex::new(None));
    spawn(&executor, {
        let (executor, result) = (executor.clone(), result.clone());
        async move {
            let start = time::now();
            let slept = executor.timeout(Some(start + 20_000_000), core::future::pending::<()>()).await;
            *result.lock().unwrap() = Some((slept.is_none(), time::now() - start));
        }
    });
    drain(&executor);
    assert!(result.lock().unwrap().is_none());
    assert!(executor.cpus[0].timers.lock().next().is_some());
    while time::now() < executor.cpus[0].timers.lock().next().unwrap() {}
    executor.alarm();
    drain(&executor);
    let (timed_out, length) = result.lock().unwrap().unwrap();
    assert!(timed_out && length >= 20_000_000);
    assert!(executor.cpus[0].timers.lock().next().is_none());
}

#[test]
fn dropping_a_sleep_takes_its_timer_away() {
    let executor = Executor::new(1);
    let mut sleep = Box::pin(executor.sleep_until(u64::MAX - 1));
    let mut context = core::task::Context::from_waker(Waker::noop());
    assert!(sleep.as_mut().poll(&mut context).is_pending());
    assert!(executor.cpus[0].timers.lock().next().is_some());
    drop(sleep);
    assert!(executor.cpus[0].timers.lock().next().is_none());
}

#[test]
fn an_alarm_is_set_for_a_slice_only_while_somebody_waits() {
    let executor = Executor::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = |executor: &Arc<Executor>| {
        let (executor, seen) = (executor.clone(), seen.clone());
        async move {
            let here = &executor.cpus[0];
            seen.lock().unwrap().push(here.alarm.load(Ordering::Relaxed) != NEVER);
            if seen.lock().unwrap().len() == 1 {
                let (again, later) = (executor.clone(), seen.clone());
                spawn(&executor, async move {
                    later.lock().unwrap().push(again.others_wait());
                });
                seen.lock().unwrap().push(here.alarm.load(Ordering::Relaxed) != NEVER);
            }
        }
    };
    spawn(&executor, look(&executor));
    drain(&executor);
    assert_eq!(*seen.lock().unwrap(), [false, true, false]);
}

#[test]
fn the_end_of_a_slice_asks_the_running_task_to_give_way() {
    let executor = Executor::new(1);
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let (executor, asked) = (executor.clone(), asked.clone());
        spawn(&executor.clone(), async move {
            let start = time::now();
            // Plays the machine: the alarm goes off when it is due.
            while !executor.should_yield() && time::now() < start + 1_000_000_000 {
                if time::now() >= executor.cpus[0].alarm.load(Ordering::Relaxed) {
                    executor.alarm();
                }
            }
            asked.fetch_add(usize::from(executor.should_yield()), Ordering::Relaxed);
        });
    }
    drain(&executor);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the first is asked; the second is alone by then");
}

#[test]
fn a_long_poll_is_reported_but_not_every_one() {
    let executor = Executor::new(1);
    let reports = Arc::new(Mutex::new(Vec::new()));
    executor.set_watchdog({
        let reports = reports.clone();
        Arc::new(move |task, time| reports.lock().unwrap().push((task.identity(), time)))
    });
    for (identity, limits) in [(1, 1), (2, 1), (3, 100)] {
        let task = executor.task(&Parameters { identity, ..Parameters::default() });
        executor
            .start(&task, async move {
                let start = time::now();
                while time::now() < start + limits * WATCHDOG_LIMIT + 1_000_000 {}
            })
            .unwrap();
    }
    drain(&executor);
    let reports = reports.lock().unwrap();
    let who: Vec<u32> = reports.iter().map(|report| report.0).collect();
    assert_eq!(who, [1, 3], "{reports:?}");
    assert!(reports[0].1 > WATCHDOG_LIMIT && reports[1].1 > 100 * WATCHDOG_LIMIT);
}

/// Four CPUs, tasks that wake each other in rings across them, timers, and affinities: nothing is lost, nobody runs where
/// it may not.
#[test]
fn four_cpus_lose_no_wake_up() {
    const RINGS: usize = 8;
    const MEMBERS: usize = 6;
    const ROUNDS: usize = 300;
    let executor = Executor::new(4);
    machine::cpu::install(executor.clone());
    for number in 0..4 {
        let executor = executor.clone();
        std::thread::spawn(move || {
            cpu::set_current(number);
            executor.run(number)
        });
    }
    while executor.online.load(Ordering::SeqCst) != 0b1111 {
        std::thread::yield_now();
    }
    let finished = Arc::new(AtomicUsize::new(0));
    for ring in 0..RINGS {
        let queues: Arc<Vec<sync::WaitQueue>> = Arc::new((0..MEMBERS).map(|_| sync::WaitQueue::new()).collect());
        let turn = Arc::new(AtomicUsize::new(0));
        for member in 0..MEMBERS {
            let affinity = if member == 3 { 1 << (ring % 4) } else { u64::MAX };
            let parameters = Parameters { affinity, cpu: member % 4, ..Parameters::default() };
            let (queues, turn, finished) = (queues.clone(), turn.clone(), finished.clone());
            let sleeper = executor.clone();
            executor
                .spawn(&parameters, async move {
                    for round in 0..ROUNDS {
                        let mine = round * MEMBERS + member;
                        queues[member].wait_until(|| (turn.load(Ordering::SeqCst) == mine).then_some(())).await;
                        assert!(affinity >> cpu::current() & 1 == 1);
                        if round % 100 == 7 {
                            sleeper.sleep_until(time::now() + 1_000_000).await;
                        }
                        turn.store(mine + 1, Ordering::SeqCst);
                        queues[(member + 1) % MEMBERS].wake_one();
                    }
                    finished.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
        }
    }
    let start = std::time::Instant::now();
    while finished.load(Ordering::SeqCst) < RINGS * MEMBERS {
        assert!(start.elapsed().as_secs() < 60, "stuck at {} of {}", finished.load(Ordering::SeqCst), RINGS * MEMBERS);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let statistics = executor.statistics();
    assert_eq!(statistics.running, 0);
    assert!(statistics.cpus.iter().all(|cpu| cpu.idle > 0), "everybody halts in the end: {statistics:?}");
}
