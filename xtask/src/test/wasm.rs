//! Room tests where the kernel's words have 32 bits: on wasm32, run by Node. A program's addresses have 64 bits there too.
//!
//! The target has no output, no threads and no unwinding. So a test that needs one of the latter says so and is left out, a test that fails
//! ends the run with the calls that led to it, and what passes is seen by the end only: one check a crate.

use super::{Context, Job, Report};
use crate::{check, paths};
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const TARGET: &str = "wasm32-unknown-unknown";

/// The crates, each with a test that has to be among its own.
const CRATES: [(&str, &str); 4] = [
    ("boundary", "an_address_is_a_page_and_a_place_in_it"),
    ("pages", "a_page_owns_its_frame_wherever_it_is"),
    ("simulator", "runs_are_aligned_and_come_back"),
    ("machine", "memory::space::tests::an_address_has_64_bits"),
];

/// Runs the tests of the module that is named first.
const SCRIPT: &str = "
const module = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));
const status = new WebAssembly.Instance(module, {}).exports.main(0, 0);
if (status !== 0) throw new Error('status ' + status);
";

/// One job.
pub fn jobs() -> Vec<Job> {
    let checks = CRATES.map(|(name, _)| format!("wasm32: {name}")).to_vec();
    vec![Job::new("wasm32", checks, 1, run)]
}

fn run(context: &Context, report: &Report) -> Result<()> {
    if !check::has_target(TARGET)? {
        report.say(&format!("wasm32: not run: {TARGET} is not installed (rustup target add {TARGET})"));
        return Ok(());
    }
    if !Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success()) {
        report.say("wasm32: not run: Node is not installed");
        return Ok(());
    }
    for (name, test) in CRATES {
        let check = format!("wasm32: {name}");
        if context.wants(&check) || context.wants("wasm32") {
            report.check(&check, run_tests(name, test));
        }
    }
    Ok(())
}

/// Builds a crate's tests, and runs them.
fn run_tests(name: &str, test: &str) -> Result<()> {
    let module = build(name)?;
    let bytes = std::fs::read(&module)?;
    ensure!(bytes.windows(test.len()).any(|part| part == test.as_bytes()), "{test} is not among the tests");
    let output = Command::new("node").arg("--eval").arg(SCRIPT).arg(&module).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The module with a crate's tests.
fn build(name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.current_dir(paths::root()).stdin(Stdio::null());
    cargo.args(["test", "--no-run", "--lib", "--target", TARGET, "--message-format", "json", "--package", name]);
    let output = cargo.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    executable(&text).context("cargo names no module")
}

/// The last program that cargo says it has made.
fn executable(messages: &str) -> Option<PathBuf> {
    let (_, rest) = messages.rsplit_once("\"executable\":\"")?;
    Some(rest.split('"').next()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_among_messages() {
        let text = "{\"executable\":null}\n{\"executable\":\"/a/b-1.wasm\",\"fresh\":true}\n{\"executable\":null}\n";
        assert_eq!(executable(text), Some(PathBuf::from("/a/b-1.wasm")));
        assert_eq!(executable("{}"), None);
    }
}
