//! Where a new area fits: the search that skips chunks finds what a look at every address finds.

use std::ops::Range;
use std::sync::Weak;

use crate::area::{Area, AreaFlags};
use crate::area_set::AreaSet;
use crate::{Access, Backing};

use super::PAGE;

/// Pages of the space that the areas lie in: enough for about fifty chunks.
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
    Area { range, access: Access::READ, flags, backing: Backing::Anonymous }
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
                if let Some(position) = set.position(range.start) {
                    set.modify(position, |area| {
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
        let before = set.searched;
        let start = set.highest_gap(PAGE..4 * MANY * PAGE, 2 * PAGE).unwrap();
        // A page stays free above each: too narrow for the next.
        set.insert(area(start..start + PAGE, false)).unwrap();
        searched.push(set.searched - before);
        assert_eq!(start, (4 * MANY - 2 * (number + 1)) * PAGE);
    }
    let last: usize = searched.iter().rev().take(1000).sum();
    assert!(last < 40 * 1000, "the last thousand took {last} looks at chunks");
}
