//! A B+ tree of areas, in which each node knows how wide its gaps are at most.
//!
//! The areas lie in the leaves, in order. A node tells where what lies below it starts and ends, and how wide a gap between two
//! neighbours in it can be, so whoever looks for a gap passes by whole subtrees that have none: finding a place, like finding an
//! area, takes a look into one node of each level. (Linux keeps the same knowledge in its maple tree.) The gap between two children
//! is not known to either; their parent sees it.
//!
//! A gap that grows raises the bounds of the nodes above it. One that shrinks leaves them as they are: who then looks into a node in
//! vain corrects its bound, once for each time.
//!
//! Nearly every program has a single leaf, in which a binary search finds an area in a few steps and which fork fills in one sweep.
//!
//! Only [`AreaTree::insert`] can run out of memory, and then the areas are what they were: nodes that are full are split on the
//! way down, before anything is inserted. A node that has become small is joined with its neighbour on the way up.

use alloc::vec::Vec;
use core::ops::Range;

use abi::Errno;
use machine::memory::fallible;

use crate::area::Area;

/// Areas in a leaf, and children of another node, at most; in tests few, so that trees are deep.
const FANOUT: usize = if cfg!(test) { 4 } else { 32 };

/// All areas of a space, in order.
pub struct AreaTree {
    root: Subtree,
}

/// A node, with what lies below it.
struct Subtree {
    extent: Extent,
    node: Node,
}

enum Node {
    Leaf(Vec<Area>),
    Inner(Vec<Subtree>),
}

/// Where neighbours start and end, and what is free between them, in bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// What lies above is not free: below a stack the guard gap isn't.
    start: usize,
    end: usize,
    /// No gap is wider.
    widest_gap: usize,
}

/// What lies beside others of its kind: areas in a leaf, subtrees in another node.
trait Span {
    fn extent(&self) -> Extent;
    /// The highest and the lowest place inside.
    fn highest_place(&mut self, wanted: &Wanted) -> Option<usize>;
    fn lowest_place(&mut self, wanted: &Wanted) -> Option<usize>;
}

/// A gap that is looked for: `length` bytes in `within`.
pub struct Wanted {
    /// Where.
    pub within: Range<usize>,
    /// Bytes, more than none.
    pub length: usize,
}

impl Wanted {
    /// The highest place in a gap.
    fn highest_in(&self, gap: Range<usize>) -> Option<usize> {
        let (floor, top) = (gap.start.max(self.within.start), gap.end.min(self.within.end));
        top.checked_sub(self.length).filter(|start| *start >= floor)
    }

    /// The lowest place in a gap.
    fn lowest_in(&self, gap: Range<usize>) -> Option<usize> {
        let (floor, top) = (gap.start.max(self.within.start), gap.end.min(self.within.end));
        floor.checked_add(self.length).filter(|end| *end <= top).map(|_| floor)
    }
}

impl Extent {
    const NOTHING: Extent = Extent { start: 0, end: 0, widest_gap: 0 };

    #[inline]
    fn followed_by(self, next: Extent) -> Extent {
        let between = next.start.saturating_sub(self.end);
        Extent { start: self.start, end: next.end, widest_gap: self.widest_gap.max(next.widest_gap).max(between) }
    }

    #[inline]
    fn of(spans: &[impl Span]) -> Extent {
        let extents = spans.iter().map(Span::extent);
        extents.reduce(Extent::followed_by).unwrap_or(Extent::NOTHING)
    }

    /// The one at `at` has come, gone or changed.
    #[inline]
    fn update(&mut self, spans: &[impl Span], at: usize) {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
            *self = Extent::NOTHING;
            return;
        };
        (self.start, self.end) = (first.extent().start, last.extent().end);
        let near = spans.get(at.saturating_sub(1)..spans.len().min(at + 2)).unwrap_or_default();
        self.widest_gap = self.widest_gap.max(Extent::of(near).widest_gap);
    }
}

impl Span for Area {
    #[inline]
    fn extent(&self) -> Extent {
        Extent { start: self.start_with_gap(), end: self.range.end, widest_gap: 0 }
    }

    fn highest_place(&mut self, _: &Wanted) -> Option<usize> {
        None
    }

    fn lowest_place(&mut self, _: &Wanted) -> Option<usize> {
        None
    }
}

impl Span for Subtree {
    #[inline]
    fn extent(&self) -> Extent {
        self.extent
    }

    #[inline]
    fn highest_place(&mut self, wanted: &Wanted) -> Option<usize> {
        if self.extent.widest_gap < wanted.length {
            return None;
        }
        let found = match &mut self.node {
            Node::Leaf(areas) => highest_place(areas, wanted),
            Node::Inner(children) => highest_place(children, wanted),
        };
        self.looked(wanted, found)
    }

    #[inline]
    fn lowest_place(&mut self, wanted: &Wanted) -> Option<usize> {
        if self.extent.widest_gap < wanted.length {
            return None;
        }
        let found = match &mut self.node {
            Node::Leaf(areas) => lowest_place(areas, wanted),
            Node::Inner(children) => lowest_place(children, wanted),
        };
        self.looked(wanted, found)
    }
}

/// The highest place between or in neighbours.
fn highest_place(spans: &mut [impl Span], wanted: &Wanted) -> Option<usize> {
    // Above the first that reaches the top there is nothing to look for.
    let reaching = spans.partition_point(|span| span.extent().end < wanted.within.end) + 1;
    let mut left = spans.get_mut(..reaching.min(spans.len()))?;
    while let Some((span, below)) = left.split_last_mut() {
        let inside = span.highest_place(wanted);
        if inside.is_some() {
            return inside;
        }
        let floor = below.last()?.extent().end;
        let between = wanted.highest_in(floor..span.extent().start);
        if between.is_some() || floor <= wanted.within.start {
            return between;
        }
        left = below;
    }
    None
}

/// The lowest place between or in neighbours.
fn lowest_place(spans: &mut [impl Span], wanted: &Wanted) -> Option<usize> {
    let first = spans.partition_point(|span| span.extent().end <= wanted.within.start);
    let before = first.checked_sub(1).and_then(|before| spans.get(before));
    let mut floor = before.map(|span| span.extent().end);
    for span in spans.get_mut(first..)? {
        let extent = span.extent();
        let between = floor.and_then(|floor| wanted.lowest_in(floor..extent.start));
        let found = between.or_else(|| span.lowest_place(wanted));
        if found.is_some() || extent.end >= wanted.within.end {
            return found;
        }
        floor = Some(extent.end);
    }
    None
}

impl AreaTree {
    /// No areas.
    pub const fn new() -> AreaTree {
        AreaTree { root: Subtree { extent: Extent::NOTHING, node: Node::Leaf(Vec::new()) } }
    }

    /// Some areas that end above `address`: the first, and what follows it in its leaf. Empty if there are none.
    #[inline]
    pub fn some_from(&self, address: usize) -> &[Area] {
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Leaf(areas) => {
                    let first = areas.partition_point(|area| area.range.end <= address);
                    return areas.get(first..).unwrap_or_default();
                }
                Node::Inner(children) => match children.get(child_for(children, address)) {
                    Some(child) => node = &child.node,
                    None => return &[],
                },
            }
        }
    }

    /// The last area that starts below `address`.
    pub fn last_starting_below(&self, address: usize) -> Option<&Area> {
        self.root.last_starting_below(address)
    }

    /// The highest place for what is wanted, where nothing is and no stack may grow.
    pub fn highest_place(&mut self, wanted: &Wanted) -> Option<usize> {
        let Extent { start, end, .. } = self.root.extent;
        let above = wanted.highest_in(end..usize::MAX);
        above.or_else(|| self.root.highest_place(wanted)).or_else(|| wanted.highest_in(0..start))
    }

    /// The lowest such place.
    pub fn lowest_place(&mut self, wanted: &Wanted) -> Option<usize> {
        let Extent { start, end, .. } = self.root.extent;
        let below = wanted.lowest_in(0..start);
        below.or_else(|| self.root.lowest_place(wanted)).or_else(|| wanted.lowest_in(end..usize::MAX))
    }

    /// Adds an area where none is. `ENOMEM`: the areas are what they were.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn insert(&mut self, area: Area) -> Result<(), Errno> {
        if self.root.is_full() {
            let mut children = with_room()?;
            let extent = self.root.extent;
            let root = core::mem::replace(&mut self.root, Subtree { extent, node: Node::Leaf(Vec::new()) });
            children.push(root);
            self.root.node = Node::Inner(children);
        }
        self.root.insert(area)
    }

    /// Adds an area above all others, as fork does: with less work than [`AreaTree::insert`], if the last leaf has room.
    #[expect(clippy::disallowed_methods, reason = "there is room")]
    pub fn push(&mut self, area: Area) -> Result<(), Errno> {
        if !self.root.has_room_at_end() {
            return self.insert(area);
        }
        let mut subtree = &mut self.root;
        loop {
            subtree.extent = subtree.extent.followed_by(area.extent());
            match &mut subtree.node {
                Node::Leaf(areas) => {
                    areas.push(area);
                    return Ok(());
                }
                Node::Inner(children) => subtree = children.last_mut().ok_or(Errno::ENOMEM)?,
            }
        }
    }

    /// Takes out the area at `address`.
    pub fn remove(&mut self, address: usize) -> Option<Area> {
        let removed = self.root.remove(address);
        self.flatten();
        removed
    }

    /// Changes the area at `address`; it stays between its neighbours.
    pub fn modify<R>(&mut self, address: usize, change: impl FnOnce(&mut Area) -> R) -> Option<R> {
        self.root.modify(address, change)
    }

    /// Takes out the last areas, as many as lie in a leaf; `None` if there are none.
    pub fn pop_leaf(&mut self) -> Option<Vec<Area>> {
        let areas = self.root.pop_leaf();
        self.flatten();
        areas
    }

    /// A root with one child is replaced by it, one without any by a leaf.
    fn flatten(&mut self) {
        while let Node::Inner(children) = &mut self.root.node
            && children.len() < 2
        {
            self.root = children.pop().unwrap_or(Subtree { extent: Extent::NOTHING, node: Node::Leaf(Vec::new()) });
        }
    }

    /// Nodes on the way from the root to a leaf. Fails if the tree is out of order.
    #[cfg(test)]
    pub fn check(&self) -> usize {
        self.root.check()
    }
}

impl Subtree {
    fn new(node: Node) -> Subtree {
        Subtree { extent: node.extent(), node }
    }

    fn len(&self) -> usize {
        match &self.node {
            Node::Leaf(areas) => areas.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn is_full(&self) -> bool {
        self.len() >= FANOUT
    }

    /// Whether the last leaf has areas and memory for one more.
    fn has_room_at_end(&self) -> bool {
        let mut node = &self.node;
        loop {
            match node {
                Node::Leaf(areas) => return !areas.is_empty() && areas.len() < areas.capacity().min(FANOUT),
                Node::Inner(children) => match children.last() {
                    Some(last) => node = &last.node,
                    None => return false,
                },
            }
        }
    }

    fn last_starting_below(&self, address: usize) -> Option<&Area> {
        match &self.node {
            Node::Leaf(areas) => {
                let below = areas.partition_point(|area| area.range.start < address);
                areas.get(below.checked_sub(1)?)
            }
            Node::Inner(children) => {
                // The first child that reaches `address` may have only areas that start above.
                let reaching = children.partition_point(|child| child.extent.end < address) + 1;
                let candidates = children.get(..reaching.min(children.len()))?;
                candidates.iter().rev().take(2).find_map(|child| child.last_starting_below(address))
            }
        }
    }

    /// As [`AreaTree::insert`], if it is not full.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn insert(&mut self, area: Area) -> Result<(), Errno> {
        match &mut self.node {
            Node::Leaf(areas) => {
                // Programs have some areas, few have many.
                let room = if areas.is_empty() { FANOUT / 2 } else { 1 };
                fallible(|| areas.try_reserve(room)).map_err(|_| Errno::ENOMEM)?;
                let at = areas.partition_point(|other| other.range.end <= area.range.start);
                areas.insert(at, area);
                self.extent.update(areas, at);
            }
            Node::Inner(children) => {
                let start = area.range.start;
                let place = |children: &[Subtree]| child_for(children, start).min(children.len() - 1);
                let mut at = place(children);
                if children.get(at).is_some_and(Subtree::is_full) {
                    split_child(children, at, start)?;
                    at = place(children);
                }
                children.get_mut(at).ok_or(Errno::ENOMEM)?.insert(area)?;
                self.extent.update(children, at);
            }
        }
        Ok(())
    }

    fn remove(&mut self, address: usize) -> Option<Area> {
        match &mut self.node {
            Node::Leaf(areas) => {
                let at = areas.partition_point(|area| area.range.end <= address);
                areas.get(at).filter(|area| area.range.start <= address)?;
                let removed = areas.remove(at);
                self.extent.update(areas, at);
                Some(removed)
            }
            Node::Inner(children) => {
                let at = child_for(children, address);
                let removed = children.get_mut(at)?.remove(address)?;
                self.extent.update(children, at);
                if tidy_child(children, at) {
                    self.extent.update(children, at);
                }
                Some(removed)
            }
        }
    }

    fn modify<R>(&mut self, address: usize, change: impl FnOnce(&mut Area) -> R) -> Option<R> {
        match &mut self.node {
            Node::Leaf(areas) => {
                let at = areas.partition_point(|area| area.range.end <= address);
                let area = areas.get_mut(at).filter(|area| area.range.start <= address)?;
                let before = area.extent();
                let result = change(area);
                if area.extent() != before {
                    self.extent.update(areas, at);
                }
                Some(result)
            }
            Node::Inner(children) => {
                let at = child_for(children, address);
                let child = children.get_mut(at)?;
                let before = child.extent;
                let result = child.modify(address, change)?;
                if child.extent != before {
                    self.extent.update(children, at);
                }
                Some(result)
            }
        }
    }

    fn pop_leaf(&mut self) -> Option<Vec<Area>> {
        match &mut self.node {
            Node::Leaf(areas) => {
                self.extent = Extent::NOTHING;
                Some(core::mem::take(areas)).filter(|areas| !areas.is_empty())
            }
            Node::Inner(children) => {
                let last = children.last_mut()?;
                let areas = last.pop_leaf();
                if last.len() == 0 {
                    children.pop();
                }
                self.extent.update(children, children.len());
                areas
            }
        }
    }

    /// Whoever looked in vain knows more about the gaps.
    #[inline]
    fn looked(&mut self, wanted: &Wanted, found: Option<usize>) -> Option<usize> {
        looks::count();
        let is_inside = wanted.within.start <= self.extent.start && self.extent.end <= wanted.within.end;
        if found.is_none() && is_inside {
            self.extent = self.node.extent();
        }
        found
    }

    /// Keeps the lower half, the upper becomes another. But those who add one area below or above the last leave full nodes behind,
    /// if they are split where the next area, which starts at `next`, will be.
    fn split(&mut self, next: usize) -> Result<Subtree, Errno> {
        let at = match &self.node {
            Node::Leaf(areas) => areas.partition_point(|area| area.range.end <= next),
            Node::Inner(children) => child_for(children, next),
        };
        let keep = match at {
            _ if at < FANOUT / 4 => at + 1,
            _ if at > FANOUT / 4 * 3 => FANOUT - 1,
            _ => FANOUT / 2,
        };
        let upper = match &mut self.node {
            Node::Leaf(areas) => Node::Leaf(move_from(areas, keep)?),
            Node::Inner(children) => Node::Inner(move_from(children, keep)?),
        };
        self.extent = self.node.extent();
        Ok(Subtree::new(upper))
    }

    /// Takes over what a neighbour above has.
    #[expect(clippy::disallowed_methods, reason = "every node has room for so many")]
    fn absorb(&mut self, upper: Subtree) {
        match (&mut self.node, upper.node) {
            (Node::Leaf(areas), Node::Leaf(mut more)) => areas.append(&mut more),
            (Node::Inner(children), Node::Inner(mut more)) => children.append(&mut more),
            // All leaves are on one level.
            _ => {}
        }
        self.extent = self.extent.followed_by(upper.extent);
    }

    #[cfg(test)]
    fn check(&self) -> usize {
        let Extent { start, end, widest_gap } = self.node.extent();
        assert!((start, end) == (self.extent.start, self.extent.end) && widest_gap <= self.extent.widest_gap);
        assert!(self.len() <= FANOUT);
        match &self.node {
            Node::Leaf(areas) => {
                assert!(areas.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
                1
            }
            Node::Inner(children) => {
                assert!(children.windows(2).all(|pair| pair[0].extent.end < pair[1].extent.end));
                let depths: Vec<usize> = children.iter().map(Subtree::check).collect();
                assert!(children.iter().all(|child| child.len() > 0) && depths.iter().all(|depth| *depth == depths[0]));
                1 + depths[0]
            }
        }
    }
}

impl Node {
    #[inline]
    fn extent(&self) -> Extent {
        match self {
            Node::Leaf(areas) => Extent::of(areas),
            Node::Inner(children) => Extent::of(children),
        }
    }
}

/// Which child has the first area that ends above `address`.
#[inline]
fn child_for(children: &[Subtree], address: usize) -> usize {
    children.partition_point(|child| child.extent.end <= address)
}

/// Splits a full child in two, for an area that starts at `next`.
#[expect(clippy::disallowed_methods, reason = "room was made before")]
fn split_child(children: &mut Vec<Subtree>, at: usize, next: usize) -> Result<(), Errno> {
    fallible(|| children.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
    let child = children.get_mut(at).ok_or(Errno::ENOMEM)?;
    let upper = child.split(next)?;
    children.insert(at + 1, upper);
    Ok(())
}

/// Takes a child that has nothing left away, and joins one that has little with its neighbour. False if there was no need.
fn tidy_child(children: &mut Vec<Subtree>, at: usize) -> bool {
    let len = children.get(at).map_or(0, Subtree::len);
    if len > FANOUT / 2 {
        return false;
    }
    if len == 0 {
        children.remove(at);
        return true;
    }
    let left = at.saturating_sub(1);
    let is_small = |[lower, upper]: &[Subtree; 2]| lower.len() + upper.len() <= FANOUT / 2;
    let joins = children.get(left..).and_then(<[Subtree]>::first_chunk).is_some_and(is_small);
    if joins {
        let upper = children.remove(left + 1);
        if let Some(lower) = children.get_mut(left) {
            lower.absorb(upper);
        }
    }
    joins
}

/// An empty list with room for a node's. `ENOMEM`.
fn with_room<T>() -> Result<Vec<T>, Errno> {
    let mut list = Vec::new();
    fallible(|| list.try_reserve_exact(FANOUT)).map_err(|_| Errno::ENOMEM)?;
    Ok(list)
}

/// What is behind the first `keep`, in a list of its own.
fn move_from<T>(lower: &mut Vec<T>, keep: usize) -> Result<Vec<T>, Errno> {
    let mut upper = with_room()?;
    // bounded: room was made before
    upper.extend(lower.drain(keep..));
    Ok(upper)
}

/// How many nodes were searched for gaps, for tests.
pub mod looks {
    #[cfg(test)]
    std::thread_local!(static LOOKS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) });

    #[inline]
    pub(super) fn count() {
        #[cfg(test)]
        LOOKS.with(|looks| looks.set(looks.get() + 1));
    }

    /// Nodes that this thread has searched.
    #[cfg(test)]
    pub fn all() -> usize {
        LOOKS.with(core::cell::Cell::get)
    }
}
