//! execve: programs, scripts, arguments, threads, hostile files.

use abi::Errno;
use abi::raw::general as raw;

use super::families::{collect, error, told};
use crate::stage::Step::*;
use crate::stage::{DATA, Stage, Step, Value, action_bytes, program_file};
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

/// There is no way back when the segments are put in place: whoever has no memory for them is killed, as on Linux, and the kernel says
/// why.
#[test]
fn a_program_without_memory_for_it_is_killed_and_named() {
    let mut file = program_file();
    // The segment's length in memory: far more than there is.
    file[64 + 40..64 + 48].copy_from_slice(&(1_u64 << 45).to_le_bytes());
    let stage = Stage::new(&[("/large", &file)]);
    let mut steps = vec![call!(__NR_fork), IfZero("child"), call!(__NR_wait4, -1, DATA + 64, 0, 0)];
    steps.extend([Read(Value::Number(DATA + 64), 0), Show("status"), call!(__NR_exit_group, 0), Label("child")]);
    steps.extend(execute("/large", 1));
    steps.push(call!(__NR_exit_group, 2));
    let (_, lines) = stage.play(steps);
    assert_eq!(lines, told(&[("status", i64::from(abi::signal::Signal::SEGV.number()))]));
    let said = stage.kernel.log().read_all(1000);
    assert!(said.contains("Out of memory: killed process 2 (large)"), "{said}");
}

/// execve(2): the set-ID bits of a file count, set-group-ID only where the group may execute.
#[test]
fn set_id_bits_make_the_program_its_owner_s() {
    for (permissions, user, group) in
        [(0o755, 1000, 50), (0o4755, 0, 50), (0o2755, 1000, 0), (0o6755, 0, 0), (0o2745, 1000, 50), (0o6745, 0, 50)]
    {
        let stage = Stage::new(&[]);
        stage.put_as("/next", &program_file(), permissions);
        let mut first = vec![call!(__NR_setgid, 50), call!(__NR_setuid, 1000)];
        first.extend(execute("/next", 2));
        let second = vec![
            call!(__NR_getuid),
            Show("real"),
            call!(__NR_geteuid),
            Show("user"),
            call!(__NR_getegid),
            Show("group"),
        ];
        let (status, lines) = stage.play(by_arguments(first, second));
        assert_eq!(status, ExitStatus::Exited(0), "{permissions:o}");
        let expected = [("arguments", 2), ("real", 1000), ("user", user), ("group", group)];
        assert_eq!(lines, told(&expected), "{permissions:o}");
    }
}

#[test]
fn who_may_not_execute_a_file_does_not() {
    for (permissions, expected) in [(0o644, Errno::EACCES), (0o754, Errno::EACCES)] {
        let stage = Stage::new(&[]);
        stage.put_as("/next", &program_file(), permissions);
        let mut steps = vec![call!(__NR_setgid, 50), call!(__NR_setuid, 1000)];
        steps.extend(execute("/next", 2));
        steps.extend([Show("execve"), call!(__NR_exit_group, 3)]);
        assert_eq!(stage.play(steps), (ExitStatus::Exited(3), told(&[("execve", error(expected))])));
    }
}

/// The stack of a program holds what it should whatever the number of its arguments: they and the pointers to them are
/// found from the stack pointer upwards, and the vector behind them ends before the strings.
#[test]
fn a_stack_has_room_for_any_number_of_arguments() {
    for count in [1, 2, 3, 4, 7, 61, 62, 63, 64, 65, 130] {
        let stage = Stage::new(&[("/next", &program_file())]);
        let at = |index: usize| 8 * index;
        let second = vec![
            Load(Value::Rsp),
            Show("pointer"),
            // The last argument, the end of them, and the last of the environment, which is the same array.
            Read(Value::Rsp, at(count)),
            Keep(0),
            Read(Value::Kept(0), 0),
            Show("last"),
            Read(Value::Rsp, at(count + 1)),
            Show("end"),
            Read(Value::Rsp, at(2 * count + 1)),
            Keep(1),
            Read(Value::Kept(1), 0),
            Show("last of all"),
            Read(Value::Rsp, at(2 * count + 2)),
            Show("end of all"),
        ];
        // Init has no environment.
        let mut steps = vec![Read(Value::Rsp, 0), IfEqual(1, "one"), Jump("second"), Label("one")];
        steps.extend([Read(Value::Rsp, at(3)), IfZero("begin"), Label("second")]);
        steps.extend(second);
        steps.extend([call!(__NR_exit_group, 0), Label("begin")]);
        steps.extend(execute("/next", count));
        steps.push(call!(__NR_exit_group, 1));
        let (status, lines) = stage.play(steps);
        assert_eq!(status, ExitStatus::Exited(0), "{count}");
        let value = |name: &str| lines.iter().find(|line| line.0 == name).unwrap().1;
        let letter = u16::from_le_bytes([b'a', 0]);
        assert_eq!((value("pointer") % 16, value("end"), value("end of all")), (0, 0, 0), "{count}");
        assert_eq!((value("last") as u16, value("last of all") as u16), (letter, letter), "{count}");
    }
}

/// A string that is copied in pieces arrives as it was, and the next one follows it.
#[test]
fn long_strings_arrive_whole() {
    for length in [4094, 4095, 4096, 4097, 8191, 8192, 12_300] {
        let stage = Stage::new(&[("/next", &program_file())]);
        let long: Vec<u8> = (0..length).map(|index| (index % 251) as u8 + 1).collect();
        let at = DATA + 0x1000;
        let array: Vec<u8> = [at, STRINGS, 0].into_iter().flat_map(usize::to_le_bytes).collect();
        let mut first = execute("/next", 1);
        first.insert(3, Store(at, [&*long, b"\0"].concat()));
        first.insert(3, Store(ARRAY, array));
        // Words at the pieces' borders, and the last, which holds the next string.
        let places: Vec<usize> = (0..length - 8).step_by(1020).chain([length - 4]).collect();
        let mut second = vec![Read(Value::Rsp, 8), Keep(0)];
        for &place in &places {
            second.extend([Read(Value::Kept(0), place), Show("word")]);
        }
        let lines = Stage::play(&stage, by_arguments(first, second)).1;
        let bytes = [&*long, b"\0a\0"].concat();
        for (place, line) in places.iter().zip(&lines[1..]) {
            let expected = &bytes[*place..(place + 8).min(bytes.len())];
            assert_eq!(&line.1.to_le_bytes()[..expected.len()], expected, "{length}: {place}");
        }
        assert_eq!(lines.len(), places.len() + 1);
    }
}

/// `MAX_ARG_STRLEN`: 128 KiB with the zero.
#[test]
fn the_longest_string_is_128_kib() {
    let longest = 128 * 1024;
    let mut large = program_file();
    large[104..112].copy_from_slice(&0x10_0000_u64.to_le_bytes());
    for (length, result) in [(longest - 1, None), (longest, Some(Errno::E2BIG))] {
        let stage = Stage::new(&[("/init", &large), ("/next", &program_file())]);
        let at = DATA + 0x1000;
        let mut first = execute("/next", 2);
        first.insert(3, Store(at, vec![b'x'; length]));
        first.insert(3, Store(ARRAY, at.to_le_bytes().to_vec()));
        first.push(Show("execve"));
        let lines = stage.play(by_arguments(first, vec![])).1;
        let expected = result.map_or(("arguments", 2), |errno| ("execve", error(errno)));
        assert_eq!(lines, told(&[expected]), "{length}");
    }
}

/// A program that wants this interpreter, whose name the file holds from `at` on.
fn dynamic(name: &[u8], at: u64) -> Vec<u8> {
    let mut file = program_file();
    file[56] = 2;
    let interpreter = &mut file[120..176];
    interpreter[..4].copy_from_slice(&3_u32.to_le_bytes());
    interpreter[8..16].copy_from_slice(&at.to_le_bytes());
    interpreter[32..40].copy_from_slice(&(name.len() as u64).to_le_bytes());
    file.truncate(0x1f0);
    file.extend(name);
    file
}

#[test]
fn a_program_needs_the_interpreter_it_names() {
    let files: [(&str, &[u8], Errno); 5] = [
        ("/missing", &dynamic(b"/none\0", 0x1f0), Errno::ENOENT),
        // What follows the first zero is no part of the name.
        ("/zeros", &dynamic(b"/text\0x\0", 0x1f0), Errno::ELIBBAD),
        ("/unended", &dynamic(b"/text\0x", 0x1f0), Errno::ENOEXEC),
        ("/short", &dynamic(b"/text\0", 0x1f1), Errno::EIO),
        ("/folder", &dynamic(b"/\0", 0x1f0), Errno::EACCES),
    ];
    let stage =
        Stage::new(&[("/text", b"This is not a program, but long enough to be one, as ELF headers take 64 bytes.")]);
    let mut steps = Vec::new();
    for (path, bytes, _) in files {
        stage.put(path, bytes);
        steps.extend(execute(path, 1));
        steps.push(Show(path));
    }
    steps.push(call!(__NR_exit_group, 3));
    let expected = files.map(|(path, _, errno)| (path, error(errno)));
    assert_eq!(stage.play(steps), (ExitStatus::Exited(3), told(&expected)));
}
