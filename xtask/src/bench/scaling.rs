//! What two CPUs do in the time in which one does it once: `user/bench/scaling.c` on both kernels, by wall time, in boots that
//! take turns.

use super::guest::{Fields, Measured};
use super::median;
use crate::linux;
use crate::qemu::{Clock, Guest};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Operations a second on one CPU and on two, boot by boot.
type Figures = BTreeMap<String, Vec<(f64, f64)>>;

/// The table of medians.
pub fn measure(runs: u32, rows: &[String]) -> Result<String> {
    let mut figures = [Figures::new(), Figures::new()];
    let mut order = Vec::new();
    for number in 1..=runs {
        eprintln!("x: timing two CPUs, pair {number} of {runs}");
        for (guest, figures) in [Guest::Linux, Guest::Orrery].into_iter().zip(&mut figures) {
            let measured = Measured { program: "scaling", rows, cpus: 2, memory: 1024, clock: Clock::Wall };
            for fields in measured.run(guest)? {
                let (name, pair) = figure(&fields)?;
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

fn figure(fields: &Fields) -> Result<(String, (f64, f64))> {
    match fields.as_slice() {
        [name, one, two] => Ok((name.clone(), (one.parse().context("one")?, two.parse().context("two")?))),
        _ => bail!("no row of this benchmark: {fields:?}"),
    }
}
