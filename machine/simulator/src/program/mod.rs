//! [`ProgramState`]: what a program has in a CPU beside its general registers. The architecture of the programs decides.

#[cfg(guest = "riscv64")]
mod riscv64;
#[cfg(guest = "x86_64")]
mod x86_64;

#[cfg(guest = "riscv64")]
pub use riscv64::{ProgramState, extended_features};
#[cfg(guest = "x86_64")]
pub use x86_64::{ProgramState, extended_features};
