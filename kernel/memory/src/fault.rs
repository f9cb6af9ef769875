//! Page faults: the page that is missing, or not yet writable, is supplied.
//!
//! [`AddressSpace::resolve`] is one try under the space's lock, which it shares with other faults, or without it, if the area is an
//! anonymous one in which a fault was resolved before (`recent_areas`): it looks at what is mapped, makes
//! a page of zeros or a copy, and maps it if what is mapped is still the same. So two threads that fault at the same page at once get
//! one page: the second's is dropped, and it finds the first's when it tries again. What it does:
//!
//! | area | read | write |
//! | --- | --- | --- |
//! | anonymous | the page of zeros, copy-on-write | a new page of zeros, or a copy; several new ones to a program that writes on |
//! | private file | the file's pages around the fault, copy-on-write | a copy of the file's page |
//! | shared file | the file's pages around the fault, read-only | the file's page |
//!
//! What is not the program's own, the page of zeros and the pages of a private file, is mapped copy-on-write, so that no
//! change of rights can make it writable. A shared page becomes writable when it is written, after the file was told. A
//! fault just below a growing area extends it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range;

use machine::memory::{Access, FAULT_AHEAD, Frame, Mapping, OutOfMemory, PAGE_SIZE, SwapEntry};
use smallvec::SmallVec;

use crate::address_space::{AddressSpace, Layout};
use crate::area::{Area, AreaFlags, Backing, STACK_GUARD_GAP, effective};
use crate::map::{MINIMUM_ADDRESS, check_commit};
use crate::pager::{MappedFile, PagerError};
use crate::recent_areas;
use crate::swap::{Found, Reading};

/// Pages of a file mapped around a fault at most, a power of two.
const AROUND: u64 = machine::memory::FAULT_AROUND as u64;

/// Bytes an area has at least that is remembered for further faults.
const WORTH_REMEMBERING: usize = 32 * PAGE_SIZE;

/// How a fault was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A page was mapped, copied or made writable.
    Mapped,
    /// Another thread was faster, or the processor remembered less than the page tables say: try again.
    Spurious,
}

/// Why a fault can't be resolved; what it means to the program.
#[derive(Clone)]
pub enum MemoryFault {
    /// Nothing is there: `SIGSEGV` with `SEGV_MAPERR`.
    NotMapped,
    /// The area doesn't allow it: `SIGSEGV` with `SEGV_ACCERR`.
    NotPermitted,
    /// Beyond the end of the mapped file, or the file can't give the page: `SIGBUS` with `BUS_ADRERR`.
    Bus,
    /// No frame is left. See the module `oom`.
    OutOfMemory,
    /// The page is being read from a disk: wait and try again.
    Wait(PageWait),
    /// Somebody else has the space's lock for long, or copies or changes the space, and pages must stay as they are meanwhile:
    /// wait and try again.
    Busy,
}

/// What a fault has to know of the area it is in, as `RecentAreas` keeps it: the rights, whether it may have huge pages, and above that how far
/// it was moved.
#[derive(Clone, Copy)]
pub(crate) struct Known(usize);

impl Known {
    /// `moved`: see [`Area::moved`].
    #[inline]
    fn new(rights: Access, moved: usize) -> Known {
        Known(moved | usize::from(rights.bits()))
    }

    /// What is known of an area in which a fault was resolved before.
    #[inline]
    pub(crate) fn of(area: &recent_areas::Found<'_>) -> Known {
        Known(area.rights)
    }

    /// The area may have huge pages.
    const HUGE: usize = 1 << 4;

    #[inline]
    fn with_huge_pages(self, may_be: bool) -> Known {
        Known(self.0 | if may_be { Known::HUGE } else { 0 })
    }

    #[inline]
    pub(crate) fn may_be_huge(self) -> bool {
        self.0 & Known::HUGE != 0
    }

    #[inline]
    pub(crate) fn rights(self) -> Access {
        Access::from_bits_truncate(self.0 as u8)
    }

    /// The home of a page that is made at `page`, and in the lowest four bits the rights.
    #[inline]
    pub(crate) fn home(self, page: usize) -> usize {
        page.wrapping_add(self.0 & !Known::HUGE)
    }
}

/// A page on its way.
#[derive(Clone)]
pub struct PageWait(Awaited);

/// Where it comes from.
#[derive(Clone)]
enum Awaited {
    File { file: Arc<MappedFile>, index: u64 },
    Swap(Arc<Reading>),
}

impl PageWait {
    /// Resolves when it is worth trying again. Cancel-safe.
    ///
    /// # Errors
    /// [`MemoryFault::Bus`]: the page could not be read.
    pub async fn ready(&self) -> Result<(), MemoryFault> {
        let (file, index) = match &self.0 {
            Awaited::File { file, index } => (file, *index),
            Awaited::Swap(reading) => return reading.ready().await,
        };
        match file.pager.ready(index).await {
            // Who asks again is told so, and waits for memory.
            Ok(()) | Err(PagerError::OutOfMemory) => Ok(()),
            Err(_) => Err(MemoryFault::Bus),
        }
    }
}

impl core::fmt::Debug for MemoryFault {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            MemoryFault::NotMapped => "NotMapped",
            MemoryFault::NotPermitted => "NotPermitted",
            MemoryFault::Bus => "Bus",
            MemoryFault::OutOfMemory => "OutOfMemory",
            MemoryFault::Wait(_) => "Wait",
            MemoryFault::Busy => "Busy",
        })
    }
}

impl From<OutOfMemory> for MemoryFault {
    fn from(_: OutOfMemory) -> MemoryFault {
        MemoryFault::OutOfMemory
    }
}

impl AddressSpace {
    /// Resolves a fault, waiting for pages that must be read and for memory that others give back. The error is never
    /// [`MemoryFault::Wait`] or [`MemoryFault::Busy`], and [`MemoryFault::OutOfMemory`] only if nobody can.
    pub async fn fault(&self, address: usize, access: Access) -> Result<Resolution, MemoryFault> {
        loop {
            match self.resolve(address, access) {
                Err(MemoryFault::Wait(page)) => page.ready().await?,
                // Rare, and large in a future that every transfer holds.
                Err(MemoryFault::Busy) => Box::pin(self.until_admitted()).await,
                Err(MemoryFault::OutOfMemory) if self.wait_for_memory().await => {}
                result => return result,
            }
        }
    }

    /// One try to let `access` at `address` succeed. See the module's page.
    pub fn resolve(&self, address: usize, access: Access) -> Result<Resolution, MemoryFault> {
        let page = address & !(PAGE_SIZE - 1);
        let mapped = self.space().lookup(page);
        if let Some(resolved) = self.resolve_unlocked(page, access, mapped) {
            return resolved;
        }
        self.resolve_locked(page, access, mapped, true)
    }

    /// As [`resolve`](Self::resolve), with the lock. `may_be_huge`: the area may have huge pages, and has not been asked for one.
    #[inline(never)]
    fn resolve_locked(
        &self,
        page: usize,
        access: Access,
        mapped: Option<Mapping>,
        may_be_huge: bool,
    ) -> Result<Resolution, MemoryFault> {
        let layout = self.try_share_layout().ok_or(MemoryFault::Busy)?;
        let area = layout.area_for_fault(page, access)?;
        if area.range.start > page {
            drop(layout);
            return self.grow_stack(page, access);
        }
        if mapped.is_none()
            && let Some(entry) = self.swapped(page)
        {
            return self.swapped_page(page, area, entry);
        }
        if access.contains(Access::WRITE) {
            area.written.set();
        }
        match &area.backing {
            Backing::Anonymous => {
                if layout.exclusion.is_none() {
                    self.remember(page, area);
                }
                if may_be_huge && mapped.is_none() && access.contains(Access::WRITE) && self.may_be_huge(area) {
                    drop(layout); // 2 MiB are cleared without it
                    if self.huge_page(page) {
                        return Ok(Resolution::Mapped);
                    }
                    return self.resolve_locked(page, access, mapped, false);
                }
                let known = Known::new(effective(area.access), area.moved);
                self.anonymous_page(page, &area.range, known, access, mapped, || true)
            }
            Backing::File { .. } => self.file_page(page, area, access, mapped),
        }
    }

    /// The swap entry at `page`, where nothing is mapped.
    #[inline]
    fn swapped(&self, page: usize) -> Option<SwapEntry> {
        if self.memory().swap().is_on() { self.space().swap_entry(page) } else { None }
    }

    /// Shows a page that was swapped out, copy-on-write, since others may have the same one; or has it read.
    #[cold]
    fn swapped_page(&self, page: usize, area: &Area, entry: SwapEntry) -> Result<Resolution, MemoryFault> {
        let swap = self.memory().swap();
        let frame = || self.own(self.memory().zeroed(), area.home(page));
        match swap.page(entry, frame, || self.space().swap_entry(page) == Some(entry))? {
            Found::Gone => Ok(Resolution::Spurious),
            Found::Reading(reading) => Err(MemoryFault::Wait(PageWait(Awaited::Swap(reading)))),
            Found::Frame(frame) => {
                let rights = effective(area.access) | Access::COPY_ON_WRITE;
                let is_mapped = self.space().swap_in(page, entry, frame, rights)?;
                swap.mapped(entry);
                Ok(if is_mapped { Resolution::Mapped } else { Resolution::Spurious })
            }
        }
    }

    /// Lets the next fault near `page` do without the lock, if there may be some more. Before the area was written once, that must be
    /// noted with the lock.
    #[inline]
    fn remember(&self, page: usize, area: &Area) {
        if area.range.len() < WORTH_REMEMBERING {
            return;
        }
        let rights = effective(area.access);
        let rights = if area.written.get() { rights } else { rights - Access::WRITE };
        let known = Known::new(rights, area.moved).with_huge_pages(self.may_be_huge(area));
        // Who makes a page by what is known already would make it in vain if that were put there again.
        let is_known = |found: recent_areas::Found<'_>| found.range == area.range && found.rights == known.0;
        if !self.recent.find(page).is_some_and(is_known) {
            self.recent.put(page, &area.range, known.0);
        }
    }

    /// As [`resolve`](Self::resolve), without the lock. `None`: it takes the lock.
    #[inline]
    fn resolve_unlocked(
        &self,
        page: usize,
        access: Access,
        mapped: Option<Mapping>,
    ) -> Option<Result<Resolution, MemoryFault>> {
        let area = self.recent.find(page)?;
        let known = Known::of(&area);
        if !known.rights().contains(access) {
            return None;
        }
        if mapped.is_some() || FAULT_AHEAD > 1 {
            return self.resolve_known(page, &area, known, access, mapped);
        }
        if known.may_be_huge() && access.contains(Access::WRITE) && self.huge_page(page) {
            return Some(Ok(Resolution::Mapped));
        }
        match self.fresh_page(page, known, access, || area.is_still_so()) {
            Ok(Resolution::Spurious) => None,
            resolved => Some(resolved),
        }
    }

    /// The rest of [`resolve_unlocked`](Self::resolve_unlocked), apart from the commonest fault.
    #[inline(never)]
    fn resolve_known(
        &self,
        page: usize,
        area: &recent_areas::Found<'_>,
        known: Known,
        access: Access,
        mapped: Option<Mapping>,
    ) -> Option<Result<Resolution, MemoryFault>> {
        match mapped {
            Some(mapping) if mapping.access.contains(access) => return Some(Ok(Resolution::Spurious)),
            Some(_) if !access.contains(Access::WRITE) => return None,
            None if self.swapped(page).is_some() => return None,
            _ => {}
        }
        match self.anonymous_page(page, &area.range, known, access, mapped, || area.is_still_so()) {
            Ok(Resolution::Spurious) => None,
            resolved => Some(resolved),
        }
    }

    /// Maps a page where this one was, or none, if `still` holds then.
    #[inline]
    fn map_over(
        &self,
        page: usize,
        before: Option<&Mapping>,
        frame: Frame,
        rights: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<Resolution, MemoryFault> {
        let before = before.map(|before| before.frame_number);
        let mapped = self.space().map_over(page, before, frame, rights, still)?;
        Ok(if mapped { Resolution::Mapped } else { Resolution::Spurious })
    }

    /// Demand-zero, in an anonymous area, if `still` holds when something is mapped.
    #[inline]
    fn anonymous_page(
        &self,
        page: usize,
        area: &Range<usize>,
        known: Known,
        access: Access,
        mapped: Option<Mapping>,
        still: impl Fn() -> bool,
    ) -> Result<Resolution, MemoryFault> {
        if let Some(mapping) = mapped {
            return self.present_page(page, known, access, mapping, still);
        }
        if FAULT_AHEAD > 1 && access.contains(Access::WRITE) && self.is_filled_before(page, area) {
            return self.map_ahead(page, area, known, still);
        }
        self.fresh_page(page, known, access, still)
    }

    /// A page of zeros where nothing is, if `still` holds when it is mapped.
    #[inline]
    fn fresh_page(
        &self,
        page: usize,
        known: Known,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<Resolution, MemoryFault> {
        let rights = known.rights();
        let (frame, rights) = if access.contains(Access::WRITE) {
            (self.own(self.memory().zeroed(), known.home(page))?, rights)
        } else if self.memory().is_scarce() {
            // The page itself costs nothing, but the tables to it do.
            return Err(MemoryFault::OutOfMemory);
        } else {
            (self.memory().zero().clone(), rights | Access::COPY_ON_WRITE)
        };
        self.map_over(page, None, frame, rights, still)
    }

    /// A new frame, if there is one, as the space's page with its home there (`family`).
    #[inline]
    fn own(&self, frame: Option<Frame>, home: usize) -> Result<Frame, MemoryFault> {
        let frame = frame.ok_or(MemoryFault::OutOfMemory)?;
        frame.set_tag(self.family().tag(home));
        Ok(frame)
    }

    /// Whether the pages right before `page` in `area` have been written: then the program seems to fill it.
    fn is_filled_before(&self, page: usize, area: &Range<usize>) -> bool {
        const ENOUGH: usize = 4;
        let before = area.start.max(page.saturating_sub(ENOUGH * PAGE_SIZE))..page;
        let is_written = |page: usize| {
            self.space().lookup(page).is_some_and(|mapping| mapping.frame_number != self.memory().zero().number())
        };
        before.len() == ENOUGH * PAGE_SIZE && before.step_by(PAGE_SIZE).all(is_written)
    }

    /// Maps a page of zeros at `page`, and others behind it, as long as there is nothing and memory isn't scarce.
    #[expect(clippy::disallowed_methods, reason = "a run at most, which lies in place")]
    fn map_ahead(
        &self,
        page: usize,
        area: &Range<usize>,
        known: Known,
        still: impl Fn() -> bool,
    ) -> Result<Resolution, MemoryFault> {
        let own = |page: usize| self.own(self.memory().zeroed(), known.home(page));
        let frame = own(page)?;
        let end = area.end.min(page + FAULT_AHEAD * PAGE_SIZE);
        let mut run: SmallVec<[Frame; FAULT_AHEAD]> = SmallVec::new();
        run.push(frame);
        for next in (page + PAGE_SIZE..end).step_by(PAGE_SIZE) {
            if self.space().lookup(next).is_some() || self.memory().is_scarce() {
                break;
            }
            let Ok(frame) = own(next) else { break };
            run.push(frame);
        }
        let is_mapped = self.space().map_batch(page, run.into_iter(), known.rights(), still)?;
        Ok(if is_mapped { Resolution::Mapped } else { Resolution::Spurious })
    }

    /// A page is there, but perhaps doesn't allow what the area does, which has these rights, if `still` holds then. Only a
    /// write may come without the lock.
    fn present_page(
        &self,
        page: usize,
        known: Known,
        access: Access,
        mapping: Mapping,
        still: impl Fn() -> bool,
    ) -> Result<Resolution, MemoryFault> {
        let rights = known.rights();
        if mapping.access.contains(access) {
            return Ok(Resolution::Spurious);
        }
        if !access.contains(Access::WRITE) {
            self.space().gather().protect(page..page + PAGE_SIZE, rights - Access::WRITE);
            return Ok(Resolution::Mapped);
        }
        if mapping.frame_number == self.memory().zero().number() {
            let frame = self.own(self.memory().zeroed(), known.home(page))?;
            return self.map_over(page, Some(&mapping), frame, rights, still);
        }
        if mapping.references > 1 && self.memory().is_scarce() {
            return Err(MemoryFault::OutOfMemory);
        }
        let is_broken = self.space().break_copy_on_write(page, rights, self.family().tag(known.home(page)), still)?;
        Ok(if is_broken { Resolution::Mapped } else { Resolution::Spurious })
    }

    fn file_page(
        &self,
        page: usize,
        area: &Area,
        access: Access,
        mapped: Option<Mapping>,
    ) -> Result<Resolution, MemoryFault> {
        let Some((file, index)) = area.file_page(page) else { return Err(MemoryFault::NotMapped) };
        let write = access.contains(Access::WRITE);
        let give = |write| {
            file.pager.page(index, write).map_err(|error| match error {
                PagerError::OutOfMemory => MemoryFault::OutOfMemory,
                PagerError::Wait => MemoryFault::Wait(PageWait(Awaited::File { file: file.clone(), index })),
                PagerError::BeyondEnd | PagerError::NoSpace | PagerError::Io => MemoryFault::Bus,
            })
        };
        let rights = effective(area.access);
        match mapped {
            Some(mapping) if mapping.access.contains(access) => return Ok(Resolution::Spurious),
            Some(mapping) if !write || !area.is_shared() => {
                let known = Known::new(rights, area.home(page).wrapping_sub(page));
                return self.present_page(page, known, access, mapping, || true);
            }
            _ if !write => {
                let frame = give(false)?;
                self.map_around(page, frame, area, file, index)?;
            }
            _ if area.is_shared() => return self.map_over(page, mapped.as_ref(), give(true)?, rights, || true),
            _ => {
                let copy = self.own(self.memory().copy_of(&give(false)?), area.home(page))?;
                return self.map_over(page, None, copy, rights, || true);
            }
        }
        Ok(Resolution::Mapped)
    }

    /// Maps page `index` of the file at `page`, and those of its neighbours that the file has in memory and the space hasn't
    /// mapped: a program that runs through a file faults once in 16 pages.
    #[expect(clippy::disallowed_methods, reason = "a run at most, which lies in place")]
    fn map_around(
        &self,
        page: usize,
        frame: Frame,
        area: &Area,
        file: &MappedFile,
        index: u64,
    ) -> Result<(), MemoryFault> {
        let rights = effective(area.access);
        let rights = if area.is_shared() { rights - Access::WRITE } else { rights | Access::COPY_ON_WRITE };
        let window = around(page, area, index);
        let address =
            |neighbour: u64| page.wrapping_add((neighbour.wrapping_sub(index) as usize).wrapping_mul(PAGE_SIZE));
        let mut run: SmallVec<[Frame; AROUND as usize]> = SmallVec::new();
        let mut start = window.start;
        let mut result = Ok(());
        let mut add = |neighbour: u64, frame: Frame| {
            if start + run.len() as u64 != neighbour {
                result = result.and(self.space().map_batch(address(start), run.drain(..), rights, || true).map(drop));
                start = neighbour;
            }
            run.push(frame);
        };
        let absent = |neighbour: u64| self.space().lookup(address(neighbour)).is_none();
        let mut own = Some(frame);
        file.pager.cached(window, &mut |neighbour, cached| {
            if neighbour >= index
                && let Some(frame) = own.take()
            {
                add(index, frame);
            }
            if neighbour != index && absent(neighbour) {
                add(neighbour, cached);
            }
        });
        if let Some(frame) = own {
            add(index, frame);
        }
        Ok(result.and(self.space().map_batch(address(start), run.drain(..), rights, || true).map(drop))?)
    }

    /// A touch below a growing area extends it to there, if the limits and the guard gap allow.
    #[cold]
    fn grow_stack(&self, page: usize, access: Access) -> Result<Resolution, MemoryFault> {
        let layout = self.try_layout().ok_or(MemoryFault::Busy)?;
        if layout.exclusion.is_some() {
            return Err(MemoryFault::Busy);
        }
        self.change_locked(layout, |layout, _| {
            if layout.areas.containing(page).is_some() {
                return Ok(()); // another thread was faster
            }
            let area = layout.stack_above(page).ok_or(MemoryFault::NotMapped)?;
            let pages = (area.range.start - page) / PAGE_SIZE;
            layout.check_growth(&area, pages).map_err(|_| MemoryFault::NotMapped)?;
            check_commit(self.memory(), &area, pages).map_err(|_| MemoryFault::NotMapped)?;
            if !allows(area.access, access) {
                return Err(MemoryFault::NotPermitted);
            }
            layout.areas.modify(area.range.start, |area| area.range.start = page);
            Ok(())
        })?;
        self.resolve(page, access)
    }
}

impl Layout {
    /// The area for a fault at `page`: the one there, which allows it, or the first above.
    #[inline]
    fn area_for_fault(&self, page: usize, access: Access) -> Result<&Area, MemoryFault> {
        if self.exclusion.is_some_and(|exclusion| exclusion.keeps_out(page)) {
            return Err(MemoryFault::Busy);
        }
        let area = self.areas.first_ending_above(page).ok_or(MemoryFault::NotMapped)?;
        if area.range.start <= page && !allows(area.access, access) {
            return Err(MemoryFault::NotPermitted);
        }
        Ok(area)
    }

    /// The growing area that a touch at `page` extends.
    fn stack_above(&self, page: usize) -> Option<Area> {
        let area = self.areas.first_ending_above(page)?;
        let grows = area.flags.contains(AreaFlags::GROWS_DOWN) && matches!(area.backing, Backing::Anonymous);
        let size = (area.range.end - page) as u64;
        if !grows || page < MINIMUM_ADDRESS || size > self.limits.stack {
            return None;
        }
        let locked = (self.areas.totals().locked + (area.range.start - page) / PAGE_SIZE) as u64;
        if area.flags.contains(AreaFlags::LOCKED) && locked > self.limits.locked / PAGE_SIZE as u64 {
            return None;
        }
        let too_near = |below: &Area| {
            !below.flags.contains(AreaFlags::GROWS_DOWN)
                && !below.access.is_empty()
                && page - below.range.end < STACK_GUARD_GAP
        };
        if self.areas.last_starting_below(page).is_some_and(too_near) { None } else { Some(area.clone()) }
    }
}

/// Whether an area with `rights` allows `access`. On x86 any right includes reading.
#[inline]
fn allows(rights: Access, access: Access) -> bool {
    effective(rights).contains(access)
}

/// The pages of the file to map around a fault: an aligned window, within the area.
fn around(page: usize, area: &Area, index: u64) -> Range<u64> {
    let before = ((page - area.range.start) / PAGE_SIZE) as u64;
    let after = ((area.range.end - page) / PAGE_SIZE) as u64;
    let first = index & !(AROUND - 1);
    first.max(index - before)..(first + AROUND).min(index + after)
}
