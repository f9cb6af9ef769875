//! eventfd(2): a counter that can be waited for.

use alloc::string::String;
use alloc::sync::Arc;

use abi::fallible::try_format;
use abi::{Errno, Result};
use bitflags::bitflags;
use memory::{Destination, PAGE_SIZE, Source};
use sync::{Events, SpinLock, WaitQueue};

use crate::caller::Caller;
use crate::file::{File, FileTraits, NotReady, PollEvents};
use crate::inode::{Attributes, Inode, OpenRequest, Permissions};
use crate::open::OpenFlags;
use crate::open_file::{OpenFile, Origin};

bitflags! {
    /// The flags of eventfd2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventFlags: u32 {
        /// `EFD_SEMAPHORE`: a read takes 1 instead of all.
        const SEMAPHORE = 1;
        /// `EFD_NONBLOCK`
        const NON_BLOCK = OpenFlags::NON_BLOCK.bits();
        /// `EFD_CLOEXEC`
        const CLOSE_ON_EXEC = OpenFlags::CLOSE_ON_EXEC.bits();
    }
}

/// The highest count.
const MAX: u64 = u64::MAX - 1;

struct Event {
    count: SpinLock<u64>,
    queue: WaitQueue,
    semaphore: bool,
    number: u64,
}

/// Makes an event counter and opens it: eventfd2(2).
///
/// # Errors
/// `EINVAL` for unknown flags.
pub fn event(initial: u32, flags: u32, caller: &dyn Caller) -> Result<Arc<OpenFile>> {
    let flags = EventFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let event = Arc::new(Event {
        count: SpinLock::new(u64::from(initial)),
        queue: WaitQueue::new(),
        semaphore: flags.contains(EventFlags::SEMAPHORE),
        number: caller.vfs().new_anonymous_number(),
    });
    let mut open = OpenFlags::READ_WRITE;
    open.set(OpenFlags::NON_BLOCK, flags.contains(EventFlags::NON_BLOCK));
    Ok(OpenFile::new(event.clone(), Origin::Anonymous(event), open))
}

impl File for Event {
    fn traits(&self) -> FileTraits {
        FileTraits::empty()
    }

    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        if destination.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut count = self.count.lock();
        if *count == 0 {
            return Err(NotReady::WouldBlock);
        }
        let taken = if self.semaphore { 1 } else { *count };
        let moved = destination.write(&taken.to_ne_bytes())?;
        *count -= taken;
        drop(count);
        self.queue.wake_all_for(Events::OUTPUT);
        Ok(moved)
    }

    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        if source.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = [0; 8];
        source.peek(&mut bytes)?;
        let added = u64::from_ne_bytes(bytes);
        if added == u64::MAX {
            return Err(Errno::EINVAL.into());
        }
        let mut count = self.count.lock();
        if added > MAX - *count {
            return Err(NotReady::WouldBlock);
        }
        *count += added;
        drop(count);
        source.advance(8);
        self.queue.wake_all_for(Events::INPUT);
        Ok(8)
    }

    fn poll(&self) -> PollEvents {
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, count > 0);
        events.set(PollEvents::WRITABLE, count < MAX);
        events
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(&self.queue)
    }
}

impl Inode for Event {
    fn attributes(&self) -> Attributes {
        Attributes { number: self.number, mode: 0o600, links: 1, block_size: PAGE_SIZE as u32, ..Attributes::default() }
    }

    fn permissions(&self) -> Permissions {
        Permissions { mode: 0o600, user: 0, group: 0 }
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }

    fn anonymous_name(&self) -> Result<String> {
        try_format(format_args!("anon_inode:[eventfd]"))
    }
}
