//! brk(2): the end of the heap.

use abi::Errno;
use machine::memory::{Access, PAGE_SIZE, USER_TOP};

use crate::address_space::{AddressSpace, Layout};
use crate::area::{Area, AreaFlags, Backing};
use crate::map::{MAXIMUM_AREAS, page_align};

impl AddressSpace {
    /// Where the heap of a new program starts: a random gap above `end_of_program`.
    pub fn set_initial_break(&self, end_of_program: usize) {
        let start = page_align(end_of_program).saturating_add(self.placement.heap_gap);
        let mut layout = self.layout();
        layout.break_start = start;
        layout.break_end = start;
    }

    /// Moves the end of the heap, and returns where it is now: unchanged if the wish can't be met.
    pub async fn set_break(&self, wish: usize) -> usize {
        let (old, start) = {
            let layout = self.layout();
            (layout.break_end, layout.break_start)
        };
        let (old_end, new_end) = (page_align(old), page_align(wish));
        if wish < start || wish >= USER_TOP {
            return old;
        }
        if new_end < old_end {
            if self.unmap(new_end, old_end - new_end).await.is_err() {
                return old;
            }
        } else if self.change(|layout| self.grow_heap(layout, old_end, new_end, wish)).is_err() {
            return old;
        }
        self.layout().break_end = wish;
        wish
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
            backing: Backing::Anonymous,
        };
        layout.check_growth(&area, area.pages())?;
        self.memory().may_commit(area.pages())?;
        layout.add(area)
    }
}
