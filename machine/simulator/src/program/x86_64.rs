//! Of x86-64: the extended state, and the bases of two segments.

use crate::USER_TOP;
use alloc::vec;
use alloc::vec::Vec;
use x86::extended::{WITH_HEADER, X87_AND_SSE, clear, replace};

/// The bits MXCSR can have.
const MXCSR_MASK: u32 = 0xffff;

/// The components an extended state has, as in XCR0.
pub fn extended_features() -> u64 {
    X87_AND_SSE
}

/// The extended state, and the bases of two segments.
#[derive(Clone)]
pub struct ProgramState {
    extended: Vec<u8>,
    fs_base: usize,
    gs_base: usize,
}

/// The address as a segment's base. One outside user space is taken as 0.
fn base(address: usize) -> usize {
    if (address as u64) < USER_TOP { address } else { 0 }
}

impl ProgramState {
    /// Of a program that has not run.
    pub fn new() -> ProgramState {
        let mut extended = vec![0; WITH_HEADER];
        clear(&mut extended);
        ProgramState { extended, fs_base: 0, gs_base: 0 }
    }

    /// No CPU has any of it: all is here.
    pub fn park(&mut self) {}

    /// The base of FS.
    pub fn fs_base(&mut self) -> usize {
        self.fs_base
    }

    /// Sets the base of FS. An address outside user space is taken as 0.
    pub fn set_fs_base(&mut self, address: usize) {
        self.fs_base = base(address);
    }

    /// The base of GS.
    pub fn gs_base(&mut self) -> usize {
        self.gs_base
    }

    /// Sets the base of GS. An address outside user space is taken as 0.
    pub fn set_gs_base(&mut self, address: usize) {
        self.gs_base = base(address);
    }

    /// The extended state in XSAVE's standard format.
    pub fn extended_state(&mut self) -> &[u8] {
        &self.extended
    }

    /// Replaces the extended state by an image a program made up. False, and nothing changes, if no CPU could have made it.
    pub fn set_extended_state(&mut self, image: &[u8]) -> bool {
        replace(&mut self.extended, image, extended_features(), MXCSR_MASK)
    }
}

impl Default for ProgramState {
    fn default() -> ProgramState {
        ProgramState::new()
    }
}
