//! The ring of a pipe: segments, each a part of a frame, from the writers' memory to the readers'.

use alloc::collections::VecDeque;

use abi::Errno;
use machine::memory::fallible;
use memory::{Destination, Frame, PAGE_SIZE, Source, UserFault};

use super::Ends;
use crate::file::NotReady;

/// The bytes in a pipe, and who has it open.
pub(super) struct Ring {
    pub(super) segments: VecDeque<Segment>,
    /// The last frame that was read empty.
    pub(super) spare: Option<Frame>,
    /// How many segments there may be.
    pub(super) capacity: usize,
    pub(super) ends: Ends,
}

/// Bytes in a part of a frame.
pub(super) struct Segment {
    frame: Frame,
    start: usize,
    pub(super) length: usize,
}

impl Segment {
    fn end(&self) -> usize {
        self.start + self.length
    }
}

impl Ring {
    pub(super) fn is_full(&self) -> bool {
        self.segments.len() >= self.capacity
    }

    /// Copies out of the first segments, giving up those that are empty.
    pub(super) fn take(&mut self, destination: &mut Destination<'_>) -> Result<(), UserFault> {
        while let Some(segment) = self.segments.front_mut() {
            let wanted = segment.length.min(destination.remaining());
            if wanted == 0 {
                break;
            }
            let result = destination.write_frame(&segment.frame, segment.start, wanted);
            let moved = match &result {
                Ok(moved) => *moved,
                Err(fault) => fault.copied,
            };
            segment.start += moved;
            segment.length -= moved.min(segment.length);
            if segment.length == 0 {
                self.spare = self.segments.pop_front().map(|segment| segment.frame);
            }
            result?;
        }
        Ok(())
    }

    /// Copies into the last segment and new ones.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub(super) fn put(&mut self, source: &mut Source<'_>) -> Result<(), NotReady> {
        let total = source.remaining();
        // What does not fill a page joins the last one, if it fits whole.
        let odd = total % PAGE_SIZE;
        if odd > 0
            && let Some(last) = self.segments.back_mut()
            && last.end() + odd <= PAGE_SIZE
        {
            let moved = source.peek_to_frame(&last.frame, last.end(), odd)?;
            last.length += moved;
            source.advance(moved);
        }
        while source.remaining() > 0 {
            if self.is_full() {
                return Err(NotReady::WouldBlock);
            }
            fallible(|| self.segments.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            let frame = self.spare.take().or_else(Frame::allocate_dirty).ok_or(Errno::ENOMEM)?;
            let length = source.remaining().min(PAGE_SIZE);
            let (moved, fault) = match source.peek_to_frame(&frame, 0, length) {
                Ok(moved) => (moved, None),
                // A frame is filled whole or not at all, so a small write too is all or nothing.
                Err(fault) => (0, Some(fault)),
            };
            if moved > 0 {
                self.segments.push_back(Segment { frame, start: 0, length: moved });
                source.advance(moved);
            } else {
                self.spare = Some(frame);
            }
            if let Some(fault) = fault {
                return Err(fault.into());
            }
            if moved == 0 {
                break;
            }
        }
        Ok(())
    }
}
