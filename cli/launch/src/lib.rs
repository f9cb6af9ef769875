//! What is needed to start a guest and to sit in front of it: shared by `orrery`, the command, and `x`, the
//! repository's.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `archive` | an initramfs written (newc cpio), and read as far as finding a file in it needs |
//! | `qemu` | a virtual machine as a value, and the line that starts it |
//! | `console` | our standard streams connected to the serial console of a virtual machine |
//! | `terminal` | the user's terminal: raw while a guest has it, and put back on every way out |
//! | `temporary` | folders that vanish with the value that names them |
//!
//! Nothing here knows the kernel: what builds or tests it must not depend on it.

#![forbid(unsafe_code)]

pub mod archive;
pub mod console;
pub mod qemu;
pub mod temporary;
pub mod terminal;
