//! What the kernel's operations cost: `user/bench/bench.c`, started from the initramfs on both kernels.
//!
//! Twice: counting guest instructions, where whole runs are bit-identical, so that one run is enough and one per cent shows;
//! and by wall time, in runs that alternate between the kernels, because instructions leave out what misses of the
//! TLB and its flushes cost.

use super::median;
use crate::console::Console;
use crate::initramfs::{Initramfs, Session};
use crate::qemu::{Accelerator, Clock, Guest, Machine};
use crate::run::Hardware;
use crate::{linux, programs};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::time::Duration;

/// Linux at its best, and nothing random in either kernel.
const LINUX_OPTIONS: &str = "quiet init_on_alloc=0 mitigations=off nokaslr norandmaps";
const ORRERY_OPTIONS: &str = "quiet norandmaps";

/// QEMU emulates `rep movsb` byte by byte, so neither kernel may believe it is quick.
const CPU: &str = "max,-erms,-fsrm";

const LIMIT: Duration = Duration::from_secs(300);

/// A row's name and ticks.
type Figures = Vec<(String, f64)>;

/// The table of ratios.
pub fn measure(runs: u32, rows: &[String]) -> Result<String> {
    eprintln!("x: counting instructions");
    let instructions = [run(Guest::Linux, Clock::Instructions, rows)?, run(Guest::Orrery, Clock::Instructions, rows)?];
    let mut wall: [Vec<Figures>; 2] = Default::default();
    for number in 1..=runs {
        eprintln!("x: timing, pair {number} of {runs}");
        for (guest, figures) in [Guest::Linux, Guest::Orrery].into_iter().zip(&mut wall) {
            figures.push(run(guest, Clock::Wall, rows)?);
        }
    }
    let mut table = format!(
        "Linux is {}. Instructions: one run each, bit-identical when repeated. Wall time: the median of {runs} interleaved \
         pairs' ratios. Below 1 Orrery is ahead.\n\n\
         | operation | Linux, instructions | Orrery, instructions | ratio | wall-time ratio |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
        linux::version(&linux::kernel()?)
    );
    let [linux, orrery] = &instructions;
    for ((name, theirs), (_, ours)) in linux.iter().zip(orrery) {
        let ratios: Vec<f64> = wall[0]
            .iter()
            .zip(&wall[1])
            .filter_map(|(linux, orrery)| Some(find(orrery, name)? / find(linux, name)?))
            .collect();
        let ratio = ours / theirs;
        writeln!(table, "| {name} | {theirs:.0} | {ours:.0} | {ratio:.2} | {:.2} |", median(&ratios))?;
    }
    Ok(table)
}

fn find(figures: &Figures, name: &str) -> Option<f64> {
    figures.iter().find(|(row, _)| row == name).map(|(_, ticks)| *ticks)
}

/// Boots `guest` with the benchmark as its session.
fn run(guest: Guest, clock: Clock, rows: &[String]) -> Result<Figures> {
    let mut archive = Initramfs::standard()?;
    for program in programs::compile("user/bench")? {
        archive.program(&format!("bin/{}", program.name), &program)?;
    }
    let mut command = vec!["/bin/bench".to_string()];
    command.extend_from_slice(rows);
    archive.session(Session { command, ..Session::default() });
    let accelerator = Some(Accelerator::Tcg).filter(|_| clock == Clock::Instructions);
    let hardware = Hardware { cpus: 1, memory: 512, machine: Machine::Q35, kernel: guest, accelerator };
    let mut vm = hardware.vm(archive, if guest == Guest::Linux { LINUX_OPTIONS } else { ORRERY_OPTIONS })?;
    vm.clock = clock;
    if vm.accelerator == Accelerator::Tcg {
        vm.cpu = CPU;
    }
    let (status, screen) = Console::start(&vm)?.end(LIMIT)?;
    ensure!(status == 0, "the benchmark ended with status {status}:\n{screen}");
    let figures: Figures = screen.lines().filter_map(row).collect();
    ensure!(!figures.is_empty() && screen.lines().any(|line| line == "end"), "no figures:\n{screen}");
    Ok(figures)
}

/// `row<tab>NAME<tab>TICKS`; the terminal may have made spaces of the tabs.
fn row(line: &str) -> Option<(String, f64)> {
    let rest = line.strip_prefix("row")?;
    let (name, ticks) = rest.trim().rsplit_once(char::is_whitespace)?;
    Some((name.trim().to_string(), ticks.parse().context("ticks").ok()?))
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn rows_are_read_with_tabs_and_with_spaces() {
        assert_eq!(row("row\tnull call\t329.0"), Some(("null call".into(), 329.0)));
        assert_eq!(row("row     null call       329.0"), Some(("null call".into(), 329.0)));
        assert_eq!(row("Linux says hello"), None);
    }
}
