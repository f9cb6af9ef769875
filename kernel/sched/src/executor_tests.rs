//! The executor on the host: one CPU stepped by hand, and four threads playing four CPUs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::clock::WATCHDOG_LIMIT;
use crate::yield_now;
use abi::cpus::CpuSet;
use machine::cpu::Handler;

/// Runs CPU 0 until it has nothing to do. Returns how many polls that took.
fn drain(executor: &Executor) -> usize {
    let here = &executor.cpus[0];
    executor.online.insert(0);
    let (mut ran, mut polls) = (None, 0);
    while let Some((task, now)) = executor.next(here, 0, ran.take()) {
        ran = Some(executor.poll(here, task, now));
        polls += 1;
    }
    polls
}

fn spawn(executor: &Arc<Executor>, future: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
    executor.spawn(&Parameters::default(), future)
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
        executor.start(&task, async move {
            for _ in 0..3 {
                order.lock().unwrap().push(name);
                this.give_way().await;
            }
        });
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
fn many_timers_go_off_some_at_a_time() {
    struct Counting(AtomicUsize);
    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let executor = Executor::new(1);
    let count = Arc::new(Counting(AtomicUsize::new(0)));
    let timers: Vec<_> = (0..1000).map(|_| executor.timer(1, Waker::from(count.clone())).unwrap()).collect();
    let mut alarms = 0;
    while executor.cpus[0].timers.lock().next().is_some() {
        let before = count.0.load(Ordering::Relaxed);
        executor.alarm();
        assert!(count.0.load(Ordering::Relaxed) - before <= 300, "so many at once");
        let more = executor.cpus[0].timers.lock().next().is_some();
        assert_eq!(executor.cpus[0].alarm.load(Ordering::Relaxed) == 1, more, "the next alarm is to come at once");
        alarms += 1;
    }
    assert_eq!(count.0.load(Ordering::Relaxed), timers.len());
    assert!(alarms > 2);
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
        executor.start(&task, async move {
            let start = time::now();
            while time::now() < start + limits * WATCHDOG_LIMIT + 1_000_000 {}
        });
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
    while executor.online.load() != 0b1111.into() {
        std::thread::yield_now();
    }
    let finished = Arc::new(AtomicUsize::new(0));
    for ring in 0..RINGS {
        let queues: Arc<Vec<sync::WaitQueue>> = Arc::new((0..MEMBERS).map(|_| sync::WaitQueue::new()).collect());
        let turn = Arc::new(AtomicUsize::new(0));
        for member in 0..MEMBERS {
            let affinity = if member == 3 { CpuSet::of(ring % 4) } else { CpuSet::ALL };
            let parameters = Parameters { affinity, cpu: member % 4, ..Parameters::default() };
            let (queues, turn, finished) = (queues.clone(), turn.clone(), finished.clone());
            let sleeper = executor.clone();
            executor.spawn(&parameters, async move {
                for round in 0..ROUNDS {
                    let mine = round * MEMBERS + member;
                    queues[member].wait_until(|| (turn.load(Ordering::SeqCst) == mine).then_some(())).await;
                    assert!(affinity.contains(cpu::current()));
                    if round % 100 == 7 {
                        sleeper.sleep_until(time::now() + 1_000_000).await;
                    }
                    turn.store(mine + 1, Ordering::SeqCst);
                    queues[(member + 1) % MEMBERS].wake_one();
                }
                finished.fetch_add(1, Ordering::SeqCst);
            });
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

/// A CPU begins and ends to halt all the time: who looks for one that halts finds one that there is.
#[test]
fn a_task_goes_to_a_cpu_that_there_is() {
    let executor = several(4);
    let task = endless(&executor, u64::MAX);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                executor.halted.announce(2);
                executor.halted.withdraw(2);
            }
        });
        let highest = (0..300_000).map(|_| executor.place(&task, Arrival::Woken)).max();
        done.store(true, Ordering::Relaxed);
        assert!(highest < Some(4), "CPU {highest:?}");
    });
}

/// CPUs that are played by hand, none of them idle.
fn several(cpus: usize) -> Arc<Executor> {
    let executor = Executor::new(cpus);
    executor.online.store(CpuSet::first(cpus));
    executor
}

/// A task that never ends and gives way at each poll.
fn endless(executor: &Arc<Executor>, affinity: u64) -> Arc<Task> {
    let parameters = Parameters { affinity: affinity.into(), ..Parameters::default() };
    let future = async {
        loop {
            yield_now().await;
        }
    };
    executor.spawn(&parameters, future)
}

/// How many wait on each CPU.
fn waiting(executor: &Executor) -> Vec<usize> {
    executor.cpus.iter().map(|cpu| cpu.waiting.load(Ordering::Relaxed)).collect()
}

/// CPU `number` takes its next task and polls it.
fn turn(executor: &Executor, number: usize, ran: Option<Ran>) -> Option<Ran> {
    let here = &executor.cpus[number];
    let (task, now) = executor.next(here, number, ran)?;
    Some(executor.poll(here, task, now))
}

#[test]
fn a_new_task_goes_where_fewest_wait_and_a_woken_one_where_it_was() {
    let executor = several(3);
    let tasks = [0b111, 0b111, 0b111, 0b100, 0b110].map(|affinity| endless(&executor, affinity));
    assert_eq!(tasks.each_ref().map(|task| task.cpu()), [0, 1, 2, 2, 1]);
    assert_eq!(waiting(&executor), [1, 2, 2]);
    assert_eq!(executor.place(&tasks[2], Arrival::Woken), 2);
    assert_eq!(executor.place(&tasks[1], Arrival::Woken), 1, "though fewer wait elsewhere");
    assert_eq!(executor.place(&tasks[2], Arrival::New), 0);
    // Its own CPU if that one halts, or else one that does and may be had.
    executor.halted.cpus().store(0b101.into());
    assert_eq!(executor.place(&tasks[2], Arrival::Woken), 2);
    assert_eq!(executor.place(&tasks[1], Arrival::Woken), 0);
    assert_eq!(executor.place(&tasks[4], Arrival::Woken), 2);
    executor.halted.cpus().store(0b001.into());
    assert_eq!(executor.place(&tasks[3], Arrival::Woken), 2);
    // Nothing that it may have is there: anything will do.
    executor.online.store(0b011.into());
    assert_eq!(executor.place(&tasks[3], Arrival::New), 0);
}

#[test]
fn only_an_idle_cpu_is_woken_and_only_by_the_first() {
    let executor = several(2);
    executor.halted.cpus().store(0b10.into());
    let first = endless(&executor, 0b11);
    assert_eq!((first.cpu(), executor.halted.cpus().word(0)), (1, 0));
    let second = endless(&executor, 0b11);
    assert_eq!(second.cpu(), 0);
}

#[test]
fn a_thief_looks_beyond_where_most_wait() {
    let executor = several(3);
    for affinity in [0b001, 0b001, 0b001, 0b110] {
        endless(&executor, affinity);
    }
    assert_eq!(waiting(&executor), [3, 1, 0]);
    assert!(executor.steal(&executor.cpus[2], 2));
    assert_eq!(waiting(&executor), [3, 0, 1]);
    assert!(executor.steal(&executor.cpus[1], 1), "and may go back");
    assert_eq!(waiting(&executor), [3, 1, 0]);
    let task = executor.next(&executor.cpus[1], 1, None).unwrap().0;
    assert_eq!(task.cpu(), 1);
    assert!(!executor.steal(&executor.cpus[2], 2), "what is left is bound");
}

#[test]
fn a_task_that_waits_moves_when_its_cpus_change() {
    let executor = several(2);
    let task = endless(&executor, 0b01);
    endless(&executor, 0b01);
    task.set_affinity(0b11.into());
    assert_eq!(waiting(&executor), [2, 0], "no reason to move");
    task.set_affinity(0b10.into());
    assert_eq!((waiting(&executor), task.cpu(), task.is_misplaced()), (vec![1, 1], 1, false));
    // Set free while a CPU idles, it goes there.
    let bound = endless(&executor, 0b01);
    executor.halted.cpus().store(0b10.into());
    bound.set_affinity(0b11.into());
    assert_eq!((waiting(&executor), bound.cpu()), (vec![1, 2], 1));
}

#[test]
fn a_task_that_runs_where_it_may_not_gives_way_and_moves() {
    let executor = several(2);
    let task = endless(&executor, 0b01);
    let (running, now) = executor.next(&executor.cpus[0], 0, None).unwrap();
    task.set_affinity(0b11.into());
    assert!(!executor.cpus[0].give_way.load(Ordering::Relaxed) && !task.is_misplaced());
    task.set_affinity(0b10.into());
    assert!(executor.cpus[0].give_way.load(Ordering::Relaxed) && task.is_misplaced());
    let ran = executor.poll(&executor.cpus[0], running, now);
    assert!(turn(&executor, 0, Some(ran)).is_none());
    assert_eq!((waiting(&executor), task.cpu(), task.is_misplaced()), (vec![0, 1], 1, false));
    assert!(turn(&executor, 1, None).is_some());
}

#[test]
fn who_sleeps_is_not_disturbed_by_a_change_of_its_cpus() {
    let executor = several(2);
    let parameters = Parameters { affinity: 0b01.into(), ..Parameters::default() };
    let task = executor.spawn(&parameters, core::future::pending());
    let ran = turn(&executor, 0, None);
    assert!(turn(&executor, 0, ran).is_none());
    task.set_affinity(0b10.into());
    assert!(!executor.cpus[0].give_way.load(Ordering::Relaxed) && !task.is_misplaced() && !task.is_runnable());
    task.interrupt();
    assert_eq!((waiting(&executor), task.cpu()), (vec![0, 1], 1));
}

#[test]
fn a_task_that_is_queued_where_it_may_not_run_is_passed_on() {
    let executor = several(2);
    executor.online.store(0b01.into());
    let (task, other) = (endless(&executor, 0b10), endless(&executor, 0b01));
    assert_eq!(waiting(&executor), [2, 0], "there is no other CPU yet");
    executor.online.store(0b11.into());
    let (picked, _) = executor.next(&executor.cpus[0], 0, None).unwrap();
    assert!(Arc::ptr_eq(&picked, &other));
    assert_eq!((waiting(&executor), task.cpu()), (vec![0, 1], 1));
}

#[test]
fn a_task_that_is_put_back_behind_others_goes_where_a_cpu_idles() {
    let executor = several(2);
    let first = endless(&executor, 0b01);
    first.set_affinity(0b11.into());
    let ran = turn(&executor, 0, None);
    executor.halted.cpus().store(0b10.into());
    let ran = turn(&executor, 0, ran);
    assert_eq!((first.cpu(), executor.halted.cpus().word(0)), (0, 0b10), "alone it stays");
    endless(&executor, 0b01);
    let ran = turn(&executor, 0, ran);
    assert_eq!((waiting(&executor), first.cpu(), executor.halted.cpus().word(0)), (vec![0, 1], 1, 0));
    // The other one is bound, so it stays though CPU 1 idles again.
    executor.halted.cpus().store(0b10.into());
    endless(&executor, 0b01);
    turn(&executor, 0, ran);
    assert_eq!(waiting(&executor), [1, 1]);
}

/// Tasks that compute on CPU 0 and may run on both, begun there because no other was allowed.
fn crowd(executor: &Arc<Executor>, nices: &[i8]) -> Vec<Arc<Task>> {
    let crowd = nices.iter().map(|nice| {
        let task = endless(executor, 0b01);
        task.set_nice(*nice);
        task.set_affinity(0b11.into());
        task
    });
    crowd.collect()
}

#[test]
fn who_waits_is_sent_where_fewer_want_the_cpu_though_nobody_is_idle() {
    let executor = several(2);
    crowd(&executor, &[0; 6]);
    endless(&executor, 0b10);
    let there = turn(&executor, 1, None);
    assert_eq!(waiting(&executor), [6, 0]);
    let ran = turn(&executor, 0, None);
    // Six and one are four and three: one runs on each.
    assert_eq!(waiting(&executor), [3, 2]);
    executor.cpus[0].balance_at.store(0, Ordering::Relaxed);
    turn(&executor, 0, ran);
    executor.cpus[1].balance_at.store(0, Ordering::Relaxed);
    turn(&executor, 1, there);
    assert_eq!(waiting(&executor), [3, 2], "nobody is sent to and fro");
}

#[test]
fn what_a_cpu_has_to_do_is_weighed_not_counted() {
    let executor = several(2);
    // The one that runs there weighs more than all of these together.
    endless(&executor, 0b10).set_nice(-20);
    turn(&executor, 1, None);
    crowd(&executor, &[0; 6]);
    turn(&executor, 0, None);
    assert_eq!(waiting(&executor), [5, 0]);
}

#[test]
fn who_is_bound_stays_and_those_behind_him_are_looked_at() {
    let executor = several(2);
    for _ in 0..4 {
        endless(&executor, 0b01);
    }
    endless(&executor, 0b10);
    turn(&executor, 1, None);
    let ran = turn(&executor, 0, None);
    assert_eq!(waiting(&executor), [3, 0]);
    let free = crowd(&executor, &[0]);
    executor.cpus[0].balance_at.store(0, Ordering::Relaxed);
    turn(&executor, 0, ran);
    assert_eq!((waiting(&executor), free[0].cpu()), (vec![3, 1], 1));
    // There is a time between two looks.
    crowd(&executor, &[0; 3]);
    turn(&executor, 0, None);
    assert_eq!(waiting(&executor)[1], 1);
}

/// A thief does not halt, nor who has something to do: else this would never end. That who has nothing does is seen where
/// four CPUs are at work.
#[test]
fn an_idle_cpu_steals_before_it_halts() {
    let executor = several(2);
    let task = endless(&executor, 0b11);
    assert_eq!(waiting(&executor), [1, 0]);
    let here = &executor.cpus[1];
    for _ in 0..2 {
        assert!(executor.halt(here, 1).is_none());
        assert_eq!((waiting(&executor), task.cpu(), executor.halted.cpus().word(0)), (vec![0, 1], 1, 0));
        assert_eq!(here.times.idle.load(Ordering::Relaxed), 0);
    }
}
