//! One round: a test of a room, or a program in a boot.

use crate::console::Console;
use crate::hosted::Hosted;
use crate::initramfs::Initramfs;
use crate::qemu::Guest;
use crate::run::{Hardware, Place};
use crate::{allocations, build, hosted, paths, programs, test};
use anyhow::{Context, Result};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a round is.
pub enum Kind {
    /// A test of `package` that is marked `#[ignore]`, by its whole name. It finds the seed in the environment's `SOAK_SEED`, and
    /// in `SOAK_SECONDS` how long it shall go on.
    Room { package: &'static str, test: &'static str },
    /// A command at the prompt of a boot, made from the seed and the seconds it shall go on. All programs of `tests/hostile` and
    /// `tests/guest` are in its path. It must end with status 0, and the shell must be alive afterwards.
    Booted { place: Place, cpus: u32, memory: u32, command: fn(seed: u64, seconds: u64) -> String },
    /// A person at the console of a boot, who edits with vi and has long texts shown, again and again, while that many processes
    /// keep this host busy.
    Typed { place: Place, cpus: u32, busy: usize },
    /// A boot in which one request for kernel memory fails: that with the seed's number. There are as many rounds as requests.
    Failing { place: Place },
    /// Of what a program can make one kind is made until it is refused, while somebody reads /proc: a part of `tests/hostile/shortage.c`, on
    /// the bare machine. There are as many rounds as there are pairs of a part and one of [`SIZES`].
    Exhausted,
    /// git and tar of this host with so many files that take their time, as the seed says, and now and then with fifty times as many.
    Versioned { files: u32 },
    /// A program of this host (a Debian package), packed with its libraries, and a command with it, as with `Booted`. The seed
    /// chooses one of [`PLACES`].
    Packed { package: &'static str, program: &'static str, command: fn(seed: u64, seconds: u64) -> String },
}

/// Where packed programs run, round after round: the bare machine with 1 and 2 CPUs, and both engines of the host machine.
const PLACES: [(Place, u32, Option<&str>); 4] = [
    (Place::Microvm, 1, None),
    (Place::Host, 2, Some("shared-memory")),
    (Place::Q35, 2, None),
    (Place::Host, 2, Some("ptrace")),
];

/// MiB of memory of the machines whose objects are made until they are refused.
const SIZES: [u32; 4] = [24, 64, 512, 2048];

/// For how long at most one of them is made: a million files take a while under emulation.
const LONGEST_GREED: Duration = Duration::from_secs(600);

/// MiB of memory they have.
const PACKED_MEMORY: u32 = 512;

/// What a round did.
pub struct Done {
    pub output: String,
    pub result: Result<()>,
}

/// Time to boot and to end, and beyond what a round was given: enough for a busy host under emulation.
const PATIENCE: Duration = Duration::from_secs(300);

impl Kind {
    /// Builds what the rounds need.
    pub fn prepare(&self) -> Result<()> {
        match self {
            Kind::Room { package, .. } => {
                let built =
                    cargo(&["test", "--quiet", "--no-run", "--profile", "soak", "--package", package]).status()?;
                anyhow::ensure!(built.success(), "cargo could not build the tests of {package}");
                Ok(())
            }
            Kind::Failing { place } => allocations::prepare(*place),
            Kind::Booted { place: Place::Host, .. } | Kind::Versioned { .. } => hosted::orrery().map(drop),
            Kind::Booted { .. } | Kind::Typed { .. } | Kind::Exhausted => build::kernel().map(drop),
            Kind::Packed { package, program, .. } => {
                let there = std::path::Path::new(program).exists();
                anyhow::ensure!(there, "there is no {program}: install it (Debian: apt-get install {package})");
                hosted::orrery()?;
                build::kernel().map(drop)
            }
        }
    }

    /// How many rounds there are at all, with the seeds from 1 on; else any number is a seed.
    ///
    /// # Errors
    /// It could not be found out.
    pub fn rounds(&self) -> Result<Option<u64>> {
        match self {
            Kind::Failing { place } => allocations::count(*place).map(Some),
            Kind::Exhausted => Ok(Some((SIZES.len() * test::SHORTAGES.len()) as u64)),
            _ => Ok(None),
        }
    }

    /// Runs a round of about that time.
    ///
    /// # Errors
    /// It could not be run at all.
    pub fn run(&self, seed: u64, time: Duration) -> Result<Done> {
        match *self {
            Kind::Room { package, test } => {
                let mut command = cargo(&["test", "--quiet", "--profile", "soak", "--package", package, "--"]);
                command.args(["--ignored", "--exact", "--nocapture", test]);
                command.env("SOAK_SEED", seed.to_string()).env("SOAK_SECONDS", time.as_secs().to_string());
                let output = command.stdin(Stdio::null()).output().context("cannot start cargo")?;
                let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                let text = text.concat();
                let result = match output.status.success() {
                    true if text.contains("1 passed") => Ok(()),
                    true => Err(anyhow::anyhow!("{package} has no ignored test '{test}'")),
                    false => Err(anyhow::anyhow!("{}", output.status)),
                };
                Ok(Done { output: text, result })
            }
            Kind::Booted { place, cpus, memory, command } => {
                let console = boot(place, cpus, memory, None, our_programs()?)?;
                Ok(in_console(console, &command(seed, time.as_secs()), time))
            }
            Kind::Typed { place, cpus, busy } => {
                let _busy = Busy::start(busy)?;
                let mut console = boot(place, cpus, PACKED_MEMORY, None, Initramfs::standard()?)?;
                let mut rounds = 0;
                let result = type_for(&mut console, time, &mut rounds);
                Ok(Done { output: format!("soak: {rounds} times vi and long output\n"), result })
            }
            Kind::Failing { place } => {
                let end = allocations::attempt(place, seed);
                let count = |wanted| u64::from(end.as_ref().is_ok_and(|end| *end == wanted));
                let (prompts, told) = (count(allocations::End::Prompt), count(allocations::End::Told));
                let output = format!("soak: {prompts} prompts\nsoak: {told} told that memory was out\n");
                Ok(Done { output, result: end.map(drop) })
            }
            Kind::Exhausted => {
                let number = seed.saturating_sub(1) as usize;
                let (memory, part) =
                    (SIZES[number % SIZES.len()], test::SHORTAGES[number / SIZES.len() % test::SHORTAGES.len()]);
                let mut archive = Initramfs::standard()?;
                let programs = programs::compile("tests/hostile")?;
                let shortage = programs.iter().find(|program| program.name == "shortage").context("no shortage")?;
                archive.program("soak/shortage", shortage)?;
                let console = boot(Place::Q35, 2, memory, None, archive)?;
                let mut done =
                    in_console(console, &format!("shortage {part} {}", LONGEST_GREED.as_secs()), LONGEST_GREED);
                done.output.insert_str(0, &format!("{memory} MiB\n"));
                Ok(done)
            }
            Kind::Versioned { files } => {
                let times = if seed.is_multiple_of(50) { 50 } else { 1 };
                let end = test::on_slow_files(seed, files * times);
                let output = end.as_ref().map(String::clone).unwrap_or_default();
                Ok(Done { output, result: end.map(drop) })
            }
            Kind::Packed { program, command, .. } => {
                let (place, cpus, engine) = PLACES[seed as usize % PLACES.len()];
                let mut archive = Initramfs::standard()?;
                archive.program_of_host(program)?;
                let console = boot(place, cpus, PACKED_MEMORY, engine, archive)?;
                let mut done = in_console(console, &command(seed, time.as_secs()), time);
                done.output.insert_str(0, &format!("{place:?} with {cpus} CPUs {}\n", engine.unwrap_or_default()));
                Ok(done)
            }
        }
    }
}

/// The cargo that runs us, which `x` chose.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.current_dir(paths::root()).args(arguments).env("CARGO_TERM_COLOR", "never");
    command
}

/// The usual archive with all programs of `tests/hostile` and `tests/guest`.
fn our_programs() -> Result<Initramfs> {
    let mut archive = Initramfs::standard()?;
    for folder in ["tests/hostile", "tests/guest"] {
        for program in programs::compile(folder)? {
            archive.program(&format!("soak/{}", program.name), &program)?;
        }
    }
    Ok(archive)
}

fn boot(place: Place, cpus: u32, memory: u32, engine: Option<&'static str>, archive: Initramfs) -> Result<Console> {
    let options = "quiet".to_string();
    match place.model() {
        Some(machine) => {
            let hardware = Hardware { cpus, memory, machine, kernel: Guest::Orrery, accelerator: None };
            Console::start(&hardware.vm(archive, &options)?)
        }
        None => Console::start_on_host(&Hosted { cpus, memory, archive, options, engine, tool: None }),
    }
}

/// Edits and has texts shown until the time is up, and counts how often.
fn type_for(console: &mut Console, time: Duration, rounds: &mut usize) -> Result<()> {
    console.expect_prompt(PATIENCE)?;
    console.command("cd /tmp; stty rows 24 cols 80", PATIENCE)?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        test::vi(console)?;
        test::much_output(console)?;
        *rounds += 1;
    }
    Ok(())
}

/// Processes of this host that do nothing but run, for as long as this one.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..count {
            busy.0
                .push(Command::new("sh").args(["-c", "while kill -0 $PPID; do :; done"]).stdin(Stdio::null()).spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Runs a command at the prompt, and looks whether all is well afterwards.
fn in_console(mut console: Console, command: &str, time: Duration) -> Done {
    let mut output = String::new();
    let result = try_in_console(&mut console, command, time, &mut output);
    Done { output, result }
}

fn try_in_console(console: &mut Console, command: &str, time: Duration, output: &mut String) -> Result<()> {
    console.expect_prompt(PATIENCE)?;
    console.command("PATH=$PATH:/soak", PATIENCE)?;
    // Its status in a line of its own, and nothing of the command's echo in the output.
    console.command(&format!("round() {{ {command}; echo status $?; }}"), PATIENCE)?;
    *output = console.command("round", 2 * time + PATIENCE)?;
    let passed = output.lines().any(|line| line.trim() == "status 0");
    anyhow::ensure!(passed, "'{command}' failed");
    let alive = console.command("echo alive", PATIENCE)?;
    anyhow::ensure!(alive.trim() == "alive", "afterwards the shell says {alive:?}");
    Ok(())
}
