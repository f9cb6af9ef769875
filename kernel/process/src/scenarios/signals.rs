//! Signals: handlers, masks, stops, faults, timers.

use abi::Errno;
use abi::arch::SignalFrame;
use abi::raw::general as raw;
use abi::signal::{Signal, SignalSet, SignalStack, action_flags};
use zerocopy::{FromZeros, IntoBytes};

use super::families::{collect, error, told};
use crate::stage::Step::*;
use crate::stage::{DATA, Stage, Step, Value, action_bytes, address, until};
use crate::{ExitStatus, call};

const ACTION: usize = DATA + 256;
const MASK: usize = DATA + 320;
const PAGE: usize = 0x7000_0000;
/// Where programs put a `stack_t`, and the memory it stands for.
const STACK: usize = DATA + 384;
const STACK_BASE: usize = DATA + 0x8000;

/// Sets a handler, with the steps of the way back.
fn with_handler(signal: i32, flags: u64, mut body: Vec<Step>, handler: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![Say("placeholder"), call!(__NR_rt_sigaction, signal, ACTION, 0, 8)];
    steps.append(&mut body);
    steps.push(Label("handler"));
    steps.extend(handler);
    steps.extend([Return, Label("restorer"), call!(__NR_rt_sigreturn)]);
    let (handler, restorer) = (address(&steps, "handler"), address(&steps, "restorer"));
    steps[0] = Store(ACTION, action_bytes(handler, flags | action_flags::RESTORER, restorer));
    steps
}

fn mask(signals: &[u32]) -> Vec<u8> {
    signals.iter().fold(0_u64, |set, signal| set | 1 << (signal - 1)).to_le_bytes().to_vec()
}

#[test]
fn a_handler_runs_and_the_program_goes_on_as_before() {
    let stage = Stage::new(&[]);
    let body = vec![
        Load(1234.into()),
        Keep(1),
        call!(__NR_kill, 1, raw::SIGUSR1 as usize),
        Show("kill returns"),
        Load(Value::Kept(1)),
        Show("kept"),
        call!(__NR_rt_sigprocmask, 0, 0, 0, 8),
        Show("mask after"),
        call!(__NR_exit_group, 0),
    ];
    let handler = vec![
        Read(Value::Rsi, 16),
        Show("sender and user"),
        Read(Value::Rdx, core::mem::offset_of!(abi::arch::UserContext, mask)),
        Show("mask before"),
        call!(__NR_rt_sigprocmask, 0, 0, 0, 8),
        Show("mask in handler"),
    ];
    let steps = with_handler(raw::SIGUSR1 as i32, action_flags::SIGINFO, body, handler);
    let expected = [
        ("sender and user", 1),
        ("mask before", 0),
        ("mask in handler", 1 << 9),
        ("kill returns", 0),
        ("kept", 1234),
        ("mask after", 0),
    ];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn frames_lie_as_the_abi_says() {
    let stage = Stage::new(&[]);
    let body = vec![call!(__NR_kill, 1, raw::SIGUSR1 as usize), call!(__NR_exit_group, 0)];
    let state_at = core::mem::offset_of!(SignalFrame, context.registers.extended_state);
    let handler = vec![
        Load(Value::Rsp),
        Keep(2),
        Show("pointer"),
        Load(Value::Rsi),
        Show("information"),
        Read(Value::Kept(2), state_at),
        Keep(1),
        Show("state"),
        Read(Value::Kept(1), abi::arch::ExtendedStateMark::OFFSET),
        Show("mark"),
    ];
    let steps = with_handler(raw::SIGUSR1 as i32, action_flags::SIGINFO, body, handler);
    let lines = stage.play(steps).1;
    let value = |name: &str| lines.iter().find(|line| line.0 == name).unwrap().1 as usize;
    assert_eq!((value("pointer") + 8) % 16, 0);
    assert_eq!(value("information") - value("pointer"), 8 + 304);
    assert_eq!(value("state") % 64, 0);
    assert_eq!(value("mark") as u32, abi::arch::ExtendedStateMark::MAGIC);
}

#[test]
fn an_interrupted_call_fails_or_starts_again() {
    for (flags, result) in [(0, error(Errno::EINTR)), (action_flags::RESTART, 2)] {
        let stage = Stage::new(&[]);
        let body = vec![
            call!(__NR_fork),
            IfZero("child"),
            call!(__NR_wait4, -1, 0, 0, 0),
            Show("wait4"),
            call!(__NR_exit_group, 0),
            Label("child"),
            call!(__NR_nanosleep, 20_000_000),
            call!(__NR_kill, 1, raw::SIGUSR1 as usize),
            call!(__NR_nanosleep, 20_000_000),
            call!(__NR_exit, 0),
        ];
        let steps = with_handler(raw::SIGUSR1 as i32, flags, body, vec![Say("handled")]);
        assert_eq!(stage.play(steps).1, told(&[("handled", 0), ("wait4", result)]));
    }
}

#[test]
fn a_blocked_signal_waits_and_pause_ends_after_a_handler_only() {
    let stage = Stage::new(&[]);
    let body = vec![
        Store(MASK, mask(&[raw::SIGUSR1])),
        call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK, 0, 8),
        call!(__NR_kill, 1, raw::SIGUSR1 as usize),
        Say("still blocked"),
        Store(MASK, mask(&[])),
        call!(__NR_rt_sigsuspend, MASK, 8),
        Show("sigsuspend"),
        call!(__NR_rt_sigprocmask, 0, 0, 0, 8),
        Show("mask after"),
        call!(__NR_exit_group, 0),
    ];
    let steps = with_handler(raw::SIGUSR1 as i32, 0, body, vec![Say("handled")]);
    let expected = [("still blocked", 0), ("handled", 0), ("sigsuspend", error(Errno::EINTR)), ("mask after", 1 << 9)];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn a_waiter_takes_a_blocked_signal_without_a_handler() {
    let stage = Stage::new(&[]);
    let steps = vec![
        Store(MASK, mask(&[raw::SIGUSR2, raw::SIGCHLD])),
        call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK, 0, 8),
        call!(__NR_rt_sigtimedwait, MASK, 0, 5_000_000, 8),
        Show("nothing comes"),
        call!(__NR_fork),
        IfZero("child"),
        call!(__NR_rt_sigtimedwait, MASK, 0, 0, 8),
        Show("taken"),
        call!(__NR_rt_sigtimedwait, MASK, 0, 0, 8),
        Show("and the child's end"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_nanosleep, 10_000_000),
        call!(__NR_kill, 1, raw::SIGUSR2 as usize),
        call!(__NR_nanosleep, 10_000_000),
        call!(__NR_exit, 0),
    ];
    let expected = [("nothing comes", error(Errno::EAGAIN)), ("taken", 12), ("and the child's end", 17)];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn a_child_is_stopped_continued_and_killed() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("child"), call!(__NR_kill, 2, raw::SIGSTOP as usize)];
    collect(&mut steps, 2, raw::WUNTRACED);
    steps.extend([
        call!(__NR_wait4, 2, 0, (raw::WUNTRACED | raw::WNOHANG) as usize, 0),
        Show("told once"),
        call!(__NR_kill, 2, raw::SIGCONT as usize),
    ]);
    collect(&mut steps, 2, raw::WCONTINUED);
    steps.push(call!(__NR_kill, 2, raw::SIGTSTP as usize));
    // The group of init's child is init's own: orphaned, so SIGTSTP does nothing, and SIGSTOP does.
    steps.push(call!(__NR_kill, 2, raw::SIGSTOP as usize));
    collect(&mut steps, 2, raw::WUNTRACED);
    steps.push(call!(__NR_kill, 2, raw::SIGKILL as usize));
    collect(&mut steps, 2, 0);
    steps.extend([call!(__NR_exit_group, 0), Label("child"), Spin, Jump("child")]);
    let expected = [
        ("waited", 2),
        ("status", 0x137f),
        ("told once", 0),
        ("waited", 2),
        ("status", 0xffff),
        ("waited", 2),
        ("status", 0x137f),
        ("waited", 2),
        ("status", 9),
    ];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn a_stopped_child_is_terminated_when_it_goes_on() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("child"), call!(__NR_kill, 2, raw::SIGSTOP as usize)];
    collect(&mut steps, 2, raw::WUNTRACED);
    steps.extend([
        call!(__NR_kill, 2, raw::SIGTERM as usize),
        call!(__NR_wait4, 2, 0, raw::WNOHANG as usize, 0),
        Show("not yet"),
        call!(__NR_kill, 2, raw::SIGCONT as usize),
    ]);
    collect(&mut steps, 2, 0);
    steps.extend([call!(__NR_exit_group, 0), Label("child"), Spin, Jump("child")]);
    let expected = [("waited", 2), ("status", 0x137f), ("not yet", 0), ("waited", 2), ("status", 15)];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn a_stopped_sleep_starts_again_unnoticed() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("child")];
    steps.extend([call!(__NR_nanosleep, 5_000_000), call!(__NR_kill, 2, raw::SIGSTOP as usize)]);
    collect(&mut steps, 2, raw::WUNTRACED);
    steps.push(call!(__NR_kill, 2, raw::SIGCONT as usize));
    collect(&mut steps, 2, 0);
    steps.extend([
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_nanosleep, 30_000_000),
        Show("slept"),
        call!(__NR_exit, 6),
    ]);
    let expected = [("waited", 2), ("status", 0x137f), ("slept", 0), ("waited", 2), ("status", 0x600)];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn children_nobody_wants_are_collected_at_once() {
    let stage = Stage::new(&[]);
    let steps = vec![
        Store(ACTION, action_bytes(1, 0, 0)),
        call!(__NR_rt_sigaction, raw::SIGCHLD as usize, ACTION, 0, 8),
        call!(__NR_fork),
        IfZero("child"),
        call!(__NR_wait4, -1, 0, 0, 0),
        Show("wait4"),
        call!(__NR_kill, 2, 0),
        Show("gone"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_nanosleep, 10_000_000),
        call!(__NR_exit, 0),
    ];
    let expected = [("wait4", error(Errno::ECHILD)), ("gone", error(Errno::ESRCH))];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn a_fault_kills_or_tells_its_address() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("child")];
    collect(&mut steps, -1, 0);
    steps.extend([call!(__NR_exit_group, 0), Label("child"), Store(PAGE, vec![1])]);
    assert_eq!(stage.play(steps).1, told(&[("waited", 2), ("status", 11)]));

    let stage = Stage::new(&[]);
    let body = vec![Store(PAGE + 5, vec![1]), call!(__NR_exit_group, 0)];
    let handler =
        vec![Read(Value::Rsi, 8), Show("code"), Read(Value::Rsi, 16), Show("address"), call!(__NR_exit_group, 9)];
    let steps = with_handler(raw::SIGSEGV as i32, action_flags::SIGINFO, body, handler);
    let (status, lines) = stage.play(steps);
    assert_eq!((status, lines), (ExitStatus::Exited(9), told(&[("code", 1), ("address", (PAGE + 5) as i64)])));
}

#[test]
fn a_fault_that_is_blocked_or_ignored_kills_all_the_same() {
    for ignored in [true, false] {
        let stage = Stage::new(&[]);
        let mut steps = vec![call!(__NR_fork), IfZero("child")];
        collect(&mut steps, -1, 0);
        steps.extend([
            call!(__NR_exit_group, 0),
            Label("child"),
            Store(ACTION, action_bytes(1, 0, 0)),
            Store(MASK, mask(&[raw::SIGSEGV])),
            if ignored {
                call!(__NR_rt_sigaction, raw::SIGSEGV as usize, ACTION, 0, 8)
            } else {
                call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK, 0, 8)
            },
            Store(PAGE, vec![1]),
        ]);
        assert_eq!(stage.play(steps).1, told(&[("waited", 2), ("status", 11)]));
    }
}

#[test]
fn hostile_frames_end_in_a_fault() {
    // rt_sigreturn with the stack pointer where nothing is, and with a frame full of ones.
    for (at, byte) in [(PAGE, None), (DATA + 0x1000, Some(0xff))] {
        let stage = Stage::new(&[]);
        let mut steps = Vec::new();
        if let Some(byte) = byte {
            steps.push(Store(at, vec![byte; 1024]));
        }
        // A child in the same memory, whose stack pointer is the frame.
        let flags = (raw::CLONE_VM | raw::CLONE_VFORK) as usize;
        steps.extend([call!(__NR_clone, flags | 17, at + 8, 0, 0, 0), IfZero("victim")]);
        collect(&mut steps, -1, 0);
        steps.extend([call!(__NR_exit_group, 0), Label("victim"), call!(__NR_rt_sigreturn), call!(__NR_exit, 1)]);
        assert_eq!(stage.play(steps).1, told(&[("waited", 2), ("status", 11)]), "{at:#x}");
    }
}

#[test]
fn a_frame_the_program_made_is_returned_to() {
    let stage = Stage::new(&[]);
    let mut steps = vec![
        Say("placeholder"),
        call!(__NR_clone, (raw::CLONE_VM | raw::CLONE_VFORK) as usize | 17, DATA + 0x1008, 0, 0, 0),
        IfZero("victim"),
        call!(__NR_wait4, -1, 0, 0, 0),
        call!(__NR_exit_group, 0),
        Label("victim"),
        call!(__NR_rt_sigreturn),
        Label("elsewhere"),
        Show("rax"),
        call!(__NR_rt_sigprocmask, 0, 0, 0, 8),
        Show("mask"),
        call!(__NR_exit, 1),
    ];
    let mut frame = SignalFrame::new_zeroed();
    frame.context.registers.rip = address(&steps, "elsewhere");
    frame.context.registers.rax = 99;
    // SIGKILL can't be blocked this way either.
    frame.context.mask = SignalSet(1 << 8 | 1 << 1);
    steps[0] = Store(DATA + 0x1000, frame.as_bytes().to_vec());
    assert_eq!(stage.play(steps).1, told(&[("rax", 99), ("mask", 2)]));
}

#[test]
fn alarms_go_off_once_or_again_and_again() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("child")];
    collect(&mut steps, -1, 0);
    steps.extend([call!(__NR_exit_group, 0), Label("child"), call!(__NR_alarm, 10_000_000, 0), call!(__NR_pause)]);
    assert_eq!(stage.play(steps).1, told(&[("waited", 2), ("status", 14)]));

    let stage = Stage::new(&[]);
    let body = vec![
        call!(__NR_alarm, 5_000_000, 5_000_000),
        Load(3.into()),
        Keep(0),
        Label("wait"),
        call!(__NR_pause),
        Show("pause"),
        Loop(0, "wait"),
        call!(__NR_exit_group, 0),
    ];
    let steps = with_handler(raw::SIGALRM as i32, 0, body, vec![]);
    assert_eq!(stage.play(steps).1, told(&[("pause", error(Errno::EINTR)); 3]));
}

#[test]
fn init_is_immune_to_what_it_does_not_handle() {
    let stage = Stage::new(&[]);
    let steps = vec![
        call!(__NR_fork),
        IfZero("child"),
        call!(__NR_wait4, -1, 0, 0, 0),
        Say("alive"),
        call!(__NR_exit_group, 0),
        Label("child"),
        call!(__NR_kill, 1, 15),
        call!(__NR_kill, 1, 9),
        call!(__NR_kill, 1, 19),
        call!(__NR_exit, 0),
    ];
    assert_eq!(stage.play(steps), (ExitStatus::Exited(0), told(&[("alive", 0)])));
}

#[test]
fn everybody_but_init_and_oneself_is_reached_by_minus_one() {
    let stage = Stage::new(&[]);
    let mut steps = vec![call!(__NR_fork), IfZero("one"), call!(__NR_fork), IfZero("two")];
    steps.extend([call!(__NR_kill, -1, 15), Show("kill")]);
    steps.extend([call!(__NR_wait4, -1, 0, 0, 0), call!(__NR_wait4, -1, 0, 0, 0), Show("second")]);
    steps.extend([call!(__NR_kill, -1, 15), Show("nobody left"), call!(__NR_exit_group, 0)]);
    steps.extend([Label("one"), call!(__NR_pause), Label("two"), call!(__NR_pause)]);
    let lines = stage.play(steps).1;
    assert_eq!(lines[0], ("kill".to_string(), 0));
    assert!(lines[1].1 == 2 || lines[1].1 == 3);
    assert_eq!(lines[2], ("nobody left".to_string(), error(Errno::ESRCH)));
}

/// sigaltstack(2) with these members.
fn alternate_stack(size: usize, flags: u32) -> [Step; 2] {
    alternate_stack_at(STACK_BASE, size, flags)
}

fn alternate_stack_at(base: usize, size: usize, flags: u32) -> [Step; 2] {
    let stack = SignalStack { base, flags, padding: 0, size };
    [Store(STACK, stack.as_bytes().to_vec()), call!(__NR_sigaltstack, STACK)]
}

/// Sends SIGUSR1 to itself, whose handler shows where its stack is and does the same again, `depth` handlers in all.
fn nested(depth: usize) -> [Step; 5] {
    let signal = raw::SIGUSR1 as usize;
    [Load(depth.into()), Keep(2), call!(__NR_getpid), Keep(0), call!(__NR_kill, Value::Kept(0), signal)]
}

fn nested_handler() -> Vec<Step> {
    let deeper = call!(__NR_kill, Value::Kept(0), raw::SIGUSR1 as usize);
    vec![Load(Value::Rsp), Show("pointer"), Loop(2, "deeper"), Jump("return"), Label("deeper"), deeper, Label("return")]
}

/// A handler with `SA_ONSTACK` starts at the top of the alternate stack if there is one, and a second one that interrupts it
/// goes on below the first; without the flag it stays where the program is.
#[test]
fn handlers_run_on_the_alternate_stack_once_there_is_one() {
    let size = 0x6000;
    let run = |flags: u64, stack: Vec<Step>| -> Vec<usize> {
        let mut body = stack;
        body.extend(nested(2));
        body.push(call!(__NR_exit_group, 0));
        let flags = flags | action_flags::NO_DEFER;
        let (status, lines) = Stage::new(&[]).play(with_handler(raw::SIGUSR1 as i32, flags, body, nested_handler()));
        assert_eq!((status, lines.len()), (ExitStatus::Exited(0), 2), "{flags:#x}");
        lines.iter().map(|line| line.1 as usize).collect()
    };
    let is_alternate = |pointer: &usize| (STACK_BASE..STACK_BASE + size).contains(pointer);
    for (flags, stack, alternate) in [
        (action_flags::ON_STACK, vec![], false),
        (0, alternate_stack(size, 0).to_vec(), false),
        (action_flags::ON_STACK, alternate_stack(size, raw::SS_DISABLE).to_vec(), false),
        (action_flags::ON_STACK, alternate_stack(size, 0).to_vec(), true),
    ] {
        let pointers = run(flags, stack);
        assert!(pointers[1] < pointers[0], "{pointers:x?}");
        assert_eq!(pointers.iter().all(is_alternate), alternate, "{flags:#x} {pointers:x?}");
        assert_eq!(pointers.iter().any(is_alternate), alternate, "{flags:#x} {pointers:x?}");
        assert!(!alternate || pointers[0] > STACK_BASE + size / 2, "the first is at the top: {pointers:x?}");
    }
}

/// What lies below the alternate stack is not the handlers': one that does not fit ends the program by SIGSEGV, though there is
/// memory.
#[test]
fn no_handler_runs_below_the_alternate_stack() {
    let size = 0x2000;
    let mut body = vec![call!(__NR_fork), IfZero("child")];
    collect(&mut body, -1, 0);
    body.extend([call!(__NR_exit_group, 0), Label("child")]);
    body.extend(alternate_stack(size, 0));
    body.extend(nested(8));
    body.push(call!(__NR_exit_group, 3));
    let flags = action_flags::ON_STACK | action_flags::NO_DEFER;
    let mut lines = Stage::new(&[]).play(with_handler(raw::SIGUSR1 as i32, flags, body, nested_handler())).1;
    let status = lines.pop().unwrap();
    assert_eq!(status.1 & 0x7f, raw::SIGSEGV.into(), "{lines:x?}");
    let pointers: Vec<usize> = lines.iter().filter(|line| line.0 == "pointer").map(|line| line.1 as usize).collect();
    assert!((1..8).contains(&pointers.len()), "{pointers:x?}");
    assert!(pointers.iter().all(|pointer| (STACK_BASE..STACK_BASE + size).contains(pointer)), "{pointers:x?}");
}

/// The lowest byte of the stack is not used: a stack pointer there is not on the stack, for Linux's `__on_sig_stack`.
#[test]
fn a_frame_lies_above_the_lowest_byte_of_the_stack() {
    let top = STACK_BASE + 0x6000;
    // Two handlers, as a stack with room for one frame may be smaller than is allowed.
    let run = |base: usize| {
        let mut body = alternate_stack_at(base, top - base, 0).to_vec();
        body.extend(nested(2));
        body.push(call!(__NR_exit_group, 0));
        let flags = action_flags::ON_STACK | action_flags::NO_DEFER;
        let steps = with_handler(raw::SIGUSR1 as i32, flags, body, nested_handler());
        Stage::new(&[]).play_as(crate::Role::Program { terminal: None }, steps)
    };
    let (status, lines) = run(STACK_BASE);
    assert_eq!(status, ExitStatus::Exited(0));
    let second = lines[1].1 as usize;
    assert_eq!(run(second - 1), (ExitStatus::Exited(0), lines.clone()));
    assert_eq!(run(second), (ExitStatus::Killed(Signal::SEGV), lines[..1].to_vec()));
}

#[test]
fn an_alternate_stack_is_checked() {
    let least = raw::MINSIGSTKSZ as usize;
    let (on, disable, disarm) = (raw::SS_ONSTACK, raw::SS_DISABLE, raw::SS_AUTODISARM);
    let cases = [
        ("too small", least - 1, 0, error(Errno::ENOMEM)),
        ("too small and on", least - 1, on, error(Errno::ENOMEM)),
        ("unknown flags", least, 4, error(Errno::EINVAL)),
        ("on and off", least, on | disable, error(Errno::EINVAL)),
        // Else what was before is told.
        ("as small as can be", least, 0, disable.into()),
        ("on", least, on, 0),
        ("that is disarmed", 2 * least, disarm, 0),
        ("none", 0, disable, disarm.into()),
        ("none again", 0, disable, disable.into()),
    ];
    let mut steps = Vec::new();
    for (name, size, flags, _) in cases {
        steps.extend(alternate_stack(size, flags));
        steps.push(Show(name));
    }
    steps.push(call!(__NR_exit_group, 0));
    let expected = cases.map(|(name, _, _, result)| (name, result));
    assert_eq!(Stage::new(&[]).play(steps).1, told(&expected));
}

#[test]
fn who_is_on_the_alternate_stack_can_not_leave_it() {
    let mut body = alternate_stack(0x6000, 0).to_vec();
    body.extend([call!(__NR_kill, 1, raw::SIGUSR1 as usize), call!(__NR_sigaltstack, STACK), Show("afterwards")]);
    body.push(call!(__NR_exit_group, 0));
    let handler = vec![call!(__NR_sigaltstack, 0), Show("flags"), call!(__NR_sigaltstack, STACK), Show("another")];
    let steps = with_handler(raw::SIGUSR1 as i32, action_flags::ON_STACK, body, handler);
    let expected = [("flags", raw::SS_ONSTACK.into()), ("another", error(Errno::EPERM)), ("afterwards", 0)];
    assert_eq!(Stage::new(&[]).play(steps).1, told(&expected));
}

/// ppoll(2) with something ready: a signal that its mask would let through, and the usual one doesn't, stays pending.
#[test]
fn a_call_that_succeeds_has_its_mask_put_back_before_signals_are_looked_at() {
    let stage = Stage::new(&[]);
    let body = vec![
        Store(MASK, mask(&[raw::SIGUSR1])),
        call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK, 0, 8),
        Store(MASK, mask(&[])),
        call!(__NR_ppoll, MASK, raw::SIGUSR1 as usize),
        Show("ppoll"),
        call!(__NR_rt_sigprocmask, 0, 0, 0, 8),
        Show("mask"),
        call!(__NR_rt_sigprocmask, raw::SIG_SETMASK as usize, MASK, 0, 8),
        call!(__NR_exit_group, 0),
    ];
    let steps = with_handler(raw::SIGUSR1 as i32, 0, body, vec![Say("handled")]);
    assert_eq!(stage.play(steps).1, told(&[("ppoll", 1), ("mask", 1 << 9), ("handled", 0)]));
}

/// The leader alone lets a signal of the process through, and then blocks it before it took it: another thread gets it that
/// waits, for whatever it waits.
#[test]
fn a_signal_that_one_thread_no_longer_takes_goes_to_another() {
    let thread = raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD;
    let usr1 = raw::SIGUSR1 as usize;
    // sigsuspend(2) opens the signal, sigwait(3) waits for it.
    for (waiting, result) in [
        (vec![call!(__NR_rt_sigsuspend, MASK)], error(Errno::EINTR)),
        (vec![call!(__NR_rt_sigtimedwait, MASK + 8, 0, 0, 8)], usr1 as i64),
    ] {
        let body = vec![
            Store(MASK, mask(&[])),
            Store(MASK + 8, mask(&[raw::SIGUSR1])),
            call!(__NR_clone, thread as usize, STACK_BASE, 0, 0, 0),
            IfZero("thread"),
            // It wakes up with the signal blocked; what comes is for whoever waits then.
            call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK + 8, 0, 8),
            call!(__NR_nanosleep, 50_000_000),
            call!(__NR_ppoll, MASK, usr1),
            Label("wait"),
            call!(__NR_nanosleep, 1_000_000_000),
            Jump("wait"),
            Label("thread"),
        ];
        let after = [Show("it"), call!(__NR_gettid), Show("thread"), call!(__NR_exit_group, 0)];
        let body = [body, waiting, after.to_vec()].concat();
        let handler = vec![call!(__NR_gettid), Show("handler")];
        let mut lines = Stage::new(&[]).play(with_handler(raw::SIGUSR1 as i32, 0, body, handler)).1;
        if result < 0 {
            assert_eq!(lines.remove(0), ("handler".to_string(), 2));
        }
        assert_eq!(lines, told(&[("it", result), ("thread", 2)]));
    }
}

/// A thread that is ending takes nothing any more, though it is still there.
#[test]
fn a_signal_is_not_left_to_a_thread_that_ends() {
    let thread = raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD;
    let (usr1, usr2) = (raw::SIGUSR1, raw::SIGUSR2);
    let clone = |stack: usize| call!(__NR_clone, thread as usize, stack, 0, 0, 0);
    let body = vec![
        Store(MASK, mask(&[])),
        Store(MASK + 8, mask(&[usr1, usr2])),
        Store(MASK + 16, mask(&[usr2])),
        clone(STACK_BASE),
        IfZero("second"),
        clone(STACK_BASE + 0x4000),
        IfZero("third"),
        call!(__NR_rt_sigsuspend, MASK),
        Label("second"),
        // It lets the signal through and blocks it before it took it.
        call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, MASK + 8, 0, 8),
        Say("ready"),
        call!(__NR_rt_sigtimedwait, MASK + 16, 0, 0, 8),
        call!(__NR_ppoll, MASK, usr1 as usize),
        call!(__NR_pause),
        Label("third"),
        Say("ready"),
        call!(__NR_rt_sigsuspend, MASK),
    ];
    let handler = vec![call!(__NR_gettid), Show("taken by"), call!(__NR_exit_group, 0)];
    let stage = Stage::new(&[]);
    let lines = stage.start_as(crate::Role::Init, with_handler(usr1 as i32, 0, body, handler));
    until(|| lines.lock().unwrap().len() == 2);
    let process = stage.kernel.processes().next(crate::Pid::new(1)).unwrap();
    process.first_thread().unwrap().signals().lock().ending = true;
    let second = stage.kernel.processes().thread(crate::Pid::new(2)).unwrap();
    crate::signal::send::post_thread(&second, crate::signal::Information::kernel(Signal::USR2)).unwrap();
    until(|| lines.lock().unwrap().len() == 3);
    assert_eq!(lines.lock().unwrap()[2], ("taken by".to_string(), 3));
}

/// setitimer(2): the virtual timer counts what the program computes, the profiling one what the kernel does for it too. Neither
/// rings before that much has been used.
#[test]
fn timers_of_processor_time_ring_when_it_is_used_up() {
    let amount = 20_000_000;
    for (which, signal) in [(raw::ITIMER_VIRTUAL, raw::SIGVTALRM), (raw::ITIMER_PROF, raw::SIGPROF)] {
        let body = vec![
            call!(__NR_times),
            Show("before"),
            call!(__NR_setitimer, which as usize, amount as usize, 0),
            Label("again"),
            call!(__NR_sched_yield),
            Jump("again"),
        ];
        let handler = vec![
            call!(__NR_times),
            Show("after"),
            call!(__NR_setitimer, which as usize, 0, 0),
            Show("left"),
            call!(__NR_exit_group, 0),
        ];
        let lines = Stage::new(&[]).play(with_handler(signal as i32, 0, body, handler)).1;
        let used = lines[1].1 - lines[0].1;
        assert!(used >= amount, "{which}: {used} ns of {amount}");
        assert_eq!(lines[2], ("left".to_string(), 0));
    }
}
