//! xtask: what `./x` calls. It builds the kernel and the guest's programs, boots them in QEMU, tests and measures them.
//!
//! | file | what for |
//! | --- | --- |
//! | `build.rs`, `image.rs` | the kernel image for the bare machine, and its symbols |
//! | `programs.rs` | the C programs of `user/` and `tests/`, linked statically |
//! | `initramfs.rs` | the archive a guest starts from: BusyBox, `/init`, the programs |
//! | `linux.rs` | Debian's Linux kernel, the oracle and the yardstick |
//! | `console.rs` | a console driven as a person does: type, then wait for what appears |
//! | `hosted.rs` | a guest on the host machine, on a terminal of its own |
//! | `allocations.rs` | boots in which a request for kernel memory fails |
//! | `run.rs`, `debug.rs` | `x run` and `x debug` |
//! | `mutants.rs`, `miri.rs` | `x mutants`, `x miri` |
//! | `check.rs`, `test/`, `bench/`, `soak/` | `x check`, `x test`, `x bench`, `x soak` |
//!
//! A virtual machine as a value, the terminal and the format of archives are shared with `orrery`, the command: see
//! `cli/launch`. Everything made goes to `target/`; nothing is written elsewhere but temporary files, removed at the
//! end.

#![forbid(unsafe_code)]

mod allocations;
mod bench;
mod build;
mod check;
mod console;
mod debug;
mod hosted;
mod image;
mod initramfs;
mod linux;
mod miri;
mod mutants;
mod paths;
mod programs;
mod run;
mod soak;
mod test;

use clap::{Parser, Subcommand};
use launch::{qemu, terminal};
use std::process::ExitCode;

/// Orrery's one command: run, test, check, measure and debug the kernel.
#[derive(Parser)]
#[command(name = "x", bin_name = "./x", disable_help_subcommand = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boots Orrery in QEMU, with this terminal as its console; or runs one command there.
    Run(run::Run),
    /// Runs the tests: the rooms on the host, then boots, twins and real programs.
    Test(test::Test),
    /// Checks style and rules: rustfmt, clippy, where `unsafe` may be, links.
    Check,
    /// Runs one long test with seeds, for as long as there is time.
    Soak(soak::Soak),
    /// Measures a room's tests by mutation, with cargo-mutants: which changes of the code they notice.
    Mutants(mutants::Mutants),
    /// Runs the tests of the kernel's memory under Miri, which finds what Rust does not define.
    Miri,
    /// Measures Orrery beside Linux: instructions per call, time to boot.
    Bench(bench::Bench),
    /// Boots Orrery stopped, and attaches GDB with the kernel's symbols.
    Debug(debug::Debug),
    /// Builds the kernel image and the initramfs, and prints where they are.
    Build,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(run) => run.run(),
        Command::Test(test) => test.run(),
        Command::Soak(soak) => soak.run(),
        Command::Check => check::run(),
        Command::Mutants(mutants) => mutants.run(),
        Command::Miri => miri::run(),
        Command::Bench(bench) => bench.run(),
        Command::Debug(debug) => debug.run(),
        Command::Build => build::report(),
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}
