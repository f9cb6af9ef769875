//! mremap(2): grow, shrink or move a mapping.

use core::ops::Range;

use abi::Errno;
use abi::memory::RemapFlags;
use machine::memory::{PAGE_SIZE, USER_TOP};

use crate::address_space::{AddressSpace, Layout};
use crate::area::{Area, AreaFlags};
use crate::map::{MAXIMUM_AREAS, check_commit, fixed_address, is_aligned, page_align};

/// Whether a mapping of `old_length` at `old` can be moved to `new`: aligned, in user space, not onto itself.
fn is_target(old: usize, old_length: usize, new_length: usize, new: usize) -> bool {
    let inside = new <= USER_TOP - new_length;
    is_aligned(new) && inside && (old.wrapping_add(old_length) <= new || new + new_length <= old)
}

impl AddressSpace {
    /// Changes the size and perhaps the place of a mapping, and returns its place. Errors as mremap(2).
    pub async fn remap(
        &self,
        old: usize,
        old_length: usize,
        new_length: usize,
        flags: RemapFlags,
        new: usize,
    ) -> Result<usize, Errno> {
        let known = RemapFlags::all().contains(flags);
        let may_move = flags.contains(RemapFlags::MAY_MOVE);
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONT_UNMAP);
        let (old_length, new_length) = (page_align(old_length), page_align(new_length));
        if !known || (fixed && !may_move) || (keep && (!may_move || old_length != new_length)) || !is_aligned(old) {
            return Err(Errno::EINVAL);
        }
        if new_length == 0 || new_length > USER_TOP {
            return Err(Errno::EINVAL);
        }
        if (fixed || keep) && !is_target(old, old_length, new_length, new) {
            return Err(Errno::EINVAL);
        }
        if self.layout().areas.containing(old).is_none() {
            return Err(Errno::EFAULT);
        }
        if !fixed && !keep && new_length <= old_length {
            if new_length < old_length {
                self.unmap(old + new_length, old_length - new_length).await?;
            }
            return Ok(old);
        }
        let source = old..old.checked_add(old_length).ok_or(Errno::EFAULT)?;
        if fixed || keep {
            return self.change(|layout| self.move_to(layout, source, new_length, flags, new));
        }
        let place = self.change(|layout| self.grow_or_move(layout, source, new_length, may_move))?;
        let locked = self.layout().areas.containing(place).is_some_and(|area| area.flags.contains(AreaFlags::LOCKED));
        if locked {
            let _ = self.populate(place + old_length..place + new_length).await;
        }
        Ok(place)
    }

    fn move_to(
        &self,
        layout: &mut Layout,
        mut source: Range<usize>,
        new_length: usize,
        flags: RemapFlags,
        new: usize,
    ) -> Result<usize, Errno> {
        let fixed = flags.contains(RemapFlags::FIXED);
        if layout.areas.len() + 2 >= MAXIMUM_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        let area = self.check_resize(layout, &source, new_length)?;
        if fixed {
            fixed_address(new, new_length)?;
            layout.unmap_now(self.space(), new..new + new_length)?;
            // An empty source may have lain in the target.
            layout.areas.containing(source.start).ok_or(Errno::EFAULT)?;
        }
        if source.len() > new_length {
            layout.unmap_now(self.space(), source.start + new_length..source.end)?;
            source.end = source.start + new_length;
        }
        let keep = flags.contains(RemapFlags::DONT_UNMAP);
        if keep && area.flags.contains(AreaFlags::SPECIAL) {
            return Err(Errno::EINVAL);
        }
        if keep {
            layout.check_growth(&area, source.len() / PAGE_SIZE)?;
        }
        let target = if fixed { new } else { layout.find_space(new, new_length, &self.placement, false)? };
        self.move_area(layout, &area, source, target..target + new_length, keep)
    }

    fn grow_or_move(
        &self,
        layout: &mut Layout,
        source: Range<usize>,
        new_length: usize,
        may_move: bool,
    ) -> Result<usize, Errno> {
        let area = self.check_resize(layout, &source, new_length)?;
        let end = source.start.checked_add(new_length).filter(|end| *end <= USER_TOP);
        if source.end == area.range.end
            && let Some(end) = end
            && !layout.areas.overlaps(&(source.end..end))
            && let Some(position) = layout.areas.position(source.start)
        {
            layout.areas.modify(position, |area| area.range.end = end);
            layout.merge(area.range.start..end);
            return Ok(source.start);
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let target = layout.find_space(0, new_length, &self.placement, false)?;
        self.move_area(layout, &area, source, target..target + new_length, false)
    }

    /// Whether the mapping may have its new size (`vma_to_resize`); the area it is in.
    fn check_resize(&self, layout: &Layout, source: &Range<usize>, new_length: usize) -> Result<Area, Errno> {
        let area = layout.areas.containing(source.start).ok_or(Errno::EFAULT)?;
        if source.is_empty() && !area.is_shared() {
            return Err(Errno::EINVAL);
        }
        if source.end > area.range.end {
            return Err(Errno::EFAULT);
        }
        let growth = new_length.saturating_sub(source.len()) / PAGE_SIZE;
        if growth > 0 {
            if area.flags.contains(AreaFlags::SPECIAL) {
                return Err(Errno::EFAULT);
            }
            if let Some((_, first)) = area.file_page(source.start) {
                first.checked_add((new_length / PAGE_SIZE) as u64).ok_or(Errno::EINVAL)?;
            }
            let locked = (layout.areas.totals().locked + growth) as u64;
            if area.flags.contains(AreaFlags::LOCKED) && locked > layout.limits.locked / PAGE_SIZE as u64 {
                return Err(Errno::EAGAIN);
            }
            layout.check_growth(area, growth)?;
            check_commit(self.memory(), area, growth)?;
        }
        Ok(area.clone())
    }

    /// Makes the area at `target` and moves the pages of `source` there. With `keep`, or if `source` is empty, the old area
    /// stays, without pages.
    fn move_area(
        &self,
        layout: &mut Layout,
        area: &Area,
        source: Range<usize>,
        target: Range<usize>,
        keep: bool,
    ) -> Result<usize, Errno> {
        if layout.areas.len() >= MAXIMUM_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        // Splitting may run out of memory, so it comes before anything moves.
        layout.areas.split(source.start)?;
        layout.areas.split(source.end)?;
        let moved = Area { range: target.clone(), backing: area.backing_from(source.start), ..area.clone() };
        layout.areas.insert(moved)?;
        if !source.is_empty() && self.space().move_range(source.clone(), target.start).is_err() {
            // The first part has moved: bring it back. Its page tables are still there, so that can't fail.
            let _ = self.space().move_range(target.start..target.start + source.len(), source.start);
            layout.unmap_now(self.space(), target)?;
            return Err(Errno::ENOMEM);
        }
        if !keep && !source.is_empty() {
            let (areas, released) = (&mut layout.areas, &mut layout.released);
            areas.remove_within(source.clone(), |area| Layout::release(released, area));
        }
        layout.merge(source);
        layout.merge(target.clone());
        Ok(target.start)
    }
}
