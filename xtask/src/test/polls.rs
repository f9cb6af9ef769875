//! No poll without bound: the longest time that any call kept a CPU without letting others run.
//!
//! The kernel keeps the longest stretch of each call in /proc/longest_polls. It is read after the programs of `tests/polls`, which do
//! everything a program can make long, and of everything it can have have many, and after the twins and the hostile programs on the
//! host machine. There a stretch is what the CPU's thread itself ran. On the virtual machine QEMU counts a nanosecond for each
//! instruction; without that its clock would measure how busy this machine is.

use super::batch::{self, Done, Item};
use super::{Context, Job, Place};
use crate::console::Console;
use crate::initramfs::Initramfs;
use crate::programs::{self, Program};
use crate::qemu::{Accelerator, Clock, Guest, Machine};
use crate::run::Hardware;
use anyhow::{Result, anyhow, bail, ensure};
use std::time::Duration;

/// The longest a call may keep a CPU, in instructions, which are the virtual machine's nanoseconds: 10 ms.
const MOST: u64 = 10_000_000;

/// The same where a CPU is a thread of this machine, in nanoseconds that the thread ran. If this machine is itself a guest, what its
/// host takes is in them, too; and so is what its kernel does to find memory.
const MOST_ON_HOST: u64 = 100_000_000;

fn most(place: Place) -> u64 {
    if place == Place::Host { MOST_ON_HOST } else { MOST }
}

/// Seconds one program may take: many times what it does when this machine has nothing else to do.
const LIMIT: u32 = 1200;

/// MiB of memory, on the host machine; on the virtual one, where there is much of everything, twice as many.
const MEMORY: u32 = 512;

/// The item's name, and the end of the name of the check that is made of it.
pub const NAME: &str = "longest polls";

/// The item of a batch that tells what was longest; the last.
pub fn item() -> Item {
    Item { name: NAME.into(), command: "cat /proc/longest_polls".into(), limit: 60 }
}

/// Whether no call was too long.
pub fn judge(place: Place, done: Option<&Done>, screen: &str) -> Result<()> {
    let most = most(place);
    let Some(done) = done else { bail!("{}", batch::why_unfinished(screen)) };
    ensure!(done.status == 0, "status {}: {}", done.status, done.output);
    let too_long: Vec<&str> = done.output.lines().filter(|line| is_too_long(line, most)).collect();
    ensure!(too_long.is_empty(), "kept a CPU for too long (nanoseconds, at most {most}):\n{}", too_long.join("\n"));
    Ok(())
}

/// A line is the name of a call and how long it took. What isn't such a line is no good sign either.
fn is_too_long(line: &str, most: u64) -> bool {
    let longest = line.rsplit_once(' ').and_then(|(_, number)| number.parse::<u64>().ok());
    !line.trim().is_empty() && longest.is_none_or(|longest| longest > most)
}

/// The programs that run on a machine. Of some things there can be more than the host machine gets from its host.
const fn names(place: Place) -> &'static [&'static str] {
    match place {
        Place::Host => &["long", "killed"],
        Place::Q35 | Place::Microvm => &["long", "killed", "many"],
    }
}

/// The programs of `tests/polls` on each machine with one CPU.
pub fn jobs() -> Vec<Job> {
    let job = |title: &'static str, place: Place| {
        let checks = names(place).iter().chain([&NAME]).map(|name| format!("{title}: {name}")).collect();
        Job::at(place, 1, title, checks, move |context, report| {
            let mut programs = programs::compile("tests/polls")?;
            programs.retain(|program| names(place).contains(&program.name.as_str()));
            let screen = start(context, place, &programs)?.screen_at_end(Duration::from_secs(2 * u64::from(LIMIT)));
            let results = batch::results(&screen);
            for Program { name, .. } in &programs {
                let result = match results.get(name) {
                    Some(done) if done.status == 0 => Ok(()),
                    Some(done) => Err(anyhow!("status {}:\n{}", done.status, done.output)),
                    None => Err(anyhow!("{}", batch::why_unfinished(&screen))),
                };
                report.check(&format!("{title}: {name}"), result);
            }
            // Linux measures nothing of the kind.
            if context.kernel == Guest::Orrery {
                report.check(&format!("{title}: {NAME}"), judge(place, results.get(NAME), &screen));
            }
            Ok(())
        })
    };
    vec![job("polls on pc", Place::Q35), job("polls on the host", Place::Host)]
}

fn start(context: &Context, place: Place, programs: &[Program]) -> Result<Console> {
    let mut archive = Initramfs::standard()?;
    let mut items = Vec::new();
    for program in programs {
        archive.program(&format!("polls/{}", program.name), program)?;
        items.push(Item { name: program.name.clone(), command: format!("exec /polls/{}", program.name), limit: LIMIT });
    }
    items.push(item());
    batch::prepare(&mut archive, &items);
    if place == Place::Host {
        return context.boot(place, 1, MEMORY, archive, "quiet");
    }
    let hardware = Hardware {
        cpus: 1,
        memory: 2 * MEMORY,
        machine: Machine::Q35,
        kernel: context.kernel,
        accelerator: Some(Accelerator::Tcg),
    };
    let mut vm = hardware.vm(archive, "quiet")?;
    vm.clock = Clock::Instructions;
    Console::start(&vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_named() {
        let done = |output: &str| Done { status: 0, output: output.into() };
        for (place, most) in [(Place::Q35, MOST), (Place::Host, MOST_ON_HOST)] {
            let judge = |output: &str| judge(place, Some(&done(output)), "");
            assert!(judge("").is_ok());
            assert!(judge(&format!("read 1500000\nexit_group {most}\n")).is_ok());
            let told = judge(&format!("read 1500000\nfork {}\n", most + 1)).unwrap_err().to_string();
            assert!(told.contains("fork") && !told.contains("read"), "{told}");
            assert!(judge("cat: can't open").is_err());
        }
        assert!(judge(Place::Q35, None, "").is_err());
    }
}
