//! Load: a hundred thousand processes one after the other, and damaged programs, each in one boot.
//!
//! What counts is the state afterwards: free memory as before, and a shell that still answers. (A thousand processes at
//! once, and fifty megabytes sorted, are scripts of `tests/guest`.)

use super::{Context, Job, Place};
use crate::initramfs::Initramfs;
use crate::programs;
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// One job each.
pub fn jobs() -> Vec<Job> {
    let job = |place: Place, name: &'static str, cpus: u32, command: &'static str, limit: Duration| {
        Job::at(place, cpus, name, Vec::new(), move |context, report| {
            report.check(name, run(context, place, cpus, command, limit));
            Ok(())
        })
    };
    vec![
        job(Place::Microvm, "load 100,000 processes", 1, A_HUNDRED_THOUSAND, Duration::from_secs(600)),
        job(Place::Microvm, "load fork and exec on 4 CPUs", 4, LOAD_ON_ALL, Duration::from_secs(300)),
        job(Place::Microvm, "load 500 damaged programs", 1, "damaged 500 /tests/bin/nothing", Duration::from_secs(300)),
    ]
}

/// Of the hundred thousand, every tenth starts a program as well; the rest fork and exit.
const A_HUNDRED_THOUSAND: &str = "forks 90000 && forks 10000 /tests/bin/nothing";

/// Four at a time, so that page tables, caches of memory and process ids are used by all CPUs at once.
const LOAD_ON_ALL: &str =
    "for i in 1 2 3 4; do forks 1500 /tests/bin/nothing >/tmp/$i & done; wait; cat /tmp/?; forks 200";

/// Runs a command at the prompt of a machine of its own; it must succeed.
fn run(context: &Context, place: Place, cpus: u32, command: &str, limit: Duration) -> Result<()> {
    let mut archive = Initramfs::standard()?;
    for program in programs::compile("tests/guest")? {
        archive.program(&format!("tests/bin/{}", program.name), &program)?;
    }
    archive.file("tests/bin/load", 0o755, format!("#!/bin/sh\n{command}\necho \"status $?\"\n"));
    let mut console = context.boot(place, cpus, 256, archive, "quiet")?;
    console.expect_prompt(PATIENCE)?;
    let output = console.command("PATH=$PATH:/tests/bin; load", limit)?;
    ensure!(output.trim_end().ends_with("status 0"), "{output}");
    let alive = console.command("echo alive", PATIENCE)?;
    ensure!(alive.trim() == "alive", "afterwards the shell says {alive:?}");
    console.send("exit 3\r")?;
    let (status, _) = console.end(PATIENCE)?;
    ensure!(status == 3, "the machine ended with {status}");
    Ok(())
}
