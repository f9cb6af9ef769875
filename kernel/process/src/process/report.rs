//! What a parent can learn of a child that lives: one atomic word, so that wait(2) looks at many children quickly.

use core::sync::atomic::Ordering;

use abi::signal::Signal;

use super::Process;
use crate::signal::Report;

/// Nothing.
pub(super) const NONE: u32 = 0;
const CONTINUED: u32 = 1;
/// With the signal's number above.
const STOPPED: u32 = 2;

impl Process {
    /// What a parent can collect, of a living process.
    pub(crate) fn report(&self) -> Option<Report> {
        decode_report(self.report.load(Ordering::Acquire))
    }

    pub(crate) fn set_report(&self, report: Option<Report>) {
        self.report.store(encode_report(report), Ordering::Release);
    }

    /// Takes a report if it is still this one.
    pub(crate) fn take_report(&self, report: Report) -> bool {
        let word = encode_report(Some(report));
        self.report.compare_exchange(word, NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

fn encode_report(report: Option<Report>) -> u32 {
    match report {
        None => NONE,
        Some(Report::Continued) => CONTINUED,
        Some(Report::Stopped(signal)) => STOPPED | u32::from(signal.number()) << 8,
    }
}

fn decode_report(word: u32) -> Option<Report> {
    match word & 0xff {
        CONTINUED => Some(Report::Continued),
        STOPPED => Signal::new((word >> 8) as i32).ok().map(Report::Stopped),
        _ => None,
    }
}
