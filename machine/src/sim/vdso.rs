//! The vDSO. Where programs are riscv64's it has what their signal handlers return to; nothing here has a clock that programs could read.

use crate::memory::Frame;

/// The frames of the vDSO. In a program the page of `code` follows that of `data`.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The numbers. A program that could write them could give others a wrong time: map it for reading only.
    pub data: Frame,
    /// The shared object.
    pub code: Frame,
}

/// New ones. None if memory is out.
#[cfg(guest = "riscv64")]
pub fn pages() -> Option<Pages> {
    const { assert!(riscv::SIGNAL_RETURN_AT == formats::vdso::CODE) };
    let (data, code) = (Frame::zeroed()?, Frame::zeroed()?);
    code.write(0, &formats::vdso::build_for_riscv64(&riscv::SIGNAL_RETURN));
    Some(Pages { data, code })
}

/// None: programs ask the kernel.
#[cfg(guest = "x86_64")]
pub fn pages() -> Option<Pages> {
    None
}
