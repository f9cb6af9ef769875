//! Twin programs: run on Linux and on Orrery, they must print the same.
//!
//! Linux's answers come from Debian's kernel in the same QEMU with the same initramfs, and are kept in `target/twin`
//! by the sum of the program, the kernel's version and the way it is run; `--fresh` asks again.

use super::batch::{self, Done, Item};
use super::{Job, Place, polls};
use crate::console::Console;
use crate::hosted::Hosted;
use crate::initramfs::Initramfs;
use crate::programs::{self, Program};
use crate::qemu::{Accelerator, Guest};
use crate::run::Hardware;
use crate::{linux, paths};
use anyhow::{Result, anyhow, bail};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// Seconds one twin may take.
const LIMIT: u32 = 40;

/// MiB of memory they have.
const MEMORY: u32 = 512;

/// Linux is asked by one job at a time; the others then find its answers kept.
static ASKING: Mutex<()> = Mutex::new(());

/// The same where there are huge pages: on smaller machines there are none.
const MEMORY_FOR_HUGE_PAGES: u32 = 1024;

/// A machine that has huge pages.
const HUGE: &str = "twin with huge pages";

/// What runs there.
const WITH_HUGE_PAGES: [&str; 5] = ["copy_on_write", "fork_wait", "huge_pages", "mapping_threads", "threads"];

/// A kernel whose files take their time: the seed is in the environment's `SLOW_FILES`, or 1.
const SLOW: &str = "twin on slow files";

/// The same, whose names take their time as well.
const SLOW_NAMES: &str = "twin on slow names";

/// Twins that don't run there: two tell where a file has holes, which a slow store doesn't say, one is about how soon an idle CPU
/// helps, which the tasks of the store change, and one sees what a mapping wrote behind the end of a file that grows: on tmpfs, which
/// the answers are of, it is there, and on a file that lies elsewhere it is zeros.
const NOT_ON_SLOW: [&str; 4] = ["affinity", "shared_mapping", "stat_fields", "truncate_holes"];

/// Nor do these where names take their time: one waits for 50,000 names, and one counts what is left behind a thousand names, which are remembered
/// there for a while.
const NOT_ON_SLOW_NAMES: [&str; 2] = ["kernel_leaks", "many_objects"];

/// Twins on one CPU and on four, on a virtual machine and on the host machine, there with its second engine and its first; and on
/// files that take their time.
pub fn jobs() -> Result<Vec<Job>> {
    let mut names = Vec::new();
    for file in programs::files_of(&paths::root().join("tests/twin"))? {
        if file.extension().is_some_and(|extension| extension == "c") {
            names.extend(file.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    let job = |place: Place, cpus: u32, engine: Option<&'static str>, title: &'static str| {
        let fits = move |name: &str| {
            (title != HUGE || WITH_HUGE_PAGES.contains(&name))
                && (!is_slow(title) || !NOT_ON_SLOW.contains(&name))
                && (title != SLOW_NAMES || !NOT_ON_SLOW_NAMES.contains(&name))
        };
        let fitting = names.iter().filter(|name| fits(name));
        let mut checks: Vec<String> = fitting.map(|name| format!("{title}: {name}")).collect();
        let longest = format!("{title}: {}", polls::NAME);
        if place == Place::Host {
            checks.push(longest.clone());
        }
        Job::at(place, cpus, title, checks, move |context, report| {
            let wanted =
                |program: &Program| fits(&program.name) && context.wants(&format!("{title}: {}", program.name));
            let twins: Vec<Program> = programs::compile("tests/twin")?.into_iter().filter(wanted).collect();
            let expected = linux_answers(&twins, context.fresh)?;
            let memory = if title == HUGE { MEMORY_FOR_HUGE_PAGES } else { MEMORY };
            let screen = run(context.kernel, place, cpus, memory, engine, &options_for(title), &twins)?;
            keep_for_a_look(&batch::results(&screen));
            for (name, result) in compare(&expected, &screen) {
                report.check(&format!("{title}: {name}"), result);
            }
            if place == Place::Host {
                report.check(&longest, polls::judge(place, batch::results(&screen).get(polls::NAME), &screen));
            }
            Ok(())
        })
    };
    Ok(vec![
        job(Place::Q35, 4, None, "twin on 4 CPUs"),
        job(Place::Microvm, 1, None, "twin on 1 CPU"),
        job(Place::Q35, 4, None, HUGE),
        job(Place::Host, 4, None, "twin on the host with 4 CPUs"),
        job(Place::Host, 1, None, "twin on the host with 1 CPU"),
        job(Place::Host, 3, Some("ptrace"), "twin on the host with 3 CPUs, traced"),
        job(Place::Host, 4, None, SLOW),
        job(Place::Host, 4, None, SLOW_NAMES),
    ])
}

fn is_slow(title: &str) -> bool {
    title == SLOW || title == SLOW_NAMES
}

/// The kernel's options for a job.
fn options_for(title: &str) -> String {
    let seed = || std::env::var("SLOW_FILES").unwrap_or_else(|_| "1".into());
    match title {
        SLOW => format!("quiet slow_files={}", seed()),
        SLOW_NAMES => format!("quiet slow_files={} slow_names", seed()),
        _ => "quiet".into(),
    }
}

/// Runs twins in one boot; gives the screen, also when the machine did not come to its end.
fn run(
    kernel: Guest,
    place: Place,
    cpus: u32,
    memory: u32,
    engine: Option<&'static str>,
    options: &str,
    twins: &[Program],
) -> Result<String> {
    let mut archive = Initramfs::standard()?;
    let mut items = Vec::new();
    for twin in twins {
        archive.program(&format!("twin/{}", twin.name), twin)?;
        items.push(Item { name: twin.name.clone(), command: format!("exec /twin/{}", twin.name), limit: LIMIT });
    }
    if place == Place::Host {
        items.push(polls::item());
    }
    batch::prepare(&mut archive, &items);
    Ok(start(kernel, place, cpus, memory, engine, options, archive)?.screen_at_end(Duration::from_secs(200)))
}

fn start(
    kernel: Guest,
    place: Place,
    cpus: u32,
    memory: u32,
    engine: Option<&'static str>,
    options: &str,
    archive: Initramfs,
) -> Result<Console> {
    let Some(machine) = place.model() else {
        return Console::start_on_host(&Hosted { cpus, memory, archive, options: options.into(), engine, tool: None });
    };
    let hardware = Hardware { cpus, memory, machine, kernel, accelerator: None };
    let mut vm = hardware.vm(archive, options)?;
    if vm.accelerator == Accelerator::Tcg {
        // With five levels of page tables Linux has a larger address space, which some answers tell.
        vm.cpu = "max,-la57";
    }
    Console::start(&vm)
}

/// What the twins print on Linux, from what is kept or from Linux itself.
fn linux_answers(twins: &[Program], fresh: bool) -> Result<BTreeMap<String, Done>> {
    let _asking = ASKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let kernel = linux::kernel()?;
    let folder = paths::target().join("twin");
    std::fs::create_dir_all(&folder)?;
    let mut answers = BTreeMap::new();
    let mut unknown = Vec::new();
    for twin in twins {
        let kept = kept_at(&folder, twin, &linux::version(&kernel))?;
        match std::fs::read_to_string(&kept).ok().filter(|_| !fresh).and_then(|text| parse(&text)) {
            Some(done) => drop(answers.insert(twin.name.clone(), done)),
            None => unknown.push(twin.clone()),
        }
    }
    if unknown.is_empty() {
        return Ok(answers);
    }
    let screen = run(Guest::Linux, Place::Q35, 1, MEMORY, None, "quiet", &unknown)?;
    let mut results = batch::results(&screen);
    let mut unusable = Vec::new();
    for twin in &unknown {
        match results.remove(&twin.name) {
            // A twin that Linux itself does not finish says nothing about anybody.
            None => unusable.push(twin.name.as_str()),
            Some(done) if done.status == batch::KILLED => unusable.push(twin.name.as_str()),
            Some(done) => {
                let kept = kept_at(&folder, twin, &linux::version(&kernel))?;
                std::fs::write(kept, format!("{}\n{}", done.status, done.output))?;
                answers.insert(twin.name.clone(), done);
            }
        }
    }
    if !unusable.is_empty() {
        bail!("Linux did not finish {} in {LIMIT} s each; {}", unusable.join(", "), batch::why_unfinished(&screen));
    }
    Ok(answers)
}

fn kept_at(folder: &std::path::Path, twin: &Program, version: &str) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (std::fs::read(&twin.path)?, version, include_str!("batch.rs"), LIMIT, "no la57").hash(&mut hasher);
    std::fs::read(paths::root().join("user/init/init.c"))?.hash(&mut hasher);
    Ok(folder.join(format!("{}-{:016x}.linux", twin.name, hasher.finish())))
}

fn parse(text: &str) -> Option<Done> {
    let (status, output) = text.split_once('\n')?;
    Some(Done { status: status.parse().ok()?, output: output.into() })
}

/// Leaves what was printed here beside Linux's answers, for diff(1).
fn keep_for_a_look(results: &BTreeMap<String, Done>) {
    for (name, done) in results {
        // Only a convenience: a test does not fail because of it.
        let _ = std::fs::write(
            paths::target().join(format!("twin/{name}.here")),
            format!("{}\n{}", done.status, done.output),
        );
    }
}

/// One result per twin.
fn compare(expected: &BTreeMap<String, Done>, screen: &str) -> Vec<(String, Result<()>)> {
    let found = batch::results(screen);
    let mut explained = false;
    let mut result = |name: &String, expected: &Done| match found.get(name) {
        // One look at the screen explains all that did not finish.
        None if explained => Err(anyhow!("it did not finish either")),
        None => {
            explained = true;
            Err(anyhow!("{}", batch::why_unfinished(screen)))
        }
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(anyhow!("{}", difference(expected, found))),
    };
    expected.iter().map(|(name, expected)| (name.clone(), result(name, expected))).collect()
}

/// Where two outputs part: the lines that only one of them has, up to a screenful.
fn difference(expected: &Done, found: &Done) -> String {
    let mut text = String::new();
    if expected.status != found.status {
        text.push_str(&format!("exit status {} on Linux, {} here\n", expected.status, found.status));
    }
    let (left, right): (Vec<&str>, Vec<&str>) = (expected.output.lines().collect(), found.output.lines().collect());
    let (mut i, mut j, mut shown) = (0, 0, 0);
    while (i < left.len() || j < right.len()) && shown < 30 {
        let (a, b) = (left.get(i), right.get(j));
        if a == b {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        // The nearest line where both agree again.
        let meet = (0..40)
            .flat_map(|sum| (0..=sum).map(move |d| (d, sum - d)))
            .find(|&(d, e)| matches!((left.get(i + d), right.get(j + e)), (Some(x), Some(y)) if x == y));
        let (d, e) = meet.unwrap_or((left.len() - i.min(left.len()), right.len() - j.min(right.len())));
        for line in left.iter().skip(i).take(d) {
            text.push_str(&format!("Linux | {line}\n"));
        }
        for line in right.iter().skip(j).take(e) {
            text.push_str(&format!("here  | {line}\n"));
        }
        (i, j, shown) = (i + d, j + e, shown + d + e);
    }
    text.lines().take(60).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(output: &str) -> Done {
        Done { status: 0, output: output.into() }
    }

    #[test]
    fn a_difference_shows_only_the_lines_that_differ() {
        let text = difference(&done("a\nb\nc\nd\n"), &done("a\nx\nc\nd\n"));
        assert_eq!(text, "Linux | b\nhere  | x\n");
        let text = difference(&done("a\nb\n"), &done("a\nb\nmore\n"));
        assert_eq!(text, "here  | more\n");
        let text = difference(&done("a\nb\nc\n"), &done("a\nc\n"));
        assert_eq!(text, "Linux | b\n");
    }

    #[test]
    fn an_unfinished_twin_has_failed() {
        let expected = BTreeMap::from([("one".to_string(), done("x"))]);
        assert!(matches!(compare(&expected, "").first(), Some((name, Err(_))) if name == "one"));
    }
}
