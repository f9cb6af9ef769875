//! What becomes of calls that a signal interrupts: signal(7), "Interruption of system calls".

use std::time::{Duration, Instant};

use abi::Errno;
use abi::files::PollDescriptor;
use abi::raw::general as number;
use abi::signal::action_flags::RESTART;
use abi::time::Timespec;

use crate::stage::{DATA, Stage};

const SIGUSR1: usize = number::SIGUSR1 as usize;
const SIGSTOP: usize = number::SIGSTOP as usize;
const SIGCONT: usize = number::SIGCONT as usize;

#[test]
fn a_read_fails_or_goes_on_as_the_handler_says() {
    let (_stage, init) = Stage::start();
    let (read, write) = init.pipe();
    let (child, pid) = init.fork();
    child.handle(number::SIGUSR1, 0);
    child.begin(number::__NR_read, [read, DATA, 10]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_kill, [pid, SIGUSR1]), Ok(0));
    assert_eq!(child.result(), Err(Errno::EINTR));
    child.handle(number::SIGUSR1, RESTART);
    child.begin(number::__NR_read, [read, DATA, 10]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_kill, [pid, SIGUSR1]), Ok(0));
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_write, [write, DATA, 1]), Ok(1));
    assert_eq!(child.result(), Ok(1));
    assert_eq!(init.handled(), [SIGUSR1, SIGUSR1]);
}

#[test]
fn a_sleep_tells_a_handler_what_is_left_and_goes_on_over_a_stop() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    child.handle(number::SIGUSR1, RESTART);
    let time = child.store(DATA, &Timespec { seconds: 60, nanoseconds: 0 });
    child.begin(number::__NR_nanosleep, [time, DATA + 0x100]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_kill, [pid, SIGUSR1]), Ok(0));
    // Handlers end a sleep, whatever they say about restarting.
    assert_eq!(child.result(), Err(Errno::EINTR));
    let left = child.load::<Timespec>(DATA + 0x100);
    assert!((30..60).contains(&left.seconds), "{left:?}");

    child.store(DATA, &Timespec { seconds: 1, nanoseconds: 0 });
    let start = Instant::now();
    child.begin(number::__NR_nanosleep, [time, 0]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_kill, [pid, SIGSTOP]), Ok(0));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(init.call(number::__NR_kill, [pid, SIGCONT]), Ok(0));
    assert_eq!(child.result(), Ok(0));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn poll_and_futex_go_on_with_the_time_they_have_left() {
    let (_stage, init) = Stage::start();
    let (read, _) = init.pipe();
    let (child, pid) = init.fork();
    let entry = child.store(DATA, &PollDescriptor { descriptor: read as i32, events: 1, ready: 0 });
    let time = child.store(DATA + 0x100, &Timespec { seconds: 1, nanoseconds: 0 });
    let poll = (number::__NR_poll, [entry, 1, 1000, 0], Ok(0));
    let wait = number::FUTEX_WAIT as usize;
    let futex = (number::__NR_futex, [DATA + 0x200, wait, 0, time], Err(Errno::ETIMEDOUT));
    for (call, arguments, expected) in [poll, futex] {
        let start = Instant::now();
        child.begin(call, arguments);
        assert!(child.waits());
        for _ in 0..3 {
            assert_eq!(init.call(number::__NR_kill, [pid, SIGSTOP]), Ok(0));
            std::thread::sleep(Duration::from_millis(30));
            assert_eq!(init.call(number::__NR_kill, [pid, SIGCONT]), Ok(0));
        }
        assert_eq!(child.result(), expected);
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn the_mask_of_a_call_holds_until_the_handler_runs() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    child.handle(number::SIGUSR1, RESTART);
    let blocked = child.store(DATA, &(1_u64 << (SIGUSR1 - 1)));
    assert_eq!(child.call(number::__NR_rt_sigprocmask, [0, blocked, 0, 8]), Ok(0));
    let none = child.store(DATA + 0x100, &0_u64);
    assert_eq!(init.call(number::__NR_kill, [pid, SIGUSR1]), Ok(0));
    assert!(init.handled().is_empty());
    // It is pending; only for the time of the call it isn't blocked.
    assert_eq!(child.call(number::__NR_ppoll, [0, 0, 0, none, 8]), Err(Errno::EINTR));
    assert_eq!(init.handled(), [SIGUSR1]);
    assert_eq!(child.call(number::__NR_rt_sigprocmask, [0, 0, DATA + 0x200, 8]), Ok(0));
    assert_eq!(child.load::<u64>(DATA + 0x200), 1 << (SIGUSR1 - 1));
    child.begin(number::__NR_rt_sigsuspend, [none, 8]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_kill, [pid, SIGUSR1]), Ok(0));
    assert_eq!(child.result(), Err(Errno::EINTR));
}

#[test]
fn a_waiting_program_can_be_killed() {
    let (_stage, init) = Stage::start();
    let (read, _) = init.pipe();
    let (child, pid) = init.fork();
    child.begin(number::__NR_read, [read, DATA, 1]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_kill, [pid, number::SIGKILL as usize]), Ok(0));
    assert_eq!(init.call(number::__NR_wait4, [pid, DATA, 0, 0]), Ok(pid));
    assert_eq!(init.load::<i32>(DATA), number::SIGKILL as i32);
}
