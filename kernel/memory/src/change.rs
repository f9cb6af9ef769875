//! mprotect(2): other rights for what is mapped.

use core::ops::Range;

use abi::Errno;
use abi::memory::Protection;
use machine::memory::{Access, USER_TOP};

use crate::address_space::{AddressSpace, Layout};
use crate::area::{Area, AreaFlags, Backing, access_of, effective};
use crate::map::{MAXIMUM_AREAS, is_aligned, page_align};

impl AddressSpace {
    /// Changes the rights of whole pages. `EINVAL`, `ENOMEM` at the first page that isn't mapped, `EACCES` at the first
    /// area that may not have the rights; what lies before is changed then, as on Linux.
    pub fn protect(&self, address: usize, length: usize, protection: Protection) -> Result<(), Errno> {
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
        self.change(|layout| {
            let first = layout.areas.first_ending_above(address).ok_or(Errno::ENOMEM)?;
            let mut start = address;
            if grows == Protection::GROWS_DOWN {
                if first.range.start >= end {
                    return Err(Errno::ENOMEM);
                }
                if !first.flags.contains(AreaFlags::GROWS_DOWN) {
                    return Err(Errno::EINVAL);
                }
                start = first.range.start;
            } else if first.range.start > address {
                return Err(Errno::ENOMEM);
            } else if grows == Protection::GROWS_UP {
                return Err(Errno::EINVAL);
            }
            let result = self.protect_areas(layout, start..end, access_of(protection));
            layout.merge(start..end.min(USER_TOP));
            result
        })
    }

    fn protect_areas(&self, layout: &mut Layout, range: Range<usize>, access: Access) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let Some(area) = layout.areas.containing(at) else { return Err(Errno::ENOMEM) };
            let part = at..area.range.end.min(range.end);
            at = part.end;
            if area.access != access {
                self.protect_part(layout, part, access)?;
            }
        }
        Ok(())
    }

    /// Changes one area or a part of it.
    fn protect_part(&self, layout: &mut Layout, part: Range<usize>, access: Access) -> Result<(), Errno> {
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
        let shared = area.is_shared();
        let anonymous = matches!(area.backing, Backing::Anonymous);
        let pages = part.len() / crate::PAGE_SIZE;
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
        let position = layout.areas.position(part.start).ok_or(Errno::ENOMEM)?;
        layout.areas.modify(position, |area| {
            area.access = access;
            if charge {
                area.flags |= AreaFlags::ACCOUNTED;
            } else if anonymous && !access.contains(Access::WRITE) && !area.flags.contains(AreaFlags::WRITTEN) {
                // Never written, and it can't be now: nothing is promised any more.
                area.flags -= AreaFlags::ACCOUNTED;
            }
        });
        let rights = effective(access);
        // What isn't the program's own stays read-only by being copy-on-write; a file is told when a shared page is written.
        self.space().protect(part, if shared { rights - Access::WRITE } else { rights });
        Ok(())
    }
}
