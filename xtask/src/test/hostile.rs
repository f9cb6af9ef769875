//! Hostile programs: the programs of `tests/hostile` do to the kernel what nobody should. Each says with its exit status
//! whether the kernel behaved; all run in one boot, whose shell must be alive at the end.
//!
//! They run on both machines, as the superuser and as an ordinary user, and on the bare machine with little memory and with
//! more. Emulation is slow, so that each does less there.

use super::batch::{self, Done, Item};
use super::{Context, Job, Place, polls};
use crate::console::Console;
use crate::initramfs::{Initramfs, quote};
use crate::paths;
use crate::programs::{self, Program};
use anyhow::{Result, anyhow};
use std::time::Duration;

/// Seconds one program may take: many times what it does on an idle host, since the other tests run beside it.
const LIMIT: u32 = 600;

/// A boot with all the programs.
struct Setting {
    title: &'static str,
    place: Place,
    cpus: u32,
    /// In MiB. On the host machine enough for a thousand processes, and soon used up on purpose.
    memory: u32,
    /// Who runs the programs.
    who: Who,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Superuser,
    /// `user` of the guest's /etc/passwd.
    User,
}

impl Setting {
    const fn new(title: &'static str, place: Place, cpus: u32, memory: u32, who: Who) -> Setting {
        Setting { title, place, cpus, memory, who }
    }
}

const SETTINGS: [Setting; 7] = [
    Setting::new("hostile on 4 CPUs", Place::Host, 4, 256, Who::Superuser),
    Setting::new("hostile on 1 CPU", Place::Host, 1, 256, Who::Superuser),
    Setting::new("hostile as a user", Place::Host, 2, 256, Who::User),
    Setting::new("hostile on pc with 64 MiB", Place::Microvm, 1, 64, Who::Superuser),
    Setting::new("hostile as a user on pc with 64 MiB", Place::Q35, 2, 64, Who::User),
    Setting::new("hostile on pc with 512 MiB", Place::Q35, 2, 512, Who::Superuser),
    Setting::new("hostile as a user on pc with 512 MiB", Place::Microvm, 1, 512, Who::User),
];

/// The parts of `shortage`. All but `tables` on the host machine: its page tables take none of the guest's memory.
pub const SHORTAGES: [&str; 25] = [
    "eater",
    "eaters",
    "sleeper",
    "brink",
    "sparse",
    "pipes",
    "hoards",
    "files",
    "names",
    "symlinks",
    "links",
    "attributes",
    "mounts",
    "descriptors",
    "events",
    "terminals",
    "pollers",
    "threads",
    "zombies",
    "areas",
    "queues",
    "arguments",
    "environments",
    "locks",
    "tables",
];

/// Those that only `./x soak objects` runs: they go on for long.
const LONG_SHORTAGES: [&str; 7] =
    ["mounts", "descriptors", "events", "terminals", "pollers", "zombies", "environments"];

impl Setting {
    /// What the guest's shell runs for one program: its usual arguments would do more than a test has time for. As the superuser on
    /// the host machine each does most; elsewhere it is the other user or the other machine that matters.
    fn command(&self, name: &str) -> String {
        let program = format!("/hostile/{name}");
        let on_pc = self.place != Place::Host;
        let much = !on_pc && self.who == Who::Superuser;
        let command = match name {
            "crowd" => format!("exec {program} all {}", if much { 300 } else { 80 }),
            "forks" if !much => format!("exec {program} all 150"),
            "elves" if !much => format!("exec {program} 1 100"),
            "spaces" => format!("exec {program} all {}", if much { 1.0 } else { 0.3 }),
            "registers" | "signals" | "threads" if !much => format!("exec {program} all 0.3"),
            // It needs the superuser for its cage and becomes somebody else there.
            "fuzz" if self.who == Who::User => return format!("exec {program} 2 2 4 user"),
            "leaks" if on_pc => format!("exec {program} 20"),
            "fuzz" if !much => format!("exec {program} 1 2"),
            "shortage" => {
                let parts =
                    SHORTAGES.iter().filter(|part| !LONG_SHORTAGES.contains(part) && (on_pc || **part != "tables"));
                let parts = parts.copied().collect::<Vec<_>>().join(" ");
                format!("for part in {parts}; do {program} $part {} || exit; done", if much { 10 } else { 3 })
            }
            _ => format!("exec {program}"),
        };
        match self.who {
            Who::Superuser => command,
            Who::User => format!("exec su -s /bin/sh user -c {}", quote(&command)),
        }
    }

    fn start(&self, context: &Context, programs: &[Program]) -> Result<Console> {
        let mut archive = Initramfs::standard()?;
        let mut items = Vec::new();
        for program in programs {
            archive.program(&format!("hostile/{}", program.name), program)?;
            items.push(Item { name: program.name.clone(), command: self.command(&program.name), limit: LIMIT });
        }
        if self.place == Place::Host {
            items.push(polls::item());
        }
        batch::prepare(&mut archive, &items);
        context.boot(self.place, self.cpus, self.memory, archive, "quiet")
    }
}

/// A job for each setting.
pub fn jobs() -> Result<Vec<Job>> {
    let mut names = Vec::new();
    for file in programs::files_of(&paths::root().join("tests/hostile"))? {
        if file.extension().is_some_and(|extension| extension == "c") {
            names.extend(file.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    let job = |setting: &'static Setting| {
        let title = setting.title;
        let mut checks: Vec<String> = names.iter().map(|name| format!("{title}: {name}")).collect();
        let longest = format!("{title}: {}", polls::NAME);
        if setting.place == Place::Host {
            checks.push(longest.clone());
        }
        Job::at(setting.place, setting.cpus, title, checks, move |context, report| {
            let wanted = |program: &Program| context.wants(&format!("{title}: {}", program.name));
            let programs: Vec<Program> = programs::compile("tests/hostile")?.into_iter().filter(wanted).collect();
            let patience = Duration::from_secs(u64::from(LIMIT) * programs.len().clamp(1, 4) as u64);
            let screen = setting.start(context, &programs)?.screen_at_end(patience);
            let results = batch::results(&screen);
            let mut explained = false;
            for Program { name, .. } in programs {
                let done = results.get(&name);
                keep_for_a_look(title, &name, done);
                let result = match done {
                    Some(done) => judge(&name, done),
                    // One look at the screen explains all that did not finish.
                    None if explained => Err(anyhow!("it did not finish either")),
                    None => Err(anyhow!("{}", batch::why_unfinished(&screen))),
                };
                explained |= done.is_none();
                report.check(&format!("{title}: {name}"), result);
            }
            if setting.place == Place::Host {
                report.check(&longest, polls::judge(setting.place, results.get(polls::NAME), &screen));
            }
            Ok(())
        })
    };
    Ok(SETTINGS.iter().map(job).collect())
}

/// A program says ok at its end, but for one whose random calls may change any file, that of its own output too.
fn judge(name: &str, done: &Done) -> Result<()> {
    let lines: Vec<&str> = done.output.lines().collect();
    let last = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
    match done.status {
        0 if name != "fuzz" && !last.trim_end().ends_with("ok") => {
            Err(anyhow!("status 0 without its last word:\n{last}"))
        }
        0 => Ok(()),
        batch::KILLED => Err(anyhow!("killed, by its limit of {LIMIT} s or for want of memory:\n{last}")),
        status => Err(anyhow!("status {status}:\n{last}")),
    }
}

/// Leaves what a program said, and how long its parts took, in `target/hostile`.
fn keep_for_a_look(title: &str, name: &str, done: Option<&Done>) {
    let Some(done) = done else { return };
    let folder = paths::target().join("hostile").join(title.replace(' ', "-"));
    // Only a convenience: a test does not fail because of it.
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(name), &done.output);
}
