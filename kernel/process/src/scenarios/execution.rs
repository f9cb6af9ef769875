//! execve: programs, scripts, arguments, threads, hostile files.

use abi::Errno;
use abi::raw::general as raw;

use super::families::{collect, error, told};
use super::stage::Step::*;
use super::stage::{DATA, Stage, Step, Value, action_bytes, program_file};
use crate::{ExitStatus, call};

const PATH: usize = DATA + 0x400;
const STRINGS: usize = DATA + 0x500;
const ARRAY: usize = DATA + 0x600;
const ACTION: usize = DATA + 0x700;

/// Executes `path` with so many arguments "a".
fn execute(path: &str, arguments: usize) -> Vec<Step> {
    let mut array = Vec::new();
    for _ in 0..arguments {
        array.extend((STRINGS as u64).to_le_bytes());
    }
    array.extend(0_u64.to_le_bytes());
    vec![
        Store(PATH, [path.as_bytes(), b"\0"].concat()),
        Store(STRINGS, b"a\0".to_vec()),
        Store(ARRAY, array),
        call!(__NR_execve, PATH, ARRAY, ARRAY),
    ]
}

/// A program that begins again at its first step after execve, and finds out which time it is by its number of arguments:
/// init has one.
fn by_arguments(first: Vec<Step>, second: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![Read(Value::Rsp, 0), IfEqual(1, "first"), Show("arguments")];
    steps.extend(second);
    steps.push(call!(__NR_exit_group, 0));
    steps.push(Label("first"));
    steps.extend(first);
    steps.push(call!(__NR_exit_group, 1));
    steps
}

#[test]
fn a_program_starts_with_its_arguments_environment_and_vector() {
    let stage = Stage::new(&[("/next", &program_file())]);
    let second = vec![
        Read(Value::Rsp, 8 * 4),
        Show("end of arguments"),
        Read(Value::Rsp, 8 * 5),
        Keep(0),
        Read(Value::Kept(0), 0),
        Show("first of the environment"),
        Read(Value::Rsp, 8 * 8),
        Show("end of the environment"),
        Read(Value::Rsp, 8 * 9),
        Show("first of the vector"),
        Read(Value::Rsp, 8 * 10),
        Keep(1),
        Read(Value::Kept(1), 0),
        Show("the vDSO"),
        Load(Value::Rsp),
        Show("pointer"),
    ];
    let (status, lines) = stage.play(by_arguments(execute("/next", 3), second));
    assert_eq!(status, ExitStatus::Exited(0));
    let value = |name: &str| lines.iter().find(|line| line.0 == name).unwrap().1;
    assert_eq!((value("arguments"), value("end of arguments"), value("end of the environment")), (3, 0, 0));
    assert_eq!(value("first of the environment") as u16, u16::from_le_bytes([b'a', 0]));
    assert_eq!(value("first of the vector"), abi::raw::auxvec::AT_SYSINFO_EHDR.into());
    assert_eq!(value("the vDSO") as u32, u32::from_le_bytes(*b"\x7fELF"));
    assert_eq!(value("pointer") % 16, 0);
}

#[test]
fn what_can_not_be_executed_is_refused_and_the_program_goes_on() {
    let files: [(&str, &[u8]); 4] =
        [("/text", b"hello"), ("/empty", b""), ("/nobody", b"#!/nothing\n"), ("/itself", b"#!/itself\n")];
    let stage = Stage::new(&files);
    let mut steps = Vec::new();
    for (path, _) in [("/missing", b"".as_slice())].into_iter().chain(files) {
        steps.extend(execute(path, 1));
        steps.push(Show(path));
    }
    steps.extend([call!(__NR_execve, 0x10, ARRAY, 0), Show("no path"), call!(__NR_execve, PATH, 0x10, 0)]);
    steps.extend([Show("no arguments"), call!(__NR_exit_group, 3)]);
    let expected = [
        ("/missing", error(Errno::ENOENT)),
        ("/text", error(Errno::ENOEXEC)),
        ("/empty", error(Errno::ENOEXEC)),
        ("/nobody", error(Errno::ENOENT)),
        ("/itself", error(Errno::ELOOP)),
        ("no path", error(Errno::EFAULT)),
        ("no arguments", error(Errno::EFAULT)),
    ];
    assert_eq!(stage.play(steps), (ExitStatus::Exited(3), told(&expected)));
}

#[test]
fn a_script_runs_its_interpreter_with_its_own_name() {
    let stage = Stage::new(&[("/next", &program_file()), ("/script", b"#!/next -x  y\n")]);
    // /next, "-x  y", /script, and the second argument.
    let second = vec![
        Read(Value::Rsp, 8),
        Keep(0),
        Read(Value::Kept(0), 0),
        Show("interpreter"),
        Read(Value::Rsp, 16),
        Keep(0),
        Read(Value::Kept(0), 0),
        Show("argument"),
        Read(Value::Rsp, 24),
        Keep(0),
        Read(Value::Kept(0), 0),
        Show("script"),
    ];
    let (_, lines) = stage.play(by_arguments(execute("/script", 2), second));
    let word = |text: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..text.len().min(8)].copy_from_slice(&text[..text.len().min(8)]);
        i64::from_le_bytes(bytes)
    };
    assert_eq!(lines[0], ("arguments".to_string(), 4));
    // The strings follow one another.
    assert_eq!(lines[1].1, word(b"/next\0-x"));
    assert_eq!(lines[2].1, word(b"-x  y\0/s"));
    assert_eq!(lines[3].1, word(b"/script\0"));
}

#[test]
fn handlers_are_gone_and_ignored_signals_stay_ignored() {
    let stage = Stage::new(&[("/next", &program_file())]);
    let mut first = vec![
        Store(ACTION, action_bytes(1, 0, 0)),
        call!(__NR_rt_sigaction, raw::SIGUSR1 as usize, ACTION, 0, 8),
        Store(ACTION, action_bytes(0x5000, 0x400_0000, 0x5000)),
        call!(__NR_rt_sigaction, raw::SIGUSR2 as usize, ACTION, 0, 8),
        call!(__NR_fork),
        IfZero("child"),
    ];
    collect(&mut first, -1, 0);
    first.extend([call!(__NR_exit_group, 1), Label("child")]);
    first.extend(execute("/next", 2));
    let second = vec![
        call!(__NR_getpid),
        Keep(0),
        call!(__NR_kill, Value::Kept(0), raw::SIGUSR1 as usize),
        Say("ignored"),
        call!(__NR_kill, Value::Kept(0), raw::SIGUSR2 as usize),
        Say("never"),
    ];
    let (_, lines) = stage.play(by_arguments(first, second));
    let expected = [("arguments", 2), ("ignored", 0), ("waited", 2), ("status", i64::from(raw::SIGUSR2))];
    assert_eq!(lines, told(&expected));
}

#[test]
fn too_many_arguments_are_too_many() {
    let stage = Stage::new(&[("/next", &program_file())]);
    // One string of 128 KiB and more does not fit, whatever the stack allows. DATA has room for 60 KiB only, so the
    // string is made of the longest there is: no zero up to the end of the segment, which is a fault; and an array
    // without an end.
    let steps = vec![
        Store(PATH, b"/next\0".to_vec()),
        Store(DATA + 0x1000, vec![b'x'; 0xe000]),
        Store(ARRAY, [((DATA + 0x1000) as u64).to_le_bytes(), [0; 8]].concat()),
        call!(__NR_execve, PATH, ARRAY, 0),
        Show("no end"),
        // 7000 pointers to a string of 1 KiB: 7 MiB, more than a quarter of the stack's limit.
        Store(DATA + 0xb00, [vec![b'x'; 1023], vec![0]].concat()),
        Store(DATA + 0x1000, [((DATA + 0xb00) as u64).to_le_bytes()].concat().repeat(7000)),
        Store(DATA + 0x1000 + 56000, vec![0; 8]),
        call!(__NR_execve, PATH, DATA + 0x1000, 0),
        Show("too many"),
        call!(__NR_exit_group, 0),
    ];
    let expected = [("no end", error(Errno::EFAULT)), ("too many", error(Errno::E2BIG))];
    assert_eq!(stage.play(steps).1, told(&expected));
}

#[test]
fn executing_ends_the_other_threads_and_takes_the_leader_s_number() {
    let thread = (raw::CLONE_VM | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SIGHAND | raw::CLONE_THREAD) as usize;
    let stage = Stage::new(&[("/next", &program_file())]);
    let mut first = vec![call!(__NR_fork), IfZero("child")];
    collect(&mut first, -1, 0);
    first.extend([call!(__NR_exit_group, 1), Label("child")]);
    // The leader pauses, a second thread computes, a third executes.
    first.extend([call!(__NR_clone, thread, DATA + 0x8000, 0, 0, 0), IfZero("second")]);
    first.extend([call!(__NR_clone, thread, DATA + 0xa000, 0, 0, 0), IfZero("third"), call!(__NR_pause)]);
    first.extend([Label("second"), Spin, Jump("second"), Label("third")]);
    first.extend(execute("/next", 2));
    let second = vec![call!(__NR_gettid), Show("thread"), call!(__NR_getpid), Show("process"), call!(__NR_exit, 5)];
    let (_, lines) = stage.play(by_arguments(first, second));
    assert_eq!(lines, told(&[("arguments", 2), ("thread", 2), ("process", 2), ("waited", 2), ("status", 0x500)]));
    assert_eq!(stage.kernel.processes().count(), 1);
}

#[test]
fn damaged_programs_never_harm_anybody_else() {
    let good = program_file();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..60 {
        let mut damaged = good.clone();
        for _ in 0..=next() % 6 {
            let at = next() as usize % 120;
            damaged[at] = next() as u8;
        }
        let stage = Stage::new(&[("/damaged", &damaged)]);
        let mut first = vec![call!(__NR_fork), IfZero("child"), call!(__NR_wait4, -1, 0, 0, 0), Show("waited")];
        first.extend([call!(__NR_exit_group, 1), Label("child")]);
        first.extend(execute("/damaged", 2));
        first.push(call!(__NR_exit_group, 2));
        let (status, lines) = stage.play(by_arguments(first, vec![]));
        assert_eq!(status, ExitStatus::Exited(1));
        assert!(lines.contains(&("waited".to_string(), 2)), "{lines:?}");
        assert_eq!(stage.kernel.processes().count(), 1);
    }
}

#[test]
fn a_refused_file_is_let_go_of() {
    for bytes in [b"hello".as_slice(), b"\x7fELF", b"#!/nothing\n", b""] {
        let stage = Stage::new(&[("/bad", bytes)]);
        let before = stage.references("/bad");
        let mut steps = vec![call!(__NR_fork), IfZero("child"), call!(__NR_wait4, -1, 0, 0, 0)];
        steps.extend([call!(__NR_exit_group, 0), Label("child")]);
        steps.extend(execute("/bad", 1));
        steps.push(call!(__NR_exit_group, 2));
        stage.play(steps);
        assert_eq!(stage.references("/bad"), before, "{bytes:?}");
    }
}
