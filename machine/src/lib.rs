//! Everything the kernel knows of hardware, and the only place with `unsafe`.
//!
//! Two machines stand behind the same boundary, chosen by the target: `pc` is bare x86-64, `host` an ordinary Linux
//! process, against which the kernel's rooms are tested.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod heap;
pub mod memory;

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(not(target_os = "none"))]
use host as platform;

#[cfg(target_os = "none")]
mod pc;
#[cfg(target_os = "none")]
use pc as platform;

pub use platform::{cpu, debug, device, power, time};
