//! All areas of an address space, in order.
//!
//! The areas lie in sorted *chunks* of at most [`CHUNK`]: nearly every program has a single one, in which a binary search
//! finds an area in a few steps and which fork copies in one sweep; a program with tens of thousands of areas still
//! inserts and removes by moving no more than a chunk. Only [`AreaSet::insert`] can run out of memory, so a change that
//! first makes its splits (which insert) and then removes never stops half-way.
//!
//! The set also keeps the totals of its areas (for limits and /proc/PID/statm) and tells each mapped file who maps it.
//! The address space's lock guards it.

use alloc::sync::Weak;
use alloc::vec::Vec;
use core::ops::Range;

use abi::Errno;
use machine::memory::Access;

use crate::address_space::AddressSpace;
use crate::area::{Area, AreaFlags};

/// Areas in a chunk at most.
const CHUNK: usize = 64;

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

/// The place of an area in the set. Valid until the set changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    chunk: usize,
    index: usize,
}

/// The areas of one address space.
pub struct AreaSet {
    chunks: Vec<Vec<Area>>,
    count: usize,
    totals: Totals,
    /// Who maps: entered into the files' [`Mappings`](crate::Mappings).
    owner: Weak<AddressSpace>,
    owner_id: u64,
}

impl AreaSet {
    /// An empty set of the space `owner`, known to files as `owner_id`.
    pub fn new(owner: Weak<AddressSpace>, owner_id: u64) -> AreaSet {
        AreaSet { chunks: Vec::new(), count: 0, totals: Totals::default(), owner, owner_id }
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
            chunks => chunks.partition_point(|chunk| chunk.last().is_none_or(|area| area.range.end <= address)),
        };
        let areas = self.chunks.get(chunk)?;
        let index = areas.partition_point(|area| area.range.end <= address);
        (index < areas.len()).then_some(Position { chunk, index })
    }

    /// The area at `position`.
    #[inline]
    pub fn get(&self, position: Position) -> Option<&Area> {
        self.chunks.get(position.chunk)?.get(position.index)
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
        let first = self.chunks.get(from.chunk).and_then(|areas| areas.get(from.index..)).unwrap_or_default();
        let rest = self.chunks.get(from.chunk + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten())
    }

    /// The areas that start below `address`, descending.
    pub fn descending(&self, address: usize) -> impl Iterator<Item = &Area> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|area| area.range.start < address));
        let (whole, last) = match chunk.checked_sub(1) {
            Some(last) => (self.chunks.get(..last).unwrap_or_default(), self.chunks.get(last)),
            None => (Default::default(), None),
        };
        let last = last.map(Vec::as_slice).unwrap_or_default();
        let end = last.partition_point(|area| area.range.start < address);
        last.get(..end).unwrap_or_default().iter().rev().chain(whole.iter().rev().flat_map(|areas| areas.iter().rev()))
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
    pub fn insert(&mut self, area: Area) -> Result<(), Errno> {
        if self.chunks.is_empty() {
            self.chunks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.chunks.push(Vec::new());
        }
        let ends_before = |chunk: &Vec<Area>| chunk.last().is_some_and(|last| last.range.end <= area.range.start);
        let mut at = self.chunks.partition_point(ends_before).min(self.chunks.len() - 1);
        if self.chunks.get(at).is_some_and(|chunk| chunk.len() >= CHUNK) {
            self.split_chunk(at)?;
            let upper = self.chunks.get(at + 1).and_then(|chunk| chunk.first());
            at += usize::from(upper.is_some_and(|first| first.range.start < area.range.start));
        }
        let chunk = self.chunks.get_mut(at).ok_or(Errno::ENOMEM)?;
        chunk.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let index = chunk.partition_point(|other| other.range.start < area.range.start);
        if let Some(mappings) = area.mappings() {
            mappings.add(self.owner_id, &self.owner);
        }
        self.totals.add(&area);
        self.count += 1;
        chunk.insert(index, area);
        Ok(())
    }

    fn split_chunk(&mut self, at: usize) -> Result<(), Errno> {
        let mut upper = Vec::new();
        upper.try_reserve_exact(CHUNK).map_err(|_| Errno::ENOMEM)?;
        self.chunks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if let Some(lower) = self.chunks.get_mut(at) {
            upper.extend(lower.drain(CHUNK / 2..));
            self.chunks.insert(at + 1, upper);
        }
        Ok(())
    }

    /// Takes out the area at `position`.
    pub fn remove(&mut self, position: Position) -> Option<Area> {
        let chunk = self.chunks.get_mut(position.chunk)?;
        if position.index >= chunk.len() {
            return None;
        }
        let area = chunk.remove(position.index);
        if chunk.is_empty() && self.chunks.len() > 1 {
            self.chunks.remove(position.chunk);
        }
        self.totals.subtract(&area);
        self.count -= 1;
        if let Some(mappings) = area.mappings() {
            mappings.remove(self.owner_id);
        }
        Some(area)
    }

    /// Changes the area at `position`, whose start and end must stay between its neighbours' and whose file must stay.
    pub fn modify(&mut self, position: Position, change: impl FnOnce(&mut Area)) {
        if let Some(area) = self.chunks.get_mut(position.chunk).and_then(|chunk| chunk.get_mut(position.index)) {
            self.totals.subtract(area);
            change(area);
            self.totals.add(area);
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

    /// A copy for a child: areas are changed or left out by `adopt`.
    pub fn duplicate(
        &self,
        owner: Weak<AddressSpace>,
        owner_id: u64,
        mut adopt: impl FnMut(&Area) -> Option<Area>,
    ) -> Result<AreaSet, Errno> {
        let mut set = AreaSet::new(owner, owner_id);
        set.chunks.try_reserve_exact(self.chunks.len()).map_err(|_| Errno::ENOMEM)?;
        for chunk in &self.chunks {
            let mut copies = Vec::new();
            copies.try_reserve_exact(chunk.len()).map_err(|_| Errno::ENOMEM)?;
            for area in chunk.iter().filter_map(&mut adopt) {
                if let Some(mappings) = area.mappings() {
                    mappings.add(owner_id, &set.owner);
                }
                set.totals.add(&area);
                set.count += 1;
                copies.push(area);
            }
            if !copies.is_empty() {
                set.chunks.push(copies);
            }
        }
        Ok(set)
    }

    /// Empties the set.
    pub fn clear(&mut self) -> impl Iterator<Item = Area> + use<> {
        for area in self.chunks.iter().flatten() {
            if let Some(mappings) = area.mappings() {
                mappings.remove(self.owner_id);
            }
        }
        self.count = 0;
        self.totals = Totals::default();
        core::mem::take(&mut self.chunks).into_iter().flatten()
    }
}

impl Drop for AreaSet {
    /// Files must not believe they are still mapped.
    fn drop(&mut self) {
        self.clear().for_each(drop);
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
