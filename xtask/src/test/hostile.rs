//! Hostile programs: the programs of `tests/hostile` do to the kernel what nobody should. Each says with its exit status
//! whether the kernel behaved; all run in one boot, whose shell must be alive at the end.
//!
//! They run on the host machine, where what they do in seconds takes minutes under emulation.

use super::batch::{self, Item};
use super::{Job, Place};
use crate::console::Console;
use crate::hosted::Hosted;
use crate::initramfs::Initramfs;
use crate::{paths, programs};
use anyhow::{Result, anyhow};
use std::time::Duration;

/// Seconds one program may take: many times what it does on an idle host, since the other tests run beside it.
const LIMIT: u32 = 400;

/// MiB of memory: enough for a thousand processes, and soon used up on purpose.
const MEMORY: u32 = 256;

/// Programs that are not run as they are, since they would do more than a test has time for. Of `shortage` all parts but `tables`: page
/// tables of the host machine take none of the guest's memory.
const COMMANDS: [(&str, &str); 3] = [
    ("crowd", "exec /hostile/crowd all 300"),
    ("spaces", "exec /hostile/spaces all 1"),
    (
        "shortage",
        "for part in eater eaters sleeper pipes files names threads areas queues arguments locks; do \
         /hostile/shortage $part || exit; done",
    ),
];

/// On one CPU and on four.
pub fn jobs() -> Result<Vec<Job>> {
    let mut names = Vec::new();
    for file in programs::files_of(&paths::root().join("tests/hostile"))? {
        if file.extension().is_some_and(|extension| extension == "c") {
            names.extend(file.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    let job = |cpus: u32, title: &'static str| {
        let names = names.clone();
        let checks = names.iter().map(|name| format!("{title}: {name}")).collect();
        Job::at(Place::Host, cpus, title, checks, move |context, report| {
            let wanted: Vec<&String> = names.iter().filter(|name| context.wants(&format!("{title}: {name}"))).collect();
            let screen = run(cpus, &wanted)?;
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
    Ok(vec![job(4, "hostile on 4 CPUs"), job(1, "hostile on 1 CPU")])
}

fn run(cpus: u32, names: &[&String]) -> Result<String> {
    let mut archive = Initramfs::standard()?;
    let mut items = Vec::new();
    for program in programs::compile("tests/hostile")?.iter().filter(|program| names.contains(&&program.name)) {
        archive.program(&format!("hostile/{}", program.name), program)?;
        let command = COMMANDS.iter().find(|(name, _)| *name == program.name);
        let command =
            command.map_or_else(|| format!("exec /hostile/{}", program.name), |(_, command)| command.to_string());
        items.push(Item { name: program.name.clone(), command, limit: LIMIT });
    }
    batch::prepare(&mut archive, &items);
    let patience = Duration::from_secs(u64::from(LIMIT) * items.len().clamp(1, 4) as u64);
    let machine = Hosted { cpus, memory: MEMORY, archive, options: "quiet".into() };
    Ok(Console::start_on_host(&machine)?.screen_at_end(patience))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
