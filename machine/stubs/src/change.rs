//! [`Change`]: something to be done in a stub.

use boundary::Access;
use std::ops::Range;

/// Something to be done to what a stub maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Show the machine's memory from `offset` in `range`.
    Map {
        /// Where.
        range: Range<usize>,
        /// From where in the memory's file, in bytes.
        offset: usize,
        /// Rights, not empty.
        access: Access,
    },
    /// Show nothing in the range.
    Unmap(Range<usize>),
    /// Change the rights of a range that is mapped throughout.
    Protect(Range<usize>, Access),
    /// Show nothing at all.
    Empty,
}

impl Change {
    /// Makes `self` do what `next` does too, if the two are one.
    pub fn absorb(&mut self, next: &Change) -> bool {
        match (self, next) {
            (
                Change::Map { range, offset, access },
                Change::Map { range: next, offset: next_offset, access: next_access },
            ) if range.end == next.start && *offset + range.len() == *next_offset && access == next_access => {
                range.end = next.end;
                true
            }
            (Change::Unmap(range), Change::Unmap(next)) if range.end == next.start => {
                range.end = next.end;
                true
            }
            (Change::Protect(range, access), Change::Protect(next, next_access))
                if range.end == next.start && access == next_access =>
            {
                range.end = next.end;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const PAGE: usize = 4096;

    fn pages(pages: Range<usize>) -> Range<usize> {
        pages.start * PAGE..pages.end * PAGE
    }

    fn map(range: Range<usize>, offset: usize, access: Access) -> Change {
        Change::Map { range: pages(range), offset: offset * PAGE, access }
    }

    /// What pages show: a place in the memory's file, and rights.
    type Shown = BTreeMap<usize, (usize, Access)>;

    fn apply(change: &Change, shown: &mut Shown) {
        match change {
            Change::Map { range, offset, access } => {
                shown.extend(range.clone().step_by(PAGE).map(|at| (at, (offset + at - range.start, *access))))
            }
            Change::Unmap(range) => shown.retain(|at, _| !range.contains(at)),
            Change::Protect(range, access) => shown.range_mut(range.clone()).for_each(|(_, page)| page.1 = *access),
            Change::Empty => shown.clear(),
        }
    }

    /// Two changes in one call of the host do what they do one after the other; and neighbours of a kind are one.
    #[test]
    fn a_change_that_absorbs_another_does_both() {
        let (read, write) = (Access::READ, Access::READ | Access::WRITE);
        let mut all = Vec::new();
        for (start, end) in [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4)] {
            all.push(Change::Unmap(pages(start..end)));
            for access in [read, write] {
                all.push(Change::Protect(pages(start..end), access));
                all.extend([start, start + 10, 20].map(|offset| map(start..end, offset, access)));
            }
        }
        let mut before = Shown::new();
        apply(&map(0..4, 100, read), &mut before);
        let mut absorbed = 0;
        for (first, second) in all.iter().flat_map(|first| all.iter().map(move |second| (first, second))) {
            let mut one = first.clone();
            if !one.absorb(second) {
                continue;
            }
            absorbed += 1;
            let (mut in_one, mut in_two) = (before.clone(), before.clone());
            apply(&one, &mut in_one);
            apply(first, &mut in_two);
            apply(second, &mut in_two);
            assert_eq!(in_one, in_two);
        }
        // Six pairs of these ranges are neighbours. Each is one if unmapped, with either of the rights if protected; and if
        // mapped also from each of the two places that go on.
        assert_eq!(absorbed, 6 * (1 + 2 + 2 * 2));
    }
}
