//! mremap(2): grow, shrink or move a mapping.

use alloc::boxed::Box;
use core::ops::Range;

use abi::Errno;
use abi::memory::RemapFlags;
use machine::memory::{MmuGather, PAGE_SIZE, USER_TOP};

use sync::Budget;

use crate::address_space::{AddressSpace, Layout, SLICE};
use crate::area::{Area, AreaFlags, Backing};
use crate::exclusion::Exclusion;
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
        let plan = |layout: &mut Layout, gather: &mut MmuGather<'_>, source: Range<usize>| match fixed || keep {
            true => self.plan_move(layout, gather, source, new_length, flags, new),
            false => self.plan_growth(layout, &source, new_length, may_move),
        };
        let large = source.len().max(if fixed { new_length } else { 0 }) > SLICE * PAGE_SIZE;
        let place = if large {
            let target = fixed.then_some(new..new.saturating_add(new_length));
            Box::pin(self.move_slowly(source, new_length, target, plan)).await?
        } else {
            self.change(|layout, gather| {
                let plan = plan(layout, gather, source)?;
                self.move_now(layout, gather, plan)
            })
            .await?
        };
        if fixed || keep {
            return Ok(place);
        }
        let locked = self.layout().areas.containing(place).is_some_and(|area| area.flags.contains(AreaFlags::LOCKED));
        if locked {
            let _ = self.populate(place + old_length..place + new_length, &mut Budget::new()).await;
        }
        Ok(place)
    }

    /// Follows a plan at once.
    fn move_now(&self, layout: &mut Layout, gather: &mut MmuGather<'_>, plan: Plan) -> Result<usize, Errno> {
        let Plan::Move(moving) = plan else { return Ok(plan.place()) };
        layout.recent.forget(&moving.source);
        let moved = moving.source.is_empty() || gather.move_range(moving.source.clone(), moving.target.start).is_ok();
        moving.finish(layout, gather, moved)
    }

    /// Makes a plan and follows it in slices, during which others run, but nobody changes this space or faults where pages go from or to.
    /// What a fixed target replaces goes first, and what a smaller mapping lets go of.
    async fn move_slowly(
        &self,
        mut source: Range<usize>,
        new_length: usize,
        target: Option<Range<usize>>,
        plan: impl FnOnce(&mut Layout, &mut MmuGather<'_>, Range<usize>) -> Result<Plan, Errno>,
    ) -> Result<usize, Errno> {
        let excluding = self.exclude(Exclusion::CHANGES).await;
        let mut budget = Budget::new();
        if let Some(target) = target {
            excluding.step(|layout, _| {
                self.check_resize(layout, &source, new_length)?;
                fixed_address(target.start, new_length)?;
                layout.exclude(Exclusion::faults_in_both(&source, &target));
                Ok(())
            })?;
            let tail = source.start.saturating_add(new_length).min(source.end)..source.end;
            source.end = tail.start;
            for mut gone in [target, tail] {
                while let Some(next) =
                    excluding.step(|layout, gather| layout.unmap_slice(gather, gone.clone(), SLICE))?
                {
                    gone.start = next;
                    budget.pace(SLICE).await;
                }
            }
        }
        let plan = excluding.step(|layout, gather| {
            let plan = plan(layout, gather, source)?;
            if let Plan::Move(moving) = &plan {
                layout.exclude(Exclusion::faults_in_both(&moving.source, &moving.target));
            }
            Ok(plan)
        })?;
        let Plan::Move(moving) = plan else { return Ok(plan.place()) };
        let mut rest = moving.source.clone();
        let mut moved = true;
        while let Some(part) = self.next_slice(&rest) {
            let to = moving.target.start + (part.start - moving.source.start);
            moved = self.space().gather().move_range(part.clone(), to).is_ok();
            if !moved {
                break;
            }
            rest.start = part.end;
            budget.pace(SLICE).await;
        }
        if !moved {
            // Everything goes back. There is memory for the tables: as many have been freed, and who takes them meanwhile gives
            // them back some time.
            let mut rest = moving.arrived(rest.start);
            while let Some(part) = self.next_slice(&rest) {
                let to = moving.source.start + (part.start - moving.target.start);
                if self.space().gather().move_range(part.clone(), to).is_ok() {
                    rest.start = part.end;
                }
                budget.pace(SLICE).await;
            }
        }
        excluding.step(|layout, gather| moving.finish(layout, gather, moved))
    }

    /// Plans a move to a place that is asked for, or of a mapping that is kept.
    fn plan_move(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        mut source: Range<usize>,
        new_length: usize,
        flags: RemapFlags,
        new: usize,
    ) -> Result<Plan, Errno> {
        let fixed = flags.contains(RemapFlags::FIXED);
        if layout.areas.len() + 2 >= MAXIMUM_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        let area = self.check_resize(layout, &source, new_length)?;
        if fixed {
            fixed_address(new, new_length)?;
            layout.unmap_now(gather, new..new + new_length)?;
            // An empty source may have lain in the target.
            layout.areas.containing(source.start).ok_or(Errno::EFAULT)?;
        }
        if source.len() > new_length {
            layout.unmap_now(gather, source.start + new_length..source.end)?;
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
        Moving::begin(layout, &area, source, target..target + new_length, keep)
    }

    /// Grows a mapping where it is, or plans a move to where there is room.
    fn plan_growth(
        &self,
        layout: &mut Layout,
        source: &Range<usize>,
        new_length: usize,
        may_move: bool,
    ) -> Result<Plan, Errno> {
        let area = self.check_resize(layout, source, new_length)?;
        let end = source.start.checked_add(new_length).filter(|end| *end <= USER_TOP);
        if source.end == area.range.end
            && let Some(end) = end
            && !layout.areas.overlaps(&(source.end..end))
            && layout.areas.modify(area.range.start, |area| area.range.end = end)
        {
            layout.merge(area.range.start..end);
            return Ok(Plan::There(source.start));
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let target = layout.find_space(0, new_length, &self.placement, false)?;
        Moving::begin(layout, &area, source.clone(), target..target + new_length, false)
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
}

/// What is to be done for mremap(2).
enum Plan {
    /// The mapping is there already, at this address.
    There(usize),
    /// Its pages are to be moved.
    Move(Moving),
}

impl Plan {
    fn place(&self) -> usize {
        match self {
            Plan::There(place) => *place,
            Plan::Move(moving) => moving.target.start,
        }
    }
}

/// A move that has begun: the area at `target` is there, and its pages are to come. `keep`: the old area stays, without pages.
struct Moving {
    source: Range<usize>,
    target: Range<usize>,
    keep: bool,
}

impl Moving {
    /// What has arrived at the target when all before `rest` has left the source.
    fn arrived(&self, rest: usize) -> Range<usize> {
        self.target.start..self.target.start + (rest - self.source.start)
    }

    /// Makes the area at `target`.
    fn begin(
        layout: &mut Layout,
        area: &Area,
        source: Range<usize>,
        target: Range<usize>,
        keep: bool,
    ) -> Result<Plan, Errno> {
        if layout.areas.len() >= MAXIMUM_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        // Splitting may run out of memory, so it comes before anything moves.
        layout.areas.split(source.start)?;
        layout.areas.split(source.end)?;
        let mut moving = Area { range: target.clone(), backing: area.backing_from(source.start), ..area.clone() };
        if area.written.get() && matches!(area.backing, Backing::Anonymous) {
            moving.moved = area.moved.wrapping_add(source.start).wrapping_sub(target.start);
        }
        layout.areas.insert(moving)?;
        Ok(Plan::Move(Moving { source, target, keep }))
    }

    /// The pages have `moved`, or all are where they were: then nothing has happened.
    fn finish(self, layout: &mut Layout, gather: &mut MmuGather<'_>, moved: bool) -> Result<usize, Errno> {
        if !moved {
            layout.unmap_now(gather, self.target)?;
            return Err(Errno::ENOMEM);
        }
        if !self.keep && !self.source.is_empty() {
            let (areas, released) = (&mut layout.areas, &mut layout.released);
            areas.remove_within(self.source.clone(), |area| Layout::release(released, area));
        }
        if layout.vdso == Some(self.source.start) {
            layout.vdso = Some(self.target.start);
        }
        layout.merge(self.source);
        layout.merge(self.target.clone());
        Ok(self.target.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_move_that_fails_what_has_arrived_goes_back() {
        let moving = Moving { source: 0x10_0000..0x40_0000, target: 0x800_0000..0x830_0000, keep: false };
        assert_eq!(moving.arrived(0x10_0000), 0x800_0000..0x800_0000);
        assert_eq!(moving.arrived(0x13_0000), 0x800_0000..0x803_0000);
    }
}
