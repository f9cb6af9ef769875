//! The areas of an address space: proc_pid_maps(5), proc_pid_smaps(5).

use alloc::vec::Vec;

use abi::Result;

use super::node::{Cursor, PART, Step};
use super::process::Subject;
use super::source::{Area, Residence};
use super::text::{Text, kib};

/// The column names begin in.
const NAME_COLUMN: usize = 73;

/// Pages counted before others are to run.
const PAGES_AT_ONCE: usize = 8192;

/// Pages that take as long as looking at an area and its file's name.
const AREA: usize = 64;

/// `cursor.at` is the address behind the last area.
pub(super) fn maps(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    while text.len() < PART {
        let Some(area) = subject.process.area(cursor.at)? else { return Ok(Step::End) };
        line(&area, text);
        cursor.at = area.end;
    }
    Ok(Step::More)
}

fn line(area: &Area, text: &mut Text) {
    named_line(area, &area.name, text);
}

fn named_line(area: &Area, name: &[u8], text: &mut Text) {
    let start = text.len();
    let flag = |set: bool, letter: char| if set { letter } else { '-' };
    text.put(format_args!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        area.start,
        area.end,
        flag(area.read, 'r'),
        flag(area.write, 'w'),
        flag(area.execute, 'x'),
        if area.shared { 's' } else { 'p' },
        area.offset,
        area.device.0,
        area.device.1,
        area.inode,
    ));
    if !name.is_empty() {
        text.pad(start, NAME_COLUMN);
        text.escaped(name, b"\n");
    }
    text.put(format_args!("\n"));
}

/// `cursor.at` is the address up to which pages were counted.
pub(super) fn smaps(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let mut budget = PAGES_AT_ONCE;
    while text.len() < PART {
        let Some(area) = subject.process.area(cursor.at)? else { return Ok(Step::End) };
        if !count(subject, &area, cursor, &mut budget)? {
            return Ok(Step::Pause);
        }
        line(&area, text);
        value(text, "Size", area.end.saturating_sub(area.start));
        value(text, "KernelPageSize", 4096);
        value(text, "MMUPageSize", 4096);
        residence(&core::mem::take(&mut cursor.residence), text);
        text.put(format_args!("THPeligible:           0\nVmFlags: "));
        for (set, name) in [(area.read, "rd"), (area.write, "wr"), (area.execute, "ex"), (area.shared, "sh")] {
            if set {
                text.put(format_args!("{name} "));
            }
        }
        text.put(format_args!("mr mw me \n"));
    }
    Ok(Step::More)
}

pub(super) fn smaps_rollup(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let mut budget = PAGES_AT_ONCE;
    while let Some(area) = subject.process.area(cursor.at)? {
        // An area costs something even if nothing of it is there.
        budget = budget.saturating_sub(AREA);
        if !count(subject, &area, cursor, &mut budget)? || budget == 0 {
            return Ok(Step::Pause);
        }
    }
    if let Some(first) = subject.process.area(0)? {
        named_line(&rollup(first.start, cursor.at), b"[rollup]", text);
        residence(&cursor.residence, text);
    }
    Ok(Step::End)
}

/// Adds what is resident of the rest of an area, and moves behind it. False if the budget was spent before.
fn count(subject: &Subject, area: &Area, cursor: &mut Cursor, budget: &mut usize) -> Result<bool> {
    let rest = area.start.max(cursor.at)..area.end;
    let (found, next) = subject.process.residence(rest, budget)?;
    cursor.residence = cursor.residence.plus(&found);
    cursor.at = next.unwrap_or(area.end);
    Ok(next.is_none())
}

/// All areas as one.
fn rollup(start: u64, end: u64) -> Area {
    Area {
        start,
        end,
        read: false,
        write: false,
        execute: false,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: Vec::new(),
    }
}

impl Residence {
    fn plus(self, other: &Residence) -> Residence {
        Residence {
            shared_clean: self.shared_clean.saturating_add(other.shared_clean),
            shared_dirty: self.shared_dirty.saturating_add(other.shared_dirty),
            private_clean: self.private_clean.saturating_add(other.private_clean),
            private_dirty: self.private_dirty.saturating_add(other.private_dirty),
            referenced: self.referenced.saturating_add(other.referenced),
            anonymous: self.anonymous.saturating_add(other.anonymous),
            proportional: self.proportional.saturating_add(other.proportional),
            locked: self.locked.saturating_add(other.locked),
        }
    }
}

fn residence(residence: &Residence, text: &mut Text) {
    let resident = [residence.shared_clean, residence.shared_dirty, residence.private_clean, residence.private_dirty]
        .into_iter()
        .fold(0u64, u64::saturating_add);
    for (name, bytes) in [
        ("Rss", resident),
        ("Pss", residence.proportional),
        ("Pss_Dirty", residence.private_dirty),
        ("Shared_Clean", residence.shared_clean),
        ("Shared_Dirty", residence.shared_dirty),
        ("Private_Clean", residence.private_clean),
        ("Private_Dirty", residence.private_dirty),
        ("Referenced", residence.referenced),
        ("Anonymous", residence.anonymous),
        ("KSM", 0),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", residence.locked),
    ] {
        value(text, name, bytes);
    }
}

fn value(text: &mut Text, name: &str, bytes: u64) {
    let start = text.len();
    text.put(format_args!("{name}:"));
    text.pad(start, 16);
    text.put(format_args!("{:8} kB\n", kib(bytes)));
}
