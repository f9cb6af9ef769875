//! `orrery`, the command a user has: runs a program, a root folder or an initramfs on Orrery.
//!
//! | file | what it does |
//! | --- | --- |
//! | `arguments` | the command line, as clap reads it; sizes, volumes and environment as pure functions |
//! | `root` | what the user wants to run: told apart by content, checked, with errors that say what to do |
//! | `elf` | whether a file is a program that runs by itself |
//! | `command` | the first program: its path, looked for as a shell does, its words, environment and folder |
//! | `host` | runs it on the host machine: the kernel in this process |
//! | `vm` | runs it on a virtual machine: the kernel image in QEMU |
//! | `failure` | why there is nothing to run, and the exit status that says so |
//!
//! The way to the first instruction of a guest is short on purpose: whatever is not needed before the machine starts is
//! not done before. Exit statuses are those of env(1): the program's own, 125 for a failure of ours, 126 for what
//! cannot be executed, 127 for what is not there.

#![forbid(unsafe_code)]

mod arguments;
mod command;
mod elf;
mod failure;
mod host;
mod root;
mod vm;

use arguments::{Arguments, Command, Machine};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

/// What the kernel allocates counts as its machine's memory.
#[global_allocator]
static HEAP: machine::host::HostHeap = machine::host::HostHeap;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and the version are an answer, not an error.
            let status = if error.use_stderr() { failure::OURS } else { 0 };
            let _ = error.print();
            if error.kind() == clap::error::ErrorKind::UnknownArgument {
                tell(format_args!("Words for the program stand behind --, as in: orrery run rootfs -- ls -l"));
            }
            return ExitCode::from(status);
        }
    };
    let Command::Run(run) = arguments.command;
    let outcome = match run.machine {
        Machine::Host => host::run(run),
        Machine::Vm => vm::run(run),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            tell(format_args!("orrery: {failure}"));
            ExitCode::from(failure.status)
        }
    }
}

/// A line for standard error. Where it can't be written, say since the disk is full, the status still tells.
fn tell(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
