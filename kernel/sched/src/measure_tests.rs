//! What the executor measures and decides by numbers: who must be interrupted, where time went, which polls were long, the load.

use std::sync::Mutex;

use super::*;
use crate::CpuTimes;
use crate::clock::WATCHDOG_LIMIT;
use crate::statistics::LATE_SAMPLE;
use crate::watchdog::{FAR_LONGER, REPORT_INTERVAL, Report};
use crate::yield_now;
use abi::cpus::CpuSet;
use machine::cpu::Handler;

fn endless(executor: &Arc<Executor>, parameters: &Parameters) -> Arc<Task> {
    let future = async {
        loop {
            yield_now().await;
        }
    };
    executor.spawn(parameters, future)
}

/// Polls one task of CPU 0.
fn poll_one(executor: &Executor) -> Ran {
    executor.online.insert(0);
    let here = &executor.cpus[0];
    let (task, now) = executor.next(here, 0, None).unwrap();
    executor.poll(here, task, now)
}

#[test]
fn there_are_as_many_cpus_as_asked_for_within_limits() {
    assert_eq!([0, 1, 3, usize::MAX].map(|cpus| Executor::new(cpus).cpu_count()), [1, 1, 3, cpu::MAX_CPUS]);
}

#[test]
fn a_task_is_started_once() {
    let executor = Executor::new(1);
    let task = executor.spawn(&Parameters::default(), async {});
    executor.start(&task, async {});
    assert_eq!(executor.cpus[0].queue.lock().waiting(), 1);
}

#[test]
fn a_task_without_any_cpu_there_goes_to_the_last_there_could_be() {
    let executor = Executor::new(3);
    let task = |cpu: usize| executor.task(&Parameters { cpu, ..Parameters::default() });
    assert_eq!([0, 2, 7].map(|cpu| executor.place(&task(cpu), Arrival::New)), [0, 2, 2]);
    executor.online.store(0b010.into());
    assert_eq!([0, 2, 7].map(|cpu| executor.place(&task(cpu), Arrival::Woken)), [1; 3]);
}

#[test]
fn another_cpu_hears_of_a_task_if_it_halts_is_preempted_or_measures_no_slice() {
    let executor = Executor::new(3);
    let cpu = &executor.cpus[2];
    // Alarm and end of the slice: measured, just measured, alone with a slice, alone without.
    for (alarm, slice_end, unmeasured) in [(5, 9, false), (9, 9, false), (NEVER, 9, true), (NEVER, NEVER, false)] {
        cpu.alarm.store(alarm, Ordering::Relaxed);
        cpu.slice_end.store(slice_end, Ordering::Relaxed);
        for (halted, preempts) in [(false, false), (true, false), (false, true), (true, true)] {
            executor.halted.cpus().store(if halted { 0b110 } else { 0b010 }.into());
            assert_eq!(executor.must_hear(2, cpu, preempts), halted || preempts || unmeasured);
            assert_eq!(executor.halted.cpus().word(0), 0b010, "whoever is woken halts no more");
        }
    }
}

#[test]
fn a_thief_gives_up_when_everybody_is_bound() {
    let executor = Executor::new(4);
    executor.online.store(0b1111.into());
    for cpu in [1, 1, 2] {
        endless(&executor, &Parameters { affinity: CpuSet::of(cpu), ..Parameters::default() });
    }
    assert!(!executor.steal(&executor.cpus[3], 3));
    let task = endless(&executor, &Parameters { affinity: 0b1100.into(), ..Parameters::default() });
    task.set_cpu(2);
    executor.steal(&executor.cpus[2], 2);
    assert!(executor.steal(&executor.cpus[3], 3));
    assert_eq!(task.cpu(), 3);
}

#[test]
fn who_runs_is_known_while_it_is_polled() {
    let executor = Executor::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |executor: &Arc<Executor>| {
        let (executor, seen) = (executor.clone(), seen.clone());
        async move {
            seen.lock().unwrap().push((executor.current_identity(), executor.others_wait(), executor.running()));
        }
    };
    for identity in [41, 42] {
        executor.spawn(&Parameters { identity, ..Parameters::default() }, note(&executor));
    }
    let first = poll_one(&executor);
    let (task, now) = executor.next(&executor.cpus[0], 0, Some(first)).unwrap();
    executor.poll(&executor.cpus[0], task, now);
    assert_eq!(*seen.lock().unwrap(), [(41, true, 2), (42, false, 1)]);
    assert_eq!((executor.current_identity(), executor.running()), (0, 0));
}

#[test]
fn a_task_is_what_its_parameters_say_and_its_nice_value_stays_in_range() {
    let executor = Executor::new(1);
    let parameters = Parameters { name: "it", identity: 9, nice: -5, affinity: 0b101.into(), cpu: 0 };
    let task = executor.task(&parameters);
    assert_eq!((task.name(), task.identity(), task.nice(), task.affinity()), ("it", 9, -5, 0b101.into()));
    assert_eq!(task.share.weight(), crate::policy::weight_of(-5));
    for (asked, nice) in [(100, 19), (-100, -20), (3, 3)] {
        task.set_nice(asked);
        assert_eq!((task.nice(), task.share.weight()), (nice, crate::policy::weight_of(nice)));
    }
    assert!(format!("{task:?}").contains("it 9"));
    task.attention().fetch_or(4, Ordering::Relaxed);
    assert_eq!(task.attention().load(Ordering::Relaxed), 4);
    // In a queue, its new weight counts there.
    executor.start(&task, core::future::pending());
    let other = executor.spawn(&Parameters::default(), core::future::pending());
    task.set_nice(-20);
    assert_eq!((task.share.weight(), other.share.weight()), (crate::policy::weight_of(-20), 1024));
}

#[test]
fn a_long_stretch_is_kept_by_activity_and_reported_from_the_limit_on() {
    let executor = Executor::new(1);
    let reports = Arc::new(Mutex::new(Vec::new()));
    let task = executor.task(&Parameters { identity: 3, ..Parameters::default() });
    let longest = |executor: &Executor| {
        let mut all = Vec::new();
        executor.longest_polls(|activity, nanoseconds| all.push((activity, nanoseconds)));
        all
    };
    task.clock().set_activity(5);
    executor.note(&task, 1);
    assert_eq!(longest(&executor), [(5, 1)]);
    let tell = reports.clone();
    executor.set_watchdog(Arc::new(move |task, time| tell.lock().unwrap().push((task.identity(), time))));
    assert_eq!(longest(&executor), [], "what was before is forgotten");
    executor.note(&task, WATCHDOG_LIMIT);
    assert_eq!(*reports.lock().unwrap(), []);
    executor.note(&task, WATCHDOG_LIMIT + 1);
    assert_eq!(*reports.lock().unwrap(), [(3, WATCHDOG_LIMIT + 1)]);
}

#[test]
fn reports_are_as_rare_as_they_should_be() {
    let executor = Executor::new(1);
    let reports = Arc::new(Mutex::new(Vec::new()));
    let tell = reports.clone();
    executor.set_watchdog(Arc::new(move |_, time| tell.lock().unwrap().push(time)));
    let task = executor.task(&Parameters::default());
    let after = |age: u64, nanoseconds: u64| {
        // Whether this long ago one of 100 ns was reported, one of so many is.
        *executor.watchdog.last_report.lock() = Report { time: time::now().saturating_sub(age), nanoseconds: 100 };
        reports.lock().unwrap().clear();
        executor.report(&task, nanoseconds);
        let last = executor.watchdog.last_report.lock().nanoseconds;
        let reported = !reports.lock().unwrap().is_empty();
        assert_eq!(last, if reported { nanoseconds } else { 100 });
        reported
    };
    // A machine that has just started has no time before that.
    while time::now() < REPORT_INTERVAL + 1 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!after(0, 100) && !after(0, 100 * FAR_LONGER - 1) && after(0, 100 * FAR_LONGER));
    assert!(after(REPORT_INTERVAL, 1));
}

#[test]
fn statistics_add_what_is_passing() {
    let executor = Executor::new(1);
    let times = &executor.cpus[0].times;
    for (counter, value) in [(&times.user, 1), (&times.system, 2), (&times.idle, 3), (&times.stolen, 4)] {
        counter.store(value, Ordering::Relaxed);
    }
    times.switches.store(5, Ordering::Relaxed);
    let statistics = executor.statistics();
    assert_eq!(statistics.cpus, [CpuTimes { user: 1, system: 2, idle: 3, stolen: 4 }]);
    assert_eq!((statistics.switches, statistics.running), (5, 0));
    let start = time::now();
    times.since.store(start, Ordering::Relaxed);
    while time::now() < start + 1_000_000 {}
    times.polling.store(true, Ordering::Relaxed);
    let statistics = executor.statistics();
    assert!(statistics.cpus[0].user > 1_000_000 && statistics.cpus[0].idle == 3 && statistics.running == 1);
    assert!(statistics.cpus[0].user <= 1 + time::now() - start);
    times.polling.store(false, Ordering::Relaxed);
    times.halted.store(true, Ordering::Relaxed);
    let statistics = executor.statistics();
    assert!(statistics.cpus[0].user == 1 && statistics.cpus[0].idle > 1_000_000 && statistics.running == 0);
    assert!(statistics.cpus[0].idle <= 3 + time::now() - start);
}

#[test]
fn a_poll_is_counted_where_its_time_went() {
    let executor = Executor::new(1);
    let task = executor.spawn(&Parameters::default(), async {
        let start = time::own().unwrap();
        while time::own().unwrap() < start + 5_000_000 {}
    });
    let ran = poll_one(&executor);
    let times = executor.statistics().cpus[0];
    assert!(ran.finished && ran.nanoseconds >= 5_000_000);
    assert_eq!((times.user, times.system), task.clock.so_far());
    assert!(times.system >= 4_000_000 && times.user == 0);
    assert_eq!(times.stolen, ran.nanoseconds.saturating_sub(times.system));
    assert_eq!(executor.statistics().switches, 1);
    let mut longest = 0;
    executor.longest_polls(|_, nanoseconds| longest = nanoseconds);
    assert!(longest >= 4_000_000, "{longest}");
}

/// How many count for a sample that is so much late: one CPU that polls since then, two that wait there.
fn sampled(late: u64, since: i64, polls: bool, just_polled: bool) -> u64 {
    let executor = Executor::new(2);
    let due = crate::load::INTERVAL;
    let here = &executor.cpus[1];
    here.waiting.store(2, Ordering::Relaxed);
    here.times.polling.store(polls, Ordering::Relaxed);
    here.times.since.store(due.wrapping_add_signed(since), Ordering::Relaxed);
    executor.sample_load(due + late, just_polled.then_some(here));
    let expected = |active| {
        let load = crate::load::LoadAverages::default();
        load.sample(due + late, |_| active);
        load.get()
    };
    (0..9).find(|&active| expected(active) == executor.load.get()).unwrap()
}

#[test]
fn a_late_sample_counts_only_what_was_at_work_when_it_was_due() {
    for (late, since, polls, just_polled, active) in [
        (0, -5, true, false, 3),
        (0, -5, false, true, 3),
        (0, -5, false, false, 2),
        (LATE_SAMPLE, 5, true, false, 3),
        (LATE_SAMPLE + 1, -5, true, false, 1),
        (LATE_SAMPLE + 1, 0, true, false, 1),
        (LATE_SAMPLE + 1, 1, true, false, 0),
        (LATE_SAMPLE + 1, -5, false, true, 1),
        (LATE_SAMPLE + 1, -5, false, false, 0),
    ] {
        assert_eq!(sampled(late, since, polls, just_polled), active, "{late} {since} {polls} {just_polled}");
    }
}

#[test]
fn an_alarm_ends_a_slice_that_is_over_if_somebody_waits() {
    for (waiting, slice_end, gives_way) in [(1, 0, true), (2, 1, true), (0, 0, false), (1, NEVER, false)] {
        let executor = Executor::new(1);
        let here = &executor.cpus[0];
        here.waiting.store(waiting, Ordering::Relaxed);
        here.slice_end.store(slice_end, Ordering::Relaxed);
        here.alarm.store(7, Ordering::Relaxed);
        executor.alarm();
        assert_eq!(executor.should_yield(), gives_way, "{waiting} {slice_end}");
        assert_eq!(here.slice_end.load(Ordering::Relaxed), if gives_way { NEVER } else { slice_end });
        assert_eq!(here.alarm.load(Ordering::Relaxed), NEVER, "it is to be set anew");
    }
}

#[test]
fn a_kick_and_an_alarm_measure_what_is_to_come() {
    let executor = Executor::new(1);
    let here = &executor.cpus[0];
    let alarm = || here.alarm.load(Ordering::Relaxed);
    let far = NEVER / 2;
    here.slice_end.store(far, Ordering::Relaxed);
    here.waiting.store(1, Ordering::Relaxed);
    executor.kicked();
    assert_eq!(alarm(), far);
    let timer = executor.timer(far - 1, Waker::noop().clone()).unwrap();
    assert_eq!((timer.deadline(), alarm()), (far - 1, far - 1));
    executor.alarm();
    assert_eq!(alarm(), far - 1, "the next timer");
    drop(timer);
    executor.alarm();
    assert_eq!(alarm(), far, "and then the slice");
}

#[test]
fn a_slice_begins_with_the_task_that_is_picked() {
    let executor = Executor::new(1);
    endless(&executor, &Parameters::default());
    let here = &executor.cpus[0];
    let (task, now) = executor.next(here, 0, None).unwrap();
    assert_eq!(here.slice_end.load(Ordering::Relaxed), now + crate::policy::Fair::default().slice().unwrap());
    let ran = executor.poll(here, task, now);
    let end = ran.end;
    let (_, now) = executor.next(here, 0, Some(ran)).unwrap();
    assert_eq!((now, here.slice_end.load(Ordering::Relaxed) > end), (end, true));
}

#[test]
fn a_stretch_that_begins_counts_from_then_on() {
    let executor = Executor::new(1);
    let start = time::own().unwrap();
    while time::own().unwrap() < start + 50_000_000 {}
    executor.begin_stretch(time::now() + NOTED);
    assert!(executor.cpus[0].reading.own_part(u64::MAX) < 50_000_000);
}
