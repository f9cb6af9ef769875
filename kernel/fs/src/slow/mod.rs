//! A store for tmpfs whose files take their time: each is kept in RAM twice, as a file that lies elsewhere and as what it is a copy
//! of, with a queue between the two that delays requests, mixes them up and lets some fail. For tests: whatever works on it
//! works on a disk.

pub mod names;

use alloc::sync::Arc;

use abi::fallible::try_zeroed;
use memory::{
    Cache, CutRequest, Destination, Flusher, Memory, PAGE_SIZE, PageBacking, PageBudget, PageCache, PagerError,
    ReadRequest, SlowBacking, SlowQueue, Source, WriteRequest,
};

use sync::yield_now;

use crate::tmpfs::Store;

/// Pages forgotten before others run.
const SLICE: u64 = 64;

/// See the module's page.
pub struct SlowStore {
    queue: Arc<SlowQueue>,
    flusher: Arc<Flusher>,
    /// What pays for the copies that stand for a disk's: nobody.
    disk: Arc<PageBudget>,
}

impl SlowStore {
    /// A store whose requests take up to `slowness` steps of time, as `seed` says.
    pub fn new(memory: &Arc<Memory>, seed: u64, slowness: u64) -> Arc<SlowStore> {
        let (queue, flusher) = (SlowQueue::new(seed, slowness), Flusher::new(memory));
        Arc::new(SlowStore { queue, flusher, disk: PageBudget::new(memory, u64::MAX) })
    }

    /// The requests that wait. Somebody has to let time pass there.
    pub fn queue(&self) -> &Arc<SlowQueue> {
        &self.queue
    }

    /// What writes the files back.
    pub fn flusher(&self) -> &Arc<Flusher> {
        &self.flusher
    }

    /// Writes all files back, and gives back all pages nobody used since it was done last: so they have to be read again.
    pub async fn forget(&self) {
        self.flusher.write_back(u64::MAX).await;
        while self.flusher.give_back(SLICE) != Some(0) {
            yield_now().await;
        }
    }
}

impl Store for SlowStore {
    fn new_file(&self, pages: &Arc<PageBudget>) -> Arc<PageCache> {
        let kept = Arc::new(Kept(PageCache::new(self.disk.clone())));
        PageCache::backed(pages.clone(), SlowBacking::new(&self.queue, kept), &self.flusher, 0)
    }

    fn flusher(&self) -> &Arc<Flusher> {
        &self.flusher
    }
}

/// A file as the disk would have it.
struct Kept(PageCache);

impl Kept {
    fn fill(&self, request: &ReadRequest) -> Result<(), PagerError> {
        let mut bytes = try_zeroed(PAGE_SIZE).map_err(|_| PagerError::OutOfMemory)?;
        for (index, frame) in (request.first()..).zip(request.frames()) {
            let mut to = Destination::kernel(&mut bytes);
            let length = self.0.read_at(index * PAGE_SIZE as u64, &mut to).map_err(|_| PagerError::Io)?;
            frame.write(0, bytes.get(..length).unwrap_or_default());
            frame.zero(length..PAGE_SIZE);
        }
        Ok(())
    }

    fn keep(&self, request: &WriteRequest) -> Result<(), PagerError> {
        let mut bytes = try_zeroed(PAGE_SIZE).map_err(|_| PagerError::OutOfMemory)?;
        let mut rest = request.length();
        for (index, frame) in (request.first()..).zip(request.frames()) {
            let length = frame.read(0, bytes.get_mut(..rest.min(PAGE_SIZE)).unwrap_or_default());
            let mut from = Source::kernel(bytes.get(..length).unwrap_or_default());
            self.0.write_at(index * PAGE_SIZE as u64, &mut from).map_err(|_| PagerError::OutOfMemory)?;
            rest -= length;
        }
        Ok(())
    }
}

impl PageBacking for Kept {
    fn read(&self, request: ReadRequest) {
        let result = self.fill(&request);
        request.complete(result);
    }

    fn write(&self, request: WriteRequest) {
        let result = self.keep(&request);
        request.complete(result);
    }

    fn cut(&self, request: CutRequest) {
        self.0.set_size(request.size());
        request.complete(Ok(()));
    }
}
