//! Processes at work: whole kernels in tests, whose programs are played by the host machine. What is expected is what Linux
//! does with the same calls.

mod crowds;
mod execution;
pub(crate) mod families;
mod rights;
mod signals;
