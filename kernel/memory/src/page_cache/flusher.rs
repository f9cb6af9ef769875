//! The flusher of a file system: its dirty files, by age and by share of memory.
//!
//! A task of the kernel writes back ([`Flusher::run`]): every five seconds the files that have been dirty for thirty, as on Linux, and
//! at once when a tenth of the memory is dirty. At a fifth, whoever writes helps, and waits for what he wrote: so nobody makes
//! pages dirty faster than they can be written, and a machine of any size writes files of any size.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::future::Future;
use core::ops::Bound;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::memory::FrameSource;
use machine::time;
use sync::{SpinLock, WaitQueue, yield_now};

use super::{PageCache, WriteErrors};
use crate::kernel_memory::Memory;
use crate::oom::Cache;
use crate::pager::PagerError;

/// How often old files are looked for, in nanoseconds: `dirty_writeback_centisecs`.
pub const INTERVAL: u64 = 5_000_000_000;

/// For how long a file may be dirty, in nanoseconds: `dirty_expire_centisecs`.
pub const OLD: u64 = 30_000_000_000;

/// Pages of one file written at a time, so that each gets its turn.
const TURN: u64 = 1024;

/// Files asked for pages before others run.
const SLICE: usize = 256;

/// Pages asked back at once.
const BATCH: u64 = 256;

/// So many requests fail one after the other before nobody waits for the next to succeed.
const HOPELESS: u32 = 32;

/// See the module's page.
pub struct Flusher {
    memory: Arc<Memory>,
    files: SpinLock<Files>,
    /// Pages that are dirty, and under write-back.
    dirty: AtomicU64,
    writing: AtomicU64,
    /// Where writers have to wait.
    limit: AtomicU64,
    /// Requests that have ended, and those of the last that failed.
    ended: AtomicU64,
    failures: AtomicU32,
    /// What failed of any file.
    errors: WriteErrors,
    /// Woken when a request ends, and when the task has to do something.
    progress: WaitQueue,
    pressed: WaitQueue,
}

#[derive(Default)]
struct Files {
    all: BTreeMap<u64, Weak<PageCache>>,
    /// Those that are dirty or being written, with when they became so. They stay until all is written, whoever closes them.
    dirty: BTreeMap<u64, (Arc<PageCache>, u64)>,
    last_id: u64,
    /// The file that was asked for pages last.
    hand: u64,
    /// So many were asked since one gave some.
    asked_in_vain: usize,
}

impl Flusher {
    /// That of a new file system, which is asked for pages when memory is short.
    pub fn new(memory: &Arc<Memory>) -> Arc<Flusher> {
        let flusher = Arc::new(Flusher {
            memory: memory.clone(),
            files: SpinLock::default(),
            dirty: AtomicU64::new(0),
            writing: AtomicU64::new(0),
            limit: AtomicU64::new((memory.frames().free_frames() as u64 / 5).max(64)),
            ended: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            errors: WriteErrors::default(),
            progress: WaitQueue::new(),
            pressed: WaitQueue::new(),
        });
        let cache: Weak<Flusher> = Arc::downgrade(&flusher);
        memory.add_cache(cache);
        flusher
    }

    /// Pages that are dirty or being written.
    pub fn unwritten(&self) -> u64 {
        self.dirty.load(Ordering::Relaxed) + self.writing.load(Ordering::Relaxed)
    }

    /// Lets so many pages be dirty before writers wait; a fifth of the memory unless it is said.
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Ordering::Relaxed);
    }

    /// Writes back, for ever: to be run by a task. `sleep` waits for so many nanoseconds.
    pub async fn run<S: Future<Output = ()>>(&self, sleep: impl Fn(u64) -> S) {
        loop {
            either(sleep(INTERVAL), self.pressed.wait_until(|| self.is_pressed().then_some(()))).await;
            self.write_back(time::now().saturating_sub(OLD)).await;
            while self.is_pressed() && self.write_some().await {}
            if self.is_pressed() {
                sleep(INTERVAL).await;
            }
        }
    }

    /// Begins to write what is dirty, and doesn't wait: the machine is about to stop.
    pub fn start_write_back(&self) {
        let mut last = 0;
        while let Some((id, file)) = self.next_dirty(last, u64::MAX) {
            last = id;
            file.start_write_back();
        }
    }

    /// Writes back all that is dirty, and waits for it: sync(2).
    ///
    /// # Errors
    /// Something could not be written, now or earlier, and nobody asked here since.
    pub async fn synchronise(&self) -> Result<(), PagerError> {
        let since = AtomicU32::new(self.errors.sample());
        self.write_back(u64::MAX).await;
        self.errors.check(&since)
    }

    /// Writes back the files that became dirty before `before`, and waits for it.
    pub async fn write_back(&self, before: u64) {
        let mut last = 0;
        while let Some((id, file)) = self.next_dirty(last, before) {
            last = id;
            // What fails is told to those who have the file open.
            let _ = file.write_back(0..u64::MAX).await;
            self.renew(id);
        }
    }

    /// The file has had its turn, dirty though it may be.
    fn renew(&self, id: u64) {
        if let Some((_, since)) = self.files.lock().dirty.get_mut(&id) {
            *since = time::now();
        }
    }

    fn next_dirty(&self, last: u64, before: u64) -> Option<(u64, Arc<PageCache>)> {
        let files = self.files.lock();
        let mut later = files.dirty.range((Bound::Excluded(last), Bound::Unbounded));
        later.find(|(_, (_, since))| *since < before).map(|(id, (file, _))| (*id, file.clone()))
    }

    /// Lets go of all files, written back or not: the file system is gone.
    pub fn abandon(&self) {
        let files = core::mem::take(&mut *self.files.lock());
        drop(files);
    }

    /// Begins to write the file that has been dirty for longest, and waits until a request ends. False if there is nothing to
    /// write, or no hope.
    async fn write_some(&self) -> bool {
        if self.unwritten() == 0 || self.is_hopeless() {
            return false;
        }
        let before = self.ended.load(Ordering::Relaxed);
        let oldest = {
            let files = self.files.lock();
            files.dirty.iter().min_by_key(|(_, (_, since))| *since).map(|(id, (file, _))| (*id, file.clone()))
        };
        if let Some((id, file)) = oldest {
            file.begin_write_back(TURN).await;
            self.renew(id);
        }
        let has_ended = || self.ended.load(Ordering::Relaxed) != before || self.writing.load(Ordering::Relaxed) == 0;
        self.progress.wait_until(|| has_ended().then_some(())).await;
        true
    }

    fn is_pressed(&self) -> bool {
        self.unwritten() >= self.limit.load(Ordering::Relaxed) / 2
    }

    fn is_over(&self) -> bool {
        self.unwritten() >= self.limit.load(Ordering::Relaxed)
    }

    fn is_hopeless(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= HOPELESS
    }

    /// Whether somebody may make a page dirty now.
    ///
    /// # Errors
    /// [`PagerError::Wait`] while too many are; [`PagerError::Io`] if they can't be written.
    #[inline]
    pub(super) fn admit(&self) -> Result<(), PagerError> {
        match self.is_over() {
            false => Ok(()),
            true if self.is_hopeless() => Err(PagerError::Io),
            true => Err(PagerError::Wait),
        }
    }

    /// Takes memory from pages that can be had again. True if there is some. Called without locks.
    ///
    /// # Errors
    /// [`PagerError::Wait`] if pages have to be written first.
    pub(super) fn make_room(&self) -> Result<bool, PagerError> {
        match self.memory.give_back(BATCH) {
            None => Err(PagerError::Wait),
            Some(0) if self.has_to_write() => Err(PagerError::Wait),
            Some(given) => Ok(given > 0),
        }
    }

    /// Whether pages are dirty that will be clean soon.
    pub(super) fn has_to_write(&self) -> bool {
        self.unwritten() > 0 && !self.is_hopeless()
    }

    /// Helps to write while too much is dirty, or memory is short.
    ///
    /// # Errors
    /// [`PagerError::OutOfMemory`]: memory is short, and nothing that could be given back is left, nor could be written.
    pub(super) async fn until_room(&self) -> Result<(), PagerError> {
        let mut has_room = !self.is_over();
        while has_room && self.memory.is_scarce() {
            match self.memory.give_back(BATCH) {
                None => yield_now().await,
                Some(0) if !self.has_to_write() => return Err(PagerError::OutOfMemory),
                Some(0) => has_room = false,
                Some(_) => break,
            }
        }
        if !has_room {
            self.write_some().await;
        }
        Ok(())
    }

    /// One more file.
    pub(super) fn new_file(&self, file: &Weak<PageCache>) -> u64 {
        let mut files = self.files.lock();
        files.last_id += 1;
        let id = files.last_id;
        // bounded: an entry a file, whose inode is larger
        files.all.insert(id, file.clone());
        id
    }

    /// The file is gone, with so many dirty pages: nobody can have them any more.
    pub(super) fn forget(&self, id: u64, dirty: u64) {
        self.files.lock().all.remove(&id);
        self.dirty.fetch_sub(dirty, Ordering::Relaxed);
    }

    /// A page became dirty; the first one of the file, perhaps.
    pub(super) fn dirtied(&self, id: u64, file: &Weak<PageCache>, is_first: bool) {
        self.dirty.fetch_add(1, Ordering::Relaxed);
        if is_first && let Some(file) = file.upgrade() {
            // bounded: an entry a file, whose pages are larger
            self.files.lock().dirty.entry(id).or_insert((file, time::now()));
        }
        if self.is_pressed() {
            self.pressed.wake_one();
        }
    }

    /// So many pages of the file are dirty no more; perhaps all is written, or gone.
    pub(super) fn cleaned(&self, id: u64, pages: u64, is_clean: bool) {
        self.dirty.fetch_sub(pages, Ordering::Relaxed);
        if is_clean {
            let _file = self.files.lock().dirty.remove(&id);
        }
    }

    /// So many dirty pages are being written.
    pub(super) fn begin_write(&self, pages: u64) {
        self.writing.fetch_add(pages, Ordering::Relaxed);
        self.dirty.fetch_sub(pages, Ordering::Relaxed);
    }

    /// So many pages are not being written any more; perhaps all of the file is. The caller holds the file.
    pub(super) fn end_write(&self, id: u64, pages: u64, is_clean: bool) {
        self.writing.fetch_sub(pages, Ordering::Relaxed);
        if is_clean {
            let _file = self.files.lock().dirty.remove(&id);
        }
    }

    /// A request to write ended so.
    pub(super) fn note_end(&self, result: Result<(), PagerError>) {
        match result {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(error) => {
                self.errors.record(error);
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.progress.wake_all();
    }

    /// A file is being cut: until that is done none of its pages can be written. Counted as a page that is.
    pub(super) fn begin_cut(&self) {
        self.writing.fetch_add(1, Ordering::Relaxed);
    }

    /// A file has been cut.
    pub(super) fn end_cut(&self) {
        self.writing.fetch_sub(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.progress.wake_all();
    }

    fn next_file(&self) -> Option<Arc<PageCache>> {
        let mut files = self.files.lock();
        let hand = files.hand;
        let (&id, file) =
            files.all.range((Bound::Excluded(hand), Bound::Unbounded)).next().or_else(|| files.all.iter().next())?;
        let file = file.clone();
        files.hand = id;
        file.upgrade()
    }
}

impl Cache for Flusher {
    fn give_back(&self, pages: u64) -> Option<u64> {
        // Twice round: the first time those used lately are spared.
        let left = {
            let files = self.files.lock();
            (2 * files.all.len()).saturating_sub(files.asked_in_vain)
        };
        let mut given = 0;
        for _ in 0..left.min(SLICE) {
            if given >= pages {
                break;
            }
            given += self.next_file().map_or(0, |file| file.give_back(pages - given));
        }
        let mut files = self.files.lock();
        let has_ended = given > 0 || left <= SLICE;
        files.asked_in_vain = if has_ended { 0 } else { files.asked_in_vain + SLICE };
        has_ended.then_some(given)
    }

    fn has_to_write(&self) -> bool {
        Flusher::has_to_write(self)
    }

    fn write_some(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(Flusher::write_some(self))
    }
}

/// Waits for whichever comes first.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (core::pin::pin!(one), core::pin::pin!(other));
    core::future::poll_fn(|context| {
        if one.as_mut().poll(context).is_ready() {
            return core::task::Poll::Ready(());
        }
        other.as_mut().poll(context)
    })
    .await;
}
