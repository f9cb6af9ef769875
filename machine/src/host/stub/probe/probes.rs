//! The probes of a machine that is tested.

use super::{Mending, Step};
use crate::platform::machine::current as machine;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The probes of one machine.
#[derive(Default)]
pub struct Probes {
    off: AtomicU32,
    counts: [AtomicUsize; 5],
}

fn probes() -> Option<&'static Probes> {
    machine().stubs.as_ref().map(|pool| &pool.probes)
}

/// Takes one away from this thread's machine.
pub fn switch_off(mending: Mending) {
    probes().unwrap().off.fetch_or(1 << mending as u32, Ordering::SeqCst);
}

pub fn is_on(mending: Mending) -> bool {
    probes().is_none_or(|probes| probes.off.load(Ordering::SeqCst) & 1 << mending as u32 == 0)
}

pub fn reached(step: Step) {
    if let Some(probes) = probes() {
        probes.counts[step as usize].fetch_add(1, Ordering::SeqCst);
    }
}

/// How often this thread's machine reached a step.
pub fn count(step: Step) -> usize {
    probes().unwrap().counts[step as usize].load(Ordering::SeqCst)
}
