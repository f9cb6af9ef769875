//! The machine as bare x86-64: QEMU's q35 and microvm, and other PCs that boot by PVH.
//!
//! | files | |
//! | --- | --- |
//! | [`boot`], `boot.s`, [`start_info`] | from the PVH entry to the kernel's main; what the loader says |
//! | [`layout`] | the kernel's address space |
//! | [`frames`], [`paging`], [`copy`] | frames, page tables, copies to and from user addresses |
//! | [`block`], [`descriptors`], [`features`] | per-CPU block; GDT, TSS, IDT; what the CPU can do |
//! | [`traps`], `traps.s`, [`user`], [`extended`] | exceptions and interrupts; running programs; FPU, SSE, AVX state |
//! | [`cpu`], [`secondary`], `secondary.s` | CPUs, and how the others are started |
//! | [`acpi`], [`local_apic`], [`io_apic`], [`time`], [`device`], [`power`] | the platform's devices |
//! | [`debug`], [`serial`], [`panic`], [`symbols`] | a kernel in trouble |

pub mod boot;
pub mod layout;
