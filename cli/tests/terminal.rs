//! The guest at a terminal: keys, the window, and the terminal as it was at every end.

mod common;

use common::screen::{Screen, same};
use common::{Run, Tool, busybox, program, root_folder, run};
use rustix::process::Signal;
use std::process::Command;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// Prints that it began, then computes for ever.
const SPIN: &str = r#"
#include <unistd.h>
int main(void) { write(1, "spinning\n", 9); for (;;) ; }
"#;

/// The same, and sleeps.
const NAP: &str = r#"
#include <unistd.h>
int main(void) { write(1, "asleep\n", 7); for (;;) pause(); }
"#;

fn shell() -> Screen {
    let mut screen = Screen::start(run(&["--cpus", "2", busybox().to_str().unwrap(), "--", "sh"]));
    screen.expect("# ");
    screen
}

#[test]
fn a_shell_is_used_as_a_person_does() {
    let mut screen = shell();
    screen.type_keys("echo $((6 * 7)); stty size\r");
    screen.expect("\n42\r\n24 80\r\n");
    screen.expect("# ");
    screen.type_keys("echo begin; cat\r");
    screen.expect("\nbegin\r\n");
    screen.type_keys("line\r");
    screen.expect("line\r\nline\r\n");
    screen.type_keys(CTRL_D);
    screen.expect("# ");
    screen.type_keys("test -t 0 -a -t 1 -a -t 2 && echo all three\r");
    screen.expect("\nall three\r\n");
    screen.type_keys("exit 4\r");
    assert_eq!(screen.end(), Some(4));
}

/// Both run in children of the shell: BusyBox's own loops may deadlock at a Ctrl-C, on any Linux.
#[test]
fn ctrl_c_reaches_what_runs_in_the_shell() {
    let root = root_folder("keys");
    for program in [program("spin-loudly", SPIN), program("nap-loudly", NAP)] {
        std::fs::copy(&program, root.join("bin").join(program.file_name().unwrap())).unwrap();
    }
    let mut screen = Screen::start(run(&["--cpus", "2", root.to_str().unwrap()]));
    for (name, said) in [("spin-loudly", "spinning"), ("nap-loudly", "asleep")] {
        screen.expect("# ");
        screen.type_keys(&format!("{name}\r"));
        screen.expect(said);
        screen.type_keys(CTRL_C);
    }
    screen.expect("# ");
    screen.type_keys("echo gone on\r");
    screen.expect("\ngone on\r\n");
    screen.expect("# ");
    screen.type_keys(CTRL_D);
    screen.end();
}

#[test]
fn ctrl_c_ends_a_program_alone() {
    let nap = program("nap-loudly", NAP);
    let spin = program("spin-loudly", SPIN);
    for engine in ["ptrace", "shared-memory"] {
        for (path, said) in [(&spin, "spinning"), (&nap, "asleep")] {
            let mut screen = Screen::start(run(&["--engine", engine, path.to_str().unwrap()]));
            screen.expect(said);
            screen.type_keys(CTRL_C);
            assert_eq!(screen.end(), Some(128 + 2), "{said}, {engine}");
        }
    }
}

/// Says what size the window has, at first and whenever it is told of another. The signal is blocked but where it waits for it,
/// so none comes unheard between looking and waiting.
const WATCH: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
static void nothing(int signal) {}
int main(void)
{
	struct winsize size;
	sigset_t changes;
	int taken;
	sigemptyset(&changes);
	sigaddset(&changes, SIGWINCH);
	sigprocmask(SIG_BLOCK, &changes, NULL);
	signal(SIGWINCH, nothing);
	do {
		ioctl(0, TIOCGWINSZ, &size);
		printf("%d rows, %d columns\n", size.ws_row, size.ws_col);
		fflush(stdout);
	} while (sigwait(&changes, &taken) == 0);
	return 1;
}
"#;

#[test]
fn the_window_s_size_follows_the_terminal() {
    let watch = program("watch", WATCH);
    let mut screen = Screen::start(run(&[watch.to_str().unwrap()]));
    screen.expect("24 rows, 80 columns\r\n");
    screen.resize(50, 132);
    screen.expect("50 rows, 132 columns\r\n");
    screen.resize(25, 80);
    screen.expect("25 rows, 80 columns\r\n");
    screen.type_keys(CTRL_C);
    assert_eq!(screen.end(), Some(130));
}

#[test]
fn the_terminal_is_as_it_was_at_every_end() {
    let spin = program("spin-loudly", SPIN);
    let spin = spin.to_str().unwrap();
    let signals = [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT];
    for signal in signals.map(Some).into_iter().chain([None]) {
        let mut screen = Screen::start(run(&[spin]));
        let before = screen.first_settings();
        screen.expect("spinning");
        assert!(!same(&screen.settings(), &before), "the terminal is raw while the guest runs");
        match signal {
            Some(signal) => common::signal(screen.child.id(), signal),
            None => screen.type_keys(CTRL_C),
        }
        let (status, after) = screen.end_with_settings();
        assert_eq!(status, Some(128 + signal.unwrap_or(Signal::INT).as_raw()), "{signal:?}");
        assert!(same(&after, &before), "{signal:?}: {after:?}");
    }
    let screen = Screen::start(run(&["/nowhere"]));
    let before = screen.first_settings();
    let (status, after) = screen.end_with_settings();
    assert_eq!(status, Some(127));
    assert!(same(&after, &before));
}

#[test]
fn a_terminal_that_goes_away_ends_the_guest() {
    let screen = shell();
    screen.type_keys("while :; do :; done\r");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (child, tool) = screen.close();
    assert_eq!(common::wait(child).code(), Some(129), "128 + SIGHUP");
    tool.nothing_is_left();
}

/// A line for the host's shell in which ORRERY is the tool.
fn line(text: &str) -> Run {
    let tool = Tool::new();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", text]).env("ORRERY", &tool.0);
    Run { command, tool }
}

#[test]
fn output_and_input_may_be_a_terminal_and_a_pipe() {
    let root = root_folder("mixed");
    let script = "test -t 0; echo in $?; test -t 1; echo out $?";
    let mut screen = Screen::start(line(&format!("$ORRERY run {} -- sh -c '{script}' | cat", root.display())));
    screen.expect("in 0");
    screen.expect("out 1");
    assert_eq!(screen.end(), Some(0));
}

#[test]
fn traced_calls_have_their_own_stream_on_a_terminal() {
    let errors = common::folder("traced").join("errors");
    let end = program("quick", "int main(void) { return 0; }");
    let run = line(&format!("$ORRERY run --trace syscalls {} 2>{}", end.display(), errors.display()));
    assert_eq!(Screen::start(run).end(), Some(0));
    let errors = std::fs::read_to_string(errors).unwrap();
    assert!(errors.contains("exit_group(0) = ?\n"), "{errors}");
}
