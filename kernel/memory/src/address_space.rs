//! An address space: what a program calls its memory.
//!
//! [`AddressSpace`] joins two records. The *areas* say what may be where (this room's lock, [`Layout`]); the machine's
//! `Space` says which page shows which frame. A page is mapped only inside an area that allows it, because every change
//! of areas makes the same change to the pages before the lock is released, and every fault maps under the lock.
//!
//! Created for exec, copied by fork, cleared by exit; threads share it by `Arc`.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::Errno;
use machine::memory::{Access, Frame, PAGE_SIZE, Space, USER_TOP};
use sync::SpinLock;

use crate::area::{Area, AreaFlags, Backing, effective};
use crate::area_set::AreaSet;
use crate::kernel_memory::Memory;
use crate::map::Placement;
use crate::views::ProgramLayout;

/// Pages a slice of tear-down handles before it lets others run.
pub(crate) const SLICE: usize = 2048;

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
    myself: Weak<AddressSpace>,
    pub(crate) placement: Placement,
    layout: SpinLock<Layout>,
}

/// What the lock of an address space guards.
pub(crate) struct Layout {
    pub areas: AreaSet,
    pub limits: Limits,
    /// Where the heap starts and where brk(2) has put its end.
    pub break_start: usize,
    pub break_end: usize,
    pub program: ProgramLayout,
    /// What mlockall(2) with `MCL_FUTURE` gives new areas.
    pub future_flags: AreaFlags,
    /// The most pages there ever were in areas, and mapped: VmPeak, VmHWM.
    pub peak: usize,
    pub peak_resident: usize,
    /// Areas of files a change let go of, to be dropped after the lock.
    pub released: Vec<Area>,
}

impl Layout {
    fn new(areas: AreaSet, limits: Limits) -> Layout {
        Layout {
            areas,
            limits,
            break_start: 0,
            break_end: 0,
            program: ProgramLayout::default(),
            future_flags: AreaFlags::empty(),
            peak: 0,
            peak_resident: 0,
            released: Vec::new(),
        }
    }

    /// Keeps a removed area's file open until the lock is released.
    pub fn release(released: &mut Vec<Area>, area: Area) {
        if matches!(area.backing, Backing::File { .. }) {
            released.push(area);
        }
    }
}

impl AddressSpace {
    /// An empty space for a new program. `random` decides where stack, mappings and heap will be. `ENOMEM`.
    pub fn new(memory: &Arc<Memory>, limits: Limits, random: u64) -> Result<Arc<AddressSpace>, Errno> {
        let space = Space::new().map_err(|_| Errno::ENOMEM)?;
        let placement = Placement::new(&limits, memory.randomise().then_some(random));
        let id = memory.next_space();
        Ok(Arc::new_cyclic(|myself| AddressSpace {
            space,
            memory: memory.clone(),
            myself: myself.clone(),
            placement,
            layout: SpinLock::new(Layout::new(AreaSet::new(myself.clone(), id), limits)),
        }))
    }

    /// A copy for a child process: private pages become copy-on-write on both sides, shared ones are shared. See fork(2),
    /// and madvise(2) for areas a child doesn't get. `ENOMEM`; then the parent is as it was.
    pub fn fork(&self) -> Result<Arc<AddressSpace>, Errno> {
        if self.memory.frames().is_scarce() {
            return Err(Errno::ENOMEM);
        }
        let space = Space::new().map_err(|_| Errno::ENOMEM)?;
        let id = self.memory.next_space();
        let child = Arc::new_cyclic(|myself| AddressSpace {
            space,
            memory: self.memory.clone(),
            myself: myself.clone(),
            placement: self.placement,
            layout: SpinLock::new(Layout::new(AreaSet::new(myself.clone(), id), Limits::default())),
        });
        // Nobody else knows the child yet, so its lock can be taken inside the parent's.
        let parent = self.layout.lock();
        let mut layout = child.layout.lock();
        let mut failed = Ok(());
        layout.areas = parent.areas.duplicate(child.myself.clone(), id, |area| {
            if failed.is_err() || area.flags.contains(AreaFlags::DONT_FORK) {
                return None;
            }
            failed = self.share_area(&child.space, area);
            // Locks on memory are not inherited, mlock(2).
            Some(Area { flags: area.flags - AreaFlags::LOCKED, range: area.range.clone(), ..area.clone() })
        })?;
        layout.limits = parent.limits;
        layout.break_start = parent.break_start;
        layout.break_end = parent.break_end;
        layout.program = parent.program.clone();
        let totals = layout.areas.totals();
        layout.peak = totals.all;
        drop(parent);
        drop(layout);
        self.memory.recommit(0, totals.committed);
        // A failure is reported only now that the child's totals are consistent; dropping it undoes everything.
        failed.map(|()| child)
    }

    fn share_area(&self, child: &Space, area: &Area) -> Result<(), Errno> {
        if area.flags.contains(AreaFlags::ACCOUNTED) {
            self.memory.may_commit(area.pages())?;
        }
        if area.flags.contains(AreaFlags::WIPE_ON_FORK) {
            return Ok(());
        }
        self.space.share_with(child, area.range.clone(), !area.is_shared()).map_err(|_| Errno::ENOMEM)
    }

    /// The machine's side, for [`machine::user::enter`].
    #[inline]
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// The kernel's memory this is a part of.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What a word at `address` is to everybody who can see it, if its area is shared: the mapped object and the byte in it.
    /// The key of a futex that isn't private, futex(2).
    pub fn shared_identity(&self, address: usize) -> Option<(usize, u64)> {
        let layout = self.layout.lock();
        let area = layout.areas.containing(address).filter(|area| area.is_shared())?;
        let (file, page) = area.file_page(address & !(PAGE_SIZE - 1))?;
        Some((Arc::as_ptr(&file.pager).addr(), page * PAGE_SIZE as u64 + (address % PAGE_SIZE) as u64))
    }

    /// Takes over changed resource limits.
    pub fn set_limits(&self, limits: Limits) {
        self.layout.lock().limits = limits;
    }

    /// Tears everything down, in slices between which other threads run. For the exit of a process; dropping the space
    /// does the same at once.
    pub async fn clear(&self) {
        let mut at = 0;
        while let Some(next) = self.clear_slice(at) {
            at = next;
            yield_now().await;
        }
    }

    fn clear_slice(&self, at: usize) -> Option<usize> {
        self.change(|layout| {
            layout.note_resident(self.space.resident());
            let next = self.space.unmap_some(at..USER_TOP, SLICE);
            if next.is_none() {
                let areas = layout.areas.clear();
                areas.for_each(|area| Layout::release(&mut layout.released, area));
            }
            next
        })
    }

    /// Looks at the layout.
    #[inline]
    pub(crate) fn layout(&self) -> sync::SpinGuard<'_, Layout> {
        self.layout.lock()
    }

    /// Changes the layout, and settles outside the lock what the change implies: the promise of memory and the files
    /// that were let go of.
    pub(crate) fn change<R>(&self, action: impl FnOnce(&mut Layout) -> R) -> R {
        let mut layout = self.layout.lock();
        let before = layout.areas.totals().committed;
        let result = action(&mut layout);
        let totals = layout.areas.totals();
        layout.peak = layout.peak.max(totals.all);
        let released = core::mem::take(&mut layout.released);
        drop(layout);
        self.memory.recommit(before, totals.committed);
        drop(released);
        result
    }

    /// Takes pages `range` of `file` out, wherever areas show them. The areas stay.
    pub(crate) fn unmap_file(&self, file: &dyn crate::Pager, range: &core::ops::Range<u64>) {
        self.each_view(file, range, |_, addresses| self.space.unmap(addresses));
    }

    /// Takes the right to write away from what shared areas show of pages `range` of `file`, until the next fault.
    pub(crate) fn write_protect_file(&self, file: &dyn crate::Pager, range: &core::ops::Range<u64>) {
        self.each_view(file, range, |area, addresses| {
            if area.is_shared() {
                self.space.protect(addresses, effective(area.access) - Access::WRITE);
            }
        });
    }

    /// Takes out what areas show of these pages of `file`, but not the program's own copies.
    pub(crate) fn evict_file(&self, file: &dyn crate::Pager, pages: &BTreeMap<u64, Frame>) {
        let (Some((&first, _)), Some((&last, _))) = (pages.first_key_value(), pages.last_key_value()) else { return };
        self.each_view(file, &(first..last + 1), |area, addresses| {
            for address in addresses.step_by(PAGE_SIZE) {
                let evicted = area.file_page(address).and_then(|(_, index)| pages.get(&index));
                let shown = evicted.and_then(|frame| Some((frame, self.space.lookup(address)?)));
                if shown.is_some_and(|(frame, mapping)| mapping.frame_number == frame.number()) {
                    self.space.unmap(address..address + PAGE_SIZE);
                }
            }
        });
    }

    /// Calls `each` with every area that shows some of pages `range` of `file`, and the addresses where it does.
    fn each_view(
        &self,
        file: &dyn crate::Pager,
        range: &core::ops::Range<u64>,
        each: impl Fn(&Area, core::ops::Range<usize>),
    ) {
        let layout = self.layout.lock();
        for area in layout.areas.ascending(0) {
            let Some((mapped, first)) = area.file_page(area.range.start) else { continue };
            if !core::ptr::addr_eq(Arc::as_ptr(&mapped.pager), file) {
                continue;
            }
            let last = first + area.pages() as u64;
            let (from, to) = (range.start.clamp(first, last), range.end.clamp(first, last));
            if from < to {
                let address = |page: u64| area.range.start + (page - first) as usize * PAGE_SIZE;
                each(area, address(from)..address(to));
            }
        }
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
        self.memory.recommit(self.layout.get_mut().areas.totals().committed, 0);
    }
}

/// Lets other threads run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if yielded {
            return core::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await;
}
