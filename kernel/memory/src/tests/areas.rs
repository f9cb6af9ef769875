//! The tree of areas does what a list of all of them does, and finds the gaps that a look at every area finds.

use std::ops::Range;
use std::sync::Weak;

use crate::area::{Area, AreaFlags, Written};
use crate::area_set::AreaSet;
use crate::area_tree::looks;
use crate::{Access, Backing};

use super::PAGE;

/// Pages of the space that the areas lie in: enough for a deep tree.
const PAGES: usize = 16384;

/// A fixed sequence of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn range(&mut self, most: usize) -> Range<usize> {
        let (start, pages) = (self.below(PAGES - most), 1 + self.below(most));
        start * PAGE..(start + pages) * PAGE
    }
}

fn area(range: Range<usize>, grows: bool) -> Area {
    let flags = if grows { AreaFlags::GROWS_DOWN } else { AreaFlags::empty() };
    Area { range, access: Access::READ, flags, written: Written::default(), backing: Backing::Anonymous, moved: 0 }
}

/// The free ranges, found by going through all areas.
fn gaps(set: &AreaSet, within: &Range<usize>) -> Vec<Range<usize>> {
    let mut floor = 0;
    let mut gaps = Vec::new();
    for area in set.ascending(0) {
        gaps.push(floor..area.start_with_gap());
        floor = area.range.end;
    }
    gaps.push(floor..usize::MAX);
    gaps.into_iter().map(|gap| gap.start.max(within.start)..gap.end.min(within.end)).collect()
}

#[test]
fn the_search_for_a_gap_agrees_with_a_look_at_all_areas() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut set = AreaSet::new(Weak::new(), 0);
    let (mut found, mut refused) = (0, 0);
    for step in 0..24_000 {
        // It fills, empties and fills again.
        let filling = step / 6_000 % 2 == 0;
        let range = numbers.range(3);
        match numbers.below(8) {
            0..5 if filling => {
                if !set.overlaps(&range) {
                    set.insert(area(range, numbers.below(500) == 0)).unwrap();
                }
            }
            0..5 => {
                set.split(range.start).unwrap();
                set.split(range.end).unwrap();
                set.remove_within(range, drop);
            }
            5 => set.merge_around(range, drop),
            6 => {
                if let Some(start) = set.first_ending_above(range.start).map(|area| area.range.start) {
                    set.modify(start, |area| {
                        let shorter = area.range.start + PAGE;
                        area.range.start = if shorter < area.range.end { shorter } else { area.range.start };
                    });
                }
            }
            _ => set.split(range.start).unwrap(),
        }
        if step % 8 != 0 {
            continue;
        }
        let within = numbers.range(PAGES / 2);
        let length = (1 + numbers.below(40)) * PAGE;
        let gaps = gaps(&set, &within);
        let fits = |gap: &&Range<usize>| gap.len() >= length;
        let highest = gaps.iter().rev().find(fits).map(|gap| gap.end - length);
        let lowest = gaps.iter().find(fits).map(|gap| gap.start);
        assert_eq!(set.highest_gap(within.clone(), length), highest, "step {step}, {length:#x} in {within:x?}");
        assert_eq!(set.lowest_gap(within.clone(), length), lowest, "step {step}, {length:#x} in {within:x?}");
        *if highest.is_some() { &mut found } else { &mut refused } += 1;
    }
    assert!(found > 500 && refused > 500, "{found} found, {refused} refused: one of them was hardly tried");
}

/// The areas as a list: where each lies, and whether it grows.
#[derive(Default)]
struct List(Vec<(Range<usize>, bool)>);

impl List {
    fn overlaps(&self, range: &Range<usize>) -> bool {
        self.0.iter().any(|(other, _)| other.start < range.end && range.start < other.end)
    }

    fn insert(&mut self, range: Range<usize>, grows: bool) {
        self.0.push((range, grows));
        self.0.sort_by_key(|(range, _)| range.start);
    }

    fn split(&mut self, at: usize) {
        if let Some((range, grows)) = self.0.iter_mut().find(|(range, _)| range.start < at && at < range.end) {
            let (upper, grows) = (at..range.end, *grows);
            range.end = at;
            self.insert(upper, grows);
        }
    }

    fn remove_within(&mut self, range: &Range<usize>) {
        self.0.retain(|(other, _)| other.start < range.start || other.end > range.end);
    }

    fn merge_around(&mut self, borders: &Range<usize>) {
        let areas = std::mem::take(&mut self.0);
        for (range, grows) in areas {
            match self.0.last_mut() {
                Some((last, its))
                    if last.end == range.start
                        && *its == grows
                        && borders.start <= last.end
                        && last.end <= borders.end =>
                {
                    last.end = range.end;
                }
                _ => self.0.push((range, grows)),
            }
        }
    }

    /// The tree is in order, and every way to look at it shows what the list has.
    fn check(&self, set: &AreaSet, address: usize) {
        set.check();
        let list = self.0.iter().map(|(range, _)| range);
        assert!(set.ascending(0).map(|area| &area.range).eq(list.clone()) && set.len() == self.0.len());
        assert_eq!(set.totals().all * PAGE, list.clone().map(Range::len).sum::<usize>());
        let above = list.clone().find(|range| range.end > address);
        assert_eq!(set.first_ending_above(address).map(|area| &area.range), above);
        assert_eq!(set.containing(address).map(|area| &area.range), above.filter(|range| range.start <= address));
        let below = list.clone().rfind(|range| range.start < address);
        assert_eq!(set.last_starting_below(address).map(|area| &area.range), below);
        assert!(set.ascending(address).map(|area| &area.range).eq(list.skip_while(|range| range.end <= address)));
    }
}

#[test]
fn the_tree_does_what_a_list_does() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let (mut set, mut list) = (AreaSet::new(Weak::new(), 0), List::default());
    let mut deepest = 0;
    for step in 0..8_000 {
        // It fills with hundreds of areas, and empties.
        let filling = step / 2_000 % 2 == 0;
        let range = numbers.range(3);
        match numbers.below(8) {
            0..6 if filling => {
                let grows = numbers.below(50) == 0;
                assert_eq!(set.overlaps(&range), list.overlaps(&range));
                if !list.overlaps(&range) {
                    set.insert(area(range.clone(), grows)).unwrap();
                    list.insert(range, grows);
                }
            }
            0..6 => {
                let range = numbers.range(100);
                for border in [range.start, range.end] {
                    set.split(border).unwrap();
                    list.split(border);
                }
                set.remove_within(range.clone(), drop);
                list.remove_within(&range);
            }
            6 => {
                set.merge_around(range.clone(), drop);
                list.merge_around(&range);
            }
            _ => {
                set.split(range.start + PAGE).unwrap();
                list.split(range.start + PAGE);
            }
        }
        deepest = deepest.max(set.check());
        if step % 8 == 0 {
            list.check(&set, numbers.below(PAGES) * PAGE);
        }
    }
    assert!(deepest > 3, "{deepest} levels");
    while let Some(areas) = set.pop_some() {
        let rest = list.0.len() - areas.len();
        assert!(areas.iter().map(|area| &area.range).eq(list.0.split_off(rest).iter().map(|(range, _)| range)));
        list.check(&set, numbers.below(PAGES) * PAGE);
    }
    assert!(list.0.is_empty() && set.ascending(0).next().is_none());
}

#[test]
fn an_area_above_all_others_leaves_a_gap_below() {
    let mut set = AreaSet::new(Weak::new(), 0);
    for page in 0..4 {
        set.insert(area(page * PAGE..(page + 1) * PAGE, false)).unwrap();
    }
    // Now it is known that there is none.
    assert_eq!(set.lowest_gap(0..4 * PAGE, PAGE), None);
    set.insert(area(50 * PAGE..51 * PAGE, false)).unwrap();
    assert_eq!(set.lowest_gap(0..51 * PAGE, 10 * PAGE), Some(4 * PAGE));
    assert_eq!(set.highest_gap(0..51 * PAGE, 10 * PAGE), Some(40 * PAGE));
}

/// A program that maps one area below the other, none next to another, as threads' stacks are: what finding a place takes does not follow
/// how many there are.
#[test]
fn a_place_below_many_areas_is_soon_found() {
    const MANY: usize = 12_000;
    let mut set = AreaSet::new(Weak::new(), 0);
    let mut searched = Vec::new();
    for number in 0..MANY {
        let before = looks::all();
        let start = set.highest_gap(PAGE..4 * MANY * PAGE, 2 * PAGE).unwrap();
        // A page stays free above each: too narrow for the next.
        set.insert(area(start..start + PAGE, false)).unwrap();
        searched.push(looks::all() - before);
        assert_eq!(start, (4 * MANY - 2 * (number + 1)) * PAGE);
    }
    let last: usize = searched.iter().rev().take(1000).sum();
    assert!(last < 12 * 1000, "the last thousand took {last} looks at nodes");
}
