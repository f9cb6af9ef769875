//! Clocks as logic: how one is kept with another, and whether those of all CPUs show the same.
//!
//! | file | what it tells |
//! | --- | --- |
//! | `host_clock` | [`HostClock`]: the clock of a machine that is a process of a host |
//! | `keeper` | [`Keeper`]: how the line by which the time-stamp counter becomes time follows the host's clock |
//! | `line` | [`Line`]: a clock's numbers, and what they show |
//! | `tsc_sync` | [`Comparison`]: whether the counters of CPUs differ |
//!
//! **Who calls.** `machine`, which reads the counters. A wrong answer gives a wrong time, and breaks no memory.

#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
mod host_clock;
mod keeper;
mod line;
mod tsc_sync;

#[cfg(not(target_os = "none"))]
pub use host_clock::{HostClock, SharedLine};
pub use keeper::{Advice, Keeper, Sample};
pub use line::{Line, scale};
pub use tsc_sync::Comparison;
