//! The vDSO: this machine has none, and programs ask the kernel for the time. Its code would be the architecture's.

use crate::memory::Frame;

/// The frames of the vDSO. In a program the page of `code` follows that of `data`.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The numbers. A program that could write them could give others a wrong time: map it for reading only.
    pub data: Frame,
    /// The shared object.
    pub code: Frame,
}

/// None.
pub fn pages() -> Option<Pages> {
    None
}
