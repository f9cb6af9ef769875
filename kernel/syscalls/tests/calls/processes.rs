//! Processes: limits, what they used, timers, children, groups. The rows are Linux's.

use abi::limits::{ResourceLimit, ResourceUsage};
use abi::raw::{general as number, prctl};
use abi::{Errno, Pid};

use crate::stage::{CHILD_TID, DATA, Program, Stage};

const ALL: usize = number::__WALL as usize;
/// `CLOSE_RANGE_UNSHARE`, see close_range(2)
const CLOSE_RANGE_UNSHARE: usize = 2;

fn limit(program: &Program, pid: usize, resource: u32, new: Option<(u64, u64)>) -> Result<(u64, u64), Errno> {
    let old = DATA + 0x80;
    let new = new.map_or(0, |(soft, hard)| program.store(DATA + 0x40, &ResourceLimit { soft, hard }));
    program.call(number::__NR_prlimit64, [pid, resource as usize, new, old])?;
    let ResourceLimit { soft, hard } = program.load(old);
    Ok((soft, hard))
}

#[test]
fn limits_are_lowered_by_anybody_and_raised_by_who_may() {
    let (_stage, init) = Stage::start();
    const FILES: u32 = number::RLIMIT_NOFILE;
    assert_eq!(limit(&init, 0, FILES, None), Ok((1024, 4096)));
    assert_eq!(limit(&init, 0, FILES, Some((10, 9))), Err(Errno::EINVAL));
    assert_eq!(limit(&init, 0, FILES, Some((10, 1 << 20))), Ok((1024, 4096)));
    assert_eq!(limit(&init, 0, FILES, Some((10, (1 << 20) + 1))), Err(Errno::EPERM));
    assert_eq!(limit(&init, 0, FILES, Some((64, 128))), Ok((10, 1 << 20)));
    assert_eq!(limit(&init, 0, 16, None), Err(Errno::EINVAL));
    assert_eq!(limit(&init, 99, FILES, None), Err(Errno::ESRCH));
    let (user, pid) = init.fork();
    let (other, other_pid) = init.fork();
    assert_eq!(limit(&init, pid, FILES, Some((60, 120))), Ok((64, 128)));
    for (program, id) in [(&user, 1000), (&other, 1001)] {
        assert_eq!(program.call(number::__NR_setresgid, [1000; 3]), Ok(0));
        assert_eq!(program.call(number::__NR_setresuid, [id; 3]), Ok(0));
    }
    assert_eq!(limit(&user, 0, FILES, Some((61, 121))), Err(Errno::EPERM));
    assert_eq!(limit(&user, 0, FILES, Some((61, 120))), Ok((60, 120)));
    assert_eq!(limit(&user, pid, FILES, Some((50, 50))), Ok((61, 120)));
    assert_eq!(limit(&user, 0, FILES, Some((50, 51))), Err(Errno::EPERM));
    assert_eq!([limit(&user, 1, FILES, None), limit(&user, other_pid, FILES, None)], [Err(Errno::EPERM); 2]);
    // One with the same user and group may.
    let (twin, twin_pid) = user.fork();
    assert_eq!((limit(&user, twin_pid, FILES, None), limit(&twin, pid, FILES, None)), (Ok((50, 50)), Ok((50, 50))));
    let (stranger, stranger_pid) = init.fork();
    assert_eq!(stranger.call(number::__NR_setresgid, [1002; 3]), Ok(0));
    assert_eq!(stranger.call(number::__NR_setresuid, [1000, 1000, 1000]), Ok(0));
    assert_eq!(limit(&user, stranger_pid, FILES, None), Err(Errno::EPERM));
}

#[test]
fn a_limit_of_memory_holds_at_once() {
    let (_stage, init) = Stage::start();
    let map = [0, 1 << 20, 3, 0x22, usize::MAX, 0];
    assert_eq!(limit(&init, 0, number::RLIMIT_AS, Some((1 << 20, u64::MAX))), Ok((u64::MAX, u64::MAX)));
    assert_eq!(init.call(number::__NR_mmap, map), Err(Errno::ENOMEM));
    assert!(limit(&init, 0, number::RLIMIT_AS, Some((u64::MAX, u64::MAX))).is_ok());
    assert!(init.call(number::__NR_mmap, map).is_ok());
}

fn usage(program: &Program, who: i32) -> ResourceUsage {
    assert_eq!(program.call(number::__NR_getrusage, [who as usize, DATA + 0x100]), Ok(0));
    program.load(DATA + 0x100)
}

#[test]
fn what_a_child_used_is_its_parent_s_once_it_is_collected() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let map = child.call(number::__NR_mmap, [0, 1 << 20, 3, 0x22, usize::MAX, 0]).unwrap();
    for page in 0..64 {
        child.store(map + page * 4096, &1_u64);
    }
    child.compute(30);
    let own = usage(&child, number::RUSAGE_SELF as i32);
    assert!(own.minor_faults >= 4 && own.maximum_resident >= 256, "{own:?}");
    assert!(own.user_time.microseconds + own.user_time.seconds * 1_000_000 >= 15_000, "{own:?}");
    assert_eq!(usage(&child, number::RUSAGE_CHILDREN).minor_faults, 0);
    assert_eq!(usage(&init, number::RUSAGE_CHILDREN).minor_faults, 0, "not before it is collected");
    let thread = usage(&child, number::RUSAGE_THREAD as i32);
    assert!(thread.minor_faults >= 4 && thread.voluntary_switches <= usage(&child, 0).voluntary_switches);
    assert_eq!(child.call(number::__NR_getrusage, [2, DATA + 0x100]), Err(Errno::EINVAL));
    drop(child);
    assert_eq!(init.call(number::__NR_wait4, [pid, 0, 0, DATA + 0x200]), Ok(pid));
    let collected: ResourceUsage = init.load(DATA + 0x200);
    let children = usage(&init, number::RUSAGE_CHILDREN);
    assert!(collected.minor_faults >= own.minor_faults && collected.maximum_resident >= own.maximum_resident);
    assert_eq!(
        (children.minor_faults, children.maximum_resident),
        (collected.minor_faults, collected.maximum_resident)
    );
    assert_eq!((children.user_time, children.system_time), (collected.user_time, collected.system_time));
    assert!(init.call(number::__NR_times, [DATA + 0x300]).is_ok());
    let [_, _, children, _]: [i64; 4] = init.load(DATA + 0x300);
    assert!(children >= 1, "three ticks of it");
}

#[test]
fn a_thread_that_ends_leaves_its_use_and_its_word() {
    let (_stage, init) = Stage::start();
    let (child, _pid) = init.fork();
    let before = usage(&child, 0).minor_faults;
    let map = child.call(number::__NR_mmap, [0, 1 << 20, 3, 0x22, usize::MAX, 0]).unwrap();
    let (thread, tid) = child.thread(DATA + 0x8000);
    assert_eq!(thread.call(number::__NR_gettid, []), Ok(tid));
    assert_eq!(thread.call(number::__NR_getpid, []), child.call(number::__NR_getpid, []));
    child.store(CHILD_TID, &(tid as u32));
    for page in 0..32 {
        thread.store(map + page * 4096, &1_u64);
    }
    let own = usage(&thread, number::RUSAGE_THREAD as i32);
    assert!(own.minor_faults >= 2 && own.maximum_resident >= 128, "{own:?}");
    // As pthread_join does: waits until the kernel has cleared the word.
    child.begin(number::__NR_futex, [CHILD_TID, 0, tid, 0, 0, 0]);
    assert!(child.waits());
    thread.begin(number::__NR_exit, [0]);
    assert_eq!((child.result(), child.load::<u32>(CHILD_TID)), (Ok(0), 0));
    assert!(usage(&child, 0).minor_faults >= before + own.minor_faults);
    assert_eq!(child.call(number::__NR_tgkill, [1, tid, 0]), Err(Errno::ESRCH));
}

/// A `struct itimerval` in microseconds.
fn set_timer(program: &Program, which: u32, value: u64, interval: u64) -> (u64, u64) {
    let time = |microseconds: u64| [microseconds / 1_000_000, microseconds % 1_000_000];
    let new = program.store(DATA + 0x40, &[time(interval), time(value)]);
    assert_eq!(program.call(number::__NR_setitimer, [which as usize, new, DATA + 0x80]), Ok(0));
    told(program)
}

fn told(program: &Program) -> (u64, u64) {
    let [interval, value]: [[u64; 2]; 2] = program.load(DATA + 0x80);
    let microseconds = |[seconds, rest]: [u64; 2]| seconds * 1_000_000 + rest;
    (microseconds(value), microseconds(interval))
}

#[test]
fn timers_tell_what_is_left() {
    let (_stage, init) = Stage::start();
    for which in [number::ITIMER_REAL, number::ITIMER_VIRTUAL, number::ITIMER_PROF] {
        assert_eq!(set_timer(&init, which, 500_000_000, 7_000_001), (0, 0));
        assert_eq!(init.call(number::__NR_getitimer, [which as usize, DATA + 0x80]), Ok(0));
        let (left, interval) = told(&init);
        assert!((400_000_000..=500_000_000).contains(&left) && interval == 7_000_001, "{which}: {left}");
        let (left, interval) = set_timer(&init, which, 0, 0);
        assert!((400_000_000..=500_000_000).contains(&left) && interval == 7_000_001, "{which}: {left}");
        assert_eq!(set_timer(&init, which, 0, 0), (0, 0));
    }
    assert_eq!(init.call(number::__NR_getitimer, [3, DATA]), Err(Errno::EINVAL));
    // alarm(2) rounds, and is the same timer.
    assert_eq!(init.call(number::__NR_alarm, [1000]), Ok(0));
    assert!((990..=1000).contains(&init.call(number::__NR_alarm, [0]).unwrap()));
    set_timer(&init, number::ITIMER_REAL, 300_000, 0);
    assert_eq!(init.call(number::__NR_alarm, [0]), Ok(1), "never 0 while something is left");
    set_timer(&init, number::ITIMER_REAL, 1_000_900_000, 0);
    assert!((990..=1001).contains(&init.call(number::__NR_alarm, [0]).unwrap()));
}

/// Waits until so many signals were handled.
fn handled(program: &Program, count: usize) -> Vec<usize> {
    let late = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while program.handled().len() < count && std::time::Instant::now() < late {
        program.compute(2);
    }
    program.handled()
}

#[test]
fn timers_of_processor_time_ring_for_who_computes() {
    for (which, signal) in [(number::ITIMER_VIRTUAL, number::SIGVTALRM), (number::ITIMER_PROF, number::SIGPROF)] {
        let (_stage, init) = Stage::start();
        init.handle(signal, 0);
        set_timer(&init, which, 10_000, 10_000);
        assert_eq!(handled(&init, 3)[..3], [signal as usize; 3]);
        set_timer(&init, which, 0, 0);
        let count = init.handled().len();
        init.compute(25);
        assert!(init.handled().len() <= count + 1, "off is off");
    }
}

#[test]
fn a_periodic_alarm_rings_again_and_a_single_one_once() {
    let (_stage, init) = Stage::start();
    init.handle(number::SIGALRM, 0);
    set_timer(&init, number::ITIMER_REAL, 5_000, 5_000);
    assert!(handled(&init, 3).len() >= 3);
    set_timer(&init, number::ITIMER_REAL, 5_000, 0);
    let count = init.handled().len();
    handled(&init, count + 1);
    assert_eq!(set_timer(&init, number::ITIMER_REAL, 0, 0), (0, 0), "it was the last");
}

#[test]
fn who_computes_beyond_its_limit_is_warned_and_ended() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    child.handle(number::SIGXCPU, 0);
    assert!(limit(&child, 0, number::RLIMIT_CPU, Some((1, 2))).is_ok());
    child.begin_computing(60_000);
    assert_eq!(init.call(number::__NR_wait4, [pid, DATA + 0x40, 0, 0]), Ok(pid));
    assert_eq!(init.load::<u32>(DATA + 0x40), number::SIGKILL);
    assert_eq!(child.handled(), [number::SIGXCPU as usize]);
    // The next warning would have come a second later.
    assert_eq!(limit(&init, pid, number::RLIMIT_CPU, None), Err(Errno::ESRCH));
}

#[test]
fn children_of_another_kind_are_waited_for_by_another_name() {
    let (_stage, init) = Stage::start();
    let wait = |pid: usize, options: u32| init.call(number::__NR_wait4, [pid, 0, options as usize, 0]);
    let nohang = number::WNOHANG;
    for (signal, usual) in [(number::SIGCHLD, true), (0, false), (number::SIGURG, false)] {
        let (child, pid) = init.try_clone(signal, 0).unwrap();
        let (plain, clone) = if usual { (Ok(0), Err(Errno::ECHILD)) } else { (Err(Errno::ECHILD), Ok(0)) };
        assert_eq!((wait(pid, nohang), wait(pid, nohang | number::__WCLONE)), (plain, clone));
        assert_eq!(wait(usize::MAX, nohang | number::__WALL), Ok(0));
        drop(child);
        // waitid(2) looks without collecting.
        let look = number::WEXITED | number::WNOWAIT | number::__WALL;
        assert_eq!(init.call(number::__NR_waitid, [1, pid, DATA, look as usize, 0]), Ok(0));
        let [kind, _, code]: [i32; 3] = init.load(DATA);
        assert_eq!((kind, code), (number::SIGCHLD as i32, 1));
        assert_eq!(init.call(number::__NR_wait4, [pid, 0, ALL, 0]), Ok(pid));
        assert_eq!(wait(pid, number::__WALL), Err(Errno::ECHILD));
    }
    assert_eq!(init.call(number::__NR_wait4, [0x8000_0000, 0, 0, 0]), Err(Errno::ESRCH));
    assert_eq!(init.call(number::__NR_wait4, [1, 0, 0x10, 0]), Err(Errno::EINVAL));
}

#[test]
fn sessions_and_groups() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let (grandchild, grand) = child.fork();
    let get = |call: u32, pid: usize| init.call(call, [pid]);
    let set = |who: &Program, pid: usize, group: usize| who.call(number::__NR_setpgid, [pid, group]);
    assert_eq!(set(&init, pid, usize::MAX), Err(Errno::EINVAL));
    assert_eq!(set(&init, grand, 0), Err(Errno::ESRCH), "only its own child");
    assert_eq!(set(&child, grand, grand), Ok(0));
    assert_eq!(set(&child, 0, grand), Ok(0));
    assert_eq!((get(number::__NR_getpgid, pid), get(number::__NR_getpgid, grand)), (Ok(grand), Ok(grand)));
    assert_eq!(child.call(number::__NR_setsid, []), Ok(pid));
    assert_eq!((get(number::__NR_getsid, pid), get(number::__NR_getpgid, pid)), (Ok(pid), Ok(pid)));
    assert_eq!(set(&child, grand, 0), Err(Errno::EPERM), "in another session now");
    assert_eq!(set(&init, pid, 0), Err(Errno::EPERM));
    assert_eq!((set(&child, 0, 0), child.call(number::__NR_setsid, [])), (Err(Errno::EPERM), Err(Errno::EPERM)));
    assert_eq!(get(number::__NR_getpgid, 99), Err(Errno::ESRCH));
    // The group outlives its leader, and is gone with its last member.
    let (member, member_pid) = grandchild.fork();
    drop(grandchild);
    assert_eq!(child.call(number::__NR_wait4, [grand, 0, 0, 0]), Ok(grand));
    assert_eq!(init.call(number::__NR_kill, [grand.wrapping_neg(), 0]), Ok(0));
    drop(member);
    assert_eq!(init.call(number::__NR_wait4, [member_pid, 0, 0, 0]), Ok(member_pid), "adopted by init");
    assert_eq!(init.call(number::__NR_kill, [grand.wrapping_neg(), 0]), Err(Errno::ESRCH));
}

#[test]
fn a_parent_s_death_is_told_to_who_asked_and_forgotten_with_the_user() {
    let (_stage, init) = Stage::start();
    let death = |program: &Program| {
        assert_eq!(program.call(number::__NR_prctl, [prctl::PR_GET_PDEATHSIG as usize, DATA + 0x40]), Ok(0));
        program.load::<u32>(DATA + 0x40)
    };
    let ask = |program: &Program, signal: u32| {
        program.call(number::__NR_prctl, [prctl::PR_SET_PDEATHSIG as usize, signal as usize])
    };
    let (parent, pid) = init.fork();
    let (asks, asking) = parent.fork();
    let (drops, _) = parent.fork();
    assert_eq!((death(&asks), ask(&asks, 65), ask(&asks, number::SIGTERM)), (0, Err(Errno::EINVAL), Ok(0)));
    assert_eq!((ask(&drops, number::SIGTERM), death(&asks), death(&drops)), (Ok(0), 15, 15));
    assert_eq!(drops.call(number::__NR_setuid, [0]), Ok(0));
    assert_eq!(death(&drops), 15, "nothing has changed");
    assert_eq!(drops.call(number::__NR_setuid, [1000]), Ok(0));
    assert_eq!(death(&drops), 0);
    drop(parent);
    assert_eq!(init.call(number::__NR_wait4, [pid, 0, 0, 0]), Ok(pid));
    assert_eq!(init.call(number::__NR_wait4, [asking, DATA, 0, 0]), Ok(asking));
    assert_eq!((init.load::<u32>(DATA), drops.call(number::__NR_getppid, [])), (number::SIGTERM, Ok(1)));
}

#[test]
fn each_change_of_ids_makes_the_memory_private() {
    let (_stage, init) = Stage::start();
    let dumpable = |program: &Program| program.call(number::__NR_prctl, [prctl::PR_GET_DUMPABLE as usize]);
    const KEEP: usize = usize::MAX;
    for (call, ids, private) in [
        (number::__NR_setresuid, [KEEP, KEEP, 5], false),
        (number::__NR_setresuid, [5, KEEP, KEEP], false),
        (number::__NR_setresuid, [KEEP, 5, KEEP], true),
        (number::__NR_setresgid, [5, KEEP, 5], false),
        (number::__NR_setresgid, [KEEP, 5, KEEP], true),
        (number::__NR_setfsuid, [5, 0, 0], true),
        (number::__NR_setfsgid, [5, 0, 0], true),
    ] {
        let (child, _) = init.fork();
        assert_eq!(dumpable(&child), Ok(1));
        assert_eq!(child.call(call, ids), Ok(0));
        assert_eq!(dumpable(&child), Ok(usize::from(!private)), "{call} {ids:?}");
    }
}

#[test]
fn a_user_has_as_many_threads_as_he_may() {
    let (_stage, init) = Stage::start();
    let (user, _) = init.fork();
    assert!(limit(&user, 0, number::RLIMIT_NPROC, Some((2, 3))).is_ok());
    assert!(user.fork().1 > 0, "the superuser's are not counted");
    assert_eq!(user.call(number::__NR_setresuid, [4242; 3]), Ok(0));
    let (_child, _) = user.fork();
    assert_eq!(user.try_clone(number::SIGCHLD, 0).err(), Some(Errno::EAGAIN));
    assert!(limit(&user, 0, number::RLIMIT_NPROC, Some((3, 3))).is_ok());
    let (_thread, _) = user.thread(DATA + 0x8000);
    assert_eq!(user.try_clone(number::SIGCHLD, 0).err(), Some(Errno::EAGAIN));
}

#[test]
fn descriptors_are_shared_until_somebody_wants_his_own() {
    let (_stage, init) = Stage::start();
    let (sharer, _) = init.try_clone(number::SIGCHLD | number::CLONE_FILES, 0).unwrap();
    let (read, _) = init.pipe();
    assert_eq!(sharer.call(number::__NR_fcntl, [read, number::F_GETFD as usize, 0]), Ok(0));
    assert_eq!(init.call(number::__NR_close_range, [90, 99, CLOSE_RANGE_UNSHARE]), Ok(0));
    assert_eq!(init.call(number::__NR_close, [read]), Ok(0));
    assert_eq!(
        sharer.call(number::__NR_fcntl, [read, number::F_GETFD as usize, 0]),
        Ok(0),
        "the other's is open still"
    );
    assert_eq!(init.call(number::__NR_fcntl, [read, number::F_GETFD as usize, 0]), Err(Errno::EBADF));
    let (umask, _) = init.try_clone(number::SIGCHLD | number::CLONE_FS, 0).unwrap();
    assert_eq!(umask.call(number::__NR_umask, [0o77]), Ok(0o22));
    assert_eq!((init.call(number::__NR_umask, [0o22]), sharer.call(number::__NR_umask, [0o22])), (Ok(0o77), Ok(0o22)));
}

#[test]
fn a_terminal_is_told_who_is_in_which_group() {
    use tty::{JobControl, TerminalSignal};
    let (stage, init) = Stage::start();
    let kernel = &stage.kernel;
    let (shell, shell_pid) = init.fork();
    assert_eq!(shell.call(number::__NR_setsid, []), Ok(shell_pid));
    let (job, job_pid) = shell.fork();
    assert_eq!(job.call(number::__NR_setpgid, [0, 0]), Ok(0));
    let [session, group, nobody] = [shell_pid, job_pid, 99].map(|number| Pid::new(number as u32));
    let member = kernel.member(group).unwrap();
    assert_eq!((member.process, member.group, member.session), (group, group, session));
    assert!(kernel.member(nobody).is_none());
    assert_eq!((kernel.session_of_group(group), kernel.session_of_group(nobody)), (Some(session), None));
    assert!(!kernel.is_orphaned(group) && kernel.is_orphaned(session) && kernel.is_orphaned(nobody));
    assert!(kernel.is_administrator(group) && !kernel.is_administrator(nobody));
    assert_eq!(job.call(number::__NR_setuid, [1000]), Ok(0));
    assert!(!kernel.is_administrator(group));
    // Blocked, ignored, or neither.
    let quit = TerminalSignal::Quit;
    assert!(!kernel.blocks_or_ignores(group, quit) && !kernel.blocks_or_ignores(nobody, quit));
    let mask = job.store(DATA, &(1_u64 << (number::SIGQUIT - 1)));
    assert_eq!(job.call(number::__NR_rt_sigprocmask, [0, mask, 0, 8]), Ok(0));
    assert!(kernel.blocks_or_ignores(group, quit) && !kernel.blocks_or_ignores(group, TerminalSignal::Interrupt));
    let ignore = job.store(DATA, &[1_u64, 0, 0, 0]);
    assert_eq!(job.call(number::__NR_rt_sigaction, [number::SIGINT as usize, ignore, 0, 8]), Ok(0));
    assert!(kernel.blocks_or_ignores(group, TerminalSignal::Interrupt));
    // A stopped job whose last link to the session ends is hung up and continued.
    shell.handle(number::SIGCHLD, 0);
    kernel.signal_group(group, TerminalSignal::Suspend);
    assert_eq!(shell.call(number::__NR_wait4, [job_pid, DATA, number::WUNTRACED as usize, 0]), Ok(job_pid));
    assert_eq!(shell.load::<u32>(DATA), number::SIGTSTP << 8 | 0x7f);
    kernel.signal_leader(session, TerminalSignal::Hangup);
    assert_eq!(init.call(number::__NR_wait4, [shell_pid, DATA, 0, 0]), Ok(shell_pid));
    assert_eq!(init.load::<u32>(DATA), number::SIGHUP);
    assert_eq!(init.call(number::__NR_wait4, [job_pid, DATA, 0, 0]), Ok(job_pid));
    assert_eq!(init.load::<u32>(DATA), number::SIGHUP);
    assert!(kernel.session_of_group(group).is_none() && kernel.member(session).is_none());
}

#[test]
fn threads_of_a_process_are_found_by_their_numbers() {
    let (stage, init) = Stage::start();
    let (child, pid) = init.fork();
    let process = stage.kernel.processes().process(Pid::new(pid as u32)).unwrap();
    let (first, first_tid) = child.thread(DATA + 0x8000);
    let (_second, second_tid) = child.thread(DATA + 0xa000);
    let (first_tid, second_tid) = (first_tid as u32, second_tid as u32);
    assert_eq!((process.thread_count(), stage.kernel.processes().thread_count()), (3, 4));
    let next = |after: u32, room: usize| {
        let mut found = vec![0; room];
        let count = process.next_threads(process.namespaces().pids(), after, &mut found);
        found[..count].to_vec()
    };
    assert_eq!(next(0, 9), [pid as u32, first_tid, second_tid]);
    assert_eq!(
        (next(0, 1), next(pid as u32, 1), next(first_tid, 2)),
        (vec![pid as u32], vec![first_tid], vec![second_tid])
    );
    assert_eq!((next(second_tid, 3), next(0, 0)), (vec![], vec![]));
    let thread = |number: u32| process.thread(Pid::new(number));
    assert_eq!(thread(first_tid).map(|thread| thread.tid().index()), Some(first_tid));
    assert!(thread(99).is_none() && thread(1).is_none());
    assert_eq!(process.out_of_memory_adjustment(), 0);
    first.begin(number::__NR_exit, [0]);
    while thread(first_tid).is_some() {
        std::thread::yield_now();
    }
    assert_eq!((process.thread_count(), next(pid as u32, 2)), (2, vec![second_tid]));
    assert!(!process.is_zombie() && process.exit_status().is_none());
    child.begin(number::__NR_exit_group, [3]);
    assert_eq!(init.call(number::__NR_wait4, [pid, 0, 0, 0]), Ok(pid));
    assert_eq!((process.is_zombie(), process.exit_status()), (true, Some(0x300)));
    assert_eq!((process.thread_count(), stage.kernel.processes().count()), (0, 1));
}

#[test]
fn a_program_that_is_written_to_loses_its_set_id_bits() {
    let (_stage, init) = Stage::start();
    let (user, _) = init.fork();
    assert_eq!(user.call(number::__NR_setuid, [1000]), Ok(0));
    let flags = (number::O_RDWR | number::O_CREAT) as usize;
    let name = init.string(DATA, "/program");
    user.string(DATA, "/program");
    let file = init.call(number::__NR_open, [name, flags, 0o666]).unwrap();
    for (writer, kept) in [(&init, true), (&user, false)] {
        assert_eq!(init.call(number::__NR_fchmod, [file, 0o6777]), Ok(0));
        let file = writer.call(number::__NR_open, [name, number::O_RDWR as usize, 0]).unwrap();
        assert_eq!(writer.call(number::__NR_write, [file, name, 1]), Ok(1));
        assert_eq!(writer.call(number::__NR_fstat, [file, DATA + 0x100]), Ok(0));
        let mode: u32 = writer.load(DATA + 0x100 + 24);
        assert_eq!(mode & 0o7777, if kept { 0o6777 } else { 0o777 });
    }
}

#[test]
fn flags_of_clone_that_do_not_go_together() {
    let (_stage, init) = Stage::start();
    let mut made = Vec::new();
    let mut make = |flags: u32| init.try_clone(flags, DATA + 0x8000).map(|child| made.push(child));
    const THREAD: u32 = number::CLONE_THREAD;
    let (vm, hand, files, fs) = (number::CLONE_VM, number::CLONE_SIGHAND, number::CLONE_FILES, number::CLONE_FS);
    for (flags, expected) in [
        (THREAD, Err(Errno::EINVAL)),
        (THREAD | vm, Err(Errno::EINVAL)),
        (THREAD | hand, Err(Errno::EINVAL)),
        (hand, Err(Errno::EINVAL)),
        (number::CLONE_PARENT, Err(Errno::EINVAL)),
        (number::CLONE_NEWNS | fs, Err(Errno::EINVAL)),
        (number::CLONE_NEWUSER | fs, Err(Errno::EINVAL)),
        (THREAD | vm | hand | files | fs, Ok(())),
        (files | fs, Ok(())),
        (vm, Ok(())),
    ] {
        assert_eq!(make(flags), expected, "{flags:#x}");
    }
    let (user, _) = init.fork();
    assert_eq!(user.call(number::__NR_setuid, [1000]), Ok(0));
    for (program, errno) in [(&init, Errno::EINVAL), (&user, Errno::EPERM)] {
        assert_eq!(program.try_clone(number::CLONE_NEWUTS, 0).err(), Some(errno), "there are no namespaces yet");
    }
}
