//! The pages of one file that are in RAM, and its size: leaves of 32 in a radix tree, found without a lock.
//!
//! Who looks for a page follows pointers of [`machine::rcu`] and takes a reference to its frame; it writes nothing that another CPU
//! writes, but for that count. Who changes the tree holds the lock of the file. What is taken out goes when nobody can be looking at it any
//! more, and that is waited for outside the lock ([`Removed`]).
//!
//! **A hit is of one moment.** The page was the file's while the size was what is told with it: a file that was cut and grew again
//! between the two looks would have neither. So each cut is counted when its pages are out, and the count looked at before and
//! after ([`Tree::find`]); kernel/models tries the orders. **A miss is no answer**: who finds nothing looks again under the lock.
//!
//! A leaf is 144 bytes, 160 with its counts, so a page costs 5 bytes here, and its share of a branch: about 6 in a file whose leaves are
//! full.
//!
//! Every page in the tree is *up to date*: one that is still being read is not here yet, but in
//! [`InFlight`](super::in_flight::InFlight). So who finds a page may use it without asking for its state.

use alloc::sync::Arc;
use core::ops::Range;

use machine::memory::{Frame, FrameCell, PAGE_SIZE, RetiredFrame};
use machine::rcu::{self, RcuCell, ReadSection, Retired, Shared};
use smallvec::SmallVec;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// Pages in a leaf, a power of two.
pub const LEAF: u64 = 32;

/// Children of a branch, and the bits of a leaf's number that choose one.
const FANOUT: usize = 16;
const BITS: u32 = FANOUT.trailing_zeros();

/// A word of bits, or a count, that is read at any time and changed by who has the file's lock.
#[derive(Default)]
pub struct Word(AtomicU32);

impl Word {
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Neighbouring pages. Bit i of each mask is of page i.
#[derive(Default)]
pub struct Leaf {
    pages: [FrameCell; LEAF as usize],
    /// How many there are.
    used: Word,
    /// Changed since they were last written to where the file is kept.
    pub dirty: Word,
    /// Under write-back: being written at this moment.
    pub writing: Word,
    /// Used since the clock's hand last passed. Those who only look note it too; one note that is lost does no harm.
    pub referenced: Word,
}

/// Sixteen smaller trees.
struct Branch {
    /// The bits of a leaf's number below those that choose a child.
    shift: u32,
    children: Children,
}

enum Children {
    Branches([RcuCell<Branch>; FANOUT]),
    Leaves([RcuCell<Leaf>; FANOUT]),
}

/// See the module's page.
#[derive(Default)]
pub struct Tree {
    root: RcuCell<Branch>,
    size: AtomicU64,
    /// How often pages were cut off.
    cuts: AtomicU32,
}

/// The place of a page in its leaf, and its bit in the masks.
#[inline]
pub fn place(index: u64) -> (usize, u32) {
    ((index % LEAF) as usize, 1 << (index % LEAF))
}

/// The bits of the pages before `place`, which is at most 32.
pub fn bits_below(place: usize) -> u32 {
    1_u32.checked_shl(place as u32).map_or(u32::MAX, |bit| bit - 1)
}

impl Leaf {
    /// How many pages there are.
    pub fn used(&self) -> u32 {
        self.used.get()
    }

    /// Whether a page is there.
    pub fn has(&self, place: usize) -> bool {
        self.number(place).is_some()
    }

    /// The number of the frame at `place`.
    pub fn number(&self, place: usize) -> Option<usize> {
        self.pages.get(place)?.number()
    }

    /// The page at `place`.
    #[inline]
    pub fn get(&self, place: usize, section: &ReadSection) -> Option<Frame> {
        self.pages.get(place)?.get(section)
    }

    /// The first page from `within` on that is not there.
    pub fn first_hole(&self, within: u64) -> Option<u64> {
        if u64::from(self.used()) == LEAF { None } else { (within..LEAF).find(|&place| !self.has(place as usize)) }
    }

    /// Puts a frame where none is.
    fn put(&self, place: usize, frame: Frame) -> Option<RetiredFrame> {
        let before = self.pages.get(place)?.replace(Some(frame));
        self.used.set(self.used() + u32::from(before.is_none()));
        before
    }

    /// Takes a page out. What is known of it is forgotten.
    pub fn take(&self, place: usize) -> Option<RetiredFrame> {
        let taken = self.pages.get(place)?.replace(None)?;
        let kept = !(1 << place);
        self.used.set(self.used() - 1);
        for mask in [&self.dirty, &self.writing, &self.referenced] {
            mask.set(mask.get() & kept);
        }
        Some(taken)
    }
}

impl Branch {
    /// An empty one.
    fn new(shift: u32) -> Branch {
        let children = match shift {
            0 => Children::Leaves(Default::default()),
            _ => Children::Branches(Default::default()),
        };
        Branch { shift, children }
    }

    /// Which child the leaf `number` belongs to.
    #[inline]
    fn choose(&self, number: u64) -> usize {
        (number >> self.shift) as usize % FANOUT
    }

    /// Whether the leaf `number` belongs here.
    #[inline]
    fn reaches(&self, number: u64) -> bool {
        number >> self.shift < FANOUT as u64
    }

    fn is_empty(&self) -> bool {
        match &self.children {
            Children::Branches(children) => children.iter().all(RcuCell::is_empty),
            Children::Leaves(children) => children.iter().all(RcuCell::is_empty),
        }
    }

    /// The first leaf that is not before `from`; `base` is the number of the first there can be.
    fn next<'s>(&'s self, base: u64, from: u64, section: &'s ReadSection) -> Option<(u64, &'s Leaf)> {
        let first = from.saturating_sub(base) >> self.shift;
        let numbers = (first..FANOUT as u64).map(|child| base + (child << self.shift));
        match &self.children {
            Children::Leaves(leaves) => numbers
                .zip(leaves.iter().skip(first as usize))
                .find_map(|(number, leaf)| Some((number, leaf.read(section)?.get()))),
            Children::Branches(branches) => numbers
                .zip(branches.iter().skip(first as usize))
                .find_map(|(number, branch)| branch.read(section)?.get().next(number, from, section)),
        }
    }

    /// Takes the leaf `number` out, and branches that are empty then. Whether this one is.
    fn remove(&self, number: u64, removed: &mut Removed) -> bool {
        match &self.children {
            Children::Leaves(leaves) => {
                removed.add_leaf(leaves.get(self.choose(number)).and_then(|leaf| leaf.replace(None)));
            }
            Children::Branches(branches) => {
                let child = branches.get(self.choose(number));
                if child.and_then(RcuCell::get).is_some_and(|branch| branch.remove(number, removed)) {
                    removed.add_branch(child.and_then(|child| child.replace(None)));
                }
            }
        }
        self.is_empty()
    }

    /// Takes all leaves from number `first` on out, of which some belong here.
    fn cut(&self, first: u64, removed: &mut Removed) {
        let begun = self.choose(first);
        match &self.children {
            Children::Leaves(leaves) => {
                leaves.iter().skip(begun).for_each(|leaf| removed.add_leaf(leaf.replace(None)));
            }
            Children::Branches(branches) => {
                if let Some(branch) = branches.get(begun).and_then(RcuCell::get) {
                    branch.cut(first, removed);
                }
                branches.iter().skip(begun + 1).for_each(|branch| removed.add_branch(branch.replace(None)));
            }
        }
    }

    /// Makes the leaf `number`, and what leads to it.
    fn make(&self, number: u64) {
        let child = self.choose(number);
        match &self.children {
            Children::Leaves(leaves) => {
                leaves.get(child).map(|leaf| made(leaf, Leaf::default));
            }
            Children::Branches(branches) => {
                let branch = branches.get(child).map(|branch| made(branch, || Branch::new(self.shift - BITS)));
                if let Some(branch) = branch {
                    branch.make(number);
                }
            }
        }
    }
}

/// What a cell leads to, made if there is nothing.
fn made<T>(cell: &RcuCell<T>, make: impl FnOnce() -> T) -> Arc<T> {
    cell.get().unwrap_or_else(|| {
        let new = Arc::new(make());
        drop(cell.replace(Some(new.clone())));
        new
    })
}

/// What anybody may ask at any time.
impl Tree {
    /// A tree of a file of `size` bytes.
    pub fn of_size(size: u64) -> Tree {
        let tree = Tree::default();
        tree.set_size(size);
        tree
    }

    /// How long the file is.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Page `index`, and the size the file had while that was its page; with `note`, that it was used. None says nothing.
    #[inline]
    pub fn find(&self, index: u64, note: bool) -> Option<(Frame, u64)> {
        let cuts = self.cuts.load(Ordering::Acquire);
        let frame = self.get(index, note)?;
        let size = self.size();
        self.is_still(cuts).then_some((frame, size))
    }

    /// Whether no page was cut off since there were so many cuts.
    #[inline]
    fn is_still(&self, cuts: u32) -> bool {
        self.cuts.load(Ordering::Relaxed) == cuts
    }

    /// Page `index`; with `note`, that it was used.
    #[inline]
    pub fn get(&self, index: u64, note: bool) -> Option<Frame> {
        let section = rcu::read();
        let leaf = self.leaf(index / LEAF, &section)?;
        let (place, bit) = place(index);
        if note && leaf.referenced.get() & bit == 0 {
            leaf.referenced.set(leaf.referenced.get() | bit);
        }
        leaf.get(place, &section)
    }

    /// The leaf with this number.
    #[inline]
    fn leaf<'s>(&'s self, number: u64, section: &'s ReadSection) -> Option<&'s Leaf> {
        let mut branch = self.root.read(section)?.get();
        if !branch.reaches(number) {
            return None;
        }
        loop {
            let child = branch.choose(number);
            branch = match &branch.children {
                Children::Leaves(leaves) => return leaves.get(child)?.read(section).map(Shared::get),
                Children::Branches(branches) => branches.get(child)?.read(section)?.get(),
            };
        }
    }

    /// The pages of `range` that are there and not behind the end, from the first on, of one leaf at most: puts them into `found`. Returns
    /// where to go on.
    pub fn some_of(&self, range: Range<u64>, found: &mut Found) -> Option<u64> {
        let cuts = self.cuts.load(Ordering::Acquire);
        let end = range.end.min(self.size().div_ceil(PAGE_SIZE as u64));
        if range.start >= end {
            return None;
        }
        let next = self.with_next(range.start / LEAF, |number, leaf, section| {
            let indices = range.start.max(number * LEAF)..end.min((number + 1) * LEAF);
            let next = indices.end.max(range.start);
            // bounded: a leaf's pages, which lie in place
            found.extend(indices.filter_map(|index| Some((index, leaf.get(place(index).0, section)?))));
            next
        })?;
        if !self.is_still(cuts) {
            found.clear();
        }
        Some(next)
    }
}

/// Pages of one leaf.
pub type Found = SmallVec<[(u64, Frame); LEAF as usize]>;

/// What only those ask and do who have the file's lock.
impl Tree {
    /// Tells how long the file is, after the pages it grew by are zeros, and before those it lost are taken out.
    pub fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Asks the leaf with this number something, if it is there. What is done meanwhile takes no lock and no memory.
    #[inline]
    pub fn with<R>(&self, number: u64, ask: impl FnOnce(&Leaf) -> R) -> Option<R> {
        let section = rcu::read();
        self.leaf(number, &section).map(ask)
    }

    /// Asks the first leaf from number `from` on something, as [`with`](Self::with).
    pub fn with_next<R>(&self, from: u64, ask: impl FnOnce(u64, &Leaf, &ReadSection) -> R) -> Option<R> {
        let section = rcu::read();
        let (number, leaf) = self.root.read(&section)?.get().next(0, from, &section)?;
        Some(ask(number, leaf, &section))
    }

    /// Puts a frame where none is.
    pub fn insert(&self, index: u64, frame: Frame) {
        let (number, place) = (index / LEAF, place(index).0);
        if self.with(number, |_| ()).is_none() {
            self.grow(number);
            if let Some(root) = self.root.get() {
                root.make(number);
            }
        }
        let before = self.with(number, |leaf| leaf.put(place, frame));
        debug_assert!(before.flatten().is_none(), "a page was replaced");
    }

    /// Makes the tree so high that the leaf `number` belongs to it.
    fn grow(&self, number: u64) {
        loop {
            let Some(root) = self.root.get() else {
                let shift = (0..).step_by(BITS as usize).find(|shift| number >> shift < FANOUT as u64).unwrap_or(0);
                drop(self.root.replace(Some(Arc::new(Branch::new(shift)))));
                return;
            };
            if root.reaches(number) {
                return;
            }
            let higher = Branch::new(root.shift + BITS);
            if let Children::Branches([first, ..]) = &higher.children {
                drop(first.replace(Some(root)));
            }
            drop(self.root.replace(Some(Arc::new(higher))));
        }
    }

    /// Takes the leaf with this number out.
    pub fn remove(&self, number: u64, removed: &mut Removed) {
        let Some(root) = self.root.get() else { return };
        if root.reaches(number) && root.remove(number, removed) {
            removed.add_branch(self.root.replace(None));
        }
    }

    /// Takes the pages of `range` out of a leaf, and the leaf if none is left.
    #[expect(clippy::disallowed_methods, reason = "a leaf's pages, which lie in place")]
    pub fn take_part(&self, number: u64, range: Range<u64>, removed: &mut Removed) {
        let taken = self.with(number, |leaf| {
            let dirty = leaf.dirty.get().count_ones();
            let frames: SmallVec<[RetiredFrame; LEAF as usize]> =
                range.filter_map(|index| leaf.take(place(index).0)).collect();
            (frames, dirty - leaf.dirty.get().count_ones(), leaf.used())
        });
        let Some((frames, dirty, left)) = taken else { return };
        removed.pages += frames.len() as u64;
        removed.dirty += u64::from(dirty);
        // bounded: the pages of two leaves
        removed.frames.extend(frames);
        if left == 0 {
            self.remove(number, removed);
        }
    }

    /// Takes the pages from `first` on out. How many those are that go with their leaf, the caller has counted.
    pub fn cut(&self, first: u64, removed: &mut Removed) {
        if !first.is_multiple_of(LEAF) {
            self.take_part(first / LEAF, first..(first / LEAF + 1) * LEAF, removed);
        }
        let first = first.div_ceil(LEAF);
        if first == 0 {
            removed.add_branch(self.root.replace(None));
        } else if let Some(root) = self.root.get().filter(|root| root.reaches(first)) {
            root.cut(first, removed);
        }
        self.cuts.store(self.cuts.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Everything, of a file that goes, and so is looked at by nobody.
    pub fn take(&mut self, pages: u64) -> Removed {
        let mut removed = Removed { pages, ..Removed::default() };
        // bounded: one
        removed.nodes.extend(self.root.take().map(Node::Branch));
        removed
    }
}

/// What was taken out of a tree. Dropped when no lock is held: who still looks at it is waited for.
#[derive(Default)]
pub struct Removed {
    /// The children of a branch on each level at most: they are opened one after the other.
    nodes: SmallVec<[Node; 2]>,
    frames: SmallVec<[RetiredFrame; 2]>,
    /// How many pages these are, and how many of them are dirty.
    pub pages: u64,
    pub dirty: u64,
}

enum Node {
    RetiredBranch(Retired<Branch>),
    RetiredLeaf(#[expect(dead_code, reason = "held to be dropped")] Retired<Leaf>),
    Branch(Arc<Branch>),
    Leaf(#[expect(dead_code, reason = "held to be dropped")] Arc<Leaf>),
}

impl Removed {
    fn add_branch(&mut self, branch: Option<Retired<Branch>>) {
        // bounded: the children of a branch on each level
        self.nodes.extend(branch.map(Node::RetiredBranch));
    }

    fn add_leaf(&mut self, leaf: Option<Retired<Leaf>>) {
        // bounded: the children of a branch on each level
        self.nodes.extend(leaf.map(Node::RetiredLeaf));
    }

    /// Drops a leaf, or opens a branch. False when nothing is left.
    pub fn free_some(&mut self) -> bool {
        let Some(node) = self.nodes.pop() else { return false };
        let branch = match node {
            Node::RetiredLeaf(_) | Node::Leaf(_) => return true,
            Node::RetiredBranch(branch) => branch.into_arc(),
            Node::Branch(branch) => branch,
        };
        match Arc::into_inner(branch).map(|branch| branch.children) {
            Some(Children::Branches(children)) => {
                // bounded: the children of a branch on each level
                self.nodes.extend(children.into_iter().filter_map(|mut child| child.take()).map(Node::Branch));
            }
            Some(Children::Leaves(children)) => {
                // bounded: the children of a branch on each level
                self.nodes.extend(children.into_iter().filter_map(|mut child| child.take()).map(Node::Leaf));
            }
            None => {}
        }
        true
    }
}
