//! A space of the host machine: a map from page to frame, with the meaning page tables have on `pc`.

use crate::memory::{Access, Frame, Mapping, OutOfMemory, PAGE_SIZE, UserFault};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Page {
    frame: Frame,
    access: Access,
    copy_on_write: bool,
    accessed: bool,
    dirty: bool,
}

impl Page {
    fn new(frame: Frame, access: Access) -> Page {
        let copy_on_write = access.contains(Access::COPY_ON_WRITE);
        Page { frame, access: access - Access::COPY_ON_WRITE, copy_on_write, accessed: false, dirty: false }
    }

    /// What the program may do, as the hardware would see it.
    fn effective(&self) -> Access {
        if self.copy_on_write { self.access - Access::WRITE } else { self.access }
    }
}

/// The pages of a space.
pub struct Tables {
    pages: Mutex<BTreeMap<usize, Page>>,
}

impl Tables {
    pub fn new() -> Result<Tables, OutOfMemory> {
        Ok(Tables { pages: Mutex::new(BTreeMap::new()) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn map(&self, page: usize, frame: Frame, access: Access) -> Result<(), OutOfMemory> {
        self.lock().insert(page, Page::new(frame, access));
        Ok(())
    }

    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = Frame>,
        access: Access,
    ) -> Result<(), OutOfMemory> {
        let mut pages = self.lock();
        for (page, frame) in (start..).step_by(PAGE_SIZE).zip(frames) {
            if page >= crate::memory::USER_TOP {
                return Err(OutOfMemory);
            }
            pages.insert(page, Page::new(frame, access));
        }
        Ok(())
    }

    pub fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        let mut pages = self.lock();
        for _ in 0..budget {
            let (&page, _) = pages.range(range.clone()).next()?;
            pages.remove(&page);
        }
        pages.range(range).next().map(|(&page, _)| page)
    }

    pub fn protect(&self, range: Range<usize>, access: Access) {
        for (_, page) in self.lock().range_mut(range) {
            page.access = access - Access::COPY_ON_WRITE;
        }
    }

    pub fn share_with(&self, child: &Tables, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        let shared: Vec<_> = self
            .lock()
            .range_mut(range)
            .map(|(&address, page)| {
                page.copy_on_write |= copy_on_write;
                let twin = Page { frame: page.frame.clone(), ..*page };
                (address, twin)
            })
            .collect();
        child.lock().extend(shared);
        Ok(())
    }

    pub fn lookup(&self, page: usize) -> Option<Mapping> {
        self.lock().get(&page).map(|page| Mapping {
            frame_number: page.frame.number(),
            access: page.effective(),
            copy_on_write: page.copy_on_write,
            accessed: page.accessed,
            dirty: page.dirty,
            references: page.frame.references(),
        })
    }

    pub fn frame_at(&self, page: usize) -> Option<Frame> {
        self.lock().get(&page).map(|page| page.frame.clone())
    }

    pub fn break_copy_on_write(&self, page: usize, access: Access) -> Result<bool, OutOfMemory> {
        let mut pages = self.lock();
        let Some(page) = pages.get_mut(&page) else { return Ok(false) };
        if page.copy_on_write && page.frame.references() != 1 {
            page.frame = Frame::copy_of(&page.frame).ok_or(OutOfMemory)?;
        }
        page.copy_on_write = false;
        page.access = access - Access::COPY_ON_WRITE;
        Ok(true)
    }

    pub fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        let mut pages = self.lock();
        pages.retain(|page, _| !(to..to + from.len()).contains(page));
        let moved: Vec<usize> = pages.range(from.clone()).map(|(&page, _)| page).collect();
        for page in moved {
            if let Some(state) = pages.remove(&page) {
                pages.insert(page - from.start + to, state);
            }
        }
        Ok(())
    }

    pub fn resident(&self) -> usize {
        self.lock().len()
    }

    /// Runs `each(bytes, done, length)` for the part of each page in the range that allows `access`.
    fn walk(
        &self,
        address: usize,
        length: usize,
        access: Access,
        mut each: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), UserFault> {
        let mut pages = self.lock();
        let mut copied = 0;
        while copied < length {
            let address = address + copied;
            let offset = address % PAGE_SIZE;
            let write = access.contains(Access::WRITE);
            let page = pages.get_mut(&(address - offset)).filter(|page| page.effective().contains(access));
            let Some(page) = page else { return Err(UserFault { copied, address, write }) };
            let part = (length - copied).min(PAGE_SIZE - offset);
            page.accessed = true;
            page.dirty |= write;
            each(page.frame.bytes().wrapping_add(offset), copied, part);
            copied += part;
        }
        Ok(())
    }

    /// # Safety
    /// `to` is writable for `length` bytes.
    pub unsafe fn read(&self, address: usize, to: *mut u8, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::READ, |bytes, done, part| {
            // SAFETY: `part` bytes lie in the frame, and `done + part` is at most `length`.
            unsafe { super::copy::copy(to.wrapping_add(done), bytes, part) }
        })
    }

    /// # Safety
    /// `from` is readable for `length` bytes.
    pub unsafe fn write(&self, address: usize, from: *const u8, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::WRITE, |bytes, done, part| {
            // SAFETY: as in `read`.
            unsafe { super::copy::copy(bytes, from.wrapping_add(done), part) }
        })
    }

    pub fn zero(&self, address: usize, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::WRITE, |bytes, _, part| {
            // SAFETY: `part` bytes lie in the frame.
            unsafe { super::copy::zero(bytes, part) }
        })
    }

    pub fn load_u32(&self, address: usize) -> Result<u32, UserFault> {
        let mut value = 0;
        self.walk(address, 4, Access::READ, |bytes, _, _| {
            // SAFETY: the address is aligned, so the word lies in one frame; frames are accessed atomically or by copying.
            value = unsafe { crate::memory::word(bytes) }.load(std::sync::atomic::Ordering::SeqCst);
        })?;
        Ok(value)
    }

    pub fn compare_exchange_u32(&self, address: usize, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
        use std::sync::atomic::Ordering::SeqCst;
        let mut result = Err(old);
        self.walk(address, 4, Access::WRITE, |bytes, _, _| {
            // SAFETY: as in `load_u32`.
            result = unsafe { crate::memory::word(bytes) }.compare_exchange(old, new, SeqCst, SeqCst);
        })?;
        Ok(result)
    }
}
