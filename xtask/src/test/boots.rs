//! Boots on every machine with 1, 2 and 4 CPUs: the shell used as a person uses it, then programs people know, all in the
//! same boot. The scripts of `tests/guest` run there one by one; each checks itself and exits with 0 when all is well.

use super::{Context, Job, Place};
use crate::console::{Console, key};
use crate::initramfs::Initramfs;
use crate::{paths, programs};
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a person would wait before thinking that something hangs; generous, since hosts are slow and busy.
const PATIENCE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);

/// Runs one script in the guest; its trace is shown only when it fails.
const RUN: &str = r#"#!/bin/sh
sh -x "/tests/$1" >/tmp/log 2>&1
status=$?
[ $status = 0 ] || tail -n 12 /tmp/log
echo status $status
"#;

/// A check at the prompt; it must leave the shell at a prompt.
struct Scene {
    name: &'static str,
    play: fn(&mut Console) -> Result<()>,
}

const SCENES: [Scene; 14] = [
    Scene { name: "commands and statuses", play: commands },
    Scene { name: "editing keys", play: editing },
    Scene { name: "history and completion", play: history },
    Scene { name: "Ctrl-C", play: interrupt },
    Scene { name: "Ctrl-Z, jobs, fg, bg", play: job_control },
    Scene { name: "background jobs and wait", play: background },
    Scene { name: "trap", play: trap },
    Scene { name: "here-documents", play: here_document },
    Scene { name: "vi", play: vi },
    Scene { name: "much output", play: much_output },
    Scene { name: "top", play: top },
    Scene { name: "less", play: less },
    Scene { name: "two forks and printf", play: textbook },
    Scene { name: "idle", play: idle },
];

/// One job per boot.
pub fn jobs() -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for place in [Place::Q35, Place::Microvm, Place::Host] {
        for cpus in [4, 2, 1] {
            let name = format!("console {place:?} {cpus} CPUs").to_lowercase();
            let scenes = SCENES.iter().map(|scene| scene.name.to_string());
            let scripts: Vec<String> = scripts()?.iter().map(|script| script_name(script)).collect();
            let checks = scenes.chain(scripts).map(|check| format!("{name}: {check}")).collect();
            let title = name.clone();
            jobs.push(Job::at(place, cpus, name, checks, move |context, report| {
                let wants = |check: &str| context.wants(&format!("{title}: {check}"));
                let mut boot = Boot::new(context, place, cpus);
                for scene in SCENES.iter().filter(|scene| wants(scene.name)) {
                    let console = boot.console()?;
                    let result = (scene.play)(console);
                    let failed = result.is_err();
                    report.check(&format!("{title}: {}", scene.name), result);
                    // Whatever a failed scene left behind would disturb the next one.
                    if failed {
                        boot.restart();
                    }
                }
                for script in scripts_on(cpus)?.iter().filter(|script| wants(&script_name(script))) {
                    let result = run_script(boot.console()?, &script_name(script));
                    let failed = result.is_err();
                    report.check(&format!("{title}: {}", script_name(script)), result);
                    if failed {
                        boot.restart();
                    }
                }
                if let Some(mut console) = boot.console.take() {
                    console.send("exit 7\r")?;
                    let (status, screen) = console.end(PATIENCE)?;
                    ensure!(status == 7, "the shell exited with 7, the machine with {status}");
                    ensure!(!screen.contains("panicked"), "the kernel panicked:\n{screen}");
                }
                Ok(())
            }));
        }
    }
    Ok(jobs)
}

/// A machine that is started when it is needed.
struct Boot<'a> {
    context: &'a Context,
    place: Place,
    cpus: u32,
    console: Option<Console>,
}

impl<'a> Boot<'a> {
    fn new(context: &'a Context, place: Place, cpus: u32) -> Boot<'a> {
        Boot { context, place, cpus, console: None }
    }

    /// The console at a prompt.
    fn console(&mut self) -> Result<&mut Console> {
        let console = match self.console.take() {
            Some(console) => console,
            None => self.start()?,
        };
        Ok(self.console.insert(console))
    }

    fn start(&self) -> Result<Console> {
        let mut archive = Initramfs::standard()?;
        for script in scripts()? {
            archive.file(format!("tests/{}", script_name(&script)), 0o755, std::fs::read(&script)?);
        }
        for program in programs::compile("tests/guest")? {
            archive.program(&format!("tests/bin/{}", program.name), &program)?;
        }
        archive.file("tests/bin/run", 0o755, RUN);
        let sample = sample();
        archive.file("tests/sample.sum", 0o644, host_sum(&sample)?);
        archive.file("tests/sample", 0o644, sample);
        let mut console = self.context.boot(self.place, self.cpus, 1024, archive, "quiet console.size=24x80")?;
        console.expect_prompt(PATIENCE)?;
        // Escapes of the line editor make output hard to read; a narrow prompt is enough.
        console.command("export PATH=$PATH:/tests/bin; cd /tmp; stty rows 24 cols 80", PATIENCE)?;
        Ok(console)
    }

    fn restart(&mut self) {
        self.console = None;
    }
}

/// The scripts of `tests/guest`, by name.
fn scripts() -> Result<Vec<PathBuf>> {
    let files = programs::files_of(&paths::root().join("tests/guest"))?;
    Ok(files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "sh")).collect())
}

/// Scripts whose name begins with `long-` run with one number of CPUs only: they take minutes under translation.
fn scripts_on(cpus: u32) -> Result<Vec<PathBuf>> {
    Ok(scripts()?.into_iter().filter(|script| cpus == 2 || !script_name(script).starts_with("long-")).collect())
}

fn script_name(path: &std::path::Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

fn run_script(console: &mut Console, name: &str) -> Result<()> {
    let output = console.command(&format!("run {name}"), LONG)?;
    ensure!(output.trim_end().ends_with("status 0"), "{output}");
    Ok(())
}

/// A megabyte that is neither random nor regular.
fn sample() -> Vec<u8> {
    let mut state = 1u32;
    (0..1 << 20)
        .map(|place: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if place % 64 < 40 { b"abcdefghijklmnop\n"[(state >> 24) as usize % 17] } else { (state >> 16) as u8 }
        })
        .collect()
}

/// The host's own SHA-256 of some bytes, as a line of sha256sum(1).
pub fn host_sum(sample: &[u8]) -> Result<String> {
    let folder = paths::temporary_folder()?;
    let file = folder.path().join("sample");
    std::fs::write(&file, sample)?;
    let output = Command::new("sha256sum").arg(&file).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && text.len() > 64, "the host has no sha256sum");
    Ok(format!("{}  /tests/sample\n", text.get(..64).unwrap_or_default()))
}

/// Types a command that prints `text` when it is in the foreground, and waits for that: keys typed before go to the shell. The
/// command must spell the text otherwise (`rea''dy`), or its echo would be taken for it.
fn start(console: &mut Console, command: &str, text: &str) -> Result<()> {
    console.send(&format!("{command}\r"))?;
    console.expect(&format!("{text}\r\n"), PATIENCE).map(drop)
}

/// Asks until the shell's list of jobs says this. Nothing announces that a job in the background has stopped.
fn wait_for_jobs(console: &mut Console, state: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let jobs = console.command("jobs", PATIENCE)?;
        if jobs.contains(state) {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "jobs says {jobs:?}");
    }
}

/// Types a command and checks its whole output.
fn says(console: &mut Console, command: &str, expected: &str) -> Result<()> {
    let output = console.command(command, PATIENCE)?;
    ensure!(output.trim_end() == expected, "{command}\nprints    {:?}\ninstead of {expected:?}", output.trim_end());
    Ok(())
}

fn commands(console: &mut Console) -> Result<()> {
    says(console, "echo hello", "hello")?;
    says(console, "false; echo $?", "1")?;
    says(console, "nosuchprogram; echo $?", "/bin/sh: nosuchprogram: not found\n127")?;
    says(console, "sh -c 'kill -SEGV $$'; echo $?", "Segmentation fault\n139")?;
    says(console, "stty size", "24 80")?;
    let name = console.command("tty", PATIENCE)?;
    ensure!(["/dev/ttyS0", "/dev/hvc0", "/dev/console"].contains(&name.trim()), "the terminal is {name:?}");
    says(console, "i=0; while [ $i -lt 100 ]; do i=$((i+1)); done; echo $i", "100")?;
    says(console, "echo $(ls / | grep -c -E '^(bin|etc|proc|tmp)$')", "4")
}

fn editing(console: &mut Console) -> Result<()> {
    console.send(&format!("echo wrnog{}{}{}{}rong", key::BACKSPACE, key::BACKSPACE, key::BACKSPACE, key::BACKSPACE))?;
    console.send(key::ENTER)?;
    console.expect("\r\nwrong\r\n", PATIENCE)?;
    console.expect_prompt(PATIENCE)?;
    console.send(&format!("garbage{}echo cho{}{}{}", key::CTRL_U, key::LEFT, key::LEFT, key::LEFT))?;
    console.send("e")?;
    console.send(key::ENTER)?;
    console.expect("\r\necho\r\n", PATIENCE)?;
    console.expect_prompt(PATIENCE)?;
    // The line discipline's own editing, under a program that does none.
    start(console, "echo rea''dy; cat", "ready")?;
    console.send(&format!("abd{}c{}xyz\r", key::BACKSPACE, key::CTRL_U))?;
    console.expect("\r\nxyz\r\n", PATIENCE)?;
    console.send(key::CTRL_D)?;
    console.expect_prompt(PATIENCE)?;
    Ok(())
}

fn history(console: &mut Console) -> Result<()> {
    says(console, "echo first one", "first one")?;
    says(console, "echo second", "second")?;
    console.send(&format!("{}{}{}", key::UP, key::UP, key::ENTER))?;
    console.expect("\r\nfirst one\r\n", PATIENCE)?;
    console.expect_prompt(PATIENCE)?;
    console.command("mkdir -p /tmp/unusual-folder && touch /tmp/unusual-folder/file", PATIENCE)?;
    console.send(&format!("ls /tmp/unus{}", key::TAB))?;
    console.expect("ual-folder/", PATIENCE)?;
    console.send(key::ENTER)?;
    console.expect("file", PATIENCE)?;
    console.expect_prompt(PATIENCE)?;
    Ok(())
}

fn interrupt(console: &mut Console) -> Result<()> {
    // What is announced runs already, in the terminal's foreground.
    for command in [
        "sh -c 'echo rea\"\"dy; exec sleep 1000'",
        "sh -c 'echo rea\"\"dy; exec cat'",
        // Not the console's shell itself: BusyBox leaves its handler by longjmp(3), on Linux, too, with standard output locked for
        // ever if it was just writing.
        "sh -c 'echo rea\"\"dy; while :; do :; done'",
        "sh -c 'echo rea\"\"dy; exec yes >/dev/null'",
        "find / | cat | sh -c 'echo rea\"\"dy; exec sleep 1000'",
    ] {
        start(console, command, "ready")?;
        console.send(key::CTRL_C)?;
        console.expect_prompt(PATIENCE)?;
    }
    says(console, "echo $?", "130")?;
    // A shell on its way to another program may ignore this one: what answers is the program itself.
    start(console, "echo rea''dy; cat", "ready")?;
    console.send("here\r")?;
    console.expect("here\r\nhere\r\n", PATIENCE)?;
    console.send(key::CTRL_BACKSLASH)?;
    console.expect_prompt(PATIENCE)?;
    says(console, "echo $?", "131")
}

fn job_control(console: &mut Console) -> Result<()> {
    start(console, "sh -c 'trap \"echo aw\\\"\\\"ake\" CONT; echo rea\"\"dy; while :; do sleep 1; done'", "ready")?;
    console.send(key::CTRL_Z)?;
    console.expect("Stopped", PATIENCE)?;
    console.expect_prompt(PATIENCE)?;
    let jobs = console.command("jobs", PATIENCE)?;
    ensure!(jobs.contains("Stopped") && jobs.contains("while :"), "jobs says {jobs:?}");
    // When it goes on it says so, at whatever place of the screen.
    console.send("bg\r")?;
    console.expect("awake", PATIENCE)?;
    // The prompt may have come before that or still be on its way: the one behind this word is the last.
    start(console, "echo pre''sent", "present")?;
    console.expect_prompt(PATIENCE)?;
    let jobs = console.command("jobs", PATIENCE)?;
    ensure!(jobs.contains("Running"), "after bg jobs says {jobs:?}");
    start(console, "fg", "awake")?;
    console.send(key::CTRL_C)?;
    console.expect_prompt(PATIENCE)?;
    says(console, "jobs", "")?;
    // A background program that reads the terminal is stopped.
    console.command("cat &", PATIENCE)?;
    wait_for_jobs(console, "Stopped (tty input)")?;
    // A stopped job takes the signal when it goes on.
    console.command("kill %1; kill -CONT %1; wait", PATIENCE)?;
    // ash reports the end with the next prompt.
    console.command("", PATIENCE).map(drop)
}

fn background(console: &mut Console) -> Result<()> {
    let output = console.command("(sleep 1; exit 5) & wait $!; echo status $?", PATIENCE)?;
    ensure!(output.contains("status 5"), "{output:?}");
    let output = console.command("for i in 1 2 3; do sleep 1 & done; wait; echo all", PATIENCE)?;
    ensure!(output.contains("all"), "{output:?}");
    console.command("", PATIENCE).map(drop)
}

fn trap(console: &mut Console) -> Result<()> {
    says(console, "sh -c 'trap \"echo caught\" USR1; kill -USR1 $$; echo after'", "caught\nafter")?;
    says(console, "sh -c 'trap \"echo bye\" EXIT; exit 3'; echo $?", "bye\n3")?;
    let command =
        "sh -c 'trap \"echo inter\\\"\\\"rupted; exit 4\" INT; echo rea\"\"dy; while :; do sleep 1; done'; echo $?";
    start(console, command, "ready")?;
    console.send(key::CTRL_C)?;
    console.expect("interrupted", PATIENCE)?;
    console.expect("4\r\n", PATIENCE)?;
    console.expect_prompt(PATIENCE).map(drop)
}

fn here_document(console: &mut Console) -> Result<()> {
    console.send("cat <<END | tr a-z A-Z\rone $((1+1))\rtwo\rEND\r")?;
    console.expect("ONE 2\r\nTWO\r\n", PATIENCE)?;
    console.expect_prompt(PATIENCE).map(drop)
}

/// More than the terminal, the chip and the pipe to us hold, and all of it comes.
pub fn much_output(console: &mut Console) -> Result<()> {
    let shown = console.command("seq 20000", PATIENCE)?;
    ensure!(shown.lines().count() == 20000, "{} lines of 20000", shown.lines().count());
    ensure!(shown.lines().zip(1..).all(|(line, number)| line == number.to_string()), "a line is wrong");
    Ok(())
}

/// Edits a letter.
pub fn vi(console: &mut Console) -> Result<()> {
    console.command("rm -f /tmp/letter", PATIENCE)?;
    console.send("vi /tmp/letter\r")?;
    console.expect("letter", PATIENCE)?;
    console.expect("~", PATIENCE)?;
    console.send("iDear reader,\rall is well.")?;
    expect_cursor(console, 2, 13)?;
    leave_insertion(console)?;
    console.send("1GA")?;
    console.expect("I /tmp/letter", PATIENCE)?;
    console.send("and writer")?;
    expect_cursor(console, 1, 23)?;
    leave_insertion(console)?;
    console.send(":wq\r")?;
    console.expect_prompt(PATIENCE)?;
    says(console, "cat /tmp/letter", "Dear reader,and writer\nall is well.")
}

/// Waits until the cursor is here. What was typed may be drawn at once or letter by letter, as the keys came.
fn expect_cursor(console: &mut Console, row: u32, column: u32) -> Result<()> {
    console.expect(&format!("\x1b[{row};{column}H"), PATIENCE).map(drop)
}

/// A key that comes too soon after Escape makes another key of both: the status line tells when vi has taken it, by a `-` where
/// an `I` was.
fn leave_insertion(console: &mut Console) -> Result<()> {
    console.send(key::ESCAPE)?;
    console.expect("- /tmp/letter", PATIENCE).map(drop)
}

fn top(console: &mut Console) -> Result<()> {
    console.send("top -d 1\r")?;
    console.expect("Mem:", PATIENCE)?;
    console.expect("PID", PATIENCE)?;
    // It refreshes by itself, and shows itself.
    console.expect("Mem:", PATIENCE)?;
    console.expect("top", PATIENCE)?;
    console.send("q")?;
    console.expect_prompt(PATIENCE).map(drop)
}

fn less(console: &mut Console) -> Result<()> {
    console.send("seq 1000 | less\r")?;
    console.expect("22", PATIENCE)?;
    console.send(" ")?;
    console.expect("44", PATIENCE)?;
    console.send("G")?;
    console.expect("1000", PATIENCE)?;
    console.send("q")?;
    console.expect_prompt(PATIENCE).map(drop)
}

/// An idle guest leaves the host's processor alone.
fn idle(console: &mut Console) -> Result<()> {
    // What the shell does after its prompt is over soon.
    std::thread::sleep(Duration::from_secs(1));
    let before = console.processor_time()?;
    std::thread::sleep(Duration::from_secs(5));
    let used = console.processor_time()? - before;
    ensure!(used <= Duration::from_millis(150), "idle for 5 s it used {used:?} of processor time");
    says(console, "echo awake", "awake")
}

fn textbook(console: &mut Console) -> Result<()> {
    let output = console.command("textbook", PATIENCE)?;
    ensure!(output.trim_end().lines().count() == 6, "on the terminal:\n{output}");
    says(console, "textbook | wc -l", "8")
}
