//! Read-copy-update: pointers that are read without a lock, and without writing anything that another CPU writes.
//!
//! An [`RcuCell`] holds an `Arc` or nothing. Who reads opens a [`ReadSection`] and borrows what the cell holds, for as long as the section
//! lasts; who writes exchanges it, and gets a [`Retired`] for the old one, which is dropped when all readers have left that might still
//! use it: after a *grace period*. That is Linux's RCU, but for two things:
//!
//! - **Writers wait.** The end of a grace period is waited for, by spinning, where Linux queues a callback. Sections are some hundred
//!   instructions long, so there is hardly ever one to be waited for; and what is dropped is gone when its last user says so (the pages of a
//!   file that is removed, for instance), as programs expect.
//! - **Readers count themselves**, in a slot of their CPU's own (`readers.rs`), where Linux waits until each CPU has switched tasks.
//!
//! **Rules.** A section is left before a lock is taken, before waiting, and before anything is dropped: a writer that holds the lock may be
//! waiting for the section. A [`ReadSection`] is not `Send`, so that none is held over an `.await`. Waiting for a grace period in a section of
//! one's own would never end: that is a fault of the kernel, and stops the machine where it is seen.
//!
//! **What makes it sound.** A [`Shared`] borrows both its section and its cell. The cell's reference is given up by nobody before a grace
//! period that begins after the exchange has ended (`Retired`), or by who has the cell alone (`&mut`), whose borrow says that no `Shared` of it
//! is left.
//!
//! Source: P. McKenney, J. Slingwine, "Read-Copy Update" (1998); Linux, Documentation/RCU/whatisRCU.rst.

mod readers;

/// Where the atomics come from: the model puts others in their place.
mod atomic {
    pub use core::sync::atomic::{AtomicUsize, Ordering};
}

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::cpu::{self, MAX_CPUS};
use crate::lock::Relax;
use crate::platform;

use readers::Readers;

/// All machines of a host process share them: a section is a section, whoever's cell is read in it.
static READERS: Readers<MAX_CPUS> = Readers::new();

/// This CPU reads. See the module's page for what may be done in a section.
pub struct ReadSection {
    cpu: usize,
    /// It ends on the CPU where it began.
    not_send: PhantomData<*const ()>,
}

/// Begins to read.
#[inline]
pub fn read() -> ReadSection {
    let cpu = cpu::current();
    READERS.enter(cpu);
    own::enter();
    ReadSection { cpu, not_send: PhantomData }
}

impl Drop for ReadSection {
    #[inline]
    fn drop(&mut self) {
        own::leave();
        READERS.leave(self.cpu);
    }
}

/// Returns when all who read when it was called have stopped.
///
/// # Panics
/// In a section of the caller's: that would never end.
pub fn wait_for_readers() {
    assert!(!is_reading(), "waited for readers by one of them");
    READERS.wait(platform::cpu::readers(), <Relax as spin::RelaxStrategy>::relax);
}

/// Whether the caller reads: then it must not wait for readers, nor for a lock.
pub fn is_reading() -> bool {
    own::reads()
}

/// What the caller itself reads.
#[cfg(target_os = "none")]
mod own {
    pub fn enter() {}
    pub fn leave() {}

    /// Nobody else is counted there.
    pub fn reads() -> bool {
        super::READERS.count(super::cpu::current()) != 0
    }
}

#[cfg(not(target_os = "none"))]
mod own {
    use core::cell::Cell;

    std::thread_local! {
        /// How many sections this thread is in: threads of a test share a CPU's slot.
        static SECTIONS: Cell<usize> = const { Cell::new(0) };
    }

    #[inline]
    pub fn enter() {
        SECTIONS.set(SECTIONS.get() + 1);
    }

    #[inline]
    pub fn leave() {
        SECTIONS.set(SECTIONS.get() - 1);
    }

    pub fn reads() -> bool {
        SECTIONS.get() != 0
    }
}

/// An `Arc`, or nothing, that can be read without a lock and exchanged at any time.
pub struct RcuCell<T> {
    /// Null, or from `Arc::into_raw`: the cell owns one reference.
    pointer: AtomicPtr<T>,
    owns: PhantomData<Option<Arc<T>>>,
}

impl<T> RcuCell<T> {
    /// A cell with nothing in it.
    pub const fn empty() -> RcuCell<T> {
        RcuCell { pointer: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// A cell with this in it.
    pub fn new(value: Arc<T>) -> RcuCell<T> {
        RcuCell { pointer: AtomicPtr::new(into_raw(value)), owns: PhantomData }
    }

    /// What is in it now, to be used as long as the section lasts.
    #[inline]
    pub fn read<'s>(&'s self, _section: &'s ReadSection) -> Option<Shared<'s, T>> {
        let pointer = NonNull::new(self.pointer.load(Ordering::SeqCst))?;
        Some(Shared { pointer, borrows: PhantomData })
    }

    /// What is in it now. Opens a section for the moment.
    #[inline]
    pub fn get(&self) -> Option<Arc<T>> {
        let section = read();
        self.read(&section).map(Shared::to_arc)
    }

    /// Whether nothing is in it now.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pointer.load(Ordering::Relaxed).is_null()
    }

    /// Puts something else in it. What was there waits for its readers when it is dropped: not in a section, and better not with a lock
    /// that others are waiting for.
    #[inline]
    pub fn replace(&self, new: Option<Arc<T>>) -> Option<Retired<T>> {
        let new = new.map_or(ptr::null_mut(), into_raw);
        let old = self.pointer.swap(new, Ordering::SeqCst);
        NonNull::new(old).map(|pointer| Retired { pointer, owns: PhantomData })
    }

    /// Takes out what is in it. Nobody reads it: the caller has the cell alone.
    pub fn take(&mut self) -> Option<Arc<T>> {
        let pointer = core::mem::replace(self.pointer.get_mut(), ptr::null_mut());
        // SAFETY: it came from `into_raw`, and the cell's reference goes with it. `&mut self` says that no `Shared` borrows the cell.
        (!pointer.is_null()).then(|| unsafe { Arc::from_raw(pointer) })
    }
}

fn pointer_of<T>(value: &Arc<T>) -> NonNull<T> {
    // SAFETY: an `Arc` is never null.
    unsafe { NonNull::new_unchecked(Arc::as_ptr(value).cast_mut()) }
}

fn into_raw<T>(value: Arc<T>) -> *mut T {
    Arc::into_raw(value).cast_mut()
}

impl<T> Drop for RcuCell<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> Default for RcuCell<T> {
    fn default() -> RcuCell<T> {
        RcuCell::empty()
    }
}

impl<T> fmt::Debug for RcuCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "RcuCell(empty)" } else { "RcuCell" })
    }
}

/// What was in a cell, borrowed for a section.
pub struct Shared<'s, T> {
    pointer: NonNull<T>,
    borrows: PhantomData<(&'s T, *const ())>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'s, T> From<&'s Arc<T>> for Shared<'s, T> {
    /// What a reference leads to that is borrowed, and so is there as long.
    #[inline]
    fn from(reference: &'s Arc<T>) -> Shared<'s, T> {
        Shared { pointer: pointer_of(reference), borrows: PhantomData }
    }
}

impl<'s, T> Shared<'s, T> {
    /// Whether both are of the same value.
    #[inline]
    pub fn is(self, other: Shared<'_, T>) -> bool {
        self.pointer == other.pointer
    }

    /// The value, for as long as the section.
    #[inline]
    pub fn get(self) -> &'s T {
        // SAFETY: the cell had a reference when it was read, in a section that is still open, since it is borrowed. It is given up after a
        // grace period only, which ends after the section, or with the cell, which is borrowed too. Or it was made of an `Arc` that is
        // borrowed.
        unsafe { self.pointer.as_ref() }
    }

    /// A reference of one's own, which outlives the section.
    #[inline]
    pub fn to_arc(self) -> Arc<T> {
        // SAFETY: the pointer is from `Arc::into_raw`, and the count is not 0, as in `get`.
        unsafe {
            Arc::increment_strong_count(self.pointer.as_ptr());
            Arc::from_raw(self.pointer.as_ptr())
        }
    }
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.get()
    }
}

/// What a cell had: its readers may still be using it, and are waited for before it is dropped or had.
#[must_use = "dropping it waits for its readers"]
pub struct Retired<T> {
    /// From `Arc::into_raw`: the reference that the cell had.
    pointer: NonNull<T>,
    owns: PhantomData<Arc<T>>,
}

// SAFETY: it is an `Arc` that waits before it is used.
unsafe impl<T: Send + Sync> Send for Retired<T> {}
// SAFETY: as above; nothing is done by a reference to it.
unsafe impl<T: Send + Sync> Sync for Retired<T> {}

impl<T> Retired<T> {
    /// The reference the cell had, when no reader uses it any more.
    #[inline]
    pub fn into_arc(self) -> Arc<T> {
        let retired = ManuallyDrop::new(self);
        wait_for_readers();
        // SAFETY: the pointer and its reference came from a cell, and `retired` is not dropped.
        unsafe { Arc::from_raw(retired.pointer.as_ptr()) }
    }
}

impl<T> Drop for Retired<T> {
    #[inline]
    fn drop(&mut self) {
        wait_for_readers();
        // SAFETY: the pointer and its reference came from a cell; who read it before the exchange has left.
        drop(unsafe { Arc::from_raw(self.pointer.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    /// Tells when it is dropped, and what it held stays readable until then.
    struct Told(Arc<AtomicBool>, usize);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1 = 0;
        }
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "needs threads")]
    fn what_is_replaced_waits_for_who_reads_it() {
        let gone = Arc::new(AtomicBool::new(false));
        let cell = RcuCell::new(Arc::new(Told(gone.clone(), 7)));
        let reading = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let section = read();
                let shared = cell.read(&section).unwrap();
                reading.wait();
                std::thread::sleep(std::time::Duration::from_millis(50));
                assert!(!gone.load(Ordering::SeqCst), "dropped under a reader");
                assert_eq!(shared.1, 7);
            });
            reading.wait();
            drop(cell.replace(None));
            assert!(gone.load(Ordering::SeqCst));
        });
        assert!(cell.is_empty() && cell.get().is_none());
    }

    #[test]
    fn a_reference_of_ones_own_outlives_the_section() {
        let cell = RcuCell::new(Arc::new(5));
        let own = cell.get().unwrap();
        let old = cell.replace(Some(Arc::new(6))).unwrap().into_arc();
        assert_eq!((*own, *old, *cell.get().unwrap()), (5, 5, 6));
        assert_eq!(Arc::strong_count(&own), 2);
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "needs unwinding")]
    fn a_reader_that_waits_for_readers_is_told() {
        let cell = RcuCell::new(Arc::new(5));
        let retired = cell.replace(None).unwrap();
        let section = read();
        let waited = std::panic::catch_unwind(wait_for_readers);
        assert!(waited.is_err());
        drop(section);
        drop(retired);
    }

    /// Writers exchange a value in two places at once; no reader sees one that is gone.
    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "needs threads")]
    fn readers_and_writers_together() {
        let value = |number: usize| Arc::new([number, !number]);
        let cell = RcuCell::new(value(1));
        let reads = AtomicUsize::new(0);
        let done = AtomicBool::new(false);
        let begin = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for cpu in 0..2 {
                let (cell, reads, done, begin) = (&cell, &reads, &done, &begin);
                scope.spawn(move || {
                    cpu::set_current(cpu);
                    begin.wait();
                    while !done.load(Ordering::Relaxed) {
                        let section = read();
                        let [first, second] = *cell.read(&section).unwrap().get();
                        assert_eq!(first, !second);
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            begin.wait();
            for number in 0..if cfg!(miri) { 50 } else { 10_000 } {
                let old = cell.replace(Some(value(number))).unwrap().into_arc();
                let mut old = Arc::into_inner(old).unwrap();
                old.fill(0);
            }
            // On a host with much to do they may not have begun to read.
            while reads.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
