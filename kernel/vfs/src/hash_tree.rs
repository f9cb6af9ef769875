//! Values by hash, in pieces no larger than a page.
//!
//! A small [`HashTree`] is one open table with linear probing: a look usually touches one slot. A table that would need more
//! than a page becomes a branch of sixteen smaller ones, chosen by the highest bits of the hash, and so on below. So a tree
//! of any size never asks for neighbouring pages, and no insertion moves more than a page of entries: neither a single
//! call nor a single allocation grows with what is in it.
//!
//! Every growth can fail and leaves the tree as it was. Taking out never needs memory: a table that can't be made smaller
//! stays as it is. Nothing here synchronises; whoever owns the tree does.

use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::memory::fallible;

/// The most bytes of one table.
const PAGE: usize = 4096;
/// Slots of the smallest table.
const FEWEST: usize = 8;
/// How many parts a branch has, and how many bits choose one of them.
const PARTS: usize = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Behind so many branches all bits of the hash are used up.
const DEEPEST: u32 = u64::BITS / PART_BITS;

/// Values by hash. The caller says which of those with the same hash is meant.
pub struct HashTree<T> {
    root: Node<T>,
}

enum Node<T> {
    Table(Table<T>),
    Branch(Branch<T>),
}

/// An open table.
struct Table<T> {
    /// None, or a power of two; never full.
    slots: Vec<Slot<T>>,
    used: usize,
}

struct Slot<T> {
    hash: u64,
    value: Option<T>,
}

struct Branch<T> {
    /// Always `PARTS` of them.
    parts: Vec<Node<T>>,
    used: usize,
}

impl<T> Default for HashTree<T> {
    fn default() -> HashTree<T> {
        HashTree::new()
    }
}

impl<T> HashTree<T> {
    /// The most slots of a table.
    const MOST: usize = {
        let fit = PAGE / size_of::<Slot<T>>();
        if fit < 2 * FEWEST { 2 * FEWEST } else { 1 << fit.ilog2() }
    };
    /// A branch with no more than this becomes a table again.
    const FEW: usize = Self::MOST / 4;

    /// An empty tree; it takes no memory.
    pub const fn new() -> HashTree<T> {
        HashTree { root: Node::Table(Table::new()) }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.root.used()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value with this hash for which `is` holds.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        match &self.root {
            Node::Table(table) => table.find(hash, is),
            Node::Branch(branch) => branch.find(hash, is),
        }
    }

    /// Makes room for one value with this hash, so that the next insertion of one can't fail, even if others were taken
    /// out in between.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self, hash: u64) -> Result<()> {
        let (mut node, mut depth) = (&mut self.root, 0);
        loop {
            match node {
                Node::Branch(branch) => {
                    node = branch.part_mut(hash, depth).ok_or(Errno::ENOMEM)?;
                    depth += 1;
                }
                Node::Table(table) if table.has_room() => return Ok(()),
                Node::Table(table) if table.slots.len() < Self::MOST || depth == DEEPEST => {
                    let slots = (table.slots.len() * 2).max(FEWEST);
                    return table.resize(slots);
                }
                Node::Table(table) => *node = Node::Branch(table.split(depth)?),
            }
        }
    }

    /// Enters a value that is not there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn insert(&mut self, hash: u64, value: T) -> Result<()> {
        self.reserve(hash)?;
        self.root.place(Slot { hash, value: Some(value) }, 0);
        Ok(())
    }

    /// Takes out the value with this hash for which `is` holds.
    pub fn remove(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<T> {
        self.root.remove(hash, &is, 0)
    }

    /// Shows all values, in no order.
    pub fn each(&self, mut visit: impl FnMut(&T)) {
        self.root.each(&mut visit);
    }

    /// Takes out any value; none when the tree is empty.
    pub fn pop(&mut self) -> Option<T> {
        self.root.pop()
    }
}

/// Which part of a branch at this depth a hash belongs to.
#[inline]
fn part(hash: u64, depth: u32) -> usize {
    (hash >> (u64::BITS - PART_BITS * (depth + 1))) as usize & (PARTS - 1)
}

impl<T> Node<T> {
    fn used(&self) -> usize {
        match self {
            Node::Table(table) => table.used,
            Node::Branch(branch) => branch.used,
        }
    }

    /// Enters a value there is room for.
    fn place(&mut self, slot: Slot<T>, depth: u32) {
        match self {
            Node::Table(table) => table.place(slot),
            Node::Branch(branch) => {
                branch.used += 1;
                if let Some(part) = branch.part_mut(slot.hash, depth) {
                    part.place(slot, depth + 1);
                }
            }
        }
    }

    fn each(&self, visit: &mut impl FnMut(&T)) {
        match self {
            Node::Table(table) => table.slots.iter().filter_map(|slot| slot.value.as_ref()).for_each(visit),
            Node::Branch(branch) => branch.parts.iter().for_each(|part| part.each(visit)),
        }
    }

    fn remove(&mut self, hash: u64, is: &impl Fn(&T) -> bool, depth: u32) -> Option<T> {
        match self {
            Node::Table(table) => table.remove(hash, is),
            Node::Branch(branch) => {
                let value = branch.part_mut(hash, depth)?.remove(hash, is, depth + 1)?;
                branch.used -= 1;
                self.merge();
                Some(value)
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        match self {
            Node::Table(table) => table.pop(),
            Node::Branch(branch) => {
                let value = branch.parts.iter_mut().rev().find_map(Node::pop)?;
                branch.used -= 1;
                self.merge();
                Some(value)
            }
        }
    }

    /// Makes a branch with few values a table, if there is memory for that.
    fn merge(&mut self) {
        let Node::Branch(branch) = self else { return };
        if branch.used > HashTree::<T>::FEW {
            return;
        }
        let Ok(mut table) = Table::with_slots((branch.used * 2).next_power_of_two().max(FEWEST)) else { return };
        branch.parts.drain(..).for_each(|part| part.move_into(&mut table));
        *self = Node::Table(table);
    }

    fn move_into(self, table: &mut Table<T>) {
        match self {
            Node::Table(old) => old.slots.into_iter().for_each(|slot| table.place(slot)),
            Node::Branch(branch) => branch.parts.into_iter().for_each(|part| part.move_into(table)),
        }
    }
}

impl<T> Branch<T> {
    fn part_mut(&mut self, hash: u64, depth: u32) -> Option<&mut Node<T>> {
        self.parts.get_mut(part(hash, depth))
    }

    fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let (mut branch, mut depth) = (self, 0);
        loop {
            match branch.parts.get(part(hash, depth))? {
                Node::Table(table) => return table.find(hash, is),
                Node::Branch(below) => (branch, depth) = (below, depth + 1),
            }
        }
    }
}

impl<T> Table<T> {
    const fn new() -> Table<T> {
        Table { slots: Vec::new(), used: 0 }
    }

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn with_slots(count: usize) -> Result<Table<T>> {
        let mut slots = Vec::new();
        fallible(|| slots.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(count, || Slot { hash: 0, value: None });
        Ok(Table { slots, used: 0 })
    }

    /// Three of four slots are used at most.
    fn has_room(&self) -> bool {
        (self.used + 1) * 4 <= self.slots.len() * 3
    }

    #[inline]
    fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            let value = slot.value.as_ref()?;
            if slot.hash == hash && is(value) {
                return Some(value);
            }
            at = (at + 1) & mask;
        }
    }

    /// Enters what a slot holds, if anything; there is room.
    fn place(&mut self, slot: Slot<T>) {
        if slot.value.is_none() {
            return;
        }
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = slot.hash as usize & mask;
        while let Some(place) = self.slots.get_mut(at) {
            if place.value.is_none() {
                *place = slot;
                self.used += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn resize(&mut self, count: usize) -> Result<()> {
        let old = core::mem::replace(self, Table::with_slots(count)?);
        old.slots.into_iter().for_each(|slot| self.place(slot));
        Ok(())
    }

    /// The branch of this full table; the table is empty afterwards.
    fn split(&mut self, depth: u32) -> Result<Branch<T>> {
        let mut counts = [0; PARTS];
        for slot in self.slots.iter().filter(|slot| slot.value.is_some()) {
            if let Some(count) = counts.get_mut(part(slot.hash, depth)) {
                *count += 1;
            }
        }
        let mut parts = Vec::new();
        fallible(|| parts.try_reserve_exact(PARTS)).map_err(|_| Errno::ENOMEM)?;
        for count in counts {
            let slots = if count == 0 { 0 } else { (count * 3_usize / 2 + 1).next_power_of_two().max(FEWEST) };
            // bounded: room was made before
            parts.extend(Some(Node::Table(Table::with_slots(slots)?)));
        }
        let mut branch = Branch { parts, used: self.used };
        for slot in core::mem::take(&mut self.slots) {
            if let Some(part) = branch.part_mut(slot.hash, depth) {
                part.place(slot, depth + 1);
            }
        }
        Ok(branch)
    }

    fn remove(&mut self, hash: u64, is: &impl Fn(&T) -> bool) -> Option<T> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            let value = slot.value.as_ref()?;
            if slot.hash == hash && is(value) {
                return self.take_at(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn pop(&mut self) -> Option<T> {
        let at = self.slots.iter().rposition(|slot| slot.value.is_some())?;
        self.take_at(at)
    }

    fn take_at(&mut self, mut hole: usize) -> Option<T> {
        let mask = self.slots.len().wrapping_sub(1);
        let value = self.slots.get_mut(hole)?.value.take()?;
        self.used -= 1;
        // What was pushed behind the hole moves up, so that no search ends too early.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(slot) = self.slots.get(at).filter(|slot| slot.value.is_some()) else { break };
            let home = slot.hash as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots.swap(at, hole);
                hole = at;
            }
        }
        // A table that once held more gives its room back, unless there is no memory for a smaller one.
        if self.slots.len() > 2 * FEWEST && self.used * 8 < self.slots.len() {
            let _ = self.resize(self.slots.len() / 4);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 20
    }

    const ROUNDS: u64 = 20_000;

    /// Hashes of `spread` bits at both ends: few different ones, so that runs get long and branches deep.
    fn against_a_map(spread: u32) {
        let (mut tree, mut model) = (HashTree::new(), HashMap::new());
        let mut state = 1;
        for round in 0..ROUNDS {
            let number = random(&mut state) % 1000;
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let hash = mixed & !(u64::MAX >> spread) | (mixed >> 40) & !(u64::MAX << spread);
            let is = |value: &(u64, u64)| value.0 == number;
            // Grows at first, shrinks in the end.
            if random(&mut state) % 100 < if round < ROUNDS / 2 { 60 } else { 40 } {
                if model.insert(number, round).is_some() {
                    assert!(tree.remove(hash, is).is_some());
                }
                tree.insert(hash, (number, round)).unwrap();
            } else {
                assert_eq!(tree.remove(hash, is).map(|value| value.1), model.remove(&number));
            }
            assert_eq!(tree.find(hash, is).map(|value| value.1), model.get(&number).copied());
            assert_eq!(tree.len(), model.len());
        }
        let mut sum = 0;
        tree.each(|(number, _)| sum += number);
        assert_eq!(sum, model.keys().sum());
        while let Some((number, round)) = tree.pop() {
            assert_eq!(model.remove(&number), Some(round));
        }
        assert!(model.is_empty() && tree.is_empty());
        assert!(matches!(&tree.root, Node::Table(table) if table.slots.len() <= 2 * FEWEST));
    }

    #[test]
    fn the_tree_is_a_map_whatever_the_hashes() {
        [0, 2, 12, 24].into_iter().for_each(against_a_map);
    }

    #[test]
    fn no_piece_is_larger_than_a_page() {
        fn largest<T>(node: &Node<T>) -> usize {
            match node {
                Node::Table(table) => table.slots.capacity() * size_of::<Slot<T>>(),
                Node::Branch(branch) => branch
                    .parts
                    .iter()
                    .map(largest)
                    .chain([branch.parts.capacity() * size_of::<Node<T>>()])
                    .max()
                    .unwrap(),
            }
        }
        let mut tree = HashTree::new();
        for number in 0..100_000_u64 {
            tree.insert(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), [number; 5]).unwrap();
        }
        assert!(largest(&tree.root) <= PAGE);
    }

    #[test]
    fn what_was_reserved_is_there_after_removals() {
        let mut tree = HashTree::new();
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..5000).for_each(|number| tree.insert(hash(number), number).unwrap());
        for number in 0..5000 {
            tree.reserve(hash(number)).unwrap();
            tree.remove(hash(number), |value| *value == number).unwrap();
            let Node::Branch(_) = &tree.root else { return };
            let (mut node, mut depth) = (&tree.root, 0);
            while let Node::Branch(branch) = node {
                (node, depth) = (&branch.parts[part(hash(number), depth)], depth + 1);
            }
            assert!(matches!(node, Node::Table(table) if table.has_room()));
        }
    }
}
