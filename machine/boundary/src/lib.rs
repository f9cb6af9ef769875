//! Words of the boundary between the kernel and a machine that are plain values or only names: what an address of a program is, what may be done
//! to a page, how a copy ends that could not be done, why a program is back; what the machine calls. `machine` shows them as its own.
//!
//! A program's addresses are 64-bit numbers whatever the kernel's own are: a kernel on a machine of 32-bit words runs the same programs.
//!
//! **Who calls.** Everybody. Memory safety rests on none of it: `machine` checks each address and access it is handed.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod heap;
mod swap;
mod traits;
mod trap;

pub use address::{PAGE_SHIFT, PageNumber, UserAddress};
use core::fmt;
pub use heap::{HeapUsage, SlabUsage};
pub use swap::{SwapEntries, SwapEntry, SwappedOut};
pub use traits::{FrameSource, Handler};
pub use trap::{Exception, PageFault, Trap};

bitflags::bitflags! {
    /// What may be done to a page, or what was tried.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Access: u8 {
        /// Loads. On `pc` every mapped page with any access can be read, except with no access at all.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
        /// For `Space::map` and `Space::map_batch` only: others use the frame too (a file's cache, the frame of zeros), so
        /// writing must wait for `Space::break_copy_on_write` whatever the access says.
        const COPY_ON_WRITE = 8;
    }
}

/// There was no memory for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

/// A copy to or from user memory stopped. The caller resolves the fault at `address` and goes on after `copied` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserFault {
    /// Bytes done before the fault; everything below is complete.
    pub copied: usize,
    /// The address that could not be accessed.
    pub address: UserAddress,
    /// The access was a store.
    pub write: bool,
}

/// What a space says about one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Number of the frame mapped there.
    pub frame_number: usize,
    /// What the program may do now; a copy-on-write page is not writable.
    pub access: Access,
    /// Shared by fork: a write must go through `Space::break_copy_on_write`.
    pub copy_on_write: bool,
    /// Accessed since it was mapped.
    pub accessed: bool,
    /// Written since it was mapped.
    pub dirty: bool,
    /// References to the frame at the moment of the look.
    pub references: u32,
}
