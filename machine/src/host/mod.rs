//! The machine as an ordinary Linux process: what kernel rooms compile and test against.
//!
//! Frames are a region of the process's memory, a space is a map from page to frame, a CPU is a thread. Everything
//! here keeps the meaning of the boundary, at the price of speed.

pub mod copy;
pub mod cpu;
pub mod debug;
pub mod device;
pub mod folder;
pub mod frames;
pub mod paging;
pub mod power;
pub mod time;
pub mod user;
