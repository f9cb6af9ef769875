//! Bytes to and from user addresses.
//!
//! When the space is the one this CPU has loaded, the bytes go straight through the user's addresses: the guarded routines of
//! `copy.s`, between `stac` and `clac` where the CPU has SMAP. Each of their accesses to user memory is listed in the
//! exception table, so a fault there ends in a fix-up, which goes on to the very byte that faulted: hence the fault
//! address is `address + copied`.
//!
//! Otherwise the bytes go through the tables and the direct map, a page at a time, under the lock of their table and by
//! the rights of the entries.
//!
//! [`crate::memory::Space`] has checked that the range is below `USER_TOP`: the loaded tables of the lower half are user's.

use super::paging::Tables;
use super::table::Entry;
use super::{copy, features, frames};
use crate::memory::{PAGE_SIZE, UserFault, word};
use core::arch::asm;
use core::sync::atomic::Ordering::SeqCst;

unsafe extern "C" {
    fn machine_user_copy(to: *mut u8, from: *const u8, length: usize) -> usize;
    fn machine_user_zero(to: *mut u8, unused: usize, length: usize) -> usize;
    fn machine_user_load_u32(address: usize, value: &mut u32) -> u32;
    fn machine_user_compare_exchange_u32(address: usize, value: &mut u32, new: u32) -> u32;
}

/// Runs `body` with user memory accessible.
#[inline]
fn with_user_access<R>(body: impl FnOnce() -> R) -> R {
    let smap = features::get().smap;
    if smap {
        // SAFETY: the CPU has the instruction; it sets a flag the compiler does not use.
        unsafe { asm!("stac", options(nostack)) };
    }
    let result = body();
    if smap {
        // SAFETY: as above.
        unsafe { asm!("clac", options(nostack)) };
    }
    result
}

#[inline]
fn outcome(address: usize, length: usize, left: usize, write: bool) -> Result<(), UserFault> {
    let copied = length - left;
    if left == 0 { Ok(()) } else { Err(UserFault { copied, address: (address + copied).into(), write }) }
}

impl Tables {
    /// # Safety
    /// `to` is writable for `length` bytes, and the range is user space.
    #[inline]
    pub unsafe fn read(&self, address: usize, to: *mut u8, length: usize) -> Result<(), UserFault> {
        if self.is_loaded() {
            // SAFETY: faults on the user's side are handled, and `to` is valid by contract.
            let left = with_user_access(|| unsafe { machine_user_copy(to, address as *const u8, length) });
            return outcome(address, length, left, false);
        }
        self.by_table(address, length, false, |bytes, done, part| {
            // SAFETY: `part` bytes lie in the frame, and `done + part` is at most `length`.
            unsafe { copy::copy(to.wrapping_add(done), bytes, part) }
        })
    }

    /// # Safety
    /// `from` is readable for `length` bytes, and the range is user space.
    #[inline]
    pub unsafe fn write(&self, address: usize, from: *const u8, length: usize) -> Result<(), UserFault> {
        if self.is_loaded() {
            // SAFETY: as in `read`.
            let left = with_user_access(|| unsafe { machine_user_copy(address as *mut u8, from, length) });
            return outcome(address, length, left, true);
        }
        self.by_table(address, length, true, |bytes, done, part| {
            // SAFETY: as in `read`.
            unsafe { copy::copy(bytes, from.wrapping_add(done), part) }
        })
    }

    pub fn zero(&self, address: usize, length: usize) -> Result<(), UserFault> {
        if self.is_loaded() {
            // SAFETY: faults are handled, and the range is user space.
            let left = with_user_access(|| unsafe { machine_user_zero(address as *mut u8, 0, length) });
            return outcome(address, length, left, true);
        }
        self.by_table(address, length, true, |bytes, _, part| {
            // SAFETY: `part` bytes lie in the frame.
            unsafe { copy::zero(bytes, part) }
        })
    }

    pub fn load_u32(&self, address: usize) -> Result<u32, UserFault> {
        let mut value = 0;
        if self.is_loaded() {
            // SAFETY: a fault is handled.
            let failed = with_user_access(|| unsafe { machine_user_load_u32(address, &mut value) });
            outcome(address, 4, if failed != 0 { 4 } else { 0 }, false)?;
        } else {
            self.by_table(address, 4, false, |bytes, _, _| {
                // SAFETY: the address is aligned, so the word lies in the frame, which stays owned under the lock.
                value = unsafe { word(bytes) }.load(SeqCst);
            })?;
        }
        Ok(value)
    }

    pub fn compare_exchange_u32(&self, address: usize, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
        let mut value = old;
        if self.is_loaded() {
            // SAFETY: a fault is handled.
            let failed = with_user_access(|| unsafe { machine_user_compare_exchange_u32(address, &mut value, new) });
            outcome(address, 4, if failed != 0 { 4 } else { 0 }, true)?;
        } else {
            self.by_table(address, 4, true, |bytes, _, _| {
                // SAFETY: as in `load_u32`.
                value = match unsafe { word(bytes) }.compare_exchange(old, new, SeqCst, SeqCst) {
                    Ok(found) | Err(found) => found,
                };
            })?;
        }
        Ok(if value == old { Ok(value) } else { Err(value) })
    }

    /// Runs `each(bytes, done, length)` for the part of each page in the range, if its entry allows the access.
    #[inline(never)]
    fn by_table(
        &self,
        address: usize,
        length: usize,
        write: bool,
        mut each: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), UserFault> {
        let right = if write { Entry::PRESENT | Entry::WRITABLE } else { Entry::PRESENT };
        let used = if write { Entry::ACCESSED | Entry::DIRTY } else { Entry::ACCESSED };
        let mut done = 0;
        while done < length {
            let offset = (address + done) % PAGE_SIZE;
            let found = self.find(address + done - offset).filter(|(_, _, entry)| entry.has(right));
            // Locked until the bytes are copied.
            let Some((leaf, index, entry)) = found else { return outcome(address, length, length - done, write) };
            if !entry.has(used) {
                leaf.update(index, |entry| Entry(entry.0 | used));
            }
            let Some(frame) = entry.frame() else { return outcome(address, length, length - done, write) };
            let part = (length - done).min(PAGE_SIZE - offset);
            each(frames::bytes(frame.get()).wrapping_add(offset), done, part);
            done += part;
        }
        Ok(())
    }
}
