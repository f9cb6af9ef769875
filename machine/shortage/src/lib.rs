//! Requests for kernel memory that fail on purpose, and what is counted of those that can't: for tests of every way out of memory.
//!
//! | file | |
//! | --- | --- |
//! | `failing` | [`Failing`]: the request of a machine that fails |
//! | `drawn` | [`Drawn`]: what was drawn on the reserve, by kinds of work |
//!
//! **Who calls.** `machine`'s heap, if it is built with the feature `fail-allocations`, as no kernel is that runs for somebody. A wrong answer
//! refuses a request, which may happen at any time anyway, and breaks no memory. **Who synchronises.** All is counted by atomics.

#![cfg_attr(not(target_os = "linux"), no_std)]
#![forbid(unsafe_code)]

mod drawn;
mod failing;

pub use drawn::Drawn;
pub use failing::Failing;
