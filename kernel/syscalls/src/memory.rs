//! The mmap family: mmap(2), munmap(2), mprotect(2), mremap(2), brk(2), madvise(2), msync(2), mincore(2), mlock(2).

use alloc::sync::Arc;

use abi::Errno;
use abi::memory::{LockAllFlags, MapFlags, Protection, RemapFlags, SyncFlags};
use abi::raw::general as raw;
use memory::{Backing, MapRequest, PAGE_SIZE, USER_TOP};
use process::{Failure, Thread};
use sync::Budget;

use crate::argument::{Address, Descriptor, Flags};
use crate::flags::{LockFlags, MapFlags as MapNames, Protections, RemapFlags as RemapNames, SyncFlags as SyncNames};

/// mmap(2)
pub(crate) async fn mmap(
    thread: &Arc<Thread>,
    address: Address,
    length: usize,
    protection: Flags<Protections>,
    flags: Flags<MapNames>,
    file: Descriptor,
    offset: usize,
) -> Result<usize, Failure> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let map_flags = MapFlags::from_bits_retain(flags.0);
    if map_flags.contains(MapFlags::HUGE_TLB) {
        // There is no pool of huge pages: what Linux says when it is empty, or when the file is of another kind.
        let errno = if map_flags.contains(MapFlags::ANONYMOUS) { Errno::ENOMEM } else { Errno::EINVAL };
        return Err(errno.into());
    }
    let backing = if map_flags.contains(MapFlags::ANONYMOUS) {
        Backing::Anonymous
    } else {
        let file = thread.files().get(file.0)?;
        Backing::File { file: file.mapping()?, offset: offset as u64 }
    };
    let request = MapRequest {
        address: address.0,
        length,
        protection: Protection::from_bits_retain(protection.0),
        flags: map_flags,
        backing,
    };
    Ok(thread.killable(thread.space().mmap(request)).await??)
}

/// munmap(2)
pub(crate) async fn munmap(thread: &Arc<Thread>, address: Address, length: usize) -> Result<(), Failure> {
    Ok(thread.space().unmap(address.0, length).await?)
}

/// mprotect(2)
pub(crate) async fn mprotect(
    thread: &Arc<Thread>,
    address: Address,
    length: usize,
    protection: Flags<Protections>,
) -> Result<(), Failure> {
    Ok(thread.space().protect(address.0, length, Protection::from_bits_retain(protection.0)).await?)
}

/// brk(2), as the kernel has it: returns where the heap now ends, whether that changed or not.
pub(crate) async fn brk(thread: &Arc<Thread>, end: Address) -> Result<usize, Failure> {
    Ok(thread.space().set_break(end.0).await)
}

/// mremap(2)
pub(crate) async fn mremap(
    thread: &Arc<Thread>,
    address: Address,
    old_length: usize,
    new_length: usize,
    flags: Flags<RemapNames>,
    new_address: Address,
) -> Result<usize, Failure> {
    let flags = RemapFlags::from_bits_retain(flags.0);
    Ok(thread.space().remap(address.0, old_length, new_length, flags, new_address.0).await?)
}

/// madvise(2)
pub(crate) async fn madvise(thread: &Arc<Thread>, address: Address, length: usize, advice: i32) -> Result<(), Failure> {
    let advice = u32::try_from(advice).map_err(|_| Errno::EINVAL)?;
    Ok(thread.killable(thread.space().advise(address.0, length, advice)).await??)
}

/// msync(2)
pub(crate) async fn msync(
    thread: &Arc<Thread>,
    address: Address,
    length: usize,
    flags: Flags<SyncNames>,
) -> Result<(), Failure> {
    let flags = SyncFlags::from_bits_retain(flags.0);
    Ok(thread.space().synchronize(address.0, length, flags).await?)
}

/// mincore(2): one byte a page, its lowest bit set if the page is in memory.
pub(crate) async fn mincore(
    thread: &Arc<Thread>,
    address: Address,
    length: usize,
    vector: Address,
) -> Result<(), Failure> {
    if !address.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let fits = address.0 <= USER_TOP && length <= USER_TOP - address.0;
    if !fits {
        return Err(Errno::ENOMEM.into());
    }
    let space = thread.space();
    let pages = length.div_ceil(PAGE_SIZE);
    let mut answer = [0; 256];
    let mut budget = Budget::new();
    for first in (0..pages).step_by(answer.len()) {
        let part = answer.get_mut(..(pages - first).min(256)).unwrap_or_default();
        space.residency(address.0 + first * PAGE_SIZE, part)?;
        space.copy_out(vector.0.wrapping_add(first), part).await?;
        budget.pace(part.len()).await;
    }
    Ok(())
}

/// mlock(2)
pub(crate) async fn mlock(thread: &Arc<Thread>, address: Address, length: usize) -> Result<(), Failure> {
    Ok(thread.killable(thread.space().lock(address.0, length, false)).await??)
}

/// mlock2(2)
pub(crate) async fn mlock2(thread: &Arc<Thread>, address: Address, length: usize, flags: u32) -> Result<(), Failure> {
    if flags & !raw::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(thread.killable(thread.space().lock(address.0, length, flags != 0)).await??)
}

/// munlock(2)
pub(crate) async fn munlock(thread: &Arc<Thread>, address: Address, length: usize) -> Result<(), Failure> {
    Ok(thread.space().unlock(address.0, length).await?)
}

/// mlockall(2)
pub(crate) async fn mlockall(thread: &Arc<Thread>, flags: Flags<LockFlags>) -> Result<(), Failure> {
    let flags = LockAllFlags::from_bits(flags.0).ok_or(Errno::EINVAL)?;
    if flags.is_empty() || flags == LockAllFlags::ON_FAULT {
        return Err(Errno::EINVAL.into());
    }
    Ok(thread.killable(thread.space().lock_all(flags)).await??)
}

/// munlockall(2)
pub(crate) async fn munlockall(thread: &Arc<Thread>) -> Result<(), Failure> {
    thread.space().unlock_all().await;
    Ok(())
}
