//! Opening FIFOs: fifo(7).

use alloc::sync::Arc;

use abi::{Errno, Result};

use crate::open::OpenFlags;
use crate::open_file::{OpenFile, Origin};
use crate::pipe::{Ends, Pipe, PipeEnd};

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
