//! The kernel's ways of waiting, and what CPUs do to shared words, in every order: the real files, compiled over loom's atomics and locks in the place of the
//! machine's. The tests of this room run them with two and three threads, and loom tries each order in which those can
//! see one another's memory, weak ones included: a fence that is missing, or a wake-up that goes nowhere, is found as two
//! threads that wait for ever, or as two uses of the same bytes that nothing orders.
//!
//! | module | the file |
//! | --- | --- |
//! | `wait_queue`, `waiters` | kernel/sync/src |
//! | `state`, `halted`, `cpu_set` | kernel/sched/src: the state of a task, and CPUs that halt |
//! | `futex` | kernel/process/src/futex/table.rs |
//! | `family` | kernel/process/src/process/{family,children}.rs, pid/group.rs: parents and children, groups |
//! | `pid` | kernel/process/src/pid: which numbers are taken, and signals to all processes |
//! | `in_lookup` | kernel/vfs/src: names about which a file system is being asked |
//! | `count` | machine/src/memory: how many own a frame |
//! | `numbers`, `mirror` | machine/clocks: a clock's numbers; machine/src/vdso: the vDSO's reader of them |
//! | `readers` | machine/src/rcu/readers.rs: who reads without a lock, and who waits for that |
//! | `shootdown`, `unflushed` | machine/src/arch/x86_64/shootdown/protocol.rs, and who has a flush before him (mmu_gather/unflushed.rs) |
//! | `table` | machine/src/arch/x86_64/table/state.rs: who has a page table locked, hangs one in, or takes it away |
//! | `recent_areas` | kernel/memory/src: page faults without the lock of the areas |
//! | `tree` | kernel/memory/src/page_cache: pages of a file found without its lock |
//!
//! Stops of processes with threads have their model beside them (kernel/process/src/signal/stop_tests.rs): all of it happens under
//! one lock, so that orders of whole steps are all there are.

// The tests that belong to the files are run in their own rooms.
#![cfg(not(test))]
#![forbid(unsafe_code)]
// What other rooms keep to themselves is public here.
#![allow(clippy::new_without_default)]

extern crate alloc;
// The files say `sync::SpinLock` and `machine::memory::fallible`.
extern crate self as machine;
extern crate self as sync;

mod shim;

pub use family::Process;
pub use shim::{Once, SpinGuard, SpinLock, atomic, memory};
pub use wait_queue::WaitQueue;

#[path = "../../sync/src/wait_queue.rs"]
pub mod wait_queue;
#[path = "../../sync/src/waiters.rs"]
pub mod waiters;

#[path = "../../sched/src/cpu_set.rs"]
pub mod cpu_set;
#[path = "../../sched/src/halted.rs"]
pub mod halted;
#[path = "../../sched/src/state.rs"]
pub mod state;

#[path = "../../vfs/src/hash_tree.rs"]
#[allow(dead_code, missing_docs, reason = "the model uses a part of it")]
mod hash_tree;
#[path = "../../vfs/src/in_lookup.rs"]
#[allow(missing_docs, reason = "as in `vfs`")]
pub mod in_lookup;
#[path = "../../vfs/src/name.rs"]
#[allow(dead_code, missing_docs, reason = "the model uses a part of it")]
mod name;

pub mod family;
pub mod futex;
pub mod pid;

#[path = "../../../machine/src/memory/count.rs"]
pub mod count;

#[path = "../../../machine/src/vdso/mirror.rs"]
pub mod mirror;
#[path = "../../../machine/clocks/src/numbers.rs"]
pub mod numbers;
use numbers::Numbers;

#[path = "../../memory/src/recent_areas.rs"]
pub mod recent_areas;

#[allow(clippy::arc_with_non_send_sync, reason = "loom's cells are no `Sync`, and its threads take turns")]
mod frames;
#[path = "../../memory/src/page_cache/tree.rs"]
#[allow(dead_code, missing_docs, reason = "the model uses a part of it")]
#[allow(clippy::arc_with_non_send_sync, reason = "as above")]
pub mod tree;

pub mod rcu;
pub mod shootdown;
pub mod table;
#[path = "../../../machine/src/arch/x86_64/mmu_gather/unflushed.rs"]
pub mod unflushed;

/// Runs `threads` in every order, but for those with more than `switches` switches that nobody asked for; `None`: all.
pub fn every_order(switches: Option<usize>, threads: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = switches;
    builder.max_branches = 5_000;
    builder.check(threads);
}
