//! Who is reading, CPU by CPU: the part of [`crate::rcu`] that is all about orders.
//!
//! A reader counts itself in the slot of its CPU, loads pointers, and counts itself out. A writer exchanges a pointer, and then waits
//! until it has seen each slot at zero once. All four accesses are in one order that everybody agrees on (`SeqCst`): so either the
//! reader loads the new pointer, or the writer sees the reader.
//!
//! ```text
//!   reader                     writer
//!   count += 1                 old = swap(pointer, new)
//!   load(pointer)              wait until count == 0
//!   ... uses what it loaded    drop(old)
//!   count -= 1
//! ```
//!
//! A reader that comes while the writer waits does no harm, and can't be waited for by mistake for ever: on pc a CPU is in one section at
//! a time; on the host threads of a test may share a slot.

use super::atomic::{AtomicUsize, Ordering};

/// A slot, alone in its cache line: counting oneself writes no line that another CPU writes.
#[repr(align(128))]
struct Slot(AtomicUsize);

/// The readers of each CPU.
pub struct Readers<const CPUS: usize>([Slot; CPUS]);

impl<const CPUS: usize> Readers<CPUS> {
    /// Nobody reads.
    pub const fn new() -> Readers<CPUS> {
        Readers([const { Slot(AtomicUsize::new(0)) }; CPUS])
    }

    /// One more on `cpu`.
    #[inline]
    pub fn enter(&self, cpu: usize) {
        if let Some(slot) = self.0.get(cpu) {
            slot.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// One less. What it read stays as it was until here.
    #[inline]
    pub fn leave(&self, cpu: usize) {
        if let Some(slot) = self.0.get(cpu) {
            slot.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// How many read on `cpu`.
    pub fn count(&self, cpu: usize) -> usize {
        self.0.get(cpu).map_or(0, |slot| slot.0.load(Ordering::SeqCst))
    }

    /// Returns when all who read on the first `cpus` CPUs when it was called have left. The writer's exchange came before.
    pub fn wait(&self, cpus: usize, relax: impl Fn()) {
        for cpu in 0..cpus.min(CPUS) {
            while self.count(cpu) != 0 {
                relax();
            }
        }
    }
}
