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
//! Interrupt handlers run only where the kernel holds nothing (see `machine::cpu`), so a handler may take any spin lock
//! and there is no variant that masks interrupts. A spinning CPU calls `machine::cpu::relax`, which answers other CPUs'
//! TLB requests meanwhile.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod mutex;
mod semaphore;
mod spin_lock;
mod wait_queue;

pub use mutex::{Mutex, MutexGuard};
pub use semaphore::{Permit, Semaphore};
pub use spin_lock::{ReadGuard, RwSpinLock, SpinGuard, SpinLock, WriteGuard};
pub use wait_queue::{Listener, WaitQueue};

#[cfg(test)]
mod test_support;
