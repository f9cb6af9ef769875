//! Formats that a machine reads and writes, as logic over bytes: nothing here touches hardware.
//!
//! | file | format |
//! | --- | --- |
//! | `acpi` | the firmware's tables: CPUs, interrupt controllers, switching off |
//! | `calendar` | the registers of a PC's battery-backed clock |
//! | `vdso` | the shared object with the functions by which programs read the clock |
//!
//! **Who calls.** `machine`, which checks what it acts on: a wrong answer of this room may stop the machine or give a wrong time, and
//! breaks no memory.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acpi;
pub mod calendar;
pub mod vdso;
