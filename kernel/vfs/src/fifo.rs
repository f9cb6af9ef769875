//! Ends of pipes, and opening FIFOs: fifo(7).

use alloc::sync::Arc;

use abi::{Errno, Result};
use memory::{Destination, Source};
use sync::WaitQueue;

use crate::caller::Caller;
use crate::file::{File, FileTraits, NotReady, PollEvents};
use crate::open::OpenFlags;
use crate::open_file::{OpenFile, Origin};
use crate::pipe::{Ends, Pipe};

/// One open end of a pipe, or both in one. The pipe counts it for as long as it exists.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// How often the FIFO had been opened for writing when this end came: until that changes nobody has hung up.
    writers_seen: u64,
    /// The counts right after this end came.
    ends: Ends,
}

impl PipeEnd {
    pub(crate) fn new(pipe: &Arc<Pipe>, flags: OpenFlags, named: bool) -> PipeEnd {
        let (reads, writes) = (flags.readable(), flags.writable());
        let ends = pipe.add_end(reads, writes);
        // Without a name, the other end was there from the beginning.
        let nobody_wrote_yet = named && !writes && ends.writers == 0;
        let writers_seen = if nobody_wrote_yet { ends.writer_opens } else { u64::MAX };
        PipeEnd { pipe: pipe.clone(), reads, writes, writers_seen, ends }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.pipe.remove_end(self.reads, self.writes);
    }
}

impl File for PipeEnd {
    fn traits(&self) -> FileTraits {
        FileTraits::SIGNALS
    }

    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        self.pipe.read(destination)
    }

    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        self.pipe.write(source)
    }

    fn poll(&self) -> PollEvents {
        self.pipe.poll(self.reads, self.writes, self.writers_seen)
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(self.pipe.queue())
    }

    fn ioctl(&self, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        self.pipe.ioctl(request, argument, caller)
    }

    fn pipe(&self) -> Option<&Arc<Pipe>> {
        Some(&self.pipe)
    }
}

/// A FIFO being opened. Opening for reading waits for a writer and the other way round, unless `O_NONBLOCK` says not
/// to.
pub struct FifoOpening {
    pipe: Arc<Pipe>,
    origin: Origin,
    flags: OpenFlags,
}

impl FifoOpening {
    pub(crate) fn new(pipe: Arc<Pipe>, origin: Origin, flags: OpenFlags) -> FifoOpening {
        FifoOpening { pipe, origin, flags }
    }

    /// Waits for the other side. Cancel-safe: dropping it closes what was opened.
    ///
    /// # Errors
    /// `ENXIO` when nobody reads and the opening for writing may not wait.
    pub async fn complete(self) -> Result<Arc<OpenFile>> {
        let non_block = self.flags.contains(OpenFlags::NON_BLOCK);
        let writes_only = self.flags.writable() && !self.flags.readable();
        if writes_only && non_block && self.pipe.ends().readers == 0 {
            return Err(Errno::ENXIO);
        }
        let end = PipeEnd::new(&self.pipe, self.flags, true);
        let Ends { readers, writers, reader_opens, writer_opens, .. } = end.ends;
        let both = self.flags.writable() && self.flags.readable();
        if !both && !non_block {
            // Somebody who came and went again while this waited counts as well.
            let met = || {
                let now = self.pipe.ends();
                let met = if writes_only {
                    readers > 0 || now.reader_opens != reader_opens
                } else {
                    writers > 0 || now.writer_opens != writer_opens
                };
                met.then_some(())
            };
            self.pipe.openers.wait_until(met).await;
        }
        Ok(OpenFile::new(Arc::new(end), self.origin, self.flags))
    }
}
