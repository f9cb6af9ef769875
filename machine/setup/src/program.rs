//! [`Program`]: what is to run instead of an init.

use alloc::vec::Vec;

/// A program to be run on its own, instead of an init.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Where it is, for the guest.
    pub path: Vec<u8>,
    /// Its arguments, beginning with its name.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment, `NAME=VALUE`.
    pub environment: Vec<Vec<u8>>,
    /// Where it is started; empty for `/`.
    pub working_directory: Vec<u8>,
}
