//! What is shown of processes and threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use abi::Errno;
use abi::raw::general as raw;
use abi::signal::Signal;
use memory::PAGE_SIZE;
use process::limits::Resource;
use process::signal::{Information, send};
use process::stage::Step::{self, *};
use process::stage::{DATA, Stage, Value, program_file, until};
use process::{Role, RunState, call};
use tty::{Alarms, Line, Terminal};
use vfs::{DeviceNumber, OpenFlags};

use super::{Bench, ROOT, asleep, read_all, wait, write};
use crate::node::{Cursor, Step as Made};
use crate::text::Text;

const THREAD: u32 = raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD;

/// Makes a thread that waits for ever, as does what stands behind these steps.
fn thread() -> Vec<Step> {
    let away = [Label("thread"), call!(__NR_pause), Jump("thread")];
    let make = [call!(__NR_clone, THREAD as usize, 0, 0, 0, 0), IfZero("thread"), Jump("made")];
    [&make[..], &away, &[Label("made")]].concat()
}

/// A child that ends at once, and waits to be collected.
fn zombie() -> Vec<Step> {
    vec![
        call!(__NR_fork),
        IfZero("ends"),
        Jump("forked"),
        Label("ends"),
        Store(DATA, vec![1]),
        call!(__NR_exit_group, 3),
        Label("forked"),
    ]
}

/// A program with two threads that has collected a child, its terminal, and what it is called and may.
fn with_two_threads(role: Role, stage: Stage) -> Bench {
    let collect = vec![call!(__NR_wait4, -1, 0, 0, 0)];
    let bench = Bench::with(stage, role, 1, [zombie(), collect, thread(), wait()].concat());
    let leader = bench.process(1).first_thread().unwrap();
    leader.set_name(b"a) (b");
    leader.task().set_nice(5);
    bench
}

struct Nowhere;

impl Line for Nowhere {
    fn output_ready(&self) {}
}

impl Alarms for Nowhere {
    fn wake_at(&self, _deadline: u64, _terminal: Weak<Terminal>) {}
}

fn fields(stat: &str) -> Vec<String> {
    stat.rsplit_once(") ").unwrap().1.trim_end().split(' ').map(String::from).collect()
}

#[test]
fn stat_has_linux_s_fields() {
    let stage = Stage::new(&[]);
    let (number, line) = (DeviceNumber { major: 4, minor: 64 }, Arc::new(Nowhere));
    let terminal = Terminal::new(number, "ttyS0", Default::default(), line.clone(), stage.kernel.clone(), line);
    let bench = with_two_threads(Role::Program { terminal: Some(terminal) }, stage);
    let text = bench.text("1/stat");
    assert!(text.starts_with("1 (a) (b) S "), "{text}");
    assert_eq!(bench.text("consoles"), "ttyS0                -W- (EC p a)    4:64\n");
    let own = fields(&text);
    assert_eq!(own.len(), fields(&std::fs::read_to_string("/proc/self/stat").unwrap()).len());
    // state ppid pgrp session tty tpgid flags, and prio nice threads itrealvalue
    assert_eq!(own[..7], ["S", "0", "1", "1", "1088", "1", "4194304"]);
    assert_eq!(own[15..19], ["25", "5", "2", "0"]);
    let process = bench.process(1);
    let (usage, children) = (process.usage(), process.children_usage());
    assert!(children.minor_faults > 0);
    let faults = [usage.minor_faults, children.minor_faults, usage.major_faults, children.major_faults];
    assert_eq!(own[7..11], faults.map(|count| count.to_string()));
    assert_eq!(own[19], (process.started() / 10_000_000).to_string());
    let space = process.space().unwrap();
    let (memory, program) = (space.usage(), space.program());
    let of_memory = [memory.size * PAGE_SIZE, memory.resident, usize::MAX, program.code.start, program.code.end];
    assert_eq!(own[20..25], of_memory.map(|number| number.to_string()));
    assert_eq!(own[25], program.stack.to_string());
    assert_eq!((&*own[32], &*own[35]), ("1", "17"), "it waits; the exit signal");
    assert!(own[36].parse::<usize>().unwrap() < machine::cpu::count());
    assert_eq!(
        own[42..45],
        [program.data.start, program.data.end, space.heap().start].map(|number| number.to_string())
    );
    assert_eq!(own[49], "0", "it has not ended");
    let thread = bench.text("1/task/3/stat");
    assert!(thread.starts_with("3 (init) S 0 1 1 1088 1 "), "{thread}");
    assert_eq!(
        (&*fields(&thread)[8], &*fields(&thread)[16]),
        ("0", "0"),
        "a thread has no children, and its own nice value"
    );
    assert_eq!(fields(&bench.text("3/stat"))[8], own[8], "by its number alone it shows its process");
}

#[test]
fn status_has_linux_s_lines_in_linux_s_order() {
    let bench = with_two_threads(Role::Init, Stage::new(&[]));
    let process = bench.process(1);
    let leader = process.first_thread().unwrap();
    leader.task().set_affinity(0b1101.into());
    process.fs_context().set_umask(0o27);
    asleep(&process);
    let ours = bench.text("1/status");
    let host = std::fs::read_to_string("/proc/self/status").unwrap();
    let keys =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.split(':').next().unwrap().into()).collect() };
    let known = keys(&ours);
    // Linux before 6.10 lacks some of ours, and it has more for its mitigations.
    let both: Vec<_> = keys(&host).into_iter().filter(|key| known.contains(key)).collect();
    assert!(both.len() > 50);
    assert_eq!(known.into_iter().filter(|key| both.contains(key)).collect::<Vec<_>>(), both);
    let memory = process.space().unwrap().usage();
    let kib = |pages: usize| format!("{:8} kB", pages * 4);
    for line in [
        "Name:\ta) (b",
        "Umask:\t0027",
        "State:\tS (sleeping)",
        "Tgid:\t1",
        "Pid:\t1",
        "PPid:\t0",
        "Uid:\t0\t0\t0\t0",
        "Groups:\t ",
        "Kthread:\t0",
        &format!("VmSize:\t{}", kib(memory.size)),
        &format!("VmRSS:\t{}", kib(memory.resident)),
        &format!("VmStk:\t{}", kib(memory.stack)),
        "Threads:\t2",
        "SigBlk:\t0000000000000000",
        "CapBnd:\t000001ffffffffff",
        "Cpus_allowed:\td",
        "Cpus_allowed_list:\t0,2-3",
    ] {
        assert!(ours.lines().any(|ours| ours == line), "{line:?} in {ours}");
    }
    let thread = bench.text("1/task/3/status");
    for line in ["Tgid:\t1", "Pid:\t3", "NSpid:\t3", "Name:\tinit", "Cpus_allowed:\tf"] {
        assert!(thread.lines().any(|ours| ours == line), "{line:?} in {thread}");
    }
}

/// Who a thread is, in all its ids and rights, and what it blocks and has pending.
#[test]
fn credentials_and_signals_are_those_of_the_thread() {
    let block =
        [Store(DATA, (1_u64 << 16).to_le_bytes().to_vec()), call!(__NR_rt_sigprocmask, raw::SIG_BLOCK as usize, DATA)];
    let bench = Bench::new(1, [&block[..], &thread(), &wait()].concat());
    let process = bench.process(1);
    let leader = process.first_thread().unwrap();
    let groups = leader.credentials().set_supplementary(Arc::new(vec![4, 24])).unwrap();
    leader.set_credentials(groups).unwrap();
    let user = leader.credentials().set_users(1000, 1000, 0).unwrap();
    leader.set_credentials(user).unwrap();
    send::post_thread(&leader, Information::kernel(Signal::new(17).unwrap())).unwrap();
    send::post(&process, Information::kernel(Signal::new(17).unwrap())).unwrap();
    asleep(&process);
    let status = bench.text("1/status");
    for line in [
        "Uid:\t1000\t1000\t0\t1000",
        "Gid:\t0\t0\t0\t0",
        "Groups:\t4 24 ",
        "SigBlk:\t0000000000010000",
        "SigPnd:\t0000000000010000",
        "ShdPnd:\t0000000000010000",
    ] {
        assert!(status.lines().any(|ours| ours == line), "{line:?} in {status}");
    }
    assert!(bench.text("1/task/2/status").contains("\nUid:\t0\t0\t0\t0\n"));
    // It hides from others since, and shows its files as root's, but for what everybody may look at.
    let owner = |path: &str| bench.find(path).unwrap().permissions().user;
    assert_eq!((owner("1/status"), owner("1"), owner("1/task/2")), (0, 1000, 0));
    process.set_dumpable(1);
    assert_eq!((owner("1/status"), owner("1/task/2/status")), (1000, 0));
}

#[test]
fn limits_are_those_of_the_process() {
    let bench = Bench::new(1, wait());
    let files = bench.process(1).limits().get(Resource::Files);
    let line = format!("Max open files            {:<20} {:<20} files     \n", files.soft, files.hard);
    let limits = bench.text("1/limits");
    assert!(limits.contains(&line) && limits.contains("Max cpu time              unlimited            "), "{limits}");
}

/// A leader that has ended, and a process that has: both are shown until somebody has collected them.
#[test]
fn who_has_ended_is_shown_until_he_is_collected() {
    let bench = Bench::new(1, [zombie(), wait()].concat());
    let zombie = bench.process(2);
    until(|| zombie.is_zombie());
    let text = bench.text("2/stat");
    assert!(text.starts_with("2 (init) Z 1 1 1 0 -1 0 "), "{text}");
    assert_eq!((&*fields(&text)[20], &*fields(&text)[49]), ("0", "768"), "no memory, and its status");
    let status = bench.text("2/status");
    assert!(status.contains("State:\tZ (zombie)\n") && status.contains("Kthread:\t0\n") && !status.contains("VmSize"));
    assert!(status.contains("\nThreads:\t1\n"));
    assert_eq!(
        (bench.text("2/statm"), bench.text("2/cmdline"), bench.text("2/maps")),
        ("0 0 0 0 0 0 0\n".into(), "".into(), "".into())
    );
    assert_eq!(
        (bench.text("2/smaps"), bench.text("2/smaps_rollup"), bench.text("2/comm")),
        ("".into(), "".into(), "init\n".into())
    );
    assert_eq!((bench.link("2/exe"), bench.link("2/cwd")), ("ENOENT".into(), "ENOENT".into()));
    assert_eq!(read_all(&**bench.open("2/mounts").unwrap().file()), Err(Errno::ESRCH.into()));
    assert_eq!((bench.list("2/task", 9), bench.list("2/fd", 9)), (vec!["2".to_string()], vec![]));
    assert_eq!(bench.text("2/oom_score"), "0\n");
}

#[test]
fn a_leader_that_has_ended_is_a_zombie_among_its_threads() {
    let bench = Bench::new(
        1,
        [
            vec![call!(__NR_clone, THREAD as usize, 0, 0, 0, 0), IfZero("lives"), call!(__NR_exit, 0), Label("lives")],
            wait(),
        ]
        .concat(),
    );
    let process = bench.process(1);
    until(|| process.thread_count() == 1);
    let leader = bench.text("1/stat");
    assert!(leader.starts_with("1 (init) Z 0 "), "{leader}");
    assert_eq!((&*fields(&leader)[6], &*fields(&leader)[17]), ("0", "1"));
    assert!(bench.text("1/task/2/stat").starts_with("2 (init) S 0 "));
    assert!(bench.text("1/status").contains("VmSize"), "the memory is there");
    assert_eq!((bench.link("1/exe"), bench.link("1/task/2/exe")), ("ENOENT".into(), "/init".into()));
    assert_eq!((bench.list("1/task", 1), bench.find("1/task/1").is_ok()), (vec!["2".to_string()], true));
}

/// Whoever is collected is gone from every file that is still open, and nothing here keeps it.
#[test]
fn a_process_that_is_gone_answers_so_and_nothing_keeps_it() {
    let child = vec![call!(__NR_fork), IfZero("child"), call!(__NR_wait4, 2, 0, 0, 0), Say("ready")];
    let steps =
        [child, wait(), vec![Label("child"), Say("ready"), Label("stay"), call!(__NR_pause), Jump("stay")]].concat();
    let bench = Bench::new(1, steps);
    let process = bench.process(2);
    asleep(&process);
    let (directory, tasks, fd) = (bench.find("2").unwrap(), bench.find("2/task").unwrap(), bench.find("2/fd").unwrap());
    let names = ["stat", "status", "statm", "maps", "smaps", "cmdline", "comm", "limits", "mounts", "fdinfo", "cwd"];
    let files: Vec<_> = names[..9].iter().map(|name| bench.open(&format!("2/{name}")).unwrap()).collect();
    let adjustment = bench.open_as(ROOT, "2/oom_score_adj", OpenFlags::WRITE_ONLY).unwrap();
    let weak = Arc::downgrade(&process);
    send::post(&process, Information::kernel(Signal::KILL)).unwrap();
    drop(process);
    until(|| weak.strong_count() == 0);
    for (file, name) in files.iter().zip(names) {
        assert_eq!(read_all(&**file.file()), Err(Errno::ESRCH.into()), "{name}");
    }
    assert_eq!(write(&**adjustment.file(), "5"), Err(Errno::ESRCH.into()));
    let stat = directory.lookup(b"stat").unwrap();
    assert_eq!(stat.permissions().user, 0);
    assert_eq!(tasks.lookup(b"2").err(), Some(Errno::ENOENT));
    assert_eq!(fd.lookup(b"0").err(), Some(Errno::ENOENT));
    assert_eq!((tasks.attributes().links, fd.attributes().size), (2, 0));
    assert_eq!(bench.find("2").err(), Some(Errno::ENOENT));
}

/// What the texts are worth with many threads: each is listed once, whatever fits at a time, and none of another process.
#[test]
fn threads_are_listed_once_each_in_pieces() {
    let many = [
        Load(100.into()),
        Keep(0),
        Label("more"),
        call!(__NR_clone, THREAD as usize, 0, 0, 0, 0),
        IfZero("wait"),
        Loop(0, "more"),
    ];
    let bench = Bench::new(1, [&many[..], &wait()].concat());
    let expected: Vec<String> = (1..=101).map(|number| number.to_string()).collect();
    for room in [1, 7, 32, 1000] {
        assert_eq!(bench.list("1/task", room), expected);
    }
    assert_eq!(bench.find("1/task").unwrap().attributes().links, 103);
    assert_eq!(
        (bench.find("1/task/102").err(), bench.find("1/task/01").err()),
        (Some(Errno::ENOENT), Some(Errno::ENOENT))
    );
}

#[test]
fn everything_a_process_lists_can_be_found_and_has_its_own_number() {
    let bench = with_two_threads(Role::Init, Stage::new(&[]));
    let mut numbers = BTreeSet::new();
    for directory in ["1", "1/task/1", "1/task/3"] {
        let names = bench.list(directory, 3);
        assert!(names.len() > 20);
        for name in names {
            let inode = bench.find(&format!("{directory}/{name}")).unwrap();
            assert!(numbers.insert(inode.number()), "{directory}/{name}");
            assert_eq!(inode.permissions().user, 0);
        }
    }
    assert_eq!(bench.list("1/task", 1), ["1", "3"]);
    assert_eq!(bench.find("1/task/9").err(), Some(Errno::ENOENT));
    assert_eq!(bench.find("1/task/1/task").err(), Some(Errno::ENOENT));
}

#[test]
fn names_and_adjustments_can_be_written() {
    let bench = Bench::new(2, [vec![call!(__NR_fork), Show("pid")], wait()].concat());
    assert_eq!(bench.write("1/comm", "a name longer than fifteen\n"), Ok(27));
    assert_eq!(bench.text("1/comm"), "a name longer t\n");
    assert_eq!(bench.write("1/comm", "short\0junk"), Ok(10));
    assert_eq!(bench.text("1/task/1/comm"), "short\n");
    assert_eq!(bench.write("2/comm", "x"), Err(Errno::EINVAL.into()), "not the caller's");
    assert_eq!(bench.write("1/oom_score_adj", "-17\n"), Ok(4));
    assert_eq!(bench.text("1/oom_score_adj"), "-17\n");
    for wrong in ["1001", "-1001", "", "much"] {
        assert_eq!(bench.write("1/oom_score_adj", wrong), Err(Errno::EINVAL.into()), "{wrong}");
    }
    assert_eq!(bench.write("1/stat", "x"), Err(Errno::EIO.into()));
    assert_eq!(bench.write("1/comm", &"x".repeat(5000)), Err(Errno::EINVAL.into()));
    // Two thirds of what it is worth; who can't be ended is worth nothing.
    assert_eq!((bench.text("2/oom_score"), bench.text("2/oom_score_adj")), ("666\n".into(), "0\n".into()));
    assert_eq!(bench.write("2/oom_score_adj", "-1000"), Ok(5));
    assert_eq!(bench.text("2/oom_score"), "0\n");
    // Anybody may raise it; to lower it takes a right.
    let leader = bench.process(1).first_thread().unwrap();
    leader.set_credentials(leader.credentials().set_user(1000).unwrap()).unwrap();
    assert_eq!(bench.write("1/oom_score_adj", "100"), Ok(3));
    assert_eq!(bench.write("1/oom_score_adj", "99"), Err(Errno::EACCES.into()));
    assert_eq!(bench.text("1/oom_score_adj"), "100\n");
}

/// A program in a file with an odd name, with strings it was given. It begins at its first step again, with another number of arguments.
fn with_strings() -> Bench {
    const STRINGS: usize = DATA + 0x400;
    const ARRAYS: usize = DATA + 0x500;
    let pointers = [STRINGS + 7, STRINGS + 10, 0, STRINGS + 13, 0];
    let first = vec![
        Read(Value::Rsp, 0),
        IfEqual(2, "second"),
        Store(STRINGS, b"/a b\nc\0sh\0-c\0PATH=/bin\0".to_vec()),
        Store(ARRAYS, pointers.iter().flat_map(|pointer| pointer.to_le_bytes()).collect()),
        call!(__NR_execve, STRINGS, ARRAYS, ARRAYS + 24),
        Show("execve"),
        Label("second"),
    ];
    let stage = Stage::new(&[("/a b\nc", &program_file())]);
    Bench::with(stage, Role::Program { terminal: None }, 1, [first, wait()].concat())
}

#[test]
fn strings_are_those_execve_gave() {
    let bench = with_strings();
    assert_eq!((bench.text("1/cmdline"), bench.text("1/environ")), ("sh\0-c\0".into(), "PATH=/bin\0".into()));
    assert_eq!((bench.text("1/comm"), bench.link("1/exe")), ("a b\nc\n".into(), "/a b\nc".into()));
    let auxiliary = bench.process(1).program().auxiliary;
    assert!(!auxiliary.is_empty());
    let file = bench.open("1/auxv").unwrap();
    let mut bytes = vec![0; 4096];
    let count = file.file().read(0, &mut memory::Destination::kernel(&mut bytes)).unwrap();
    assert_eq!(bytes[..count], *auxiliary);
}

#[test]
fn maps_name_files_in_one_column_and_escape_them() {
    let bench = with_strings();
    let maps = bench.text("1/maps");
    let space = bench.process(1).space().unwrap();
    let areas: Vec<_> = space.areas().collect();
    assert_eq!(maps.lines().count(), areas.len());
    for (line, area) in maps.lines().zip(&areas) {
        assert!(line.starts_with(&format!("{:08x}-{:08x} ", area.range.start, area.range.end)), "{line}");
    }
    let of_file = maps.lines().find(|line| line.ends_with("/a b\\012c")).unwrap();
    assert_eq!(of_file.find('/'), Some(73));
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    assert!(stack.contains(" rw-p 00000000 00:00 0 ") && stack.find('[') == Some(73), "{stack}");
}

/// The value of a line of smaps, in KiB, over all areas.
fn total(smaps: &str, name: &str) -> usize {
    let lines = smaps.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    lines.map(|line| line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap()).sum()
}

#[test]
fn smaps_count_what_is_there() {
    let touch = (0..5).map(|page| Store(DATA + page * PAGE_SIZE, vec![1]));
    let bench = Bench::new(1, touch.chain(wait()).collect());
    let (smaps, rollup) = (bench.text("1/smaps"), bench.text("1/smaps_rollup"));
    let usage = bench.process(1).space().unwrap().usage();
    assert_eq!((total(&smaps, "Rss"), total(&smaps, "Size")), (usage.resident * 4, usage.size * 4));
    assert!(total(&smaps, "Private_Dirty") >= 20 && total(&smaps, "Anonymous") >= 20, "{smaps}");
    for name in ["Rss", "Pss", "Private_Dirty", "Private_Clean", "Shared_Clean", "Referenced", "Anonymous"] {
        assert_eq!(total(&smaps, name), total(&rollup, name), "{name}");
    }
    let areas: Vec<_> = bench.process(1).space().unwrap().areas().collect();
    let (first, last) = (areas[0].range.start, areas.last().unwrap().range.end);
    let head = format!("{first:08x}-{last:08x} ---p 00000000 00:00 0 ");
    assert!(rollup.starts_with(&format!("{head:<73}[rollup]\nRss: ")), "{rollup}");
    let statm: Vec<usize> = bench.text("1/statm").split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((statm[0], statm[1], statm[5]), (usage.size, usage.resident, usage.data + usage.stack));
}

/// However little is counted at once, the same comes out.
#[test]
fn smaps_pause_and_go_on_where_they_were() {
    let touch = (0..5).map(|page| Store(DATA + page * PAGE_SIZE, vec![1]));
    let bench = Bench::new(1, touch.chain(wait()).collect());
    let space = bench.process(1).space().unwrap();
    let make = |show: fn(&memory::AddressSpace, &mut Text, &mut Cursor, usize) -> abi::Result<Made>, budget: usize| {
        let (mut text, mut cursor, mut pauses) = (Text::new(), Cursor::default(), 0);
        while !matches!(show(&space, &mut text, &mut cursor, budget).unwrap(), Made::End) {
            pauses += 1;
            assert!(pauses < 1000);
        }
        (String::from_utf8(text.finish().unwrap()).unwrap(), pauses)
    };
    let (whole, slices) = (make(crate::maps::areas_with_residence, 10_000), make(crate::maps::areas_with_residence, 2));
    assert!(whole.1 <= 1 && slices.1 >= 3, "{} and {}", whole.1, slices.1);
    assert_eq!(whole.0, slices.0);
    // Passing an area costs 64 pages.
    let (whole, slices) = (make(crate::maps::rollup, 10_000), make(crate::maps::rollup, 65));
    assert!(whole.1 == 0 && slices.1 >= 3, "{} and {}", whole.1, slices.1);
    assert_eq!(whole.0, slices.0);
}

#[test]
fn states_are_those_of_the_thread() {
    let bench = Bench::new(1, wait());
    let process = bench.process(1);
    send::post(&process, Information::kernel(Signal::STOP)).unwrap();
    until(|| process.run_state() == RunState::Stopped);
    assert!(bench.text("1/status").contains("State:\tT (stopped)\n"));
    assert!(bench.text("1/stat").starts_with("1 (init) T "));
}
