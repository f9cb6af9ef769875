//! The numbers of processes, and signals to all of them.

/// The errors the numbers have.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `abi`")]
pub enum Errno {
    EAGAIN,
}

/// As `abi`.
pub type Result<T> = core::result::Result<T, Errno>;

#[path = "../../process/src/pid/broadcast.rs"]
pub mod broadcast;
#[path = "../../process/src/pid/numbers.rs"]
pub mod numbers;
