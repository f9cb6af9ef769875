//! How many calls of the host an operation in a shared folder costs, counted by ptrace(2): one for what the host answers from
//! its cache (a path costs one more for its last name), so none for handing it over to somebody else.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::hostfs::Shared;
use super::*;

/// Calls that stand between two operations.
const MARK: u64 = nix::libc::SYS_sched_yield as u64;

/// Set for the process that is counted.
const COUNTED: &str = "HOST_CALLS_COUNTED";

/// Stands before the number of the thread whose calls are to be counted.
const THREAD: &str = "counted thread: ";

#[test]
fn what_the_host_has_in_its_cache_costs_one_call() {
    if std::env::var_os(COUNTED).is_some() {
        return operations();
    }
    let this_test = std::thread::current().name().unwrap().to_string();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", &this_test, "--nocapture"]).env(COUNTED, "").stdout(Stdio::piped());
    let mut process = process.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(std::io::Result::ok);
    let thread = lines.find_map(|line| line.rsplit_once(THREAD).map(|(_, number)| number.parse().unwrap())).unwrap();
    let counts = calls_between_marks(Pid::from_raw(thread));
    assert!(process.wait().unwrap().success());
    let expected = [
        ("nothing, to see what counting adds", 0),
        ("stat: whether the name still stands for this file, and the file's attributes", 2),
        ("fstat", 1),
        ("read", 1),
        ("pread", 1),
    ];
    assert_eq!(counts, expected.map(|(_, count)| count), "{expected:?}");
}

/// What is counted, each between two marks.
fn operations() {
    let shared = Shared::new("calls");
    let world = &shared.world;
    std::fs::write(shared.host.join("f"), [7; 5000]).unwrap();
    let open = world.open("f", OpenFlags::empty()).unwrap();
    let mut bytes = [0; 100];
    let attributes = |_: &mut [u8]| assert_eq!(world.stat("f").unwrap().size, 5000);
    let again = |_: &mut [u8]| {
        world.look_again(&open);
        assert_eq!(open.attributes().size, 5000);
    };
    let read = |bytes: &mut [u8]| assert_eq!(world.read(&open, bytes), Ok(100));
    let at = |bytes: &mut [u8]| {
        assert_eq!(block_on(wait::read(&open, At::Offset(4000), &mut Destination::kernel(bytes), world)), Ok(100))
    };
    type Operation<'a> = &'a dyn Fn(&mut [u8]);
    let all: [Operation<'_>; 5] = [&|_| (), &attributes, &again, &read, &at];
    // The first time, things are made that stay.
    all.iter().for_each(|operation| operation(&mut bytes));
    println!("{THREAD}{}", nix::unistd::gettid());
    let status = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let traced = || status().lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    for _ in 0..10_000 {
        if traced() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(traced(), "nobody counts");
    for operation in all {
        std::thread::yield_now();
        operation(&mut bytes);
    }
    std::thread::yield_now();
}

/// Traces the thread to its end. Its calls between one mark and the next.
fn calls_between_marks(thread: Pid) -> Vec<usize> {
    ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD).unwrap();
    ptrace::interrupt(thread).unwrap();
    let (mut counts, mut entering) = (Vec::new(), false);
    loop {
        let signal = match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Exited(..) => {
                // What came after the last mark is no operation.
                counts.pop();
                return counts;
            }
            WaitStatus::PtraceSyscall(_) => {
                entering = !entering;
                if entering {
                    match (ptrace::getregs(thread).unwrap().orig_rax == MARK, counts.last_mut()) {
                        (true, _) => counts.push(0),
                        (false, Some(count)) => *count += 1,
                        (false, None) => {}
                    }
                }
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::PtraceEvent(..) => None,
            other => panic!("{other:?}"),
        };
        ptrace::syscall(thread, signal).unwrap();
    }
}
