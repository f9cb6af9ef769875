//! Pages of a host file, for those who map it.
//!
//! read(2) and write(2) go to the host. A page is kept here only from the moment somebody maps it, in a frame of its
//! own: *dirty* from the first write through a shared mapping until it is written back. Reading takes dirty pages from
//! here and the rest from the host; writing goes to the host and into the pages that are here. So all in the guest see
//! one file. When nobody has the file open or mapped any more, the pages go; when memory is out, those that are clean
//! go.
//!
//! **Writing back.** A page is first marked clean, then write-protected in all address spaces, then written: a
//! program that writes to it meanwhile faults, and the fault makes it dirty again.
//!
//! **Locks.** `writing` is held over each write, change of length and writing back, so that these don't mix; under it
//! come the locks of address spaces (protecting, unmapping), and under those, taken by page faults as well, `cached`.
//! `openings` is taken before `cached`.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, ready};
use core::ops::Range;
use core::pin::Pin;

use abi::fallible::{TryVec, try_zeroed};
use abi::{Errno, Result};
use machine::folder::{Change, HostError, OpenNode, Status};
use machine::memory::fallible;
use memory::{Destination, Frame, Mappings, PAGE_SIZE, PageBudget, Pager, PagerError, Source, Visited};
use sync::SpinLock;
use vfs::{AllocateMode, NotReady};

use super::errno;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages moved by one call of the host at most, a power of two.
const RUN: usize = 64;

/// Pages read around one that is missing, a power of two: as many as a fault maps.
const AROUND: u64 = if machine::memory::FAULT_AROUND < RUN { machine::memory::FAULT_AROUND } else { RUN } as u64;

/// Bytes that pass through the kernel at once.
const CHUNK: usize = 64 << 10;

/// The pages of one file, and who has it open.
pub(super) struct FilePages {
    writing: SpinLock<()>,
    cached: SpinLock<Cached>,
    openings: SpinLock<Vec<Opening>>,
    budget: Arc<PageBudget>,
    mappings: Mappings,
}

#[derive(Default)]
struct Cached {
    pages: BTreeMap<u64, Frame>,
    dirty: BTreeSet<u64>,
    /// Nothing but zeros is kept beyond this length of the file.
    end: u64,
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

/// A descriptor of the host, and how many open files use it.
struct Opening {
    open: Arc<OpenNode>,
    users: usize,
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

impl Cached {
    /// The file has at least this length now. What programs wrote behind its old end through mappings was nothing.
    fn grow(&mut self, end: u64) {
        if end <= self.end {
            return;
        }
        if let Some(last) = self.pages.get(&(self.end / PAGE)) {
            last.zero((self.end % PAGE) as usize..PAGE_SIZE);
        }
        self.end = end;
    }
}

impl FilePages {
    pub fn new(budget: &Arc<PageBudget>) -> FilePages {
        FilePages {
            writing: SpinLock::new(()),
            cached: SpinLock::default(),
            openings: SpinLock::default(),
            budget: budget.clone(),
            mappings: Mappings::new(),
        }
    }

    /// One more user of a descriptor that is good for this, opened unless there is one. From here on mapped pages are
    /// as fresh as the file is now.
    pub fn open(&self, read: bool, write: bool, make: impl FnOnce() -> Result<OpenNode>) -> Result<Arc<OpenNode>> {
        let good = |open: &OpenNode| (open.is_readable() || !read) && (open.is_writable() || !write);
        let mut openings = self.openings.lock();
        let open = match openings.iter_mut().find(|opening| good(&opening.open)) {
            Some(opening) => {
                opening.users += 1;
                opening.open.clone()
            }
            None => {
                let open = Arc::new(make()?);
                openings.try_push(Opening { open: open.clone(), users: 1 })?;
                open
            }
        };
        drop(openings);
        self.refresh(&open);
        Ok(open)
    }

    /// One user less. After the last one of the file nothing is kept.
    pub fn close(&self, open: &Arc<OpenNode>) {
        let mut openings = self.openings.lock();
        let Some(position) = openings.iter().position(|opening| Arc::ptr_eq(&opening.open, open)) else { return };
        let unused = openings.get_mut(position).is_some_and(|opening| {
            opening.users -= 1;
            opening.users == 0
        });
        let closed = if unused { Some(openings.swap_remove(position)) } else { None };
        // Under the lock, so that nobody opens it and maps pages meanwhile.
        let kept = if openings.is_empty() { core::mem::take(&mut *self.cached.lock()) } else { Cached::default() };
        drop(openings);
        self.budget.give(kept.pages.len() as u64);
        drop((kept, closed));
    }

    fn opening(&self, good: impl Fn(&OpenNode) -> bool) -> Option<Arc<OpenNode>> {
        self.openings.lock().iter().find(|opening| good(&opening.open)).map(|opening| opening.open.clone())
    }

    /// If the file changed since it was last opened, clean pages are read again: in place, since programs may have them
    /// mapped.
    fn refresh(&self, open: &OpenNode) {
        let Ok(status) = open.status() else { return };
        self.notice_size(status.size);
        let reader = self.opening(OpenNode::is_readable);
        let mut cached = self.cached.lock();
        let version = Some(Version::from(&status));
        if cached.version == version {
            return;
        }
        cached.version = version;
        let Some(reader) = reader else { return };
        let mut end = cached.end;
        for (index, frame) in cached.pages.iter().filter(|(index, _)| !cached.dirty.contains(index)) {
            if let Ok(length) = reader.read_frames(index * PAGE, core::slice::from_ref(frame)) {
                frame.zero(length..PAGE_SIZE);
                end = end.max(index * PAGE + length as u64);
            }
        }
        cached.end = end;
    }

    /// Reads from `offset` on.
    pub fn read_at(&self, open: &OpenNode, offset: u64, to: &mut Destination<'_>) -> Result<usize, NotReady> {
        let before = to.progress();
        let mut buffer = try_zeroed(to.remaining().min(CHUNK))?;
        while to.remaining() > 0 {
            let at = offset + (to.progress() - before) as u64;
            let (dirty, until) = self.dirty_at(at);
            if let Some(frame) = dirty {
                let rest = open.status().map_err(errno)?.size.saturating_sub(at);
                let length = usize::try_from(rest).unwrap_or(usize::MAX).min(until);
                if length == 0 || to.write_frame(&frame, (at % PAGE) as usize, length)? == 0 {
                    break;
                }
                continue;
            }
            let wanted = buffer.get_mut(..to.remaining().min(until).min(CHUNK)).unwrap_or_default();
            let (asked, found) = (wanted.len(), open.read(at, wanted).map_err(errno)?);
            to.write(wanted.get(..found).unwrap_or_default())?;
            if found < asked {
                break;
            }
        }
        Ok(to.progress() - before)
    }

    /// The dirty page that byte `at` lies in, if it does, and how many bytes follow for which that is so.
    fn dirty_at(&self, at: u64) -> (Option<Frame>, usize) {
        let cached = self.cached.lock();
        match cached.dirty.range(at / PAGE..).next() {
            None => (None, usize::MAX),
            Some(&index) if index == at / PAGE => (cached.pages.get(&index).cloned(), PAGE_SIZE - (at % PAGE) as usize),
            Some(&index) => (None, usize::try_from(index * PAGE - at).unwrap_or(usize::MAX)),
        }
    }

    /// Writes all of `from`. Returns how many bytes, and the position behind them.
    pub fn write_at(&self, open: &OpenNode, place: Place, from: &mut Source<'_>) -> Result<(usize, u64), NotReady> {
        let _writing = self.writing.lock();
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
                self.update(end.saturating_sub(written as u64), bytes.get(..written).unwrap_or_default());
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

    /// Bytes at `offset` have become these: the pages that are here follow.
    fn update(&self, offset: u64, bytes: &[u8]) {
        let mut cached = self.cached.lock();
        let end = offset + bytes.len() as u64;
        cached.grow(end);
        for (index, frame) in cached.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let start = index * PAGE;
            let skipped = start.saturating_sub(offset) as usize;
            frame.write(offset.saturating_sub(start) as usize, bytes.get(skipped..).unwrap_or_default());
        }
    }

    /// ftruncate(2): by a descriptor that is open for writing, or else as `change` does it by name.
    pub fn set_size(&self, size: u64, change: impl FnOnce() -> Result<(), HostError>) -> Result<()> {
        let writing = self.writing.lock();
        let done = match self.opening(OpenNode::is_writable) {
            Some(open) => open.change(&Change { size: Some(size), ..Change::default() }),
            None => change(),
        };
        done.map_err(errno)?;
        let visited = self.cut(size);
        drop(writing);
        drop(visited);
        Ok(())
    }

    /// The file was seen to be this long. If that is shorter than what is kept, somebody else has cut it.
    pub fn notice_size(&self, size: u64) {
        if size >= self.cached.lock().end {
            return;
        }
        let writing = self.writing.lock();
        // Looked at again, now that nobody in the guest can make it longer.
        let now = self.opening(|_| true).and_then(|open| open.status().ok());
        let visited = now.and_then(|status| self.cut(status.size));
        drop(writing);
        drop(visited);
    }

    /// The file ends here: what is kept beyond goes, from mappings too. The caller holds the write lock.
    fn cut(&self, size: u64) -> Option<Visited> {
        let first_gone = size.div_ceil(PAGE);
        let mut cached = self.cached.lock();
        cached.grow(size);
        cached.end = size.min(cached.end);
        if !size.is_multiple_of(PAGE)
            && let Some(last) = cached.pages.get(&(size / PAGE))
        {
            last.zero((size % PAGE) as usize..PAGE_SIZE);
        }
        let gone = cached.pages.split_off(&first_gone);
        cached.dirty.split_off(&first_gone);
        drop(cached);
        if gone.is_empty() {
            return None;
        }
        self.budget.give(gone.len() as u64);
        Some(self.mappings.unmap(self, first_gone..u64::MAX))
    }

    /// fallocate(2).
    pub fn allocate(&self, open: &OpenNode, mode: AllocateMode, offset: u64, length: u64) -> Result<()> {
        let _writing = self.writing.lock();
        open.allocate(mode.bits(), offset, length).map_err(errno)?;
        let end = offset.saturating_add(length);
        let mut cached = self.cached.lock();
        if !mode.contains(AllocateMode::KEEP_SIZE) {
            cached.grow(end);
        }
        if mode.intersects(AllocateMode::PUNCH_HOLE | AllocateMode::ZERO_RANGE) {
            for (index, frame) in cached.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
                let within = |at: u64| at.saturating_sub(index * PAGE).min(PAGE) as usize;
                frame.zero(within(offset)..within(end));
            }
        }
        Ok(())
    }

    /// Writes all dirty pages to the host.
    pub fn write_back_all(&self) -> Result<()> {
        match self.opening(OpenNode::is_writable) {
            Some(open) => self.write_back(&open, 0..u64::MAX),
            None => Ok(()),
        }
    }

    /// Writes the dirty pages of `range` to the host. What fails stays dirty.
    pub fn write_back(&self, open: &OpenNode, range: Range<u64>) -> Result<()> {
        if self.cached.lock().dirty.is_empty() {
            return Ok(());
        }
        let mut at = range.start;
        while let Some(next) = self.write_back_run(open, at..range.end)? {
            at = next;
        }
        Ok(())
    }

    /// Writes the first run of dirty pages in `range`. Returns where to go on, `None` if there was none. What this draws on the
    /// kernel's reserve is given back with each run: there may be very many when memory is out.
    fn write_back_run(&self, open: &OpenNode, range: Range<u64>) -> Result<Option<u64>> {
        let writing = self.writing.lock();
        let Some((first, frames)) = self.take_dirty(range) else { return Ok(None) };
        let end = first + frames.len() as u64;
        let visited = self.mappings.write_protect(self, first..end);
        let written = write_all(open, first * PAGE, &frames).map_err(errno);
        if written.is_err() {
            // bounded: what was dirty before
            self.cached.lock().dirty.extend(first..end);
        }
        drop(writing);
        drop(visited);
        written.map(|()| Some(end))
    }

    /// The first run of dirty pages in `range`, now clean.
    #[expect(clippy::disallowed_methods, reason = "as many as are asked back or written at once")]
    fn take_dirty(&self, range: Range<u64>) -> Option<(u64, Vec<Frame>)> {
        let mut cached = self.cached.lock();
        let first = *cached.dirty.range(range.clone()).next()?;
        let mut frames = Vec::new();
        for index in (first..range.end).take(RUN) {
            let true = cached.dirty.remove(&index) else { break };
            let Some(frame) = cached.pages.get(&index) else { break };
            frames.push(frame.clone());
        }
        Some((first, frames))
    }

    /// Forgets up to so many pages, mapped or not, and tells how many: memory is out. Where all are dirty, they are
    /// written back first.
    pub fn give_back(&self, wanted: u64) -> u64 {
        match self.give_back_clean(wanted) {
            0 if self.write_back_all().is_ok() => self.give_back_clean(wanted),
            given => given,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "as many as are asked back or written at once")]
    fn give_back_clean(&self, wanted: u64) -> u64 {
        let writing = self.writing.lock();
        let mut cached = self.cached.lock();
        let Cached { pages, dirty, .. } = &mut *cached;
        let clean = pages.keys().filter(|index| !dirty.contains(index)).take(wanted as usize);
        let clean: Vec<u64> = clean.copied().collect();
        let gone: BTreeMap<u64, Frame> =
            clean.into_iter().filter_map(|index| Some((index, pages.remove(&index)?))).collect();
        drop(cached);
        let visited = self.mappings.evict(self, &gone);
        drop(writing);
        drop(visited);
        self.budget.give(gone.len() as u64);
        gone.len() as u64
    }

    /// Reads page `index` from the host, and its neighbours that are not here yet.
    fn fetch(&self, cached: &mut Cached, reader: &OpenNode, index: u64) -> Result<(), PagerError> {
        let absent = |index: &u64| !cached.pages.contains_key(index);
        let window = index & !(AROUND - 1)..(index | (AROUND - 1)) + 1;
        let first = (window.start..index).rev().take_while(absent).last().unwrap_or(index);
        let end = (index + 1..window.end).take_while(absent).last().unwrap_or(index) + 1;
        let (first, frames) = match self.frames(end - first) {
            Ok(frames) => (first, frames),
            Err(_) => (index, self.frames(1)?),
        };
        let length = reader.read_frames(first * PAGE, &frames);
        let filled = length.map_or(0, |length| length.div_ceil(PAGE_SIZE));
        self.budget.give(frames.len().saturating_sub(filled) as u64);
        let length = length.map_err(|_| PagerError::Io)?;
        for (position, frame) in frames.into_iter().take(filled).enumerate() {
            frame.zero(length.saturating_sub(position * PAGE_SIZE).min(PAGE_SIZE)..PAGE_SIZE);
            cached.pages.insert(first + position as u64, frame);
        }
        cached.end = cached.end.max(first * PAGE + length as u64);
        Ok(())
    }

    /// Frames for so many pages, paid for.
    #[expect(clippy::disallowed_methods, reason = "as many as are asked back or written at once")]
    fn frames(&self, count: u64) -> Result<Vec<Frame>, PagerError> {
        let mut frames = Vec::new();
        fallible(|| frames.try_reserve_exact(count as usize)).map_err(|_| PagerError::OutOfMemory)?;
        for _ in 0..count {
            let frame = self.budget.take().and_then(|()| match Frame::allocate_dirty() {
                Some(frame) => Ok(frame),
                None => {
                    self.budget.give(1);
                    Err(PagerError::OutOfMemory)
                }
            });
            match frame {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    self.budget.give(frames.len() as u64);
                    return Err(error);
                }
            }
        }
        Ok(frames)
    }
}

/// Writes frames to the host, but nothing beyond the end of the file: only the program's own writes make it longer.
fn write_all(open: &OpenNode, offset: u64, frames: &[Frame]) -> Result<(), HostError> {
    let rest = usize::try_from(open.status()?.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let length = rest.min(frames.len() * PAGE_SIZE);
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

impl Pager for FilePages {
    fn page(&self, index: u64, write: bool) -> Result<Frame, PagerError> {
        let reader = self.opening(OpenNode::is_readable).ok_or(PagerError::Io)?;
        let size = reader.status().map_err(|_| PagerError::Io)?.size;
        if index >= size.div_ceil(PAGE) {
            return Err(PagerError::BeyondEnd);
        }
        let mut cached = self.cached.lock();
        if !cached.pages.contains_key(&index) {
            self.fetch(&mut cached, &reader, index)?;
        }
        // Still missing: the file has become shorter this very moment.
        let frame = cached.pages.get(&index).cloned().ok_or(PagerError::BeyondEnd)?;
        if write {
            cached.dirty.insert(index);
        }
        Ok(frame)
    }

    fn cached(&self, range: Range<u64>, found: &mut dyn FnMut(u64, Frame)) {
        for (index, frame) in self.cached.lock().pages.range(range) {
            found(*index, frame.clone());
        }
    }

    fn size(&self) -> u64 {
        let open = self.opening(|_| true);
        open.and_then(|open| open.status().ok()).map_or(0, |status| status.size)
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }

    fn write_back(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        let written = match self.opening(OpenNode::is_writable) {
            Some(open) => FilePages::write_back(self, &open, range),
            None => Ok(()),
        };
        Box::pin(ready(written.map_err(|error| match error {
            Errno::ENOSPC | Errno::EDQUOT => PagerError::NoSpace,
            _ => PagerError::Io,
        })))
    }
}

impl Drop for FilePages {
    fn drop(&mut self) {
        self.budget.give(self.cached.get_mut().pages.len() as u64);
    }
}
