//! The areas of an address space: proc_pid_maps(5), proc_pid_smaps(5).

use alloc::vec::Vec;

use abi::Result;

use super::process::Subject;
use super::source::{Area, Residence};
use super::text::{Text, kib};

/// The column names begin in.
const NAME_COLUMN: usize = 73;

pub(super) fn maps(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = Text::new();
    subject.process.areas(false)?.iter().for_each(|area| line(area, &mut text));
    Ok(text.0)
}

fn line(area: &Area, text: &mut Text) {
    let start = text.0.len();
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
    if !area.name.is_empty() {
        text.pad(start, NAME_COLUMN);
        text.escaped(&area.name, b"\n");
    }
    text.put(format_args!("\n"));
}

pub(super) fn smaps(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = Text::new();
    for area in subject.process.areas(true)? {
        line(&area, &mut text);
        value(&mut text, "Size", area.end.saturating_sub(area.start));
        value(&mut text, "KernelPageSize", 4096);
        value(&mut text, "MMUPageSize", 4096);
        residence(&area.residence, &mut text);
        text.put(format_args!("THPeligible:           0\nVmFlags: "));
        for (set, name) in [(area.read, "rd"), (area.write, "wr"), (area.execute, "ex"), (area.shared, "sh")] {
            if set {
                text.put(format_args!("{name} "));
            }
        }
        text.put(format_args!("mr mw me \n"));
    }
    Ok(text.0)
}

pub(super) fn smaps_rollup(subject: &Subject) -> Result<Vec<u8>> {
    let areas = subject.process.areas(true)?;
    let (Some(first), Some(last)) = (areas.first(), areas.last()) else { return Ok(Vec::new()) };
    let whole = Area { name: b"[rollup]".to_vec(), ..empty_area(first.start, last.end) };
    let mut text = Text::new();
    line(&whole, &mut text);
    residence(&areas.iter().fold(Residence::default(), |sum, area| sum.plus(&area.residence)), &mut text);
    Ok(text.0)
}

fn empty_area(start: u64, end: u64) -> Area {
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
        residence: Residence::default(),
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
    let start = text.0.len();
    text.put(format_args!("{name}:"));
    text.pad(start, 16);
    text.put(format_args!("{:8} kB\n", kib(bytes)));
}
