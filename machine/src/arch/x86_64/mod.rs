//! The architecture x86-64, on any platform: what its manuals tell, and no board.
//!
//! | files | |
//! | --- | --- |
//! | [`layout`] | the kernel's address space |
//! | [`paging`], [`table`], [`mmu_gather`], [`shootdown`] | page tables of user spaces, one table, what is taken out of them, making CPUs forget translations |
//! | [`kernel_space`] | the kernel's half of all address spaces |
//! | [`copy`], [`copy_method`], `copy.s`, [`usercopy`] | copying and clearing memory, to and from user addresses too |
//! | [`block`], [`descriptors`], [`features`] | per-CPU block; GDT, TSS, IDT; what the CPU can do |
//! | [`speculation`] | what is done against speculation across borders |
//! | [`traps`], `traps.s`, [`user`], [`extended`] | exceptions and interrupts; running programs; FPU, SSE, AVX state |
//! | [`cpu`], [`secondary`], `secondary.s`, [`local_apic`] | CPUs, how the others are started, and what interrupts them |
//! | [`time`], [`port`] | the clock and the alarm each CPU has; I/O ports |
//! | [`debug`], [`panic`] | a kernel in trouble |
//!
//! What it needs of the platform is imported here, and nowhere else in this folder:
//!
//! | of the platform | for |
//! | --- | --- |
//! | `acpi` | which CPUs there are |
//! | `boot` | the memory map |
//! | `io_apic` | interrupts of devices go to who serves them |
//! | `reference`, `rtc` | a clock whose frequency is known; the date |
//! | `serial`, `power` | saying what is wrong, and ending |
//!
//! [`crate::platform`] says what it needs of the architecture, [`crate::bare`] what both have from there. Files of this folder that are
//! logic, over ordinary memory, are tested on the host: `tests`.

pub mod block;
pub mod copy;
pub mod copy_method;
pub mod cpu;
pub mod debug;
pub mod descriptors;
pub mod extended;
pub mod features;
mod huge;
pub mod kernel_space;
pub mod layout;
pub mod local_apic;
mod mmu_gather;
pub mod paging;
pub mod panic;
pub mod port;
pub mod secondary;
pub mod shootdown;
pub mod speculation;
pub mod table;
pub mod time;
pub mod traps;
pub mod user;
pub mod usercopy;

use crate::bare::{frames, symbols};
use crate::platform::{acpi, boot, io_apic, power, reference, rtc, serial};
