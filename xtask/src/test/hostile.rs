//! Hostile programs: the programs of `tests/hostile` do to the kernel what nobody should. Each says with its exit status
//! whether the kernel behaved; all run in one boot, whose shell must be alive at the end.

use super::batch::{self, Item};
use super::{Context, Job};
use crate::console::Console;
use crate::initramfs::Initramfs;
use crate::qemu::Machine;
use crate::{paths, programs};
use anyhow::{Result, anyhow};
use std::time::Duration;

/// Seconds one program may take.
const LIMIT: u32 = 60;

/// On one CPU and on four.
pub fn jobs() -> Result<Vec<Job>> {
    let mut names = Vec::new();
    for file in programs::files_of(&paths::root().join("tests/hostile"))? {
        if file.extension().is_some_and(|extension| extension == "c") {
            names.extend(file.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    let job = |machine: Machine, cpus: u32, title: &'static str| {
        let names = names.clone();
        let checks = names.iter().map(|name| format!("{title}: {name}")).collect();
        Job::new(title, checks, cpus as usize, move |context, report| {
            let wanted: Vec<&String> = names.iter().filter(|name| context.wants(&format!("{title}: {name}"))).collect();
            let screen = run(context, machine, cpus, &wanted)?;
            let results = batch::results(&screen);
            for name in wanted {
                let result = match results.get(name) {
                    Some(done) if done.status == 0 => Ok(()),
                    Some(done) => Err(anyhow!("status {}:\n{}", done.status, last_lines(&done.output))),
                    None => Err(anyhow!("{}", batch::why_unfinished(&screen))),
                };
                report.check(&format!("{title}: {name}"), result);
            }
            Ok(())
        })
    };
    Ok(vec![job(Machine::Q35, 4, "hostile on 4 CPUs"), job(Machine::Microvm, 1, "hostile on 1 CPU")])
}

fn run(context: &Context, machine: Machine, cpus: u32, names: &[&String]) -> Result<String> {
    let mut archive = Initramfs::standard()?;
    let mut items = Vec::new();
    for program in programs::compile("tests/hostile")?.iter().filter(|program| names.contains(&&program.name)) {
        archive.program(&format!("hostile/{}", program.name), program)?;
        items.push(Item { name: program.name.clone(), command: format!("exec /hostile/{}", program.name), limit: LIMIT });
    }
    batch::prepare(&mut archive, &items);
    let vm = context.vm(machine, cpus, 512, archive, "quiet")?;
    Ok(Console::start(&vm)?.screen_at_end(Duration::from_secs(200)))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
