//! What the kernel's operations cost: `user/bench/bench.c`, started from the initramfs on both kernels.
//!
//! Twice: counting guest instructions, where whole runs are bit-identical, so that one run is enough and one per cent shows;
//! and by wall time, in runs that alternate between the kernels, because instructions leave out what misses of the
//! TLB and its flushes cost.

use super::guest::Measured;
use super::median;
use crate::linux;
use crate::qemu::{Clock, Guest};
use anyhow::{Context, Result};
use std::fmt::Write;

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
    let measured = Measured { program: "bench", rows, cpus: 1, memory: 512, clock };
    let figure = |fields: Vec<String>| match fields.as_slice() {
        [name, ticks] => Ok((name.clone(), ticks.parse().context("ticks")?)),
        _ => anyhow::bail!("no row of this benchmark: {fields:?}"),
    };
    measured.run(guest)?.into_iter().map(figure).collect()
}
