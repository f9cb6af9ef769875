//! Who may signal whom, what one thread's change of user is to others, and what a thread that ends leaves behind.

use abi::Errno;
use abi::raw::general as raw;

use super::families::{collect, error, told};
use crate::stage::Step::*;
use crate::stage::{DATA, Stage, Step, Value, action_bytes, address};
use crate::{Role, call};

const ACTION: usize = DATA + 256;
const MASK: usize = DATA + 320;
/// A stack for a thread, which the player hardly uses.
const STACK: usize = DATA + 3072;

/// The flags of a thread as pthread_create(3) makes it.
const THREAD: u32 =
    raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD | raw::CLONE_SYSVSEM;

fn mask(signal: u32) -> Vec<u8> {
    (1_u64 << (signal - 1)).to_le_bytes().to_vec()
}

/// A process that sends signals to its parent, which is another user's, and ends.
fn sender(before: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![call!(__NR_fork), IfZero("child")];
    collect(&mut steps, -1, 0);
    steps.extend([call!(__NR_exit_group, 0), Label("child")]);
    steps.extend(before);
    steps.extend([
        call!(__NR_setuid, 1000),
        call!(__NR_kill, 1, raw::SIGCONT as usize),
        Show("SIGCONT"),
        call!(__NR_tgkill, 1, 1, raw::SIGCONT as usize),
        Show("SIGCONT to a thread"),
        call!(__NR_kill, 1, raw::SIGURG as usize),
        Show("another signal"),
        call!(__NR_kill, 1, 0),
        Show("none"),
        call!(__NR_exit_group, 0),
    ]);
    steps
}

#[test]
fn within_a_session_anybody_may_continue_anybody() {
    let refused = error(Errno::EPERM);
    let lines = Stage::new(&[]).play(sender(vec![])).1;
    let signals = [("SIGCONT", 0), ("SIGCONT to a thread", 0), ("another signal", refused), ("none", refused)];
    assert_eq!(lines.get(..4), told(&signals).get(..4));
    let lines = Stage::new(&[]).play(sender(vec![call!(__NR_setsid)])).1;
    let signals =
        [("SIGCONT", refused), ("SIGCONT to a thread", refused), ("another signal", refused), ("none", refused)];
    assert_eq!(lines.get(..4), told(&signals).get(..4));
}

/// kill(2) of many is content with those it may signal. Of a group in which it may signal nobody it says so; of all processes
/// it does not, as long as there are some.
#[test]
fn one_of_many_is_enough() {
    let mut steps = vec![call!(__NR_fork), IfZero("root's")];
    steps.extend([call!(__NR_setpgid, 2, 0), call!(__NR_fork), IfZero("sender")]);
    collect(&mut steps, 3, 0);
    steps.extend([
        call!(__NR_kill, 2, 9),
        call!(__NR_wait4, -1, 0, 0, 0),
        call!(__NR_exit_group, 0),
        Label("root's"),
        call!(__NR_pause),
        Label("sender"),
        call!(__NR_setuid, 1000),
        call!(__NR_kill, -2, 0),
        Show("a group of root's"),
        call!(__NR_kill, 0, 0),
        Show("a group with oneself"),
        call!(__NR_kill, -77, 0),
        Show("no group"),
        call!(__NR_kill, -1, 0),
        Show("all"),
        call!(__NR_exit_group, 5),
    ]);
    let expected = [
        ("a group of root's", error(Errno::EPERM)),
        ("a group with oneself", 0),
        ("no group", error(Errno::ESRCH)),
        ("all", 0),
        ("waited", 3),
        ("status", 0x500),
    ];
    assert_eq!(Stage::new(&[]).play(steps).1, told(&expected));
}

#[test]
fn a_thread_changes_its_own_user_only() {
    let steps = vec![
        call!(__NR_clone, THREAD as usize, STACK, 0, 0, 0),
        IfZero("thread"),
        // The thread says when it is done by ending the sleep of the leader.
        call!(__NR_pause),
        Label("thread"),
        call!(__NR_setuid, 1000),
        Show("setuid"),
        call!(__NR_getuid),
        Show("the thread"),
        call!(__NR_setuid, 0),
        Show("and back"),
        call!(__NR_fork),
        IfZero("child"),
        call!(__NR_wait4, -1, 0, 0, 0),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_getuid),
        Show("its child"),
        // The leader is root's still, and with it the process.
        call!(__NR_kill, 1, raw::SIGUSR1 as usize),
        Show("the process"),
        call!(__NR_tgkill, 1, 2, 0),
        Show("its thread"),
        call!(__NR_exit_group, 0),
    ];
    let refused = error(Errno::EPERM);
    let expected = [
        ("setuid", 0),
        ("the thread", 1000),
        ("and back", refused),
        ("its child", 1000),
        ("the process", refused),
        ("its thread", 0),
    ];
    assert_eq!(Stage::new(&[]).play(steps).1, told(&expected));
}

#[test]
fn init_survives_a_fatal_signal_that_it_unblocks() {
    let steps = vec![
        Store(MASK, mask(raw::SIGTERM)),
        call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK, 0, 8),
        call!(__NR_kill, 1, raw::SIGTERM as usize),
        call!(__NR_rt_sigprocmask, raw::SIG_UNBLOCK as usize, MASK, 0, 8),
        call!(__NR_getpid),
        Show("it lives"),
        call!(__NR_exit_group, 0),
    ];
    assert_eq!(Stage::new(&[]).play(steps.clone()).1, told(&[("it lives", 1)]));
    assert_eq!(Stage::new(&[]).play_as(Role::Program { terminal: None }, steps).1, told(&[]));
}

/// Direction, trap and resume.
const NOT_FOR_HANDLERS: usize = 0x400 | 0x100 | 0x1_0000;

#[test]
fn a_handler_starts_without_some_flags_and_they_come_back() {
    let flags = 0x202 | NOT_FOR_HANDLERS | 0x1;
    let mut steps = vec![
        Say("placeholder"),
        call!(__NR_rt_sigaction, raw::SIGUSR1 as usize, ACTION, 0, 8),
        Flags(flags),
        call!(__NR_kill, 1, raw::SIGUSR1 as usize),
        Load(Value::Flags),
        Show("afterwards"),
        Flags(0x202),
        call!(__NR_exit_group, 0),
        Label("handler"),
        Load(Value::Flags),
        Show("in the handler"),
        Return,
        Label("restorer"),
        call!(__NR_rt_sigreturn),
    ];
    let (handler, restorer) = (address(&steps, "handler"), address(&steps, "restorer"));
    steps[0] = Store(ACTION, action_bytes(handler, abi::signal::action_flags::RESTORER, restorer));
    let lines = Stage::new(&[]).play(steps).1;
    let value = |name: &str| lines.iter().find(|line| line.0 == name).unwrap().1 as usize;
    assert_eq!(value("in the handler") & (NOT_FOR_HANDLERS | 1), 1);
    assert_eq!(value("afterwards") & 0x401, 0x401);
}

/// Robust futexes of a thread that ends: those that are its own are marked, and keep the bit of those who wait.
#[test]
fn a_thread_that_ends_marks_its_robust_futexes() {
    const HEAD: usize = DATA + 512;
    let entry = |index: usize| DATA + 576 + 32 * index;
    let number = |value: usize| value.to_le_bytes().to_vec();
    /// Where the word lies in an entry.
    const OFFSET: usize = 16;
    let words = [2, 2 | raw::FUTEX_WAITERS, 3, 0];
    let mut steps = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let next = if index + 1 < words.len() { entry(index + 1) } else { HEAD };
        steps.push(Store(entry(index), number(next)));
        steps.push(Store(entry(index) + OFFSET, word.to_le_bytes().to_vec()));
    }
    steps.extend([
        Store(HEAD, number(entry(0))),
        Store(HEAD + 8, number(OFFSET)),
        Store(HEAD + 16, number(0)),
        call!(__NR_clone, THREAD as usize, STACK, 0, 0, 0),
        IfZero("thread"),
        Label("again"),
        call!(__NR_nanosleep, 1_000_000),
        // No thread is left of that number once all is done.
        call!(__NR_tgkill, 1, 2, 0),
        IfZero("again"),
    ]);
    for index in 0..words.len() {
        steps.extend([Read(entry(index).into(), OFFSET), Show("word")]);
    }
    steps.extend([
        call!(__NR_exit_group, 0),
        Label("thread"),
        call!(__NR_set_robust_list, HEAD, 24),
        call!(__NR_exit, 0),
    ]);
    let dead = i64::from(raw::FUTEX_OWNER_DIED);
    let expected = [dead, dead | i64::from(raw::FUTEX_WAITERS), 3, 0].map(|word| ("word", word));
    assert_eq!(Stage::new(&[]).play(steps).1, told(&expected));
}

/// What was being locked or unlocked when the thread ended is looked at last, whether it is in the list or not; and the lowest
/// bit of a pointer, which tells of another kind of futex, is no part of the address.
#[test]
fn what_was_being_locked_is_released_too() {
    const HEAD: usize = DATA + 512;
    const OFFSET: usize = 16;
    let entry = |index: usize| DATA + 576 + 32 * index;
    let number = |value: usize| value.to_le_bytes().to_vec();
    let (dead, waiters) = (raw::FUTEX_OWNER_DIED, raw::FUTEX_WAITERS);
    // The words of an entry in the list and of one that is pending, and what becomes of them: the thread is 2.
    for (in_list, pending, listed, expected) in [
        (2, 2, false, (dead, dead)),
        (2 | waiters, 2 | waiters, false, (dead | waiters, dead | waiters)),
        (2, 3, false, (dead, 3)),
        (3 | waiters, 0, false, (3 | waiters, 0)),
        (2, waiters, false, (dead, waiters)),
        (2, 2, true, (dead, dead)),
    ] {
        let mark = 1;
        let steps = vec![
            Store(HEAD, number(entry(0) | mark)),
            Store(HEAD + 8, number(OFFSET)),
            Store(HEAD + 16, number(entry(1) | mark)),
            Store(entry(0), number(if listed { entry(1) | mark } else { HEAD })),
            Store(entry(1), number(HEAD)),
            Store(entry(0) + OFFSET, u32::to_le_bytes(in_list).to_vec()),
            Store(entry(1) + OFFSET, u32::to_le_bytes(pending).to_vec()),
            call!(__NR_clone, THREAD as usize, STACK, 0, 0, 0),
            IfZero("thread"),
            Label("again"),
            call!(__NR_nanosleep, 1_000_000),
            call!(__NR_tgkill, 1, 2, 0),
            IfZero("again"),
            Read(entry(0).into(), OFFSET),
            Show("in the list"),
            Read(entry(1).into(), OFFSET),
            Show("pending"),
            call!(__NR_exit_group, 0),
            Label("thread"),
            call!(__NR_set_robust_list, HEAD, 24),
            call!(__NR_exit, 0),
        ];
        let lines = [("in the list", i64::from(expected.0)), ("pending", i64::from(expected.1))];
        assert_eq!(Stage::new(&[]).play(steps).1, told(&lines), "{in_list:#x} {pending:#x} {listed}");
    }
}

/// A list that leads in a circle, or out of memory, ends the walk and nothing else.
#[test]
fn a_damaged_list_harms_nobody() {
    const HEAD: usize = DATA + 512;
    for first in [DATA + 576, 0x7000_0000, DATA + 577 + 1] {
        let number = |value: usize| value.to_le_bytes().to_vec();
        let steps = vec![
            Store(HEAD, number(first)),
            Store(HEAD + 8, number(16)),
            Store(DATA + 576, number(DATA + 576)),
            Store(DATA + 592, number(2)),
            call!(__NR_clone, THREAD as usize, STACK, 0, 0, 0),
            IfZero("thread"),
            Label("again"),
            call!(__NR_nanosleep, 1_000_000),
            call!(__NR_tgkill, 1, 2, 0),
            IfZero("again"),
            Show("over"),
            call!(__NR_exit_group, 0),
            Label("thread"),
            call!(__NR_set_robust_list, HEAD, 24),
            call!(__NR_exit, 0),
        ];
        assert_eq!(Stage::new(&[]).play(steps).1, told(&[("over", error(Errno::ESRCH))]), "{first:#x}");
    }
}

/// Who waits for a futex that was unlocked just before its owner died is woken in the owner's place; and so is who waits for one
/// that the owner still held.
#[test]
fn who_waits_for_a_robust_futex_is_woken() {
    const HEAD: usize = DATA + 512;
    const ENTRY: usize = DATA + 576;
    const OTHER: usize = DATA + 640;
    let number = |value: usize| value.to_le_bytes().to_vec();
    for word in [0, raw::FUTEX_WAITERS, raw::FUTEX_OWNER_DIED, 2 | raw::FUTEX_WAITERS] {
        let steps = vec![
            Store(HEAD, [number(HEAD), number(16), number(ENTRY)].concat()),
            Store(ENTRY + 16, word.to_le_bytes().to_vec()),
            call!(__NR_clone, THREAD as usize, STACK, 0, 0, 0),
            IfZero("thread"),
            call!(__NR_futex, OTHER, raw::FUTEX_WAIT as usize, 0, 0, 0),
            Show("woken"),
            call!(__NR_exit_group, 0),
            Label("thread"),
            call!(__NR_set_robust_list, HEAD, 24),
            // Once the other is seen to wait, it waits for the word that this thread leaves.
            Label("again"),
            call!(__NR_sched_yield),
            call!(__NR_futex, OTHER, raw::FUTEX_REQUEUE as usize, 0, 1, ENTRY + 16),
            IfZero("again"),
            call!(__NR_exit, 0),
        ];
        assert_eq!(Stage::new(&[]).play(steps).1, told(&[("woken", 0)]), "{word:#x}");
    }
}
