//! /proc/cpuinfo: proc_cpuinfo(5). What a CPU says of itself is the architecture's.

#[cfg(guest = "riscv64")]
mod riscv64;
#[cfg(guest = "x86_64")]
mod x86_64;

#[cfg(guest = "riscv64")]
pub(crate) use riscv64::cpuinfo;
#[cfg(guest = "x86_64")]
pub(crate) use x86_64::cpuinfo;
