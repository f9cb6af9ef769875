//! Copies between the kernel's memory and a space whose pages are found one by one in a map ([`pages`]), through their frames.

use crate::memory::{Access, Frame, FrameRun, OutOfMemory, PAGE_SIZE, UserAddress, UserFault};
use crate::platform::copy;
use crate::platform::paging::{Address, Tables};
use core::sync::atomic::Ordering::SeqCst;
use pages::Owned;

impl Owned for Frame {
    fn number(&self) -> usize {
        Frame::number(self)
    }

    fn references(&self) -> u32 {
        Frame::references(self)
    }

    fn copied(&self) -> Option<Frame> {
        Frame::copy_of(self)
    }

    fn set_tag(&self, tag: u64) {
        Frame::set_tag(self, tag);
    }
}

impl Tables {
    pub fn map_huge(
        &self,
        _start: Address,
        _run: FrameRun,
        _access: Access,
        _still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        Ok(false)
    }

    pub fn has_leaf(&self, _page: Address) -> bool {
        true
    }

    pub fn is_huge(&self, _page: Address) -> bool {
        false
    }

    /// Runs `each(bytes, done, length)` for the part of each page in the range that allows `access`. All lie in the frame, and in what is
    /// copied.
    fn walk(
        &self,
        start: Address,
        length: usize,
        access: Access,
        mut each: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), UserFault> {
        self.with_bytes(|find| {
            let mut copied = 0;
            while copied < length {
                let address = UserAddress::from(start + copied as Address);
                let Some(bytes) = find(address.page(), access) else {
                    return Err(UserFault { copied, address, write: access.contains(Access::WRITE) });
                };
                let offset = address.offset_in_page() % PAGE_SIZE;
                let part = (length - copied).min(PAGE_SIZE - offset);
                each(bytes.wrapping_add(offset), copied, part);
                copied += part;
            }
            Ok(())
        })
    }

    /// # Safety
    /// `to` is writable for `length` bytes.
    pub unsafe fn read(&self, address: Address, to: *mut u8, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::READ, |bytes, done, part| {
            // SAFETY: `part` bytes lie in the frame, which the lock keeps mapped, and `done + part` is at most `length`.
            unsafe { copy::copy(to.wrapping_add(done), bytes, part) }
        })
    }

    /// # Safety
    /// `from` is readable for `length` bytes.
    pub unsafe fn write(&self, address: Address, from: *const u8, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::WRITE, |bytes, done, part| {
            // SAFETY: as in `read`.
            unsafe { copy::copy(bytes, from.wrapping_add(done), part) }
        })
    }

    pub fn zero(&self, address: Address, length: usize) -> Result<(), UserFault> {
        self.walk(address, length, Access::WRITE, |bytes, _, part| {
            // SAFETY: `part` bytes lie in the frame.
            unsafe { copy::zero(bytes, part) }
        })
    }

    pub fn load_u32(&self, address: Address) -> Result<u32, UserFault> {
        let mut value = 0;
        self.walk(address, 4, Access::READ, |bytes, _, _| {
            // SAFETY: the address is aligned, so the word lies in one frame.
            value = unsafe { crate::memory::word(bytes) }.load(SeqCst);
        })?;
        Ok(value)
    }

    pub fn compare_exchange_u32(&self, address: Address, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
        let mut result = Err(old);
        self.walk(address, 4, Access::WRITE, |bytes, _, _| {
            // SAFETY: as in `load_u32`.
            result = unsafe { crate::memory::word(bytes) }.compare_exchange(old, new, SeqCst, SeqCst);
        })?;
        Ok(result)
    }
}
