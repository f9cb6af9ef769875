//! Where the tests' slow files lie, and how long they take to be reached.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use machine::memory::PAGE_SIZE;

use crate::{CutRequest, PageBacking, ReadRequest, SlowBacking, SlowQueue, WriteRequest};

/// A file's pages, behind a queue.
pub struct Stored {
    pub queue: Arc<SlowQueue>,
    /// Of a page that is zeros after its first byte only that.
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// How often it was read.
    pub reads: AtomicUsize,
}

impl Stored {
    /// Nothing yet.
    pub fn new(seed: u64, slowness: u64) -> Arc<Stored> {
        let queue = SlowQueue::new(seed, slowness);
        Arc::new(Stored { queue, pages: Mutex::default(), reads: AtomicUsize::new(0) })
    }

    pub fn backing(self: &Arc<Stored>) -> Arc<SlowBacking> {
        SlowBacking::new(&self.queue, self.clone())
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// What a file of this length holds here.
    pub fn contents(&self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size.next_multiple_of(PAGE_SIZE)];
        for (&index, page) in &*self.pages.lock().unwrap() {
            if let Some(place) = bytes.get_mut(index as usize * PAGE_SIZE..(index as usize + 1) * PAGE_SIZE) {
                place[..page.len()].copy_from_slice(page);
            }
        }
        bytes.truncate(size);
        bytes
    }

    /// Puts a page there, as if it had always been.
    pub fn put(&self, index: u64, byte: u8) {
        self.pages.lock().unwrap().insert(index, vec![byte; PAGE_SIZE]);
    }
}

impl PageBacking for Stored {
    fn read(&self, request: ReadRequest) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        for (index, frame) in (request.first()..).zip(request.frames()) {
            let pages = self.pages.lock().unwrap();
            let bytes = pages.get(&index).map_or(&[][..], |page| page);
            frame.write(0, bytes);
            frame.zero(bytes.len()..PAGE_SIZE);
        }
        request.complete(Ok(()));
    }

    fn write(&self, request: WriteRequest) {
        let mut rest = request.length();
        for (index, frame) in (request.first()..).zip(request.frames()) {
            let mut pages = self.pages.lock().unwrap();
            let mut page = [0; PAGE_SIZE];
            let before = pages.get(&index).map_or(&[][..], |page| page);
            page[..before.len()].copy_from_slice(before);
            let length = rest.min(PAGE_SIZE);
            frame.read(0, &mut page[..length]);
            rest -= length;
            let end = if page[1..] == [0; PAGE_SIZE - 1] { 1 } else { PAGE_SIZE };
            pages.insert(index, page[..end].to_vec());
        }
        request.complete(Ok(()));
    }

    fn cut(&self, request: CutRequest) {
        let size = request.size() as usize;
        {
            let mut pages = self.pages.lock().unwrap();
            pages.split_off(&(size.div_ceil(PAGE_SIZE) as u64));
            if let Some(last) = pages.get_mut(&((size / PAGE_SIZE) as u64)) {
                last.truncate(size % PAGE_SIZE);
            }
        }
        request.complete(Ok(()));
    }
}
