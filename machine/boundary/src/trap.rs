//! [`Trap`]: why a program is back in the kernel.

use crate::{Access, UserAddress};

/// Why a program is back in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// It executed `syscall`; `rip` is after it, `orig_rax` has the number, and `rax` is `-ENOSYS`.
    Syscall,
    /// It touched memory it has no access to now.
    PageFault(PageFault),
    /// Any other exception of the CPU.
    Exception(Exception),
    /// An interrupt arrived; its handlers have run.
    Interrupted,
    /// The machine has lost the program: it can't go on. On `host`, its process was killed, or there is none to be had.
    Lost,
}

/// A memory access of a program that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The address (Linux's `si_addr`); may be anywhere, also outside user space.
    pub address: UserAddress,
    /// What was tried.
    pub access: Access,
    /// There was a page, but without that access.
    pub present: bool,
}

/// An exception other than a page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Its number by the architecture: 0 divide error, 1 debug, 3 breakpoint, 6 invalid opcode, 13 general protection...
    pub vector: u8,
    /// The error code, 0 where the exception has none.
    pub error: u64,
    /// Where: `rip` at the exception.
    pub address: usize,
}
