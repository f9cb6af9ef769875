//! What every bare machine has, whatever its CPU and its devices are.
//!
//! | files | |
//! | --- | --- |
//! | [`frames`] | the frame database and the boot arena |
//! | [`symbols`] | the names of the kernel's functions, in the image |
//!
//! They need the architecture's address space ([`crate::arch`]) and the platform's memory map ([`crate::platform`]).

pub mod frames;
pub mod symbols;

use crate::arch::{copy, layout};
use crate::platform::boot;
