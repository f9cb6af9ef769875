//! `x miri`: the kernel's memory under Miri, which interprets it and reports what Rust does not define: a pointer used beyond what it was made
//! from, memory that two own, a read of what nobody wrote.
//!
//! It runs the room tests of the slab heap, of values for each CPU, of frames and of pointers that are read without a lock, over ordinary memory
//! instead of the host's mappings (`machine/src/host/frames.rs`), with fewer steps than elsewhere. Miri comes with the nightly compiler, which nothing else here needs:
//! where it can't be had `x test` says so and goes on.

use crate::paths;
use anyhow::{Context, Result, ensure};
use std::process::{Command, ExitCode, Stdio};

/// Names of the tests begin so.
const TESTS: [&str; 5] = ["heap::slab::", "per_cpu::", "memory::frame::", "memory::tests::", "rcu::"];

/// Frames are found by their numbers, so pointers to them come from addresses. What a machine has stays to the end of the process. The
/// clock is the host's.
const FLAGS: &str = "-Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation";

fn nightly_cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments);
    // The compiler is nightly's, not that of the cargo that runs us.
    command.env_remove("RUSTC").env_remove("CARGO").current_dir(paths::root()).stdin(Stdio::null());
    command
}

/// Whether Miri is here.
pub fn is_installed() -> bool {
    nightly_cargo(&["miri", "--version"]).output().is_ok_and(|output| output.status.success())
}

/// The tests under Miri.
pub fn tests() -> Command {
    let mut command = nightly_cargo(&["miri", "test", "--quiet", "--package", "machine", "--lib", "--"]);
    command.args(TESTS).env("MIRIFLAGS", FLAGS);
    command
}

/// Installs Miri, if need be, and runs the tests.
pub fn run() -> Result<ExitCode> {
    if !is_installed() {
        let mut install = Command::new("rustup");
        install.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri,rust-src"]);
        let status = install.status().context("cannot start rustup, which installs Miri")?;
        ensure!(status.success() && is_installed(), "rustup did not install Miri");
    }
    let status = tests().status()?;
    ensure!(status.success(), "Miri found something, or a test failed");
    Ok(ExitCode::SUCCESS)
}
