//! `x check`: style and the rules of the house, without running anything of the kernel.
//!
//! | check | what must hold |
//! | --- | --- |
//! | rustfmt, clippy | no difference, no warning, for the host and for the bare machine |
//! | other architectures | `machine` as software, and rooms on it, compile for riscv64 and, with words of 32 bits, wasm32 |
//! | shell | `x` and `.ci/run` pass shellcheck, where it is installed |
//! | `unsafe` | only in trusted crates, below `machine/`, and always with a `// SAFETY:` nearby |
//! | statics | kernel rooms have no `static` that can change |
//! | growth | what clippy's list in `kernel/clippy.toml` can't name: no collection grows without `try_` |
//! | architecture | registers, and what else is x86's, are named in `kernel/abi/src/arch` and `machine/` only |
//! | pages | every file, but those of tests, begins with a `//!` page |
//! | size | trusted crates have a small share of the lines |
//! | links | links in `docs/` and the README lead somewhere |
//! | edges | each edge of the drawn life of a thread is named at its function, and only there |

mod architecture;
mod edges;
mod growth;
mod trusted;

use crate::{build, paths};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What marks checks that a room has where other rooms' tests use it, in no kernel that runs for somebody.
const DEBUG_ON_HOST: &str = "#[cfg(all(debug_assertions, not(target_os = \"none\")))]";

/// What marks what a room offers to the tests of others.
const FOR_TESTS: &str = "#[cfg(any(test, feature = \"test-hooks\"))]";

/// Begins the note of a check that could not be made: it has neither passed nor failed.
const NOT_RUN: &str = "not run: ";

/// Gives a note about what was found, or complains.
type Check = fn() -> Result<String>;

/// Runs all checks; prints each, and the failures at the end.
pub fn run() -> Result<ExitCode> {
    let checks: [(&str, Check); 14] = [
        ("rustfmt", rustfmt),
        ("clippy on the host", clippy_host),
        ("clippy on the bare machine", clippy_bare),
        ("clippy for riscv64", || clippy_elsewhere("riscv64gc-unknown-none-elf")),
        ("clippy for wasm32", || clippy_elsewhere("wasm32-unknown-unknown")),
        ("shellcheck", shellcheck),
        ("unsafe only where it is allowed", unsafe_code),
        ("no changing statics in kernel/", statics),
        ("growth in kernel/ is fallible", growth::check),
        ("registers only where the architecture is", architecture::check),
        ("every file has its page", pages),
        ("the trusted part is small", trusted::check),
        ("links in the book", links),
        ("edges of the life of a thread", edges::check),
    ];
    let (mut failed, mut not_run) = (0, 0);
    for (name, check) in checks {
        match check() {
            Ok(note) if note.starts_with(NOT_RUN) => {
                not_run += 1;
                println!("--      {name}: {note}");
            }
            Ok(note) => println!("ok      {name}{}{note}", if note.is_empty() { "" } else { ": " }),
            Err(error) => {
                failed += 1;
                println!("FAILED  {name}");
                format!("{error:#}").lines().for_each(|line| println!("        {line}"));
            }
        }
    }
    let rest = if not_run > 0 { format!(", {not_run} not run") } else { String::new() };
    println!("{} passed, {failed} failed{rest}", checks.len() - failed - not_run);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a command; its output becomes the error.
fn quiet(command: &mut Command) -> Result<String> {
    let output = command.current_dir(paths::root()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let lines: Vec<&str> = text.lines().collect();
        bail!("{}", lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n"));
    }
    Ok(String::new())
}

/// The cargo that runs us, which `x` chose.
fn cargo() -> Command {
    Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
}

fn rustfmt() -> Result<String> {
    quiet(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy_host() -> Result<String> {
    quiet(cargo().args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]))
}

/// Clippy comes with the host's compiler; without the bare target's core of the same compiler there is nothing to check
/// against, and the compiler's own warnings have to do.
fn clippy_bare() -> Result<String> {
    if has_target("x86_64-unknown-none")? {
        let mut command = cargo();
        command.args(["clippy", "--quiet", "-p", "image", "--target", "x86_64-unknown-none", "--", "-D", "warnings"]);
        return quiet(&mut command);
    }
    build::check_for_warnings()?;
    Ok("compiled without warnings; the host's clippy lacks that target".into())
}

/// Whether the host's compiler has the target's core.
pub fn has_target(target: &str) -> Result<bool> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    Ok(sysroot.join("lib/rustlib").join(target).is_dir())
}

/// What is built for every other architecture, where `machine` is the one of software only.
const PORTABLE: [&str; 12] = [
    "boundary",
    "clocks",
    "folders",
    "formats",
    "machine",
    "pages",
    "riscv",
    "setup",
    "shortage",
    "simulator",
    "streams",
    "sync",
];

/// Rooms that are built where Linux has an architecture, whose numbers `abi` takes, and words have 64 bits: all there are.
const PORTABLE_64: [&str; 11] =
    ["abi", "memory", "sched", "vfs", "drivers", "fs", "tty", "process", "procfs", "syscalls", "orrery"];

fn clippy_elsewhere(target: &str) -> Result<String> {
    let rooms: &[&str] = if target.starts_with("riscv64") { &PORTABLE_64 } else { &[] };
    let crates = [&PORTABLE[..], rooms].concat();
    if !has_target(target)? {
        return Ok(format!("{NOT_RUN}{target} is not installed (rustup target add {target})"));
    }
    let mut command = cargo();
    command.args(["clippy", "--quiet", "--target", target]);
    command.args(crates.iter().flat_map(|name| ["-p", *name])).args(["--", "-D", "warnings"]);
    quiet(&mut command)?;
    Ok(crates.join(", "))
}

fn shellcheck() -> Result<String> {
    if Command::new("shellcheck").arg("--version").output().is_err() {
        return Ok(format!("{NOT_RUN}it is not installed"));
    }
    quiet(Command::new("shellcheck").args(["x", ".ci/run"]))
}

/// All files with one of these extensions below a folder of the repository, sorted.
fn files(folder: &str, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![paths::root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn shown(path: &Path) -> String {
    path.strip_prefix(paths::root()).unwrap_or(path).display().to_string()
}

/// A line's code: without its comment, and without what stands in quotes.
fn code_of(line: &str) -> String {
    let without_text: String = line.replace("\\\"", "").split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    without_text.split("//").next().unwrap_or_default().to_string()
}

/// Is this word in the code of the line, as a whole word?
fn has_word(line: &str, word: &str) -> bool {
    code_of(line).split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

fn fail_with(complaints: Vec<String>) -> Result<String> {
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(String::new())
}

fn unsafe_code() -> Result<String> {
    let mut complaints = Vec::new();
    for folder in ["kernel", "cli", "xtask"] {
        for file in files(folder, &["rs"])? {
            for (number, line) in (1..).zip(std::fs::read_to_string(&file)?.lines()) {
                if has_word(line, "unsafe") {
                    complaints.push(format!("{}:{number}: unsafe outside machine/", shown(&file)));
                }
            }
        }
    }
    for file in files("machine", &["rs"])? {
        let text = std::fs::read_to_string(&file)?;
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let block = code_of(line).contains("unsafe {") || code_of(line).contains("unsafe impl");
            // The reason stands on the line or in the comment above the statement the block belongs to.
            let near = lines.get(index.saturating_sub(12)..=index).unwrap_or_default();
            if block && !near.iter().any(|line| line.contains("SAFETY")) {
                complaints.push(format!("{}:{}: unsafe without // SAFETY:", shown(&file), index + 1));
            }
        }
    }
    fail_with(complaints)
}

fn statics() -> Result<String> {
    const CHANGING: [&str; 9] = ["Atomic", "Cell", "Mutex", "Lock", "Once", "Lazy", "PerCpu", "WaitQueue", "Semaphore"];
    let mut complaints = Vec::new();
    let test_modules = test_modules()?;
    for file in files("kernel", &["rs"])? {
        let text = std::fs::read_to_string(&file)?;
        if test_modules.iter().any(|module| belongs_to(&file, module)) {
            continue;
        }
        // Test modules stand at the end of a file.
        let kernel_code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in (1..).zip(kernel_code.lines()) {
            let code = code_of(line);
            let declares =
                code.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ").starts_with("static ");
            if declares && (code.contains("static mut") || CHANGING.iter().any(|kind| code.contains(kind))) {
                complaints.push(format!("{}:{number}: {}", shown(&file), code.trim()));
            }
        }
    }
    fail_with(complaints)
}

/// Names of modules that exist in tests only: `#[cfg(test)] mod NAME;`, or [`DEBUG_ON_HOST`] or [`FOR_TESTS`] in its place.
fn test_modules() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["kernel", "machine", "cli", "xtask"] {
        for file in files(folder, &["rs"])? {
            let text = std::fs::read_to_string(&file)?;
            for rest in ["#[cfg(test)]", DEBUG_ON_HOST, FOR_TESTS].iter().flat_map(|mark| text.split(mark).skip(1)) {
                let line = rest.trim_start().lines().next().unwrap_or_default();
                let name = line.split("mod ").nth(1).and_then(|name| name.strip_suffix(';'));
                names.extend(name.map(String::from));
            }
        }
    }
    Ok(names)
}

/// Is a file this module, or one inside it?
fn belongs_to(file: &Path, module: &str) -> bool {
    file.file_stem().is_some_and(|stem| stem == module) || file.iter().any(|part| part == module)
}

fn pages() -> Result<String> {
    let mut complaints = Vec::new();
    let test_modules = test_modules()?;
    for folder in ["kernel", "machine", "cli", "xtask"] {
        for file in files(folder, &["rs"])? {
            let text = std::fs::read_to_string(&file)?;
            let for_tests = test_modules.iter().any(|module| belongs_to(&file, module));
            if !for_tests && !text.trim_start().starts_with("//!") {
                complaints.push(format!("{}: does not begin with a //! page", shown(&file)));
            }
        }
    }
    fail_with(complaints)
}

fn links() -> Result<String> {
    let mut pages = files("docs", &["md"])?;
    pages.extend(Some(paths::root().join("README.md")).filter(|page| page.is_file()));
    let mut complaints = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page)?;
        for target in link_targets(&text) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let full = page.parent().unwrap_or(Path::new("")).join(path);
            if !full.exists() {
                complaints.push(format!("{}: {target} leads nowhere", shown(&page)));
            }
        }
    }
    fail_with(complaints)
}

/// The targets of `[text](target)` outside code.
fn link_targets(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut targets = Vec::new();
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block {
            continue;
        }
        // What stands between pairs of backquotes is code.
        for prose in line.split('`').step_by(2) {
            let ends = prose.match_indices("](").map(|(at, mark)| at + mark.len());
            targets.extend(ends.filter_map(|at| prose.get(at..)?.split(')').next()));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_text_are_no_code() {
        assert!(has_word("let x = unsafe { y };", "unsafe"));
        assert!(!has_word("// unsafe", "unsafe"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
        assert!(!has_word("print(\"unsafe\");", "unsafe"));
    }

    #[test]
    fn links_are_found_outside_code() {
        let text = "see [a](one.md) and [b](two.md#part), not `[c](three.md)`\n```\n[d](four.md)\n```\n";
        assert_eq!(link_targets(text), ["one.md", "two.md#part"]);
    }
}
