//! [`Space`]: [`Pages`] under one lock, by addresses. `machine` has looked that they are user space.
//!
//! Nobody has to forget anything: programs have no other view of a space. Frames are dropped when the lock is given up.

use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::{Access, Mapping, OutOfMemory, PageNumber, SwapEntries, SwapEntry, SwappedOut, UserAddress};
use core::ops::Range;
use pages::{Break, Owned, Pages};
use spin::{Mutex, MutexGuard};

/// The first address a program cannot have: as on `pc`.
pub const USER_TOP: u64 = 0x7fff_ffff_f000;

/// The pages of a space.
pub struct Space<F>(Mutex<Pages<F>>);

fn page(address: u64) -> PageNumber {
    UserAddress::new(address).page()
}

fn pages(range: Range<u64>) -> Range<PageNumber> {
    page(range.start)..page(range.end)
}

impl<F: Owned> Space<F> {
    /// Nothing is mapped.
    pub const fn new() -> Space<F> {
        Space(Mutex::new(Pages::new()))
    }

    /// Nothing is mapped; what is swapped out later, `entries` count.
    pub const fn with_swap(entries: Arc<dyn SwapEntries>) -> Space<F> {
        Space(Mutex::new(Pages::with_swap(entries)))
    }

    /// The pages, locked.
    pub fn lock(&self) -> MutexGuard<'_, Pages<F>> {
        self.0.lock()
    }

    /// Changes the pages. What it returns is dropped by the caller, after the lock is given up.
    fn change<R>(&self, change: impl FnOnce(&mut Pages<F>) -> R) -> R {
        change(&mut self.lock())
    }

    /// Shows `frame` at `at`.
    ///
    /// # Errors
    /// None here, nor below but for copies: the map grows by what can't be refused.
    pub fn map(&self, at: u64, frame: F, access: Access) -> Result<(), OutOfMemory> {
        drop(self.change(|pages| pages.map(page(at), frame, access)));
        Ok(())
    }

    /// The same, if frame number `before` is there, or nothing, and `still` holds.
    ///
    /// # Errors
    /// None.
    pub fn map_over(
        &self,
        at: u64,
        before: Option<usize>,
        frame: F,
        access: Access,
        still: impl FnOnce() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let replaced = self.change(|pages| {
            if pages.has(page(at), before) && still() { Ok(pages.map(page(at), frame, access)) } else { Err(frame) }
        });
        Ok(replaced.is_ok())
    }

    /// Shows frames at consecutive pages from `start` where nothing is, if `still` holds.
    ///
    /// # Errors
    /// None.
    pub fn map_batch(
        &self,
        start: u64,
        frames: impl Iterator<Item = F>,
        access: Access,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        Ok(self.change(|all| {
            let is_so = still();
            if is_so {
                all.map_batch(pages(start..USER_TOP), frames, access);
            }
            is_so
        }))
    }

    /// Puts `entry` in the place of frame number `frame`, if that is at `at`.
    pub fn swap_out(&self, at: u64, frame: usize, entry: SwapEntry) -> Option<SwappedOut> {
        let (_frame, out) = self.change(|pages| pages.swap_out(page(at), frame, entry))?;
        Some(out)
    }

    /// Shows `frame` in the place of `entry`, if that is at `at`.
    ///
    /// # Errors
    /// None.
    pub fn swap_in(&self, at: u64, entry: SwapEntry, frame: F, access: Access) -> Result<bool, OutOfMemory> {
        Ok(self.change(|pages| {
            let is_there = pages.swap_entry(page(at)) == Some(entry);
            if is_there { pages.map(page(at), frame, access).is_none() } else { false }
        }))
    }

    /// The swap entry at `at`.
    pub fn swap_entry(&self, at: u64) -> Option<SwapEntry> {
        self.lock().swap_entry(page(at))
    }

    /// Empties `range`, up to `budget` pages. Returns where to go on.
    pub fn unmap(&self, range: Range<u64>, budget: usize) -> Option<u64> {
        let mut frames = Vec::new();
        let rest = self.change(|all| all.unmap(pages(range), budget, |_, frame| frames.push(frame)));
        rest.map(|page| page.start().get())
    }

    /// Changes the access of what is mapped in `range`.
    pub fn protect(&self, range: Range<u64>, access: Access) {
        self.change(|all| all.protect(pages(range), access));
    }

    /// Shows the frames of `range` in `child` too.
    ///
    /// # Errors
    /// None.
    pub fn share_with(&self, child: &Space<F>, range: Range<u64>, copy_on_write: bool) -> Result<(), OutOfMemory> {
        let (mut shared, mut gone) = (Vec::new(), Vec::new());
        let counted = child.lock().counts_entries();
        self.change(|all| all.share(pages(range), copy_on_write, counted, |copy| shared.push(copy)));
        child.change(|all| all.accept(shared, |_, frame| gone.push(frame)));
        Ok(())
    }

    /// Moves what is mapped in `from` to `to`.
    ///
    /// # Errors
    /// None.
    pub fn move_range(&self, from: Range<u64>, to: u64) -> Result<(), OutOfMemory> {
        let mut gone = Vec::new();
        self.change(|all| all.move_range(pages(from), page(to), |_, frame| gone.push(frame)));
        Ok(())
    }

    /// What is mapped at `at`.
    pub fn lookup(&self, at: u64) -> Option<Mapping> {
        self.lock().lookup(page(at))
    }

    /// The first page mapped in `range`.
    pub fn next_mapped(&self, range: Range<u64>) -> Option<(u64, Mapping)> {
        let found = self.lock().next_mapped(pages(range));
        found.map(|(page, mapping)| (page.start().get(), mapping))
    }

    /// The first page in `range` where something is mapped or swapped out.
    pub fn next_occupied(&self, range: Range<u64>) -> Option<u64> {
        self.lock().first(pages(range)).map(|page| page.start().get())
    }

    /// The frame mapped at `at`.
    pub fn frame_at(&self, at: u64) -> Option<F> {
        self.lock().frame_at(page(at)).cloned()
    }

    /// Makes the page at `at` the space's own, with this tag, and gives it `access`. False, and nothing has changed, if nothing is mapped there or `still` does
    /// not hold.
    ///
    /// # Errors
    /// There is no memory for a copy.
    pub fn break_copy_on_write(
        &self,
        at: u64,
        access: Access,
        tag: u64,
        still: impl Fn() -> bool,
    ) -> Result<bool, OutOfMemory> {
        let shared = match self.change(|pages| pages.before_break(page(at))) {
            Break::Nothing => return Ok(false),
            Break::Own => None,
            Break::Copy(frame) => Some(frame),
        };
        // Copied while nobody is kept waiting.
        let copied = shared.as_ref().map(|of| Ok((of, of.copied().ok_or(OutOfMemory)?))).transpose()?;
        let broken = self.change(|pages| still().then(|| pages.break_copy_on_write(page(at), access, tag, copied)));
        Ok(broken.is_some_and(|(is_mapped, _unneeded)| is_mapped))
    }

    /// Pages mapped now.
    pub fn resident(&self) -> usize {
        self.lock().resident()
    }

    /// Everything that was changed is seen by all.
    pub fn unflushed(&self) -> Option<Range<u64>> {
        None
    }
}

impl<F: Owned> Default for Space<F> {
    fn default() -> Space<F> {
        Space::new()
    }
}
