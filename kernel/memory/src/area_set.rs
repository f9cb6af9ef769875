//! All areas of an address space.
//!
//! They lie in an [`AreaTree`]. Only [`AreaSet::insert`] can run out of memory, so a change that first makes its splits (which insert)
//! and then removes never stops half-way.
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
use crate::area_tree::{AreaTree, Wanted};

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

/// The areas of one address space.
pub struct AreaSet {
    tree: AreaTree,
    count: usize,
    totals: Totals,
    /// Who maps: entered into the files' [`Mappings`](crate::Mappings).
    owner: Weak<AddressSpace>,
    owner_id: u64,
}

impl AreaSet {
    /// An empty set of the space `owner`, known to files as `owner_id`.
    pub fn new(owner: Weak<AddressSpace>, owner_id: u64) -> AreaSet {
        AreaSet { tree: AreaTree::new(), count: 0, totals: Totals::default(), owner, owner_id }
    }

    /// Number of areas.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Pages of all areas, by kind.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The area that contains `address`, or else the first above it.
    #[inline]
    pub fn first_ending_above(&self, address: usize) -> Option<&Area> {
        self.tree.some_from(address).first()
    }

    /// The area that contains `address`.
    #[inline]
    pub fn containing(&self, address: usize) -> Option<&Area> {
        self.first_ending_above(address).filter(|area| area.range.start <= address)
    }

    /// The last area that starts below `address`.
    pub fn last_starting_below(&self, address: usize) -> Option<&Area> {
        self.tree.last_starting_below(address)
    }

    /// The areas that end above `address`, ascending.
    pub fn ascending(&self, address: usize) -> impl Iterator<Item = &Area> {
        let mut near = self.tree.some_from(address);
        core::iter::from_fn(move || {
            let (area, rest) = near.split_first()?;
            near = if rest.is_empty() { self.tree.some_from(area.range.end) } else { rest };
            Some(area)
        })
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
        self.add(area, AreaTree::insert)
    }

    /// As [`insert`](Self::insert), above all others.
    pub fn push(&mut self, area: Area) -> Result<(), Errno> {
        self.add(area, AreaTree::push)
    }

    #[inline]
    fn add(&mut self, area: Area, add: impl FnOnce(&mut AreaTree, Area) -> Result<(), Errno>) -> Result<(), Errno> {
        let (start, is_mapped) = (area.range.start, area.mappings().is_some());
        let totals = Totals::of(&area);
        add(&mut self.tree, area)?;
        if is_mapped && let Some(mappings) = self.containing(start).and_then(Area::mappings) {
            mappings.add(self.owner_id, &self.owner);
        }
        self.totals.add(totals);
        self.count += 1;
        Ok(())
    }

    /// Takes out the area at `address`.
    pub fn remove(&mut self, address: usize) -> Option<Area> {
        let area = self.tree.remove(address)?;
        self.forget(&area);
        Some(area)
    }

    /// Changes the area at `address`, whose start and end must stay between its neighbours' and whose file must stay. False if there
    /// is none.
    pub fn modify(&mut self, address: usize, change: impl FnOnce(&mut Area)) -> bool {
        let totals = &mut self.totals;
        let modified = self.tree.modify(address, |area| {
            totals.subtract(Totals::of(area));
            change(area);
            totals.add(Totals::of(area));
        });
        modified.is_some()
    }

    /// Makes `address` a border between areas, if it lies inside one. `ENOMEM`: nothing changed.
    pub fn split(&mut self, address: usize) -> Result<(), Errno> {
        let Some(area) = self.containing(address).filter(|area| area.range.start < address) else { return Ok(()) };
        let upper = Area { range: address..area.range.end, backing: area.backing_from(address), ..area.clone() };
        // Shrinking first keeps the order of the set whole while the upper part goes in.
        let end = upper.range.end;
        self.modify(address, |area| area.range.end = address);
        let inserted = self.insert(upper);
        if inserted.is_err() {
            self.modify(address - 1, |area| area.range.end = end);
        }
        inserted
    }

    /// Takes out the areas that lie in `range`, the lowest first, whose borders were split before.
    pub fn remove_within(&mut self, range: Range<usize>, mut removed: impl FnMut(Area)) {
        let mut at = range.start;
        while at < range.end
            && let Some(area) = self.first_ending_above(at).filter(|area| area.range.end <= range.end)
            && let Some(area) = self.remove(area.range.start)
        {
            at = area.range.end;
            removed(area);
        }
    }

    /// The first area that ends above `address`, and the next.
    fn neighbours(&self, address: usize) -> Option<(&Area, &Area)> {
        let mut areas = self.ascending(address);
        areas.next().zip(areas.next())
    }

    /// Joins what belongs together at the borders in `range`, both ends included. Returns what the joined areas
    /// let go of.
    pub fn merge_around(&mut self, range: Range<usize>, mut removed: impl FnMut(Area)) {
        let mut at = range.start.saturating_sub(1);
        loop {
            let Some((area, next)) = self.neighbours(at).filter(|(area, _)| area.range.end <= range.end) else {
                return;
            };
            let (start, end) = (area.range.start, area.range.end);
            if !area.continues_in(next) {
                if end == range.end {
                    return;
                }
                at = end;
                continue;
            }
            let Some(joined) = self.remove(end) else { return };
            self.modify(start, |area| {
                area.range.end = joined.range.end;
                if joined.written.get() {
                    area.written.set();
                }
            });
            removed(joined);
        }
    }

    /// The highest address in `within` at which `length` bytes are free and no stack may grow.
    pub fn highest_gap(&mut self, within: Range<usize>, length: usize) -> Option<usize> {
        self.tree.highest_place(&Wanted { within, length })
    }

    /// The lowest address in `within` at which `length` bytes are free and no stack may grow.
    pub fn lowest_gap(&mut self, within: Range<usize>, length: usize) -> Option<usize> {
        self.tree.lowest_place(&Wanted { within, length })
    }

    /// Takes out some of the highest areas; `None` if there are none.
    pub fn pop_some(&mut self) -> Option<Vec<Area>> {
        let areas = self.tree.pop_leaf()?;
        areas.iter().for_each(|area| self.forget(area));
        Some(areas)
    }

    /// An area has left.
    fn forget(&mut self, area: &Area) {
        self.totals.subtract(Totals::of(area));
        self.count -= 1;
        if let Some(mappings) = area.mappings() {
            mappings.remove(self.owner_id);
        }
    }

    /// See [`AreaTree::check`].
    #[cfg(test)]
    pub fn check(&self) -> usize {
        self.tree.check()
    }
}

impl Drop for AreaSet {
    /// Files must not believe they are still mapped.
    fn drop(&mut self) {
        while self.pop_some().is_some() {}
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

    fn add(&mut self, its: Totals) {
        self.all += its.all;
        self.data += its.data;
        self.stack += its.stack;
        self.executable += its.executable;
        self.locked += its.locked;
        self.committed += its.committed;
    }

    fn subtract(&mut self, its: Totals) {
        self.all -= its.all;
        self.data -= its.data;
        self.stack -= its.stack;
        self.executable -= its.executable;
        self.locked -= its.locked;
        self.committed -= its.committed;
    }
}
