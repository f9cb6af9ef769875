//! mmap(2) and munmap(2): where areas come from and go.
//!
//! The order of the checks is Linux's (`do_mmap`), since programs see which of two errors they get.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abi::Errno;
use abi::fallible::try_to_vec;
use abi::memory::{MapFlags, Protection};
use machine::memory::{Access, MmuGather, PAGE_SIZE, USER_TOP};
use sync::Budget;

use crate::address_space::{AREAS, AddressSpace, Layout, Limits, SLICE};
use crate::area::{Area, AreaFlags, Backing, Written, access_of};
use crate::exclusion::Exclusion;
use crate::fault::MemoryFault;
use crate::kernel_memory::Memory;
use crate::page_cache::{PageBudget, PageCache};
use crate::pager::{FileIdentity, MappedFile};
use crate::vdso;

/// The lowest address a program may map (/proc/sys/vm/mmap_min_addr).
pub const MINIMUM_ADDRESS: usize = 65536;
/// The most areas a space may have (/proc/sys/vm/max_map_count).
pub const MAXIMUM_AREAS: usize = 65530;

/// Pages of randomness: 28 bits for mappings and programs, 22 for the stack, as on Linux.
const MAP_RANDOM_BITS: u32 = 28;
const STACK_RANDOM_BITS: u32 = 22;
/// The first size of a stack area: Linux's `stack_expand` and a page for the strings.
const FIRST_STACK: usize = 33 * PAGE_SIZE;

/// What mmap(2) is asked for.
pub struct MapRequest {
    /// Where, exactly (`MAP_FIXED`) or if possible; 0 for no wish.
    pub address: usize,
    /// Length in bytes.
    pub length: usize,
    /// `prot`
    pub protection: Protection,
    /// `flags`, unknown bits included
    pub flags: MapFlags,
    /// A file with its offset, or [`Backing::Anonymous`] if `MAP_ANONYMOUS` is set.
    pub backing: Backing,
}

impl MapRequest {
    /// Whether what is there goes; else the place is free.
    fn replaces(&self) -> bool {
        self.flags.contains(MapFlags::FIXED) && !self.flags.contains(MapFlags::FIXED_NO_REPLACE)
    }
}

/// Where the large parts of a program lie, decided at exec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// Mappings are placed downwards from here.
    pub map_base: usize,
    /// The stack starts below.
    pub stack_top: usize,
    /// The vDSO goes here, if there is room.
    pub vdso: usize,
    /// A position-independent program is loaded here.
    pub program_base: usize,
    /// Bytes between the end of the program and its heap.
    pub heap_gap: usize,
}

impl Placement {
    pub fn new(limits: &Limits, random: Option<u64>) -> Placement {
        let pages = |salt: u64, bits: u32| match random {
            Some(random) => (mix(random, salt) & ((1 << bits) - 1)) as usize * PAGE_SIZE,
            None => 0,
        };
        let slack = if random.is_some() { PAGE_SIZE << STACK_RANDOM_BITS } else { 0 };
        let room = usize::try_from(limits.stack).unwrap_or(usize::MAX).saturating_add(slack + (1 << 20));
        let stack_room = room.clamp(128 << 20, USER_TOP / 6 * 5).next_multiple_of(PAGE_SIZE);
        let stack_top = USER_TOP - pages(2, STACK_RANDOM_BITS);
        Placement {
            map_base: USER_TOP - stack_room - pages(1, MAP_RANDOM_BITS),
            stack_top,
            vdso: vdso::place_above(stack_top, pages(5, MAP_RANDOM_BITS)),
            program_base: (USER_TOP / 3 * 2).next_multiple_of(PAGE_SIZE) - PAGE_SIZE + pages(3, MAP_RANDOM_BITS),
            heap_gap: pages(4, 13),
        }
    }
}

/// A well-mixed number out of a seed (splitmix64).
fn mix(seed: u64, salt: u64) -> u64 {
    let mut z = seed.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `length` rounded up to whole pages; 0 if that overflows.
pub(crate) fn page_align(length: usize) -> usize {
    length.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0)
}

pub(crate) fn is_aligned(address: usize) -> bool {
    address.is_multiple_of(PAGE_SIZE)
}

impl AddressSpace {
    /// mmap(2) entire: maps, and brings the pages in if `MAP_POPULATE` or `MAP_LOCKED` ask for it.
    pub async fn mmap(&self, request: MapRequest) -> Result<usize, Errno> {
        let (range, flags) = self.map_slowly(&request).await?;
        if flags.contains(AreaFlags::LOCKED)
            || (request.flags.contains(MapFlags::POPULATE) && !request.flags.contains(MapFlags::NON_BLOCK))
        {
            // That a page can't be had is not the mapping's failure. Not worth room in every future of mmap(2).
            let _ = Box::pin(self.populate(range.clone(), &mut Budget::new())).await;
        }
        Ok(range.start)
    }

    /// As [`AddressSpace::map`], for a program that runs. What a large mapping replaces goes first, in slices, during which
    /// nobody sees the gap.
    async fn map_slowly(&self, request: &MapRequest) -> Result<(Range<usize>, AreaFlags), Errno> {
        if request.length <= SLICE * PAGE_SIZE || !request.flags.contains(MapFlags::FIXED) {
            return self.change(|layout, gather| self.map_area(layout, gather, request)).await;
        }
        let excluding = self.exclude(Exclusion::CHANGES).await;
        let range = excluding.step(|layout, _| {
            let range = self.check_area(layout, request)?.range;
            layout.exclude(Exclusion::faults_in(range.clone()));
            Ok(range)
        })?;
        let mut budget = Budget::new();
        let mut at = range.start;
        while let Some(next) = excluding.step(|layout, gather| layout.unmap_slice(gather, at..range.end, SLICE))? {
            at = next;
            budget.pace(SLICE).await;
        }
        excluding.step(|layout, gather| self.map_area(layout, gather, request))
    }

    /// Creates a mapping for a program that is not running yet, and returns where. Errors as mmap(2).
    pub fn map(&self, request: &MapRequest) -> Result<usize, Errno> {
        self.change_now(|layout, gather| self.map_area(layout, gather, request)).map(|(range, _)| range.start)
    }

    fn map_area(
        &self,
        layout: &mut Layout,
        gather: &mut MmuGather<'_>,
        request: &MapRequest,
    ) -> Result<(Range<usize>, AreaFlags), Errno> {
        let area = self.check_area(layout, request)?;
        let (range, flags) = (area.range.clone(), area.flags);
        if request.replaces() {
            layout.unmap_now(gather, range.clone())?;
        }
        layout.add(area)?;
        Ok((range, flags))
    }

    /// The area that is wanted, if nothing speaks against it. What is there is to be replaced.
    fn check_area(&self, layout: &mut Layout, request: &MapRequest) -> Result<Area, Errno> {
        if request.length == 0 {
            return Err(Errno::EINVAL);
        }
        let length = page_align(request.length);
        if length == 0 {
            return Err(Errno::ENOMEM);
        }
        if matches!(request.backing, Backing::File { offset, .. } if !offset.is_multiple_of(PAGE_SIZE as u64)) {
            return Err(Errno::EINVAL);
        }
        if layout.areas.len() >= MAXIMUM_AREAS {
            return Err(Errno::ENOMEM);
        }
        let fixed = request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NO_REPLACE);
        let address = if fixed {
            fixed_address(request.address, length)?
        } else {
            let low = request.flags.intersects(MapFlags::LOW_2_GIB); // it may be no bit
            layout.find_space(request.address, length, &self.placement, low)?
        };
        let range = address..address + length;
        if request.flags.contains(MapFlags::FIXED_NO_REPLACE) && layout.areas.overlaps(&range) {
            return Err(Errno::EEXIST);
        }
        let area = self.area_for(request, range, layout.future_flags)?;
        let replaced = if request.replaces() { layout.areas.covered(&area.range) } else { 0 };
        layout.check_locked(&area)?;
        layout.check_growth(&area, area.pages() - replaced)?;
        check_commit(self.memory(), &area, area.pages())?;
        Ok(area)
    }

    /// The checks of types and rights, and the area that passes them.
    fn area_for(&self, request: &MapRequest, range: Range<usize>, future: AreaFlags) -> Result<Area, Errno> {
        let all = AreaFlags::MAY_READ | AreaFlags::MAY_WRITE | AreaFlags::MAY_EXECUTE;
        let access = access_of(request.protection);
        let kind = request.flags.bits() & MapFlags::TYPE;
        let mut flags = all | future;
        flags.set(AreaFlags::GROWS_DOWN, request.flags.contains(MapFlags::GROWS_DOWN));
        flags.set(AreaFlags::NO_HUGE_PAGE, request.flags.contains(MapFlags::STACK));
        flags.set(AreaFlags::NO_RESERVE, request.flags.contains(MapFlags::NO_RESERVE));
        flags.set(AreaFlags::LOCKED, request.flags.contains(MapFlags::LOCKED) || future.contains(AreaFlags::LOCKED));
        let shared = kind == MapFlags::SHARED.bits() || kind == MapFlags::SHARED_VALIDATE;
        let mut backing = request.backing.clone();
        match &request.backing {
            Backing::File { file, offset } => {
                let end = offset.checked_add(range.len() as u64);
                end.filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EOVERFLOW)?;
                if kind == MapFlags::SHARED_VALIDATE && has_unknown_flags(request.flags) {
                    return Err(Errno::EOPNOTSUPP);
                }
                if shared {
                    if access.contains(Access::WRITE) && !file.writable {
                        return Err(Errno::EACCES);
                    }
                    flags.set(AreaFlags::MAY_WRITE, file.writable);
                } else if kind != MapFlags::PRIVATE.bits() {
                    return Err(Errno::EINVAL);
                }
                if !file.readable {
                    return Err(Errno::EACCES);
                }
                if !file.executable {
                    if access.contains(Access::EXECUTE) {
                        return Err(Errno::EPERM);
                    }
                    flags.remove(AreaFlags::MAY_EXECUTE);
                }
                if flags.contains(AreaFlags::GROWS_DOWN) {
                    return Err(Errno::EINVAL);
                }
            }
            Backing::Anonymous if kind == MapFlags::SHARED.bits() => {
                if flags.contains(AreaFlags::GROWS_DOWN) {
                    return Err(Errno::EINVAL);
                }
                self.memory().may_commit(range.len() / PAGE_SIZE)?;
                backing = nameless_file(self.memory(), range.len());
            }
            Backing::Anonymous if kind == MapFlags::PRIVATE.bits() => {}
            Backing::Anonymous => return Err(Errno::EINVAL),
        }
        flags.set(AreaFlags::SHARED, shared);
        let accounted = access.contains(Access::WRITE) && !shared && !flags.contains(AreaFlags::NO_RESERVE);
        flags.set(AreaFlags::ACCOUNTED, accounted);
        Ok(Area { range, access, flags, written: Written::default(), backing, moved: 0 })
    }

    /// munmap(2). Large ranges go in slices between which other threads run. `EINVAL`, `ENOMEM` (too many areas).
    pub async fn unmap(&self, address: usize, length: usize) -> Result<(), Errno> {
        let length = page_align(length);
        let fits = address <= USER_TOP && length <= USER_TOP - address;
        if !is_aligned(address) || length == 0 || !fits {
            return Err(Errno::EINVAL);
        }
        let (mut at, end) = (address, address + length);
        let mut budget = Budget::new();
        while let Some(next) = self.change(|layout, gather| layout.unmap_slice(gather, at..end, SLICE)).await? {
            at = next;
            budget.pace(SLICE).await;
        }
        Ok(())
    }

    /// Brings the pages of `range` in, as if each had been touched.
    pub(crate) async fn populate(&self, range: Range<usize>, budget: &mut Budget) -> Result<(), MemoryFault> {
        for page in range.step_by(PAGE_SIZE) {
            let access = match self.layout().areas.containing(page) {
                Some(area) if area.access.contains(Access::WRITE) && !area.is_shared() => Access::WRITE,
                Some(area) if !area.access.is_empty() => Access::READ,
                _ => return Err(MemoryFault::NotPermitted),
            };
            self.fault(page, access).await?;
            budget.pace(1).await;
        }
        Ok(())
    }

    /// Makes the stack of a new program and returns its top: the first byte above it. `ENOMEM`.
    pub fn map_stack(&self) -> Result<usize, Errno> {
        let top = self.placement.stack_top;
        let limit = usize::try_from(self.layout().limits.stack).unwrap_or(usize::MAX) & !(PAGE_SIZE - 1);
        let size = FIRST_STACK.min(limit.max(PAGE_SIZE));
        self.map(&MapRequest {
            address: top - size,
            length: size,
            protection: Protection::READ | Protection::WRITE,
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::GROWS_DOWN,
            backing: Backing::Anonymous,
        })?;
        Ok(top)
    }

    /// Maps one segment of a program (`PT_LOAD`): `file_length` bytes of the file from `offset` at `address`, then zeros up
    /// to `memory_length`. `address` and `offset` must agree modulo the page size. Errors as mmap(2), and `ENOEXEC`.
    pub async fn map_segment(
        &self,
        address: usize,
        memory_length: usize,
        file: &Arc<MappedFile>,
        offset: u64,
        file_length: usize,
        protection: Protection,
    ) -> Result<(), Errno> {
        let within = address % PAGE_SIZE;
        let end = address.checked_add(memory_length).filter(|end| *end <= USER_TOP).ok_or(Errno::ENOEXEC)?;
        if offset % PAGE_SIZE as u64 != within as u64 || file_length > memory_length {
            return Err(Errno::ENOEXEC);
        }
        let file_end = address + file_length;
        let bss = if file_length == 0 { address - within } else { page_align(file_end) };
        let private = MapFlags::PRIVATE | MapFlags::FIXED;
        if file_length > 0 {
            let backing = Backing::File { file: file.clone(), offset: offset - within as u64 };
            let length = file_length + within;
            self.map(&MapRequest { address: address - within, length, protection, flags: private, backing })?;
        }
        if page_align(end) > bss {
            let flags = private | MapFlags::ANONYMOUS;
            let length = page_align(end) - bss;
            self.map(&MapRequest { address: bss, length, protection, flags, backing: Backing::Anonymous })?;
        }
        if file_length > 0 && memory_length > file_length && protection.contains(Protection::WRITE) {
            // What the file's last page holds beyond must read as zero: to the end of the page, not only of the
            // segment, since the loader of glibc takes its first memory from there.
            let refusal = |errno| if errno == Errno::ENOMEM { errno } else { Errno::ENOEXEC };
            self.zero(file_end, bss - file_end).await.map_err(refusal)?;
        }
        Ok(())
    }

    /// Where a position-independent program is loaded.
    pub fn program_base(&self) -> usize {
        self.placement.program_base
    }
}

/// A shared anonymous area is a file in RAM that has no name and is seen by those who inherit the area.
fn nameless_file(memory: &Arc<Memory>, length: usize) -> Backing {
    struct Nameless;
    impl FileIdentity for Nameless {
        fn path(&self) -> Result<Vec<u8>, Errno> {
            try_to_vec(b"/dev/zero (deleted)")
        }
        fn device(&self) -> (u32, u32) {
            (0, 1)
        }
        fn inode(&self) -> u64 {
            1
        }
    }
    let pages = PageCache::new(PageBudget::new(memory, u64::MAX));
    pages.set_size(length as u64);
    let file = MappedFile {
        pager: Arc::new(pages),
        identity: Arc::new(Nameless),
        readable: true,
        writable: true,
        executable: true,
    };
    Backing::File { file: Arc::new(file), offset: 0 }
}

/// Flags `MAP_SHARED_VALIDATE` refuses: what came after Linux's legacy flags, and what is no flag.
fn has_unknown_flags(flags: MapFlags) -> bool {
    let known = MapFlags::all() - (MapFlags::SYNC | MapFlags::FIXED_NO_REPLACE);
    flags.bits() & !(known.bits() | MapFlags::TYPE) != 0
}

/// Checks an address that must be taken as it is.
pub(crate) fn fixed_address(address: usize, length: usize) -> Result<usize, Errno> {
    if length > USER_TOP || address > USER_TOP - length {
        return Err(Errno::ENOMEM);
    }
    if !is_aligned(address) {
        return Err(Errno::EINVAL);
    }
    if address < MINIMUM_ADDRESS {
        return Err(Errno::EPERM);
    }
    Ok(address)
}

impl Layout {
    /// Adds an area where none is, joined with its neighbours where they continue it.
    pub fn add(&mut self, area: Area) -> Result<(), Errno> {
        let range = area.range.clone();
        self.areas.insert(area)?;
        self.merge(range);
        Ok(())
    }

    /// Joins areas at the borders of and within `range`.
    pub fn merge(&mut self, range: Range<usize>) {
        let released = &mut self.released;
        self.areas.merge_around(range, |area| Layout::release(released, area));
    }

    /// `RLIMIT_AS` and `RLIMIT_DATA` for `pages` more of the kind of `area`.
    pub fn check_growth(&self, area: &Area, pages: usize) -> Result<(), Errno> {
        let totals = self.areas.totals();
        let within = |used: usize, limit: u64| (used + pages) as u64 <= limit / PAGE_SIZE as u64;
        let is_data =
            area.access.contains(Access::WRITE) && !area.flags.intersects(AreaFlags::SHARED | AreaFlags::GROWS_DOWN);
        if !within(totals.all, self.limits.address_space) || (is_data && !within(totals.data, self.limits.data)) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// `RLIMIT_MEMLOCK` for a new or grown area. `EPERM` if nothing may be locked, `EAGAIN` if it would be too much.
    fn check_locked(&self, area: &Area) -> Result<(), Errno> {
        if !area.flags.contains(AreaFlags::LOCKED) {
            return Ok(());
        }
        if self.limits.locked == 0 {
            return Err(Errno::EPERM);
        }
        let locked = (self.areas.totals().locked + area.pages()) as u64;
        if locked > self.limits.locked / PAGE_SIZE as u64 { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Where `length` bytes fit: at the wish if it is free, else as high as possible below the base of mappings.
    pub fn find_space(&mut self, wish: usize, length: usize, place: &Placement, low: bool) -> Result<usize, Errno> {
        if length > USER_TOP {
            return Err(Errno::ENOMEM);
        }
        let wish = page_align(wish);
        if wish != 0 && !low {
            let wish = wish.max(MINIMUM_ADDRESS);
            if wish <= USER_TOP - length && self.is_free(wish, length) {
                return Ok(wish);
            }
        }
        if low {
            return self.areas.lowest_gap(0x4000_0000..0x8000_0000, length).ok_or(Errno::ENOMEM);
        }
        let below = self.areas.highest_gap(MINIMUM_ADDRESS..place.map_base, length);
        // A process that has filled everything below its stack gets what is left between.
        below.or_else(|| self.areas.lowest_gap(place.map_base..USER_TOP, length)).ok_or(Errno::ENOMEM)
    }

    /// Whether nothing is, and no stack may grow, in the range.
    fn is_free(&self, address: usize, length: usize) -> bool {
        self.areas.first_ending_above(address).is_none_or(|next| address + length <= next.start_with_gap())
    }

    /// Takes out the areas and pages of `range`, all at once.
    pub fn unmap_now(&mut self, gather: &mut MmuGather<'_>, range: Range<usize>) -> Result<(), Errno> {
        self.unmap_slice(gather, range, usize::MAX).map(|_| ())
    }

    /// Takes out areas and pages of `range` from its start, up to about `budget` pages and as many areas. Returns where to
    /// go on.
    pub fn unmap_slice(
        &mut self,
        gather: &mut MmuGather<'_>,
        range: Range<usize>,
        budget: usize,
    ) -> Result<Option<usize>, Errno> {
        let Some(first) = self.areas.first_ending_above(range.start).filter(|area| area.range.start < range.end) else {
            return Ok(None);
        };
        let makes_hole = first.range.start < range.start && range.end < first.range.end;
        if makes_hole && self.areas.len() >= MAXIMUM_AREAS {
            return Err(Errno::ENOMEM);
        }
        let (start, end) = (first.range.start, first.range.end);
        if start < range.start {
            self.areas.split(range.start)?;
        }
        if end != range.end {
            self.areas.split(range.end)?;
        }
        self.note_resident(gather.resident());
        self.recent.forget(&range);
        let limit = if end < range.end && budget != usize::MAX { self.start_after(AREAS, &range) } else { None };
        let next = gather.unmap_some(range.start..limit.unwrap_or(range.end), budget).map(usize::from).or(limit);
        let done = range.start..next.unwrap_or(range.end);
        if next.is_some() {
            self.areas.split(done.end)?;
        }
        let released = &mut self.released;
        self.areas.remove_within(done, |area| Layout::release(released, area));
        Ok(next)
    }

    /// Where the area starts in `range` that has so many of it below.
    fn start_after(&self, areas: usize, range: &Range<usize>) -> Option<usize> {
        let mut within = self.areas.ascending(range.start).take_while(|area| area.range.start < range.end);
        within.nth(areas).map(|area| area.range.start)
    }
}

/// Whether `memory` could back `pages` more, for who extends an accounted area.
pub(crate) fn check_commit(memory: &Memory, area: &Area, pages: usize) -> Result<(), Errno> {
    if area.flags.contains(AreaFlags::ACCOUNTED) { memory.may_commit(pages) } else { Ok(()) }
}
