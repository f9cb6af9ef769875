//! An address space: what a program calls its memory.
//!
//! [`AddressSpace`] joins two records. The *areas* say what may be where (this room's lock, [`Layout`]); the machine's
//! `Space` says which page shows which frame. A page is mapped only inside an area that allows it, because every change
//! of areas makes the same change to the pages before the lock is released, and every fault maps under the lock. What CPUs remember
//! of pages that were taken out they are made to forget after that; until they have, nobody maps anything there ([`Exclusion`]).
//!
//! Created for exec, copied by fork, cleared by exit; threads share it by `Arc`.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::AtomicBool;

use abi::Errno;
use machine::memory::{Access, MmuGather, PAGE_SIZE, RetiredFrame, Space, USER_TOP};
use sync::{Budget, WaitQueue};

use crate::area::{Area, AreaFlags, Backing, effective};
use crate::area_set::AreaSet;
use crate::discard::Discarded;
use crate::exclusion::{Exclusion, LayoutGuard, LayoutLock};
use crate::family::Membership;
use crate::kernel_memory::Memory;
use crate::map::{Placement, check_commit};
use crate::pager::Candidates;
use crate::recent_areas::RecentAreas;
use crate::views::ProgramLayout;

/// Pages that are taken out, copied or protected under one taking of the lock.
pub(crate) const SLICE: usize = 1024;
/// And areas.
pub(crate) const AREAS: usize = 64;

/// Resource limits that concern memory, in bytes; `u64::MAX` is infinity. See getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `RLIMIT_AS`
    pub address_space: u64,
    /// `RLIMIT_DATA`
    pub data: u64,
    /// `RLIMIT_STACK`
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`; infinite for who has `CAP_IPC_LOCK`
    pub locked: u64,
}

impl Default for Limits {
    /// Linux's limits of the first process.
    fn default() -> Limits {
        Limits { address_space: u64::MAX, data: u64::MAX, stack: 8 << 20, locked: 8 << 20 }
    }
}

/// The memory of a program.
pub struct AddressSpace {
    space: Arc<Space>,
    memory: Arc<Memory>,
    /// Those it shares anonymous pages with.
    family: Membership,
    pub(crate) placement: Placement,
    layout: LayoutLock,
    /// For page faults that do without that lock.
    pub(crate) recent: Arc<RecentAreas>,
    /// Those who sleep until a change of several steps, or a flush, is over.
    admitted: WaitQueue,
    /// Other CPUs are made to forget what a change has taken out: worth waiting for a moment.
    pub(crate) flushing: AtomicBool,
    /// See [`AddressSpace::forbid_huge_pages`].
    pub(crate) no_huge_pages: AtomicBool,
}

/// What the lock of an address space guards.
pub(crate) struct Layout {
    pub areas: AreaSet,
    pub limits: Limits,
    /// Where the heap starts and where brk(2) has put its end.
    pub break_start: usize,
    pub break_end: usize,
    pub program: ProgramLayout,
    /// Where the vDSO's shared object was mapped, or moved to.
    pub vdso: Option<usize>,
    /// What mlockall(2) with `MCL_FUTURE` gives new areas.
    pub future_flags: AreaFlags,
    /// The most pages there ever were in areas, and mapped: VmPeak, VmHWM.
    pub peak: usize,
    pub peak_resident: usize,
    /// Areas of files a change let go of, to be dropped after the lock.
    pub released: Vec<Area>,
    /// Whom a change of several steps keeps out. See [`Layout::exclude`].
    pub exclusion: Option<Exclusion>,
    /// The space's, to be told of what goes.
    pub recent: Arc<RecentAreas>,
}

impl Layout {
    fn new(areas: AreaSet, limits: Limits, recent: Arc<RecentAreas>) -> Layout {
        Layout {
            areas,
            limits,
            break_start: 0,
            break_end: 0,
            program: ProgramLayout::default(),
            vdso: None,
            future_flags: AreaFlags::empty(),
            peak: 0,
            peak_resident: 0,
            released: Vec::new(),
            exclusion: None,
            recent,
        }
    }

    /// A child's begins as its parent's, without areas.
    fn begin_as(&mut self, parent: &Layout) {
        self.limits = parent.limits;
        self.break_start = parent.break_start;
        self.break_end = parent.break_end;
        self.program = parent.program.clone();
        self.vdso = parent.vdso;
    }

    /// Removes some areas. False if there are none.
    fn release_some(&mut self) -> bool {
        self.recent.forget_all();
        let Some(areas) = self.areas.pop_some() else { return false };
        areas.into_iter().for_each(|area| Layout::release(&mut self.released, area));
        true
    }

    /// Keeps a removed area's file open until the lock is released.
    #[expect(clippy::disallowed_methods, reason = "of the areas of one call; their memory comes back with them")]
    pub fn release(released: &mut Vec<Area>, area: Area) {
        if matches!(area.backing, Backing::File { .. }) {
            released.push(area);
        }
    }
}

impl AddressSpace {
    /// An empty space for a new program. `random` decides where stack, mappings and heap will be. `ENOMEM`.
    pub fn new(memory: &Arc<Memory>, limits: Limits, random: u64) -> Result<Arc<AddressSpace>, Errno> {
        let space = Space::with_swap(memory.swap().clone()).map_err(|_| Errno::ENOMEM)?;
        let placement = Placement::new(&limits, memory.randomise().then_some(random));
        let (id, recent) = (memory.next_space(), Arc::new(RecentAreas::new()));
        Ok(Arc::new_cyclic(|myself| AddressSpace {
            space,
            memory: memory.clone(),
            family: memory.families().found(id, myself),
            placement,
            layout: LayoutLock::new(Layout::new(AreaSet::new(myself.clone(), id), limits, recent.clone())),
            recent,
            admitted: WaitQueue::new(),
            flushing: AtomicBool::new(false),
            no_huge_pages: AtomicBool::new(false),
        }))
    }

    /// A copy for a child process: private pages become copy-on-write on both sides, shared ones are shared. See fork(2),
    /// and madvise(2) for areas a child doesn't get. Of a large space it takes several steps, between which others run, but
    /// nobody changes this space or what has been copied; see the page of `exclusion`. `ENOMEM`; then the parent is as it was.
    /// Cancel-safe.
    pub async fn fork(&self) -> Result<Arc<AddressSpace>, Errno> {
        if self.memory.is_scarce() {
            return Err(Errno::ENOMEM);
        }
        let space = Space::with_swap(self.memory.swap().clone()).map_err(|_| Errno::ENOMEM)?;
        let (id, recent) = (self.memory.next_space(), Arc::new(RecentAreas::new()));
        let child = Arc::new_cyclic(|myself| AddressSpace {
            space,
            memory: self.memory.clone(),
            family: self.family.join(id, myself),
            placement: self.placement,
            layout: LayoutLock::new(Layout::new(AreaSet::new(myself.clone(), id), Limits::default(), recent.clone())),
            recent,
            admitted: WaitQueue::new(),
            flushing: AtomicBool::new(false),
            no_huge_pages: AtomicBool::new(self.forbids_huge_pages()),
        });
        let excluding = self.exclude(Exclusion::CHANGES).await;
        excluding.step(|layout, _| child.change_now(|new, _| new.begin_as(layout)));
        let mut budget = Budget::new();
        let mut at = 0;
        while let Some(next) = excluding.step(|layout, gather| self.copy_some(layout, gather, &child, at))? {
            at = next;
            budget.pace(SLICE).await;
        }
        Ok(child)
    }

    /// Copies what [`AddressSpace::share_some`] does, and keeps page faults out from what has been copied.
    fn copy_some(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        child: &AddressSpace,
        at: usize,
    ) -> Result<Option<usize>, Errno> {
        layout.recent.forget_all();
        // Nobody else knows the child yet, so its lock can be taken inside the parent's.
        let next = child.change_now(|new, _| self.share_some(layout, gather, child, new, at))?;
        layout.exclusion = Some(Exclusion::faults_in(0..next.unwrap_or(USER_TOP)));
        Ok(next)
    }

    /// Gives a child the areas from `at` on, with their pages, up to a slice. Returns where to go on.
    fn share_some(
        &self,
        layout: &Layout,
        gather: &mut MmuGather<'_>,
        child: &AddressSpace,
        new: &mut Layout,
        at: usize,
    ) -> Result<Option<usize>, Errno> {
        let full = child.space.resident() + SLICE;
        for (done, area) in layout.areas.ascending(at).enumerate() {
            if done == AREAS {
                return Ok(Some(area.range.start));
            }
            if area.flags.contains(AreaFlags::DONT_FORK) {
                continue;
            }
            // Else an earlier slice ended within it.
            if at <= area.range.start {
                check_commit(&self.memory, area, area.pages())?;
                // Locks on memory are not inherited, mlock(2).
                new.areas.push(Area {
                    flags: area.flags - AreaFlags::LOCKED,
                    range: area.range.clone(),
                    ..area.clone()
                })?;
            }
            if area.flags.contains(AreaFlags::WIPE_ON_FORK) {
                continue;
            }
            if at > area.range.start && area.written.get() {
                // Perhaps since the child got it.
                new.areas.containing(area.range.start).inspect(|copy| copy.written.set());
            }
            let mut rest = at.max(area.range.start)..area.range.end;
            while let Some(part) = self.next_slice(&rest) {
                rest.start = part.end;
                gather.share_with(&child.space, part, !area.is_shared()).map_err(|_| Errno::ENOMEM)?;
                if child.space.resident() >= full {
                    return Ok(Some(rest.start));
                }
            }
        }
        Ok(None)
    }

    /// The next part of `range` that is a slice's work: where pages are mapped or swapped out, if it is large.
    pub(crate) fn next_slice(&self, range: &Range<usize>) -> Option<Range<usize>> {
        if range.len() <= SLICE * PAGE_SIZE {
            return (!range.is_empty()).then(|| range.clone());
        }
        let start = usize::from(self.space.next_occupied(range.clone())?);
        Some(start..range.end.min(start + SLICE * PAGE_SIZE))
    }

    /// The machine's side, for [`machine::user::enter`].
    #[inline]
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Those it shares anonymous pages with.
    #[inline]
    pub(crate) fn family(&self) -> &Membership {
        &self.family
    }

    /// The kernel's memory this is a part of.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What a word at `address` is to everybody who can see it, if its area is shared: the mapped object and the byte in it.
    /// The key of a futex that isn't private, futex(2).
    pub fn shared_identity(&self, address: usize) -> Option<(usize, u64)> {
        let layout = self.layout();
        let area = layout.areas.containing(address).filter(|area| area.is_shared())?;
        let (file, page) = area.file_page(address & !(PAGE_SIZE - 1))?;
        Some((Arc::as_ptr(&file.pager).addr(), page * PAGE_SIZE as u64 + (address % PAGE_SIZE) as u64))
    }

    /// Takes over changed resource limits.
    pub fn set_limits(&self, limits: Limits) {
        self.layout().limits = limits;
    }

    /// Tears everything down, in slices between which other threads run. For the exit of a process; dropping the space
    /// does the same at once, or leaves it to the kernel's own task.
    pub async fn clear(&self) {
        let mut budget = Budget::new();
        let mut at = Some(0);
        while let Some(start) = at {
            at = self.change_now(|layout, gather| {
                layout.note_resident(self.space.resident());
                layout.recent.forget_all();
                gather.unmap_some(start..USER_TOP, SLICE).map(usize::from)
            });
            budget.pace(SLICE).await;
        }
        while self.change_now(|layout, _| layout.release_some()) {
            budget.pace(AREAS).await;
        }
    }

    /// The layout, for those who can't sleep: they come before those who can.
    #[inline]
    pub(crate) fn layout(&self) -> LayoutGuard<'_> {
        self.layout.lock()
    }

    /// The lock itself, for those who can sleep.
    #[inline]
    pub(crate) fn layout_lock(&self) -> &LayoutLock {
        &self.layout
    }

    /// Changes the layout, and settles outside the lock what the change implies: what CPUs must forget of the pages that were taken
    /// out, the promise of memory and the files that were let go of. For a space that nobody else can be changing: one for a new
    /// program, or one that is over. Others [`change`](Self::change).
    pub(crate) fn change_now<R>(&self, action: impl FnOnce(&mut Layout, &mut MmuGather<'_>) -> R) -> R {
        self.change_locked(self.layout(), action)
    }

    pub(crate) fn change_locked<R>(
        &self,
        mut layout: LayoutGuard<'_>,
        action: impl FnOnce(&mut Layout, &mut MmuGather<'_>) -> R,
    ) -> R {
        let before = layout.areas.totals().committed;
        let (result, committed, released, is_flushing);
        {
            // Dropped in place, after the lock.
            let mut gather = self.space.gather();
            result = action(&mut layout, &mut gather);
            let totals = layout.areas.totals();
            committed = totals.committed;
            layout.peak = layout.peak.max(totals.all);
            released = core::mem::take(&mut layout.released);
            is_flushing = self.begin_flush(&mut layout, &gather);
            drop(layout);
        }
        if is_flushing {
            self.end_flush();
        }
        self.memory.recommit(before, committed);
        drop(released);
        result
    }

    /// Where those wait who are kept out.
    pub(crate) fn admitted(&self) -> &WaitQueue {
        &self.admitted
    }

    /// Takes pages `range` of `file` out, wherever areas show them. The areas stay.
    pub(crate) fn unmap_file(&self, file: &dyn crate::Pager, range: &Range<u64>) {
        self.each_view(file, range, |_, addresses, gather| gather.unmap(addresses));
    }

    /// Takes the right to write away from what shared areas show of pages `range` of `file`, until the next fault.
    pub(crate) fn write_protect_file(&self, file: &dyn crate::Pager, range: &Range<u64>) {
        self.each_view(file, range, |area, addresses, gather| {
            if area.is_shared() {
                gather.protect(addresses, effective(area.access) - Access::WRITE);
            }
        });
    }

    /// Takes out what areas show of these pages of `file`, but not the program's own copies.
    pub(crate) fn evict_file(&self, file: &dyn crate::Pager, pages: &BTreeMap<u64, RetiredFrame>) {
        let (Some((&first, _)), Some((&last, _))) = (pages.first_key_value(), pages.last_key_value()) else { return };
        self.each_view(file, &(first..last + 1), |area, addresses, gather| {
            for address in addresses.step_by(PAGE_SIZE) {
                let evicted = area.file_page(address).and_then(|(_, index)| pages.get(&index));
                let shown = evicted.and_then(|frame| Some((frame, self.space.lookup(address)?)));
                if shown.is_some_and(|(frame, mapping)| mapping.frame_number == frame.number()) {
                    gather.unmap(address..address + PAGE_SIZE);
                }
            }
        });
    }

    /// Takes those of these pages of `file` out that were used here, and marks them. A program's own copies stay.
    pub(crate) fn take_used_of_file(&self, file: &dyn crate::Pager, pages: &mut Candidates) {
        let (Some((&first, _)), Some((&last, _))) = (pages.first_key_value(), pages.last_key_value()) else { return };
        self.each_view(file, &(first..last + 1), |area, addresses, gather| {
            let mut rest = addresses;
            while let Some((address, mapping)) = self.space.next_mapped(rest.clone()) {
                let address = usize::from(address);
                let page = area.file_page(address).and_then(|(_, index)| pages.get_mut(&index));
                if let Some(page) = page.filter(|page| mapping.accessed && mapping.frame_number == page.frame) {
                    page.is_used = true;
                    gather.unmap(address..address + PAGE_SIZE);
                }
                rest.start = address + PAGE_SIZE;
            }
        });
    }

    /// As [`AddressSpace::unmap_file`], in slices. Nobody changes the areas between two of them.
    pub(crate) async fn unmap_file_slowly(&self, file: &dyn crate::Pager, range: &Range<u64>, budget: &mut Budget) {
        // Nearly always that is all.
        let Some(_) = self.unmap_some_of_file(file, range, 0) else { return };
        let _excluding = self.exclude(Exclusion::CHANGES).await;
        let mut at = 0;
        while let Some(next) = self.unmap_some_of_file(file, range, at) {
            at = next;
            budget.pace(SLICE).await;
        }
    }

    /// Takes a slice of what areas from `at` on show of pages `range` of `file` out. Returns where to go on.
    fn unmap_some_of_file(&self, file: &dyn crate::Pager, range: &Range<u64>, at: usize) -> Option<usize> {
        self.change_pages(|layout, gather| self.unmap_views(layout, gather, file, range, at))
    }

    fn unmap_views(
        &self,
        layout: &Layout,
        gather: &mut MmuGather<'_>,
        file: &dyn crate::Pager,
        range: &Range<u64>,
        at: usize,
    ) -> Option<usize> {
        let mut left = SLICE;
        for area in layout.areas.ascending(at) {
            let cost = match area.view_of(file, range) {
                Some(shown) => {
                    let shown = shown.start.max(at)..shown.end.max(at);
                    if let Some(next) = gather.unmap_some(shown.clone(), left) {
                        return Some(next.into());
                    }
                    (shown.len() / PAGE_SIZE).clamp(SLICE / AREAS, SLICE)
                }
                None => 1,
            };
            left = left.saturating_sub(cost);
            if left == 0 {
                return Some(area.range.end);
            }
        }
        None
    }

    /// Calls `each` with every area that shows some of pages `range` of `file`, and the addresses where it does.
    fn each_view(
        &self,
        file: &dyn crate::Pager,
        range: &Range<u64>,
        mut each: impl FnMut(&Area, Range<usize>, &mut MmuGather<'_>),
    ) {
        self.change_pages(|layout, gather| {
            for area in layout.areas.ascending(0) {
                if let Some(shown) = area.view_of(file, range) {
                    each(area, shown, gather);
                }
            }
        });
    }
}

impl Layout {
    /// Keeps the high-water mark of mapped pages, before some go.
    pub fn note_resident(&mut self, resident: usize) {
        self.peak_resident = self.peak_resident.max(resident);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let areas = core::mem::replace(&mut self.layout.get_mut().areas, AreaSet::new(Weak::new(), 0));
        self.memory.recommit(areas.totals().committed, 0);
        self.memory.discard(Discarded::Space(self.space.clone(), areas));
    }
}
