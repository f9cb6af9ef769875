//! For tests of the wall: which steps were reached, and how often; and what holds it up, to be taken away one by one, so that an attack
//! that finds nothing can show that it would have. In anything but a test all this is nothing.

#[cfg(test)]
pub use choice::{Probes, count, switch_off};
pub use choice::{is_on, reached};

/// What can be taken away in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mending {
    /// A right that is lost is taken from the stub before the call returns.
    LossAtOnce,
    /// A guest thread has handlers of signals of its own.
    OwnHandlers,
    /// A new guest thread gets its filter, and it is looked whether it holds.
    Filter,
    /// The host takes the filter of a new guest thread.
    FilterTaken,
    /// A new guest thread reads its stack for signals where no program can write.
    #[cfg(test)]
    StackByKernel,
    /// A thread that does not come back is waited for until a deadline.
    Deadline,
    /// A traced thread is waited for as long as a busy host may need.
    LongPatience,
    /// A program is told of an interrupt.
    Interrupt,
    /// Another stub is taken if a fresh one is gone.
    FreshStub,
    /// The guest threads of a stub are killed before it shows another space.
    Retirement,
}

/// What an attack has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Step {
    /// Rights were taken away from a stub.
    Loss,
    /// A guest thread was made and locked up.
    Start,
    /// A thread was given up.
    Deadline,
    /// A fresh stub was gone.
    FreshStubGone,
    /// A stub was handed on.
    HandedOn,
}

#[cfg(not(test))]
mod choice {
    use super::{Mending, Step};

    #[inline(always)]
    pub const fn is_on(_: Mending) -> bool {
        true
    }

    #[inline(always)]
    pub fn reached(_: Step) {}
}

#[cfg(test)]
mod choice {
    use super::{Mending, Step};
    use crate::platform::machine::current as machine;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    /// The probes of one machine.
    #[derive(Default)]
    pub struct Probes {
        off: AtomicU32,
        counts: [AtomicUsize; 5],
    }

    fn probes() -> Option<&'static Probes> {
        machine().stubs.as_ref().map(|pool| &pool.probes)
    }

    /// Takes one away from this thread's machine.
    pub fn switch_off(mending: Mending) {
        probes().unwrap().off.fetch_or(1 << mending as u32, Ordering::SeqCst);
    }

    pub fn is_on(mending: Mending) -> bool {
        probes().is_none_or(|probes| probes.off.load(Ordering::SeqCst) & 1 << mending as u32 == 0)
    }

    pub fn reached(step: Step) {
        if let Some(probes) = probes() {
            probes.counts[step as usize].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often this thread's machine reached a step.
    pub fn count(step: Step) -> usize {
        probes().unwrap().counts[step as usize].load(Ordering::SeqCst)
    }
}
