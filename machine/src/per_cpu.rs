//! One slot of something for each CPU.

use crate::{cpu, platform};
use alloc::boxed::Box;
use core::cell::{Cell, UnsafeCell};

/// Keeps neighbours out of each other's cache lines (two, since lines are fetched in pairs).
#[repr(align(128))]
struct Padded<T>(T);

/// One shared `T` for each CPU. Any CPU may look at any slot.
pub struct PerCpu<T>(Box<[Padded<T>]>);

impl<T> PerCpu<T> {
    /// Makes a slot for each of the [`cpu::count`] CPUs.
    pub fn new(make: impl FnMut(usize) -> T) -> PerCpu<T> {
        PerCpu((0..platform::cpu::slots()).map(make).map(Padded).collect())
    }

    /// This CPU's slot.
    #[inline]
    pub fn get(&self) -> &T {
        // SAFETY: `current` is below `slots`.
        unsafe { &self.0.get_unchecked(cpu::current()).0 }
    }

    /// The slot of `cpu`, if there is such a CPU.
    #[inline]
    pub fn of(&self, cpu: usize) -> Option<&T> {
        self.0.get(cpu).filter(|_| cpu < cpu::count()).map(|slot| &slot.0)
    }

    /// All slots, in the order of the CPUs' numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().take(cpu::count()).map(|slot| &slot.0)
    }
}

/// One `T` for each CPU that only this CPU touches: no atomic operations, since interrupts are off whenever the kernel runs.
///
/// On the host, where threads are preempted and may share a CPU number, a lock stands in.
pub struct PerCpuCell<T>(PerCpu<Slot<T>>);

struct Slot<T> {
    #[cfg(not(machine = "pc"))]
    lock: spin::Mutex<()>,
    borrowed: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: a slot's value is reached only through `with`, which gives it to one user at a time: on pc only the slot's own CPU,
// which runs no handler meanwhile; on the host the holder of the lock. So `T` only moves between threads.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> PerCpuCell<T> {
    /// Makes a slot for each CPU.
    pub fn new(mut make: impl FnMut(usize) -> T) -> PerCpuCell<T> {
        PerCpuCell(PerCpu::new(|cpu| Slot {
            #[cfg(not(machine = "pc"))]
            lock: spin::Mutex::new(()),
            borrowed: Cell::new(false),
            value: UnsafeCell::new(make(cpu)),
        }))
    }

    /// Calls `body` with this CPU's slot. `body` must not call `with` of the same cell again: that is a fault of the kernel.
    #[inline]
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        let slot = self.0.get();
        #[cfg(not(machine = "pc"))]
        let _held = slot.lock.lock();
        assert!(!slot.borrowed.replace(true), "per-CPU cell used again while in use");
        let release = Release(&slot.borrowed);
        // SAFETY: the flag says nobody else has the value: on this CPU by the check, on others since they have other slots.
        let result = body(unsafe { &mut *slot.value.get() });
        drop(release);
        result
    }
}

/// Clears the flag also when `body` unwinds (on the host, in a test).
struct Release<'a>(&'a Cell<bool>);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_separate_and_padded() {
        let slots = PerCpu::new(|cpu| cpu * 10);
        assert_eq!(slots.iter().count(), cpu::count());
        assert_eq!(*slots.get(), cpu::current() * 10);
        assert!(slots.of(cpu::count()).is_none());
        assert!(size_of::<Padded<u8>>() >= 128);
    }

    #[test]
    fn a_cell_keeps_its_value_and_can_be_used_again() {
        let cell = PerCpuCell::new(|_| 1);
        cell.with(|value| *value += 1);
        assert_eq!(cell.with(|value| *value), 2);
    }
}
