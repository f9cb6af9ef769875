//! madvise(2), msync(2), mincore(2) and mlock(2): what programs say and ask about their pages.

use alloc::sync::Arc;
use core::ops::Range;

use abi::Errno;
use abi::fallible::try_collect;
use abi::memory::{LockAllFlags, SyncFlags};
use abi::raw::general as raw;
use machine::memory::{Access, MmuGather, PAGE_SIZE, USER_TOP};
use sync::Budget;

use crate::address_space::{AREAS, AddressSpace, Layout, SLICE};
use crate::area::{Area, AreaFlags, Backing};
use crate::fault::MemoryFault;
use crate::map::{MAXIMUM_AREAS, is_aligned, page_align};
use crate::pager::{MappedFile, PagerError};

impl AddressSpace {
    /// madvise(2). Advice about pages that aren't mapped is `ENOMEM`, after it was followed for the others. `EINVAL` for
    /// advice Linux doesn't know, or only when built with huge pages or page merging.
    pub async fn advise(&self, address: usize, length: usize, advice: u32) -> Result<(), Errno> {
        let advice = Advice::try_from(advice)?;
        let aligned = page_align(length);
        if !is_aligned(address) || (length != 0 && aligned == 0) {
            return Err(Errno::EINVAL);
        }
        let end = address.checked_add(aligned).ok_or(Errno::EINVAL)?;
        if end == address {
            return Ok(());
        }
        let range = address..end.min(USER_TOP).max(address);
        match advice {
            Advice::Populate(access) => self.populate_strictly(range, access).await,
            _ => self.advise_areas(range.start..end, advice).await,
        }
    }

    async fn advise_areas(&self, range: Range<usize>, advice: Advice) -> Result<(), Errno> {
        let mut budget = Budget::new();
        let mut hole = false;
        let mut at = range.start;
        let mut result = Ok(());
        while at < range.end && result.is_ok() {
            let rest = at..range.end;
            (at, result) =
                self.change(|layout, gather| self.advise_some(layout, gather, rest, advice, &mut hole)).await;
            budget.pace(SLICE).await;
        }
        if hole { result.and(Err(Errno::ENOMEM)) } else { result }
    }

    /// Advises a slice of `range`. Returns how far it came, and tells of holes.
    fn advise_some(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        range: Range<usize>,
        advice: Advice,
        hole: &mut bool,
    ) -> (usize, Result<(), Errno>) {
        let mut at = range.start;
        let mut result = Ok(());
        for _ in 0..AREAS {
            let Some(area) = layout.areas.first_ending_above(at).filter(|area| area.range.start < range.end) else {
                *hole |= at < range.end;
                at = range.end;
                break;
            };
            *hole |= area.range.start > at;
            let part = area.range.start.max(at)..area.range.end.min(range.end);
            match self.advise_part(layout, gather, part.clone(), advice) {
                Ok(None) => at = part.end,
                Ok(Some(next)) => {
                    at = next;
                    break;
                }
                Err(errno) => {
                    at = part.end;
                    result = Err(errno);
                    break;
                }
            }
        }
        layout.merge(range.start..at);
        (at, result)
    }

    /// Advises a part of an area. Returns where to go on if it is a slice's work or more.
    fn advise_part(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        part: Range<usize>,
        advice: Advice,
    ) -> Result<Option<usize>, Errno> {
        let area = layout.areas.containing(part.start).ok_or(Errno::ENOMEM)?;
        let locked = area.flags.contains(AreaFlags::LOCKED);
        let private_anonymous = matches!(area.backing, Backing::Anonymous);
        match advice {
            Advice::Flags { set, clear } => {
                if set == AreaFlags::WIPE_ON_FORK && !private_anonymous {
                    return Err(Errno::EINVAL);
                }
                let flags = (area.flags - clear) | set;
                layout.set_flags(part, flags)?;
            }
            Advice::Hint => {}
            Advice::Reclaim if locked => return Err(Errno::EINVAL),
            Advice::Reclaim => {}
            Advice::Drop { anonymous_only } => {
                if locked || (anonymous_only && !private_anonymous) {
                    return Err(Errno::EINVAL);
                }
                layout.note_resident(self.space().resident());
                layout.recent.forget(&part);
                return Ok(gather.unmap_some(part, SLICE));
            }
            // Handled by the caller.
            Advice::Populate(_) => {}
        }
        Ok(None)
    }

    /// `MADV_POPULATE_READ` and `_WRITE`: unlike `MAP_POPULATE`, failure is told.
    async fn populate_strictly(&self, range: Range<usize>, access: Access) -> Result<(), Errno> {
        let mut budget = Budget::new();
        for page in range.step_by(PAGE_SIZE) {
            match self.layout().areas.containing(page) {
                Some(area) if area.access.contains(access) => {}
                Some(_) => return Err(Errno::EINVAL),
                None => return Err(Errno::ENOMEM), // not the place to grow a stack
            }
            match self.fault(page, access).await {
                Ok(_) => {}
                Err(MemoryFault::NotMapped | MemoryFault::OutOfMemory) => return Err(Errno::ENOMEM),
                Err(MemoryFault::NotPermitted) => return Err(Errno::EINVAL),
                Err(MemoryFault::Bus | MemoryFault::Wait(_) | MemoryFault::Busy) => return Err(Errno::EFAULT),
            }
            budget.pace(1).await;
        }
        Ok(())
    }

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

/// The file an area shows, and which of its pages lie in `range`.
fn shown_part(area: &Area, range: &Range<usize>) -> Option<(Arc<MappedFile>, Range<u64>)> {
    let (start, end) = (area.range.start.max(range.start), area.range.end.min(range.end));
    let (file, first) = area.file_page(start)?;
    Some((file.clone(), first..first + ((end - start) / PAGE_SIZE) as u64))
}

/// The pages an mlock call names.
fn lock_range(address: usize, length: usize) -> Result<Range<usize>, Errno> {
    let start = address & !(PAGE_SIZE - 1);
    // Lengths wrap around as on Linux: one near the end of all addresses names nothing.
    let length = length.wrapping_add(address - start);
    let end = start.checked_add(page_align(length)).ok_or(Errno::EINVAL)?;
    Ok(start..end)
}

impl Layout {
    /// Gives the part of one area that `part` is other flags.
    fn set_flags(&mut self, part: Range<usize>, flags: AreaFlags) -> Result<(), Errno> {
        let unchanged = |area: &Area| area.flags == flags;
        if self.areas.containing(part.start).is_some_and(unchanged) {
            return Ok(());
        }
        if self.areas.len() + 2 > MAXIMUM_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.areas.split(part.start)?;
        self.areas.split(part.end)?;
        self.areas.modify(part.start, |area| area.flags = flags);
        Ok(())
    }

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

/// What madvise(2) can be told.
#[derive(Clone, Copy)]
enum Advice {
    /// Remembered with the area.
    Flags { set: AreaFlags, clear: AreaFlags },
    /// About reading ahead from disks; nothing to do for files in RAM.
    Hint,
    /// About swapping out; pages of a locked area refuse.
    Reclaim,
    /// The pages are not needed any more.
    Drop { anonymous_only: bool },
    /// Bring the pages in.
    Populate(Access),
}

impl TryFrom<u32> for Advice {
    type Error = Errno;

    fn try_from(advice: u32) -> Result<Advice, Errno> {
        let read_ahead = AreaFlags::SEQUENTIAL | AreaFlags::RANDOM;
        let set = |set| Advice::Flags { set, clear: AreaFlags::empty() };
        let clear = |clear| Advice::Flags { set: AreaFlags::empty(), clear };
        Ok(match advice {
            raw::MADV_NORMAL => clear(read_ahead),
            raw::MADV_SEQUENTIAL => Advice::Flags { set: AreaFlags::SEQUENTIAL, clear: read_ahead },
            raw::MADV_RANDOM => Advice::Flags { set: AreaFlags::RANDOM, clear: read_ahead },
            raw::MADV_WILLNEED => Advice::Hint,
            raw::MADV_DONTNEED | raw::MADV_DONTNEED_LOCKED => Advice::Drop { anonymous_only: false },
            // Freeing at once is allowed: the program must expect zeros at any time.
            raw::MADV_FREE => Advice::Drop { anonymous_only: true },
            raw::MADV_DONTFORK => set(AreaFlags::DONT_FORK),
            raw::MADV_DOFORK => clear(AreaFlags::DONT_FORK),
            raw::MADV_WIPEONFORK => set(AreaFlags::WIPE_ON_FORK),
            raw::MADV_KEEPONFORK => clear(AreaFlags::WIPE_ON_FORK),
            raw::MADV_DONTDUMP => set(AreaFlags::DONT_DUMP),
            raw::MADV_DODUMP => clear(AreaFlags::DONT_DUMP),
            raw::MADV_COLD | raw::MADV_PAGEOUT => Advice::Reclaim,
            raw::MADV_POPULATE_READ => Advice::Populate(Access::READ),
            raw::MADV_POPULATE_WRITE => Advice::Populate(Access::WRITE),
            _ => return Err(Errno::EINVAL),
        })
    }
}
