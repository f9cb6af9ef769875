//! Scheduling: which future a CPU polls next, for how long, and when it wakes.
//!
//! Every thread of the system and every task of the kernel is a future; a [`Task`] is such a future with its state, and the
//! [`Executor`] polls tasks on all CPUs. A context switch is returning from one poll and calling another: there are
//! no kernel stacks to switch.
//!
//! | module | holds |
//! | --- | --- |
//! | `executor` | [`Executor`]: one queue a CPU, the main loop, wake-ups, preemption |
//! | `balance` | which CPU a task runs on: placement, stealing, balancing |
//! | `watchdog`, `longest` | what kept a CPU in the kernel for too long, and for longest |
//! | `statistics`, `load` | what /proc/stat and /proc/loadavg tell |
//! | `cpu_set` | sets of CPUs without a lock |
//! | `halted` | CPUs that halt, and who kicks them |
//! | `task`, `state` | [`Task`]: one future and its state machine |
//! | `policy` | [`Policy`]: the order of a queue; [`Fair`] (the default) and [`Fifo`] |
//! | `timers` | [`Timer`] and [`Sleep`]: being woken at a time, by the CPU's alarm |
//! | `clock` | [`TaskClock`]: user and kernel time of a task |
//! | `per_cpu` | what belongs to one CPU |
//!
//! Who calls it: `process` makes a task of each thread and asks [`Executor::should_yield`] on every way to user mode;
//! `orrery` runs [`Executor::run`] on each CPU and installs the executor as the machine's interrupt handler; everybody who
//! waits for time uses [`Executor::sleep_until`] or [`Executor::timeout`].
//!
//! There is no tick. The alarm of a CPU is set only while a timer runs there or a task waits for its turn, so one busy
//! program alone is never interrupted.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod balance;
mod clock;
mod cpu_set;
mod executor;
mod halted;
mod load;
mod longest;
mod per_cpu;
mod policy;
mod state;
mod statistics;
mod task;
mod timers;
mod watchdog;

/// Where the atomics of `state` and `halted` come from: the models put others in their place.
mod atomic {
    pub use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
}

pub use clock::{TaskClock, WATCHDOG_LIMIT};
pub use executor::Executor;
pub use load::FIXED_ONE;
pub use longest::{ACTIVITIES, NOTED};
pub use per_cpu::{CpuTimes, Statistics};
pub use policy::{Arrival, Demand, Fair, Fifo, Policy, SchedEntity, weight_of};
pub use sync::{YieldNow, yield_now};
pub use task::{Parameters, Task};
pub use timers::{Sleep, Timer};
pub use watchdog::WatchdogHook;
