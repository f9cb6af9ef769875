//! The heap is the target's own: nothing of it is counted.

use crate::memory::HeapUsage;

/// What is known of it.
pub fn usage() -> HeapUsage {
    HeapUsage::default()
}

/// Requests that tests let fail: those for frames only, since the heap's don't come through here.
#[cfg(feature = "fail-allocations")]
pub use failing::{failing, is_of_a_machine, requests};

#[cfg(feature = "fail-allocations")]
mod failing {
    use shortage::Failing;

    static FAILING: Failing = Failing::new();

    pub fn failing() -> &'static Failing {
        &FAILING
    }

    pub fn is_of_a_machine() -> bool {
        true
    }

    pub fn requests() -> u64 {
        FAILING.requests()
    }
}
