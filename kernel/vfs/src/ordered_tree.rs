//! Values in order, in pieces no larger than a page.
//!
//! An [`OrderedTree`] is a B+ tree: leaves hold up to [`MOST`] values, what lies above holds up to as many parts. A small tree is one
//! leaf, a sorted list. No step moves more than one node's contents, and none asks for neighbouring pages. Every part has a
//! [`Summary`] of what is below it, so that who looks for something by another property than the order leaves out whole parts.
//!
//! Insertion can fail and leaves what is in the tree as it was. Taking out never needs memory: neighbours that would fit into half a
//! node become one if there is room. Nothing here synchronises; whoever owns the tree does.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use abi::{Errno, Result};
use machine::memory::fallible;

/// The most values of a leaf, and the most parts of what is no leaf.
const MOST: usize = 32;

/// What can be in an [`OrderedTree`].
pub(crate) trait Entry: Copy {
    /// What orders them; no two in a tree have the same.
    type Key: Ord + Copy;
    /// What is known of many.
    type Summary: Summary<Self>;

    /// Its place in the order.
    fn key(&self) -> Self::Key;
}

/// What is known of the entries of a part of a tree; the default of none.
pub(crate) trait Summary<E>: Copy + Default {
    /// That of one.
    fn of(entry: &E) -> Self;
    /// Adds what is known of others.
    fn add(&mut self, others: &Self);
    /// Whether it may be another without this entry.
    fn rests_on(&self, entry: &E) -> bool;
}

/// Who only looks by the order needs to know nothing.
impl<E> Summary<E> for () {
    fn of(_: &E) {}
    fn add(&mut self, (): &()) {}
    fn rests_on(&self, _: &E) -> bool {
        false
    }
}

/// Entries in the order of their keys.
pub(crate) struct OrderedTree<E: Entry> {
    root: Node<E>,
}

enum Node<E: Entry> {
    Leaf(Vec<E>),
    /// Never empty, and no part of it is.
    Branch(Vec<Part<E>>),
}

struct Part<E: Entry> {
    /// No key below is smaller; those of the part before are.
    first: E::Key,
    summary: E::Summary,
    node: Node<E>,
}

impl<E: Entry> Default for OrderedTree<E> {
    fn default() -> OrderedTree<E> {
        OrderedTree { root: Node::Leaf(Vec::new()) }
    }
}

impl<E: Entry> OrderedTree<E> {
    /// All of them, while they are few.
    pub fn few(&self) -> Option<&[E]> {
        match &self.root {
            Node::Leaf(entries) => Some(entries),
            Node::Branch(_) => None,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.few().is_some_and(<[E]>::is_empty)
    }

    /// The first with this key or a larger one.
    pub fn at_or_after(&self, key: &E::Key) -> Option<&E> {
        self.root.at_or_after(key)
    }

    /// The last with a smaller key.
    pub fn before(&self, key: &E::Key) -> Option<&E> {
        self.root.before(key)
    }

    /// Goes through those in parts of which `relevant` holds, in order, until `visit` breaks off. A part is told by the least key it
    /// may have and its summary.
    pub fn search(
        &self,
        relevant: &impl Fn(&E::Key, &E::Summary) -> bool,
        visit: &mut impl FnMut(&E) -> ControlFlow<()>,
    ) {
        // How it ended is known to `visit`.
        let _ = self.root.search(relevant, visit);
    }

    /// Enters one whose key is not there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn insert(&mut self, entry: E) -> Result<()> {
        if self.root.is_full() {
            self.root.divide_root(&entry.key())?;
        }
        self.root.insert(entry)
    }

    /// Takes out the one with this key.
    pub fn remove(&mut self, key: &E::Key) -> Option<E> {
        let removed = self.root.remove(key)?;
        self.root.flatten();
        Some(removed)
    }
}

impl<E: Entry> Node<E> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(parts) => parts.len(),
        }
    }

    fn is_full(&self) -> bool {
        self.len() >= MOST
    }

    fn summary(&self) -> E::Summary {
        let mut summary = E::Summary::default();
        match self {
            Node::Leaf(entries) => entries.iter().for_each(|entry| summary.add(&E::Summary::of(entry))),
            Node::Branch(parts) => parts.iter().for_each(|part| summary.add(&part.summary)),
        }
        summary
    }

    fn at_or_after(&self, key: &E::Key) -> Option<&E> {
        match self {
            Node::Leaf(entries) => entries.get(entries.partition_point(|entry| entry.key() < *key)),
            // The next part has only larger ones, and none is empty: two are looked at.
            Node::Branch(parts) => parts.iter().skip(part_for(parts, key)).find_map(|part| part.node.at_or_after(key)),
        }
    }

    fn before(&self, key: &E::Key) -> Option<&E> {
        match self {
            Node::Leaf(entries) => entries.get(entries.partition_point(|entry| entry.key() < *key).checked_sub(1)?),
            Node::Branch(parts) => {
                parts.iter().take(part_for(parts, key) + 1).rev().find_map(|part| part.node.before(key))
            }
        }
    }

    fn search(
        &self,
        relevant: &impl Fn(&E::Key, &E::Summary) -> bool,
        visit: &mut impl FnMut(&E) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Node::Leaf(entries) => entries.iter().try_for_each(visit),
            Node::Branch(parts) => {
                let mut parts = parts.iter().filter(|part| relevant(&part.first, &part.summary));
                parts.try_for_each(|part| part.node.search(relevant, visit))
            }
        }
    }

    /// Enters one into a node that is not full. Full ones below are divided on the way, so nothing has to be undone.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn insert(&mut self, entry: E) -> Result<()> {
        let key = entry.key();
        match self {
            Node::Leaf(entries) => {
                fallible(|| entries.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
                entries.insert(entries.partition_point(|other| other.key() < key), entry);
            }
            Node::Branch(parts) => {
                let part = room_for(parts, &key)?;
                part.node.insert(entry)?;
                part.first = part.first.min(key);
                part.summary.add(&E::Summary::of(&entry));
            }
        }
        Ok(())
    }

    /// Takes the upper half out of a full node. Who inserts at the end leaves the rest full.
    fn divide(&mut self, key: &E::Key) -> Result<Part<E>> {
        fn upper<T>(all: &mut Vec<T>, at: usize) -> Result<Vec<T>> {
            let mut upper = Vec::new();
            fallible(|| upper.try_reserve(all.len() - at + 1)).map_err(|_| Errno::ENOMEM)?;
            // bounded: room was made before
            upper.extend(all.drain(at..));
            Ok(upper)
        }
        let (first, node) = match self {
            Node::Leaf(entries) => {
                let at_end = entries.last().is_none_or(|last| last.key() < *key);
                let upper = upper(entries, if at_end { MOST - 1 } else { MOST / 2 })?;
                (upper.first().map(Entry::key), Node::Leaf(upper))
            }
            Node::Branch(parts) => {
                let at_end = parts.last().is_none_or(|last| last.first <= *key);
                let upper = upper(parts, if at_end { MOST - 1 } else { MOST / 2 })?;
                (upper.first().map(|part| part.first), Node::Branch(upper))
            }
        };
        Ok(Part { first: first.unwrap_or(*key), summary: node.summary(), node })
    }

    /// A full root becomes two parts of a new one.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn divide_root(&mut self, key: &E::Key) -> Result<()> {
        let mut parts = Vec::new();
        fallible(|| parts.try_reserve(2)).map_err(|_| Errno::ENOMEM)?;
        let upper = self.divide(key)?;
        let lower = core::mem::replace(self, Node::Leaf(Vec::new()));
        let first = lower.first_key().unwrap_or(*key);
        parts.push(Part { first, summary: lower.summary(), node: lower });
        parts.push(upper);
        *self = Node::Branch(parts);
        Ok(())
    }

    fn first_key(&self) -> Option<E::Key> {
        match self {
            Node::Leaf(entries) => entries.first().map(Entry::key),
            Node::Branch(parts) => parts.first().map(|part| part.first),
        }
    }

    fn remove(&mut self, key: &E::Key) -> Option<E> {
        match self {
            Node::Leaf(entries) => {
                let place = entries.binary_search_by(|entry| entry.key().cmp(key)).ok()?;
                Some(entries.remove(place))
            }
            Node::Branch(parts) => {
                let place = part_for(parts, key);
                let part = parts.get_mut(place)?;
                let removed = part.node.remove(key)?;
                if part.node.len() == 0 {
                    parts.remove(place);
                } else {
                    if part.summary.rests_on(&removed) {
                        part.summary = part.node.summary();
                    }
                    join(parts, place);
                    join(parts, place.saturating_sub(1));
                }
                Some(removed)
            }
        }
    }

    /// A root of one part is that part, and one of none an empty leaf.
    fn flatten(&mut self) {
        while let Node::Branch(parts) = self
            && parts.len() < 2
        {
            *self = parts.pop().map_or_else(|| Node::Leaf(Vec::new()), |part| part.node);
        }
    }

    /// Takes over what the next node of the same depth has, unless there is no memory.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn take_over(&mut self, next: &mut Node<E>) {
        fn append<T>(all: &mut Vec<T>, more: &mut Vec<T>) {
            if fallible(|| all.try_reserve(more.len())).is_ok() {
                all.append(more);
            }
        }
        match (self, next) {
            (Node::Leaf(entries), Node::Leaf(more)) => append(entries, more),
            (Node::Branch(parts), Node::Branch(more)) => append(parts, more),
            _ => {}
        }
    }
}

/// Which part is to have a key.
fn part_for<E: Entry>(parts: &[Part<E>], key: &E::Key) -> usize {
    parts.partition_point(|part| part.first <= *key).saturating_sub(1)
}

/// The part that is to have a key, with room for one more.
#[expect(clippy::disallowed_methods, reason = "room was made before")]
fn room_for<'a, E: Entry>(parts: &'a mut Vec<Part<E>>, key: &E::Key) -> Result<&'a mut Part<E>> {
    let place = part_for(parts, key);
    if parts.get(place).is_some_and(|part| part.node.is_full()) {
        fallible(|| parts.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        let part = parts.get_mut(place).ok_or(Errno::ENOMEM)?;
        let upper = part.node.divide(key)?;
        part.summary = part.node.summary();
        parts.insert(place + 1, upper);
    }
    let place = part_for(parts, key);
    parts.get_mut(place).ok_or(Errno::ENOMEM)
}

/// Makes two neighbours one where they fit into half a node.
fn join<E: Entry>(parts: &mut Vec<Part<E>>, place: usize) {
    let Some((part, next)) = parts.get_mut(place..).and_then(|rest| rest.split_first_mut()) else { return };
    let Some(next) = next.first_mut().filter(|next| part.node.len() + next.node.len() <= MOST / 2) else { return };
    part.node.take_over(&mut next.node);
    if next.node.len() == 0 {
        part.summary.add(&next.summary);
        parts.remove(place + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::collections::btree_map;

    /// A key, and what the summary is about: the largest.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Pair(u32, u32);

    #[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
    struct Largest(u32);

    impl Entry for Pair {
        type Key = u32;
        type Summary = Largest;
        fn key(&self) -> u32 {
            self.0
        }
    }

    impl Summary<Pair> for Largest {
        fn of(entry: &Pair) -> Largest {
            Largest(entry.1)
        }
        fn add(&mut self, others: &Largest) {
            self.0 = self.0.max(others.0);
        }
        fn rests_on(&self, entry: &Pair) -> bool {
            entry.1 == self.0
        }
    }

    /// That all depths are the same, nodes are neither empty nor too full, keys in order and summaries true; the depth.
    fn check(node: &Node<Pair>, is_root: bool) -> usize {
        assert!(node.len() <= MOST && (is_root || node.len() > 0));
        match node {
            Node::Leaf(entries) => {
                assert!(entries.is_sorted_by_key(|entry| entry.0));
                1
            }
            Node::Branch(parts) => {
                assert!(!is_root || parts.len() > 1);
                for (part, next) in parts.iter().zip(parts.iter().skip(1)) {
                    assert!(part.first < next.first && last_key(&part.node) < next.first);
                }
                let depths: Vec<usize> = parts.iter().map(|part| check(&part.node, false)).collect();
                for part in parts {
                    assert!(part.first <= part.node.first_key().unwrap());
                    assert_eq!(part.summary, part.node.summary());
                }
                assert!(depths.iter().all(|depth| *depth == depths[0]));
                depths[0] + 1
            }
        }
    }

    fn last_key(node: &Node<Pair>) -> u32 {
        match node {
            Node::Leaf(entries) => entries.last().unwrap().0,
            Node::Branch(parts) => last_key(&parts.last().unwrap().node),
        }
    }

    #[test]
    fn any_order_of_changes_is_that_of_a_plain_map() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = |below: u32| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % u64::from(below)) as u32
        };
        for (span, inserted) in [(40, 5), (3000, 5), (100_000, 7), (100_000, 4)] {
            let (mut tree, mut model) = (OrderedTree::default(), BTreeMap::new());
            for round in 0..20_000 {
                let key = next(span);
                // More come than go, and in the last third the other way round.
                if (next(10) < inserted) ^ (round > 14_000) {
                    if let btree_map::Entry::Vacant(vacant) = model.entry(key) {
                        let value = *vacant.insert(next(1000));
                        tree.insert(Pair(key, value)).unwrap();
                    }
                } else {
                    let key = model.range(key..).next().map_or(key, |(key, _)| *key);
                    assert_eq!(tree.remove(&key), model.remove(&key).map(|value| Pair(key, value)));
                }
                let pair = |(key, value): (&u32, &u32)| Pair(*key, *value);
                assert_eq!(tree.at_or_after(&key).copied(), model.range(key..).next().map(pair));
                assert_eq!(tree.before(&key).copied(), model.range(..key).next_back().map(pair));
                if round % 500 == 0 {
                    check(&tree.root, true);
                    let (mut seen, least) = (Vec::new(), next(1000));
                    tree.search(&|first, largest| largest.0 >= least && *first <= key, &mut |entry| {
                        seen.extend((entry.1 >= least && entry.0 <= key).then_some(*entry));
                        ControlFlow::Continue(())
                    });
                    let expected: Vec<_> =
                        model.range(..=key).filter(|(_, value)| **value >= least).map(pair).collect();
                    assert_eq!(seen, expected);
                }
            }
            while let Some(entry) = tree.at_or_after(&0).copied() {
                tree.remove(&entry.0);
            }
            assert!(tree.is_empty());
        }
    }

    #[test]
    fn who_inserts_in_order_fills_the_leaves() {
        let mut tree = OrderedTree::default();
        (0..10_000).for_each(|key| tree.insert(Pair(key, key)).unwrap());
        assert!(check(&tree.root, true) <= 3);
        let mut visited = 0;
        tree.search(&|_, _| true, &mut |_| {
            visited += 1;
            if visited == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(visited, 5);
    }
}
