//! How the cost of the kernel's operations grows with what is there already: `user/bench/growth.c` on both kernels, in guest
//! instructions, at n, 10 n and 100 n objects.
//!
//! A row grows faster than Linux's when what it costs more at 100 n than at n is more than what it costs Linux more, by a
//! tenth and by what one per cent of the operation is: of two straight lines that would be the steeper one. What is about all
//! objects is shown for each of them.

use super::guest::{Fields, Measured};
use crate::linux;
use crate::qemu::{Clock, Guest};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

/// An operation's cost at each number of objects.
struct Curve {
    name: String,
    /// It is about all of them.
    each: bool,
    points: Vec<(u32, f64)>,
}

/// The table, and how many rows grow faster than Linux's.
pub fn measure(rows: &[String]) -> Result<String> {
    eprintln!("x: counting instructions");
    let [linux, orrery] = [run(Guest::Linux, rows)?, run(Guest::Orrery, rows)?];
    let mut table = format!(
        "Linux is {}. Instructions of one operation beside n objects; *faster* marks what grows faster than on Linux.\n\n\
         | operation | n | Linux at n, 10 n, 100 n | Orrery at n, 10 n, 100 n | growth on Linux | on Orrery | |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | --- |\n",
        linux::version(&linux::kernel()?)
    );
    for (theirs, ours) in linux.iter().zip(&orrery) {
        ensure!(theirs.name == ours.name, "the kernels measured different rows: {} and {}", theirs.name, ours.name);
        let mark = if ours.grows_faster_than(theirs) { "*faster*" } else { "" };
        writeln!(
            table,
            "| {} | {} | {} | {} | {:.2} | {:.2} | {mark} |",
            ours.name,
            ours.points.first().map_or(0, |point| point.0),
            theirs.shown(),
            ours.shown(),
            theirs.growth(),
            ours.growth()
        )?;
    }
    Ok(table)
}

fn run(guest: Guest, rows: &[String]) -> Result<Vec<Curve>> {
    let measured = Measured { program: "growth", rows, cpus: 1, memory: 1024, clock: Clock::Instructions };
    curves(measured.run(guest)?)
}

/// Rows of one name, one after the other, are a curve.
fn curves(rows: Vec<Fields>) -> Result<Vec<Curve>> {
    let mut curves: Vec<Curve> = Vec::new();
    for fields in rows {
        let [name, each, objects, ticks] = fields.as_slice() else {
            anyhow::bail!("no row of this benchmark: {fields:?}");
        };
        let point = (objects.parse().context("objects")?, ticks.parse().context("ticks")?);
        match curves.last_mut().filter(|curve| curve.name == *name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name: name.clone(), each: each == "each", points: vec![point] }),
        }
    }
    Ok(curves)
}

impl Curve {
    fn ends(&self) -> (f64, f64) {
        let cost = |point: Option<&(u32, f64)>| point.map_or(f64::NAN, |point| point.1);
        (cost(self.points.first()), cost(self.points.last()))
    }

    /// As shown: of each object, if it is about all.
    fn costs(&self) -> Vec<f64> {
        let part = |point: &(u32, f64)| if self.each { point.1 / f64::from(point.0) } else { point.1 };
        self.points.iter().map(part).collect()
    }

    fn shown(&self) -> String {
        let costs: Vec<String> = self.costs().iter().map(|cost| format!("{cost:.0}")).collect();
        costs.join(", ")
    }

    fn growth(&self) -> f64 {
        match self.costs().as_slice() {
            [first, .., last] => last / first,
            _ => f64::NAN,
        }
    }

    fn grows_faster_than(&self, other: &Curve) -> bool {
        let added = |curve: &Curve| curve.ends().1 - curve.ends().0;
        added(self) > added(other).max(0.0) * 1.1 + self.ends().0 * 0.01
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: [f64; 3]) -> Curve {
        Curve { name: "row".into(), each: false, points: vec![(10, points[0]), (100, points[1]), (1000, points[2])] }
    }

    #[test]
    fn rows_of_one_name_are_a_curve() {
        let row = |fields: [&str; 4]| fields.map(String::from).to_vec();
        let rows = vec![row(["a", "", "1", "5"]), row(["a", "", "10", "6"]), row(["b", "each", "2", "8"])];
        let curves = curves(rows).unwrap();
        assert_eq!(curves.iter().map(Curve::shown).collect::<Vec<_>>(), ["5, 6", "4"]);
        assert!(super::curves(vec![vec!["a".into()]]).is_err());
    }

    #[test]
    fn the_steeper_line_grows_faster() {
        let linux = curve([1000.0, 1100.0, 2000.0]);
        assert!(curve([500.0, 700.0, 2500.0]).grows_faster_than(&linux));
        assert!(!curve([500.0, 600.0, 1500.0]).grows_faster_than(&linux), "from a lower start");
        assert!(!curve([5000.0, 5100.0, 6050.0]).grows_faster_than(&linux), "a tenth more may be chance");
        let flat = curve([1000.0, 1000.0, 990.0]);
        assert!(!curve([1000.0, 1000.0, 1009.0]).grows_faster_than(&flat));
        assert!(curve([1000.0, 1000.0, 1011.0]).grows_faster_than(&flat));
    }
}
