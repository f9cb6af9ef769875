//! Directories of the host, open.
//!
//! The host's own cookies say nothing to the guest: entries are numbered in the order they come, from 2 on. Reading on
//! where reading stopped, the only way most programs know, goes on in the host's order, whatever is added or
//! removed meanwhile. Who seeks elsewhere starts again and skips. Of a far directory helpers fetch entries, and until they have, there are none.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use machine::folder::{Answer, FolderEntry, OpenNode, Request};
use memory::Destination;
use sync::SpinLock;
use vfs::{DirectoryEntry, DirectorySink, File, FileKind, FileTraits, Inode, NotReady, Pending};

use super::calls::unexpected;
use super::errno;
use super::inode::HostInode;

/// `.` and `..` are written by vfs at 0 and 1.
const FIRST_COOKIE: u64 = 2;

/// An open directory.
pub(super) struct HostDirectory {
    inode: Arc<HostInode>,
    open: Arc<OpenNode>,
    stream: Arc<SpinLock<Stream>>,
}

/// How far it was read.
#[derive(Default)]
struct Stream {
    /// Fetched and not handed over yet, the next one last.
    entries: Vec<FolderEntry>,
    /// The number of the next entry.
    next: u64,
    /// Of a far directory: they were fetched for who reads from there on; and at the end there are none.
    fetched: Option<u64>,
}

impl Stream {
    /// Leaves entries out up to `position`. False if that lies behind them.
    fn skip_to(&mut self, position: u64) -> bool {
        while self.next < position && self.entries.pop().is_some() {
            self.next += 1;
        }
        self.next == position
    }
}

impl HostDirectory {
    pub fn new(inode: Arc<HostInode>, open: OpenNode) -> HostDirectory {
        HostDirectory { inode, open: Arc::new(open), stream: Arc::default() }
    }

    fn fetch(&self, stream: &mut Stream, from_the_beginning: bool) -> Result<()> {
        stream.entries = self.open.entries(from_the_beginning).map_err(errno)?;
        stream.entries.reverse();
        Ok(())
    }

    /// Makes entry `position` the next one.
    fn seek(&self, stream: &mut Stream, position: u64) -> Result<()> {
        if position == stream.next && position != FIRST_COOKIE {
            return Ok(());
        }
        self.fetch(stream, true)?;
        stream.next = FIRST_COOKIE;
        while !stream.skip_to(position) {
            self.fetch(stream, false)?;
            if stream.entries.is_empty() {
                break;
            }
        }
        // Beyond the end nothing follows, wherever that is.
        stream.next = position;
        Ok(())
    }
}

impl File for HostDirectory {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE
    }

    fn read(&self, _: u64, _: &mut Destination<'_>) -> Result<usize, NotReady> {
        Err(abi::Errno::EISDIR.into())
    }

    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<(), NotReady> {
        let mut stream = self.stream.lock();
        let far = self.inode.is_far();
        match stream.fetched.take() {
            _ if !far => self.seek(&mut stream, *position)?,
            Some(fetched) if fetched == *position => {}
            _ => return Err(NotReady::Elsewhere),
        }
        loop {
            let ended = stream.entries.is_empty();
            while let Some(entry) = stream.entries.last() {
                let kind = FileKind::of_mode(u32::from(entry.entry_type) << 12);
                let looked = || if far { None } else { self.inode.kind_of(&entry.name) };
                let kind = kind.or_else(looked).unwrap_or(FileKind::Regular);
                let (name, number, next) = (&entry.name[..], entry.number, stream.next + 1);
                if !sink.entry(DirectoryEntry { name, number, kind, next }) {
                    stream.fetched = Some(*position);
                    return Ok(());
                }
                stream.entries.pop();
                stream.next = next;
                *position = next;
            }
            if far {
                return if ended { Ok(()) } else { Err(NotReady::Elsewhere) };
            }
            self.fetch(&mut stream, false)?;
            if stream.entries.is_empty() {
                return Ok(());
            }
        }
    }

    fn fetch_entries(&self, position: u64) -> Pending<()> {
        let (calls, open, stream) = (self.inode.calls().clone(), self.open.clone(), self.stream.clone());
        Box::pin(async move {
            let mut from_the_beginning = position == FIRST_COOKIE || stream.lock().next != position;
            loop {
                let answer = calls.make(&open, &Request::Entries { from_the_beginning }, None).await?;
                let Answer::Entries(mut entries) = answer else { return unexpected() };
                entries.reverse();
                let at_end = entries.is_empty();
                let mut stream = stream.lock();
                stream.entries = entries;
                if from_the_beginning {
                    stream.next = FIRST_COOKIE;
                }
                from_the_beginning = false;
                if stream.skip_to(position) || at_end {
                    stream.next = position;
                    stream.fetched = Some(position);
                    return Ok(());
                }
            }
        })
    }

    fn size(&self) -> u64 {
        self.inode.attributes().size
    }

    fn synchronise(&self, _: bool) -> Result<(), NotReady> {
        Err(NotReady::Elsewhere)
    }

    fn synchronise_elsewhere(&self, data_only: bool) -> Pending<()> {
        let (calls, open) = (self.inode.calls().clone(), self.open.clone());
        Box::pin(async move { calls.make(&open, &Request::Synchronise { data_only }, None).await.map(drop) })
    }
}
