//! Streams of a PC: none yet. The type exists so that the kernel's console compiles.

use crate::{Readiness, StreamStop, WindowSize};
use alloc::sync::Arc;
use core::convert::Infallible;

/// A stream of bytes of a host; this machine has none.
#[derive(Clone, Debug)]
pub struct ByteStream(Infallible);

impl ByteStream {
    /// Calls `handler` when something may have changed that was asked for.
    pub fn connect(&self, _handler: Arc<dyn Fn() + Send + Sync>) {
        match self.0 {}
    }

    /// Whether it can be read.
    pub fn is_readable(&self) -> bool {
        match self.0 {}
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        match self.0 {}
    }

    /// Hands what is there to `take`.
    ///
    /// # Errors
    /// None here.
    pub fn read(&self, _wanted: usize, _take: impl FnOnce(&[u8]) -> usize) -> Result<usize, StreamStop> {
        match self.0 {}
    }

    /// Takes bytes on their way out.
    ///
    /// # Errors
    /// None here.
    pub fn write(&self, _bytes: &[u8]) -> Result<usize, StreamStop> {
        match self.0 {}
    }

    /// Takes bytes whether there is room or not.
    pub fn write_last(&self, _bytes: &[u8]) {
        match self.0 {}
    }

    /// What could be done now.
    pub fn readiness(&self) -> Readiness {
        match self.0 {}
    }

    /// How many bytes could be read at once.
    pub fn waiting(&self) -> usize {
        match self.0 {}
    }

    /// The size of the window.
    pub fn window_size(&self) -> Option<WindowSize> {
        match self.0 {}
    }
}
