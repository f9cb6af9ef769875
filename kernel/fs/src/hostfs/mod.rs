//! hostfs: a folder of the host as a file system.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`HostFs`]: the file system, and which inode stands for which file of the host |
//! | `inode` | one file of any kind: attributes, names, changes |
//! | `far` | the same where they have to be waited for |
//! | `file` | regular files, open |
//! | `directory` | directories, open |
//! | `calls` | calls of the host that may take long, and who waits for them |
//! | `contents` | what a regular file holds: its descriptors, and the page cache of what is mapped |
//!
//! Names, attributes and contents are the host's; this room keeps as little of them as it can, because the host may
//! change them at any moment. **What is guaranteed:**
//!
//! - A name leads where the host says at the time of the walk: every component is looked at again. A file whose name
//!   the host removed or gave to another stays what it is for those who have it open.
//! - Attributes are the host's at the time they are asked for.
//! - read(2) gives what the host has at that moment, and write(2) is with the host when it returns.
//! - Mapped pages are as fresh as the last open(2) of the file in the guest, and always agree with what the guest
//!   itself writes. What is written through a shared mapping reaches the host with msync(2), fsync(2), sync(2), or when
//!   the file is closed and unmapped, or by itself after half a minute. If the host makes a file shorter, touching a page beyond its end is `SIGBUS`, at
//!   the latest when the guest next looks at the file; the host can't hurt the kernel by it, since pages are copied,
//!   never mapped.
//! - Locks (fcntl(2), flock(2)) and running programs (`ETXTBSY`) hold within the guest only.
//!
//! **Owners.** The guest's credentials are checked by vfs against the host's mode and owner, as on any file system;
//! then the host checks those of whoever runs the machine. See [`machine::folder`] for who is shown as root. New files
//! belong to the program that makes them if the machine runs as root, otherwise to whoever runs it: they show as
//! root's.
//!
//! **Special files.** FIFOs, sockets and device nodes of the folder are nodes like any others, and mean what they mean
//! in the guest: a FIFO connects programs of the guest, a device number leads to the guest's driver. None of the host's
//! is ever opened, and device nodes can't be made (`EPERM`).
//!
//! **Locks.** The table of inodes comes last. A file's lock of changes comes before the lock of an address space, and that
//! before the page cache's: see `contents`.
//!
//! **Who waits.** Calls that may take long are left to helpers ([`calls`]): reading what the host has not in its memory, fsync(2), and of
//! files that are not of this host's own disks nearly all: see the book's page on shared folders.

mod calls;
mod contents;
mod directory;
mod far;
mod file;
mod inode;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::folder::{HostError, Identity, Node, NodeRequest, OpenNode, Room, SharedFolder, Status};
use memory::{Flusher, Memory, PageBudget};
use sync::SpinLock;
use vfs::{FileSystem, Inode, Pending, Statistics};

use calls::HostCalls;
use inode::HostInode;

/// `HOSTFS_SUPER_MAGIC`
const MAGIC: u64 = 0x00c0_ffee;

/// How many files just made wait for being opened by their makers.
const MOST_FRESH: usize = 8;

/// A shared folder as a file system.
pub struct HostFs {
    shared: Arc<Shared>,
    root: Arc<HostInode>,
    read_only: bool,
}

/// What all inodes of one folder share.
struct Shared {
    /// The host's number of the root's file system.
    device: u64,
    inodes: SpinLock<BTreeMap<Identity, Weak<HostInode>>>,
    pages: Arc<PageBudget>,
    flusher: Arc<Flusher>,
    calls: Arc<HostCalls>,
    /// Files are made open, and a file made read-only could not be opened for writing again. So who makes one with
    /// open(2) finds it here.
    fresh: SpinLock<Vec<OpenNode>>,
    /// How full a far file system was when it was asked last.
    room: SpinLock<Room>,
}

impl HostFs {
    /// The file system of a folder. Pages of mapped files come from `memory`.
    ///
    /// # Errors
    /// What the host says about the folder itself.
    pub fn new(folder: &SharedFolder, memory: &Arc<Memory>) -> Result<Arc<HostFs>> {
        let status = folder.root().status().map_err(errno)?;
        let shared = Arc::new(Shared {
            device: status.identity.device,
            inodes: SpinLock::default(),
            pages: PageBudget::new(memory, u64::MAX),
            flusher: Flusher::new(memory),
            calls: Arc::new(HostCalls::new(folder)),
            fresh: SpinLock::default(),
            room: SpinLock::default(),
        });
        let root = shared.inode(&status, || folder.root().clone());
        Ok(Arc::new(HostFs { shared, root, read_only: folder.is_read_only() }))
    }

    /// From now on helpers of the machine make the calls of the host that may take long. Hands out what they have done, for ever: to be run
    /// by a task of the kernel. Without that all calls are made at once.
    pub fn serve(&self) -> impl Future<Output = ()> + Send + use<> {
        let calls = self.shared.calls.clone();
        calls.begin();
        async move { calls.serve().await }
    }

    /// From now on names and files that are not of this host's own disks are waited for. Whoever asks for them can.
    pub fn begin_to_wait(&self) {
        self.shared.calls.begin_to_wait();
    }

    /// What was written through shared mappings goes to the host, which may keep it in memory for a while: the machine is about to stop.
    ///
    /// # Errors
    /// `EIO`: some could not be written. The rest is.
    pub fn write_back(&self) -> Result<()> {
        self.shared.calls.end_to_wait();
        self.shared.flusher.start_write_back();
        if self.shared.flusher.unwritten() > 0 { Err(Errno::EIO) } else { Ok(()) }
    }
}

impl FileSystem for HostFs {
    fn memory(&self) -> Option<&Arc<Memory>> {
        Some(self.shared.pages.memory())
    }

    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statistics(&self) -> Statistics {
        let known = if self.root.is_far() { None } else { self.root.node().room().ok() };
        let Room { block_size, blocks, free_blocks, available_blocks, inodes, free_inodes, name_length } =
            known.unwrap_or_else(|| *self.shared.room.lock());
        Statistics { magic: MAGIC, block_size, blocks, free_blocks, available_blocks, inodes, free_inodes, name_length }
    }

    fn look_at_room(&self) -> Option<Pending<()>> {
        if !self.root.is_far() {
            return None;
        }
        let (root, shared) = (self.root.clone(), self.shared.clone());
        Some(Box::pin(async move {
            let room = root.room_later().await?;
            *shared.room.lock() = room;
            Ok(())
        }))
    }

    fn remount(&self, options: &str) -> Result<()> {
        if options.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn synchronise(&self) -> Pending<()> {
        let (shared, root, read_only) = (self.shared.clone(), self.root.clone(), self.read_only);
        Box::pin(async move {
            if read_only {
                return Ok(());
            }
            shared.calls.make_by_name(root.node(), NodeRequest::SynchroniseAll, None).await.map(drop)
        })
    }

    fn flusher(&self) -> Option<&Arc<Flusher>> {
        Some(&self.shared.flusher)
    }
}

impl Shared {
    /// The inode of the file that was found, which is `node` if it is new. One file has one inode, whatever its names.
    fn inode(self: &Arc<Shared>, found: &Status, node: impl FnOnce() -> Node) -> Arc<HostInode> {
        let mut inodes = self.inodes.lock();
        if let Some(known) = inodes.get(&found.identity).and_then(Weak::upgrade) {
            drop(inodes);
            known.note(found);
            return known;
        }
        let new = Arc::new_cyclic(|this| HostInode::new(this, self, node(), found));
        inodes.insert(found.identity, Arc::downgrade(&new));
        new
    }

    /// The inode of a file, if it has one.
    fn known(&self, identity: &Identity) -> Option<Arc<HostInode>> {
        self.inodes.lock().get(identity).and_then(Weak::upgrade)
    }

    /// The inode is gone.
    fn forget(&self, identity: &Identity) {
        let mut inodes = self.inodes.lock();
        // Unless the file was found anew meanwhile.
        if inodes.get(identity).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(identity);
        }
    }

    /// Keeps a file that was just made open for its maker.
    #[expect(clippy::disallowed_methods, reason = "as many as are kept fresh")]
    fn keep_fresh(&self, open: OpenNode) {
        let oldest = {
            let mut fresh = self.fresh.lock();
            let oldest = if fresh.len() >= MOST_FRESH { Some(fresh.remove(0)) } else { None };
            fresh.push(open);
            oldest
        };
        // Closed outside the lock, since that asks the host.
        let _closed = oldest;
    }

    fn has_fresh(&self, identity: &Identity) -> bool {
        self.fresh.lock().iter().any(|open| open.node().identity() == *identity)
    }

    fn take_fresh(&self, identity: &Identity) -> Option<OpenNode> {
        let mut fresh = self.fresh.lock();
        let position = fresh.iter().position(|open| open.node().identity() == *identity)?;
        Some(fresh.remove(position))
    }

    /// The inode number for the guest: the host's, but told apart where the folder reaches into other file systems.
    fn number(&self, identity: &Identity) -> u64 {
        let foreign = identity.device ^ self.device;
        identity.number ^ foreign.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What the host said.
fn errno(error: HostError) -> Errno {
    Errno::of_return_value(usize::from(error.0).wrapping_neg()).unwrap_or(Errno::EIO)
}
