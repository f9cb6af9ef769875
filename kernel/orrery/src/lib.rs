//! The kernel, wired together: boot -> root file system -> init.
//!
//! Every other room is a part; this one knows them all, hands each what it needs, and starts the first program.
//!
//! | file | what it does |
//! | --- | --- |
//! | `boot` | [`main`]: the order of things from the first line of Rust to the first program |
//! | `options` | the words of the kernel command line |
//! | `first` | the first program: an init, or the one program the machine was started for |
//! | `folders` | folders of the host in the tree |
//! | `console` | the serial port, or the host's terminal, as terminal and as the place for the kernel's messages |
//! | `streams` | standard streams that are files, pipes or sockets of the host |
//! | `stop` | the ends: init is over, reboot(2), what is reported before the machine stops |
//!
//! **Who calls.** The machine calls [`main`] once, on the boot CPU, with interrupts off. Nothing calls this room afterwards but the
//! traits it implements for lower rooms.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod boot;
mod console;
mod first;
mod folders;
mod options;
mod stop;
mod streams;

pub use boot::main;
