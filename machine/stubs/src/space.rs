//! [`Space`]: the pages of a space of the host machine, and the stub that shows them.
//!
//! The map is the truth, and what the stub shows of it a cache: a page is shown when it is mapped, or when a program touches it
//! ([`Space::show`]), and each change to a page that is shown is noted in the stub. A page knows under which rights it is shown, and in
//! which of the stub's epochs: after the stub was emptied, or lost to another space, none is.
//!
//! Everything that is changed goes through [`Space::change`], at whose end no program can do any more what was taken away; the frames that
//! left the map are let go after that. What was given may wait until a program is next run.
//!
//! One lock, around everything; the stub's state is locked inside it. Neither is held while anybody waits for a program.

use crate::view::View;
use crate::{Host, Shown, new_number, push};
use boundary::{Access, Mapping, OutOfMemory, PAGE_SHIFT, PageNumber, SwapEntries, SwapEntry, SwappedOut, UserAddress};
use pages::{Break, Owned, Pages};
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Map<H> = Pages<Shown<<H as Host>::Frame>>;

fn page(address: usize) -> PageNumber {
    UserAddress::from(address).page()
}

fn pages(range: Range<usize>) -> Range<PageNumber> {
    page(range.start)..page(range.end)
}

fn start(page: PageNumber) -> usize {
    page.start().into()
}

/// The pages of a space.
pub struct Space<H: Host> {
    /// Its number.
    number: u64,
    inner: Mutex<Inner<H>>,
}

/// A space that is locked.
pub struct Inner<H: Host> {
    pages: Map<H>,
    /// The stub that shows them, unless it has been given to another space meanwhile.
    pub stub: Option<Arc<H::Stub>>,
}

impl<H: Host> Deref for Inner<H> {
    type Target = Map<H>;

    fn deref(&self) -> &Map<H> {
        &self.pages
    }
}

impl<H: Host> DerefMut for Inner<H> {
    fn deref_mut(&mut self) -> &mut Map<H> {
        &mut self.pages
    }
}

/// Puts a page into the map, in the place of what was there.
fn put<H: Host>(
    pages: &mut Map<H>,
    view: &mut View<'_, H>,
    number: PageNumber,
    frame: H::Frame,
    access: Access,
) -> Result<(), OutOfMemory> {
    if start(number) >= H::END || H::offset(frame.number()).is_none() || H::charge(1).is_err() {
        return Err(OutOfMemory);
    }
    let before = pages.map(number, Shown::new(frame), access);
    let replaces = before.as_ref().is_some_and(|before| !view.rights(before).is_empty());
    before.into_iter().for_each(|before| view.discard(before));
    if let Some(page) = pages.get_mut(number).filter(|page| replaces || !page.access().is_empty()) {
        view.show(number, page, replaces);
    }
    Ok(())
}

impl<H: Host> Space<H> {
    /// Nothing is mapped.
    pub fn new() -> Space<H> {
        Space { number: new_number(), inner: Mutex::new(Inner { pages: Pages::new(), stub: None }) }
    }

    /// Nothing is mapped; what is swapped out later, `entries` count.
    pub fn with_swap(entries: Arc<dyn SwapEntries>) -> Space<H> {
        Space { number: new_number(), inner: Mutex::new(Inner { pages: Pages::with_swap(entries), stub: None }) }
    }

    /// Its number, which no other space ever has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Locks it. A thread that unwound while it held the lock has left everything whole.
    pub fn lock(&self) -> MutexGuard<'_, Inner<H>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes pages, and what the stub shows of them.
    fn change<R>(&self, change: impl FnOnce(&mut Map<H>, &mut View<'_, H>) -> R) -> R {
        let mut inner = self.lock();
        let Inner { pages, stub } = &mut *inner;
        let mut view = View::of(stub.as_ref(), self.number);
        let released = pages.released();
        let result = change(pages, &mut view);
        H::uncharge(pages.released() - released);
        view.settle();
        result
    }

    /// Shows `frame` at `at`.
    ///
    /// # Errors
    /// There is no memory for one more page, or no program can have it there.
    pub fn map(&self, at: usize, frame: H::Frame, access: Access) -> Result<(), OutOfMemory> {
        self.change(|pages, view| put(pages, view, page(at), frame, access))
    }

    /// The same, if frame number `before` is there, or nothing, and `still` holds.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn map_over(
        &self,
        at: usize,
        before: Option<usize>,
        frame: H::Frame,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.change(|pages, view| {
            if pages.has(page(at), before) && still() {
                put(pages, view, page(at), frame, access).map(|()| true)
            } else {
                Ok(false)
            }
        })
    }

    /// Shows frames at consecutive pages from `start` where nothing is, if `still` holds.
    ///
    /// # Errors
    /// As [`map`](Self::map); some may be shown then.
    pub fn map_batch(
        &self,
        start: usize,
        frames: impl Iterator<Item = H::Frame>,
        access: Access,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        self.change(|pages, view| {
            if !still() {
                return Ok(false);
            }
            for (number, frame) in (page(start).get()..).map(PageNumber::new).zip(frames) {
                if pages.is_vacant(number) {
                    put(pages, view, number, frame, access)?;
                }
            }
            Ok(true)
        })
    }

    /// Puts `entry` in the place of frame number `frame`, if that is at `at` and there is memory for the entry.
    pub fn swap_out(&self, at: usize, frame: usize, entry: SwapEntry) -> Option<SwappedOut> {
        H::charge(1).ok()?;
        let out = self.change(|pages, view| {
            let (shown, out) = pages.swap_out(page(at), frame, entry)?;
            view.leave(page(at), shown);
            view.hide();
            Some(out)
        });
        if out.is_none() {
            H::uncharge(1);
        }
        out
    }

    /// Shows `frame` in the place of `entry`, if that is at `at`.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn swap_in(&self, at: usize, entry: SwapEntry, frame: H::Frame, access: Access) -> Result<bool, OutOfMemory> {
        self.change(|pages, view| {
            let is_there = pages.swap_entry(page(at)) == Some(entry);
            if is_there { put(pages, view, page(at), frame, access).map(|()| true) } else { Ok(false) }
        })
    }

    /// The swap entry at `at`.
    pub fn swap_entry(&self, at: usize) -> Option<SwapEntry> {
        self.lock().swap_entry(page(at))
    }

    /// Empties `range`, up to `budget` pages. Returns where to go on.
    pub fn unmap(&self, range: Range<usize>, budget: usize) -> Option<usize> {
        self.change(|all, view| {
            let rest = all.unmap(pages(range), budget, |number, shown| view.leave(number, shown));
            rest.map(start)
        })
    }

    /// Changes the access of what is mapped in `range`.
    pub fn protect(&self, range: Range<usize>, access: Access) {
        self.change(|all, view| {
            all.protect(pages(range.clone()), access);
            view.protect(all.range_mut(pages(range)));
        });
    }

    /// Shows the frames of `range` in `child` too.
    ///
    /// # Errors
    /// There is no memory for so many pages more.
    pub fn share_with(&self, child: &Space<H>, range: Range<usize>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        let mut shared = Vec::new();
        let counted = child.lock().counts_entries();
        self.change(|all, view| {
            H::charge(all.count(pages(range.clone())))?;
            all.share(pages(range.clone()), copy_on_write, counted, |copy| push::<H, _>(&mut shared, copy));
            view.protect(all.range_mut(pages(range)));
            Ok(())
        })?;
        child.change(|all, view| {
            all.accept(shared, |number, shown| {
                view.leave(number, shown);
                view.hide();
            });
        });
        Ok(())
    }

    /// Moves what is mapped in `from` to `to`. It is shown there when it is touched.
    ///
    /// # Errors
    /// None.
    pub fn move_range(&self, from: Range<usize>, to: usize) -> Result<(), OutOfMemory> {
        self.change(|all, view| {
            all.range_mut(pages(from.clone())).for_each(|(number, page)| view.conceal(number, page.frame_mut()));
            view.hide();
            all.move_range(pages(from), page(to), |number, shown| view.leave(number, shown));
        });
        Ok(())
    }

    /// What is mapped at `at`.
    pub fn lookup(&self, at: usize) -> Option<Mapping> {
        self.lock().lookup(page(at))
    }

    /// The first page mapped in `range`.
    pub fn next_mapped(&self, range: Range<usize>) -> Option<(usize, Mapping)> {
        let found = self.lock().next_mapped(pages(range));
        found.map(|(number, mapping)| (start(number), mapping))
    }

    /// The first page in `range` where something is mapped or swapped out.
    pub fn next_occupied(&self, range: Range<usize>) -> Option<usize> {
        self.lock().first(pages(range)).map(start)
    }

    /// The frame mapped at `at`.
    pub fn frame_at(&self, at: usize) -> Option<H::Frame> {
        self.lock().frame_at(page(at)).map(|shown| shown.frame().clone())
    }

    /// Makes the page at `at` the space's own, with this tag, and gives it `access`. False, and nothing has changed, if nothing is mapped there or `still` does
    /// not hold.
    ///
    /// # Errors
    /// There is no memory for a copy.
    pub fn break_copy_on_write(
        &self,
        at: usize,
        access: Access,
        tag: u64,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let before = self.lock().before_break(page(at));
        let shared = match before {
            Break::Nothing => return Ok(false),
            Break::Own => None,
            Break::Copy(frame) => Some(frame),
        };
        // Copied while nobody is kept waiting.
        let copied = shared.as_ref().map(|of| Ok((of, of.copied().ok_or(OutOfMemory)?))).transpose()?;
        // Dropped when no program sees it any more.
        let mut unneeded = None;
        Ok(self.change(|pages, view| {
            if !still() {
                return false;
            }
            let is_mapped;
            (is_mapped, unneeded) = pages.break_copy_on_write(page(at), access, tag, copied);
            let was_shown = unneeded.as_ref().is_some_and(|shown| !view.rights(shown).is_empty());
            if let Some(shared_no_more) = pages.get_mut(page(at)) {
                view.show(page(at), shared_no_more, was_shown);
            }
            is_mapped
        }))
    }

    /// Pages mapped now.
    pub fn resident(&self) -> usize {
        self.lock().resident()
    }

    /// Everything that was changed is seen by all.
    pub fn unflushed(&self) -> Option<Range<usize>> {
        None
    }

    /// Whether the stub shows a page with these rights.
    pub fn is_shown(&self, at: usize, access: Access) -> bool {
        self.change(|pages, view| {
            view.has_stub() && pages.frame_at(page(at)).is_some_and(|shown| view.rights(shown).contains(access))
        })
    }

    /// A program touched a page. True if the page allows it: it was only not shown, and is now, with its neighbours.
    pub fn show(&self, at: usize, access: Access) -> bool {
        self.change(|all, view| {
            let allowed = all.get(page(at)).is_some_and(|page| page.access().contains(access | Access::READ));
            if allowed && view.has_stub() {
                let first = at & !((H::AROUND << PAGE_SHIFT) - 1);
                for (number, page) in all.range_mut(pages(first..first + (H::AROUND << PAGE_SHIFT))) {
                    if view.rights(page.frame()) != page.access() && !page.access().is_empty() {
                        view.show(number, page, false);
                    }
                }
            }
            allowed
        })
    }
}

impl<H: Host> Default for Space<H> {
    fn default() -> Space<H> {
        Space::new()
    }
}

impl<H: Host> Drop for Space<H> {
    fn drop(&mut self) {
        let inner = self.lock();
        H::uncharge(inner.resident() + inner.swapped());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Gone, NOBODY, State, Stub};
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PAGE: usize = 4096;
    const PAGES: usize = 64;
    const WRITABLE: Access = Access::READ.union(Access::WRITE);

    /// Counted as a frame is.
    type Counted = Rc<usize>;

    #[derive(Clone)]
    struct Frame(Counted);

    thread_local! {
        static CHARGED: Cell<usize> = const { Cell::new(0) };
        static FRESH: Cell<usize> = const { Cell::new(1000) };
    }

    fn fresh() -> Frame {
        FRESH.set(FRESH.get() + 1);
        Frame(Rc::new(FRESH.get()))
    }

    impl Owned for Frame {
        fn number(&self) -> usize {
            *self.0
        }

        fn references(&self) -> u32 {
            Rc::strong_count(&self.0) as u32
        }

        fn copied(&self) -> Option<Frame> {
            Some(fresh())
        }

        fn set_tag(&self, _: u64) {}
    }

    /// Nobody asks how many there are.
    struct NoCounts;

    impl SwapEntries for NoCounts {
        fn duplicate(&self, _: SwapEntry) {}

        fn release(&self, _: SwapEntry) {}
    }

    struct Model;

    impl Host for Model {
        type Frame = Frame;
        type Stub = Process;
        const END: usize = PAGES * PAGE;
        const AROUND: usize = 4;
        const MOST_AT_ONCE: usize = 3;
        const MOST_STUBS: usize = 4;

        fn apart<R>(body: impl FnOnce() -> R) -> R {
            body()
        }

        fn offset(frame: usize) -> Option<usize> {
            Some(frame * PAGE)
        }

        fn most_mappings() -> usize {
            60
        }

        fn charge(pages: usize) -> Result<(), OutOfMemory> {
            CHARGED.set(CHARGED.get() + pages);
            Ok(())
        }

        fn uncharge(pages: usize) {
            CHARGED.set(CHARGED.get() - pages);
        }
    }

    /// What the process of a stub maps: frame number and rights of each page.
    type Mapped = BTreeMap<usize, (usize, Access)>;

    struct Process {
        state: Mutex<State<Model>>,
        mapped: Mutex<Mapped>,
        /// Changes since it was empty.
        made: AtomicUsize,
    }

    impl Process {
        fn for_space(space: &Space<Model>) -> Arc<Process> {
            let mut state = State::new();
            state.hand_to(space.number(), 0);
            Arc::new(Process { state: Mutex::new(state), mapped: Mutex::default(), made: AtomicUsize::new(0) })
        }

        /// A program begins to run.
        fn run(&self) {
            self.carry_out(&mut self.state.lock().unwrap()).unwrap();
        }
    }

    impl Stub<Model> for Process {
        fn state(&self) -> &Mutex<State<Model>> {
            &self.state
        }

        fn number(&self) -> usize {
            1
        }

        fn make(&self, changes: &[Change]) -> Result<bool, Gone> {
            assert!(changes.len() <= Model::MOST_AT_ONCE);
            let mut mapped = self.mapped.lock().unwrap();
            for change in changes {
                match change {
                    Change::Map { range, offset, access } => {
                        for (at, frame) in range.clone().step_by(PAGE).zip(offset / PAGE..) {
                            mapped.insert(at / PAGE, (frame, *access));
                        }
                    }
                    Change::Unmap(range) => mapped.retain(|page, _| !range.contains(&(page * PAGE))),
                    Change::Protect(range, access) => {
                        for page in range.start / PAGE..range.end / PAGE {
                            mapped.get_mut(&page).expect("only what is mapped is protected").1 = *access;
                        }
                    }
                    Change::Empty => mapped.clear(),
                }
                // Now and then the host has no memory for one more. All can always be forgotten.
                if *change == Change::Empty {
                    self.made.store(0, Ordering::Relaxed);
                } else if self.made.fetch_add(1, Ordering::Relaxed) % 13 == 12 {
                    return Ok(false);
                }
            }
            Ok(true)
        }

        fn stop(&self) {
            unreachable!("it does what it is told");
        }

        fn has_guests(&self) -> bool {
            false
        }

        fn retire(&self) {}

        fn end(&self) {}
    }

    /// What the process maps is never more than the space has: the same frames, with no right beyond the page's.
    fn check(space: &Space<Model>, stub: &Process) {
        for (page, (frame, rights)) in &*stub.mapped.lock().unwrap() {
            let mapping = space.lookup(page * PAGE).unwrap_or_else(|| panic!("page {page} is gone, and is shown"));
            assert_eq!(mapping.frame_number, *frame, "page {page} shows another frame");
            assert!(
                mapping.access.contains(*rights),
                "page {page} may be {:?} and is shown {rights:?}",
                mapping.access
            );
        }
    }

    /// Whatever is changed in two spaces, in any order, and whenever programs run: what was taken away is gone when the call returns, and each
    /// page that is touched comes to be shown.
    #[test]
    fn a_stub_never_shows_more_than_its_space_has() {
        for seed in 0..300_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = move |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as usize % below
            };
            let counts = Arc::new(NoCounts);
            let spaces = [Space::<Model>::with_swap(counts.clone()), Space::with_swap(counts)];
            let stubs = spaces.each_ref().map(Process::for_space);
            for (space, stub) in spaces.iter().zip(&stubs) {
                space.lock().stub = Some(stub.clone());
            }
            let entry = SwapEntry::new(1).unwrap();
            for _ in 0..100 {
                let this = random(2);
                let (space, other, stub) = (&spaces[this], &spaces[1 - this], &stubs[this]);
                let first = random(PAGES);
                let (at, end) = (first * PAGE, (first + 1 + random(PAGES - first)) * PAGE);
                let access = [Access::empty(), Access::READ, WRITABLE, WRITABLE | Access::COPY_ON_WRITE][random(4)];
                match random(12) {
                    0 => space.map(at, fresh(), access).unwrap(),
                    1 => drop(space.map_batch(at, (at..end).step_by(PAGE).map(|_| fresh()), access, || true).unwrap()),
                    2 => drop(space.unmap(at..end, 1 + random(PAGES))),
                    3 => space.protect(at..end, access),
                    4 => space.share_with(other, at..end, random(2) == 0).unwrap(),
                    5 => {
                        let length = (end - at).min(at);
                        space.move_range(at..at + length, 0).unwrap();
                    }
                    6 => drop(space.break_copy_on_write(at, access, 0, || true).unwrap()),
                    7 => stub.run(),
                    9 => {
                        let there = space.lookup(at).map_or(0, |mapping| mapping.frame_number);
                        assert_eq!(space.swap_out(at, there, entry).is_some(), there != 0);
                    }
                    10 => {
                        let is_out = space.swap_entry(at).is_some();
                        assert_eq!(space.swap_in(at, entry, fresh(), access), Ok(is_out));
                    }
                    8 => {
                        let before = space.lookup(at).map(|mapping| mapping.frame_number);
                        let is_out = space.swap_entry(at).is_some();
                        assert_eq!(space.map_over(at, before, fresh(), access, || true), Ok(!is_out));
                    }
                    _ => {
                        // If the stub was emptied instead, the second touch shows it.
                        let touch = || {
                            let is_allowed = space.show(at, Access::READ);
                            stub.run();
                            !is_allowed || stub.mapped.lock().unwrap().contains_key(&first)
                        };
                        assert!(touch() || touch(), "page {first} was touched");
                    }
                }
                spaces.iter().zip(&stubs).for_each(|(space, stub)| check(space, stub));
                let counted = |space: &Space<Model>| space.resident() + space.lock().swapped();
                assert_eq!(CHARGED.get(), spaces.iter().map(counted).sum());
            }
            // A stub that goes to another space shows nothing of this one, and this one notices.
            let stub = &stubs[0];
            {
                let mut state = stub.state.lock().unwrap();
                state.hand_to(NOBODY, 1);
                stub.settle(&mut state);
            }
            assert!(stub.mapped.lock().unwrap().is_empty() && !spaces[0].is_shown(0, Access::empty()));
            drop(spaces);
            assert_eq!(CHARGED.get(), 0);
        }
    }

    #[test]
    fn a_frame_is_let_go_when_nothing_shows_it() {
        let space = Space::<Model>::new();
        let frame = fresh();
        for turn in 0..3 {
            space.map(turn * PAGE, frame.clone(), WRITABLE).unwrap();
        }
        assert!(space.map(Model::END, frame.clone(), WRITABLE).is_err());
        assert_eq!((frame.references(), space.unmap(0..Model::END, 2)), (4, Some(2 * PAGE)));
        assert_eq!((frame.references(), space.unmap(0..Model::END, 2)), (2, None));
        assert_eq!((frame.references(), CHARGED.get()), (1, 0));
    }
}
