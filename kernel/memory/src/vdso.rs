//! The areas `[vvar]` and `[vdso]` of every program: see [`machine::vdso`].
//!
//! Each is a file of one page that no folder has. Everybody maps the same two frames, privately: a debugger that puts a
//! breakpoint into the code gets a copy, and the numbers can't be made writable. As special mappings on Linux, they can be moved and
//! unmapped but not extended.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abi::Errno;
use abi::fallible::try_to_vec;
use machine::memory::{Access, Frame, PAGE_SIZE, USER_TOP};

use crate::address_space::AddressSpace;
use crate::area::{Area, AreaFlags, Backing, Written};
use crate::pager::{FileIdentity, MappedFile, Mappings, Pager, PagerError};

/// Bytes of both areas.
const LENGTH: usize = 2 * PAGE_SIZE;

/// What one page table covers.
const TABLE: usize = 512 * PAGE_SIZE;

/// Where it goes, as on Linux: above the stack, under the page table that the top of the stack has anyway. `random` chooses
/// among the places there are.
pub(crate) fn place_above(stack_top: usize, random: usize) -> usize {
    let end = (stack_top + LENGTH).next_multiple_of(TABLE).min(USER_TOP);
    let places = end.saturating_sub(stack_top + LENGTH) / PAGE_SIZE + 1;
    stack_top + random / PAGE_SIZE % places * PAGE_SIZE
}

/// The two files.
pub(crate) struct Vdso {
    data: Arc<MappedFile>,
    code: Arc<MappedFile>,
    frame: Frame,
}

impl Vdso {
    /// The machine's vDSO; none if memory is out.
    pub fn new() -> Option<Vdso> {
        let pages = machine::vdso::pages()?;
        let file = |name, frame| {
            let page = Arc::new(Page { name, frame });
            let (pager, identity) = (page.clone(), page);
            Arc::new(MappedFile { pager, identity, readable: true, writable: false, executable: true })
        };
        Some(Vdso { data: file("[vvar]", pages.data), code: file("[vdso]", pages.code.clone()), frame: pages.code })
    }
}

/// A file of one page.
struct Page {
    name: &'static str,
    frame: Frame,
}

impl Pager for Page {
    fn page(&self, index: u64, _write: bool) -> Result<Frame, PagerError> {
        if index == 0 { Ok(self.frame.clone()) } else { Err(PagerError::BeyondEnd) }
    }

    fn cached(&self, range: Range<u64>, found: &mut dyn FnMut(u64, Frame)) {
        if range.contains(&0) {
            found(0, self.frame.clone());
        }
    }

    fn size(&self) -> u64 {
        PAGE_SIZE as u64
    }

    fn mappings(&self) -> Option<&Mappings> {
        None
    }
}

impl FileIdentity for Page {
    fn path(&self) -> Result<Vec<u8>, Errno> {
        try_to_vec(self.name.as_bytes())
    }

    fn device(&self) -> (u32, u32) {
        (0, 0)
    }

    fn inode(&self) -> u64 {
        0
    }
}

impl AddressSpace {
    /// Where the vDSO's shared object is, if the program was given one. It may have unmapped it since.
    pub fn vdso(&self) -> Option<usize> {
        self.layout().vdso
    }

    /// Maps the vDSO into a new program and returns where its shared object begins, if there is one: `AT_SYSINFO_EHDR`.
    /// `ENOMEM`.
    pub fn map_vdso(&self) -> Result<Option<usize>, Errno> {
        let Some(vdso) = self.memory().vdso() else { return Ok(None) };
        self.change_now(|layout, _| {
            let start = layout.find_space(self.placement.vdso, LENGTH, &self.placement, false)?;
            let code = start + PAGE_SIZE;
            let area = |start, access, flags, file: &Arc<MappedFile>| Area {
                range: start..start + PAGE_SIZE,
                access,
                flags: flags | AreaFlags::SPECIAL,
                written: Written::default(),
                backing: Backing::File { file: file.clone(), offset: 0 },
                moved: 0,
            };
            layout.add(area(start, Access::READ, AreaFlags::MAY_READ, &vdso.data))?;
            let any = AreaFlags::MAY_READ | AreaFlags::MAY_WRITE | AreaFlags::MAY_EXECUTE;
            let rights = Access::READ | Access::EXECUTE;
            layout.add(area(code, rights, any, &vdso.code))?;
            layout.vdso = Some(code);
            // C libraries look into it first thing: spare them the fault. Without memory for that, the fault will tell.
            let _ = self.space().map(code, vdso.frame.clone(), rights | Access::COPY_ON_WRITE);
            Ok(Some(code))
        })
    }
}
