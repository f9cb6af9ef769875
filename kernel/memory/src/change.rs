//! mprotect(2): other rights for what is mapped.

use core::ops::Range;

use abi::Errno;
use abi::memory::Protection;
use machine::memory::{Access, MmuGather, PAGE_SIZE, USER_TOP};
use sync::Budget;

use crate::address_space::{AREAS, AddressSpace, Layout, SLICE};
use crate::area::{Area, AreaFlags, Backing, access_of, effective};
use crate::exclusion::Exclusion;
use crate::map::{MAXIMUM_AREAS, is_aligned, page_align};

impl AddressSpace {
    /// Changes the rights of whole pages. `EINVAL`, `ENOMEM` at the first page that isn't mapped, `EACCES` at the first
    /// area that may not have the rights; what lies before is changed then, as on Linux. Dropped, it would leave areas and
    /// pages that disagree: it is not to be given up.
    pub async fn protect(&self, address: usize, length: usize, protection: Protection) -> Result<(), Errno> {
        let grows = protection & (Protection::GROWS_DOWN | Protection::GROWS_UP);
        let protection = protection - grows;
        if grows == Protection::GROWS_DOWN | Protection::GROWS_UP || !is_aligned(address) {
            return Err(Errno::EINVAL);
        }
        if length == 0 {
            return Ok(());
        }
        let end = address.checked_add(page_align(length)).filter(|end| *end > address).ok_or(Errno::ENOMEM)?;
        if !Protection::all().contains(protection) {
            return Err(Errno::EINVAL);
        }
        if end - address <= SLICE * PAGE_SIZE {
            return self
                .change(|layout, gather| {
                    let start = begin(layout, address, end, grows)?;
                    self.protect_areas(layout, gather, &(start..end), access_of(protection), usize::MAX).1
                })
                .await;
        }
        // Nobody may copy the space while its pages allow more, or less, than its areas.
        let excluding = self.exclude(Exclusion::CHANGES).await;
        let mut at = excluding.step(|layout, _| begin(layout, address, end, grows))?;
        let mut budget = Budget::new();
        while at < end {
            let rest = at..end;
            let (reached, result) = excluding
                .step(|layout, gather| self.protect_areas(layout, gather, &rest, access_of(protection), AREAS));
            let mut pages = at..reached;
            while let Some(next) = excluding.step(|layout, gather| self.protect_some_pages(layout, gather, &pages)) {
                pages.start = next;
                budget.pace(SLICE).await;
            }
            result?;
            at = reached;
        }
        Ok(())
    }

    /// Changes at most so many areas of `range`. Returns how far it came.
    fn protect_areas(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        range: &Range<usize>,
        access: Access,
        areas: usize,
    ) -> (usize, Result<(), Errno>) {
        let mut at = range.start;
        let mut result = Ok(());
        for _ in 0..areas {
            if at >= range.end {
                break;
            }
            let Some(area) = layout.areas.containing(at) else {
                result = Err(Errno::ENOMEM);
                break;
            };
            let part = at..area.range.end.min(range.end);
            if area.access != access {
                result = self.protect_part(layout, gather, part.clone(), access);
                if result.is_err() {
                    break;
                }
            }
            at = part.end;
        }
        layout.merge(range.start..at.min(USER_TOP));
        (at, result)
    }

    /// Gives a slice of the pages of `range` the rights of their areas. Returns where to go on.
    fn protect_some_pages(&self, layout: &Layout, gather: &mut MmuGather<'_>, range: &Range<usize>) -> Option<usize> {
        if range.is_empty() {
            return None;
        }
        let area = layout.areas.first_ending_above(range.start).filter(|area| area.range.start < range.end)?;
        let within = area.range.start.max(range.start)..area.range.end.min(range.end);
        let Some(part) = self.next_slice(&within) else { return Some(within.end) };
        gather.protect(part.clone(), page_rights(area));
        Some(part.end)
    }

    /// Changes one area or a part of it, with its pages if they are few.
    fn protect_part(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        part: Range<usize>,
        access: Access,
    ) -> Result<(), Errno> {
        let area = layout.areas.containing(part.start).ok_or(Errno::ENOMEM)?;
        let may = [
            (Access::READ, AreaFlags::MAY_READ),
            (Access::WRITE, AreaFlags::MAY_WRITE),
            (Access::EXECUTE, AreaFlags::MAY_EXECUTE),
        ];
        if may.iter().any(|(right, flag)| access.contains(*right) && !area.flags.contains(*flag)) {
            return Err(Errno::EACCES);
        }
        let splits = usize::from(area.range.start < part.start) + usize::from(part.end < area.range.end);
        if layout.areas.len() + splits > MAXIMUM_AREAS {
            return Err(Errno::ENOMEM);
        }
        let charge = access.contains(Access::WRITE)
            && !area.flags.intersects(AreaFlags::ACCOUNTED | AreaFlags::SHARED | AreaFlags::NO_RESERVE);
        let anonymous = matches!(area.backing, Backing::Anonymous);
        let pages = part.len() / PAGE_SIZE;
        if access.contains(Access::WRITE) && !area.access.contains(Access::WRITE) {
            // No page is added to the space, only to its data.
            let data = Area { access, range: part.clone(), ..area.clone() };
            let room = layout.limits.address_space;
            layout.limits.address_space = u64::MAX;
            let checked = layout.check_growth(&data, pages);
            layout.limits.address_space = room;
            checked?;
        }
        if charge {
            self.memory().may_commit(pages)?;
        }
        layout.areas.split(part.start)?;
        layout.areas.split(part.end)?;
        layout.recent.forget(&part);
        layout.areas.modify(part.start, |area| {
            area.access = access;
            if charge {
                area.flags |= AreaFlags::ACCOUNTED;
            } else if anonymous && !access.contains(Access::WRITE) && !area.written.get() {
                // Never written, and it can't be now: nothing is promised any more.
                area.flags -= AreaFlags::ACCOUNTED;
            }
        });
        if part.len() <= SLICE * PAGE_SIZE
            && let Some(area) = layout.areas.containing(part.start)
        {
            gather.protect(part, page_rights(area));
        }
        Ok(())
    }
}

/// What the pages of an area allow. What isn't the program's own stays read-only by being copy-on-write; a file is told when a
/// shared page is written.
fn page_rights(area: &Area) -> Access {
    let rights = effective(area.access);
    if area.is_shared() { rights - Access::WRITE } else { rights }
}

/// Where a change of rights begins.
fn begin(layout: &Layout, address: usize, end: usize, grows: Protection) -> Result<usize, Errno> {
    let first = layout.areas.first_ending_above(address).ok_or(Errno::ENOMEM)?;
    if grows == Protection::GROWS_DOWN {
        if first.range.start >= end {
            return Err(Errno::ENOMEM);
        }
        if !first.flags.contains(AreaFlags::GROWS_DOWN) {
            return Err(Errno::EINVAL);
        }
        return Ok(first.range.start);
    }
    if first.range.start > address {
        return Err(Errno::ENOMEM);
    }
    if grows == Protection::GROWS_UP { Err(Errno::EINVAL) } else { Ok(address) }
}
