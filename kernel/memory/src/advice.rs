//! madvise(2): what programs say about their pages.

use core::ops::Range;

use abi::Errno;
use abi::raw::general as raw;
use machine::memory::{Access, MmuGather, PAGE_SIZE, USER_TOP};
use sync::Budget;

use crate::address_space::{AREAS, AddressSpace, Layout, SLICE};
use crate::area::{Area, AreaFlags, Backing};
use crate::fault::MemoryFault;
use crate::map::{MAXIMUM_AREAS, is_aligned, page_align};

impl AddressSpace {
    /// madvise(2). Advice about pages that aren't mapped is `ENOMEM`, after it was followed for the others. `EINVAL` for
    /// advice Linux doesn't know, or only when built with page merging.
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
                layout.recent.forget(&part);
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
                return Ok(gather.unmap_some(part, SLICE).map(usize::from));
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
}

impl Layout {
    /// Gives the part of one area that `part` is other flags.
    pub(crate) fn set_flags(&mut self, part: Range<usize>, flags: AreaFlags) -> Result<(), Errno> {
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
            raw::MADV_HUGEPAGE => Advice::Flags { set: AreaFlags::HUGE_PAGE, clear: AreaFlags::NO_HUGE_PAGE },
            raw::MADV_NOHUGEPAGE => Advice::Flags { set: AreaFlags::NO_HUGE_PAGE, clear: AreaFlags::HUGE_PAGE },
            raw::MADV_DONTDUMP => set(AreaFlags::DONT_DUMP),
            raw::MADV_DODUMP => clear(AreaFlags::DONT_DUMP),
            raw::MADV_COLD | raw::MADV_PAGEOUT => Advice::Reclaim,
            raw::MADV_POPULATE_READ => Advice::Populate(Access::READ),
            raw::MADV_POPULATE_WRITE => Advice::Populate(Access::WRITE),
            _ => return Err(Errno::EINVAL),
        })
    }
}
