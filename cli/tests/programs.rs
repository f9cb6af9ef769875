//! Static programs run alone: their exit statuses, their streams, what they see, and what is said when they cannot run.

mod common;

use common::{Run, Tool, busybox, code, finish, folder, program, run};
use rustix::process::Signal;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Exits with its first argument; a negative one is a signal to die of.
const END: &str = r#"
#include <signal.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	int number = atoi(argv[1]);
	if (number < 0)
		raise(-number);
	return number;
}
"#;

/// Copies its input to its output.
const COPY: &str = r#"
#include <unistd.h>
int main(void)
{
	static char buffer[65536];
	long count;
	while ((count = read(0, buffer, sizeof buffer)) > 0)
		for (long done = 0, more; done < count; done += more)
			if ((more = write(1, buffer + done, count - done)) < 0)
				return 1;
	return count < 0;
}
"#;

#[test]
fn the_exit_status_is_the_program_s() {
    let end = program("end", END);
    for status in [0, 1, 7, 255] {
        let outcome = finish(run(&[end.to_str().unwrap(), "--", &status.to_string()]), b"");
        assert_eq!((code(&outcome), outcome.errors.as_str()), (status, ""), "{status}");
    }
}

#[test]
fn the_status_tells_where_errors_can_t_be_written() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (words, expected) in [(["run", "/nonexistent"], 127), (["run", "--nonsense"], 125)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orrery"));
        let status = command.args(words).stderr(full.try_clone().unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{words:?}");
    }
}

#[test]
fn a_signal_shows_as_a_shell_shows_it() {
    let end = program("end", END);
    for signal in [Signal::HUP, Signal::INT, Signal::ABORT, Signal::KILL, Signal::SEGV, Signal::TERM] {
        let number = signal.as_raw();
        let outcome = finish(run(&[end.to_str().unwrap(), "--", &format!("-{number}")]), b"");
        assert_eq!(code(&outcome), 128 + number, "{signal:?}");
    }
}

#[test]
fn a_fault_of_the_program_is_its_own() {
    let fault = program("fault", "int main(void) { return *(volatile int *)8; }");
    assert_eq!(code(&finish(run(&[fault.to_str().unwrap()]), b"")), 128 + 11);
}

#[test]
fn bytes_pass_pipes_as_they_are() {
    let copy = program("copy", COPY);
    let all: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    for input in [&b""[..], b"\x03\x04\x1a\x11\x13\r\n\0", &all] {
        let outcome = finish(run(&[copy.to_str().unwrap()]), input);
        assert_eq!(code(&outcome), 0, "{}", outcome.errors);
        assert!(outcome.output == input, "{} bytes became {}", input.len(), outcome.output.len());
    }
}

#[test]
fn errors_and_output_stay_apart() {
    let outcome = finish(run(&[busybox().to_str().unwrap(), "--", "sh", "-c", "echo out; echo err >&2"]), b"");
    assert_eq!((outcome.text().as_str(), outcome.errors.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_closed_output_ends_the_program() {
    let Run { mut command, tool } = run(&[busybox().to_str().unwrap(), "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = [0; 2];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    assert_eq!(common::wait(child).code(), Some(141), "128 + SIGPIPE");
    tool.nothing_is_left();
}

#[test]
fn files_of_the_host_serve_as_streams() {
    let place = folder("streams");
    std::fs::write(place.join("in"), "one\ntwo\n").unwrap();
    let Run { mut command, tool } = run(&[busybox().to_str().unwrap(), "--", "wc", "-l"]);
    command.stdin(std::fs::File::open(place.join("in")).unwrap());
    command.stdout(std::fs::File::create(place.join("out")).unwrap());
    assert!(command.status().unwrap().success());
    tool.nothing_is_left();
    assert_eq!(std::fs::read_to_string(place.join("out")).unwrap().trim(), "2");
}

#[test]
fn argument_zero_is_what_was_typed_and_the_root_holds_little_else() {
    let script = "echo $0; readlink /proc/self/exe; cd /; echo *";
    let outcome = finish(run(&[busybox().to_str().unwrap(), "--", "sh", "-c", script, "zero"]), b"");
    let text = outcome.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"zero"));
    assert_eq!(lines.get(1), Some(&"/bin/busybox"), "{}", outcome.errors);
    let root: Vec<&str> = lines.get(2).unwrap_or(&"").split(' ').collect();
    assert!(root.contains(&"bin") && root.contains(&"proc") && root.contains(&"dev"), "{root:?}");
    assert!(!root.contains(&"work") && !root.contains(&"lib"), "{root:?}");

    let name = program("name", "int puts(const char *); int main(int c, char **v) { return puts(v[0]) < 0; }");
    let outcome = finish(run(&[name.to_str().unwrap()]), b"");
    assert_eq!(outcome.text().trim_end(), name.to_str().unwrap());
}

#[test]
fn the_guest_has_a_name_which_a_boot_option_changes() {
    let busybox = busybox();
    for (append, expected) in [("", "orrery\n"), ("hostname=moon", "moon\n")] {
        let outcome = finish(run(&["--append", append, busybox.to_str().unwrap(), "--", "hostname"]), b"");
        assert_eq!(outcome.text(), expected, "{}", outcome.errors);
    }
}

#[test]
fn environment_and_folder_are_what_was_asked_for() {
    let busybox = busybox();
    let mut asked = run(&[
        "--env",
        "A=1 2",
        "--env",
        "OURS",
        "--env",
        "MISSING",
        "--workdir",
        "/tmp",
        busybox.to_str().unwrap(),
        "--",
        "sh",
        "-c",
        "pwd; env",
    ]);
    asked.command.env("OURS", "copied").env("SECRET", "hidden").env_remove("MISSING");
    let text = finish(asked, b"").text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"/tmp"));
    assert!(lines.contains(&"A=1 2") && lines.contains(&"OURS=copied"), "{text}");
    assert!(!text.contains("SECRET") && !text.contains("MISSING"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("PATH=")), "{text}");
}

#[test]
fn cpus_and_memory_are_what_was_asked_for() {
    let script = "grep -c ^processor /proc/cpuinfo; head -1 /proc/meminfo";
    for cpus in ["1", "2", "4"] {
        let words = ["--cpus", cpus, "--memory", "64M", busybox().to_str().unwrap(), "--", "sh", "-c", script]
            .map(String::from);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = finish(run(&words), b"");
        let text = outcome.text();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(cpus), "{}", outcome.errors);
        let kibibytes: usize = lines.next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!((40 << 10..=64 << 10).contains(&kibibytes), "{kibibytes}");
    }
}

#[test]
fn traced_calls_go_to_standard_error() {
    let end = program("end", END);
    let outcome = finish(run(&["--trace", "syscalls", end.to_str().unwrap(), "--", "3"]), b"");
    assert_eq!(code(&outcome), 3);
    assert_eq!(outcome.text(), "");
    assert!(outcome.errors.contains("exit_group(3) = ?"), "{}", outcome.errors);
}

#[test]
fn a_signal_to_the_tool_ends_the_guest() {
    let spin = program("spin", "int main(void) { for (;;) ; }");
    let sleep = program("nap", "int pause(void); int main(void) { for (;;) pause(); }");
    for (path, engine) in [(&spin, "ptrace"), (&spin, "shared-memory"), (&sleep, "ptrace"), (&sleep, "shared-memory")] {
        for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::KILL] {
            let Run { mut command, tool } = run(&["--engine", engine, "--cpus", "2", path.to_str().unwrap()]);
            let child = command.stdout(Stdio::null()).spawn().unwrap();
            wait_until_running(&tool);
            common::signal(child.id(), signal);
            let status = common::wait(child);
            if signal != Signal::KILL {
                assert_eq!(status.code(), Some(128 + signal.as_raw()), "{signal:?}");
            }
            tool.nothing_is_left();
        }
    }
}

/// Processes of the guest are being made all the time: none may be left, whenever the end comes.
#[test]
fn nothing_is_left_of_a_guest_killed_at_any_moment() {
    let busybox = busybox();
    let words = ["--cpus", "2", busybox.to_str().unwrap(), "--", "sh", "-c", "while :; do true | true; done"];
    for milliseconds in 0..60 {
        let Run { mut command, tool } = run(&words);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        common::signal(child.id(), if milliseconds % 2 == 0 { Signal::KILL } else { Signal::TERM });
        common::wait(child);
        tool.nothing_is_left();
    }
}

/// A handler in a confined thread could tell nobody: now and then a signal was lost, and the tool went on.
#[test]
fn confined_threads_take_no_signals() {
    let Run { mut command, tool } = run(&["--cpus", "2", busybox().to_str().unwrap(), "--", "sleep", "100"]);
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    wait_until_running(&tool);
    let mut confined = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        if field("Seccomp:") == "2" {
            let blocked = u64::from_str_radix(field("SigBlk:"), 16).unwrap();
            for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::WINCH, Signal::CONT] {
                assert_ne!(blocked & 1 << (signal.as_raw() - 1), 0, "{signal:?}: {status}");
            }
            confined += 1;
        }
    }
    assert!(confined >= 2, "{confined}");
    common::signal(child.id(), Signal::TERM);
    assert_eq!(common::wait(child).code(), Some(128 + Signal::TERM.as_raw()));
    tool.nothing_is_left();
}

/// The guest has begun: the tool has made processes for it.
fn wait_until_running(tool: &Tool) {
    let deadline = Instant::now() + common::PATIENCE;
    while tool.processes().len() < 3 {
        assert!(Instant::now() < deadline, "no guest");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
}

/// Runs these words, which must fail with this status and say all of this.
fn refused(words: &[&str], status: i32, said: &[&str]) {
    let outcome = finish(run(words), b"");
    assert_eq!(code(&outcome), status, "{words:?}: {}", outcome.errors);
    assert_eq!(outcome.text(), "", "{words:?}");
    for text in said {
        assert!(outcome.errors.contains(text), "{words:?}: no '{text}' in: {}", outcome.errors);
    }
}

#[test]
fn what_cannot_be_run_is_explained() {
    let place = folder("refused");
    let file = |name: &str, content: &[u8], mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = place.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let whole = std::fs::read(program("end", END)).unwrap();
    refused(&[&file("cut", &whole[..whole.len() / 2], 0o755)], 126, &["cut", "damaged", "again"]);
    refused(&[&file("header", &whole[..40], 0o755)], 126, &["header", "damaged"]);
    refused(&[&file("script", b"#!/bin/sh\n", 0o755)], 126, &["script", "orrery run FOLDER"]);
    refused(&[&file("plain", &whole, 0o644)], 126, &["plain", "chmod +x"]);
    refused(&[&file("text", b"hello\n", 0o755)], 126, &["text", "neither"]);
    refused(&[&file("empty", b"", 0o755)], 126, &["empty"]);
    refused(&["/nowhere/program"], 127, &["/nowhere/program"]);
    refused(&["/bin/ls"], 126, &["dynamically", "static", "orrery run FOLDER"]);
    let cut = file("archive", b"070701 and no more", 0o644);
    refused(&[&cut], 125, &["initramfs is damaged"]);
}

#[test]
fn wrong_options_are_explained() {
    let end = program("end", END);
    let end = end.to_str().unwrap();
    refused(&["--memory", "64", end], 125, &["--memory", "64M"]);
    refused(&["--volume", "here", end], 125, &["HOST:GUEST"]);
    refused(&["--volume", "/nowhere:/x", end], 125, &["--volume", "/nowhere"]);
    refused(&["--volume", &format!("{end}:/x"), end], 125, &["--volume", "not a folder"]);
    refused(&["--workdir", "/nowhere", end], 125, &["--workdir", "/nowhere"]);
    refused(&["--cpus", "0", end], 125, &["--cpus"]);
    refused(&[end, "word"], 125, &["behind --"]);
    refused(&["--machine", "vm", "--kernel", "/nowhere/kernel", end], 125, &["/nowhere/kernel"]);
    refused(&["--memory", "1M", end], 125, &["--memory", "too little"]);
}

/// Computes until its own clock says a fifth of a second, and tells what getrusage(2) says then.
const WORK: &str = r#"
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
int main(void)
{
	struct rusage usage;
	double last = 0;
	while (last < 0.2) {
		for (volatile int turn = 0; turn < 100000; turn++)
			;
		struct timespec time;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
		double now = time.tv_sec + time.tv_nsec / 1e9;
		if (now < last)
			printf("back ");
		last = now;
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("%ld\n", (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000);
	return 0;
}
"#;

/// The processor time in milliseconds of the children this process has waited for, theirs included: by the host's account, whose ticks are
/// 10 ms.
fn children_s_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    [13, 14].map(|field| fields[field].parse::<u64>().unwrap() * 10).into_iter().sum()
}

/// A process that computes until it is dropped.
struct Busy(std::process::Child);

impl Busy {
    fn new() -> Busy {
        Busy(std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program's CPU time is what it got, not what passed: beside busy processes it works as long as it says.
#[test]
fn cpu_time_is_what_the_program_got() {
    let work = program("work", WORK);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _busy: Vec<_> = (0..2 * cores).map(|_| Busy::new()).collect();
    for engine in ["shared-memory", "ptrace"] {
        let before = children_s_time();
        let outcome = finish(run(&[work.to_str().unwrap(), "--cpus", "1", "--engine", engine]), b"");
        let host = children_s_time() - before;
        let guest: u64 = outcome.text().trim().parse().unwrap_or_else(|_| panic!("{engine}: {}", outcome.text()));
        assert!(guest >= 200, "{engine}: {guest} ms");
        // The program's time is a part of orrery's, but for what is believed for a moment (see `account.rs`), the host's ticks, and a
        // twentieth. The wall's would be three times as much as the host's.
        assert!(guest <= host + host / 20 + 20, "{engine}: {guest} ms, but the host gave {host}");
    }
}
