//! The machine as bare x86-64: QEMU's q35 and microvm, and other PCs that boot by PVH.
//!
//! | files | |
//! | --- | --- |
//! | [`boot`], `boot.s`, [`start_info`] | from the PVH entry to the kernel's main; what the loader says |
//! | [`layout`] | the kernel's address space |
//! | [`frames`] | the frame database and the boot arena |
//! | [`paging`], [`table`], [`shootdown`] | page tables of user spaces, one table, making CPUs forget translations |
//! | [`kernel_space`] | the kernel's half of all address spaces |
//! | [`copy`], [`copy_method`], `copy.s`, [`usercopy`] | copying and clearing memory, to and from user addresses too |
//! | [`block`], [`descriptors`], [`features`] | per-CPU block; GDT, TSS, IDT; what the CPU can do |
//! | [`speculation`] | what is done against speculation across borders |
//! | [`traps`], `traps.s`, [`user`], [`extended`] | exceptions and interrupts; running programs; FPU, SSE, AVX state |
//! | [`cpu`], [`secondary`], `secondary.s` | CPUs, and how the others are started |
//! | [`acpi`], [`local_apic`], [`io_apic`], [`time`], [`device`], [`power`] | the platform's devices |
//! | [`debug`], [`serial`], [`panic`], [`symbols`] | a kernel in trouble |

pub mod acpi;
pub mod block;
pub mod boot;
pub mod copy;
pub mod copy_method;
pub mod cpu;
pub mod debug;
pub mod descriptors;
pub mod device;
pub mod extended;
pub mod features;
pub mod frames;
pub mod io_apic;
pub mod kernel_space;
pub mod layout;
pub mod local_apic;
mod mmu_gather;
pub mod paging;
pub mod panic;
pub mod port;
pub mod power;
pub mod reference;
pub mod rtc;
pub mod secondary;
pub mod serial;
pub mod shootdown;
pub mod speculation;
pub mod start_info;
pub mod symbols;
pub mod table;
pub mod time;
pub mod traps;
pub mod user;
pub mod usercopy;
