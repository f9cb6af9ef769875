//! The contents of a regular file of the host: its descriptors, and the pages that are mapped.
//!
//! read(2) and write(2) go to the host, which has a cache of its own: one call, and nothing is kept twice. Only who maps the file gets pages
//! of it, in a [`PageCache`] that is made then, with the host's file as its backing. Reading takes what is not written back yet from there
//! and the rest from the host; writing goes to the host and into the pages that are here (`memory`'s page `direct`). So all in the guest
//! see one file. When nobody has the file open or mapped any more, the pages go.
//!
//! **Locks.** [`Changing`] is held over each write, change of length and writing back, until the host has made it, so that these don't mix.
//! It sleeps: whoever can't wait for it (a write that is tried first, a look at the length) goes without, and pages that
//! are to be written back are left to who has it. Under it come the locks of address spaces (unmapping), and under those, taken by page
//! faults as well, the page cache's own. `openings` comes before `cache`.
//! A page that is on its way to the host shows its bytes until the host has them: so who writes meanwhile loses nothing.
//!
//! **Far files** ([`HostCalls::is_far`]) are written by helpers. How long such a file is isn't asked for here, but noted where others learn it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::fallible::{TryVec, try_zeroed};
use abi::{Errno, Result};
use machine::folder::{Answer, Change, HostError, Node, NodeRequest, OpenNode, ReadNow, Request, Status};
use machine::memory::fallible;
use memory::{
    CutRequest, Destination, Flusher, Frame, PAGE_SIZE, PageBacking, PageBudget, PageCache, Pager, PagerError,
    ReadRequest, Source, Visited, WriteRequest,
};
use sync::{OwnedPermit, Semaphore, SpinLock};
use vfs::{AllocateMode, NotReady};

use super::calls::{HostCalls, Then, unexpected};
use super::errno;

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes that pass through the kernel at once.
const CHUNK: usize = 64 << 10;

/// What a regular file holds.
pub(super) struct HostContents {
    host: Arc<HostSide>,
    /// Made when the file is first mapped, gone when nobody has it open.
    cache: SpinLock<Option<Mapped>>,
    pages: Arc<PageBudget>,
    flusher: Arc<Flusher>,
}

/// The file as the host has it.
struct HostSide {
    this: Weak<HostSide>,
    openings: SpinLock<Vec<Opening>>,
    /// See [`Changing`].
    changing: Arc<Semaphore>,
    /// What is to be written back by who has it.
    delayed: SpinLock<VecDeque<WriteRequest>>,
    /// Of a far file that was closed, what is still to be written back: so long descriptors stay open.
    left: SpinLock<Option<Arc<PageCache>>>,
    /// How long a far file was seen to be.
    length: AtomicU64,
    calls: Arc<HostCalls>,
}

/// Nobody else writes the file or changes its length.
struct Changing {
    host: Arc<HostSide>,
    permit: Option<OwnedPermit>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.host.write_delayed();
    }
}

/// A descriptor of the host, and how many open files use it.
struct Opening {
    open: Arc<OpenNode>,
    users: usize,
}

/// What is here of a file that is mapped.
struct Mapped {
    cache: Arc<PageCache>,
    /// How the file looked when it was last opened.
    version: Option<Version>,
}

/// What changes whenever the contents do.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    size: u64,
    modified: i64,
    changed: i64,
}

/// Where a write goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// To this position.
    At(u64),
    /// To the end of the file.
    End,
}

impl From<&Status> for Version {
    fn from(status: &Status) -> Version {
        Version { size: status.size, modified: status.modified, changed: status.changed }
    }
}

impl HostContents {
    pub fn new(pages: &Arc<PageBudget>, flusher: &Arc<Flusher>, calls: &Arc<HostCalls>) -> HostContents {
        let host = Arc::new_cyclic(|this| HostSide {
            this: this.clone(),
            openings: SpinLock::default(),
            changing: Arc::new(Semaphore::new(1)),
            delayed: SpinLock::default(),
            left: SpinLock::default(),
            length: AtomicU64::new(0),
            calls: calls.clone(),
        });
        HostContents { host, cache: SpinLock::default(), pages: pages.clone(), flusher: flusher.clone() }
    }

    /// One more user of a descriptor that is good for this, opened unless there is one. From here on mapped pages are
    /// as fresh as the file is now.
    pub fn open(&self, read: bool, write: bool, make: impl FnOnce() -> Result<OpenNode>) -> Result<Arc<OpenNode>> {
        let open = self.host.open(read, write, make)?;
        self.refresh(open.status().ok());
        Ok(open)
    }

    /// The same for a file that is far, which somebody else has `opened`, and looked at.
    pub fn take_opened(
        &self,
        read: bool,
        write: bool,
        status: &Status,
        opened: impl FnOnce() -> OpenNode,
    ) -> Result<Arc<OpenNode>> {
        self.note_length(status.size);
        let open = self.host.open(read, write, || Ok(opened()))?;
        self.refresh(Some(*status));
        Ok(open)
    }

    /// One more user of a descriptor that is there and good for this.
    pub fn open_already(&self, read: bool, write: bool) -> Option<Arc<OpenNode>> {
        self.host.open_already(read, write)
    }

    /// One user less. What was written through mappings goes to the host; after the last one of the file nothing is kept.
    pub fn close(&self, open: &Arc<OpenNode>) {
        if open.is_writable() {
            self.start_write_back();
        }
        let mut openings = self.host.openings.lock();
        let Some(position) = openings.iter().position(|opening| Arc::ptr_eq(&opening.open, open)) else { return };
        let unused = openings.get_mut(position).is_some_and(|opening| {
            opening.users -= 1;
            opening.users == 0
        });
        let left = if self.host.is_far(open) { self.mapped() } else { None };
        if let Some(left) = left.filter(|left| unused && !left.is_written_back()) {
            drop(openings);
            self.host.leave(left);
            return;
        }
        let closed = if unused { Some(openings.swap_remove(position)) } else { None };
        // Under the lock, so that nobody opens it and maps pages meanwhile.
        let unmapped = if openings.is_empty() { self.cache.lock().take() } else { None };
        drop(openings);
        if let Some(Mapped { cache, .. }) = unmapped {
            // What could not be written was told to those who asked.
            cache.abandon();
        }
        drop(closed);
    }

    /// The pages of the file, for somebody who maps it.
    pub fn page_cache(&self) -> Arc<PageCache> {
        if let Some(cache) = self.mapped() {
            return cache;
        }
        let status = self.host.status();
        let size = status.map_or_else(|| self.length(), |status| status.size);
        let version = status.as_ref().map(Version::from);
        let new = PageCache::backed(self.pages.clone(), self.host.clone(), &self.flusher, size);
        self.cache.lock().get_or_insert(Mapped { cache: new, version }).cache.clone()
    }

    /// The pages of the file, if somebody mapped it.
    pub fn mapped(&self) -> Option<Arc<PageCache>> {
        self.cache.lock().as_ref().map(|mapped| mapped.cache.clone())
    }

    /// If the file changed since it was last opened, clean pages are read again when they are next used.
    pub fn refresh(&self, status: Option<Status>) {
        if self.mapped().is_none() {
            return;
        }
        let Some(status) = status else { return };
        self.notice_size(status.size);
        let changed = {
            let mut cache = self.cache.lock();
            let Some(mapped) = &mut *cache else { return };
            let version = mapped.version.replace(Version::from(&status));
            if version == mapped.version { None } else { Some(mapped.cache.clone()) }
        };
        if let Some(cache) = changed {
            cache.grow(status.size);
            cache.forget_clean();
        }
    }

    /// Reads from `offset` on.
    pub fn read_at(&self, open: &OpenNode, offset: u64, to: &mut Destination<'_>) -> Result<usize, NotReady> {
        let before = to.progress();
        let mut buffer = try_zeroed(to.remaining().min(CHUNK))?;
        let cache = self.mapped();
        while to.remaining() > 0 {
            let at = offset + (to.progress() - before) as u64;
            let length = to.remaining().min(CHUNK);
            let (unwritten, until) = match &cache {
                Some(cache) => cache.unwritten_in(at..at.saturating_add(length as u64)),
                None => (None, length),
            };
            if let Some(frame) = unwritten {
                let rest = self.host.length_by(open).map_err(errno)?.saturating_sub(at);
                let length = usize::try_from(rest).unwrap_or(usize::MAX).min(until);
                if length == 0 || to.write_frame(&frame, (at % PAGE) as usize, length)? == 0 {
                    break;
                }
                continue;
            }
            let wanted = buffer.get_mut(..length.min(until)).unwrap_or_default();
            let (asked, ReadNow { bytes, waits }) = (wanted.len(), open.read_now(at, wanted).map_err(errno)?);
            to.write(wanted.get(..bytes).unwrap_or_default())?;
            if waits {
                return Err(NotReady::Elsewhere);
            }
            if bytes < asked {
                break;
            }
        }
        Ok(to.progress() - before)
    }

    /// What the host had not at hand, from `offset` on: at most `length` bytes, fewer only at the end of the file.
    pub async fn fetch(&self, open: &OpenNode, offset: u64, length: usize) -> Result<Vec<u8>> {
        let answer = self.host.calls.make(open, &Request::Read { offset, length }, None).await?;
        let Answer::Bytes(mut bytes) = answer else { return unexpected() };
        self.take_unwritten(offset, &mut bytes);
        Ok(bytes)
    }

    /// Puts what is not with the host yet into what was read there.
    fn take_unwritten(&self, offset: u64, bytes: &mut [u8]) {
        let Some(cache) = self.mapped() else { return };
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let (unwritten, length) = cache.unwritten_in(at..at + rest.len() as u64);
            if let Some(frame) = unwritten {
                frame.read((at % PAGE) as usize, rest.get_mut(..length).unwrap_or_default());
            }
            done += length.max(1);
        }
    }

    /// fsync(2), which the host may take long for.
    pub async fn synchronise(&self, open: &OpenNode, data_only: bool) -> Result<()> {
        self.host.calls.make(open, &Request::Synchronise { data_only }, None).await.map(drop)
    }

    /// Writes all of `from`, if nobody else writes now and the file isn't far. Returns how many bytes, and the position behind them.
    pub fn write_at(&self, open: &OpenNode, place: Place, from: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        if from.remaining() == 0 {
            return Ok((0, if let Place::At(offset) = place { offset } else { 0 }));
        }
        let changing = if self.host.is_far(open) { None } else { self.host.changing.try_acquire_owned() };
        let _changing = changing.map(|permit| self.host.hold(permit)).ok_or(NotReady::Elsewhere)?;
        let before = from.progress();
        let mut buffer = try_zeroed(from.remaining().min(CHUNK))?;
        let mut end = if let Place::At(offset) = place { offset } else { 0 };
        while from.remaining() > 0 {
            let wanted = buffer.get_mut(..from.remaining().min(CHUNK)).unwrap_or_default();
            let (ready, fault) = match from.peek(wanted) {
                Ok(ready) => (ready, None),
                Err(fault) => (fault.copied, Some(fault)),
            };
            let bytes = wanted.get(..ready).unwrap_or_default();
            if !bytes.is_empty() {
                let written = match place {
                    Place::At(_) => open.write(end, bytes).map(|written| (written, end + written as u64)),
                    Place::End => open.append(bytes),
                };
                let (written, behind) = written.map_err(errno)?;
                end = behind;
                self.note_written(end, bytes.get(..written).unwrap_or_default());
                from.advance(written);
                match written {
                    0 => return Err(Errno::EIO.into()),
                    _ if written < ready => continue,
                    _ => {}
                }
            }
            if let Some(fault) = fault {
                return Err(fault.into());
            }
        }
        Ok((from.progress() - before, end))
    }

    /// Writes these bytes once nobody else writes; those of a far file are a helper's to write. Dropped before it does, nothing is written.
    pub async fn write_elsewhere(
        self: &Arc<HostContents>,
        open: &Arc<OpenNode>,
        place: Place,
        bytes: Vec<u8>,
    ) -> Result<(usize, u64)> {
        let changing = self.host.hold(self.host.changing.acquire_owned().await);
        let offset = if let Place::At(offset) = place { Some(offset) } else { None };
        let request = Arc::new(Request::Write { offset, bytes });
        let (contents, written) = (self.clone(), request.clone());
        let then: Then = Box::new(move |answer| {
            if let (Ok(Answer::Written { bytes: length, end }), Request::Write { bytes, .. }) = (answer, &*written) {
                contents.note_written(*end, bytes.get(..*length).unwrap_or_default());
            }
            drop(changing);
        });
        let answer = if self.host.is_far(open) {
            self.host.calls.make(open, &request, Some(then)).await?
        } else {
            let answer = open.answer(&request);
            then(&answer);
            answer.map_err(errno)?
        };
        match answer {
            Answer::Written { bytes: 0, .. } => Err(Errno::EIO),
            Answer::Written { bytes, end } => Ok((bytes, end)),
            _ => unexpected(),
        }
    }

    /// The host has these bytes now, which end at `end`.
    fn note_written(&self, end: u64, bytes: &[u8]) {
        self.host.length.fetch_max(end, Ordering::Relaxed);
        if let Some(cache) = self.mapped() {
            cache.note_written(end.saturating_sub(bytes.len() as u64), bytes);
        }
    }

    /// How long a far file was seen to be.
    pub fn length(&self) -> u64 {
        self.host.length.load(Ordering::Relaxed)
    }

    /// A far file was seen to be this long.
    pub fn note_length(&self, length: u64) {
        self.host.length.store(length, Ordering::Relaxed);
    }

    /// ftruncate(2): by a descriptor that is open for writing, or else as `change` does it by name.
    ///
    /// # Errors
    /// `ERESTART` while somebody writes: see [`HostContents::set_size_later`].
    pub fn set_size(&self, size: u64, change: impl FnOnce() -> Result<(), HostError>) -> Result<()> {
        let permit = self.host.changing.try_acquire_owned().ok_or(Errno::ERESTART)?;
        let changing = self.host.hold(permit);
        let done = match self.host.opening(OpenNode::is_writable) {
            Some(open) => open.change(&Change { size: Some(size), ..Change::default() }),
            None => change(),
        };
        done.map_err(errno)?;
        let visited = self.take_size(size);
        drop(changing);
        drop(visited);
        Ok(())
    }

    /// The same once nobody writes, by a helper.
    pub async fn set_size_later(self: &Arc<HostContents>, node: &Node, size: u64) -> Result<()> {
        let changing = self.host.hold(self.host.changing.acquire_owned().await);
        let contents = self.clone();
        let then: Then = Box::new(move |answer| {
            let visited = answer.is_ok().then(|| contents.take_size(size));
            drop(changing);
            drop(visited);
        });
        let changed = match self.host.opening(OpenNode::is_writable) {
            Some(open) => self.host.calls.make(&open, &Request::Resize(size), Some(then)).await,
            None => {
                let change = Change { size: Some(size), ..Change::default() };
                self.host.calls.make_by_name(node, NodeRequest::Change(change), Some(then)).await
            }
        };
        changed.map(drop)
    }

    /// The file has this length now. What comes back is dropped when no lock is held.
    fn take_size(&self, size: u64) -> Option<Visited> {
        self.note_length(size);
        self.mapped().and_then(|cache| cache.note_size(size))
    }

    /// The file was seen to be this long. If that is shorter than what is kept, somebody else has cut it: unless somebody in the guest is
    /// changing it, and then the next look tells.
    pub fn notice_size(&self, size: u64) {
        let Some(cache) = self.mapped().filter(|cache| size < cache.size()) else { return };
        let Some(permit) = self.host.changing.try_acquire_owned() else { return };
        let changing = self.host.hold(permit);
        // Looked at again, now that nobody in the guest can make it longer.
        let now = self.host.length_now().filter(|now| *now < cache.size());
        let visited = now.and_then(|now| cache.note_size(now));
        drop(changing);
        drop(visited);
    }

    /// fallocate(2). False while somebody writes.
    pub fn allocate(&self, open: &OpenNode, mode: AllocateMode, offset: u64, length: u64) -> Result<bool> {
        let Some(permit) = self.host.changing.try_acquire_owned() else { return Ok(false) };
        let _changing = self.host.hold(permit);
        open.allocate(mode.bits(), offset, length).map_err(errno)?;
        self.note_allocated(mode, offset..offset.saturating_add(length));
        Ok(true)
    }

    /// The same once nobody writes, by a helper.
    pub async fn allocate_later(
        self: &Arc<HostContents>,
        open: &OpenNode,
        mode: AllocateMode,
        range: Range<u64>,
    ) -> Result<()> {
        let changing = self.host.hold(self.host.changing.acquire_owned().await);
        let (offset, length) = (range.start, range.end - range.start);
        let contents = self.clone();
        let then: Then = Box::new(move |answer| {
            if answer.is_ok() {
                contents.note_allocated(mode, range);
            }
            drop(changing);
        });
        let request = Request::Allocate { mode: mode.bits(), offset, length };
        self.host.calls.make(open, &request, Some(then)).await.map(drop)
    }

    /// The host has room for this part now.
    fn note_allocated(&self, mode: AllocateMode, range: Range<u64>) {
        let grows = !mode.contains(AllocateMode::KEEP_SIZE);
        if grows {
            self.host.length.fetch_max(range.end, Ordering::Relaxed);
        }
        let Some(cache) = self.mapped() else { return };
        if grows {
            cache.grow(range.end);
        }
        if mode.intersects(AllocateMode::PUNCH_HOLE | AllocateMode::ZERO_RANGE) {
            cache.note_zeroed(range);
        }
    }

    /// What was written through mappings is on its way to the host.
    pub fn start_write_back(&self) {
        if let Some(cache) = self.mapped() {
            cache.start_write_back();
        }
    }
}

impl HostSide {
    fn open(&self, read: bool, write: bool, make: impl FnOnce() -> Result<OpenNode>) -> Result<Arc<OpenNode>> {
        let mut openings = self.openings.lock();
        if let Some(open) = use_one(&mut openings, read, write) {
            return Ok(open);
        }
        let open = Arc::new(make()?);
        openings.try_push(Opening { open: open.clone(), users: 1 })?;
        Ok(open)
    }

    fn open_already(&self, read: bool, write: bool) -> Option<Arc<OpenNode>> {
        use_one(&mut self.openings.lock(), read, write)
    }

    fn opening(&self, good: impl Fn(&OpenNode) -> bool) -> Option<Arc<OpenNode>> {
        self.openings.lock().iter().find(|opening| good(&opening.open)).map(|opening| opening.open.clone())
    }

    /// How the file looks now; none of one that is far.
    fn status(&self) -> Option<Status> {
        self.opening(|_| true).filter(|open| !self.is_far(open))?.status().ok()
    }

    fn is_far(&self, open: &OpenNode) -> bool {
        self.calls.is_far(open.node())
    }

    /// How long the file is; if it is far, how long it was when that was last seen.
    fn length_by(&self, open: &OpenNode) -> Result<u64, HostError> {
        if self.is_far(open) { Ok(self.length.load(Ordering::Relaxed)) } else { Ok(open.status()?.size) }
    }

    fn length_now(&self) -> Option<u64> {
        self.length_by(&*self.opening(|_| true)?).ok()
    }

    fn hold(self: &Arc<HostSide>, permit: OwnedPermit) -> Changing {
        Changing { host: self.clone(), permit: Some(permit) }
    }

    /// Fills the frames, at once if the host has what they hold at hand.
    fn fill(&self, request: ReadRequest) {
        let Some(reader) = self.opening(OpenNode::is_readable) else { return request.complete(Err(PagerError::Io)) };
        match reader.read_frames(request.first() * PAGE, request.frames()) {
            Ok(Some(length)) => {
                if let Some(last) = request.frames().get(length / PAGE_SIZE) {
                    last.zero(length % PAGE_SIZE..PAGE_SIZE);
                }
                request.complete_some(length);
            }
            Ok(None) => self.calls.read_pages(&reader, request),
            Err(_) => request.complete(Err(PagerError::Io)),
        }
    }

    /// Leaves pages to who is changing the file. They come back if there is no memory for that.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn delay(&self, request: WriteRequest) -> Result<(), WriteRequest> {
        let mut delayed = self.delayed.lock();
        if fallible(|| delayed.try_reserve(1)).is_err() {
            return Err(request);
        }
        delayed.push_back(request);
        Ok(())
    }

    /// Writes back what is delayed, until somebody else is changing the file: then he does it.
    fn write_delayed(self: &Arc<HostSide>) {
        while !self.delayed.lock().is_empty() {
            let Some(permit) = self.changing.try_acquire_owned() else { return };
            let Some(request) = self.delayed.lock().pop_front() else { continue };
            match self.opening(OpenNode::is_writable) {
                Some(open) if self.is_far(&open) => self.keep_elsewhere(self.hold(permit), &open, request),
                Some(open) => {
                    let result = self.keep(&open, &request).map_err(pager_error);
                    drop(permit);
                    request.complete(result);
                }
                None => request.complete(Err(PagerError::Io)),
            }
        }
    }

    /// The last user of a descriptor of a far file is gone, but not all is written back.
    fn leave(&self, cache: Arc<PageCache>) {
        let before = self.left.lock().replace(cache);
        drop(before);
        self.let_go();
    }

    /// Closes what was left open to be written back, if that was done.
    fn let_go(&self) {
        let done = self.left.lock().take_if(|left| left.is_written_back());
        if let Some(done) = done {
            let mut openings = self.openings.lock();
            let unused = |openings: &Vec<Opening>| openings.iter().position(|opening| opening.users == 0);
            while let Some(position) = unused(&openings) {
                let closed = openings.swap_remove(position);
                drop(openings);
                drop(closed);
                openings = self.openings.lock();
            }
            // Under the lock, as when all was written back before.
            if openings.is_empty() {
                done.abandon();
            }
        }
    }

    /// Has a helper write the frames, as [`HostSide::keep`].
    fn keep_elsewhere(&self, changing: Changing, open: &OpenNode, request: WriteRequest) {
        let frames = request.frames().get(..request.still_wanted()).unwrap_or_default();
        let Ok(mut bytes) = try_zeroed(frames.len() * PAGE_SIZE) else {
            return request.complete(Err(PagerError::OutOfMemory));
        };
        for (frame, part) in frames.iter().zip(bytes.chunks_mut(PAGE_SIZE)) {
            frame.read(0, part);
        }
        let written = Request::WriteWithin { offset: request.first() * PAGE, bytes };
        let then: Then = Box::new(move |answer| {
            let host = changing.host.clone();
            drop(changing);
            request.complete(answer.as_ref().map(drop).map_err(|error| pager_error(*error)));
            host.let_go();
        });
        self.calls.hand_over(open, &written, then);
    }

    /// Writes the frames, but nothing that was cut off, and nothing beyond the end of the file: only the program's own writes make it longer.
    fn keep(&self, open: &OpenNode, request: &WriteRequest) -> Result<(), HostError> {
        let frames = request.frames().get(..request.still_wanted()).unwrap_or_default();
        let offset = request.first() * PAGE;
        let rest = usize::try_from(open.status()?.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        write_all(open, offset, frames, rest.min(frames.len() * PAGE_SIZE))
    }
}

/// One more user of a descriptor that is good for this.
fn use_one(openings: &mut [Opening], read: bool, write: bool) -> Option<Arc<OpenNode>> {
    let good = |open: &OpenNode| (open.is_readable() || !read) && (open.is_writable() || !write);
    let opening = openings.iter_mut().find(|opening| good(&opening.open))?;
    opening.users += 1;
    Some(opening.open.clone())
}

fn pager_error(error: HostError) -> PagerError {
    match errno(error) {
        Errno::ENOSPC | Errno::EDQUOT => PagerError::NoSpace,
        _ => PagerError::Io,
    }
}

impl PageBacking for HostSide {
    fn read(&self, request: ReadRequest) {
        self.fill(request);
    }

    fn write(&self, request: WriteRequest) {
        let Some(host) = self.this.upgrade() else { return request.complete(Err(PagerError::Io)) };
        match self.delay(request) {
            Ok(()) => host.write_delayed(),
            Err(request) => request.complete(Err(PagerError::OutOfMemory)),
        }
    }

    fn length(&self) -> Option<u64> {
        self.length_now()
    }

    fn cut(&self, request: CutRequest) {
        let change = Change { size: Some(request.size()), ..Change::default() };
        let cut = self.opening(OpenNode::is_writable).is_some_and(|open| open.change(&change).is_ok());
        request.complete(if cut { Ok(()) } else { Err(PagerError::Io) });
    }
}

/// Writes the first `length` bytes of frames to the host.
fn write_all(open: &OpenNode, offset: u64, frames: &[Frame], length: usize) -> Result<(), HostError> {
    let mut done = 0;
    while done < length {
        // A write that stopped within a page goes on at the beginning of that page.
        let page = done / PAGE_SIZE;
        let start = page * PAGE_SIZE;
        let written =
            open.write_frames(offset + start as u64, frames.get(page..).unwrap_or_default(), length - start)?;
        if start + written <= done {
            return Err(HostError(Errno::EIO.number()));
        }
        done = start + written;
    }
    Ok(())
}
