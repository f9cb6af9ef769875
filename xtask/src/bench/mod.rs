//! `x bench`: Orrery beside Debian's Linux, tuned to its best, in the same QEMU with the same programs; and the host machine beside
//! other ways to run programs on a host.
//!
//! | file | what it measures |
//! | --- | --- |
//! | `calls.rs` | operations of the kernel: guest instructions, and wall time of interleaved runs |
//! | `growth.rs` | how operations grow with what is there already |
//! | `scaling.rs` | what two CPUs do of operations, beside one |
//! | `boot.rs` | from the start of QEMU to the shell's prompt |
//! | `host.rs` | the host machine, native Linux, user-mode Linux, proot |
//! | `guest.rs` | a benchmark program as the session of either kernel |
//!
//! A benchmark is never a test: it prints, and judges nothing. `--write` keeps the tables in `docs/src/benchmarks.md`.

mod boot;
mod calls;
mod growth;
mod guest;
mod host;
mod page;
mod scaling;

use anyhow::Result;
use std::process::ExitCode;

/// What `x bench` is asked for.
#[derive(clap::Args)]
pub struct Bench {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Keeps the tables in docs/src/benchmarks.md.
    #[arg(long)]
    write: bool,
    /// Interleaved runs for wall time, and boots of each kind.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Only these rows of `calls`, `growth` or `scaling`, by name.
    #[arg(long, value_name = "ROW")]
    row: Vec<String>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Operations of the kernel.
    Calls,
    /// How operations grow with what is there already.
    Growth,
    /// What two CPUs do, beside one.
    Scaling,
    /// Boots.
    Boot,
    /// The host machine.
    Host,
    /// All of them.
    All,
}

impl Bench {
    /// Measures and prints.
    pub fn run(self) -> Result<ExitCode> {
        let wanted = |what| self.what == what || self.what == What::All;
        let mut tables = Vec::new();
        if wanted(What::Calls) {
            tables.push(("calls", calls::measure(self.runs, &self.row)?));
        }
        if wanted(What::Growth) {
            tables.push(("growth", growth::measure(&self.row)?));
        }
        if wanted(What::Scaling) {
            tables.push(("scaling", scaling::measure(self.runs, &self.row)?));
        }
        if wanted(What::Boot) {
            tables.push(("boot", boot::measure(self.runs)?));
        }
        if wanted(What::Host) {
            tables.push(("host", host::measure(self.runs)?));
        }
        for (_, table) in &tables {
            println!("{table}");
        }
        if self.write {
            page::write(&tables)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The middle of some figures.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(low), Some(high)) if sorted.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
