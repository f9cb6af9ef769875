//! `x mutants ROOM`: how strong the tests of a room are. cargo-mutants changes the room's code at one place after the other (a
//! condition turned round, a function that does nothing) and runs the tests of the crate, and of the rooms above it that drive it
//! in theirs: a mutant that none notices is a hole.
//!
//! What the rooms' tests do not notice, the twins may (`--twins`): the command is built with the mutant in it, and they run on the
//! host machine as in `x test`. That takes longer, so only what is left is asked of them.
//!
//! A room has hundreds of mutants and each costs a build, so that a sample from a seed is the usual way. What no test can notice
//! because nothing changes is listed, with the reason, in `tests/mutants/equivalent.txt`, and does not count.

use crate::paths;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What `x mutants` is asked for.
#[derive(clap::Args)]
pub struct Mutants {
    /// A crate of the kernel, or `machine-host` or `machine-shared`: what of `machine` runs in tests.
    room: String,
    /// So many mutants instead of all.
    #[arg(long)]
    sample: Option<usize>,
    /// Which ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only those whose name or place contains this.
    #[arg(long)]
    only: Option<String>,
    /// Names them instead of trying them.
    #[arg(long)]
    list: bool,
    /// Asks the twins too about what the rooms' tests miss.
    #[arg(long)]
    twins: bool,
}

/// Mutants that count as detected, out of a hundred viable ones.
const GOAL: usize = 90;

/// A crate, and which of its files.
struct Room {
    package: String,
    files: &'static [&'static str],
    excluded: &'static [&'static str],
    /// Rooms above it whose tests are tests of it as well.
    above: &'static [&'static str],
}

impl Room {
    fn of(name: &str) -> Result<Room> {
        // Tests and what only serves them, and what is not compiled into them.
        const EVERYWHERE: &[&str] = &[
            "**/tests.rs",
            "**/tests/**",
            "**/test_support.rs",
            "machine/src/pc/**",
            "machine/src/arch/**",
            "machine/src/bare/**",
        ];
        const SHARED: &[&str] = &[
            "**/tests.rs",
            "**/tests/**",
            "machine/src/pc/**",
            "machine/src/arch/**",
            "machine/src/bare/**",
            "machine/src/host/**",
        ];
        let (package, files, excluded): (_, &[&str], _) = match name {
            "machine-host" => ("machine", &["machine/src/host/**"], EVERYWHERE),
            "machine-shared" => ("machine", &[], SHARED),
            _ => {
                ensure!(paths::root().join("kernel").join(name).is_dir(), "there is no room '{name}' in kernel/");
                (name, &[], EVERYWHERE)
            }
        };
        // What paths and open files do is seen on a file system.
        let above: &[&str] = match name {
            "vfs" => &["fs"],
            // Calls are what drives processes, threads and futexes.
            "process" => &["syscalls"],
            _ => &[],
        };
        Ok(Room { package: package.into(), files, excluded, above })
    }

    /// cargo-mutants for this room.
    fn cargo(&self) -> Command {
        // Hundreds of builds: whatever else the host does goes first.
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.current_dir(paths::root()).args(["mutants", "--package", &self.package, "--colors", "never"]);
        command.args(self.files.iter().flat_map(|file| ["--file", file]));
        command.args(self.excluded.iter().flat_map(|file| ["--exclude", file]));
        command.stdin(Stdio::null());
        command
    }
}

impl Mutants {
    /// Measures a room.
    pub fn run(self) -> Result<ExitCode> {
        install()?;
        let room = Room::of(&self.room)?;
        let listed = room.cargo().args(["--list"]).output().context("cannot start cargo mutants")?;
        ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let text = String::from_utf8_lossy(&listed.stdout);
        let equivalent = Equivalent::read(&paths::root().join("tests/mutants/equivalent.txt"))?;
        let only = self.only.as_deref().unwrap_or_default();
        let all: Vec<&str> = text.lines().filter(|name| name.contains(only) && !equivalent.names(name)).collect();
        let chosen = sample(all.clone(), self.sample.unwrap_or(usize::MAX), self.seed);
        println!("mutants {}: {} of {}, seed {}", self.room, chosen.len(), all.len(), self.seed);
        if self.list {
            chosen.iter().for_each(|name| println!("{name}"));
            return Ok(ExitCode::SUCCESS);
        }
        let folder = paths::target().join("mutants").join(&self.room);
        let mut tried = room.try_these(&chosen, text.lines(), &folder)?;
        if self.twins {
            tried.ask_twins(&folder)?;
        }
        tried.report(&self.room);
        let detected = tried.detected();
        let good = detected * 100 >= GOAL * (detected + tried.missed.len());
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Room {
    /// Tries these mutants out of all, one after the other, in a copy of the sources.
    fn try_these<'a>(&self, chosen: &[&str], all: impl Iterator<Item = &'a str>, folder: &Path) -> Result<Tried> {
        ensure!(!chosen.is_empty(), "there are no such mutants");
        let results = folder.join("mutants.out");
        if results.exists() {
            std::fs::remove_dir_all(&results)?;
        }
        // Its filters don't reach all kinds of mutants. What an earlier run has caught is left out for sure.
        std::fs::create_dir_all(&results)?;
        let others: String = all.filter(|name| !chosen.contains(name)).map(|name| format!("{name}\n")).collect();
        std::fs::write(results.join("caught.txt"), others)?;
        let mut command = self.cargo();
        // The copy's builds stay for the next run. Debug information would cost more than the code.
        command.env("CARGO_TARGET_DIR", folder.join("build")).env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.args([&*self.package].iter().chain(self.above).flat_map(|package| ["--test-package", package]));
        command.arg("--iterate").arg("--output").arg(folder).args(["--minimum-test-timeout", "60", "--no-shuffle"]);
        let status = command.status().context("cannot start cargo mutants")?;
        // 0: all detected, 2: some missed, 3: some ran too long. Anything else: it could not be done.
        ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo mutants ended with {status}");
        Tried::read(&folder.join("mutants.out"))
    }
}

/// What became of the mutants.
struct Tried {
    caught: Vec<String>,
    /// Those that the rooms' tests missed and the twins noticed.
    by_twins: Vec<String>,
    missed: Vec<String>,
    /// The tests did not come to an end: they would be noticed by anybody.
    timeout: Vec<String>,
    /// They don't compile, and say nothing.
    unviable: Vec<String>,
}

impl Tried {
    fn read(folder: &Path) -> Result<Tried> {
        let lines = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name)).with_context(|| format!("no {name}"))?;
            Ok::<_, anyhow::Error>(text.lines().map(String::from).collect())
        };
        Ok(Tried {
            caught: lines("caught.txt")?,
            by_twins: Vec::new(),
            missed: lines("missed.txt")?,
            timeout: lines("timeout.txt")?,
            unviable: lines("unviable.txt")?,
        })
    }

    /// Lets the twins try those that were missed so far. `folder` holds what cargo-mutants left.
    fn ask_twins(&mut self, folder: &Path) -> Result<()> {
        let tree = Tree::copy(&folder.join("tree"))?;
        ensure!(tree.build()? && tree.twins_agree()?, "the twins fail without a mutant: x test \"{TWINS}\"");
        for name in std::mem::take(&mut self.missed) {
            let (file, ..) = parts(&name).with_context(|| format!("no place in {name}"))?;
            let original = tree.0.join(file);
            let source = std::fs::read_to_string(&original)?;
            let diff = diff_of(&folder.join("mutants.out/log"), &name)?;
            std::fs::write(&original, patched(&source, &diff).with_context(|| format!("no patch for {name}"))?)?;
            // What is compiled into the command only otherwise than into tests is no mutant of it.
            let noticed = tree.build()? && !tree.twins_agree()?;
            std::fs::write(&original, source)?;
            println!("{} {name}", if noticed { "twins   " } else { "unseen  " });
            if noticed { self.by_twins.push(name) } else { self.missed.push(name) }
        }
        Ok(())
    }

    fn detected(&self) -> usize {
        self.caught.len() + self.timeout.len() + self.by_twins.len()
    }

    fn report(&self, room: &str) {
        self.missed.iter().for_each(|name| println!("missed   {name}"));
        self.timeout.iter().for_each(|name| println!("endless  {name}"));
        let detected = self.detected();
        let viable = detected + self.missed.len();
        let share = (detected * 100).checked_div(viable).unwrap_or(0);
        println!(
            "mutants {room}: {detected} of {viable} viable ones detected, {share} % (goal {GOAL}), {} of them by twins; {} do not compile",
            self.by_twins.len(),
            self.unviable.len()
        );
    }
}

/// The job of `x test` that the twins are asked by.
const TWINS: &str = "twin on the host with 1 CPU";

/// A copy of the sources in which a mutant is built into the command.
struct Tree(PathBuf);

impl Tree {
    /// Makes the copy agree with the repository; what was built stays.
    fn copy(folder: &Path) -> Result<Tree> {
        std::fs::create_dir_all(folder)?;
        for part in
            ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "clippy.toml", "machine", "kernel", "cli", "xtask", "user"]
        {
            copy(&paths::root().join(part), &folder.join(part))?;
        }
        Ok(Tree(folder.into()))
    }

    fn target(&self) -> PathBuf {
        self.0.join("target")
    }

    /// Whether the command compiles.
    fn build(&self) -> Result<bool> {
        let mut command = quietly(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.current_dir(&self.0).args(["build", "--quiet", "--package", "orrery-cli"]);
        command.env("CARGO_TARGET_DIR", self.target()).env("CARGO_PROFILE_DEV_DEBUG", "0");
        // Not optimised at all, the twins would take longer than this does.
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        Ok(command.status().context("cannot start cargo")?.success())
    }

    /// Whether the twins print with it what they print on Linux.
    fn twins_agree(&self) -> Result<bool> {
        let mut command = quietly(&std::env::current_exe()?.to_string_lossy());
        command.args(["test", TWINS]).env("ORRERY_COMMAND", self.target().join("debug/orrery"));
        Ok(command.status()?.success())
    }
}

/// A command behind everything else that the host does, that says nothing.
fn quietly(program: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19", program]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Copies a file or folder; what has not changed keeps its time, by which cargo knows it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        if !std::fs::read(to).is_ok_and(|old| old == bytes) {
            std::fs::write(to, bytes)?;
        }
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(to)? {
        let entry = entry?;
        if !from.join(entry.file_name()).exists() {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path())?
            } else {
                std::fs::remove_file(entry.path())?
            }
        }
    }
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// The change of a mutant, as cargo-mutants noted it in the log of its run.
fn diff_of(logs: &Path, name: &str) -> Result<String> {
    for entry in std::fs::read_dir(logs)? {
        let text = std::fs::read(entry?.path())?;
        let text = String::from_utf8_lossy(&text);
        let Some(rest) =
            text.trim_start().strip_prefix("*** ").and_then(|rest| rest.strip_prefix(name)?.strip_prefix('\n'))
        else {
            continue;
        };
        let diff = rest.split("*** mutation diff:\n").nth(1).and_then(|rest| rest.split("\n*** ").next());
        return diff.map(String::from).with_context(|| format!("no diff of {name}"));
    }
    bail!("no log of {name}")
}

/// A text with the hunks of a diff applied. `None` if they don't fit.
fn patched(source: &str, diff: &str) -> Option<String> {
    let old: Vec<&str> = source.lines().collect();
    let (mut new, mut at) = (Vec::new(), 0);
    for line in diff.lines() {
        if let Some(place) = line.strip_prefix("@@ -") {
            let first: usize = place.split([',', ' ']).next()?.parse().ok()?;
            new.extend_from_slice(old.get(at..first - 1)?);
            at = first - 1;
        } else if let Some(added) = line.strip_prefix('+').filter(|added| !added.starts_with("++ ")) {
            new.push(added);
        } else if let Some(kept) = line.strip_prefix(' ') {
            new.push(old.get(at).copied().filter(|line| *line == kept)?);
            at += 1;
        } else if let Some(gone) = line.strip_prefix('-').filter(|gone| !gone.starts_with("-- ")) {
            old.get(at).filter(|line| **line == gone)?;
            at += 1;
        }
    }
    new.extend_from_slice(old.get(at..)?);
    Some(new.iter().map(|line| format!("{line}\n")).collect())
}

/// The mutants that change nothing.
struct Equivalent(Vec<Named>);

/// In the place of a source line: the reason holds for all of the name.
const ANY_LINE: &str = "*";

/// One of them.
struct Named {
    /// File and change: `kernel/sync/src/lib.rs: replace < with <= in f`.
    change: String,
    /// The source line, which tells several of the same name apart, or [`ANY_LINE`].
    line: String,
}

impl Equivalent {
    fn read(path: &Path) -> Result<Equivalent> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Equivalent::parse(&text)
    }

    fn parse(text: &str) -> Result<Equivalent> {
        let mut all = Vec::new();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for paragraph in lines.split(|line| line.trim().is_empty()).filter(|paragraph| !paragraph.is_empty()) {
            let [change, line, why @ ..] = paragraph else { bail!("a mutant without its line: {paragraph:?}") };
            let line = line.trim().strip_prefix("line: ").with_context(|| format!("no `line: ` for {change}"))?;
            let reasoned = why.first().is_some_and(|why| why.trim().starts_with("why: "));
            ensure!(reasoned, "no `why: ` for {change}");
            all.push(Named { change: change.trim().into(), line: line.trim().into() });
        }
        Ok(Equivalent(all))
    }

    /// Is this one listed, as cargo-mutants prints it (`FILE:LINE:COLUMN: CHANGE`)?
    fn names(&self, mutant: &str) -> bool {
        let Some((file, number, change)) = parts(mutant) else { return false };
        let listed = |known: &&Named| known.change == format!("{file}: {change}");
        let mut known = self.0.iter().filter(listed).peekable();
        known.peek().is_some() && {
            let source = std::fs::read_to_string(paths::root().join(file)).unwrap_or_default();
            let line = source.lines().nth(number.saturating_sub(1)).unwrap_or_default().trim();
            known.any(|known| known.line == line || known.line == ANY_LINE)
        }
    }
}

/// File, line and change of a mutant.
fn parts(mutant: &str) -> Option<(&str, usize, &str)> {
    let (place, change) = mutant.split_once(": ")?;
    let mut place = place.split(':');
    Some((place.next()?, place.next()?.parse().ok()?, change))
}

/// So many of all, in their order: the same from the same seed.
fn sample(all: Vec<&str>, count: usize, seed: u64) -> Vec<&str> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut chosen = Vec::new();
    let mut wanted = count.min(all.len());
    for (left, name) in (1..=all.len()).rev().zip(all) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Each of those that are left is as likely as any other (Knuth, volume 2, 3.4.2, algorithm S).
        if (state >> 11) as usize % left < wanted {
            chosen.push(name);
            wanted -= 1;
        }
    }
    chosen
}

/// Installs cargo-mutants if it is missing.
fn install() -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let works = |arguments: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if works(&["mutants", "--version"]) {
        return Ok(());
    }
    eprintln!("x: installing cargo-mutants (cargo install --locked cargo-mutants)");
    let status = Command::new(&cargo).args(["install", "--locked", "--quiet", "cargo-mutants"]).status()?;
    ensure!(status.success(), "cargo-mutants could not be installed: cargo install --locked cargo-mutants");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_from_the_same_seed_and_never_larger_than_all() {
        let all: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let first = sample(all.clone(), 20, 3);
        assert_eq!(first.len(), 20);
        assert_eq!(first, sample(all.clone(), 20, 3));
        assert_ne!(first, sample(all.clone(), 20, 4));
        assert_eq!(sample(all.clone(), 1000, 3), all);
    }

    #[test]
    fn an_equivalent_mutant_is_known_by_its_change_and_its_line() {
        let text = "# a comment\n\nxtask/src/paths.rs: replace f\n    line: //! Where things are.\n    why: no code\n";
        let known = Equivalent::parse(text).unwrap();
        assert_eq!(known.0.len(), 1);
        assert!(!known.names("xtask/src/paths.rs:1:1: replace g"));
        let line = if known.names("xtask/src/paths.rs:1:1: replace f") { 2 } else { 1 };
        let elsewhere = format!("xtask/src/paths.rs:{line}:1: replace f");
        assert!(!known.names(&elsewhere));
        assert!(Equivalent::parse("xtask/src/paths.rs: replace f\n line: *\n why: x\n").unwrap().names(&elsewhere));
        assert!(Equivalent::parse("x.rs: y\n    line: z\n").is_err(), "without a reason");
        assert!(Equivalent::parse("x.rs: y\n").is_err(), "without a line");
    }

    #[test]
    fn a_mutant_s_diff_is_applied() {
        let source = "one\ntwo\n\nthree\nfour\n";
        let diff = "--- f.rs\n+++ replace a with b\n@@ -2,3 +2,3 @@\n two\n \n-three\n+drei\n";
        assert_eq!(patched(source, diff).as_deref(), Some("one\ntwo\n\ndrei\nfour\n"));
        assert_eq!(patched("one\nzwei\n\nthree\n", diff), None);
    }
}
