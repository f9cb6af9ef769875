//! How much of the kernel has to be trusted with memory: the crates in which the compiler allows `unsafe`, against all of `machine/`
//! and `kernel/`.
//!
//! A crate is *safe* if its root says `#![forbid(unsafe_code)]`; a mistake there may give wrong answers, and breaks no memory. Every
//! other crate is trusted, with each of its lines. Lines of code are counted, of Rust and of assembler; tests are no part of
//! what has to be trusted, and are counted on neither side.

use super::{belongs_to, files, shown, test_modules};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The largest share of the lines that may lie in trusted crates, in per cent: what was reached last. It only ever falls; the goal is 16.
const LARGEST_SHARE: f64 = 17.5;

/// What a crate's root says if it has no `unsafe`.
const FORBIDS: &str = "#![forbid(unsafe_code)]";

/// Whether the root of the crate in this folder forbids `unsafe`.
fn is_safe(folder: &Path) -> Result<bool> {
    let roots = ["src/lib.rs", "src/main.rs"].map(|root| folder.join(root));
    let root = roots.iter().find(|root| root.is_file());
    let root = root.with_context(|| format!("{} has no root", shown(folder)))?;
    Ok(std::fs::read_to_string(root)?.lines().any(|line| line == FORBIDS))
}

/// The folder of the crate a file belongs to.
fn crate_of(file: &Path) -> Result<PathBuf> {
    let folder = file.ancestors().find(|folder| folder.join("Cargo.toml").is_file());
    Ok(folder.with_context(|| format!("{} belongs to no crate", shown(file)))?.to_path_buf())
}

/// The folders of the trusted crates.
pub fn trusted_crates() -> Result<Vec<PathBuf>> {
    let mut crates = Vec::new();
    for file in files("machine", &["rs"])?.iter().chain(&files("kernel", &["rs"])?) {
        let folder = crate_of(file)?;
        if !crates.contains(&folder) && !is_safe(&folder)? {
            crates.push(folder);
        }
    }
    Ok(crates)
}

/// Lines that are run outside of tests: neither empty nor comment.
fn lines_of(text: &str) -> usize {
    // Test modules stand at the end of a file.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Where a file's lines are shown: its crate, and in a trusted one the folder or file below `src`.
fn place(file: &Path, folder: &Path, trusted: bool) -> String {
    let source = folder.join("src");
    let part = file.strip_prefix(&source).ok().filter(|_| trusted).and_then(|rest| rest.iter().next());
    let part = part.map(|part| source.join(part).with_extension(""));
    shown(part.as_deref().unwrap_or(folder)).replace("/src/", ": ")
}

/// Counts, complains about too much that is trusted, and tells what each part has.
pub fn check() -> Result<String> {
    let trusted_crates = trusted_crates()?;
    let test_modules = test_modules()?;
    let (mut all, mut trusted) = (0, 0);
    let mut parts: BTreeMap<(bool, String), usize> = BTreeMap::new();
    for file in files("machine", &["rs", "s"])?.into_iter().chain(files("kernel", &["rs", "s"])?) {
        if file.iter().any(|part| part == "tests") || test_modules.iter().any(|module| belongs_to(&file, module)) {
            continue;
        }
        let folder = crate_of(&file)?;
        let is_trusted = trusted_crates.contains(&folder);
        let lines = lines_of(&std::fs::read_to_string(&file)?);
        all += lines;
        trusted += if is_trusted { lines } else { 0 };
        *parts.entry((!is_trusted, place(&file, &folder, is_trusted))).or_default() += lines;
    }
    // In tenths, as it is shown: a few safe lines that go are no more to be trusted.
    let share = (1000.0 * trusted as f64 / all.max(1) as f64).round() / 10.0;
    ensure!(
        share <= LARGEST_SHARE,
        "trusted crates have {trusted} of {all} lines: {share:.1} %, not {LARGEST_SHARE} %"
    );
    let mut note = format!("{trusted} of {all} lines of code, {share:.1} %");
    for ((is_safe, part), lines) in parts {
        write!(note, "\n        {lines:6}  {}  {part}", if is_safe { "safe   " } else { "trusted" })?;
    }
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_outside_tests_is_counted() {
        let text =
            "//! A page.\n\nuse a::b;\n    // why\nfn c() {} // d\n\n#[cfg(test)]\nmod tests {\n    fn e() {}\n}\n";
        assert_eq!(lines_of(text), 2);
    }
}
