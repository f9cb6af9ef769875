//! fork, exit, wait, groups, threads.

use std::sync::Arc;
use std::time::Duration;

use abi::Errno;
use abi::raw::general as raw;
use abi::signal::Signal;

use crate::stage::Step::*;
use crate::stage::{DATA, Stage, Step, Told, Value, until};
use crate::{ExitStatus, Role, call};

pub fn told(lines: &[(&str, i64)]) -> Told {
    lines.iter().map(|(text, number)| (text.to_string(), *number)).collect()
}

pub const fn error(errno: Errno) -> i64 {
    -(errno.number() as i64)
}

const STATUS: usize = DATA;

/// Waits for a child and shows its number and status.
pub fn collect(steps: &mut Vec<Step>, child: i32, options: u32) {
    steps.extend([
        call!(__NR_wait4, child, STATUS, options as usize, 0),
        Show("waited"),
        Read(Value::Number(STATUS), 0),
        Show("status"),
    ]);
}

#[test]
fn a_child_ends_and_is_collected_once() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("child"), Show("forked")];
    collect(&mut steps, -1, 0);
    steps.extend([
        call!(__NR_wait4, -1, 0, 0, 0),
        Show("again"),
        call!(__NR_exit_group, 7),
        Label("child"),
        call!(__NR_getppid),
        Show("parent"),
        call!(__NR_exit, 3),
    ]);
    let (status, mut lines) = stage.play(steps);
    assert_eq!(status, ExitStatus::Exited(7));
    lines.sort();
    let expected = [("again", error(Errno::ECHILD)), ("forked", 2), ("parent", 1), ("status", 0x300), ("waited", 2)];
    assert_eq!(lines, told(&expected));
}

#[test]
fn waiting_for_nobody_or_without_patience_returns_at_once() {
    let stage = Stage::new(&[]);
    let steps = vec![
        call!(__NR_fork),
        IfZero("child"),
        Keep(0),
        call!(__NR_wait4, -1, 0, raw::WNOHANG as usize, 0),
        Show("not yet"),
        call!(__NR_wait4, 77, 0, 0, 0),
        Show("no child"),
        call!(__NR_wait4, -5, 0, 0, 0),
        Show("no group"),
        call!(__NR_kill, Value::Kept(0), 9),
        call!(__NR_wait4, Value::Kept(0), STATUS, 0, 0),
        Show("killed"),
        Read(Value::Number(STATUS), 0),
        Show("status"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_pause),
    ];
    let (_, lines) = stage.play(steps);
    let no_child = error(Errno::ECHILD);
    let expected = [("not yet", 0), ("no child", no_child), ("no group", no_child), ("killed", 2), ("status", 9)];
    assert_eq!(lines, told(&expected));
}

#[test]
fn orphans_go_to_init_or_to_the_ancestor_that_asked_for_them() {
    for asks in [false, true] {
        let stage = Stage::new(&[]);
        let mut steps = vec![call!(__NR_fork), IfZero("middle")];
        if asks {
            collect(&mut steps, -1, 0);
        } else {
            collect(&mut steps, -1, 0);
            collect(&mut steps, -1, 0);
        }
        steps.extend([call!(__NR_exit_group, 0), Label("middle")]);
        if asks {
            steps.push(call!(__NR_prctl, raw_subreaper(), 1));
        }
        // 2 makes 3, 3 makes 4 and ends; 4 is an orphan.
        steps.extend([call!(__NR_fork), IfZero("inner")]);
        steps.push(call!(__NR_wait4, 3, 0, 0, 0));
        if asks {
            steps.extend([call!(__NR_wait4, -1, STATUS, 0, 0), Show("adopted")]);
        }
        steps.extend([
            call!(__NR_exit, 1),
            Label("inner"),
            call!(__NR_fork),
            IfZero("orphan"),
            call!(__NR_exit, 2),
            Label("orphan"),
            // Long enough for its parent to be gone.
            call!(__NR_nanosleep, 30_000_000),
            call!(__NR_getppid),
            Show("parent"),
            call!(__NR_exit, 4),
        ]);
        let (_, lines) = stage.play(steps);
        if asks {
            assert_eq!(lines, told(&[("parent", 2), ("adopted", 4), ("waited", 2), ("status", 0x100)]));
        } else {
            let expected = [("waited", 2), ("status", 0x100), ("parent", 1), ("waited", 4), ("status", 0x400)];
            assert_eq!(lines, told(&expected));
        }
    }
}

fn raw_subreaper() -> usize {
    abi::raw::prctl::PR_SET_CHILD_SUBREAPER as usize
}

#[test]
fn vfork_waits_until_the_child_has_left_the_memory() {
    let stage = Stage::new(&[]);
    let steps = vec![
        call!(__NR_vfork),
        IfZero("child"),
        Read(Value::Number(DATA + 64), 0),
        Show("what the child wrote"),
        call!(__NR_wait4, -1, 0, 0, 0),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_nanosleep, 20_000_000),
        Store(DATA + 64, vec![42]),
        call!(__NR_exit, 0),
    ];
    assert_eq!(stage.play(steps).1, told(&[("what the child wrote", 42)]));
}

#[test]
fn memory_is_copied_by_fork() {
    let stage = Stage::new(&[]);
    let steps = vec![
        Store(DATA + 64, vec![1]),
        call!(__NR_fork),
        IfZero("child"),
        call!(__NR_wait4, -1, 0, 0, 0),
        Read(Value::Number(DATA + 64), 0),
        Show("parent's"),
        call!(__NR_exit_group, 0),
        Label("child"),
        Store(DATA + 64, vec![2]),
        Read(Value::Number(DATA + 64), 0),
        Show("child's"),
        call!(__NR_exit, 0),
    ];
    assert_eq!(stage.play(steps).1, told(&[("child's", 2), ("parent's", 1)]));
}

#[test]
fn groups_and_sessions_follow_the_rules() {
    let stage = Stage::new(&[]);
    let steps = vec![
        call!(__NR_setsid),
        Show("init leads"),
        call!(__NR_setsid),
        Show("it leads already"),
        call!(__NR_setpgid, 0, 0),
        Show("a leader stays"),
        call!(__NR_fork),
        IfZero("child"),
        Keep(0),
        call!(__NR_setpgid, Value::Kept(0), 0),
        Show("child leads a group"),
        call!(__NR_getpgid, Value::Kept(0)),
        Show("its group"),
        call!(__NR_setpgid, 0, 1234),
        Show("no such group"),
        call!(__NR_setpgid, 99, 0),
        Show("no such process"),
        call!(__NR_kill, -2, 15),
        Show("to the group"),
        call!(__NR_wait4, -2, STATUS, 0, 0),
        Read(Value::Number(STATUS), 0),
        Show("status"),
        call!(__NR_kill, -2, 0),
        Show("group gone"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_pause),
    ];
    let (refused, gone) = (error(Errno::EPERM), error(Errno::ESRCH));
    let expected = [
        ("init leads", 1),
        ("it leads already", refused),
        ("a leader stays", refused),
        ("child leads a group", 0),
        ("its group", 2),
        ("no such group", refused),
        ("no such process", gone),
        ("to the group", 0),
        ("status", 15),
        ("group gone", gone),
    ];
    assert_eq!(stage.play(steps).1, told(&expected));
}

const THREAD: usize =
    (raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD) as usize;

#[test]
fn threads_share_a_process_and_end_with_it() {
    let stage = Stage::new(&[]);
    let steps = vec![
        call!(__NR_fork),
        IfZero("child"),
        call!(__NR_wait4, -1, STATUS, 0, 0),
        Show("waited"),
        Read(Value::Number(STATUS), 0),
        Show("status"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_clone, THREAD | raw::CLONE_CHILD_SETTID as usize, DATA + 0x8000, 0, DATA + 128, 0),
        IfZero("thread"),
        Show("made"),
        call!(__NR_pause),
        Label("thread"),
        call!(__NR_getpid),
        Show("process"),
        call!(__NR_gettid),
        Show("thread"),
        Read(Value::Number(DATA + 128), 0),
        Show("stored"),
        call!(__NR_nanosleep, 20_000_000),
        call!(__NR_exit_group, 5),
    ];
    let (_, mut lines) = stage.play(steps);
    lines.sort();
    let expected = [("made", 3), ("process", 2), ("status", 0x500), ("stored", 3), ("thread", 3), ("waited", 2)];
    assert_eq!(lines, told(&expected));
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let stage = Stage::new(&[]);
    let invalid = error(Errno::EINVAL);
    let flags = [
        raw::CLONE_THREAD,
        raw::CLONE_SIGHAND,
        raw::CLONE_NEWNS | raw::CLONE_FS,
        raw::CLONE_NEWPID,
        raw::CLONE_PARENT,
        raw::CLONE_PIDFD,
    ];
    let mut steps = Vec::new();
    for flags in flags {
        steps.extend([call!(__NR_clone, flags as usize | 17, 0, 0, 0, 0), Show("clone")]);
    }
    steps.push(call!(__NR_exit_group, 0));
    assert_eq!(stage.play(steps).1, told(&[("clone", invalid); 6]));
}

#[test]
fn three_hundred_children_at_once_and_nothing_is_left() {
    let stage = Stage::new(&[]);
    let steps = vec![
        Load(300.into()),
        Keep(0),
        Label("more"),
        call!(__NR_fork),
        IfZero("child"),
        Loop(0, "more"),
        Load(300.into()),
        Keep(0),
        Label("wait"),
        call!(__NR_wait4, -1, 0, 0, 0),
        Loop(0, "wait"),
        call!(__NR_wait4, -1, 0, 0, 0),
        Show("all"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_sched_yield),
        call!(__NR_exit, 0),
    ];
    let (_, lines) = stage.play(steps);
    assert_eq!(lines, told(&[("all", error(Errno::ECHILD))]));
    assert_eq!(stage.kernel.processes().count(), 1, "init alone, a zombie");
    assert_eq!(stage.kernel.processes().forks(), 301);
}

#[test]
fn numbers_are_not_reused_at_once() {
    let stage = Stage::new(&[]);
    let mut steps = Vec::new();
    for _ in 0..3 {
        steps.extend([call!(__NR_fork), IfZero("child"), Show("forked"), call!(__NR_wait4, -1, 0, 0, 0)]);
    }
    steps.extend([call!(__NR_exit_group, 0), Label("child"), call!(__NR_exit, 0)]);
    assert_eq!(stage.play(steps).1, told(&[("forked", 2), ("forked", 3), ("forked", 4)]));
}

#[test]
fn a_first_process_that_is_an_ordinary_program_dies_of_signals() {
    let program = || Role::Program { terminal: None };
    let kill_itself = |signal: u32| vec![call!(__NR_kill, 1, signal as usize), Spin];
    let (status, _) = Stage::new(&[]).play_as(program(), kill_itself(raw::SIGTERM));
    assert_eq!(status, ExitStatus::Killed(abi::signal::Signal::TERM));
    let steps =
        vec![call!(__NR_kill, 1, raw::SIGTERM as usize), Show("init is told nothing"), call!(__NR_exit_group, 4)];
    let (status, lines) = Stage::new(&[]).play(steps);
    assert_eq!((status, lines), (ExitStatus::Exited(4), told(&[("init is told nothing", 0)])));
}

#[test]
fn a_first_process_that_is_an_ordinary_program_leads_a_session_and_its_jobs_can_be_stopped() {
    let stage = Stage::new(&[]);
    let mut steps = vec![
        call!(__NR_getpgid, 0),
        Show("group"),
        call!(__NR_setsid),
        Show("leads one"),
        call!(__NR_fork),
        IfZero("job"),
        call!(__NR_setpgid, 2, 2),
    ];
    // With an init for a parent the group would be orphaned, and SIGTSTP would do nothing.
    collect(&mut steps, 2, raw::WUNTRACED);
    steps.extend([
        call!(__NR_clone, raw::CLONE_PARENT as usize, 0, 0, 0, 0),
        Show("no sibling"),
        call!(__NR_exit_group, 0),
        Label("job"),
        call!(__NR_setpgid, 0, 0),
        call!(__NR_kill, 0, raw::SIGTSTP as usize),
        Spin,
    ]);
    let (_, lines) = stage.play_as(Role::Program { terminal: None }, steps);
    let stopped = i64::from(raw::SIGTSTP) << 8 | 0x7f;
    let expected = [
        ("group", 1),
        ("leads one", error(Errno::EPERM)),
        ("waited", 2),
        ("status", stopped),
        ("no sibling", error(Errno::EINVAL)),
    ];
    assert_eq!(lines, told(&expected));
}

/// clone(2): a process has descriptors of its own unless it asks to share them.
#[test]
fn descriptors_are_shared_on_demand_only() {
    for (flags, shared) in [(0, false), (raw::CLONE_FILES, true)] {
        let stage = Stage::new(&[]);
        let flags = (flags | raw::SIGCHLD) as usize;
        let steps = vec![
            call!(__NR_clone, flags, 0, 0, 0, 0),
            IfZero("child"),
            call!(__NR_wait4, -1, 0, 0, 0),
            call!(__NR_exit_group, 0),
            Label("child"),
            Say("alive"),
            call!(__NR_pause),
        ];
        let told = stage.start_as(Role::Init, steps);
        until(|| !told.lock().unwrap().is_empty());
        let [parent, child] = [1, 2].map(|pid| stage.kernel.processes().next(crate::Pid::new(pid)).unwrap());
        assert_eq!(Arc::ptr_eq(&parent.files(), &child.files()), shared);
        crate::signal::send::post(&child, crate::signal::Information::kernel(Signal::KILL)).unwrap();
    }
}

/// What a thread used is what it computed and what the kernel did for it.
#[test]
fn a_thread_s_time_is_that_in_user_mode_and_in_the_kernel() {
    let stage = Stage::new(&[]);
    let steps = vec![
        Load(2000.into()),
        Keep(0),
        Label("again"),
        call!(__NR_getpid),
        Loop(0, "again"),
        Say("done"),
        Label("wait"),
        call!(__NR_pause),
        Jump("wait"),
    ];
    let told = stage.start_as(Role::Init, steps);
    until(|| !told.lock().unwrap().is_empty());
    let thread = stage.kernel.processes().next(crate::Pid::new(1)).unwrap().first_thread().unwrap();
    // It sleeps soon, and uses nothing then.
    until(|| {
        let before = thread.usage();
        std::thread::sleep(Duration::from_millis(20));
        let after = thread.usage();
        (before.user, before.system) == (after.user, after.system)
    });
    let usage = thread.usage();
    assert!(usage.user > 0 && usage.system > 0);
    assert_eq!(thread.cpu_time(), usage.user + usage.system);
}

/// While a signal is on its way through a group nobody forks there, so that it passes over nobody; threads are made as before.
#[test]
fn nobody_forks_while_a_signal_is_on_its_way() {
    let stage = Stage::new(&[]);
    let thread = raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD;
    let steps = vec![
        call!(__NR_clone, thread as usize, DATA + 0x8000, 0, 0, 0),
        IfZero("thread"),
        call!(__NR_fork),
        IfZero("child"),
        Say("forked"),
        call!(__NR_exit_group, 0),
        Label("thread"),
        Say("thread"),
        call!(__NR_pause),
        Label("child"),
        call!(__NR_exit, 0),
    ];
    stage.kernel.processes().begin_signalling(None);
    let lines = stage.start_as(Role::Init, steps);
    until(|| !lines.lock().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(*lines.lock().unwrap(), told(&[("thread", 0)]));
    stage.kernel.processes().end_signalling(None);
    until(|| lines.lock().unwrap().len() == 2);
    // Nothing is left of the children that were not to be: each process has a reference, and so have the kernel and this test.
    let namespaces = stage.kernel.namespaces().clone();
    until(|| Arc::strong_count(&namespaces) <= 4);
}

/// What was never taken is forgotten when its process ends, though nobody has collected that: it counts for its user no more.
#[test]
fn a_zombie_has_no_signals_queued() {
    let stage = Stage::new(&[]);
    let signal = 40;
    let mask = DATA + 64;
    let mut steps = vec![
        Store(mask, (1_u64 << (signal - 1)).to_le_bytes().to_vec()),
        call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, mask, 0, 8),
        call!(__NR_fork),
        IfZero("child"),
        Label("wait"),
        call!(__NR_pause),
        Jump("wait"),
        Label("child"),
    ];
    steps.extend([call!(__NR_kill, 2, signal), call!(__NR_kill, 2, signal), Say("queued"), call!(__NR_pause)]);
    let told = stage.start_as(Role::Init, steps);
    until(|| !told.lock().unwrap().is_empty());
    let child = stage.kernel.processes().next(crate::Pid::new(2)).unwrap();
    let counts = child.credentials().counts().clone();
    assert_eq!(counts.signals(), 2);
    crate::signal::send::post(&child, crate::signal::Information::kernel(Signal::KILL)).unwrap();
    until(|| child.is_zombie());
    assert_eq!(counts.signals(), 0);
}
