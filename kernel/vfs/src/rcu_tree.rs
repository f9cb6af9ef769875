//! Values by hash, found without a lock: the [hash tree](crate::hash_tree) for tables that are read all the time, with pointers of
//! [`machine::rcu`] in its slots and between its pieces.
//!
//! Who looks opens a section and follows pointers; it takes no lock and writes nothing. Who changes the tree holds the lock of its owner,
//! which has the tree's [`Writer`]. A table that has to grow, to be split or merged is copied, and the copy published; the old one goes when
//! its readers have left.
//!
//! **A miss is no answer.** A value that is moved in its table, because one before it was taken out, is not found by who has passed its new place
//! and has not come to the old one. So who finds nothing looks again under the lock. And a hit is only as good as `is`: a slot's hash and value change one after the other.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use machine::memory::fallible;
use machine::rcu::{self, RcuCell, ReadSection, Retired, Shared};

/// The most bytes of one table.
const PAGE: usize = 4096;
/// Slots of the smallest table.
const FEWEST: usize = 8;
/// Slots of the largest, whose slots are two words.
const MOST: usize = PAGE / 16;
/// A branch with no more than this becomes a table again.
const FEW: usize = MOST / 4;
/// How many parts a branch has, and how many bits choose one of them.
const PARTS: usize = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Behind so many branches all bits of the hash are used up.
const DEEPEST: u32 = u64::BITS / PART_BITS;

/// Values by hash. The caller says which of those with the same hash is meant.
pub(crate) struct RcuTree<T> {
    root: RcuCell<Node<T>>,
}

/// The right to change a tree. Its owner keeps it behind the lock of all changes.
#[derive(Default)]
pub(crate) struct Writer(());

enum Node<T> {
    Table(Table<T>),
    Branch(Branch<T>),
}

/// An open table with linear probing.
struct Table<T> {
    /// A power of two; never full.
    slots: Vec<Slot<T>>,
    /// How many are taken. Only the writer asks.
    used: AtomicUsize,
}

struct Slot<T> {
    /// Of the value; written before it.
    hash: AtomicU64,
    value: RcuCell<T>,
}

struct Branch<T> {
    /// Always `PARTS` of them.
    parts: Vec<RcuCell<Node<T>>>,
    used: AtomicUsize,
}

impl<T> Default for RcuTree<T> {
    fn default() -> RcuTree<T> {
        RcuTree { root: RcuCell::empty() }
    }
}

/// Which part of a branch at this depth a hash belongs to.
#[inline]
fn part(hash: u64, depth: u32) -> usize {
    (hash >> (u64::BITS - PART_BITS * (depth + 1))) as usize & (PARTS - 1)
}

impl<T> RcuTree<T> {
    /// The value with this hash for which `is` holds. None says nothing unless the caller has the writer.
    #[inline]
    pub fn find<'s>(
        &'s self,
        section: &'s ReadSection,
        hash: u64,
        is: impl Fn(Shared<'s, T>) -> bool,
    ) -> Option<Shared<'s, T>> {
        self.table(section, hash)?.probe(section, hash, is).map(|(_, value)| value)
    }

    /// As [`RcuTree::find`], in a section of its own.
    pub fn get(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let section = rcu::read();
        self.find(&section, hash, |value| is(&value)).map(Shared::to_arc)
    }

    /// Makes room for one value with this hash, so that the next insertion of one can't fail, even if others were taken
    /// out in between.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[inline]
    pub fn reserve(&self, _: &mut Writer, hash: u64) -> Result<()> {
        if self.has_room(&rcu::read(), hash) { Ok(()) } else { reserve(&self.root, hash, 0) }
    }

    /// Enters a value that is not there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn insert(&self, writer: &mut Writer, hash: u64, value: Arc<T>) -> Result<()> {
        self.reserve(writer, hash)?;
        let section = rcu::read();
        if let Some(table) = self.table(&section, hash) {
            table.insert(hash, value);
            self.count(&section, hash, |used| used + 1);
        }
        Ok(())
    }

    /// Takes out the value with this hash for which `is` holds.
    pub fn remove(&self, _: &mut Writer, hash: u64, is: impl Fn(&ReadSection, &T) -> bool) -> Option<Retired<T>> {
        let section = rcu::read();
        let (node, table) = self.leaf(&section, hash)?;
        let (at, _) = table.probe(&section, hash, |value| is(&section, &value))?;
        self.count(&section, hash, |used| used - 1);
        let node = node.to_arc();
        drop(section);
        let Node::Table(table) = &*node else { return None };
        let removed = table.take_at(at);
        shrink(&self.root, hash, 0);
        removed
    }

    /// Takes out any value; none when the tree is empty.
    pub fn pop(&self, _: &mut Writer) -> Option<Retired<T>> {
        pop(&self.root)
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.root.get().is_none_or(|root| root.used() == 0)
    }

    /// Shows all values, in no order.
    pub fn each(&self, _: &mut Writer, mut visit: impl FnMut(Arc<T>)) {
        if let Some(root) = self.root.get() {
            root.each(&mut visit);
        }
    }

    /// The table for values with this hash.
    #[inline]
    fn table<'s>(&'s self, section: &'s ReadSection, hash: u64) -> Option<&'s Table<T>> {
        self.leaf(section, hash).map(|(_, table)| table)
    }

    /// The piece for values with this hash, and the table that it is.
    #[inline]
    fn leaf<'s>(&'s self, section: &'s ReadSection, hash: u64) -> Option<(Shared<'s, Node<T>>, &'s Table<T>)> {
        let (mut node, mut depth) = (self.root.read(section)?, 0);
        loop {
            match node.get() {
                Node::Table(table) => return Some((node, table)),
                Node::Branch(branch) => (node, depth) = (branch.part(hash, depth)?.read(section)?, depth + 1),
            }
        }
    }

    /// Changes how many values the branches on the way to this hash have.
    fn count(&self, section: &ReadSection, hash: u64, change: impl Fn(usize) -> usize) {
        let (mut cell, mut depth) = (&self.root, 0);
        while let Some(Node::Branch(branch)) = cell.read(section).map(Shared::get) {
            branch.used.store(change(branch.used.load(Ordering::Relaxed)), Ordering::Relaxed);
            let Some(part) = branch.part(hash, depth) else { break };
            (cell, depth) = (part, depth + 1);
        }
    }

    fn has_room(&self, section: &ReadSection, hash: u64) -> bool {
        self.table(section, hash).is_some_and(Table::has_room)
    }
}

/// Publishes another piece in the place of one, whose readers are waited for.
fn publish<T>(cell: &RcuCell<Node<T>>, node: Option<Node<T>>) {
    drop(cell.replace(node.map(Arc::new)));
}

fn reserve<T>(cell: &RcuCell<Node<T>>, hash: u64, depth: u32) -> Result<()> {
    let Some(node) = cell.get() else {
        publish(cell, Some(Node::Table(Table::with_slots(FEWEST)?)));
        return Ok(());
    };
    match &*node {
        Node::Branch(branch) => reserve(branch.part(hash, depth).ok_or(Errno::ENOMEM)?, hash, depth + 1)?,
        Node::Table(table) if table.has_room() => {}
        Node::Table(table) if table.slots.len() < MOST || depth == DEEPEST => {
            let larger = Table::with_slots(table.slots.len() * 2)?;
            node.copy_into(&larger);
            publish(cell, Some(Node::Table(larger)));
        }
        Node::Table(table) => publish(cell, Some(Node::Branch(table.split(depth)?))),
    }
    Ok(())
}

/// Enters a value in a tree that nobody sees yet, and which has room.
fn insert<T>(cell: &RcuCell<Node<T>>, hash: u64, value: Arc<T>) {
    if let Some(Node::Table(table)) = cell.get().as_deref() {
        table.insert(hash, value);
    }
}

fn pop<T>(cell: &RcuCell<Node<T>>) -> Option<Retired<T>> {
    let node = cell.get()?;
    let removed = match &*node {
        Node::Table(table) => table.pop()?,
        Node::Branch(branch) => {
            let removed = branch.parts.iter().rev().find_map(pop)?;
            branch.used.fetch_sub(1, Ordering::Relaxed);
            removed
        }
    };
    shrink_node(cell, &node);
    Some(removed)
}

/// Makes the pieces on the way to a value that was taken out smaller.
#[inline]
fn shrink<T>(cell: &RcuCell<Node<T>>, hash: u64, depth: u32) {
    let Some(node) = cell.get() else { return };
    if let Node::Branch(branch) = &*node
        && let Some(part) = branch.part(hash, depth)
    {
        shrink(part, hash, depth + 1);
    }
    shrink_node(cell, &node);
}

/// Makes a piece with few values smaller, if there is memory for that.
fn shrink_node<T>(cell: &RcuCell<Node<T>>, node: &Node<T>) {
    let used = node.used();
    let few = match node {
        Node::Table(table) => used * 8 <= table.slots.len() && table.slots.len() > FEWEST,
        Node::Branch(_) => used <= FEW,
    };
    if used == 0 && few {
        publish(cell, None);
    } else if few && let Ok(table) = Table::with_slots((used * 2).next_power_of_two().max(FEWEST)) {
        node.copy_into(&table);
        publish(cell, Some(Node::Table(table)));
    }
}

impl<T> Node<T> {
    fn used(&self) -> usize {
        match self {
            Node::Table(table) => table.used.load(Ordering::Relaxed),
            Node::Branch(branch) => branch.used.load(Ordering::Relaxed),
        }
    }

    fn each(&self, visit: &mut impl FnMut(Arc<T>)) {
        match self {
            Node::Table(table) => table.each(|_, value| visit(value)),
            Node::Branch(branch) => branch.parts.iter().filter_map(RcuCell::get).for_each(|part| part.each(visit)),
        }
    }

    /// Enters all values in a table that has room for them. They stay here too.
    fn copy_into(&self, table: &Table<T>) {
        match self {
            Node::Table(old) => old.each(|hash, value| table.insert(hash, value)),
            Node::Branch(branch) => {
                branch.parts.iter().filter_map(RcuCell::get).for_each(|part| part.copy_into(table));
            }
        }
    }
}

impl<T> Branch<T> {
    fn part(&self, hash: u64, depth: u32) -> Option<&RcuCell<Node<T>>> {
        self.parts.get(part(hash, depth))
    }
}

impl<T> Table<T> {
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn with_slots(count: usize) -> Result<Table<T>> {
        let mut slots = Vec::new();
        fallible(|| slots.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(count, || Slot { hash: AtomicU64::new(0), value: RcuCell::empty() });
        Ok(Table { slots, used: AtomicUsize::new(0) })
    }

    /// Three of four slots are taken at most.
    fn has_room(&self) -> bool {
        (self.used.load(Ordering::Relaxed) + 1) * 4 <= self.slots.len() * 3
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// The value with this hash for which `is` holds, and its slot.
    #[inline]
    fn probe<'s>(
        &'s self,
        section: &'s ReadSection,
        hash: u64,
        is: impl Fn(Shared<'s, T>) -> bool,
    ) -> Option<(usize, Shared<'s, T>)> {
        let mut at = hash as usize & self.mask();
        // Each slot once: a reader may see values move in front of it.
        for _ in 0..self.slots.len() {
            let slot = self.slots.get(at)?;
            let value = slot.value.read(section)?;
            if slot.hash.load(Ordering::Relaxed) == hash && is(value) {
                return Some((at, value));
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    /// There is room.
    fn insert(&self, hash: u64, value: Arc<T>) {
        let mut at = hash as usize & self.mask();
        while let Some(slot) = self.slots.get(at) {
            if slot.value.is_empty() {
                slot.hash.store(hash, Ordering::Relaxed);
                let before = slot.value.replace(Some(value));
                debug_assert!(before.is_none());
                self.used.fetch_add(1, Ordering::Relaxed);
                return;
            }
            at = (at + 1) & self.mask();
        }
    }

    fn each(&self, mut visit: impl FnMut(u64, Arc<T>)) {
        for slot in &self.slots {
            if let Some(value) = slot.value.get() {
                visit(slot.hash.load(Ordering::Relaxed), value);
            }
        }
    }

    /// The branch of this full table, with copies of its values.
    fn split(&self, depth: u32) -> Result<Branch<T>> {
        let mut counts = [0; PARTS];
        self.each(|hash, _| counts.get_mut(part(hash, depth)).into_iter().for_each(|count| *count += 1));
        let mut parts = Vec::new();
        fallible(|| parts.try_reserve_exact(PARTS)).map_err(|_| Errno::ENOMEM)?;
        for count in counts {
            let slots = (count * 3_usize / 2 + 1).next_power_of_two().max(FEWEST);
            let cell = match count {
                0 => RcuCell::empty(),
                _ => RcuCell::new(Arc::new(Node::Table(Table::with_slots(slots)?))),
            };
            // bounded: room was made before
            parts.extend(Some(cell));
        }
        let branch = Branch { parts, used: AtomicUsize::new(self.used.load(Ordering::Relaxed)) };
        self.each(|hash, value| {
            if let Some(part) = branch.part(hash, depth) {
                insert(part, hash, value);
            }
        });
        Ok(branch)
    }

    fn pop(&self) -> Option<Retired<T>> {
        let at = self.slots.iter().rposition(|slot| !slot.value.is_empty())?;
        self.take_at(at)
    }

    /// Takes out the value at `gap`, and closes the gap: who is behind it, and would be found there, moves up. In no section.
    fn take_at(&self, mut gap: usize) -> Option<Retired<T>> {
        let taken = self.slots.get(gap)?.value.replace(None);
        self.used.fetch_sub(1, Ordering::Relaxed);
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask();
            let (Some(slot), Some(free)) = (self.slots.get(at), self.slots.get(gap)) else { break };
            if slot.value.is_empty() {
                break;
            }
            let hash = slot.hash.load(Ordering::Relaxed);
            let distance = |from: usize| at.wrapping_sub(from) & self.mask();
            if distance(hash as usize) >= distance(gap) {
                free.hash.store(hash, Ordering::Relaxed);
                let before = free.value.replace(slot.value.get());
                debug_assert!(before.is_none());
                drop(slot.value.replace(None));
                gap = at;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A tree and its writer against a plain map, with hashes of which only `bits` differ.
    fn against_a_map(bits: u32) {
        let (tree, mut writer) = (RcuTree::<(u64, u64)>::default(), Writer::default());
        let mut model = BTreeMap::new();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) & !(u64::MAX >> 1 >> bits);
        for round in 0..20_000 {
            let number = next(if round < 10_000 { 4000 } else { 500 });
            let is = |value: &(u64, u64)| value.0 == number;
            if next(3) > 0 && !model.contains_key(&number) && round < 15_000 {
                tree.insert(&mut writer, hash(number), Arc::new((number, round))).unwrap();
                model.insert(number, round);
            } else {
                let removed =
                    tree.remove(&mut writer, hash(number), |_, value| is(value)).map(|value| value.into_arc().1);
                assert_eq!(removed, model.remove(&number));
            }
            let asked = next(4000);
            let found = tree.get(hash(asked), |value| value.0 == asked).map(|value| value.1);
            assert_eq!(found, model.get(&asked).copied());
        }
        while let Some(value) = tree.pop(&mut writer) {
            let value = value.into_arc();
            assert_eq!(model.remove(&value.0), Some(value.1));
            assert_eq!(Arc::strong_count(&value), 1);
        }
        assert!(model.is_empty());
        let root = tree.root.get();
        assert!(root.is_none_or(|root| matches!(&*root, Node::Table(table) if table.slots.len() <= FEWEST)));
    }

    #[test]
    fn the_tree_is_a_map_whatever_the_hashes() {
        [0, 2, 12, 40].into_iter().for_each(against_a_map);
    }

    #[test]
    fn no_piece_is_larger_than_a_page() {
        assert_eq!(size_of::<Slot<u64>>() * MOST, PAGE);
    }

    /// What stays in the tree is found all the time under the lock, and what a reader finds without it is what it looked for.
    #[test]
    fn readers_find_nothing_that_is_not_there() {
        use std::sync::Mutex;
        use std::sync::atomic::AtomicBool;

        let (tree, writer) = (RcuTree::<u64>::default(), Mutex::new(Writer::default()));
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let done = AtomicBool::new(false);
        (0..64).for_each(|number| tree.insert(&mut writer.lock().unwrap(), hash(number), Arc::new(number)).unwrap());
        std::thread::scope(|scope| {
            for cpu in 1..3 {
                let (tree, writer, done) = (&tree, &writer, &done);
                scope.spawn(move || {
                    machine::cpu::set_current(cpu);
                    loop {
                        for number in 0..64 {
                            let find = || tree.get(hash(number), |value| *value == number);
                            let found = find().or_else(|| {
                                let _writer = writer.lock().unwrap();
                                find()
                            });
                            assert_eq!(found.as_deref(), Some(&number));
                        }
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            for round in 0..200 {
                for number in 1000..1400 {
                    tree.insert(&mut writer.lock().unwrap(), hash(number), Arc::new(number)).unwrap();
                }
                for number in 1000..1400 {
                    let number = if round % 2 == 0 { number } else { 2399 - number };
                    let removed = tree.remove(&mut writer.lock().unwrap(), hash(number), |_, value| *value == number);
                    assert_eq!(removed.map(|value| *value.into_arc()), Some(number));
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
