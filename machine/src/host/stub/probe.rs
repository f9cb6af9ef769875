//! For tests of the wall: which steps were reached, and how often; and what holds it up, to be taken away one by one, so that an attack
//! that finds nothing can show that it would have. In anything but a test all this is nothing.

#[cfg(not(test))]
pub use absent::{is_on, reached};
#[cfg(test)]
pub use probes::{Probes, count, is_on, reached, switch_off};

#[cfg(test)]
mod probes;

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
mod absent {
    use super::{Mending, Step};

    #[inline(always)]
    pub const fn is_on(_: Mending) -> bool {
        true
    }

    #[inline(always)]
    pub fn reached(_: Step) {}
}
