//! Shared folders of a PC: none yet. The types exist so that the kernel's hostfs compiles.

use crate::{
    Answer, Change, FolderEntry, Identity, MustBe, NewNode, NodeRequest, Ownership, ReadNow, Rename, Request, Result,
    Room, Status, Ticket,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::convert::Infallible;

/// A file of a shared folder; a PC has none.
#[derive(Clone, Debug)]
pub struct Node(Infallible);

impl Node {
    /// Which file it is.
    pub fn identity(&self) -> Identity {
        match self.0 {}
    }

    pub(crate) fn attend(&self, _handler: Arc<dyn Fn() + Send + Sync>) {
        match self.0 {}
    }

    pub(crate) fn end(&self) {
        match self.0 {}
    }

    pub(crate) fn take_answer(&self) -> Option<(Ticket, Result<Answer>)> {
        match self.0 {}
    }

    pub(crate) fn withdraw(&self, _ticket: Ticket) -> bool {
        match self.0 {}
    }

    /// Whether it lies in this host.
    pub fn is_near(&self) -> bool {
        match self.0 {}
    }

    /// Has a helper make a call by name.
    pub fn ask(&self, _ticket: Ticket, _request: &NodeRequest) -> Result<bool> {
        match self.0 {}
    }

    /// Makes the call that a helper was not there for.
    pub fn answer(&self, _request: NodeRequest) -> Result<Answer> {
        match self.0 {}
    }

    /// Takes what was opened as an open node of this file.
    pub fn take_opened(&self, opened: Opened) -> OpenNode {
        match opened.0 {}
    }

    /// Keeps what a helper holds.
    pub fn take_held(&self, held: Held) {
        match held.0 {}
    }

    /// A node for a file that was made here without a name.
    pub fn unnamed(&self, _made: &Status) -> Node {
        match self.0 {}
    }

    /// Everything about it, now.
    pub fn status(&self) -> Result<Status> {
        match self.0 {}
    }

    /// What the name `name` in this directory leads to, now. Links are not followed.
    pub fn look(&self, _name: &[u8]) -> Result<Status> {
        match self.0 {}
    }

    /// A node for the file found under `name`.
    pub fn entry(&self, _name: &[u8], _found: &Status) -> Node {
        match self.0 {}
    }

    /// The node was seen under `name` in `directory`: it will be looked for there.
    pub fn seen_at(&self, _directory: &Node, _name: &[u8]) {
        match self.0 {}
    }

    /// Keeps the descriptor open from now on.
    pub fn hold(&self) -> Result<()> {
        match self.0 {}
    }

    /// Opens a regular file or a directory in earnest.
    pub fn open(&self, _read: bool, _write: bool) -> Result<OpenNode> {
        match self.0 {}
    }

    /// Makes a regular file, which must not exist, open for reading and writing.
    pub fn create(&self, _name: &[u8], _new: &Ownership) -> Result<(OpenNode, Status)> {
        match self.0 {}
    }

    /// Makes a regular file without a name in this directory.
    pub fn create_unnamed(&self, _new: &Ownership) -> Result<(OpenNode, Status)> {
        match self.0 {}
    }

    /// Makes a file of another kind.
    pub fn make(&self, _name: &[u8], _contents: NewNode, _new: &Ownership) -> Result<Status> {
        match self.0 {}
    }

    /// Gives `target` one more name, here.
    pub fn link(&self, _name: &[u8], _target: &Node) -> Result<()> {
        match self.0 {}
    }

    /// Removes a name that is no directory.
    pub fn unlink(&self, _name: &[u8]) -> Result<()> {
        match self.0 {}
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, _name: &[u8]) -> Result<()> {
        match self.0 {}
    }

    /// Moves `name` to `new_name` in `to`.
    pub fn rename(&self, _name: &[u8], _to: &Node, _new_name: &[u8], _how: Rename) -> Result<()> {
        match self.0 {}
    }

    /// The text of a symbolic link.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        match self.0 {}
    }

    /// Changes attributes.
    pub fn change(&self, _change: &Change) -> Result<()> {
        match self.0 {}
    }

    /// How full the file system is that it lies in.
    pub fn room(&self) -> Result<Room> {
        match self.0 {}
    }

    /// The value of the extended attribute `name`.
    pub fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        match self.0 {}
    }

    /// Sets an extended attribute; `create` and `replace` say what must not and what must be there.
    pub fn set_xattr(&self, _name: &[u8], _value: &[u8], _must_be: MustBe) -> Result<()> {
        match self.0 {}
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        match self.0 {}
    }

    /// The names of all extended attributes, each followed by a zero byte.
    pub fn xattrs(&self) -> Result<Vec<u8>> {
        match self.0 {}
    }
}

/// An open file of a shared folder; a PC has none.
#[derive(Debug)]
pub struct OpenNode(Infallible);

impl OpenNode {
    /// The file.
    pub fn node(&self) -> &Node {
        match self.0 {}
    }

    /// Whether it was opened for reading.
    pub fn is_readable(&self) -> bool {
        match self.0 {}
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        match self.0 {}
    }

    /// Everything about it, now.
    pub fn status(&self) -> Result<Status> {
        match self.0 {}
    }

    /// Reads from `offset` on; returns how many bytes, fewer than asked only at the end of the file.
    pub fn read(&self, _offset: u64, _to: &mut [u8]) -> Result<usize> {
        match self.0 {}
    }

    /// Reads what the host has in its memory, from `offset` on.
    pub fn read_now(&self, _offset: u64, _to: &mut [u8]) -> Result<ReadNow> {
        match self.0 {}
    }

    /// Has a helper make a call that may take long.
    pub fn ask(&self, _ticket: Ticket, _request: &Request) -> Result<bool> {
        match self.0 {}
    }

    /// Makes the call that a helper was not there for.
    pub fn answer(&self, _request: &Request) -> Result<Answer> {
        match self.0 {}
    }

    /// Fills frames from `offset` on, if the host has all of them in its memory.
    pub fn read_frames<P>(&self, _offset: u64, _to: &[P]) -> Result<Option<usize>> {
        match self.0 {}
    }

    /// Writes at `offset`; returns how many bytes, at least 1 unless `from` is empty.
    pub fn write(&self, _offset: u64, _from: &[u8]) -> Result<usize> {
        match self.0 {}
    }

    /// Writes the first `length` bytes of frames at `offset`; returns how many, fewer if there are more than 64 frames.
    pub fn write_frames<P>(&self, _offset: u64, _from: &[P], _length: usize) -> Result<usize> {
        match self.0 {}
    }

    /// Writes at the end of the file, wherever that is at this moment. Returns how many bytes, and where they end.
    pub fn append(&self, _from: &[u8]) -> Result<(usize, u64)> {
        match self.0 {}
    }

    /// Changes attributes. The length needs no permission beyond that this is open for writing.
    pub fn change(&self, _change: &Change) -> Result<()> {
        match self.0 {}
    }

    /// fallocate(2), with its mode.
    pub fn allocate(&self, _mode: u32, _offset: u64, _length: u64) -> Result<()> {
        match self.0 {}
    }

    /// The next byte at or after `offset` that lies in data, or in a hole.
    pub fn seek(&self, _offset: u64, _hole: bool) -> Result<u64> {
        match self.0 {}
    }

    /// Everything written is safe on the host's disk; with `data_only`, times may not be.
    pub fn synchronise(&self, _data_only: bool) -> Result<()> {
        match self.0 {}
    }

    /// The whole file system it lies in is safe on the host's disk.
    pub fn synchronise_all(&self) -> Result<()> {
        match self.0 {}
    }

    /// The next entries of a directory, or the first ones; none at its end.
    pub fn entries(&self, _from_the_beginning: bool) -> Result<Vec<FolderEntry>> {
        match self.0 {}
    }
}

/// A descriptor to find a file by; a PC has none.
#[derive(Debug)]
pub struct Held(Infallible);

/// A file that a helper has opened; a PC has none.
#[derive(Debug)]
pub struct Opened(Infallible);

impl Opened {
    /// How it looked when it was opened.
    pub fn status(&self) -> &Status {
        match self.0 {}
    }
}
