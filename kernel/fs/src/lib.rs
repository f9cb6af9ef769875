//! File systems that live in memory.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`tmpfs`] | [`Tmpfs`](tmpfs::Tmpfs): files on the page cache, with size limits; the root file system |
//! | [`slow`] | a store for tmpfs that delays and fails, for tests |
//! | [`initramfs`] | unpacks the archive the machine was started with into the root |
//! | [`hostfs`] | [`HostFs`](hostfs::HostFs): a folder of the host |
//! | [`devfs`] | `/dev`: null, zero, full, random and what drivers add |
//! | [`random`] | the generator behind `/dev/random` and getrandom(2) |
//! | [`kernel_log`] | `/dev/kmsg` |
//!
//! **Who calls.** orrery makes them and mounts them; programs reach them through vfs, whose traits they implement.
//! **Who synchronises.** vfs holds a directory's lock over each change of it; inside, each inode guards itself with a
//! spin lock that is never held over another inode's.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

pub mod devfs;
pub mod hostfs;
pub mod initramfs;
pub mod kernel_log;
pub mod random;
pub mod slow;
pub mod tmpfs;
