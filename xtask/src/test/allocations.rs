//! Want of kernel memory: requests that fail one by one, and what a call draws on the reserve.
//!
//! Every request of a boot on the host machine would take minutes (`./x soak allocations`); here it is every 101st.

use super::batch::{self, Item};
use super::{Job, Place};
use crate::allocations::{self, End};
use crate::initramfs::Initramfs;
use crate::programs;
use anyhow::{Result, ensure};
use std::time::Duration;

/// Each so many requests one fails.
const STEP: u64 = 101;

/// Seconds one twin may take.
const LIMIT: u32 = 120;

const FAILING: &str = "every 101st allocation fails";
const DRAWN: &str = "what calls draw on the reserve";

/// The two jobs.
pub fn jobs() -> Vec<Job> {
    let failing = Job::at(Place::Host, 1, FAILING, vec![FAILING.into()], |_, report| {
        report.check(FAILING, fail());
        Ok(())
    });
    let drawn = Job::at(Place::Q35, 2, DRAWN, vec![DRAWN.into()], |_, report| {
        report.check(DRAWN, draw());
        Ok(())
    });
    vec![failing, drawn]
}

fn fail() -> Result<()> {
    allocations::prepare(Place::Host)?;
    let count = allocations::count(Place::Host)?;
    let mut told = 0;
    for nth in (1..=count).step_by(STEP as usize) {
        let end = allocations::attempt(Place::Host, nth);
        told += u64::from(
            end.map_err(|why| why.context(format!("./x soak allocations --seed {nth} --rounds 1")))? == End::Told,
        );
    }
    // Some requests are needed to come to a prompt; else none has failed at all.
    ensure!(told > 0, "none of {count} requests failed");
    Ok(())
}

/// Runs the twins, which make every call there is, on a kernel that measures.
fn draw() -> Result<()> {
    allocations::prepare(Place::Q35)?;
    let mut archive = Initramfs::standard()?;
    let mut items = Vec::new();
    for twin in programs::compile("tests/twin")? {
        archive.program(&format!("twin/{}", twin.name), &twin)?;
        items.push(Item { name: twin.name.clone(), command: format!("exec /twin/{}", twin.name), limit: LIMIT });
    }
    batch::prepare(&mut archive, &items);
    let screen = allocations::start(Place::Q35, 2, archive, 0)?.screen_at_end(Duration::from_secs(900));
    let drawn = allocations::drawn(&screen);
    ensure!(drawn.len() > 20, "{}", batch::why_unfinished(&screen));
    // "other" is what was before the first call of a program.
    let too_much = drawn.iter().filter(|(call, bytes, allowed)| *call != "other" && bytes > allowed);
    let too_much: Vec<_> = too_much.collect();
    ensure!(too_much.is_empty(), "drew more than the reserve has for it: {too_much:?}");
    Ok(())
}
