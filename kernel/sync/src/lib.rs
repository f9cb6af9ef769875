//! Locks and waiting.
//!
//! Two families, told apart by the compiler:
//!
//! - **Spinning** ([`SpinLock`], [`RwSpinLock`]): for a few instructions. Their guards are not `Send`, and every thread of
//!   the system is a `Send` future, so a spin lock held across an `.await` does not compile:
//!
//!   ```compile_fail
//!   fn spawn(_thread: impl Future + Send) {}
//!   let lock = sync::SpinLock::new(0);
//!   spawn(async {
//!       let guard = lock.lock();
//!       core::future::ready(()).await; // error: the guard would live across this await
//!       drop(guard);
//!   });
//!   ```
//!
//! - **Sleeping** ([`WaitQueue`], [`Mutex`], [`Semaphore`]): the waiter's future returns `Pending` and its CPU does something
//!   else. Every wait is cancel-safe: dropping the waiting future deregisters it and passes on a wake-up it may have
//!   received already. That is how a signal interrupts a wait, so these know nothing of signals.
//!
//! The tests of all rooms run with a checker of the order in which spinning locks are taken (`lock_order`).
//!
//! Long work counts a [`Budget`] and gives way ([`yield_now`]), since nothing interrupts a poll.
//!
//! Interrupt handlers run only where the kernel holds nothing (see `machine::cpu`), so a handler may take any spin lock
//! and there is no variant that masks interrupts. A spinning CPU calls `machine::cpu::relax`, which answers other CPUs'
//! TLB requests meanwhile.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod lock_order;
mod mutex;
mod once;
mod semaphore;
mod spin_lock;
mod wait_queue;
mod waiters;
mod yielding;

/// Where this room's atomics come from: the models put others in their place.
mod atomic {
    pub use core::sync::atomic::{AtomicUsize, Ordering, fence};
}

#[cfg(all(debug_assertions, not(target_os = "none")))]
pub use lock_order::lock_orders;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use semaphore::{OwnedPermit, Permit, Semaphore};
pub use spin_lock::{ReadGuard, RwSpinLock, SpinGuard, SpinLock, WriteGuard};
pub use wait_queue::{Listener, NoPlace, WaitQueue};
pub use waiters::{Events, Kind};
pub use yielding::{Budget, YieldNow, yield_now};

#[cfg(test)]
mod test_support;
