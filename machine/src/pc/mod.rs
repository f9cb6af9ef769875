//! The platform PC: QEMU's q35 and microvm, and other PCs that boot by PVH.
//!
//! | files | |
//! | --- | --- |
//! | [`boot`], `boot.s`, [`start_info`] | from the PVH entry to the kernel's main; what the loader says |
//! | [`acpi`], [`io_apic`], [`device`] | which devices there are, their interrupts, what drivers are given |
//! | [`reference`], [`rtc`] | clocks beside the CPU's own |
//! | [`serial`], [`power`] | the emergency console; the end |
//!
//! What it needs of the architecture is imported here, and nowhere else in this folder: what the boundary finds in `platform` though it is
//! the architecture's, and what the files of this folder use. A port to another architecture is a folder beside `arch/x86_64` with the
//! same names, and a folder beside this one.

pub mod acpi;
pub mod boot;
pub mod device;
pub mod io_apic;
pub mod power;
pub mod reference;
pub mod rtc;
pub mod serial;
pub mod start_info;

/// Parts of the boundary that are the architecture's.
pub use crate::arch::{copy, cpu, debug, kernel_space, layout, paging, shootdown, time, user};
/// A part of it that all bare machines have.
pub use crate::bare::frames;

use crate::arch::{block, descriptors, extended, features, local_apic, port, secondary, traps};
