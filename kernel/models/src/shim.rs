//! What the real files find in the place of `core::sync::atomic`, `sync::SpinLock` and `machine::memory`.
//!
//! loom's objects belong to one execution and can't be made in constants. So these are made when they are first used.

use std::sync::OnceLock;

/// As `machine::memory`.
pub mod memory {
    pub use crate::frames::{Frame, FrameCell, RetiredFrame};

    /// As on every machine.
    pub const PAGE_SIZE: usize = 4096;

    /// There is always memory.
    pub fn fallible<R>(body: impl FnOnce() -> R) -> R {
        body()
    }
}

/// As `core::sync::atomic`.
pub mod atomic {
    use super::OnceLock;
    pub use loom::sync::atomic::{Ordering, fence};

    macro_rules! atomic {
        ($($name:ident: $value:ty),*) => {$(
            /// loom's, made when it is first used.
            #[derive(Debug)]
            pub struct $name {
                initial: $value,
                made: OnceLock<loom::sync::atomic::$name>,
            }

            impl Default for $name {
                fn default() -> Self {
                    $name::new(0)
                }
            }

            #[allow(missing_docs, dead_code, reason = "core's operations; no model uses all of them for each type")]
            impl $name {
                pub const fn new(initial: $value) -> $name {
                    $name { initial, made: OnceLock::new() }
                }

                fn get(&self) -> &loom::sync::atomic::$name {
                    self.made.get_or_init(|| loom::sync::atomic::$name::new(self.initial))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.get().load(order)
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    self.get().store(value, order);
                }

                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.get().swap(value, order)
                }

                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    self.get().fetch_or(value, order)
                }

                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.get().fetch_and(value, order)
                }

                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.get().fetch_add(value, order)
                }

                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.get().fetch_sub(value, order)
                }

                pub fn compare_exchange(
                    &self,
                    old: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.get().compare_exchange(old, new, success, failure)
                }
            }
        )*};
    }
    atomic!(AtomicUsize: usize, AtomicU64: u64, AtomicU32: u32, AtomicU8: u8);
}

/// As `sync::Once`; made before there are other threads.
#[derive(Default)]
pub struct Once<T>(OnceLock<T>);

#[allow(missing_docs, reason = "as in `sync`")]
impl<T> Once<T> {
    pub const fn new() -> Once<T> {
        Once(OnceLock::new())
    }

    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    pub fn get_or_try<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let value = make()?;
        Ok(self.0.get_or_init(|| value))
    }
}

/// As `sync::SpinGuard`.
pub type SpinGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

/// As `sync::SpinLock`. A thread that would spin sleeps: loom knows then that it can't go on.
pub struct SpinLock<T> {
    initial: std::sync::Mutex<Option<T>>,
    made: OnceLock<loom::sync::Mutex<T>>,
}

#[allow(missing_docs, reason = "as in `sync`")]
impl<T> SpinLock<T> {
    pub const fn new(value: T) -> SpinLock<T> {
        SpinLock { initial: std::sync::Mutex::new(Some(value)), made: OnceLock::new() }
    }

    pub fn lock(&self) -> SpinGuard<'_, T> {
        let take = || self.initial.lock().unwrap().take().unwrap();
        self.made.get_or_init(|| loom::sync::Mutex::new(take())).lock().unwrap()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        SpinLock::new(T::default())
    }
}
