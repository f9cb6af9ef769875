//! mincore(2): which pages are in memory.

use abi::Errno;
use machine::memory::PAGE_SIZE;

use crate::address_space::AddressSpace;
use crate::map::is_aligned;

impl AddressSpace {
    /// mincore(2): sets each byte of `pages` to 1 if the page is in memory. `EINVAL`, `ENOMEM` if some page isn't mapped.
    pub fn residency(&self, address: usize, pages: &mut [u8]) -> Result<(), Errno> {
        if !is_aligned(address) {
            return Err(Errno::EINVAL);
        }
        let length = pages.len().checked_mul(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        let range = address..address.checked_add(length).ok_or(Errno::ENOMEM)?;
        let layout = self.layout();
        if !layout.areas.covers(&range) {
            return Err(Errno::ENOMEM);
        }
        for (page, resident) in range.step_by(PAGE_SIZE).zip(pages) {
            let cached = || {
                let mut found = false;
                let area = layout.areas.containing(page);
                if let Some((file, index)) = area.and_then(|area| area.file_page(page)) {
                    file.pager.cached(index..index + 1, &mut |_, _| found = true);
                }
                found
            };
            *resident = u8::from(self.space().lookup(page).is_some() || cached());
        }
        Ok(())
    }
}
