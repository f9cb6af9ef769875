//! Signals, by the calls that send, block and await them. The rows are Linux's.

use abi::Errno;
use abi::raw::general as number;
use abi::signal::SignalStack;

use crate::stage::{DATA, Program, Stage};

fn set(signals: &[u32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// rt_sigprocmask(2); the mask before.
fn mask(program: &Program, how: u32, signals: u64) -> Result<u64, Errno> {
    let new = program.store(DATA + 0x40, &signals);
    program.call(number::__NR_rt_sigprocmask, [how as usize, new, DATA + 0x48, 8])?;
    Ok(program.load(DATA + 0x48))
}

fn pending(program: &Program) -> u64 {
    assert_eq!(program.call(number::__NR_rt_sigpending, [DATA + 0x40, 8]), Ok(0));
    program.load(DATA + 0x40)
}

fn kill(program: &Program, pid: i32, signal: u32) -> Result<usize, Errno> {
    program.call(number::__NR_kill, [pid as usize, signal as usize])
}

#[test]
fn masks_grow_shrink_and_are_replaced_without_kill_and_stop() {
    let (_stage, init) = Stage::start();
    let unblockable = set(&[number::SIGKILL, number::SIGSTOP]);
    assert_eq!(mask(&init, number::SIG_BLOCK, set(&[1, 2]) | unblockable), Ok(0));
    assert_eq!(mask(&init, number::SIG_UNBLOCK, set(&[2, 3])), Ok(set(&[1, 2])));
    assert_eq!(mask(&init, number::SIG_SETMASK, set(&[5]) | unblockable), Ok(set(&[1])));
    assert_eq!(mask(&init, 3, 0), Err(Errno::EINVAL));
    assert_eq!(mask(&init, number::SIG_SETMASK, 0), Ok(set(&[5])));
}

#[test]
fn stopping_and_continuing_take_each_other_back() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let stops = set(&[number::SIGTSTP, number::SIGTTIN, number::SIGTTOU]);
    let all = stops | set(&[number::SIGCONT, number::SIGTERM]);
    child.handle(number::SIGCONT, 0);
    mask(&child, number::SIG_BLOCK, all).unwrap();
    for signal in [number::SIGTSTP, number::SIGTTIN, number::SIGTTOU, number::SIGTERM] {
        assert_eq!(kill(&init, pid as i32, signal), Ok(0));
    }
    assert_eq!(pending(&child), stops | set(&[number::SIGTERM]));
    assert_eq!(child.call(number::__NR_tkill, [pid, number::SIGCONT as usize]), Ok(0));
    assert_eq!(pending(&child), set(&[number::SIGCONT, number::SIGTERM]));
    assert_eq!(kill(&init, pid as i32, number::SIGTTIN), Ok(0));
    assert_eq!(pending(&child), set(&[number::SIGTTIN, number::SIGTERM]));
}

#[test]
fn an_ignored_signal_is_dropped_unless_it_is_blocked() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let (ignored, harmless) = (number::SIGUSR1, number::SIGWINCH);
    let action = child.store(DATA + 0x80, &[1_u64, 0, 0, 0]);
    assert_eq!(child.call(number::__NR_rt_sigaction, [ignored as usize, action, 0, 8]), Ok(0));
    for signal in [ignored, harmless] {
        assert_eq!(kill(&init, pid as i32, signal), Ok(0));
        mask(&child, number::SIG_BLOCK, set(&[signal])).unwrap();
        assert_eq!(pending(&child), 0);
        assert_eq!(kill(&init, pid as i32, signal), Ok(0));
        assert_eq!(pending(&child), set(&[signal]), "a handler may come before it is unblocked");
        // Becoming ignored drops what is pending, blocked or not.
        assert_eq!(child.call(number::__NR_rt_sigaction, [signal as usize, action, 0, 8]), Ok(0));
        let expected = if signal == ignored { set(&[signal]) } else { 0 };
        assert_eq!(pending(&child), expected, "the same action again changes nothing");
        mask(&child, number::SIG_UNBLOCK, set(&[signal])).unwrap();
        assert_eq!(pending(&child), 0);
    }
}

#[test]
fn numbers_that_name_nobody() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    assert_eq!([kill(&init, i32::MIN, 0), kill(&init, 99, 0), kill(&init, -99, 0)], [Err(Errno::ESRCH); 3]);
    assert_eq!([kill(&init, pid as i32, 65), kill(&init, pid as i32, u32::MAX)], [Err(Errno::EINVAL); 2]);
    let tgkill = |process: usize, tid: usize, signal: usize| init.call(number::__NR_tgkill, [process, tid, signal]);
    let invalid = Err(Errno::EINVAL);
    assert_eq!([tgkill(0, pid, 0), tgkill(pid, 0, 0), tgkill(usize::MAX, pid, 0)], [invalid; 3]);
    assert_eq!((tgkill(1, pid, 0), tgkill(pid, pid, 0)), (Err(Errno::ESRCH), Ok(0)));
    assert_eq!(init.call(number::__NR_tkill, [0, 0]), invalid);
    // To one's own group.
    child.handle(number::SIGUSR2, 0);
    init.handle(number::SIGUSR2, 0);
    assert_eq!(kill(&child, 0, number::SIGUSR2), Ok(0));
    assert!((child.call(number::__NR_getpid, []).is_ok(), init.call(number::__NR_getpid, []).is_ok()) == (true, true));
    assert_eq!(init.handled(), [number::SIGUSR2 as usize; 2]);
}

#[test]
fn a_reason_is_not_forged() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let blocked = set(&[40]);
    mask(&child, number::SIG_BLOCK, blocked).unwrap();
    let queue = |from: &Program, code: i32| {
        let information = from.store(DATA + 0x100, &[40, 0, code, 0, 7, 0, 1234, 0]);
        from.call(number::__NR_rt_sigqueueinfo, [pid, 40, information])
    };
    assert_eq!([queue(&init, 0), queue(&init, 0x80), queue(&init, -6)], [Err(Errno::EPERM); 3]);
    assert_eq!(queue(&init, -1), Ok(0));
    assert_eq!(queue(&child, 0), Ok(0), "to oneself anything");
    let wait = |timeout: usize| {
        let awaited = child.store(DATA + 0x40, &blocked);
        child.call(number::__NR_rt_sigtimedwait, [awaited, DATA + 0x100, timeout, 8])
    };
    let codes = [(); 2].map(|()| {
        assert_eq!(wait(0), Ok(40));
        let [_, _, code, _, sender, _, value, _]: [i32; 8] = child.load(DATA + 0x100);
        (code, sender, value)
    });
    assert_eq!(codes, [(-1, 7, 1234), (0, 7, 1234)]);
    let zero = child.store(DATA + 0x200, &[0_u64, 0]);
    assert_eq!(wait(zero), Err(Errno::EAGAIN));
    let invalid = child.store(DATA + 0x200, &[0_u64, 1_000_000_000]);
    assert_eq!(wait(invalid), Err(Errno::EINVAL));
}

#[test]
fn an_alternate_stack_is_checked_and_told() {
    let (_stage, init) = Stage::start();
    let give = |base: usize, flags: u32, size: usize| {
        let new = init.store(DATA + 0x40, &SignalStack { base, flags, size, ..SignalStack::default() });
        init.call(number::__NR_sigaltstack, [new, DATA + 0x80]).map(|_| {
            let SignalStack { base, flags, size, .. } = init.load(DATA + 0x80);
            (base, flags, size)
        })
    };
    let disabled = (0, number::SS_DISABLE, 0);
    let smallest = number::MINSIGSTKSZ as usize;
    assert_eq!(give(0x7000_0000, 0, smallest - 1), Err(Errno::ENOMEM));
    assert_eq!(give(0x7000_0000, 8, smallest), Err(Errno::EINVAL));
    assert_eq!(give(0x7000_0000, 0, smallest), Ok(disabled));
    assert_eq!(give(0x7100_0000, number::SS_ONSTACK, 0x4000), Ok((0x7000_0000, 0, smallest)));
    assert_eq!(give(0x7200_0000, number::SS_AUTODISARM, 0x4000), Ok((0x7100_0000, 0, 0x4000)));
    assert_eq!(give(0x7300_0000, number::SS_DISABLE, 1), Ok((0x7200_0000, number::SS_AUTODISARM, 0x4000)));
    assert_eq!(give(0, number::SS_DISABLE, 0), Ok(disabled));
    // A child has a copy, a thread has none.
    assert_eq!(give(0x7000_0000, 0, 0x4000), Ok(disabled));
    let (child, _) = init.fork();
    let (thread, _) = init.thread(DATA + 0x8000);
    let has = |program: &Program| {
        assert_eq!(program.call(number::__NR_sigaltstack, [0, DATA + 0x80]), Ok(0));
        program.load::<SignalStack>(DATA + 0x80).size
    };
    assert_eq!((has(&child), has(&thread)), (0x4000, 0));
}

#[test]
fn what_a_thread_leaves_others_take() {
    let (_stage, init) = Stage::start();
    let (thread, _) = init.thread(DATA + 0x8000);
    init.handle(number::SIGUSR1, 0);
    let only = set(&[number::SIGUSR1]);
    mask(&init, number::SIG_BLOCK, only).unwrap();
    mask(&thread, number::SIG_BLOCK, only).unwrap();
    let (sender, _) = init.fork();
    assert_eq!(kill(&sender, 1, number::SIGUSR1), Ok(0));
    assert_eq!((pending(&init), pending(&thread), init.handled().len()), (only, only, 0), "it is the process's");
    init.begin(number::__NR_pause, []);
    assert!(init.waits());
    mask(&thread, number::SIG_UNBLOCK, only).unwrap();
    assert_eq!(thread.call(number::__NR_getpid, []), Ok(1));
    assert_eq!(init.handled(), [number::SIGUSR1 as usize]);
    // To one thread alone: no other takes it.
    mask(&thread, number::SIG_BLOCK, only).unwrap();
    let tid = thread.call(number::__NR_gettid, []).unwrap();
    assert_eq!(sender.call(number::__NR_tgkill, [1, tid, number::SIGUSR1 as usize]), Ok(0));
    assert_eq!(pending(&thread), only);
    assert!(init.waits());
    // The thread ends with it.
    assert_eq!(kill(&sender, 1, number::SIGUSR1), Ok(0));
    assert_eq!(init.handled().len(), 1);
}

#[test]
fn a_handler_that_is_for_once_is_gone_afterwards() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    child.handle(number::SIGUSR1, abi::signal::action_flags::RESET_HANDLER);
    assert_eq!(kill(&child, pid as i32, number::SIGUSR1), Ok(0));
    assert_eq!(child.handled(), [number::SIGUSR1 as usize]);
    assert_eq!(child.call(number::__NR_rt_sigaction, [number::SIGUSR1 as usize, 0, DATA + 0x80, 8]), Ok(0));
    assert_eq!(child.load::<u64>(DATA + 0x80), 0);
    child.begin(number::__NR_kill, [pid, number::SIGUSR1 as usize]);
    assert_eq!(init.call(number::__NR_wait4, [pid, DATA, 0, 0]), Ok(pid));
    assert_eq!(init.load::<u32>(DATA), number::SIGUSR1);
}

#[test]
fn kill_ends_who_is_stopped_and_nothing_else_does() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let wait = |options: u32| {
        let found = init.call(number::__NR_wait4, [pid, DATA, options as usize, 0]);
        (found, init.load::<u32>(DATA))
    };
    assert_eq!(kill(&init, pid as i32, number::SIGSTOP), Ok(0));
    assert_eq!(wait(number::WUNTRACED), (Ok(pid), 0x137f));
    init.store(DATA, &0_u32);
    assert_eq!(kill(&init, pid as i32, number::SIGUSR1), Ok(0));
    assert_eq!(wait(number::WNOHANG), (Ok(0), 0));
    assert_eq!(kill(&init, pid as i32, number::SIGKILL), Ok(0));
    assert_eq!(wait(0), (Ok(pid), number::SIGKILL));
    drop(child);
}
