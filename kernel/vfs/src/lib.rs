//! The virtual file system: names, files, descriptors, and waiting for them.
//!
//! From a path in a system call to bytes in a program, top down:
//!
//! | file | what it holds |
//! | --- | --- |
//! | `walk`, `paused_walk` | [`Context`]: path resolution with all of Linux's rules, and permission to pass |
//! | `open`, `change`, `attributes` | what system calls do by path: open(2); mkdir, unlink, rename ...; chmod, chown, utimes, xattrs |
//! | `dentry`, `lookup`, `unused`, `name` | [`Dentry`]: names in memory, the cache a walk runs through; how an entry is found, and which are let go of |
//! | `waiting`, `in_lookup`, `changing`, `directory_locks` | [`WaitingDirectory`]: file systems that may have to wait for a name; who asks for it, and who waits; changes that are waited for, and the locks they sleep for |
//! | `mount`, `namespace` | [`Mount`], [`Path`], [`MountNamespace`]: file systems grafted into one tree |
//! | `inode`, `filesystem`, `device` | [`Inode`], [`FileSystem`], [`Device`]: what a file system or a driver implements |
//! | `file`, `caller`, `directory` | [`File`]: the operations of an open file, which never sleep; [`Caller`]: who makes them |
//! | `open_file`, `file_table` | [`OpenFile`]: an open file description; [`FileTable`]: a process's descriptors |
//! | `wait`, `transfer`, `poll` | the one loop that makes "try" into "wait": [`wait::read`], [`wait::write`]; sendfile and its kin; poll and select |
//! | `signal_io` | `O_ASYNC`: a signal for the file's owner when it becomes ready |
//! | `pipe`, `fifo`, `event` | pipes, named and not; eventfd |
//! | `contents` | what every change of a file respects: `RLIMIT_FSIZE`, set-ID bits, running programs |
//! | `locks` | POSIX record locks and flock(2) |
//! | `hash_tree`, `ordered_tree` | values by hash and in order, in pieces no larger than a page |
//! | `rcu_tree` | values by hash that are found without a lock |
//! | `credentials` | [`Credentials`]: who acts, and what a mode permits |
//!
//! **Who calls.** syscalls, with a [`Context`] made from the process's root, working directory and credentials; fs, tty
//! and drivers implement inodes, devices and files. **Who synchronises.** Each part locks itself and says how on its
//! page; nothing here sleeps except the functions of `wait`, `transfer`, `poll`, `fifo` and `locks` that are `async`,
//! and these hold no spin lock then.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod attributes;
mod caller;
mod change;
mod changing;
mod contents;
mod credentials;
mod dentry;
mod device;
mod directory;
mod directory_locks;
mod event;
mod fifo;
mod file;
mod file_table;
mod filesystem;
mod hash_tree;
mod in_lookup;
mod inode;
mod kernel_files;
mod locks;
mod lookup;
mod mount;
mod name;
mod namespace;
mod open;
mod open_file;
mod ordered_tree;
mod paused_walk;
mod pipe;
pub mod poll;
mod rcu_tree;
mod signal_io;
pub mod transfer;
mod truncate;
mod unused;
pub mod wait;
mod waiting;
mod walk;

pub use attributes::NewTime;
pub use caller::{Caller, KernelCaller};
pub use changing::UnfinishedChanges;
pub use contents::WriteDenial;
pub use credentials::{Access, Capabilities, Credentials};
pub use dentry::Dentry;
pub use device::{Device, DeviceClass, DeviceRegistry};
pub use directory::{DirectoryEntry, DirectorySink, Dirent64Writer};
pub use event::{EventFlags, event};
pub use fifo::FifoOpening;
pub use file::{AllocateMode, File, FileTraits, NotReady, Operation, PollEvents, Whence};
pub use file_table::{Closing, Descriptor, FileTable, OpenFiles, TableUse};
pub use filesystem::{FileSystem, FileSystemType, FileSystemTypes, Statistics, SuperBlock, synchronise};
pub use hash_tree::HashTree;
pub use inode::{
    Attributes, DeviceNumber, FileKind, Inode, Link, NewContents, NewInode, OpenRequest, Permissions, RenameFlags,
    SetAttributes, Time, XattrFlags,
};
pub use kernel_files::{FsContext, FsPaths, Vfs};
pub use locks::{FileLocks, FlockKind, LockOwner, LockWaits, RecordLock, RecordLockKind, Setting};
pub use mount::{Mount, MountFlags, Path};
pub use name::{NAME_MAX, Name, hash as hash_name, to_name};
pub use namespace::MountNamespace;
pub use open::{OpenFlags, Opening};
pub use open_file::{OpenFile, Origin};
pub use paused_walk::PausedWalks;
pub use pipe::{Pipe, PipeEnd, pipe};
pub use signal_io::{Band, DefaultOwner, FileOwner, IoReason, OwnerKind};
pub use truncate::Truncation;
pub use waiting::{Answer, Pending, WaitingDirectory};
pub use walk::{Context, Lookup};

#[cfg(test)]
mod test_support;
