//! What the kernel implements for the machine to call.

/// What the kernel does when an interrupt of the machine itself arrives. Called on the CPU concerned, with interrupts off.
/// A handler wakes and queues; it must not sleep and should not allocate.
pub trait Handler: Send + Sync {
    /// The alarm set by `time::set_alarm` went off.
    fn alarm(&self);
    /// Another CPU called `cpu::kick` for this one.
    fn kicked(&self);
}

/// Who decides which frame is handed out: the kernel's frame allocator.
///
/// Called with interrupts off, possibly by the heap, which holds nothing then: a source that allocates or drops frames in these
/// methods may call itself for ever, or wait for a lock of its own, but breaks nobody's memory.
pub trait FrameSource: Send + Sync {
    /// The first number of 2^`order` contiguous free frames, aligned to their size.
    fn allocate(&self, order: u8) -> Option<usize>;
    /// Takes back 2^`order` frames. A run may come back in smaller pieces than it went, and frames that were never
    /// handed out (the initramfs, boot memory) may come for the first time.
    fn free(&self, first: usize, order: u8);
    /// Frames that are free now.
    fn free_frames(&self) -> usize;
    /// All frames the source looks after.
    fn total_frames(&self) -> usize;
    /// Whether so many frames may be taken for what can be refused: the reserve must be left for what can't.
    fn has_room_for(&self, frames: usize) -> bool {
        self.free_frames() >= frames
    }
}
