//! The host tests of every crate: cargo, with nextest where it is installed; and those that Miri runs.

use super::{Context, Job, Report};
use crate::{miri, paths};
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};

/// Two jobs; the first keeps all processors busy.
pub fn jobs() -> Vec<Job> {
    let rooms = Job::new("rooms", Vec::new(), usize::MAX, |_: &Context, report| tell(report, &cargo_test()?));
    let miri = Job::new("miri", Vec::new(), 1, |_: &Context, report| {
        if !miri::is_installed() {
            report.say("miri: not installed, not run; ./x miri installs it");
            return Ok(());
        }
        tell(report, &finish(&mut miri::tests())?)
    });
    vec![rooms, miri]
}

/// Whether a job of this name needs no kernel.
pub fn is_host_test(name: &str) -> bool {
    ["rooms", "miri", "wasm32"].contains(&name)
}

/// Tells what cargo said of its tests.
fn tell(report: &Report, (passed, failed, output): &(usize, usize, String)) -> Result<()> {
    if *failed > 0 || *passed == 0 {
        report.say(output);
    }
    report.count(*passed, *failed);
    anyhow::ensure!(*passed > 0, "cargo ran no test");
    Ok(())
}

/// Passed, failed, and what was printed.
fn cargo_test() -> Result<(usize, usize, String)> {
    // The cargo that runs us, which `x` chose.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let nextest = Command::new(&cargo).args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    let arguments: &[&str] = if nextest {
        &["nextest", "run", "--no-fail-fast", "--status-level", "fail"]
    } else {
        &["test", "--no-fail-fast"]
    };
    finish(Command::new(&cargo).current_dir(paths::root()).args(arguments).stdin(Stdio::null()))
}

/// Runs cargo's tests: passed, failed, and what was printed.
fn finish(cargo: &mut Command) -> Result<(usize, usize, String)> {
    let output = cargo.env("CARGO_TERM_COLOR", "never").output().context("cannot start cargo")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let (passed, mut failed) = count(&text);
    if !output.status.success() && failed == 0 {
        failed = 1;
    }
    Ok((passed, failed, text))
}

/// Sums nextest's `Summary [...] 12 tests run: 11 passed, 1 failed` or the `test result:` lines of cargo test.
fn count(text: &str) -> (usize, usize) {
    let mut sums = (0, 0);
    for line in text.lines().filter(|line| line.contains("test result:") || line.trim_start().starts_with("Summary ["))
    {
        let words: Vec<&str> = line.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            match pair {
                [number, "passed"] => sums.0 += number.parse().unwrap_or(0),
                [number, "failed"] => sums.1 += number.parse().unwrap_or(0),
                [number, "timed"] => sums.1 += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_both_runners_are_read() {
        let text = "     Summary [   0.5s] 12 tests run: 10 passed (1 slow), 2 failed, 0 skipped\n";
        assert_eq!(count(text), (10, 2));
        let text =
            "test result: ok. 3 passed; 0 failed; 1 ignored;\ntest result: FAILED. 4 passed; 1 failed; 0 ignored\n";
        assert_eq!(count(text), (7, 1));
    }
}
