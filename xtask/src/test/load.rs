//! Load: a hundred thousand processes one after the other, and damaged programs, each in one boot.
//!
//! What counts is the state afterwards: free memory as before, and a shell that still answers. On the host machine, moreover, what
//! it holds of the host. (A thousand processes at
//! once, and fifty megabytes sorted, are scripts of `tests/guest`.)

use super::{Context, Job, Place};
use crate::console::Console;
use crate::initramfs::Initramfs;
use crate::programs;
use anyhow::{Context as _, Error, Result, ensure};
use std::path::PathBuf;
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
        job(Place::Microvm, "load 128 CPUs", 128, ON_EACH_OF_128, Duration::from_secs(300)),
        job(Place::Microvm, "load fork and exec on 4 CPUs", 4, LOAD_ON_ALL, Duration::from_secs(300)),
        Job::at(Place::Host, 2, ON_HOST, Vec::new(), |context, report| {
            report.check(ON_HOST, run_on_host(context));
            Ok(())
        }),
        job(Place::Microvm, "load 500 damaged programs", 1, "damaged 500 /tests/bin/nothing", Duration::from_secs(300)),
    ]
}

/// Of the hundred thousand, every tenth starts a program as well; the rest fork and exit.
const A_HUNDRED_THOUSAND: &str = "forks 90000 && forks 10000 /tests/bin/nothing";

const ON_HOST: &str = "load 100,000 processes on the host";

/// A tenth of it, and the rest.
const A_TENTH: &str = "forks 9000 && forks 1000 /tests/bin/nothing";
const NINE_TENTHS: &str = "forks 81000 && forks 9000 /tests/bin/nothing";

/// Four at a time, so that page tables, caches of memory and process ids are used by all CPUs at once.
const LOAD_ON_ALL: &str =
    "for i in 1 2 3 4; do forks 1500 /tests/bin/nothing >/tmp/$i & done; wait; cat /tmp/?; forks 200";

/// A program bound to each CPU says where it runs (/proc/PID/stat, field 39), eight at a time; then processes go where they like.
const ON_EACH_OF_128: &str = "[ $(nproc) = 128 ] && for i in $(seq 0 127); do \
    taskset -c $i cut -d' ' -f39 /proc/self/stat & [ $((i % 8)) = 7 ] && wait; done > /tmp/where; \
    sort -n /tmp/where | uniq | wc -l | grep -x 128 && forks 500 /tests/bin/nothing";

/// Runs a command at the prompt of a machine of its own; it must succeed.
fn run(context: &Context, place: Place, cpus: u32, command: &str, limit: Duration) -> Result<()> {
    let mut console = start(context, place, cpus)?;
    load(&mut console, command, limit)?;
    end(console)
}

/// The hundred thousand on the host machine: when a tenth is done, it has all of the host that it will ever need.
fn run_on_host(context: &Context) -> Result<()> {
    let limit = Duration::from_secs(900);
    let mut console = start(context, Place::Host, 2)?;
    load(&mut console, A_TENTH, limit)?;
    let before = Holdings::of(console.process())?;
    load(&mut console, NINE_TENTHS, limit)?;
    let after = Holdings::of(console.process())?;
    ensure!(after.is_no_more_than(&before), "after a tenth it held {before:?}, in the end {after:?}");
    end(console)
}

/// What a process holds of the host.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    children: usize,
    /// Resident memory, in KiB.
    memory: usize,
}

impl Holdings {
    fn of(process: u32) -> Result<Holdings> {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let entries = |name: &str| Ok::<_, Error>(std::fs::read_dir(folder.join(name))?.count());
        let status = std::fs::read_to_string(folder.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let mut children = 0;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            // A process may end while we look.
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(1));
            children += usize::from(parent == Some(&process.to_string()));
        }
        Ok(Holdings {
            descriptors: entries("fd")?,
            mappings: std::fs::read_to_string(folder.join("maps"))?.lines().count(),
            threads: entries("task")?,
            children,
            memory: resident.context("/proc tells no memory")?.parse()?,
        })
    }

    /// Nothing leaks one by one: a few more of what is kept in stock are no sign of it.
    fn is_no_more_than(&self, before: &Holdings) -> bool {
        self.descriptors <= before.descriptors
            && self.mappings <= before.mappings + 20
            && self.threads <= before.threads + 1
            && self.children <= before.children + 20
            && self.memory <= before.memory + (16 << 10)
    }
}

fn start(context: &Context, place: Place, cpus: u32) -> Result<Console> {
    let mut archive = Initramfs::standard()?;
    for program in programs::compile("tests/guest")? {
        archive.program(&format!("tests/bin/{}", program.name), &program)?;
    }
    let mut console = context.boot(place, cpus, 256, archive, "quiet")?;
    console.expect_prompt(PATIENCE)?;
    console.command("PATH=$PATH:/tests/bin", PATIENCE)?;
    Ok(console)
}

fn load(console: &mut Console, command: &str, limit: Duration) -> Result<()> {
    // In a line of its own, and with nothing of the command's that the screen cuts.
    console.command(&format!("load() {{ {command}; echo status $?; }}"), PATIENCE)?;
    let output = console.command("load", limit)?;
    // After it the shell may tell of jobs that are done, as it does on Linux.
    ensure!(output.lines().any(|line| line.trim() == "status 0"), "{output}");
    Ok(())
}

/// The machine must be as good as before.
fn end(mut console: Console) -> Result<()> {
    let alive = console.command("echo alive", PATIENCE)?;
    ensure!(alive.trim() == "alive", "afterwards the shell says {alive:?}");
    console.send("exit 3\r")?;
    let (status, _) = console.end(PATIENCE)?;
    ensure!(status == 3, "the machine ended with {status}");
    Ok(())
}
