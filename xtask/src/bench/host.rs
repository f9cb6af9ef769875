//! Orrery on the host machine beside native Linux, user-mode Linux and proot: the same static programs from the same folder, in runs
//! that take turns.
//!
//! Each system is a way to run a command in that folder as its root: an initramfs of it for Orrery, `hostfs` for user-mode
//! Linux. Those that are not installed are left out.

use super::median;
use crate::hosted::orrery;
use crate::initramfs::Initramfs;
use crate::paths::{TemporaryFolder, temporary_folder};
use crate::programs;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes to sort.
const TO_SORT: usize = 50_000_000;

/// Starts in each round.
const STARTS: u32 = 20;

/// Prints how long a command of the guest took, with the time of its start left out.
const TIMED: &str = "busybox time -f 'elapsed %e' sh -c";

/// The rows `user/bench/bench.c` has for this.
const CALLS: [&str; 4] = ["null call", "pipe ping-pong", "fork+exec", "page fault"];

/// A way to run programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    Native,
    /// With this engine.
    Orrery(&'static str),
    UserModeLinux,
    Proot,
}

const SYSTEMS: [System; 5] =
    [System::Native, System::Orrery("ptrace"), System::Orrery("shared-memory"), System::UserModeLinux, System::Proot];

/// What every system finds.
struct Stage {
    folder: TemporaryFolder,
    archive: PathBuf,
}

/// Figures by row, for one system.
type Figures = BTreeMap<&'static str, Vec<f64>>;

/// The rows, with their units and how many digits are worth printing.
const ROWS: [(&str, &str, usize); 9] = [
    ("start to exit of a static `true`", "ms", 1),
    ("resident memory beyond the guest's", "MiB", 1),
    ("null call", "us", 2),
    ("null call on one core", "us", 2),
    ("pipe ping-pong", "us", 1),
    ("fork+exec", "us", 0),
    ("page fault", "us", 2),
    ("sort of 50 MB", "s", 2),
    ("1,000 commands of a shell", "s", 2),
];

/// The table of medians.
pub fn measure(runs: u32) -> Result<String> {
    let stage = Stage::new()?;
    orrery()?; // built before the first clock starts
    let systems: Vec<System> = SYSTEMS.into_iter().filter(|system| system.is_installed()).collect();
    let mut figures: Vec<Figures> = vec![Figures::new(); systems.len()];
    for number in 1..=runs {
        eprintln!("x: measuring on the host, round {number} of {runs}");
        for (system, figures) in systems.iter().zip(&mut figures) {
            system.measure(&stage, figures).with_context(|| format!("measuring {}", system.name()))?;
        }
    }
    let mut table =
        format!("Median (least to most) of {runs} rounds, in which the systems take turns; one CPU each.\n\n| |");
    systems.iter().try_for_each(|system| write!(table, " {} |", system.name()))?;
    write!(table, "\n| --- |{}", " ---: |".repeat(systems.len()))?;
    for (row, unit, digits) in ROWS {
        write!(table, "\n| {row}, {unit} |")?;
        for figures in &figures {
            match figures.get(row) {
                Some(figures) => {
                    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
                    let most = figures.iter().copied().fold(0.0, f64::max);
                    write!(table, " {:.digits$} ({least:.digits$} to {most:.digits$}) |", median(figures))?;
                }
                None => table.push_str(" |"),
            }
        }
    }
    table.push('\n');
    Ok(table)
}

impl Stage {
    fn new() -> Result<Stage> {
        let folder = temporary_folder()?;
        let mut archive = Initramfs::standard()?;
        let root = folder.path().join("root");
        for name in ["bin", "dev", "proc", "tmp"] {
            std::fs::create_dir_all(root.join(name))?;
        }
        let mut add = |path: &str, content: Vec<u8>| -> Result<()> {
            let file = root.join(path);
            std::fs::write(&file, &content)?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
            archive.file(path, 0o755, content);
            Ok(())
        };
        let busybox = std::env::var_os("ORRERY_BUSYBOX").unwrap_or_else(|| "/bin/busybox".into());
        add("bin/busybox", std::fs::read(busybox).context("cannot read BusyBox")?)?;
        for program in programs::compile("user/bench")?.iter().chain(&programs::compile("tests/guest")?) {
            add(&format!("bin/{}", program.name), std::fs::read(&program.path)?)?;
        }
        add("lines", lines())?;
        for applet in ["sh", "sort"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        let path = folder.path().join("initramfs");
        std::fs::write(&path, archive.bytes())?;
        Ok(Stage { archive: path, folder })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

/// Lines of digits in no order.
fn lines() -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(TO_SORT + 32);
    while text.len() < TO_SORT {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend(format!("{}\n", state >> 20).bytes());
    }
    text
}

impl System {
    fn name(self) -> String {
        match self {
            System::Native => "native".into(),
            System::Orrery(engine) => format!("Orrery, {engine}"),
            System::UserModeLinux => "user-mode Linux".into(),
            System::Proot => "proot".into(),
        }
    }

    fn is_installed(self) -> bool {
        let answers =
            |program: &str| Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success());
        match self {
            System::Native | System::Orrery(_) => true,
            System::UserModeLinux => answers("linux"),
            System::Proot => answers("proot"),
        }
    }

    /// What runs `/bin/PROGRAM WORDS` here, after `prefix`.
    fn command(self, stage: &Stage, prefix: &[&str], program: &str, words: &[&str]) -> Result<Command> {
        let root = stage.root();
        let mut line: Vec<String> = prefix.iter().map(|word| word.to_string()).collect();
        let mut add = |words: &[&str]| line.extend(words.iter().map(|word| word.to_string()));
        let inside = format!("/bin/{program}");
        match self {
            System::Native => add(&[&format!("{}{inside}", root.display())]),
            System::Orrery(engine) => {
                add(&[&orrery()?.display().to_string(), "run", "--cpus=1", "--engine", engine]);
                // What needs no other file is started on its own.
                if ["sh", "bench"].contains(&program) {
                    add(&[&stage.archive.display().to_string(), "--", &inside]);
                } else {
                    add(&[&format!("{}{inside}", root.display()), "--"]);
                }
            }
            System::UserModeLinux => {
                let quoted: Vec<String> = words.iter().map(|word| crate::initramfs::quote(word)).collect();
                let script = format!(
                    "#!/bin/sh\nexport PATH=/bin\nbusybox mount -t proc proc /proc\n\
                     busybox mount -t tmpfs tmpfs /tmp\n{inside} {}\nbusybox poweroff -f\n",
                    quoted.join(" ")
                );
                let init = root.join("start");
                std::fs::write(&init, script)?;
                std::fs::set_permissions(&init, PermissionsExt::from_mode(0o755))?;
                let folder = format!("rootflags={}", root.display());
                add(&["linux", "mem=1G", "rootfstype=hostfs", &folder, "rw", "init=/start", "quiet"]);
                add(&["con=null", "con0=null,fd:1"]);
            }
            System::Proot => {
                add(&["proot", "-r", &root.display().to_string(), "-b", "/dev", "-b", "/proc", "-w", "/", &inside]);
            }
        }
        if self != System::UserModeLinux {
            add(words);
        }
        let (first, rest) = line.split_first().context("no command")?;
        let mut command = Command::new(first);
        command.args(rest).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
        // The guest's own, where it gets ours.
        command.env("PATH", format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap_or_default()));
        Ok(command)
    }

    /// Runs to the end; gives what was printed.
    fn output(self, stage: &Stage, prefix: &[&str], program: &str, words: &[&str]) -> Result<String> {
        let output = self.command(stage, prefix, program, words)?.output().context("cannot start it")?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success() || self == System::UserModeLinux, "{program}: {}\n{text}", output.status);
        Ok(text)
    }

    /// One round.
    fn measure(self, stage: &Stage, figures: &mut Figures) -> Result<()> {
        let mut add = |row, value| figures.entry(row).or_default().push(value);
        // Short enough for chance to matter, but for the slowest.
        for _ in 0..if self == System::UserModeLinux { 1 } else { STARTS } {
            let started = Instant::now();
            self.output(stage, &[], "nothing", &[])?;
            add("start to exit of a static `true`", started.elapsed().as_secs_f64() * 1000.0);
        }
        if self != System::Native {
            add("resident memory beyond the guest's", self.memory(stage)?);
        }
        for (row, micros) in self.calls(stage, &[], &CALLS)? {
            add(row, micros);
        }
        for (_, micros) in self.calls(stage, &["taskset", "-c", "0"], &["null call"])? {
            add("null call on one core", micros);
        }
        let lines = if self == System::Native { stage.root().join("lines") } else { PathBuf::from("/lines") };
        add("sort of 50 MB", self.timed(stage, &format!("sort {} >/dev/null", lines.display()))?);
        let nothing = if self == System::Native { stage.root().join("bin/nothing") } else { "/bin/nothing".into() };
        let many = format!("i=0; while [ $i -lt 1000 ]; do {}; i=$((i+1)); done", nothing.display());
        add("1,000 commands of a shell", self.timed(stage, &many)?);
        Ok(())
    }

    /// Microseconds of some rows of `bench`.
    fn calls(self, stage: &Stage, prefix: &[&str], rows: &[&'static str]) -> Result<Vec<(&'static str, f64)>> {
        let text = self.output(stage, prefix, "bench", &[&["--here"], rows].concat())?;
        let figure = |line: &str, name: &str| -> Option<f64> { line.strip_prefix(name)?.trim().parse().ok() };
        let second =
            text.lines().find_map(|line| figure(line, "second")).with_context(|| format!("no figures:\n{text}"))?;
        let find = |row: &&'static str| {
            let ticks = text.lines().find_map(|line| figure(line.strip_prefix("row")?.trim_start(), row));
            ticks.map(|ticks| (*row, ticks / second * 1e6)).with_context(|| format!("no figure for {row}:\n{text}"))
        };
        rows.iter().map(find).collect()
    }

    /// Seconds a command takes, as the guest sees it.
    fn timed(self, stage: &Stage, command: &str) -> Result<f64> {
        let command = format!("{TIMED} {}", crate::initramfs::quote(command));
        let text = self.output(stage, &[], "sh", &["-c", &command])?;
        let seconds = text.lines().find_map(|line| line.trim().strip_prefix("elapsed ")?.trim().parse().ok());
        seconds.with_context(|| format!("no time:\n{text}"))
    }

    /// MiB the system itself needs while a program of the guest sleeps.
    fn memory(self, stage: &Stage) -> Result<f64> {
        let mut child = self.command(stage, &[], "busybox", &["sleep", "3"])?.spawn()?;
        std::thread::sleep(Duration::from_millis(1500));
        let result = self.memory_of(&child);
        child.wait()?;
        result
    }

    /// Of the process and what it started, what is neither shared memory (the guest's) nor, under proot, the program itself.
    fn memory_of(self, child: &Child) -> Result<f64> {
        let mut processes = vec![child.id()];
        if self != System::Proot {
            let mut next = 0;
            while let Some(&process) = processes.get(next) {
                processes.extend(children(process)?);
                next += 1;
            }
        }
        let private: u64 = processes.iter().map(|process| private_memory(*process)).sum();
        Ok(private as f64 / 1024.0)
    }
}

/// The processes that have this parent.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while we look.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let of = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
        if of == Some(parent) {
            found.push(process);
        }
    }
    Ok(found)
}

/// KiB a process has for itself, or its part of what it shares, without shared memory.
fn private_memory(process: u32) -> u64 {
    let path = Path::new("/proc").join(process.to_string()).join("smaps_rollup");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let row = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    row("Pss_Anon:").unwrap_or(0) + row("Pss_File:").unwrap_or(0)
}
