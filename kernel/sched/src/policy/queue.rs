//! Tasks in an order: a balanced search tree (Adelson-Velsky and Landis) whose nodes the tasks bring along.
//!
//! A task has its node from its beginning, lends it to the queue it waits in and gets it back when it is the first there: so a wake-up
//! never allocates, and a queue takes no memory for tasks that are elsewhere.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cmp::Ordering;

use crate::Task;

/// What a queue is ordered by: the smallest is the first. No two of a queue are equal.
pub(super) type Key = (u64, u64);

/// What a task is in a queue with.
#[derive(Default)]
pub(super) struct Node {
    key: Key,
    /// Nobody while the node is with its task.
    task: Option<Arc<Task>>,
    /// Of the tree below it, itself included.
    height: u8,
    left: Tree,
    right: Tree,
}

type Tree = Option<Box<Node>>;

/// See the module's page.
#[derive(Default)]
pub(super) struct TaskQueue {
    /// The first, which needs no node: most queues are that short.
    first: Option<(Key, Arc<Task>)>,
    /// The others.
    root: Tree,
    length: usize,
}

impl TaskQueue {
    /// How many wait in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// A task joins it.
    #[inline]
    pub fn insert(&mut self, key: Key, task: Arc<Task>) {
        self.length += 1;
        let (key, task) = match &mut self.first {
            None => {
                self.first = Some((key, task));
                return;
            }
            Some(first) if key < first.0 => core::mem::replace(first, (key, task)),
            Some(_) => (key, task),
        };
        let node = node_of(key, task);
        self.root = Some(match self.root.take() {
            None => node,
            Some(root) => insert(root, node),
        });
    }

    /// The first leaves it.
    #[inline]
    pub fn pop_first(&mut self) -> Option<(Key, Arc<Task>)> {
        let first = self.first.take()?;
        self.length -= 1;
        if let Some(root) = self.root.take() {
            let (rest, next) = take_first(root);
            (self.root, self.first) = (rest, task_of(next));
        }
        Some(first)
    }

    /// Of the first `most` the first that `wanted` accepts leaves it.
    pub fn take(&mut self, most: usize, wanted: &dyn Fn(&Task) -> bool) -> Option<Arc<Task>> {
        let mut others = most.checked_sub(1)?;
        if wanted(&self.first.as_ref()?.1) {
            return self.pop_first().map(|(_, task)| task);
        }
        let key = find(&self.root, &mut others, wanted)?;
        let (rest, found) = remove(self.root.take(), key);
        self.root = rest;
        self.length -= 1;
        task_of(found?).map(|(_, task)| task)
    }
}

/// A task's node, with the task in it.
fn node_of(key: Key, task: Arc<Task>) -> Box<Node> {
    let mut node = task.share.take_node();
    (node.key, node.height, node.task) = (key, 1, Some(task));
    node
}

/// The task of a node, which gets its node back.
fn task_of(mut node: Box<Node>) -> Option<(Key, Arc<Task>)> {
    let (key, task) = (node.key, node.task.take()?);
    task.share.give_node(node);
    Some((key, task))
}

fn height(tree: &Tree) -> u8 {
    tree.as_ref().map_or(0, |node| node.height)
}

impl Node {
    fn measure(&mut self) {
        self.height = 1 + height(&self.left).max(height(&self.right));
    }
}

/// The tree of a node whose sides differ in height by two at most, balanced.
fn balance(mut node: Box<Node>) -> Box<Node> {
    node.measure();
    let (left, right) = (height(&node.left), height(&node.right));
    if left > right + 1 {
        node.left = node
            .left
            .take()
            .map(|left| if height(&left.left) < height(&left.right) { rotate_left(left) } else { left });
        return rotate_right(node);
    }
    if right > left + 1 {
        node.right = node
            .right
            .take()
            .map(|right| if height(&right.right) < height(&right.left) { rotate_right(right) } else { right });
        return rotate_left(node);
    }
    node
}

fn rotate_left(mut node: Box<Node>) -> Box<Node> {
    let Some(mut top) = node.right.take() else { return node };
    node.right = top.left.take();
    node.measure();
    top.left = Some(node);
    top.measure();
    top
}

fn rotate_right(mut node: Box<Node>) -> Box<Node> {
    let Some(mut top) = node.left.take() else { return node };
    node.left = top.right.take();
    node.measure();
    top.right = Some(node);
    top.measure();
    top
}

fn insert(mut node: Box<Node>, new: Box<Node>) -> Box<Node> {
    let side = if new.key < node.key { &mut node.left } else { &mut node.right };
    *side = Some(match side.take() {
        None => new,
        Some(below) => insert(below, new),
    });
    balance(node)
}

/// The first of a tree, and the rest.
fn take_first(mut node: Box<Node>) -> (Tree, Box<Node>) {
    let Some(left) = node.left.take() else { return (node.right.take(), node) };
    let (rest, first) = take_first(left);
    node.left = rest;
    (Some(balance(node)), first)
}

/// The first in order that is wanted, of the first so many; counts them down.
fn find(tree: &Tree, most: &mut usize, wanted: &dyn Fn(&Task) -> bool) -> Option<Key> {
    let node = tree.as_ref()?;
    if let Some(found) = find(&node.left, most, wanted) {
        return Some(found);
    }
    *most = most.checked_sub(1)?;
    if node.task.as_deref().is_some_and(wanted) {
        return Some(node.key);
    }
    find(&node.right, most, wanted)
}

/// A tree without the node of a key, and that node.
fn remove(tree: Tree, key: Key) -> (Tree, Tree) {
    let Some(mut node) = tree else { return (None, None) };
    let found = match key.cmp(&node.key) {
        Ordering::Equal => return (join(node.left.take(), node.right.take()), Some(node)),
        Ordering::Less => remove_below(&mut node.left, key),
        Ordering::Greater => remove_below(&mut node.right, key),
    };
    (Some(balance(node)), found)
}

fn remove_below(side: &mut Tree, key: Key) -> Tree {
    let (rest, found) = remove(side.take(), key);
    *side = rest;
    found
}

/// Two trees, all of the first before all of the second, whose node above them has gone.
fn join(left: Tree, right: Tree) -> Tree {
    let Some(right) = right else { return left };
    let (rest, mut first) = take_first(right);
    (first.left, first.right) = (left, rest);
    Some(balance(first))
}

#[cfg(test)]
mod tests {
    use super::super::Fifo;
    use super::super::simulation::Simulation;
    use super::*;
    use abi::cpus::CpuSet;
    use std::collections::BTreeMap;

    /// Whether keys are in order and sides in balance; the number of nodes.
    fn check(tree: &Tree, range: (Key, Key)) -> usize {
        let Some(node) = tree else { return 0 };
        assert!(range.0 <= node.key && node.key <= range.1);
        assert_eq!(node.height, 1 + height(&node.left).max(height(&node.right)));
        assert!(height(&node.left).abs_diff(height(&node.right)) <= 1);
        1 + check(&node.left, (range.0, node.key)) + check(&node.right, (node.key, range.1))
    }

    /// Any order of changes is that of the standard library's map.
    #[test]
    fn any_order_of_changes_is_that_of_a_plain_map() {
        let simulation = Simulation::new(Fifo::default());
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..20 {
            let (mut queue, mut map) = (TaskQueue::default(), BTreeMap::new());
            for step in 0..2000 {
                match next(if step < 1000 { 4 } else { 8 }) {
                    0..=2 => {
                        let task = simulation.task(0, CpuSet::of(next(200) as usize));
                        let key = (next(100), step);
                        map.insert(key, task.clone());
                        queue.insert(key, task);
                    }
                    3..=5 => {
                        let first = queue.pop_first();
                        let (expected, got) = (map.pop_first(), first);
                        assert_eq!(expected.as_ref().map(|(key, _)| *key), got.as_ref().map(|(key, _)| *key));
                    }
                    _ => {
                        let cpu = next(200) as usize;
                        let wanted = |task: &Task| task.affinity().contains(cpu);
                        let expected = map.iter().find(|(_, task)| wanted(task)).map(|(key, _)| *key);
                        let expected = expected.and_then(|key| map.remove(&key));
                        let got = queue.take(usize::MAX, &wanted);
                        assert_eq!(expected.map(|task| Arc::as_ptr(&task)), got.map(|task| Arc::as_ptr(&task)));
                    }
                }
                let first = queue.first.as_ref().map(|(key, _)| *key);
                assert!(first.is_some() || queue.root.is_none());
                let others = check(&queue.root, (first.unwrap_or_default(), (u64::MAX, u64::MAX)));
                assert_eq!((queue.len(), others + usize::from(first.is_some())), (map.len(), map.len()));
            }
        }
    }

    #[test]
    fn a_task_gets_its_node_back_before_its_turn() {
        let simulation = Simulation::new(Fifo::default());
        let [early, late] = [(); 2].map(|()| simulation.task(0, CpuSet::ALL));
        let mut queue = TaskQueue::default();
        for turn in 0..3 {
            queue.insert((turn, 1), late.clone());
            assert!(late.share.has_node(), "alone it needs none");
            queue.insert((turn, 0), early.clone());
            assert!(early.share.has_node() && !late.share.has_node());
            let (key, first) = queue.pop_first().unwrap();
            assert!(key == (turn, 0) && Arc::ptr_eq(&first, &early) && late.share.has_node());
            assert!(queue.take(1, &|_| false).is_none() && queue.take(0, &|_| true).is_none());
            assert!(Arc::ptr_eq(&queue.take(1, &|_| true).unwrap(), &late));
        }
        assert!(queue.pop_first().is_none() && queue.take(1, &|_| true).is_none());
    }
}
