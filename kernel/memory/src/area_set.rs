//! All areas of an address space, in order.
//!
//! The areas lie in sorted *chunks* of at most [`CHUNK`]: nearly every program has a single one, in which a binary search
//! finds an area in a few steps and which fork copies in one sweep; a program with tens of thousands of areas still
//! inserts and removes by moving no more than a chunk. Only [`AreaSet::insert`] can run out of memory, so a change that
//! first makes its splits (which insert) and then removes never stops half-way.
//!
//! Where a new area fits is found by skipping chunks whose widest gap is too narrow, and *groups* of chunks likewise, so it takes a
//! look at each group, and not at each area. (Linux keeps the same knowledge in the nodes of its maple tree.)
//!
//! The set also keeps the totals of its areas (for limits and /proc/PID/statm) and tells each mapped file who maps it.
//! The address space's lock guards it.

use alloc::sync::Weak;
use alloc::vec::Vec;
use core::ops::Range;

use abi::Errno;
use abi::fallible::TryVec;
use machine::memory::{Access, fallible};

use crate::address_space::AddressSpace;
use crate::area::{Area, AreaFlags};

/// Areas in a chunk at most.
const CHUNK: usize = 64;

/// Chunks in a group; in tests few, so that there are many groups.
const GROUP: usize = if cfg!(test) { 4 } else { 64 };

/// Pages by what they count as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All.
    pub all: usize,
    /// Private and writable, no stack: `RLIMIT_DATA`, VmData.
    pub data: usize,
    /// Growing areas: VmStk.
    pub stack: usize,
    /// Executable files: VmExe and VmLib.
    pub executable: usize,
    /// mlock(2)ed: `RLIMIT_MEMLOCK`.
    pub locked: usize,
    /// Counted against the commit limit.
    pub committed: usize,
}

/// In which order gaps are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// The place of an area in the set. Valid until the set changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    chunk: usize,
    index: usize,
}

/// Neighbours, at most [`CHUNK`] of them.
#[derive(Default)]
struct Chunk {
    areas: Vec<Area>,
    /// Bytes of the widest gap right below one of the areas; `None` if that has to be found out again.
    widest_gap: Option<usize>,
}

/// The areas of one address space.
pub struct AreaSet {
    chunks: Vec<Chunk>,
    /// Bytes of the widest gap of each [`GROUP`] of chunks, as in [`Chunk`]; of those at the end nothing may be known.
    groups: Vec<Option<usize>>,
    /// Chunks that were searched for gaps.
    #[cfg(test)]
    pub searched: usize,
    count: usize,
    totals: Totals,
    /// Who maps: entered into the files' [`Mappings`](crate::Mappings).
    owner: Weak<AddressSpace>,
    owner_id: u64,
}

impl AreaSet {
    /// An empty set of the space `owner`, known to files as `owner_id`.
    pub fn new(owner: Weak<AddressSpace>, owner_id: u64) -> AreaSet {
        AreaSet {
            chunks: Vec::new(),
            groups: Vec::new(),
            #[cfg(test)]
            searched: 0,
            count: 0,
            totals: Totals::default(),
            owner,
            owner_id,
        }
    }

    /// Number of areas.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Pages of all areas, by kind.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The place of the first area that ends above `address`: the one that contains it, or the next.
    #[inline]
    pub fn position(&self, address: usize) -> Option<Position> {
        let chunk = match self.chunks.as_slice() {
            [_] => 0,
            chunks => chunks.partition_point(|chunk| chunk.areas.last().is_none_or(|area| area.range.end <= address)),
        };
        let areas = &self.chunks.get(chunk)?.areas;
        let index = areas.partition_point(|area| area.range.end <= address);
        (index < areas.len()).then_some(Position { chunk, index })
    }

    /// The area at `position`.
    #[inline]
    pub fn get(&self, position: Position) -> Option<&Area> {
        self.chunks.get(position.chunk)?.areas.get(position.index)
    }

    /// The area that contains `address`, or else the first above it.
    #[inline]
    pub fn first_ending_above(&self, address: usize) -> Option<&Area> {
        self.get(self.position(address)?)
    }

    /// The area that contains `address`.
    #[inline]
    pub fn containing(&self, address: usize) -> Option<&Area> {
        self.first_ending_above(address).filter(|area| area.range.start <= address)
    }

    /// The last area that starts below `address`.
    pub fn last_starting_below(&self, address: usize) -> Option<&Area> {
        self.descending(address).next()
    }

    /// The areas that end above `address`, ascending.
    pub fn ascending(&self, address: usize) -> impl Iterator<Item = &Area> {
        let from = self.position(address).unwrap_or(Position { chunk: self.chunks.len(), index: 0 });
        let first = self.chunks.get(from.chunk).and_then(|chunk| chunk.areas.get(from.index..)).unwrap_or_default();
        let rest = self.chunks.get(from.chunk + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flat_map(|chunk| &chunk.areas))
    }

    /// The areas that start below `address`, descending.
    pub fn descending(&self, address: usize) -> impl Iterator<Item = &Area> {
        let starts_below = |chunk: &Chunk| chunk.areas.first().is_some_and(|area| area.range.start < address);
        let chunk = self.chunks.partition_point(starts_below);
        let (whole, last) = match chunk.checked_sub(1) {
            Some(last) => (self.chunks.get(..last).unwrap_or_default(), self.chunks.get(last)),
            None => (Default::default(), None),
        };
        let last = last.map(|chunk| chunk.areas.as_slice()).unwrap_or_default();
        let end = last.partition_point(|area| area.range.start < address);
        last.get(..end)
            .unwrap_or_default()
            .iter()
            .rev()
            .chain(whole.iter().rev().flat_map(|chunk| chunk.areas.iter().rev()))
    }

    /// Whether some area overlaps `range`.
    pub fn overlaps(&self, range: &Range<usize>) -> bool {
        self.first_ending_above(range.start).is_some_and(|area| area.range.start < range.end)
    }

    /// Pages of `range` that areas cover.
    pub fn covered(&self, range: &Range<usize>) -> usize {
        let parts = self.ascending(range.start).take_while(|area| area.range.start < range.end);
        parts.map(|area| (area.range.end.min(range.end) - area.range.start.max(range.start)) / crate::PAGE_SIZE).sum()
    }

    /// Whether areas cover `range` without a hole.
    pub fn covers(&self, range: &Range<usize>) -> bool {
        self.covered(range) * crate::PAGE_SIZE == range.len()
    }

    /// Adds an area where none is. `ENOMEM`: nothing changed.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn insert(&mut self, area: Area) -> Result<(), Errno> {
        if self.chunks.is_empty() {
            self.chunks.try_push(Chunk::default())?;
        }
        let ends_before = |chunk: &Chunk| chunk.areas.last().is_some_and(|last| last.range.end <= area.range.start);
        let mut at = self.chunks.partition_point(ends_before).min(self.chunks.len() - 1);
        if self.chunks.get(at).is_some_and(|chunk| chunk.areas.len() >= CHUNK) {
            self.split_chunk(at)?;
            let upper = self.chunks.get(at + 1).and_then(|chunk| chunk.areas.first());
            at += usize::from(upper.is_some_and(|first| first.range.start < area.range.start));
        }
        let areas = &mut self.chunks.get_mut(at).ok_or(Errno::ENOMEM)?.areas;
        fallible(|| areas.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        let index = areas.partition_point(|other| other.range.start < area.range.start);
        if let Some(mappings) = area.mappings() {
            mappings.add(self.owner_id, &self.owner);
        }
        self.totals.add(&area);
        self.count += 1;
        areas.insert(index, area);
        self.forget_gaps(at);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn split_chunk(&mut self, at: usize) -> Result<(), Errno> {
        let mut upper = Vec::new();
        fallible(|| upper.try_reserve_exact(CHUNK)).map_err(|_| Errno::ENOMEM)?;
        fallible(|| self.chunks.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        if let Some(lower) = self.chunks.get_mut(at) {
            // bounded: room was made before
            upper.extend(lower.areas.drain(CHUNK / 2..));
            self.chunks.insert(at + 1, Chunk { areas: upper, widest_gap: None });
            self.forget_groups(at);
        }
        Ok(())
    }

    /// Takes out the area at `position`.
    pub fn remove(&mut self, position: Position) -> Option<Area> {
        let areas = &mut self.chunks.get_mut(position.chunk)?.areas;
        if position.index >= areas.len() {
            return None;
        }
        let area = areas.remove(position.index);
        if areas.is_empty() && self.chunks.len() > 1 {
            self.chunks.remove(position.chunk);
            self.forget_groups(position.chunk);
        }
        self.forget_gaps(position.chunk);
        self.totals.subtract(&area);
        self.count -= 1;
        if let Some(mappings) = area.mappings() {
            mappings.remove(self.owner_id);
        }
        Some(area)
    }

    /// Changes the area at `position`, whose start and end must stay between its neighbours' and whose file must stay.
    pub fn modify(&mut self, position: Position, change: impl FnOnce(&mut Area)) {
        let chunk = self.chunks.get_mut(position.chunk);
        if let Some(area) = chunk.and_then(|chunk| chunk.areas.get_mut(position.index)) {
            let range = area.range.clone();
            self.totals.subtract(area);
            change(area);
            self.totals.add(area);
            if area.range != range {
                self.forget_gaps(position.chunk);
            }
        }
    }

    /// Makes `address` a border between areas, if it lies inside one. `ENOMEM`: nothing changed.
    pub fn split(&mut self, address: usize) -> Result<(), Errno> {
        let Some(position) = self.position(address) else { return Ok(()) };
        let Some(area) = self.get(position).filter(|area| area.range.start < address) else { return Ok(()) };
        let upper = Area { range: address..area.range.end, backing: area.backing_from(address), ..area.clone() };
        // Shrinking first keeps the order of the set whole while the upper part goes in.
        let end = upper.range.end;
        self.modify(position, |area| area.range.end = address);
        let inserted = self.insert(upper);
        if inserted.is_err() {
            self.modify(position, |area| area.range.end = end);
        }
        inserted
    }

    /// Takes out the areas that lie in `range`, the lowest first, whose borders were split before.
    pub fn remove_within(&mut self, range: Range<usize>, mut removed: impl FnMut(Area)) {
        while let Some(position) = self.position(range.start)
            && self.get(position).is_some_and(|area| area.range.end <= range.end)
            && let Some(area) = self.remove(position)
        {
            removed(area);
        }
    }

    /// Joins what belongs together at the borders in `range`, both ends included. Returns what the joined areas
    /// let go of.
    pub fn merge_around(&mut self, range: Range<usize>, mut removed: impl FnMut(Area)) {
        let mut at = range.start.saturating_sub(1);
        while let Some(position) = self.position(at) {
            let Some(area) = self.get(position) else { return };
            if area.range.start > range.end {
                return;
            }
            let end = area.range.end;
            let next = self.position(end).and_then(|next| Some((next, self.get(next)?)));
            match next {
                Some((next, following)) if area.continues_in(following) => {
                    let Some(joined) = self.remove(next) else { return };
                    // Removing a later area, or a later chunk, leaves this position valid.
                    self.modify(position, |area| {
                        area.range.end = joined.range.end;
                        area.flags |= joined.flags;
                    });
                    removed(joined);
                }
                _ => at = end,
            }
        }
    }

    /// The highest address in `within` at which `length` bytes are free and no stack may grow.
    pub fn highest_gap(&mut self, within: Range<usize>, length: usize) -> Option<usize> {
        let fits = |gap: Range<usize>| {
            let gap = gap.start.max(within.start)..gap.end.min(within.end);
            gap.end.checked_sub(length).filter(|start| *start >= gap.start)
        };
        let (chunks, above) = self.window(&within);
        above.and_then(fits).or_else(|| self.search_chunks(chunks, length, Order::Descending, fits))
    }

    /// The lowest address in `within` at which `length` bytes are free and no stack may grow.
    pub fn lowest_gap(&mut self, within: Range<usize>, length: usize) -> Option<usize> {
        let fits = |gap: Range<usize>| {
            let gap = gap.start.max(within.start)..gap.end.min(within.end);
            gap.start.checked_add(length).filter(|end| *end <= gap.end).map(|_| gap.start)
        };
        let (chunks, above) = self.window(&within);
        self.search_chunks(chunks, length, Order::Ascending, fits).or_else(|| above.and_then(fits))
    }

    /// Where the gaps in `within` are: below the areas of some chunks, and perhaps above all areas.
    fn window(&self, within: &Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
        let bottom = self.position(within.start).map_or(self.chunks.len(), |position| position.chunk);
        match self.position(within.end) {
            Some(top) => (bottom..top.chunk + 1, None),
            None => {
                let end = self.descending(usize::MAX).next().map_or(0, |area| area.range.end);
                (bottom..self.chunks.len(), Some(end..usize::MAX))
            }
        }
    }

    /// Tries the gaps of some chunks, but of those groups of which it is known that none has `length` bytes.
    fn search_chunks(
        &mut self,
        chunks: Range<usize>,
        length: usize,
        order: Order,
        fits: impl Fn(Range<usize>) -> Option<usize> + Copy,
    ) -> Option<usize> {
        let mut left = chunks;
        while !left.is_empty() {
            let group = if order == Order::Ascending { left.start } else { left.end - 1 } / GROUP;
            let whole = group * GROUP..(group + 1) * GROUP;
            let mut part = left.start.max(whole.start)..left.end.min(whole.end);
            left = if order == Order::Ascending { part.end..left.end } else { left.start..part.start };
            if self.groups.get(group).copied().flatten().is_some_and(|widest| widest < length) {
                continue;
            }
            let found = match order {
                Order::Ascending => part.find_map(|at| self.search_chunk(at, length, order, fits)),
                Order::Descending => part.rev().find_map(|at| self.search_chunk(at, length, order, fits)),
            };
            if found.is_some() {
                return found;
            }
            self.learn(group);
        }
        None
    }

    /// Remembers the widest gap of a group, if it is known of all its chunks, and if there is memory to remember it.
    fn learn(&mut self, group: usize) {
        let chunks = self.chunks.iter().skip(group * GROUP).take(GROUP);
        let widest = chunks.map(|chunk| chunk.widest_gap).try_fold(0, |widest, own| own.map(|own| widest.max(own)));
        while self.groups.len() <= group {
            if self.groups.try_push(None).is_err() {
                return;
            }
        }
        if let Some(known) = self.groups.get_mut(group) {
            *known = widest;
        }
    }

    /// Of the group in which chunk `at` is, and of those behind it, other chunks are members now.
    fn forget_groups(&mut self, at: usize) {
        self.groups.truncate(at / GROUP);
    }

    /// Tries the gaps right below the areas of a chunk, unless it is known that none has `length` bytes.
    fn search_chunk(
        &mut self,
        at: usize,
        length: usize,
        order: Order,
        fits: impl Fn(Range<usize>) -> Option<usize>,
    ) -> Option<usize> {
        #[cfg(test)]
        {
            self.searched += 1;
        }
        let before = at.checked_sub(1).and_then(|before| self.chunks.get(before)?.areas.last());
        let below_all = before.map_or(0, |area| area.range.end);
        let chunk = self.chunks.get_mut(at).filter(|chunk| chunk.widest_gap.is_none_or(|widest| widest >= length))?;
        let mut widest_gap = 0;
        for step in 0..chunk.areas.len() {
            let index = if order == Order::Ascending { step } else { chunk.areas.len() - 1 - step };
            let below = index.checked_sub(1).and_then(|below| chunk.areas.get(below));
            let start = below.map_or(below_all, |area| area.range.end);
            let gap = start..chunk.areas.get(index)?.start_with_gap();
            widest_gap = widest_gap.max(gap.len());
            if let Some(found) = fits(gap) {
                return Some(found);
            }
        }
        chunk.widest_gap = Some(widest_gap);
        None
    }

    /// The gaps around chunk `at` have changed: those below its areas, and the one below the next chunk.
    fn forget_gaps(&mut self, at: usize) {
        for chunk in self.chunks.iter_mut().skip(at).take(2) {
            chunk.widest_gap = None;
        }
        for group in self.groups.iter_mut().skip(at / GROUP).take((at + 1) / GROUP - at / GROUP + 1) {
            *group = None;
        }
    }

    /// Adds an area above all others. `ENOMEM`: nothing changed.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn push(&mut self, area: Area) -> Result<(), Errno> {
        let full = |chunk: &Chunk| chunk.areas.len() >= CHUNK;
        if self.chunks.last().is_none_or(full) {
            fallible(|| self.chunks.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            self.chunks.push(Chunk::default());
        }
        let chunk = self.chunks.last_mut().ok_or(Errno::ENOMEM)?;
        fallible(|| chunk.areas.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        if let Some(mappings) = area.mappings() {
            mappings.add(self.owner_id, &self.owner);
        }
        self.totals.add(&area);
        self.count += 1;
        chunk.areas.push(area);
        self.forget_gaps(self.chunks.len() - 1);
        Ok(())
    }

    /// Takes out the highest areas, as many as lie in a chunk; `None` if there are none.
    pub fn pop_chunk(&mut self) -> Option<Vec<Area>> {
        let areas = self.chunks.pop()?.areas;
        self.forget_groups(self.chunks.len());
        for area in &areas {
            self.totals.subtract(area);
            if let Some(mappings) = area.mappings() {
                mappings.remove(self.owner_id);
            }
        }
        self.count -= areas.len();
        Some(areas)
    }
}

impl Drop for AreaSet {
    /// Files must not believe they are still mapped.
    fn drop(&mut self) {
        while self.pop_chunk().is_some() {}
    }
}

impl Totals {
    fn of(area: &Area) -> Totals {
        let pages = area.pages();
        let counted = |yes: bool| if yes { pages } else { 0 };
        let flags = area.flags;
        let grows = flags.contains(AreaFlags::GROWS_DOWN);
        let writable = area.access.contains(Access::WRITE);
        Totals {
            all: pages,
            data: counted(writable && !area.is_shared() && !grows),
            stack: counted(grows),
            executable: counted(area.access.contains(Access::EXECUTE) && !writable && !grows),
            locked: counted(flags.contains(AreaFlags::LOCKED)),
            committed: counted(flags.contains(AreaFlags::ACCOUNTED)),
        }
    }

    fn add(&mut self, area: &Area) {
        let its = Totals::of(area);
        self.all += its.all;
        self.data += its.data;
        self.stack += its.stack;
        self.executable += its.executable;
        self.locked += its.locked;
        self.committed += its.committed;
    }

    fn subtract(&mut self, area: &Area) {
        let its = Totals::of(area);
        self.all -= its.all;
        self.data -= its.data;
        self.stack -= its.stack;
        self.executable -= its.executable;
        self.locked -= its.locked;
        self.committed -= its.committed;
    }
}
