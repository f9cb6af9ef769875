//! What many CPUs do in the time in which one does it once: `user/bench/scaling.c` on both kernels. Two CPUs by wall time, in boots
//! that take turns; and four by guest instructions, where they take turns themselves: that shows what an operation costs more beside
//! others (locks that are taken, CPUs that are asked), and not what the host has left.

use super::guest::{Fields, Measured};
use super::median;
use crate::linux;
use crate::qemu::{Clock, Guest};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Operations a second on one CPU and on all, boot by boot.
type Figures = BTreeMap<String, Vec<(f64, f64)>>;

/// Of a second counted in instructions: each is a nanosecond.
const INSTRUCTIONS_A_SECOND: f64 = 1e9;

/// The table of medians, and the one of instructions.
pub fn measure(runs: u32, rows: &[String]) -> Result<String> {
    Ok(format!("{}\n{}", timed(runs, rows)?, counted(rows)?))
}

fn timed(runs: u32, rows: &[String]) -> Result<String> {
    let mut figures = [Figures::new(), Figures::new()];
    let mut order = Vec::new();
    for number in 1..=runs {
        eprintln!("x: timing two CPUs, pair {number} of {runs}");
        for (guest, figures) in [Guest::Linux, Guest::Orrery].into_iter().zip(&mut figures) {
            for (name, pair) in run(guest, 2, Clock::Wall, rows)? {
                if !order.contains(&name) {
                    order.push(name.clone());
                }
                figures.entry(name).or_default().push(pair);
            }
        }
    }
    let mut table = format!(
        "Linux is {}. Thousand operations a second, and how many times as many two CPUs do: medians of {runs} interleaved \
         pairs of boots.\n\n\
         | operation | Linux, 1 CPU | Linux, 2 CPUs | | Orrery, 1 CPU | Orrery, 2 CPUs | |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        linux::version(&linux::kernel()?)
    );
    for name in order {
        write!(table, "| {name} |")?;
        for figures in &figures {
            let pairs = figures.get(&name).context("a row that only one kernel measured")?;
            let middle = |part: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(part).collect::<Vec<_>>());
            let (one, two, times) = (middle(|pair| pair.0), middle(|pair| pair.1), middle(|pair| pair.1 / pair.0));
            write!(table, " {:.1} | {:.1} | {times:.2} |", one / 1000.0, two / 1000.0)?;
        }
        table.push('\n');
    }
    Ok(table)
}

fn counted(rows: &[String]) -> Result<String> {
    eprintln!("x: counting the instructions of four CPUs");
    let [linux, orrery] = [Guest::Linux, Guest::Orrery].map(|guest| run(guest, 4, Clock::Instructions, rows));
    let mut table = String::from(
        "Instructions of one operation, the worker's own included, by the workers of one CPU and by those of four at once, and how many \
         times as many that are: one run each, bit-identical when repeated.\n\n\
         | operation | Linux, 1 CPU | Linux, 4 CPUs | | Orrery, 1 CPU | Orrery, 4 CPUs | |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for ((name, theirs), (_, ours)) in linux?.iter().zip(&orrery?) {
        write!(table, "| {name} |")?;
        for (one, four) in [theirs, ours] {
            let [one, four] = [one, four].map(|rate| INSTRUCTIONS_A_SECOND / rate);
            write!(table, " {one:.0} | {four:.0} | {:.2} |", four / one)?;
        }
        table.push('\n');
    }
    Ok(table)
}

/// Boots `guest` with the benchmark as its session. Gives operations a second on one CPU and on all.
fn run(guest: Guest, cpus: u32, clock: Clock, rows: &[String]) -> Result<Vec<(String, (f64, f64))>> {
    let measured = Measured { program: "scaling", rows, cpus, memory: 1024, clock };
    measured.run(guest)?.iter().map(figure).collect()
}

fn figure(fields: &Fields) -> Result<(String, (f64, f64))> {
    match fields.as_slice() {
        [name, one, all] => Ok((name.clone(), (one.parse().context("one")?, all.parse().context("all")?))),
        _ => bail!("no row of this benchmark: {fields:?}"),
    }
}
