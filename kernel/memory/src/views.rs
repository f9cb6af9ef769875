//! What /proc shows of an address space.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use machine::memory::Access;

use crate::address_space::AddressSpace;
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
}

/// Mapped pages by kind: RssAnon, RssFile and RssShmem of /proc/PID/status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// The program's own: anonymous, or its copies of a file's pages.
    pub anonymous: usize,
    /// Pages of files.
    pub file: usize,
    /// Pages of shared mappings.
    pub shared: usize,
}

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

    /// All areas, in ascending order.
    pub fn areas(&self) -> Vec<AreaView> {
        let layout = self.layout();
        let view = |area: &crate::Area| {
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
            AreaView { range: area.range.clone(), access, shared, flags, offset, file, name }
        };
        layout.areas.ascending(0).map(view).collect()
    }

    /// How much memory is used.
    pub fn usage(&self) -> Usage {
        let mut layout = self.layout();
        let resident = self.space().resident();
        layout.note_resident(resident);
        let totals = layout.areas.totals();
        let code = layout.program.code.len().div_ceil(crate::PAGE_SIZE).min(totals.executable);
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
        }
    }

    /// Counts the mapped pages by kind, looking at every page of a mapped file: for /proc, not for hot paths.
    pub fn resident_by_kind(&self) -> Resident {
        let layout = self.layout();
        let mut resident = Resident::default();
        for area in layout.areas.ascending(0) {
            let Some((file, first)) = area.file_page(area.range.start) else { continue };
            let pages = first..first + area.pages() as u64;
            file.pager.cached(pages, &mut |index, frame| {
                let address = area.range.start + (index - first) as usize * crate::PAGE_SIZE;
                let mapping = self.space().lookup(address);
                if mapping.is_some_and(|mapping| mapping.frame_number == frame.number()) {
                    *if area.is_shared() { &mut resident.shared } else { &mut resident.file } += 1;
                }
            });
        }
        resident.anonymous = self.space().resident().saturating_sub(resident.file + resident.shared);
        resident
    }
}
