//! Growth in kernel rooms is fallible: what a program can make large answers `ENOMEM` when memory is out, and panics nowhere.
//!
//! Clippy knows the types and refuses the growing operations it can be told by name (`disallowed-methods` in
//! `kernel/clippy.toml`, with `#[expect(..., reason = "...")]` where something else bounds the growth). Operators and operations of
//! traits can't be named there, for they are the same for what grows and what doesn't. Those are found here, by their
//! looks: `extend`, `+` on strings, conversions into owned text and slices. A comment `// bounded: why` on the line above says what bounds it.
//! And there are those that look alike for every type, such as `clone` and `into`. They are found in what the compiler makes of the
//! rooms (its MIR), where each call has its types. What bounds one of those stands in [`BOUNDED`].

use super::{belongs_to, cargo, code_of, fail_with, files, has_word, shown, test_modules};
use crate::paths;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// What grows, by its looks, and what to write instead.
const GROWING: [(&str, &str); 11] = [
    (".extend(", "try_extend"),
    ("+= &", "try_push_str"),
    ("+= \"", "try_push_str"),
    (".into_owned()", "try_to_vec"),
    ("String::from(", "try_format"),
    ("Vec::from(", "try_to_vec"),
    ("VecDeque::from(", "try_reserve"),
    ("Box::<[", "try_to_box"),
    ("String::from_iter(", "try_format"),
    ("Vec::from_iter(", "try_collect"),
    ("VecDeque::from_iter(", "try_reserve"),
];

/// What rooms must not write, and where they may.
pub fn check() -> Result<String> {
    let test_modules = test_modules()?;
    let mut complaints = Vec::new();
    let mut reasons = 0;
    for file in files("kernel", &["rs"])? {
        let text = std::fs::read_to_string(&file)?;
        let in_tests = file.iter().any(|part| part == "tests");
        if in_tests || test_modules.iter().any(|module| belongs_to(&file, module)) {
            continue;
        }
        let (found, bounded) = infallible(&text);
        reasons += bounded;
        complaints.extend(found.iter().map(|(number, what)| format!("{}:{number}: {what}", shown(&file))));
    }
    // A list that was emptied or renamed would find nothing, silently.
    let list = std::fs::read_to_string(crate::paths::root().join("kernel/clippy.toml"))?;
    for named in
        ["Vec::push", "Iterator::collect", "slice::to_vec", "ToString::to_string", "alloc::format", "alloc::vec"]
    {
        ensure!(list.contains(named), "kernel/clippy.toml no longer names {named}");
    }
    let typed = check_typed(&mut complaints)?;
    fail_with(complaints).map(|_| format!("{} places are bounded by something else", reasons + typed))
}

/// The rooms whose calls are looked at.
const ROOMS: [&str; 12] =
    ["abi", "sync", "memory", "sched", "vfs", "fs", "tty", "drivers", "process", "procfs", "syscalls", "orrery"];

/// Functions that copy what may not fail, by a part of their names as the compiler has them, and what bounds it.
const BOUNDED: [(&str, &str, &str); 14] = [
    ("vfs", "dentry::", "a name: 255 bytes"),
    ("vfs", "device::", "a device's name"),
    ("vfs", "namespace::", "a source: below a page"),
    ("fs", "hostfs::inode::", "a path: below a page"),
    ("fs", "tmpfs::inode::", "a path: below a page"),
    ("drivers", "kernel_log::", "a line"),
    ("process", "stack::", "a vector of 20 entries"),
    ("process", "commit", "a vector of 20 entries"),
    ("process", "kernel::", "a host's name: 64 bytes"),
    ("orrery", "start_init", "at boot"),
    ("procfs", "system::", "a terminal's name"),
    ("procfs", "to_text", "two numbers"),
    ("process", "cut", "a host's name: 64 bytes"),
    ("tty", "terminal::", "a terminal's name"),
];

/// Looks through all calls of the rooms, and returns how many are bounded by something else.
fn check_typed(complaints: &mut Vec<String>) -> Result<usize> {
    let target = paths::target().join("mir");
    let mut command = cargo();
    command.current_dir(paths::root()).args(["check", "--quiet", "--package", "orrery", "--target-dir"]).arg(&target);
    let output = command.env("RUSTFLAGS", "--emit=mir").output().context("cannot start cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut bounded = 0;
    for room in ROOMS {
        let mir = std::fs::read_to_string(newest(&target.join("debug/deps"), room)?)?;
        for (function, call) in copies(&mir) {
            let reason = BOUNDED.iter().find(|(its, part, _)| *its == room && function.contains(part));
            match reason {
                Some(_) => bounded += 1,
                None => complaints.push(format!("{room}: {call} can't fail, in {function}")),
            }
        }
    }
    Ok(bounded)
}

/// What the compiler wrote last of a room.
fn newest(folder: &Path, room: &str) -> Result<PathBuf> {
    let mut found = None;
    for entry in std::fs::read_dir(folder)? {
        let (path, name) = {
            let entry = entry?;
            (entry.path(), entry.file_name())
        };
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(room).and_then(|rest| rest.strip_prefix('-')) else { continue };
        if rest.ends_with(".mir") {
            found = found.max(Some((path.metadata()?.modified()?, path)));
        }
    }
    match found {
        Some((_, path)) => Ok(path),
        None => bail!("the compiler wrote nothing of {room}"),
    }
}

/// The calls in which something is copied that can be large: in which function, and what is called.
fn copies(mir: &str) -> Vec<(&str, &str)> {
    let (mut function, mut found) = ("", Vec::new());
    for line in mir.lines() {
        if let Some(rest) = line.strip_prefix("fn ") {
            function = rest.split_once('(').map_or(rest, |(name, _)| name);
        }
        let Some((_, call)) = line.split_once(" = ").filter(|(_, call)| call.contains(") -> ")) else { continue };
        let called = call.split_once('(').map_or(call, |(called, _)| called);
        if is_copy(called) {
            found.push((function, called));
        }
    }
    found
}

/// Whether a function with these types copies what may be large, without a way to fail.
fn is_copy(called: &str) -> bool {
    if called.starts_with("alloc::slice::<impl ") || called.starts_with("alloc::str::<impl ") {
        return ["::to_vec", "::concat", "::join", "::repeat", "::replace", "::to_lowercase"]
            .iter()
            .any(|end| called.ends_with(end));
    }
    if let Some(of) = called.strip_prefix("Option::<&").and_then(|rest| rest.strip_suffix(">::cloned")) {
        return is_large(of);
    }
    let Some((of, as_what)) = called.strip_prefix('<').and_then(|rest| rest.split_once(" as ")) else { return false };
    match as_what.split_once('<').map_or(as_what, |(what, _)| what) {
        "Clone>::clone" | "Clone>::clone_from" => is_large(of.trim_start_matches("Option<")),
        "ToOwned>::to_owned" => true,
        "Into" => as_what.strip_prefix("Into<").is_some_and(|made| is_large(made) || is_shared(made)),
        "From" => is_large(of) || is_shared(of),
        _ => false,
    }
}

/// Collections, and boxes of unknown length.
fn is_large(of: &str) -> bool {
    const COLLECTIONS: [&str; 9] =
        ["Vec<", "VecDeque<", "String", "Box<[", "Box<str", "BTreeMap<", "BTreeSet<", "HashMap<", "SmallVec<"];
    COLLECTIONS.iter().any(|collection| of.starts_with(collection))
}

/// What is shared costs nothing to clone, but to be made.
fn is_shared(of: &str) -> bool {
    of.starts_with("Arc<[") || of.starts_with("Arc<str")
}

/// The lines that grow something without `try_`, and how many others say what bounds them.
fn infallible(text: &str) -> (Vec<(usize, String)>, usize) {
    // Test modules stand at the end of a file.
    let kernel_code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let (mut found, mut bounded) = (Vec::new(), 0);
    let mut above = "";
    for (number, line) in (1..).zip(kernel_code.lines()) {
        // Quotes stay as such, so that `+= "` is seen.
        let code = code_of(line);
        let growing = GROWING.iter().find(|(looks, _)| code.contains(looks));
        if let Some((looks, instead)) = growing.filter(|_| !has_word(line, "macro_rules")) {
            if above.trim_start().starts_with("// bounded: ") {
                bounded += 1;
            } else {
                found.push((number, format!("`{looks}` can't fail: {instead}, or `// bounded: why` above it")));
            }
        }
        // What isn't marked so would draw on the reserve, though it can be refused.
        if code.contains(".try_reserve") && !code.contains("fallible(") {
            found.push((number, "`try_reserve` outside of `machine::memory::fallible`".into()));
        }
        above = line;
    }
    (found, bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_found() {
        for line in [
            "list.extend(more);",
            "text += &name;",
            "text += \" (deleted)\";",
            "let copy = String::from(name);",
            "let all = Vec::from(slice);",
        ] {
            assert!(
                infallible("list.try_reserve(1)?;").0.len() == 1
                    && infallible("fallible(|| list.try_reserve(1))?;").0.is_empty()
            );
            assert_eq!(infallible(line).0.len(), 1, "{line}");
            assert_eq!(infallible(&format!("// bounded: it is\n{line}")), (Vec::new(), 1), "{line}");
        }
    }

    #[test]
    fn copies_are_known_by_their_types() {
        let mir = "fn namespace::<impl at kernel/vfs/src/namespace.rs:25:1: 25:20>::mounts(_1: &A) -> B {\n    bb0: {\n        \
                   _0 = <Vec<Arc<Mount>> as Clone>::clone(copy _2) -> [return: bb3, unwind: bb5];\n        \
                   _1 = <Arc<Mount> as Clone>::clone(copy _2) -> [return: bb3, unwind: bb5];\n";
        let name = "namespace::<impl at kernel/vfs/src/namespace.rs:25:1: 25:20>::mounts";
        assert_eq!(copies(mir), [(name, "<Vec<Arc<Mount>> as Clone>::clone")]);
        for called in [
            "<Vec<u32> as Into<Arc<[u32]>>>::into",
            "<&[u8] as Into<Vec<u8>>>::into",
            "<Arc<str> as From<&str>>::from",
            "<Option<String> as Clone>::clone",
            "<str as ToOwned>::to_owned",
            "alloc::slice::<impl [u8]>::to_vec",
            "Option::<&Vec<u8>>::cloned",
        ] {
            assert!(is_copy(called), "{called}");
        }
        for called in [
            "<Arc<[u8]> as Clone>::clone",
            "<Errno as Into<Failure>>::into",
            "try_to_vec::<u8>",
            "Option::<&Arc<Vec<u8>>>::cloned",
            "<Arc<Alarm> as Into<Waker>>::into",
        ] {
            assert!(!is_copy(called), "{called}");
        }
    }

    #[test]
    fn the_rest_is_not() {
        for line in
            ["list.try_extend(more)?;", "sum += 1;", "// list.extend(more)", "print(\".extend(\");", "sum += length;"]
        {
            assert!(infallible(line).0.is_empty(), "{line}");
        }
        assert!(infallible("fn f() {}\n#[cfg(test)]\nmod tests {\n    list.extend(more);\n}").0.is_empty());
    }
}
