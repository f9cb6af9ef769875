//! mlock(2), mlock2(2), mlockall(2) and their opposites: pages that stay.

use core::ops::Range;

use abi::Errno;
use abi::memory::LockAllFlags;
use machine::memory::PAGE_SIZE;
use sync::Budget;

use crate::address_space::{AREAS, AddressSpace, Layout};
use crate::area::AreaFlags;
use crate::fault::MemoryFault;
use crate::map::page_align;

impl AddressSpace {
    /// mlock(2), and mlock2(2) with `on_fault`. `EPERM`, `ENOMEM` (limit, holes).
    pub async fn lock(&self, address: usize, length: usize, on_fault: bool) -> Result<(), Errno> {
        let range = lock_range(address, length)?;
        self.change(|layout, _| {
            if layout.limits.locked == 0 {
                return Err(Errno::EPERM);
            }
            let parts = layout.areas.ascending(range.start).take_while(|area| area.range.start < range.end);
            let already: usize = parts
                .filter(|area| area.flags.contains(AreaFlags::LOCKED))
                .map(|area| area.range.end.min(range.end) - area.range.start.max(range.start))
                .sum();
            let more = range.len().saturating_sub(already) / PAGE_SIZE;
            if (layout.areas.totals().locked + more) as u64 > layout.limits.locked / PAGE_SIZE as u64 {
                return Err(Errno::ENOMEM);
            }
            Ok(())
        })
        .await?;
        let mut budget = Budget::new();
        self.change_lock(range.clone(), true, &mut budget).await?;
        if on_fault {
            return Ok(());
        }
        self.populate(range, &mut budget).await.map_err(|fault| match fault {
            MemoryFault::OutOfMemory => Errno::EAGAIN,
            _ => Errno::ENOMEM,
        })
    }

    /// munlock(2). `ENOMEM` for holes.
    pub async fn unlock(&self, address: usize, length: usize) -> Result<(), Errno> {
        self.change_lock(lock_range(address, length)?, false, &mut Budget::new()).await
    }

    /// Locks or unlocks areas, a slice at a time. `ENOMEM` for holes.
    async fn change_lock(&self, range: Range<usize>, lock: bool, budget: &mut Budget) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            at = self.change(|layout, _| layout.change_lock(at..range.end, lock)).await?;
            budget.pace(AREAS).await;
        }
        Ok(())
    }

    /// mlockall(2). `EINVAL`, `EPERM`, `ENOMEM`.
    pub async fn lock_all(&self, flags: LockAllFlags) -> Result<(), Errno> {
        if flags.is_empty() || !LockAllFlags::all().contains(flags) || flags == LockAllFlags::ON_FAULT {
            return Err(Errno::EINVAL);
        }
        self.change(|layout, _| {
            if layout.limits.locked == 0 {
                return Err(Errno::EPERM);
            }
            let current = flags.contains(LockAllFlags::CURRENT);
            if current && layout.areas.totals().all as u64 > layout.limits.locked / PAGE_SIZE as u64 {
                return Err(Errno::ENOMEM);
            }
            layout.future_flags.set(AreaFlags::LOCKED, flags.contains(LockAllFlags::FUTURE));
            Ok(())
        })
        .await?;
        if flags.contains(LockAllFlags::CURRENT) {
            self.change_all_locks(true).await?;
        }
        if flags.contains(LockAllFlags::CURRENT) && !flags.contains(LockAllFlags::ON_FAULT) {
            let mut at = 0;
            let mut budget = Budget::new();
            while let Some(range) = self.area_range_above(at) {
                at = range.end;
                let _ = self.populate(range, &mut budget).await;
                budget.pace(1).await;
            }
        }
        Ok(())
    }

    /// munlockall(2).
    pub async fn unlock_all(&self) {
        self.change(|layout, _| layout.future_flags = AreaFlags::empty()).await;
        // Whole areas change, so nothing is split and nothing can fail.
        let _ = self.change_all_locks(false).await;
    }

    async fn change_all_locks(&self, lock: bool) -> Result<(), Errno> {
        let mut at = 0;
        let mut budget = Budget::new();
        while let Some(range) = self.area_range_above(at) {
            at = range.end;
            match self.change_lock(range, lock, &mut budget).await {
                // Somebody has taken it out meanwhile.
                Err(Errno::ENOMEM) if self.layout().areas.containing(at - 1).is_none() => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn area_range_above(&self, address: usize) -> Option<Range<usize>> {
        self.layout().areas.first_ending_above(address).map(|area| area.range.clone())
    }
}

impl Layout {
    /// Locks or unlocks areas of `range`, a slice of them. Returns how far it came.
    fn change_lock(&mut self, range: Range<usize>, lock: bool) -> Result<usize, Errno> {
        let mut at = range.start;
        let mut result = Ok(());
        for _ in 0..AREAS {
            if at >= range.end || result.is_err() {
                break;
            }
            let Some(area) = self.areas.containing(at) else {
                result = Err(Errno::ENOMEM);
                break;
            };
            let mut flags = area.flags;
            flags.set(AreaFlags::LOCKED, lock && !flags.contains(AreaFlags::SPECIAL));
            let part = at..area.range.end.min(range.end);
            at = part.end;
            result = self.set_flags(part, flags);
        }
        self.merge(range.start..at);
        result.map(|()| at)
    }
}

/// The pages an mlock call names.
fn lock_range(address: usize, length: usize) -> Result<Range<usize>, Errno> {
    let start = address & !(PAGE_SIZE - 1);
    // Lengths wrap around as on Linux: one near the end of all addresses names nothing.
    let length = length.wrapping_add(address - start);
    let end = start.checked_add(page_align(length)).ok_or(Errno::EINVAL)?;
    Ok(start..end)
}
