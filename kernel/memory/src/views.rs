//! What /proc shows of an address space.

use alloc::sync::Arc;
use core::ops::Range;

use machine::memory::{Access, PAGE_SIZE};

use crate::address_space::{AddressSpace, SLICE};
use crate::area::{AreaFlags, Backing};
use crate::pager::MappedFile;

/// Where the parts of a program are, as exec found them: fields of /proc/PID/stat, VmExe, and the source of
/// /proc/PID/cmdline and environ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramLayout {
    /// start_code to end_code.
    pub code: Range<usize>,
    /// start_data to end_data.
    pub data: Range<usize>,
    /// start_stack.
    pub stack: usize,
    /// arg_start to arg_end.
    pub arguments: Range<usize>,
    /// env_start to env_end.
    pub environment: Range<usize>,
}

/// A line of /proc/PID/maps.
pub struct AreaView {
    /// Addresses.
    pub range: Range<usize>,
    /// `rwx`
    pub access: Access,
    /// `s` or `p`
    pub shared: bool,
    /// All flags: VmFlags in smaps.
    pub flags: AreaFlags,
    /// Offset in the file, 0 for anonymous areas.
    pub offset: u64,
    /// The mapped file: device, inode, path.
    pub file: Option<Arc<MappedFile>>,
    /// `[heap]`, `[stack]`, or nothing.
    pub name: Option<&'static str>,
    /// Writes may get huge pages.
    pub may_be_huge: bool,
}

/// How much memory a program uses, in pages: /proc/PID/statm and the Vm lines of /proc/PID/status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// VmSize
    pub size: usize,
    /// VmPeak
    pub peak: usize,
    /// VmRSS
    pub resident: usize,
    /// VmHWM
    pub peak_resident: usize,
    /// VmData
    pub data: usize,
    /// VmStk
    pub stack: usize,
    /// VmExe: the program's own code.
    pub code: usize,
    /// VmLib: other executable pages.
    pub libraries: usize,
    /// VmLck
    pub locked: usize,
    /// Number of areas.
    pub areas: usize,
    /// THP_enabled: it may have huge pages, as far as it is asked.
    pub huge_pages: bool,
}

/// Mapped pages of files: RssFile and RssShmem of /proc/PID/status. All others are the program's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentFiles {
    /// Pages of private mappings that are still the file's.
    pub file: usize,
    /// Pages of shared mappings.
    pub shared: usize,
}

/// Pages looked at together.
const WINDOW: usize = 64;

/// Pages that take as long as passing an area.
const AREA: usize = 8;

impl AddressSpace {
    /// Tells where exec has put the parts of the program.
    pub fn set_program(&self, program: ProgramLayout) {
        self.layout().program = program;
    }

    /// Where the parts of the program are.
    pub fn program(&self) -> ProgramLayout {
        self.layout().program.clone()
    }

    /// Where the heap starts and ends: start_brk and brk.
    pub fn heap(&self) -> Range<usize> {
        let layout = self.layout();
        layout.break_start..layout.break_end
    }

    /// The area at `address`, or the first above it.
    pub fn area_from(&self, address: usize) -> Option<AreaView> {
        let layout = self.layout();
        let area = layout.areas.ascending(address).next()?;
        Some({
            let heap = area.range.start <= layout.break_end
                && area.range.end >= layout.break_start
                && layout.break_start != layout.break_end;
            let (file, offset) = match &area.backing {
                Backing::File { file, offset } => (Some(file.clone()), *offset),
                Backing::Anonymous => (None, 0),
            };
            let name = match file {
                None if heap => Some("[heap]"),
                None if area.range.contains(&layout.program.stack) => Some("[stack]"),
                _ => None,
            };
            let (access, flags, shared) = (area.access, area.flags, area.is_shared());
            let may_be_huge = self.may_be_huge(area);
            AreaView { range: area.range.clone(), access, shared, flags, offset, file, name, may_be_huge }
        })
    }

    /// All areas, in ascending order.
    pub fn areas(&self) -> impl Iterator<Item = AreaView> {
        let next = |address| self.area_from(address);
        core::iter::successors(next(0), move |area| next(area.range.end))
    }

    /// How much memory is used.
    pub fn usage(&self) -> Usage {
        let mut layout = self.layout();
        let resident = self.space().resident();
        layout.note_resident(resident);
        let totals = layout.areas.totals();
        let code = layout.program.code.len().div_ceil(PAGE_SIZE).min(totals.executable);
        Usage {
            size: totals.all,
            peak: layout.peak,
            resident,
            peak_resident: layout.peak_resident,
            data: totals.data,
            stack: totals.stack,
            code,
            libraries: totals.executable - code,
            locked: totals.locked,
            areas: layout.areas.len(),
            huge_pages: !self.forbids_huge_pages(),
        }
    }

    /// Counts the mapped pages of files from `address` on into `counted`, for about 100 microseconds; says where to go on.
    pub fn count_files(&self, address: usize, counted: &mut ResidentFiles) -> Option<usize> {
        let layout = self.layout();
        let mut budget = SLICE;
        for area in layout.areas.ascending(address) {
            let start = area.range.start.max(address);
            let mut rest = start..area.range.end;
            budget = budget.saturating_sub(AREA);
            match area.file_page(start) {
                Some((file, first)) => {
                    let kind = if area.is_shared() { &mut counted.shared } else { &mut counted.file };
                    while budget > 0 && !rest.is_empty() {
                        let mapped =
                            self.space().next_mapped(rest.clone()).map_or(rest.end, |(mapped, _)| mapped.into());
                        let window = mapped..rest.end.min(mapped + WINDOW * PAGE_SIZE);
                        *kind += self.pages_of(file, first + ((mapped - start) / PAGE_SIZE) as u64, &window);
                        budget = budget.saturating_sub(WINDOW);
                        rest.start = window.end;
                    }
                }
                None => rest.start = rest.end,
            }
            if budget == 0 {
                return Some(rest.start);
            }
        }
        None
    }

    /// How many pages of a window show a file's own, from page `first` on.
    fn pages_of(&self, file: &MappedFile, first: u64, window: &Range<usize>) -> usize {
        let mut frames = [usize::MAX; WINDOW];
        file.pager.cached(first..first + (window.len() / PAGE_SIZE) as u64, &mut |index, frame| {
            if let Some(place) = frames.get_mut((index - first) as usize) {
                *place = frame.number();
            }
        });
        let (mut rest, mut count) = (window.clone(), 0);
        while let Some((address, mapping)) = self.space().next_mapped(rest.clone()) {
            count += usize::from(
                frames.get((usize::from(address) - window.start) / PAGE_SIZE) == Some(&mapping.frame_number),
            );
            rest.start = usize::from(address) + PAGE_SIZE;
        }
        count
    }
}
