//! The contents of a regular file of the host: its descriptors, and the pages that are mapped.
//!
//! read(2) and write(2) go to the host, which has a cache of its own: one call, and nothing is kept twice. Only who maps the file gets pages
//! of it, in a [`PageCache`] that is made then, with the host's file as its backing. Reading takes what is not written back yet from there
//! and the rest from the host; writing goes to the host and into the pages that are here (`memory`'s page `direct`). So all in the guest
//! see one file. When nobody has the file open or mapped any more, the pages go.
//!
//! **Locks.** `changing` is held over each write, change of length and writing back, so that these don't mix; under it come the locks
//! of address spaces (unmapping), and under those, taken by page faults as well, the page cache's own. `openings` comes before `cache`.
//! A page that is on its way to the host shows its bytes until the host has them: so who writes meanwhile loses nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::{TryVec, try_zeroed};
use abi::{Errno, Result};
use machine::folder::{Change, HostError, OpenNode, ReadNow, Request, Status};
use memory::{
    CutRequest, Destination, Flusher, Frame, PAGE_SIZE, PageBacking, PageBudget, PageCache, Pager, PagerError,
    ReadRequest, Source, WriteRequest,
};
use sync::SpinLock;
use vfs::{AllocateMode, NotReady};

use super::calls::HostCalls;
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
    openings: SpinLock<Vec<Opening>>,
    changing: SpinLock<()>,
    calls: Arc<HostCalls>,
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
        let (openings, changing) = (SpinLock::default(), SpinLock::default());
        HostContents {
            host: Arc::new(HostSide { openings, changing, calls: calls.clone() }),
            cache: SpinLock::default(),
            pages: pages.clone(),
            flusher: flusher.clone(),
        }
    }

    /// One more user of a descriptor that is good for this, opened unless there is one. From here on mapped pages are
    /// as fresh as the file is now.
    pub fn open(&self, read: bool, write: bool, make: impl FnOnce() -> Result<OpenNode>) -> Result<Arc<OpenNode>> {
        let open = self.host.open(read, write, make)?;
        self.refresh(&open);
        Ok(open)
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
        let (size, version) = (status.map_or(0, |status| status.size), status.as_ref().map(Version::from));
        let new = PageCache::backed(self.pages.clone(), self.host.clone(), &self.flusher, size);
        self.cache.lock().get_or_insert(Mapped { cache: new, version }).cache.clone()
    }

    /// The pages of the file, if somebody mapped it.
    pub fn mapped(&self) -> Option<Arc<PageCache>> {
        self.cache.lock().as_ref().map(|mapped| mapped.cache.clone())
    }

    /// If the file changed since it was last opened, clean pages are read again when they are next used.
    fn refresh(&self, open: &OpenNode) {
        if self.mapped().is_none() {
            return;
        }
        let Ok(status) = open.status() else { return };
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
                let rest = open.status().map_err(errno)?.size.saturating_sub(at);
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
        let mut bytes = self.host.calls.make(open, Request::Read { offset, length }).await?;
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
        self.host.calls.make(open, Request::Synchronise { data_only }).await.map(drop)
    }

    /// Writes all of `from`. Returns how many bytes, and the position behind them.
    pub fn write_at(&self, open: &OpenNode, place: Place, from: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        let _changing = self.host.changing.lock();
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
                if let Some(cache) = self.mapped() {
                    cache.note_written(end.saturating_sub(written as u64), bytes.get(..written).unwrap_or_default());
                }
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

    /// ftruncate(2): by a descriptor that is open for writing, or else as `change` does it by name.
    pub fn set_size(&self, size: u64, change: impl FnOnce() -> Result<(), HostError>) -> Result<()> {
        let changing = self.host.changing.lock();
        let done = match self.host.opening(OpenNode::is_writable) {
            Some(open) => open.change(&Change { size: Some(size), ..Change::default() }),
            None => change(),
        };
        done.map_err(errno)?;
        let visited = self.mapped().and_then(|cache| cache.note_size(size));
        drop(changing);
        drop(visited);
        Ok(())
    }

    /// The file was seen to be this long. If that is shorter than what is kept, somebody else has cut it.
    pub fn notice_size(&self, size: u64) {
        let Some(cache) = self.mapped().filter(|cache| size < cache.size()) else { return };
        let changing = self.host.changing.lock();
        // Looked at again, now that nobody in the guest can make it longer.
        let now = self.host.status().map(|status| status.size).filter(|now| *now < cache.size());
        let visited = now.and_then(|now| cache.note_size(now));
        drop(changing);
        drop(visited);
    }

    /// fallocate(2).
    pub fn allocate(&self, open: &OpenNode, mode: AllocateMode, offset: u64, length: u64) -> Result<()> {
        let _changing = self.host.changing.lock();
        open.allocate(mode.bits(), offset, length).map_err(errno)?;
        let Some(cache) = self.mapped() else { return Ok(()) };
        let end = offset.saturating_add(length);
        if !mode.contains(AllocateMode::KEEP_SIZE) {
            cache.grow(end);
        }
        if mode.intersects(AllocateMode::PUNCH_HOLE | AllocateMode::ZERO_RANGE) {
            cache.note_zeroed(offset..end);
        }
        Ok(())
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
        let good = |open: &OpenNode| (open.is_readable() || !read) && (open.is_writable() || !write);
        let mut openings = self.openings.lock();
        if let Some(opening) = openings.iter_mut().find(|opening| good(&opening.open)) {
            opening.users += 1;
            return Ok(opening.open.clone());
        }
        let open = Arc::new(make()?);
        openings.try_push(Opening { open: open.clone(), users: 1 })?;
        Ok(open)
    }

    fn opening(&self, good: impl Fn(&OpenNode) -> bool) -> Option<Arc<OpenNode>> {
        self.openings.lock().iter().find(|opening| good(&opening.open)).map(|opening| opening.open.clone())
    }

    fn status(&self) -> Option<Status> {
        self.opening(|_| true)?.status().ok()
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

    /// Writes the frames, but nothing that was cut off, and nothing beyond the end of the file: only the program's own writes make it longer.
    fn keep(&self, request: &WriteRequest) -> Result<(), HostError> {
        let open = self.opening(OpenNode::is_writable).ok_or(HostError(Errno::EIO.number()))?;
        let _changing = self.changing.lock();
        let frames = request.frames().get(..request.still_wanted()).unwrap_or_default();
        let offset = request.first() * PAGE;
        let rest = usize::try_from(open.status()?.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        write_all(&open, offset, frames, rest.min(frames.len() * PAGE_SIZE))
    }
}

impl PageBacking for HostSide {
    fn read(&self, request: ReadRequest) {
        self.fill(request);
    }

    fn write(&self, request: WriteRequest) {
        let result = self.keep(&request).map_err(|error| match errno(error) {
            Errno::ENOSPC | Errno::EDQUOT => PagerError::NoSpace,
            _ => PagerError::Io,
        });
        request.complete(result);
    }

    fn length(&self) -> Option<u64> {
        Some(self.status()?.size)
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
