//! Signals to very many: some are told at once, the others by the kernel's task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use abi::raw::general as raw;
use abi::signal::Signal;
use tty::{JobControl, TerminalSignal};

use crate::signal::deferred::AT_ONCE;
use crate::signal::{Information, Report, send};
use crate::stage::Step::*;
use crate::stage::{Stage, Step, Value, until};
use crate::thread::RunState;
use crate::{Kernel, Pid, Process, Role, call};

const MANY: usize = 2 * AT_ONCE + 100;

const THREAD: u32 = raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD;

/// The kernel's task, which does something only when the test lets it.
struct Delivery(Pin<Box<dyn Future<Output = ()>>>);

impl Delivery {
    fn of(kernel: &Arc<Kernel>) -> Delivery {
        let mut delivery = Delivery(Box::pin(Kernel::deliver_deferred(Arc::downgrade(kernel))));
        delivery.turn();
        delivery
    }

    fn turn(&mut self) {
        assert!(self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    fn until(&mut self, happened: impl Fn() -> bool) {
        for _ in 0..100_000 {
            if happened() {
                return;
            }
            self.turn();
            std::thread::yield_now();
        }
        panic!("it never happens");
    }
}

fn members(kernel: &Kernel, group: Pid) -> Vec<Arc<Process>> {
    let group = kernel.processes().group(group).unwrap();
    let next = |from: Pid| group.next_member(from);
    core::iter::successors(next(Pid::new(1)), |member| next(member.pid().next())).collect()
}

/// A signal of a terminal reaches everybody who was in the group; none of them forks or leaves it before, and no later signal is there
/// first.
#[test]
fn a_signal_to_a_large_group_goes_on_by_itself() {
    let stage = Stage::new(&[]);
    let kernel = &stage.kernel;
    let steps = vec![
        call!(__NR_fork),
        IfZero("child"),
        Keep(1),
        call!(__NR_setpgid, Value::Kept(1), 0),
        Load((MANY - 1).into()),
        Keep(0),
        Label("more"),
        call!(__NR_fork),
        IfZero("child"),
        Keep(2),
        call!(__NR_setpgid, Value::Kept(2), Value::Kept(1)),
        Loop(0, "more"),
        Load(Value::Kept(1)),
        Show("group"),
        call!(__NR_setpgid, Value::Kept(2), 0),
        Label("wait"),
        call!(__NR_pause),
        Jump("wait"),
        Label("child"),
        call!(__NR_pause),
        Jump("child"),
    ];
    let told = stage.start_as(Role::Init, steps);
    let mut delivery = Delivery::of(kernel);
    until(|| !told.lock().unwrap().is_empty());
    let group = told.lock().unwrap()[0].1;
    let group = Pid::new(group as u32);
    let last = || kernel.processes().process(kernel.processes().last_pid());
    until(|| last().is_some_and(|last| last.group_id() == last.pid()));
    let all = members(kernel, group);
    assert_eq!(all.len(), MANY - 1, "one has left it");
    let dying = || all.iter().filter(|process| process.exit_status().is_some()).count();
    kernel.signal_group(group, TerminalSignal::WindowChange);
    kernel.signal_group(group, TerminalSignal::Interrupt);
    kernel.signal_group(group, TerminalSignal::Hangup);
    kernel.signal_group(group, TerminalSignal::Interrupt);
    assert_eq!(dying(), 0, "the first is on its way still");
    assert!(kernel.processes().group(group).unwrap().lock().are_signalled());
    delivery.until(|| !kernel.deferred().concerns(group));
    assert_eq!(dying(), MANY - 1);
    let hung_up = all.iter().filter(|process| process.end() == crate::ExitStatus::Killed(Signal::HUP));
    assert_eq!(hung_up.count(), MANY - 1, "the later interrupt stands for both");
    assert!(kernel.processes().group(group).is_none_or(|group| !group.lock().are_signalled()));
    assert!(last().is_some_and(|last| last.exit_status().is_none()));
}

/// Makes so many threads more, which all wait for signals, as it does itself; says "ready" when they are there.
fn threads(count: usize) -> Vec<Step> {
    vec![
        Load(count.into()),
        Keep(0),
        Label("more"),
        call!(__NR_clone, THREAD as usize, 0, 0, 0, 0),
        IfZero("thread"),
        Loop(0, "more"),
        Say("ready"),
        Label("thread"),
        call!(__NR_pause),
        Jump("thread"),
    ]
}

/// Threads of a large process park and go on, whoever of them is told first.
#[test]
fn a_large_process_is_stopped_and_continued_in_slices() {
    let stage = Stage::new(&[]);
    let kernel = &stage.kernel;
    let steps = vec![call!(__NR_fork), IfZero("child"), Label("init"), call!(__NR_pause), Jump("init"), Label("child")];
    let steps = [steps, threads(MANY - 1)].concat();
    let told = stage.start_as(Role::Init, steps);
    let mut delivery = Delivery::of(kernel);
    until(|| !told.lock().unwrap().is_empty());
    let process = kernel.processes().process(Pid::new(2)).unwrap();
    let count = |state: RunState| {
        let mut count = 0;
        process.each_thread(|thread| count += usize::from(thread.run_state() == state));
        count
    };
    let post = |signal| send::post(&process, Information::kernel(signal)).unwrap();
    let is_reported = || matches!(process.report(), Some(Report::Stopped(Signal::STOP)));
    until(|| count(RunState::Sleeping) == MANY);
    for _ in 0..2 {
        post(Signal::STOP);
        until(|| count(RunState::Stopped) == AT_ONCE);
        assert!(!is_reported(), "some have not parked yet");
        delivery.until(is_reported);
        assert_eq!(count(RunState::Stopped), MANY);
        post(Signal::CONT);
        until(|| count(RunState::Stopped) == MANY - AT_ONCE);
        // It is stopped again in the middle.
        post(Signal::STOP);
        until(|| count(RunState::Stopped) == MANY);
        post(Signal::CONT);
        delivery.until(|| count(RunState::Sleeping) == MANY);
    }
    post(Signal::STOP);
    delivery.until(|| count(RunState::Stopped) == MANY);
    post(Signal::KILL);
    until(|| process.is_zombie());
}

/// Threads leave from anywhere in the list; who is left keeps its order, and the oldest is found.
#[test]
fn the_list_of_threads_closes_up_behind_those_who_leave() {
    let stage = Stage::new(&[]);
    let steps = threads(99);
    let told = stage.start_as(Role::Init, steps);
    until(|| !told.lock().unwrap().is_empty());
    let process = stage.kernel.processes().process(Pid::new(1)).unwrap();
    let all = || {
        let mut all = Vec::new();
        process.each_thread(|thread| all.push(thread.clone()));
        all
    };
    let mut expected = all();
    assert_eq!(expected.len(), 100);
    // In an order that meets all parts of the list: 37 has no factor in common with 100.
    for step in 0..99 {
        let place = 37 * step % expected.len();
        let gone = expected.remove(place);
        assert!(!process.remove_thread(&gone));
        let left = all();
        assert!(left.iter().zip(&expected).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert_eq!((left.len(), process.thread_count()), (expected.len(), expected.len()));
        assert!(Arc::ptr_eq(&process.first_thread().unwrap(), &expected[0]));
        assert!(!process.remove_thread(&gone), "it is not there any more");
    }
    assert!(process.remove_thread(&expected[0]));
}
