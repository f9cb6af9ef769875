//! Clocks as logic: how one is kept with another, and whether those of all CPUs show the same.
//!
//! | file | what it tells |
//! | --- | --- |
//! | `clock` | [`Clock`]: the clock of a machine, for the kernel and for its programs |
//! | `host_clock` | [`HostClock`]: the clock of a machine that is a process of a host |
//! | `keeper` | [`Keeper`]: how the line by which the time-stamp counter becomes time follows the host's clock |
//! | `line` | [`Line`]: a clock's numbers, and what they show |
//! | `numbers` | [`Numbers`]: a line that many read while one writes |
//! | `tsc_sync` | [`Comparison`]: whether the counters of CPUs differ |
//!
//! **Who calls.** `machine`, which reads the counters. A wrong answer gives a wrong time, and breaks no memory.

#![cfg_attr(not(target_os = "linux"), no_std)]
#![forbid(unsafe_code)]

// `numbers` is compiled by kernel/models, too: for the names it uses there.
extern crate self as clocks;
use core::sync::atomic;

mod clock;
#[cfg(target_os = "linux")]
mod host_clock;
mod keeper;
mod line;
mod numbers;
mod tsc_sync;

pub use clock::Clock;

#[cfg(target_os = "linux")]
pub use host_clock::{HostClock, SharedLine};
pub use keeper::{Advice, Keeper, Sample};
pub use line::{Line, from_nanoseconds, scale, to_nanoseconds};
pub use numbers::Numbers;
pub use tsc_sync::Comparison;
