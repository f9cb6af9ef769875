//! Folders of the host shown to the guest.
//!
//! A [`SharedFolder`] is a folder the person who started the machine gave away, whole or read-only. A [`Node`] stands
//! for one file in it, of any kind; an [`OpenNode`] for a regular file or directory whose contents are in use.
//! Everything is reached from the folder's root by one name at a time, so neither `..` nor a symbolic link leads out,
//! whatever the guest asks and whoever changes the folder meanwhile: the machine follows no link, ever.
//!
//! What a node is stays fixed: its [`Identity`]. If the host puts another file in its place, operations on the node
//! give `ESTALE`; looking the name up again gives the new one. A read-only folder refuses every change here, in the
//! machine, with `EROFS`.
//!
//! Files are owned as the host says, with one exception: if the machine doesn't run as root, its own user and group are
//! shown as 0, and 0 is mapped back. A machine that runs as root can make files for anybody, set-user-ID programs too:
//! give it folders where nobody else on the host executes what he finds.
//!
//! **Who calls.** The kernel's hostfs. **Who synchronises.** Nodes lock inside, for no longer than one call; a call
//! goes to the host's file system and takes as long as that takes. What may take long is left to a helper with its own thread
//! ([`Request`], [`NodeRequest`]): reads that tell that they would have to wait, fsync(2), and whatever concerns a file that is not
//! [near](Node::is_near). `pc` has no such folders: there the types have no values.
//!
//! This crate is safe code over rustix: what a mistake here can cost is what the folder confines, the host's files, and
//! never the memory of the machine. Contents go to and from the kernel's frames by [`Page`], which `machine` implements.

#![cfg_attr(not(target_os = "linux"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
pub use host::{Handler, Held, Interrupt, Lent, Node, OpenNode, Opened, Page, ShareError};

#[cfg(not(target_os = "linux"))]
mod absent;
#[cfg(not(target_os = "linux"))]
pub use absent::{Held, Node, OpenNode, Opened};

/// A Linux error number: what the host said, or the machine itself in Linux's words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostError(pub u16);

/// What operations on folders return.
pub type Result<T, E = HostError> = core::result::Result<T, E>;

impl fmt::Debug for HostError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "errno {}", self.0)
    }
}

/// A folder of the host, and where the guest is to see it.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    guest_path: Vec<u8>,
    read_only: bool,
    root: Node,
}

impl SharedFolder {
    /// The absolute path in the guest; `/` for a root file system.
    pub fn guest_path(&self) -> &[u8] {
        &self.guest_path
    }

    /// Whether the machine refuses all changes.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Its top directory.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// From now on calls that may take long can be left to helpers ([`OpenNode::ask`]); `handler` is called at each answer.
    pub fn attend(&self, handler: Arc<dyn Fn() + Send + Sync>) {
        self.root.attend(handler);
    }

    /// The next answer of a helper, and what it answers.
    pub fn take_answer(&self) -> Option<(Ticket, Result<Answer>)> {
        self.root.take_answer()
    }

    /// What was asked for is not wanted any more: it is not done, unless a helper is at it; then this is false.
    pub fn withdraw(&self, ticket: Ticket) -> bool {
        self.root.withdraw(ticket)
    }

    /// Nobody hears of answers any more: the machine is off.
    pub fn end(&self) {
        self.root.end();
    }
}

/// The number of a request, which whoever asks gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A call on an open file that may take long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// So many bytes from an offset on, fewer at the end of the file only: [`Answer::Bytes`].
    Read {
        /// The first.
        offset: u64,
        /// How many.
        length: usize,
    },
    /// These bytes are to be written: [`Answer::Written`].
    Write {
        /// Where; at the end of the file if nothing is said.
        offset: Option<u64>,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The same for a file that others may have cut: nothing of it lands beyond its end.
    WriteWithin {
        /// Where.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The file is to have this length.
    Resize(u64),
    /// As fallocate(2) with this mode.
    Allocate {
        /// fallocate(2)'s flags.
        mode: u32,
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// The next data, or hole, at an offset or behind it: [`Answer::Offset`].
    Search {
        /// From here on.
        offset: u64,
        /// A hole.
        hole: bool,
    },
    /// Everything written is safe on the host's disk; with `data_only`, times may not be.
    Synchronise {
        /// As in fdatasync(2).
        data_only: bool,
    },
    /// The next entries of a directory, or the first ones, none at its end: [`Answer::Entries`].
    Entries {
        /// The first ones.
        from_the_beginning: bool,
    },
}

/// A call by name that may take long; each is the counterpart of [`Node`]'s function of the same name.
#[derive(Clone, Debug)]
pub enum NodeRequest {
    /// [`Answer::Found`].
    Status,
    /// [`Answer::Found`].
    Look(Vec<u8>),
    /// [`Answer::Opened`].
    Open {
        /// For reading.
        read: bool,
        /// For writing.
        write: bool,
    },
    /// [`Answer::Opened`].
    Create(Vec<u8>, Ownership),
    /// [`Answer::Opened`].
    CreateUnnamed(Ownership),
    /// [`Answer::Found`].
    Make(Vec<u8>, NewNode, Ownership),
    /// [`Answer::Found`].
    Change(Change),
    /// A name, and what is to have it.
    Link(Vec<u8>, Node),
    /// A name.
    Unlink(Vec<u8>),
    /// A name.
    Rmdir(Vec<u8>),
    /// [`Answer::Held`].
    Hold,
    /// A name, where it goes, and how it is called there.
    Rename(Vec<u8>, Node, Vec<u8>, Rename),
    /// The whole file system it lies in is safe on the host's disk.
    SynchroniseAll,
    /// The value of an extended attribute: [`Answer::Bytes`].
    Xattr(Vec<u8>),
    /// The names of all of them, each followed by a zero byte: [`Answer::Bytes`].
    Xattrs,
    /// A name and a value, and whether the name must not be there, or must be.
    SetXattr(Vec<u8>, Vec<u8>, MustBe),
    /// A name.
    RemoveXattr(Vec<u8>),
    /// How full its file system is: [`Answer::Room`].
    Room,
}

/// Whether something that is to be set was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MustBe {
    /// It must not have been.
    pub new: bool,
    /// It must have been.
    pub old: bool,
}

/// What a helper says.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// What was read.
    Bytes(Vec<u8>),
    /// What was written.
    Written {
        /// How many bytes, at least 1 if there were any.
        bytes: usize,
        /// Where they end.
        end: u64,
    },
    /// How the file looks, and the text of a symbolic link.
    Found(Status, Option<Vec<u8>>),
    /// The file, for [`Node::take_opened`].
    Opened(Opened),
    /// A descriptor to find the file by, for [`Node::take_held`].
    Held(Held),
    /// Entries of a directory.
    Entries(Vec<FolderEntry>),
    /// How full a file system is.
    Room(Room),
    /// An offset in a file.
    Offset(u64),
}

/// What [`OpenNode::read_now`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadNow {
    /// How many bytes were read.
    pub bytes: usize,
    /// The rest has to be waited for. If not, there is none, or all was read.
    pub waits: bool,
}

/// Which file it is: the same for all names of one file, and not used again for another while the first is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The host's number of the file system.
    pub device: u64,
    /// The inode number there.
    pub number: u64,
    /// The kind of file: the `S_IFMT` bits of the mode.
    pub kind: u32,
    /// When it was made, in nanoseconds since 1970, where the host knows: inode numbers are used again.
    pub created: Option<i64>,
}

/// Everything statx(2) tells. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which file.
    pub identity: Identity,
    /// Kind and permissions.
    pub mode: u32,
    /// Number of names.
    pub links: u32,
    /// Owner, as the guest sees it.
    pub user: u32,
    /// Group, as the guest sees it.
    pub group: u32,
    /// Major and minor number a device node stands for. It is only ever shown: no device of the host is opened.
    pub represented: (u32, u32),
    /// Length in bytes.
    pub size: u64,
    /// Best size of a transfer.
    pub block_size: u32,
    /// Blocks of 512 bytes in use.
    pub blocks: u64,
    /// Last access.
    pub accessed: i64,
    /// Last change of the contents.
    pub modified: i64,
    /// Last change of anything.
    pub changed: i64,
}

/// Changes of attributes; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// The length.
    pub size: Option<u64>,
    /// The owner, as the guest sees it.
    pub user: Option<u32>,
    /// The group, as the guest sees it.
    pub group: Option<u32>,
    /// Permission bits. They are set after the owner, which takes set-ID bits away.
    pub permissions: Option<u32>,
    /// Time of the last access.
    pub accessed: Option<i64>,
    /// Time of the last change.
    pub modified: Option<i64>,
}

/// What a new file gets.
#[derive(Clone, Copy, Debug)]
pub struct Ownership {
    /// Exactly these bits, whatever the host's umask.
    pub permissions: u32,
    /// The owner, as the guest sees it. Without root's rights on the host, files belong to who runs the machine.
    pub user: u32,
    /// The group, likewise.
    pub group: u32,
}

/// What [`Node::make`] makes. Device nodes are never made on the host.
#[derive(Clone, Debug)]
pub enum NewNode {
    /// An empty directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A socket's node.
    Socket,
}

/// How [`Node::rename`] treats a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// It is replaced.
    Replace,
    /// `EEXIST`.
    Keep,
    /// The two change places.
    Exchange,
}

/// An entry of a directory; never `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its inode number.
    pub number: u64,
    /// Its kind, as the `d_type` of getdents(2); 0 if unknown.
    pub entry_type: u8,
}

/// How full the host's file system is: statfs(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes in a block.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free ones.
    pub free_blocks: u64,
    /// Those an ordinary user may take.
    pub available_blocks: u64,
    /// All inodes.
    pub inodes: u64,
    /// Free ones.
    pub free_inodes: u64,
    /// The longest name.
    pub name_length: u64,
}
