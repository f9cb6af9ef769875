//! brk(2): the end of the heap.

use abi::Errno;
use machine::memory::{Access, MmuGather, PAGE_SIZE, USER_TOP};
use sync::Budget;

use crate::address_space::{AddressSpace, Layout, SLICE};
use crate::area::{Area, AreaFlags, Backing, Written};
use crate::exclusion::Exclusion;
use crate::map::{MAXIMUM_AREAS, page_align};

impl AddressSpace {
    /// Where the heap of a new program starts: a random gap above `end_of_program`.
    pub fn set_initial_break(&self, end_of_program: usize) {
        let start = page_align(end_of_program).saturating_add(self.placement.heap_gap);
        let mut layout = self.layout();
        layout.break_start = start;
        layout.break_end = start;
    }

    /// Moves the end of the heap, and returns where it is now: unchanged if the wish can't be met. Nobody else moves it, or
    /// takes the place it leaves, until it is done.
    pub async fn set_break(&self, wish: usize) -> usize {
        let excluding = self.exclude(Exclusion::CHANGES).await;
        let (mut at, end) = match excluding.step(|layout, gather| self.move_break(layout, gather, wish)) {
            Moved::No(old) => return old,
            Moved::Whole => return wish,
            Moved::LeavesBehind(at, end) => (at, end),
        };
        let mut budget = Budget::new();
        // The borders are split already: what is left can't fail.
        while let Ok(Some(next)) = excluding.step(|layout, gather| layout.unmap_slice(gather, at..end, SLICE)) {
            at = next;
            budget.pace(SLICE).await;
        }
        wish
    }

    fn move_break(&self, layout: &mut Layout, gather: &mut MmuGather<'_>, wish: usize) -> Moved {
        let (old, start) = (layout.break_end, layout.break_start);
        let (old_end, new_end) = (page_align(old), page_align(wish));
        if wish < start || wish >= USER_TOP {
            return Moved::No(old);
        }
        let left = if new_end < old_end {
            layout.unmap_slice(gather, new_end..old_end, SLICE)
        } else {
            self.grow_heap(layout, old_end, new_end, wish).map(|()| None)
        };
        let Ok(left) = left else { return Moved::No(old) };
        layout.break_end = wish;
        left.map_or(Moved::Whole, |at| Moved::LeavesBehind(at, old_end))
    }

    fn grow_heap(&self, layout: &mut Layout, old_end: usize, new_end: usize, wish: usize) -> Result<(), Errno> {
        // What the data segment took already counts against RLIMIT_DATA too (`check_data_rlimit`).
        let data = layout.program.data.len() + (wish - layout.break_start);
        if data as u64 > layout.limits.data {
            return Err(Errno::ENOMEM);
        }
        if new_end == old_end {
            return Ok(());
        }
        let next = layout.areas.first_ending_above(old_end);
        if next.is_some_and(|next| new_end + PAGE_SIZE > next.start_with_gap()) {
            return Err(Errno::ENOMEM);
        }
        if layout.areas.len() >= MAXIMUM_AREAS {
            return Err(Errno::ENOMEM);
        }
        let flags = AreaFlags::MAY_READ | AreaFlags::MAY_WRITE | AreaFlags::MAY_EXECUTE | AreaFlags::ACCOUNTED;
        let area = Area {
            range: old_end..new_end,
            access: Access::READ | Access::WRITE,
            flags: flags | layout.future_flags,
            written: Written::default(),
            backing: Backing::Anonymous,
            moved: 0,
        };
        layout.check_growth(&area, area.pages())?;
        self.memory().may_commit(area.pages())?;
        layout.add(area)
    }
}

/// What became of a wish.
enum Moved {
    /// It can't be met; the end is here.
    No(usize),
    /// It is met.
    Whole,
    /// It is met, and what lies between these addresses has still to go.
    LeavesBehind(usize, usize),
}
