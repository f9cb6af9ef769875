//! Bytes to and from a program's memory, for whoever may wait.
//!
//! Each operation is one try on the machine's `Space`; a fault on the way goes the slow way, under its own name: the
//! fault is resolved, waiting if need be, and the copy goes on where it stopped. What can't be resolved is `EFAULT`.
//! Dropping one of these futures leaves at most a part of the bytes copied.

use alloc::vec::Vec;

use abi::Errno;
use abi::fallible::TryVec;
use machine::memory::{Access, PAGE_SIZE, USER_END, USER_TOP, UserFault, fallible};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::address_space::AddressSpace;
use crate::fault::MemoryFault;

/// The most bytes [`AddressSpace::read_array`] takes at once: more would let a program take the kernel's heap.
const LARGEST_ARRAY: usize = 1 << 20;

impl AddressSpace {
    /// Fills `to` from `address`. `EFAULT`.
    #[inline]
    pub async fn copy_in(&self, address: usize, to: &mut [u8]) -> Result<(), Errno> {
        match self.space().read(address, to) {
            Ok(()) => Ok(()),
            Err(fault) => self.copy_in_slowly(address, to, fault).await,
        }
    }

    async fn copy_in_slowly(&self, address: usize, to: &mut [u8], mut fault: UserFault) -> Result<(), Errno> {
        check_range(address, to.len())?;
        let mut done = 0;
        loop {
            done += fault.copied;
            self.fault_in(fault).await?;
            let rest = to.get_mut(done..).unwrap_or_default();
            match self.space().read(address + done, rest) {
                Ok(()) => return Ok(()),
                Err(next) => fault = next,
            }
        }
    }

    /// Writes `from` at `address`. `EFAULT`.
    #[inline]
    pub async fn copy_out(&self, address: usize, from: &[u8]) -> Result<(), Errno> {
        match self.space().write(address, from) {
            Ok(()) => Ok(()),
            Err(fault) => self.copy_out_slowly(address, from, fault).await,
        }
    }

    async fn copy_out_slowly(&self, address: usize, from: &[u8], mut fault: UserFault) -> Result<(), Errno> {
        check_range(address, from.len())?;
        let mut done = 0;
        loop {
            done += fault.copied;
            self.fault_in(fault).await?;
            let rest = from.get(done..).unwrap_or_default();
            match self.space().write(address + done, rest) {
                Ok(()) => return Ok(()),
                Err(next) => fault = next,
            }
        }
    }

    /// Zeroes `length` bytes at `address`. `EFAULT`, `ENOMEM` if there is no memory to be had.
    pub async fn zero(&self, address: usize, length: usize) -> Result<(), Errno> {
        check_range(address, length)?;
        let mut done = 0;
        while let Err(fault) = self.space().zero(address + done, length - done) {
            done += fault.copied;
            let settled = self.fault(fault.address.into(), Access::WRITE).await;
            settled
                .map_err(|why| if matches!(why, MemoryFault::OutOfMemory) { Errno::ENOMEM } else { Errno::EFAULT })?;
        }
        Ok(())
    }

    /// Reads a plain value. `EFAULT`.
    #[inline]
    pub async fn read_value<T: FromBytes + IntoBytes>(&self, address: usize) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.copy_in(address, value.as_mut_bytes()).await?;
        Ok(value)
    }

    /// Writes a plain value. `EFAULT`.
    #[inline]
    pub async fn write_value<T: IntoBytes + Immutable>(&self, address: usize, value: &T) -> Result<(), Errno> {
        self.copy_out(address, value.as_bytes()).await
    }

    /// Reads `count` plain values in a row. `EFAULT`, `ENOMEM` (also for more than a megabyte).
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub async fn read_array<T: FromBytes + IntoBytes>(&self, address: usize, count: usize) -> Result<Vec<T>, Errno> {
        let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= LARGEST_ARRAY).ok_or(Errno::ENOMEM)?;
        check_range(address, bytes)?;
        let mut values = Vec::new();
        fallible(|| values.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
        values.resize_with(count, T::new_zeroed);
        self.copy_in(address, values.as_mut_slice().as_mut_bytes()).await?;
        Ok(values)
    }

    /// Reads a string up to its NUL, which is not included. Strings of `max` bytes or more, NUL included, give
    /// `ENAMETOOLONG`. Nothing beyond the NUL's page is touched. `EFAULT`, `ENOMEM`.
    pub async fn read_c_string(&self, address: usize, max: usize) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut chunk = [0; 64];
        while string.len() < max {
            let at = address.checked_add(string.len()).ok_or(Errno::EFAULT)?;
            // Up to the end of the page: what follows may not exist, and need not.
            let length = chunk.len().min(PAGE_SIZE - at % PAGE_SIZE).min(max - string.len());
            let part = chunk.get_mut(..length).unwrap_or_default();
            self.copy_in(at, part).await?;
            let end = part.iter().position(|byte| *byte == 0);
            let text = part.get(..end.unwrap_or(length)).unwrap_or_default();
            string.try_extend_from_slice(text)?;
            if end.is_some() {
                return Ok(string);
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Loads an aligned word in one access, as futex(2) does. `EINVAL` if misaligned, `EFAULT`.
    pub async fn load(&self, address: usize) -> Result<u32, Errno> {
        check_word(address)?;
        loop {
            match self.space().load_u32(address) {
                Ok(value) => return Ok(value),
                Err(fault) => self.fault_in(fault).await?,
            }
        }
    }

    /// Replaces an aligned word if it equals `old`: `Ok(old)`, or `Err` of what is there. `EINVAL` if misaligned,
    /// `EFAULT`.
    pub async fn compare_exchange(&self, address: usize, old: u32, new: u32) -> Result<Result<u32, u32>, Errno> {
        check_word(address)?;
        loop {
            match self.space().compare_exchange_u32(address, old, new) {
                Ok(result) => return Ok(result),
                Err(fault) => self.fault_in(fault).await?,
            }
        }
    }

    /// Resolves the fault a copy stopped at, so that it can be tried again. `EFAULT` if the program has no such memory.
    pub async fn fault_in(&self, fault: UserFault) -> Result<(), Errno> {
        let (address, access) = faulted(fault)?;
        self.fault(address, access).await.map(|_| ()).map_err(|_| Errno::EFAULT)
    }

    /// As [`settle`](Self::fault_in), but without waiting: false if that can't be avoided. `EFAULT`.
    #[cold]
    pub fn fault_in_now(&self, fault: UserFault) -> Result<bool, Errno> {
        let (address, access) = faulted(fault)?;
        match self.resolve(address, access) {
            Ok(_) => Ok(true),
            Err(MemoryFault::Wait(_) | MemoryFault::Busy | MemoryFault::OutOfMemory) => Ok(false),
            Err(_) => Err(Errno::EFAULT),
        }
    }
}

/// Where a copy stopped, and for what. `EFAULT` outside user space.
fn faulted(fault: UserFault) -> Result<(usize, Access), Errno> {
    let access = if fault.write { Access::WRITE } else { Access::READ };
    if fault.address < USER_END { Ok((fault.address.into(), access)) } else { Err(Errno::EFAULT) }
}

/// `EFAULT` unless all `length` bytes at `address` are below the end of user space (`access_ok`).
pub fn check_range(address: usize, length: usize) -> Result<(), Errno> {
    match address.checked_add(length) {
        Some(end) if end <= USER_TOP => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

fn check_word(address: usize) -> Result<(), Errno> {
    if address.is_multiple_of(4) { check_range(address, 4) } else { Err(Errno::EINVAL) }
}
