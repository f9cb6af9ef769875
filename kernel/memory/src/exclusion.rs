//! Who may look at an address space and change it, and how the others wait: the counterpart of Linux's mmap_lock.
//!
//! The lock of a space is shared by page faults, which supply pages and change no area: two CPUs may fault at once, and what a
//! fault zeroes or copies keeps no other fault waiting. Who changes areas, or takes pages out, is alone. Most faults need no lock of the
//! areas at all: see the page of `recent_areas`.
//!
//! The lock spins, but not for long, since its holder, or who has to flush under it, may be a virtual CPU that waits for its turn on a busy
//! host: a CPU that spun meanwhile would keep the core from just that one. So calls and faults try for [`TURNS`] turns, and then sleep until the lock is given up. Who can't sleep (a look from
//! /proc, a futex's key) spins on, and is let in first: who takes the lock again and again could else keep it out for ever. For the
//! same reason no further fault is let in while a change tries.
//!
//! A change of an address space happens under its lock, which spins; so a long one goes in steps, and between two of
//! them others run. What is torn down or taken out is consistent after each step, and others may come in between. Where
//! they may not, the change keeps them out meanwhile.
//!
//! What a change has taken out, other CPUs must forget, and that takes as long as they let it. The lock is not held meanwhile, but
//! other changes, and page faults at just those pages, are kept out: who finds a page gone, or another in its place, must not see a third
//! CPU that still has the old one. They spin for a moment, and then sleep, too. Faults elsewhere go on.
//!
//! fork(2) keeps page faults out where it has been already: a thread of the parent that writes to a page which has been copied faults, and
//! waits until everything has been; where nothing has been copied yet threads go on. So its copy is of one moment, the one at which it
//! ends: all that was written before is in it, since who writes something that is not has waited for that moment.

use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::{AtomicUsize, Ordering};

use machine::memory::MmuGather;
use sync::{ReadGuard, RwSpinLock, WaitQueue, WriteGuard};

use crate::address_space::{AddressSpace, Layout};

/// How often the lock of a space is tried before one sleeps for it: some ten microseconds.
const TURNS: usize = 256;

/// The lock of a space. It is given up in one way only, which wakes who sleeps for it.
pub(crate) struct LayoutLock {
    layout: RwSpinLock<Layout>,
    /// How many spin: those who can sleep soon, and in the upper half those who can't sleep.
    spinning: AtomicUsize,
    /// Those who sleep until the lock is given up.
    unlocked: WaitQueue,
    /// How often a page fault found it taken.
    #[cfg(test)]
    pub waits: AtomicUsize,
}

/// One who spins because he can't sleep.
const SLEEPLESS: usize = 1 << (usize::BITS / 2);

/// One who spins for some turns.
const PATIENT: usize = 1;

impl LayoutLock {
    pub fn new(layout: Layout) -> LayoutLock {
        LayoutLock {
            layout: RwSpinLock::new(layout),
            spinning: AtomicUsize::new(0),
            unlocked: WaitQueue::new(),
            #[cfg(test)]
            waits: AtomicUsize::new(0),
        }
    }

    /// Spins until the lock is ours alone, before those who can sleep.
    #[inline]
    pub fn lock(&self) -> LayoutGuard<'_> {
        self.guard(self.layout.try_write().unwrap_or_else(|| self.spin()))
    }

    #[cold]
    fn spin(&self) -> WriteGuard<'_, Layout> {
        let _announced = Announced::new(&self.spinning, SLEEPLESS);
        self.layout.write()
    }

    /// The layout alone, unless others have it for long. Who gets none sleeps in [`LayoutLock::unlocked`].
    #[inline]
    pub fn try_lock(&self) -> Option<LayoutGuard<'_>> {
        self.lock_if_free().or_else(|| self.try_on())
    }

    #[cold]
    fn try_on(&self) -> Option<LayoutGuard<'_>> {
        let _announced = Announced::new(&self.spinning, PATIENT);
        (1..TURNS).find_map(|_| {
            machine::cpu::relax();
            self.lock_if_free()
        })
    }

    /// The layout, if nobody else has it at this moment or spins for it because he can't sleep.
    #[inline]
    fn lock_if_free(&self) -> Option<LayoutGuard<'_>> {
        if self.spinning.load(Ordering::Relaxed) >= SLEEPLESS {
            return None;
        }
        self.layout.try_write().map(|layout| self.guard(layout))
    }

    /// The layout, shared with page faults, unless somebody else has it alone for long. Who gets none sleeps in
    /// [`LayoutLock::unlocked`].
    #[inline]
    pub fn try_share(&self) -> Option<SharedLayout<'_>> {
        self.share_if_free().or_else(|| self.try_to_share_on())
    }

    #[cold]
    fn try_to_share_on(&self) -> Option<SharedLayout<'_>> {
        #[cfg(test)]
        self.waits.fetch_add(1, Ordering::Relaxed);
        (1..TURNS).find_map(|_| {
            machine::cpu::relax();
            self.share_if_free()
        })
    }

    /// The layout, if nobody has it alone at this moment or spins for it.
    #[inline]
    fn share_if_free(&self) -> Option<SharedLayout<'_>> {
        if self.spinning.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.layout.try_read().map(|layout| SharedLayout { layout, _next: WakeNext(&self.unlocked) })
    }

    #[inline]
    fn guard<'a>(&'a self, layout: WriteGuard<'a, Layout>) -> LayoutGuard<'a> {
        LayoutGuard { layout, _next: WakeNext(&self.unlocked) }
    }

    /// Where those sleep who found the lock taken.
    pub fn unlocked(&self) -> &WaitQueue {
        &self.unlocked
    }

    /// The layout without locking: whoever has `&mut` has it alone.
    pub fn get_mut(&mut self) -> &mut Layout {
        self.layout.get_mut()
    }
}

/// Somebody spins, until it is dropped.
struct Announced<'a>(&'a AtomicUsize, usize);

impl Announced<'_> {
    fn new(spinning: &AtomicUsize, who: usize) -> Announced<'_> {
        spinning.fetch_add(who, Ordering::Relaxed);
        Announced(spinning, who)
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// The layout, locked. Whoever sleeps for it is woken afterwards.
pub(crate) struct LayoutGuard<'a> {
    // The order matters: the lock is given up first.
    layout: WriteGuard<'a, Layout>,
    _next: WakeNext<'a>,
}

/// The layout, shared with page faults: no area changes, and no page goes. Whoever sleeps for it is woken afterwards.
pub(crate) struct SharedLayout<'a> {
    // As above.
    layout: ReadGuard<'a, Layout>,
    _next: WakeNext<'a>,
}

struct WakeNext<'a>(&'a WaitQueue);

impl Drop for WakeNext<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.wake_one();
    }
}

impl Deref for SharedLayout<'_> {
    type Target = Layout;

    #[inline]
    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl Deref for LayoutGuard<'_> {
    type Target = Layout;

    #[inline]
    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl DerefMut for LayoutGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Layout {
        &mut self.layout
    }
}

/// Who is kept out of a space between the steps of a change: other changes, and page faults at these addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exclusion {
    start: usize,
    end: usize,
}

impl Exclusion {
    /// Other changes, and no page fault.
    pub const CHANGES: Exclusion = Exclusion { start: 0, end: 0 };

    /// Other changes, and page faults in `range`.
    #[inline]
    pub fn faults_in(range: Range<usize>) -> Exclusion {
        Exclusion { start: range.start, end: range.end }
    }

    /// As [`faults_in`](Self::faults_in), of both ranges and what lies between.
    pub fn faults_in_both(one: &Range<usize>, other: &Range<usize>) -> Exclusion {
        Exclusion { start: one.start.min(other.start), end: one.end.max(other.end) }
    }

    /// Whether a page fault at `page` has to wait.
    #[inline]
    pub fn keeps_out(self, page: usize) -> bool {
        (self.start..self.end).contains(&page)
    }
}

impl Layout {
    /// Keeps these out from now on.
    pub fn exclude(&mut self, whom: Exclusion) {
        self.recent.forget(&(whom.start..whom.end));
        self.exclusion = Some(whom);
    }
}

/// Keeps others out until it is dropped.
pub(crate) struct Excluding<'a>(&'a AddressSpace);

impl AddressSpace {
    /// Keeps others out from now on, once nobody else does. Cancel-safe.
    pub(crate) async fn exclude(&self, whom: Exclusion) -> Excluding<'_> {
        self.change(|layout, _| layout.exclude(whom)).await;
        Excluding(self)
    }

    /// The layout, unless somebody else has it for long.
    #[inline]
    pub(crate) fn try_layout(&self) -> Option<LayoutGuard<'_>> {
        self.layout_lock().try_lock()
    }

    /// The layout, shared with page faults, unless somebody else has it alone for long.
    #[inline]
    pub(crate) fn try_share_layout(&self) -> Option<SharedLayout<'_>> {
        self.layout_lock().try_share()
    }

    /// Changes the layout, once nobody keeps changes out. See [`AddressSpace::change_now`]. Cancel-safe.
    pub(crate) async fn change<R>(&self, action: impl FnOnce(&mut Layout, &mut MmuGather<'_>) -> R) -> R {
        let mut action = Some(action);
        loop {
            let attempt = || {
                self.spin_while_flushing();
                let layout = self.try_layout()?;
                let admitted = if layout.exclusion.is_none() { action.take() } else { None };
                Some(admitted.map(|action| self.change_locked(layout, action)))
            };
            if let Some(result) = self.layout_lock().unlocked().wait_until(attempt).await {
                return result;
            }
            self.until_not_excluded().await;
        }
    }

    /// Waits for the end of a flush, but not for long.
    #[inline]
    fn spin_while_flushing(&self) {
        if self.flushing.load(Ordering::Relaxed) {
            self.spin_on_while_flushing();
        }
    }

    #[cold]
    fn spin_on_while_flushing(&self) {
        let mut left = TURNS;
        while left > 0 && self.flushing.load(Ordering::Relaxed) {
            machine::cpu::relax();
            left -= 1;
        }
    }

    /// Before the lock is given up: keeps others out from what other CPUs may still see, until [`end_flush`](Self::end_flush). False if
    /// there is nothing to keep them out from, or they are kept out already.
    #[inline]
    pub(crate) fn begin_flush(&self, layout: &mut Layout, gather: &MmuGather<'_>) -> bool {
        if layout.exclusion.is_some() {
            return false;
        }
        let Some(range) = gather.unflushed() else { return false };
        layout.exclude(Exclusion::faults_in(range.start.into()..range.end.into()));
        self.flushing.store(true, Ordering::Relaxed);
        true
    }

    /// All CPUs have forgotten.
    #[cold]
    pub(crate) fn end_flush(&self) {
        let mut layout = self.layout();
        layout.exclusion = None;
        // Who spins sees the end when he can come in, not sooner.
        self.flushing.store(false, Ordering::Relaxed);
        drop(layout);
        self.admitted().wake_all();
    }

    /// Takes pages of a file out, or rights, whether changes are kept out or not. If they are, the lock is given up when all CPUs have
    /// forgotten.
    pub(crate) fn change_pages<R>(&self, action: impl FnOnce(&Layout, &mut MmuGather<'_>) -> R) -> R {
        let mut layout = self.layout();
        let mut gather = self.space().gather();
        let result = action(&layout, &mut gather);
        if layout.exclusion.is_some() {
            drop((gather, layout));
        } else {
            let is_flushing = self.begin_flush(&mut layout, &gather);
            drop((layout, gather));
            if is_flushing {
                self.end_flush();
            }
        }
        result
    }

    /// Resolves when a page fault is worth trying again that was [`MemoryFault::Busy`](crate::MemoryFault::Busy).
    pub(crate) async fn until_admitted(&self) {
        self.layout_lock().unlocked().wait_until(|| self.try_layout().map(drop)).await;
        self.until_not_excluded().await;
    }

    /// Resolves when nobody is kept out, or that can't be told because the lock is taken again.
    async fn until_not_excluded(&self) {
        let excluded = || self.try_layout().is_some_and(|layout| layout.exclusion.is_some());
        self.admitted().wait_until(|| (!excluded()).then_some(())).await;
    }
}

impl Excluding<'_> {
    /// One step.
    pub fn step<R>(&self, action: impl FnOnce(&mut Layout, &mut MmuGather<'_>) -> R) -> R {
        self.0.change_now(action)
    }
}

impl Drop for Excluding<'_> {
    fn drop(&mut self) {
        self.0.layout().exclusion = None;
        self.0.admitted().wake_all();
    }
}
