//! The host tests of every crate: cargo, with nextest where it is installed.

use super::{Context, Job};
use crate::paths;
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};

/// One job, which keeps all processors busy.
pub fn jobs() -> Vec<Job> {
    vec![Job::new("rooms", Vec::new(), usize::MAX, |_: &Context, report| {
        let (passed, failed, output) = cargo_test()?;
        if failed > 0 || passed == 0 {
            report.say(&output);
        }
        report.count(passed, failed);
        anyhow::ensure!(passed > 0, "cargo ran no test");
        Ok(())
    })]
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
    let output = Command::new(&cargo)
        .current_dir(paths::root())
        .args(arguments)
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .output()
        .context("cannot start cargo")?;
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
