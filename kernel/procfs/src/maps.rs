//! The areas of an address space: proc_pid_maps(5), proc_pid_smaps(5).

use core::ops::Range;

use abi::Result;
use machine::memory::HUGE_PAGE_ORDER;
use memory::{Access, AddressSpace, AreaFlags, AreaView, PAGE_SIZE};
use process::Process;

use crate::node::{Cursor, PART, Step};
use crate::subject::Subject;
use crate::text::{Text, kib};

/// The column names begin in.
const NAME_COLUMN: usize = 73;

/// Pages counted before others are to run.
const PAGES_AT_ONCE: usize = 8192;

/// Pages that take as long as looking at an area and its file's name.
const AREA: usize = 64;

/// What of areas is in memory, in bytes. A page is shared when more than one address space maps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Residence {
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    /// Used since somebody last looked.
    referenced: u64,
    /// Not of a file.
    anonymous: u64,
    /// Of that, in huge pages.
    huge: u64,
    /// Each page divided by the number of those who map it.
    proportional: u64,
}

/// `cursor.at` is the address behind the last area.
pub(crate) fn maps(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let Some(space) = process.space() else { return Ok(Step::End) };
    while text.len() < PART {
        let Some(area) = space.area_from(cursor.at as usize) else { return Ok(Step::End) };
        line(&area, text)?;
        cursor.at = area.range.end as u64;
    }
    Ok(Step::More)
}

/// `cursor.at` is the address up to which pages were counted.
pub(crate) fn smaps(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    match process.space() {
        Some(space) => areas_with_residence(&space, text, cursor, PAGES_AT_ONCE),
        None => Ok(Step::End),
    }
}

/// All areas as one.
pub(crate) fn smaps_rollup(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    match process.space() {
        Some(space) => rollup(&space, text, cursor, PAGES_AT_ONCE),
        None => Ok(Step::End),
    }
}

pub(crate) fn areas_with_residence(
    space: &AddressSpace,
    text: &mut Text,
    cursor: &mut Cursor,
    mut budget: usize,
) -> Result<Step> {
    while text.len() < PART {
        let Some(area) = space.area_from(cursor.at as usize) else { return Ok(Step::End) };
        if !count(space, &area, cursor, &mut budget) {
            return Ok(Step::Pause);
        }
        line(&area, text)?;
        value(text, "Size", area.range.len() as u64);
        value(text, "KernelPageSize", 4096);
        value(text, "MMUPageSize", 4096);
        core::mem::take(&mut cursor.residence).show(text);
        text.put(format_args!("THPeligible:           {}\nVmFlags: ", u8::from(area.may_be_huge)));
        for (access, name) in [(Access::READ, "rd"), (Access::WRITE, "wr"), (Access::EXECUTE, "ex")] {
            if area.access.contains(access) {
                text.put(format_args!("{name} "));
            }
        }
        text.put(format_args!("{}mr mw me ", if area.shared { "sh " } else { "" }));
        for (flag, name) in [(AreaFlags::HUGE_PAGE, "hg"), (AreaFlags::NO_HUGE_PAGE, "nh")] {
            if area.flags.contains(flag) {
                text.put(format_args!("{name} "));
            }
        }
        text.put(format_args!("\n"));
    }
    Ok(Step::More)
}

pub(crate) fn rollup(space: &AddressSpace, text: &mut Text, cursor: &mut Cursor, mut budget: usize) -> Result<Step> {
    while let Some(area) = space.area_from(cursor.at as usize) {
        // An area costs something even if nothing of it is there.
        budget = budget.saturating_sub(AREA);
        if !count(space, &area, cursor, &mut budget) || budget == 0 {
            return Ok(Step::Pause);
        }
    }
    if let Some(first) = space.area_from(0) {
        let all = first.range.start..cursor.at as usize;
        Line { range: all, access: Access::empty(), shared: false, offset: 0, device: (0, 0), inode: 0 }
            .show(b"[rollup]", text);
        cursor.residence.show(text);
    }
    Ok(Step::End)
}

/// Adds what is resident of the rest of an area, and moves behind it. False if the budget was spent before.
fn count(space: &AddressSpace, area: &AreaView, cursor: &mut Cursor, budget: &mut usize) -> bool {
    let rest = area.range.start.max(cursor.at as usize)..area.range.end;
    let next = cursor.residence.count(space, rest, area.file.is_none(), budget);
    cursor.at = next.unwrap_or(area.range.end) as u64;
    next.is_none()
}

/// What stands before the name in a line.
struct Line {
    range: Range<usize>,
    access: Access,
    shared: bool,
    offset: u64,
    device: (u32, u32),
    inode: u64,
}

fn line(area: &AreaView, text: &mut Text) -> Result<()> {
    let (device, inode) =
        area.file.as_ref().map_or(((0, 0), 0), |file| (file.identity.device(), file.identity.inode()));
    let AreaView { access, shared, offset, .. } = *area;
    let line = Line { range: area.range.clone(), access, shared, offset, device, inode };
    match &area.file {
        Some(file) => line.show(&file.identity.path()?, text),
        None => line.show(area.name.unwrap_or_default().as_bytes(), text),
    }
    Ok(())
}

impl Line {
    fn show(&self, name: &[u8], text: &mut Text) {
        let start = text.len();
        let flag = |access: Access, letter: char| if self.access.contains(access) { letter } else { '-' };
        text.put(format_args!(
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            self.range.start,
            self.range.end,
            flag(Access::READ, 'r'),
            flag(Access::WRITE, 'w'),
            flag(Access::EXECUTE, 'x'),
            if self.shared { 's' } else { 'p' },
            self.offset,
            self.device.0,
            self.device.1,
            self.inode,
        ));
        if !name.is_empty() {
            text.pad(start, NAME_COLUMN);
            text.escaped(name, b"\n");
        }
        text.put(format_args!("\n"));
    }
}

impl Residence {
    /// Adds the pages of a range that are mapped, as long as the budget lasts; says where to go on then.
    fn count(
        &mut self,
        space: &AddressSpace,
        mut range: Range<usize>,
        anonymous: bool,
        budget: &mut usize,
    ) -> Option<usize> {
        let page = PAGE_SIZE as u64;
        while let Some((address, mapping)) = space.space().next_mapped(range.clone()) {
            let address = usize::from(address);
            if *budget == 0 {
                return Some(address);
            }
            *budget -= 1;
            range.start = address + PAGE_SIZE;
            let shared = mapping.references > 1;
            *match (shared, mapping.dirty) {
                (true, true) => &mut self.shared_dirty,
                (true, false) => &mut self.shared_clean,
                (false, true) => &mut self.private_dirty,
                (false, false) => &mut self.private_clean,
            } += page;
            if mapping.accessed {
                self.referenced += page;
            }
            if anonymous {
                self.anonymous += page;
                self.huge += huge_page_from(space, address..range.end);
            }
            self.proportional += page / u64::from(mapping.references.max(1));
        }
        None
    }

    fn show(&self, text: &mut Text) {
        let resident = self.shared_clean + self.shared_dirty + self.private_clean + self.private_dirty;
        for (name, bytes) in [
            ("Rss", resident),
            ("Pss", self.proportional),
            ("Pss_Dirty", self.private_dirty),
            ("Shared_Clean", self.shared_clean),
            ("Shared_Dirty", self.shared_dirty),
            ("Private_Clean", self.private_clean),
            ("Private_Dirty", self.private_dirty),
            ("Referenced", self.referenced),
            ("Anonymous", self.anonymous),
            ("KSM", 0),
            ("LazyFree", 0),
            ("AnonHugePages", self.huge),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", 0),
        ] {
            value(text, name, bytes);
        }
    }
}

/// The bytes of a huge page that begins with the range and lies in it, if there is one.
fn huge_page_from(space: &AddressSpace, range: Range<usize>) -> u64 {
    let Some(size) = HUGE_PAGE_ORDER.and_then(|order| PAGE_SIZE.checked_shl(order.into())) else { return 0 };
    let may_be = range.start.is_multiple_of(size) && range.len() >= size;
    if may_be && space.space().is_huge(range.start) { size as u64 } else { 0 }
}

fn value(text: &mut Text, name: &str, bytes: u64) {
    let start = text.len();
    text.put(format_args!("{name}:"));
    text.pad(start, 16);
    text.put(format_args!("{:8} kB\n", kib(bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pad_names_to_one_column_and_escape_them() {
        let line = |range, access, shared, name: &[u8]| {
            let mut text = Text::new();
            Line { range, access, shared, offset: 0x2000, device: (0, 0x15), inode: 247_030 }.show(name, &mut text);
            String::from_utf8(text.finish().unwrap()).unwrap()
        };
        let low = line(0x40_0000..0x40_3000, Access::READ, false, b"/bin/a b\nc");
        assert_eq!(low, format!("{:<73}/bin/a b\\012c\n", "00400000-00403000 r--p 00002000 00:15 247030 "));
        let high = line(0x7fff_1234_5000..0x7fff_1234_8000, Access::all(), true, b"");
        assert_eq!(high, "7fff12345000-7fff12348000 rwxs 00002000 00:15 247030 \n");
    }
}
