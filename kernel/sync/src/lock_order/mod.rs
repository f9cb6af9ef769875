//! Whether spinning locks are taken in one order: checked in host builds with debug assertions, which the tests of all rooms are.
//!
//! Each lock has a *class*: the place in the source where it was made. Who takes a lock while he holds another says that its class
//! comes after the other's. If that was ever said the other way round, by whomever and however long ago, two CPUs could wait for each
//! other for ever, and the test fails at once, naming both orders with their places. So the order of all locks need not be met by chance on
//! two CPUs at the same moment; it is enough that each half of it runs once. That is how Linux's lockdep finds what it finds.
//!
//! - A lock that is only tried for can't wait, so it comes after nothing; what is taken while it is held comes after it.
//! - Locks of one class are not told apart: who takes two of them says on his page how he orders them.
//! - In a read section ([`machine::rcu`]) no lock is taken at all: the holder may be waiting for the section.
//!
//! In all other builds nothing is left of it.

#[cfg(all(debug_assertions, not(target_os = "none")))]
mod checked;
#[cfg(all(debug_assertions, not(target_os = "none")))]
pub use checked::lock_orders;
#[cfg(all(debug_assertions, not(target_os = "none")))]
pub(crate) use checked::{Class, Held};

#[cfg(not(all(debug_assertions, not(target_os = "none"))))]
mod unchecked;
#[cfg(not(all(debug_assertions, not(target_os = "none"))))]
pub(crate) use unchecked::{Class, Held};
