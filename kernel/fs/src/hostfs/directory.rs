//! Directories of the host, open.
//!
//! The host's own cookies say nothing to the guest: entries are numbered in the order they come, from 2 on. Reading on
//! where reading stopped, the only way most programs know, goes on in the host's order, whatever is added or
//! removed meanwhile. Who seeks elsewhere starts again and skips.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use machine::folder::{FolderEntry, OpenNode, Request};
use memory::Destination;
use sync::SpinLock;
use vfs::{DirectoryEntry, DirectorySink, File, FileKind, FileTraits, Inode, NotReady, Pending};

use super::errno;
use super::inode::HostInode;

/// `.` and `..` are written by vfs at 0 and 1.
const FIRST_COOKIE: u64 = 2;

/// An open directory.
pub(super) struct HostDirectory {
    inode: Arc<HostInode>,
    open: Arc<OpenNode>,
    stream: SpinLock<Stream>,
}

/// How far it was read.
#[derive(Default)]
struct Stream {
    /// Fetched and not handed over yet, the next one last.
    entries: Vec<FolderEntry>,
    /// The number of the next entry.
    next: u64,
}

impl HostDirectory {
    pub fn new(inode: Arc<HostInode>, open: OpenNode) -> HostDirectory {
        HostDirectory { inode, open: Arc::new(open), stream: SpinLock::default() }
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
        while stream.next < position {
            if stream.entries.is_empty() {
                self.fetch(stream, false)?;
            }
            if stream.entries.pop().is_none() {
                break;
            }
            stream.next += 1;
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

    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        let mut stream = self.stream.lock();
        self.seek(&mut stream, *position)?;
        loop {
            while let Some(entry) = stream.entries.last() {
                let kind = FileKind::of_mode(u32::from(entry.entry_type) << 12);
                let kind = kind.or_else(|| self.inode.kind_of(&entry.name)).unwrap_or(FileKind::Regular);
                let (name, number, next) = (&entry.name[..], entry.number, stream.next + 1);
                if !sink.entry(DirectoryEntry { name, number, kind, next }) {
                    return Ok(());
                }
                stream.entries.pop();
                stream.next = next;
                *position = next;
            }
            self.fetch(&mut stream, false)?;
            if stream.entries.is_empty() {
                return Ok(());
            }
        }
    }

    fn size(&self) -> u64 {
        self.inode.attributes().size
    }

    fn synchronise(&self, _: bool) -> Result<(), NotReady> {
        Err(NotReady::Elsewhere)
    }

    fn synchronise_elsewhere(&self, data_only: bool) -> Pending<()> {
        let (calls, open) = (self.inode.calls().clone(), self.open.clone());
        Box::pin(async move { calls.make(&open, Request::Synchronise { data_only }).await.map(drop) })
    }
}
