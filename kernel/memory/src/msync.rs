//! msync(2): what was written through shared mappings is brought to where the files are kept.

use alloc::sync::Arc;
use core::ops::Range;

use abi::Errno;
use abi::fallible::try_collect;
use abi::memory::SyncFlags;
use machine::memory::PAGE_SIZE;
use sync::Budget;

use crate::address_space::{AddressSpace, SLICE};
use crate::area::{Area, AreaFlags};
use crate::map::{is_aligned, page_align};
use crate::pager::{MappedFile, PagerError};

impl AddressSpace {
    /// msync(2): with `MS_SYNC`, what was written through shared mappings is brought to where the files are kept.
    pub async fn synchronize(&self, address: usize, length: usize, flags: SyncFlags) -> Result<(), Errno> {
        let both = SyncFlags::ASYNC | SyncFlags::SYNC;
        if !SyncFlags::all().contains(flags) || !is_aligned(address) || flags.contains(both) {
            return Err(Errno::EINVAL);
        }
        let range = address..address.checked_add(page_align(length)).ok_or(Errno::ENOMEM)?;
        let (files, complete) = {
            let layout = self.layout();
            let within = || layout.areas.ascending(address).take_while(|area| area.range.start < range.end);
            if flags.contains(SyncFlags::INVALIDATE) && within().any(|area| area.flags.contains(AreaFlags::LOCKED)) {
                return Err(Errno::EBUSY);
            }
            let wanted = |area: &&Area| flags.contains(SyncFlags::SYNC) && area.is_shared();
            let files = try_collect(within().filter(wanted).filter_map(|area| shown_part(area, &range)))?;
            (files, layout.areas.covers(&range))
        };
        let mut budget = Budget::new();
        for (file, pages) in files {
            let mut at = pages.start;
            while at < pages.end {
                let next = pages.end.min(at + SLICE as u64);
                file.pager.write_back(at..next).await.map_err(PagerError::errno)?;
                at = next;
                budget.pace(SLICE).await;
            }
            file.identity.check_written(&*file.pager).map_err(PagerError::errno)?;
        }
        if complete { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}

/// The file an area shows, and which of its pages lie in `range`.
fn shown_part(area: &Area, range: &Range<usize>) -> Option<(Arc<MappedFile>, Range<u64>)> {
    let (start, end) = (area.range.start.max(range.start), area.range.end.min(range.end));
    let (file, first) = area.file_page(start)?;
    Some((file.clone(), first..first + ((end - start) / PAGE_SIZE) as u64))
}
