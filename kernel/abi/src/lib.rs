//! Linux's binary interface: numbers, structures and error codes, and nothing that acts.
//!
//! Constants come from Linux's own headers through `linux-raw-sys`, re-exported under [`raw`]; structures that cross the
//! border between a program and the kernel are plain old data with `zerocopy`'s derives, laid out to the byte as
//! Linux lays them out. Beside them stands only what every room needs to answer `ENOMEM` ([`fallible`]). One file a topic, and what depends on the architecture in [`arch`]. Every room may use this one; it uses none.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

pub mod arch;
pub mod cpus;
pub mod errno;
pub mod fallible;
pub mod files;
pub mod limits;
pub mod memory;
pub mod pid;
pub mod process;
pub mod signal;
pub mod status;
pub mod system;
pub mod terminal;
pub mod time;

pub use errno::{Errno, Result};
pub use pid::Pid;

/// Linux's constants by header, as `linux-raw-sys` generates them.
pub mod raw {
    pub use linux_raw_sys::{auxvec, elf, errno, general, ioctl, prctl, system};
}
