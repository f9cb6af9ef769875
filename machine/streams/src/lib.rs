//! Streams of bytes that a machine is given: its terminal, and standard streams that are files, pipes or sockets of the host.
//!
//! A machine that is a process carries them ([`host`]); a PC has none, and there the type has no values.
//!
//! **Who calls.** The kernel's console and its standard streams, by `machine::device`. **Who synchronises.** Streams lock
//! inside, for no longer than a copy.

#![cfg_attr(not(target_os = "linux"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use bitflags::bitflags;

#[cfg(target_os = "linux")]
pub mod host;
#[cfg(target_os = "linux")]
pub use host::ByteStream;

#[cfg(not(target_os = "linux"))]
mod absent;
#[cfg(not(target_os = "linux"))]
pub use absent::ByteStream;

/// Why a [`ByteStream`] moved no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStop {
    /// There is nothing yet, or no room; the stream's handler is called when that changes.
    WouldBlock,
    /// Nobody reads what is written any more.
    Closed,
    /// It failed, with this number of errno(3).
    Failed(i32),
}

bitflags! {
    /// What could be done with a [`ByteStream`] at once.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Readiness: u8 {
        /// There is something to read.
        const INPUT = 1 << 0;
        /// Nobody writes to the other end any more.
        const INPUT_ENDED = 1 << 1;
        /// There is room to write.
        const OUTPUT = 1 << 2;
        /// Nobody reads at the other end any more.
        const OUTPUT_CLOSED = 1 << 3;
    }
}

/// The size of a terminal's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Pixels from left to right, if known.
    pub width: u16,
    /// Pixels from top to bottom, if known.
    pub height: u16,
}

/// What one of the first program's standard descriptors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandardStream {
    /// Nothing is there.
    Nothing,
    /// The terminal.
    Terminal,
    /// One of [`StandardStreams::streams`], without a terminal in between.
    Stream(usize),
}

/// What the first program's descriptors 0, 1 and 2 are.
pub struct StandardStreams {
    /// The streams that are no terminals, each once.
    pub streams: Vec<ByteStream>,
    /// Which descriptor is which.
    pub descriptors: [StandardStream; 3],
}
