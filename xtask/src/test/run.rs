//! `x run` as its users see it: arguments, statuses, pipes, files, and the terminal it leaves behind; and `x debug`.

use super::{Context, Job};
use crate::hosted::terminal;
use crate::qemu::Guest;
use anyhow::{Context as _, Result, ensure};
use rustix::termios::tcgetattr;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A check by name.
type Check = (&'static str, fn(&Context) -> Result<()>);

const CHECKS: [Check; 8] = [
    ("run arguments and status", arguments),
    ("run reads a file and a pipe", input),
    ("run reads what comes late", late_input),
    ("run ends when nobody reads", nobody_reads),
    ("run on a terminal", on_a_terminal),
    ("run is ended by a signal", ended_by_a_signal),
    ("debug stops a virtual machine", |_| debug("microvm", "continue", "#0  kernel_main")),
    ("debug stops the host machine", |_| debug("host", "run", "#0  orrery::boot::main")),
];

/// One job.
pub fn jobs() -> Vec<Job> {
    let names = CHECKS.iter().map(|(name, _)| name.to_string()).collect();
    vec![Job::new("run", names, 1, |context, report| {
        for (name, check) in CHECKS.iter().filter(|(name, _)| context.wants(name)) {
            report.check(name, check(context));
        }
        Ok(())
    })]
}

/// `x run` with these arguments: this very program.
fn x_run(context: &Context, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let kernel = if context.kernel == Guest::Linux { "linux" } else { "orrery" };
    command.args(["run", "--kernel", kernel]).args(arguments).stderr(Stdio::piped());
    Ok(command)
}

fn output_of(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(input)?;
    Ok(child.wait_with_output()?)
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn arguments(context: &Context) -> Result<()> {
    let script = "printf '<%s>' \"$@\"; exit 77";
    let output =
        output_of(&mut x_run(context, &["--", "sh", "-c", script, "0", "a b", "it's", "", "$HOME", "x\ny"])?, b"")?;
    ensure!(printed(&output) == "<a b><it's><><$HOME><x\ny>", "printed {:?}", printed(&output));
    ensure!(output.status.code() == Some(77), "status {}", output.status);
    let output = output_of(
        &mut x_run(context, &["--machine", "microvm", "--cpus", "2", "--memory", "128M", "--", "nproc"])?,
        b"",
    )?;
    ensure!(printed(&output) == "2\n" && output.status.success(), "nproc printed {:?}", printed(&output));
    let output = output_of(&mut x_run(context, &["--", "nosuchcommand"])?, b"")?;
    ensure!(output.status.code() == Some(127), "status {}", output.status);
    Ok(())
}

fn input(context: &Context) -> Result<()> {
    let bytes: Vec<u8> = (0..100_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let sum = crate::test::boots::host_sum(&bytes)?;
    let output = output_of(&mut x_run(context, &["--", "sha256sum"])?, &bytes)?;
    ensure!(printed(&output).get(..64) == sum.get(..64), "of a pipe: {:?}, not {sum:?}", printed(&output));
    let output = x_run(context, &["--", "wc", "-c"])?.stdin(File::open("/dev/null")?).output()?;
    ensure!(printed(&output) == "0\n", "of /dev/null: {:?}", printed(&output));
    Ok(())
}

fn late_input(context: &Context) -> Result<()> {
    let mut child = x_run(context, &["--", "od", "-c"])?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut keyboard = child.stdin.take().context("no standard input")?;
    std::thread::sleep(Duration::from_millis(600));
    keyboard.write_all(b"late \x03\x04\x16 line\nunfinished")?;
    drop(keyboard);
    let output = child.wait_with_output()?;
    let text = printed(&output);
    let expected = "0000000   l   a   t   e     003 004 026       l   i   n   e  \\n   u   n\n\
                    0000020   f   i   n   i   s   h   e   d\n0000030\n";
    ensure!(text == expected, "printed\n{text}instead of\n{expected}");
    Ok(())
}

fn nobody_reads(context: &Context) -> Result<()> {
    let mut child = x_run(context, &["--", "yes"])?.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut some = [0; 100];
    child.stdout.take().context("no output")?.read_exact(&mut some)?;
    ensure!(some.starts_with(b"y\ny\n"), "it printed {:?}", String::from_utf8_lossy(&some));
    let status = wait(&mut child)?;
    ensure!(status == Some(141), "it ended with {status:?}");
    Ok(())
}

/// Reads the terminal until some text appears.
fn read_until(master: &mut File, text: &str) -> Result<()> {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + Duration::from_secs(60);
    while !seen.contains(text) {
        ensure!(Instant::now() < deadline, "waited for {text:?} in {seen:?}");
        let mut ready = [rustix::event::PollFd::new(&*master, rustix::event::PollFlags::IN)];
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        if rustix::event::poll(&mut ready, Some(&second))? > 0 {
            let count = master.read(&mut buffer)?;
            seen.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        }
    }
    Ok(())
}

fn on_a_terminal(context: &Context) -> Result<()> {
    let (mut master, slave) = terminal(31, 99)?;
    let before = format!("{:?}", tcgetattr(&slave)?);
    let mut child = x_run(context, &[])?.stdin(slave.try_clone()?).stdout(slave.try_clone()?).spawn()?;
    read_until(&mut master, "# ")?;
    master.write_all(b"stty size\r")?;
    read_until(&mut master, "31 99")?;
    master.write_all(b"sleep 1000\r")?;
    std::thread::sleep(Duration::from_millis(500));
    // Ctrl-C goes to the guest, not to us.
    master.write_all(b"\x03")?;
    read_until(&mut master, "# ")?;
    ensure!(format!("{:?}", tcgetattr(&slave)?) != before, "the terminal is not raw meanwhile");
    master.write_all(b"exit 5\r")?;
    let status = wait(&mut child)?;
    ensure!(status == Some(5), "it ended with {status:?}");
    ensure!(format!("{:?}", tcgetattr(&slave)?) == before, "the terminal is left changed");

    // The escape key.
    let mut child = x_run(context, &[])?.stdin(slave.try_clone()?).stdout(slave.try_clone()?).spawn()?;
    read_until(&mut master, "# ")?;
    master.write_all(b"\x01x")?;
    let status = wait(&mut child)?;
    ensure!(status == Some(130), "Ctrl-A x ended it with {status:?}");
    ensure!(format!("{:?}", tcgetattr(&slave)?) == before, "Ctrl-A x leaves the terminal changed");
    Ok(())
}

fn ended_by_a_signal(context: &Context) -> Result<()> {
    let (mut master, slave) = terminal(31, 99)?;
    let before = format!("{:?}", tcgetattr(&slave)?);
    let mut child = x_run(context, &[])?.stdin(slave.try_clone()?).stdout(slave.try_clone()?).spawn()?;
    read_until(&mut master, "# ")?;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = wait(&mut child)?;
    ensure!(status == Some(128 + 15), "SIGTERM ended it with {status:?}");
    ensure!(format!("{:?}", tcgetattr(&slave)?) == before, "SIGTERM leaves the terminal changed");
    Ok(())
}

/// `x debug` stops at the kernel's first function, and the debugger tells where it is.
fn debug(machine: &str, start: &str, place: &str) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["debug", "--machine", machine, "--do", start, "--do", "backtrace 1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut output = child.stdout.take().context("no standard output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    // It may have to build what it debugs.
    wait_for(&mut child, Duration::from_secs(600))?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(text.contains(place), "printed {text}");
    Ok(())
}

/// The exit status, soon.
fn wait(child: &mut Child) -> Result<Option<i32>> {
    wait_for(child, Duration::from_secs(60))
}

fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<i32>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    anyhow::bail!("it does not end")
}
