//! System calls: what a program asks, in Linux's numbers and words.
//!
//! This room is thin. A call is parsed once, at the edge, into typed arguments; the room that owns the matter does it; the
//! result becomes Linux's number or errno. What only the edge knows stays here: the order in which Linux checks
//! arguments, the layout of user structures, old calls expressed by newer ones.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `table` | one row a call: the single source of dispatch, trace and docs/system-calls.md |
//! | `argument`, `flags` | the types of arguments; the names of the flags that are done |
//! | `dispatch` | [`Calls`]: from a number to its function; waiting; faults on user memory |
//! | `user` | structures, strings and paths in user memory |
//! | `trace`, `coverage`, `refusals` | the line `strace=1` prints; the coverage page; what was asked for in vain |
//! | `process`, `scheduling`, `limits`, `credentials`, `group`, `signal`, `futex` | processes and what they say to each other |
//! | `memory` | the mmap family |
//! | `open`, `pipe`, `descriptors`, `ioctl`, `transfer`, `directory`, `poll` | descriptors and what moves through them |
//! | `path`, `status`, `mount` | names, and what they name |
//! | `time`, `system` | clocks; the machine as a whole |
//!
//! **Who calls.** The heart of a thread (process room) calls [`Calls`] through the trait `process::SystemCalls`, with one
//! call at a time for a thread. **Who synchronises.** Nobody here: the rooms below lock what is theirs, and no lock is
//! held in this room but for the refusal counters.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(not(old_calls), allow(dead_code, unused_imports, reason = "functions of calls that it lacks"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

#[macro_use]
mod table;

mod argument;
mod attributes;
mod control;
mod coverage;
mod credentials;
mod descriptors;
mod directory;
mod dispatch;
mod flags;
mod futex;
mod group;
mod ioctl;
mod limits;
mod memory;
mod mount;
mod open;
mod path;
mod pipe;
mod place;
mod poll;
mod process;
mod refusals;
mod scheduling;
mod select;
mod signal;
mod status;
mod system;
mod time;
mod timer;
mod trace;
mod transfer;
mod user;
mod xattr;

pub use coverage::coverage_markdown;
pub use dispatch::Calls;
pub use refusals::{Refusal, Refusals};
pub use table::name_of;
